"""Workloads on the bytes of one file: written and read in all ways."""

import json
import os

import peers
from workload import Workload, execute, loop
from work_tree import EVERYWHERE

SEEING = "passthrough_hp-nopassthrough"

MIB = 1 << 20
FILE_SIZE = 256 * MIB
SMALL_WRITES = 65536
RANDOM_READS = 262144
RANDOM_WRITES = 32768
READ_SIZE = 128 << 10

# Native throughput is to be reached to 0.97; more time than this is less throughput than that.
NATIVE_SPEED = {"native": 1 / 0.97}


def use_file(work, place):
    work.data(place.source, work.size(FILE_SIZE))


def data(point):
    return os.path.join(point, "data")


def read_all(work, point):
    return loop("read", data(point), READ_SIZE, 4)


def read_mapped(work, point):
    return loop("mmap", data(point), 4)


def fio(point, kind, size, count):
    """Seconds of @count random accesses of 4 KiB; fio's own clock."""
    answer = execute("fio", "--name=bench", f"--filename={data(point)}", f"--rw=rand{kind}", "--bs=4k", "--ioengine=psync",
                     f"--size={size}", f"--number_ios={count}", f"--io_size={count * 4096}", "--invalidate=0", "--fallocate=none",
                     "--randrepeat=1", "--thread", "--output-format=json", cwd="/")
    side = json.loads(answer)["jobs"][0][kind]
    return side["total_ios"] / side["iops"]


def need_fio():
    peers.install("fio", "fio")


ALL = [
    Workload("write-4k", lambda work, point: loop("write", data(point), 4096, work.size(SMALL_WRITES)), changes=True,
             limits={SEEING: 0.8, **EVERYWHERE}),
    Workload("write-1m", lambda work, point: loop("write", data(point), MIB, work.size(512)), changes=True, limits=EVERYWHERE),
    Workload("random-read-4k", lambda work, point: fio(point, "read", work.size(FILE_SIZE), work.size(RANDOM_READS)),
             prepare=use_file, warm=read_all, set_up=need_fio, limits={**NATIVE_SPEED, **EVERYWHERE}),
    Workload("random-write-4k", lambda work, point: fio(point, "write", work.size(FILE_SIZE), work.size(RANDOM_WRITES)),
             prepare=use_file, set_up=need_fio, changes=True, limits=EVERYWHERE),
    Workload("read-sequential", read_all, prepare=use_file, warm=read_all, limits={**NATIVE_SPEED, **EVERYWHERE}),
    Workload("read-mmap", read_mapped, prepare=use_file, warm=read_mapped, limits={**NATIVE_SPEED, **EVERYWHERE}),
]
