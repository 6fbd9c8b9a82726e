"""The floor: what FUSE itself costs, measured on a file system that does nothing.

    floor = native + the requests of hrfs, each at what it costs there

Only what somebody waits for counts: LOOKUP and the like at a bare round trip, WRITE with its 4 KiB, OPEN and RELEASE as the pair that
they are; FORGET at nothing. A workload cannot be faster with these requests over io_uring, whatever file system answers them.
"""

import os
import statistics

import peers
import place as places
import runner
from figure import Family, Figure
from opcodes import settled_counts
from workload import Failed, loop

TRIPS = 20_000
WORKLOADS = ("untar", "grep-cold", "rm", "git-commit", "npm-ci", "write-4k", "find-warm", "git-status-warm")
UNANSWERED = ("FORGET", "BATCH_FORGET", "RELEASE", "RELEASEDIR")
MICRO = 1e6


def trips(peer, bench):
    """Seconds of an answer, of a write of 4 KiB, and of an open with its close."""
    count = bench.work.size(TRIPS)
    with places.new_place(bench.parent) as place:
        with open(os.path.join(place.source, "probe"), "w", encoding="ascii"):
            pass
        with peer.mounted(place) as point:
            path = os.path.join(point, "probe")
            return {"answer": loop("ask", path, count) / count,
                    "write": loop("write-over", path, count) / count,
                    "open": loop("open-close", path, count) / count}


def round_trips(bench):
    """{peer: {kind: median seconds}} and the figures of it."""
    contenders = [peers.Null(bench.transport), *bench.peers_named("hrfs", "passthrough_hp")]
    found = {peer.name: [] for peer in contenders}
    for number in range(bench.rounds + 1):
        for peer in contenders:
            bench.say(f"round trips of {peer.name}, round {number}/{bench.rounds}")
            found[peer.name].append(trips(peer, bench))
    medians = {name: {kind: statistics.median(one[kind] for one in rounds[1:]) for kind in rounds[0]}
               for name, rounds in found.items()}
    words = {"answer": "getxattr(2), of no such attribute", "write": "write(2) of 4 KiB", "open": "open(2) and close(2)"}
    return medians, [Figure("a round trip", words[kind], name, seconds * MICRO, "us")
                     for name, kinds in medians.items() for kind, seconds in kinds.items()]


def requests_of(workload, peer, bench):
    with runner.prepared(bench.work, workload, peer, bench.parent) as (place, point):
        before = settled_counts(peer, place)
        runner.time_it(bench.work, workload, peer, place, point)
        after = settled_counts(peer, place)
    return {name: after[name] - before.get(name, 0) for name in after}


def floor_of(native, requests, trip):
    """Seconds."""
    opens = requests.get("OPEN", 0) + requests.get("CREATE", 0)
    writes = requests.get("WRITE", 0)
    others = sum(count for name, count in requests.items() if name not in (*UNANSWERED, "OPEN", "WRITE"))
    # A CREATE is answered among the others; its close costs what a close does.
    close = trip["open"] - trip["answer"]
    return native + others * trip["answer"] + requests.get("OPEN", 0) * trip["answer"] + opens * close + writes * trip["write"]


def floors(bench, workloads, trip):
    figures = []
    contenders = bench.peers_named("native", "hrfs", "passthrough_hp")
    samples = runner.run(bench.work, workloads, contenders, bench.rounds, bench.parent, bench.progress)
    found = runner.summary(samples)
    for workload in workloads:
        seconds = {peer.name: found[workload.name, peer.name].median for peer in contenders if (workload.name, peer.name) in found}
        if not {"native", "hrfs"} <= seconds.keys():
            bench.miss(f"floor of {workload.name}", "native or hrfs failed")
            continue
        bench.say(f"requests of {workload.name}")
        requests = requests_of(workload, bench.hrfs(), bench)
        floor = floor_of(seconds["native"], requests, trip)
        group = "the floor"
        figures += [Figure(group, workload.name, "requests", sum(requests.values())),
                    Figure(group, workload.name, "native", seconds["native"], "s"),
                    Figure(group, workload.name, "floor", floor, "s"),
                    Figure(group, workload.name, "hrfs/floor", seconds["hrfs"] / floor, "", "1.15")]
        if "passthrough_hp" in seconds:
            figures += [Figure(group, workload.name, "floor/passthrough_hp", floor / seconds["passthrough_hp"]),
                        Figure(group, workload.name, "hrfs/passthrough_hp", seconds["hrfs"] / seconds["passthrough_hp"])]
    return figures


def measure(bench):
    medians, figures = round_trips(bench)
    workloads = [workload for workload in bench.timed if workload.name in WORKLOADS]
    able = []
    for workload in workloads:
        try:
            if workload.set_up:
                workload.set_up()
            able.append(workload)
        except (peers.Missing, Failed) as error:
            bench.miss(f"floor of {workload.name}", str(error))
    return figures + floors(bench, able, medians["null"])


FAMILIES = [Family("floor", measure, "what FUSE itself costs: round trips of a file system that does nothing, and what workloads take at the least")]
