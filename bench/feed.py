"""Figures of the feed: how soon, how fast, how many, at what price."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time

import peers
import place as places
from figure import Family, Figure, median_figure
from workload import Failed, execute, loop

FLOOR = "inotify on a FUSE that does nothing"
LATENCIES = ("hrfs", "inotify", FLOOR, "fanotify", "watchman")
STORM_RATE = 4000    # files rewritten a second while latency is measured
STORM_S = 120        # no measurement of it is longer
GAP_US = "500"       # between two writes
CROWDS = (1, 10, 100, 1000)
MICRO = 1e6


def program(name):
    return os.path.join(peers.PROGRAMS, f"bench-{name}")


# ---- Latency ----

@contextlib.contextmanager
def watchman(bench):
    """A server of our own. Yields its socket, or None."""
    try:
        peers.install("watchman", "watchman")
    except peers.Missing as error:
        bench.miss("watchman", str(error))
        yield None
        return
    with places.scratch(places.disk_folder()) as folder:
        path = os.path.join(folder, "socket")
        command = ["watchman", "--foreground", "--sockname", path, "--logfile", os.path.join(folder, "log"),
                   "--statefile", os.path.join(folder, "state")]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield wait_for_server(path, server, bench)
        finally:
            server.terminate()
            server.wait()


def wait_for_server(path, server, bench):
    end = time.monotonic() + peers.PATIENCE_S
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            peers.ask(path, ["get-pid"])
            return path
        time.sleep(0.05)
    bench.miss("watchman", "its server does not start")
    return None


@contextlib.contextmanager
def storm(folder, is_wanted):
    if not is_wanted:
        yield
        return
    process = subprocess.Popen([program("files"), "storm", folder, str(STORM_S), str(STORM_RATE)], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def watched(kind, socket, place, bench):
    """The folder that @kind watches: on hrfs for hrfs, else native. Yields it and further arguments of bench-latency."""
    if kind == "hrfs":
        with bench.hrfs().mounted(place) as point:
            yield point, []
    elif kind == FLOOR:
        with peers.Null(bench.transport).mounted(place) as point:
            yield point, []
    elif kind == "watchman":
        # As soon as it can.
        with open(os.path.join(place.source, ".watchmanconfig"), "w") as config:
            config.write('{"settle": 1}')
        try:
            yield place.source, [socket]
        finally:
            peers.ask(socket, ["watch-del", place.source])
    else:
        yield place.source, []


def measure_latency(kind, socket, is_stormy, bench):
    count = bench.work.size(5000)
    with places.new_place(bench.parent) as place:
        loop("make-tree", place.source, 20, 50)
        with watched(kind, socket, place, bench) as (folder, more), storm(folder, is_stormy):
            # watchman waits until it is quiet, which it never is in a storm: a sample may take a tenth of a second.
            samples = count // 50 if kind == "watchman" else count
            return json.loads(execute(program("latency"), kind.split()[0], folder, str(samples), GAP_US, *more, timeout=STORM_S))


QUANTILES = ("p50_us", "p99_us", "p999_us")
LATENCY_LIMITS = {("hrfs", "p50_us"): "4 times inotify's", ("hrfs", "p99_us"): "3 times inotify's"}


def try_latency(kind, socket, is_stormy, bench):
    """What bench-latency says, or None."""
    try:
        answer = measure_latency(kind, socket, is_stormy, bench)
    except (peers.Void, Failed, OSError, ValueError, subprocess.SubprocessError) as error:
        bench.miss(f"latency {kind}", str(error))
        return None
    if answer["lost"]:
        bench.miss(f"latency {kind}", f"no word of a write within two seconds, after {answer['samples']} samples")
        return None
    return answer


def latency_figures(group, answers):
    for kind, key in itertools.product(answers, QUANTILES):
        values = [answer[key] for answer in answers[kind]]
        if values:
            yield median_figure(group, kind, key.removesuffix("_us"), values, "us", LATENCY_LIMITS.get((kind, key), ""))


def latency(bench):
    figures = []
    with watchman(bench) as socket:
        for is_stormy in (False, True):
            # Nothing can be stored there but the probe.
            without = {FLOOR} if is_stormy else set()
            kinds = [kind for kind in LATENCIES if kind not in without and (kind != "watchman" or socket)]
            answers = {kind: [] for kind in kinds}
            for number, kind in itertools.product(range(bench.rounds + 1), kinds):
                bench.say(f"latency {kind} {'storm' if is_stormy else 'idle'} round {number}/{bench.rounds}")
                answer = try_latency(kind, socket, is_stormy, bench)
                if answer and number > 0:
                    answers[kind].append(answer)
            group = f"write(2) called to event received, {'under a storm' if is_stormy else 'idle'}"
            figures += latency_figures(group, answers)
    return figures


# ---- Fan-out ----

def cpu_seconds(pid):
    """CPU that a process has had, to the nanosecond; the sum over its threads."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/schedstat") as stat:
            total += int(stat.read().split()[0])
    return total / 1e9


def make_events(point, files):
    """Some events for each of @files files, and no reads."""
    folder = os.path.join(point, "storm")
    os.mkdir(folder)
    loop("make-tree", folder, 10, files // 10)


def storm_for(count, files, place, point, peer):
    """One storm with @count subscribers. Returns (CPU of the daemon, events, what the subscribers say)."""
    worker = peer.status(place)["worker_pid"]
    crowd = None
    if count:
        crowd = subprocess.Popen([program("subscribers"), place.socket, str(count), "now", "-"], text=True,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if crowd.stdout.readline() != "ready\n":
            crowd.wait()
            raise Failed(f"{count} subscribers cannot subscribe")
    before, first = cpu_seconds(worker), peer.position(place)
    make_events(point, files)
    last = peers.ask(place.socket, {"sync": {}})["sync"]["seq"]
    answer = None
    if crowd:
        said, _ = crowd.communicate(f"{last}\n", timeout=300)
        answer = json.loads(said)
    spent = cpu_seconds(worker) - before
    shutil.rmtree(os.path.join(point, "storm"))
    return spent, last - first + 1, answer


def fan_out(bench):
    group = "fan-out: one storm to many subscribers"
    peer, figures = bench.hrfs(), []
    with places.new_place(bench.parent) as place, peer.mounted(place) as point:
        storm_for(0, 1000, place, point, peer)
        for count in CROWDS:
            files = bench.work.size(2000 if count == CROWDS[-1] else 10000)
            bench.say(f"fan-out to {count}")
            # Storms without subscribers cost the same but for them; one before and one after, as the machine may drift.
            alone = [storm_for(0, files, place, point, peer)[0]]
            spent, events, answer = storm_for(count, files, place, point, peer)
            alone.append(storm_for(0, files, place, point, peer)[0])
            deliveries = count * events
            row = f"{count} subscribers"
            limit = "2 us" if count == CROWDS[-1] else ""
            figures += [Figure(group, row, "events", answer["events"]),
                        Figure(group, row, "lost or repeated", answer["wrong"] + events - answer["events"], "", "0"),
                        Figure(group, row, "events/s end to end", answer["events"] / answer["seconds"], "/s"),
                        Figure(group, row, "CPU of the daemon a delivery",
                               (spent - sum(alone) / 2) / deliveries * MICRO, "us", limit),
                        Figure(group, row, "CPU of the subscriber a delivery", answer["cpu_s"] / deliveries * MICRO, "us")]
    return figures


# ---- Catch-up ----

def catch_up(bench):
    """From the oldest event to the newest, by subscribers that come when all is over."""
    group = "catch-up from the log"
    peer, figures = bench.hrfs(), []
    with places.new_place(bench.parent) as place, peer.mounted(place) as point:
        make_events(point, bench.work.size(60000))
        last = peers.ask(place.socket, {"sync": {}})["sync"]["seq"]
        for count in (1, 10):
            bench.say(f"catch-up of {count}")
            rates = []
            for _ in range(bench.rounds + 1):
                said = execute(program("subscribers"), place.socket, str(count), "oldest", str(last), timeout=300)
                answer = json.loads(said.splitlines()[-1])
                rates.append(count * answer["events"] / answer["seconds"])
            figures.append(median_figure(group, f"{count} subscribers", f"of {last} events", rates[1:], "/s"))
    return figures


FAMILIES = [
    Family("latency", latency, "write(2) called to event received, idle and under a storm"),
    Family("fan-out", fan_out, "one storm to 1, 10, 100, 1000 subscribers"),
    Family("catch-up", catch_up, "reading the log from its beginning over the socket"),
]
