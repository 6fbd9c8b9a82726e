"""Workloads on a tree of small files: unpack, walk, search, remove, and metadata from many threads."""

import os
import subprocess

import workload
from workload import Workload, execute, loop, use_tree

OPENED_FILES = 1000
OPENS = 20000


def walk(work, point):
    """find(1) that has to look at each inode."""
    execute("find", point, "-newermt", "2100-01-01")


def search(work, point):
    # Exit status 1: it is in no file, as it should be.
    status = subprocess.run(["grep", "-r", "-F", "no such words anywhere", point], stdout=subprocess.DEVNULL).returncode
    if status != 1:
        raise workload.Failed(f"grep ended with {status}")


def make_small_files(work, place):
    loop("make-tree", place.source, 1, OPENED_FILES)


def open_small_files(work, point):
    return loop("open", os.path.join(point, "folder0"), OPENED_FILES, work.size(OPENS))


HP = "passthrough_hp"
# What is to be reached on each workload.
EVERYWHERE = {"bindfs": 0.4, "loggedfs": 0.4, "hrfs-nolog": 1.05}

ALL = [
    Workload("untar", lambda work, point: work.untar(point), changes=True, limits={HP: 0.75, **EVERYWHERE}),
    Workload("find-cold", walk, prepare=use_tree, is_cold=True, limits=EVERYWHERE),
    Workload("find-warm", walk, prepare=use_tree, warm=walk, limits={"native": 1.3, **EVERYWHERE}),
    Workload("grep-cold", search, prepare=use_tree, is_cold=True, limits={HP: 0.75, **EVERYWHERE}),
    Workload("grep-warm", search, prepare=use_tree, warm=search, limits=EVERYWHERE),
    Workload("rm", lambda work, point: execute("rm", "-rf", os.path.join(point, "project")), prepare=use_tree, changes=True,
             limits={HP: 0.75, **EVERYWHERE}),
    Workload("open-read-close", open_small_files, prepare=make_small_files, limits=EVERYWHERE),
    Workload("metadata-8-threads", lambda work, point: loop("metadata", point, 8, work.size(1000)), changes=True,
             limits=EVERYWHERE),
]
