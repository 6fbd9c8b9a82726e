"""
Workload: something that is timed on every peer.

    prepare(work, place)   fills the source before anything is mounted, natively
    warm(work, point)      goes through the mount, and is not timed
    run(work, point)       is timed; a float that it returns is seconds that it knows better than a clock around it

`work` is what all workloads share: folder of the bench, tarball, sizes. `against` limits the peers. `limits` are
what has to be reached: {peer: largest ratio of hrfs's time to the peer's}.
"""

import dataclasses
import os
import subprocess
import typing

import peers
import trees

# Also for trees whose owner is somebody else, and by the same person everywhere.
GIT_ENVIRONMENT = {
    **os.environ,
    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_AUTHOR_DATE": f"{trees.EPOCH} +0000",
    "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_COMMITTER_DATE": f"{trees.EPOCH} +0000",
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*", "GIT_CONFIG_KEY_1": "gc.auto", "GIT_CONFIG_VALUE_1": "0",
}


class Failed(Exception):
    """A program that was to be timed did not come to a good end."""


def execute(*command, **options):
    """Run a program to its good end; its standard output."""
    with open(os.devnull, "r+b") as nothing:
        done = subprocess.run(command, stdin=nothing, stdout=options.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE,
                              **options)
    if done.returncode != 0:
        raise Failed(f"{os.path.basename(command[0])} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}")
    return done.stdout


def loop(name, path, *numbers):
    """A tight loop of bench-files; the seconds that it took."""
    return float(execute(os.path.join(peers.PROGRAMS, "bench-files"), name, path, *map(str, numbers)))


@dataclasses.dataclass
class Workload:
    name: str
    run: typing.Callable
    prepare: typing.Callable = None
    warm: typing.Callable = None
    set_up: typing.Callable = None      # once; raises peers.Missing
    is_cold: bool = False               # forget caches between mounting and running
    changes: bool = False               # something that logs has to have seen something
    against: tuple = ()                 # names of peers; (): all
    limits: dict = dataclasses.field(default_factory=dict)


class Work:
    """What the workloads of one run share. @is_small: only to see whether everything works."""

    def __init__(self, folder, is_small):
        self.folder = folder
        self.is_small = is_small
        self.tarball = os.path.join(folder, "tree.tar")
        trees.make_tarball(self.tarball, self.size(trees.FILES))

    def size(self, usual):
        return max(1, usual // 20) if self.is_small else usual

    def untar(self, where):
        execute("tar", "-x", "-f", self.tarball, "-C", where)

    def data(self, where, size):
        """A file of @size bytes, made natively."""
        loop("write", os.path.join(where, "data"), 1 << 20, max(1, size >> 20))


def use_tree(work, place):
    work.untar(place.source)


