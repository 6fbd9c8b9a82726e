"""
Runner: takes every sample, in turns, and makes numbers of them.

One run goes A B C A B C ... for each workload, so that whatever else the machine does meets all of them. The first round warms up
and is not counted. Where a peer fails or turns out not to be what it should, the sample is void, and the report says why.
"""

import contextlib
import dataclasses
import os
import statistics
import subprocess
import sys
import time

import peers
import place as places
import workload as workloads


@dataclasses.dataclass
class Sample:
    workload: str
    peer: str
    round: int      # 0 is the warm-up
    seconds: float  # None: void
    void: str = ""


class Progress:
    """One line that is written over, on a terminal; nothing elsewhere. @total: steps, or 0 where nobody knows."""

    def __init__(self, total):
        self.total = total
        self.done = 0
        self.start = time.monotonic()
        self.is_shown = sys.stderr.isatty()

    def show(self, text):
        if self.is_shown:
            left = (time.monotonic() - self.start) / self.done * (self.total - self.done) if self.done else 0
            count = f"{self.done}/{self.total} " if self.total else ""
            sys.stderr.write(f"\r\033[K{count}{text}" + (f", {left:.0f} s left" if self.done else ""))
            sys.stderr.flush()

    def step(self):
        self.done += 1

    def clear(self):
        if self.is_shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def check_seen(peer, place, before):
    after = peer.position(place)
    if before is not None and after <= before:
        raise peers.Void("it saw no change of all that was made")


def time_it(work, workload, peer, place, point):
    before = peer.position(place)
    start = time.monotonic()
    own = workload.run(work, point)
    seconds = time.monotonic() - start
    if workload.changes:
        check_seen(peer, place, before)
    return own if isinstance(own, float) else seconds


@contextlib.contextmanager
def prepared(work, workload, peer, parent):
    """A new source on a new mount, in which @workload can begin: yields (place, point)."""
    with places.new_place(parent) as place:
        if workload.prepare:
            workload.prepare(work, place)
        # What was written a moment ago is not to be written out while the clock runs.
        if places.type_of(parent) != "tmpfs":
            os.sync()
        with peer.mounted(place) as point:
            if workload.is_cold:
                places.drop_caches()
            if workload.warm:
                workload.warm(work, point)
            yield place, point


def measure(work, workload, peer, parent):
    """Seconds that @workload takes on @peer."""
    with prepared(work, workload, peer, parent) as (place, point):
        return time_it(work, workload, peer, place, point)


def take_sample(work, workload, peer, number, parent):
    try:
        seconds = measure(work, workload, peer, parent)
        return Sample(workload.name, peer.name, number, seconds)
    except (peers.Void, workloads.Failed, OSError, ValueError, subprocess.SubprocessError) as error:
        return Sample(workload.name, peer.name, number, None, str(error))


def wants(workload, peer):
    return ((not workload.against or peer.name in workload.against) and
            (not peer.workloads or workload.name in peer.workloads))


def run(work, chosen, contenders, rounds, parent, progress):
    """Samples of all workloads, in the order in which they were taken. A peer that fails in the warm-up is not asked again."""
    samples = []
    for workload in chosen:
        able = [peer for peer in contenders if wants(workload, peer)]
        for number in range(rounds + 1):
            for peer in list(able):
                progress.show(f"{workload.name} {peer.name} round {number}/{rounds}")
                sample = take_sample(work, workload, peer, number, parent)
                samples.append(sample)
                progress.step()
                if sample.void and number == 0:
                    able.remove(peer)
                    progress.done += rounds
    progress.clear()
    return samples


@dataclasses.dataclass
class Statistic:
    median: float   # seconds
    spread: float   # half of the distance between the quartiles, as a part of the median
    count: int


def statistic(values):
    median = statistics.median(values)
    if len(values) < 2:
        return Statistic(median, 0.0, len(values))
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Statistic(median, (high - low) / 2 / median, len(values))


def summary(samples):
    """{(workload, peer): Statistic} of what is counted."""
    values = {}
    for sample in samples:
        if sample.round > 0 and sample.seconds is not None:
            values.setdefault((sample.workload, sample.peer), []).append(sample.seconds)
    return {key: statistic(found) for key, found in values.items()}


def voids(samples):
    """What was void, each reason once: [(workload, peer, reason, how often)]."""
    counts = {}
    for sample in samples:
        if sample.void:
            key = (sample.workload, sample.peer, sample.void)
            counts[key] = counts.get(key, 0) + 1
    return [(*key, count) for key, count in counts.items()]
