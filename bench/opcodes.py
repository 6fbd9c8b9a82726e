"""Figures of FUSE requests: how many of which an operation makes, counted by the daemon."""

import os
import time

import place as places
from figure import Family, Figure

FILES = 100

# Requests that a FUSE file system has to answer for each operation, however it is made, on this road of the kernel:
# a name that is not known is looked up before it is created, renamed or removed; every open that is passed through has
# to be asked for, and every one of them ends with a RELEASE.
LEAST = {
    "create+write+close": "LOOKUP CREATE WRITE RELEASE",
    "write+close of a file that was written before": "OPEN WRITE RELEASE",
    "stat, name not known": "LOOKUP",
    "stat, name known": "",
    "open+read+close, name known": "OPEN RELEASE",
    "open+read+close, again": "OPEN RELEASE",
    "rename": "LOOKUP RENAME",
    "unlink, name known": "UNLINK",
}


def settled_counts(peer, place):
    """Requests by opcode, once no more come: a RELEASE follows its close(2) by itself."""
    before = None
    while True:
        counts = peer.status(place)["requests"]
        if counts == before:
            return counts
        before = counts
        time.sleep(0.05)


def names(point, prefix):
    return [os.path.join(point, f"{prefix}{number}") for number in range(FILES)]


def write_new(point):
    for path in names(point, "new"):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, b"x" * 100)
        os.close(fd)


def write_again(point):
    for path in names(point, "new"):
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b"y" * 100)
        os.close(fd)


def look(point):
    for path in names(point, "old"):
        os.stat(path)


def read(point):
    for path in names(point, "old"):
        fd = os.open(path, os.O_RDONLY)
        os.read(fd, 4096)
        os.close(fd)


def rename(point):
    for old, new in zip(names(point, "old"), names(point, "renamed")):
        os.rename(old, new)


def unlink(point):
    for path in names(point, "renamed"):
        os.unlink(path)


STEPS = [write_new, write_again, look, look, read, read, rename, unlink]


def count(bench):
    peer, figures = bench.hrfs(), []
    with places.new_place(bench.parent) as place:
        for path in names(place.source, "old"):
            with open(path, "w") as out:
                out.write("content\n")
        with peer.mounted(place) as point:
            for (row, least), step in zip(LEAST.items(), STEPS):
                bench.say(f"requests of {row}")
                figures += requests_of(row, least, step, point, peer, place)
    return figures


def requests_of(row, least, step, point, peer, place):
    group = "FUSE requests an operation"
    before = settled_counts(peer, place)
    # Names that are known stay so for a second by default, and a step takes some milliseconds.
    step(point)
    after = settled_counts(peer, place)
    figures = [Figure(group, row, "least", len(least.split()))]
    more = {name: (after[name] - before.get(name, 0)) / FILES for name in after}
    figures.append(Figure(group, row, "hrfs", sum(more.values())))
    figures += [Figure(group, row, name, value) for name, value in more.items() if value]
    return figures


FAMILIES = [Family("requests", count, "FUSE requests of each operation, by opcode")]
