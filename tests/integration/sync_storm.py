#!/usr/bin/python3
"""
Sync storm: change a tree and sync parts of it, and keep a diary of what the kernel promised.

    sync_storm.py FOLDER NAME DIARY

FOLDER/NAME is its playground. The diary is a file on another disk, one JSON array a line, written after the call returned:

    ["did", when, op, path, ...]               the system call returned; CLOCK_MONOTONIC, ns
    ["synced", when, how, seq, path, length]   a sync returned. Before it was called the log had got to @seq, and the first
                                               @length bytes of the file at @path had been written

A write to a file opened with O_SYNC or O_DSYNC is both, the did line first. Paths are relative to FOLDER. The first
error ends the storm, with the line ["ended", when, errno]: the power has gone.
"""

import errno
import json
import os
import random
import sys
import time

SYNCS = {"fsync": os.fsync, "fdatasync": os.fdatasync}
SIZES = [1, 100, 4096, 5000, 20000]


def content(name, offset, length):
    """What stands at @offset of the file that was created with @name."""
    block = random.Random(os.path.basename(name)).randbytes(4099)
    first = offset % len(block)
    return (block * ((first + length) // len(block) + 1))[first:first + length]


class Storm:
    def __init__(self, folder, name, diary):
        self.folder = folder
        self.name = name
        self.diary = diary
        self.chance = random.Random(name)

    def path(self, path):
        return os.path.join(self.folder, path)

    def note(self, kind, *what):
        self.diary.write(json.dumps([kind, time.monotonic_ns(), *what]) + "\n")
        self.diary.flush()

    def seq(self):
        return int(os.getxattr(self.folder, "user.hrfs.seq"))

    def create(self, path, flags=0):
        fd = os.open(self.path(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o644)
        self.note("did", "create", path)
        return fd

    def write(self, fd, path, offset, length):
        if os.pwrite(fd, content(path, offset, length), offset) != length:
            raise OSError(errno.EIO, "a short write")
        self.note("did", "write", path, offset, length)
        return offset + length

    def sync(self, fd, path, length):
        how = self.chance.choice(list(SYNCS))
        seq = self.seq()
        SYNCS[how](fd)
        self.note("synced", how, seq, path, length)

    def write_and_sync(self, path):
        """Some pieces, of which not every one is synced."""
        fd = self.create(path)
        offset = 0
        for _ in range(self.chance.randint(2, 8)):
            offset = self.write(fd, path, offset, self.chance.choice(SIZES))
            if self.chance.random() < 0.4:
                self.sync(fd, path, offset)
        os.close(fd)

    def write_synced(self, path):
        how = self.chance.choice(["O_SYNC", "O_DSYNC"])
        fd = self.create(path, getattr(os, how))
        offset = 0
        for _ in range(self.chance.randint(1, 4)):
            seq = self.seq()
            offset = self.write(fd, path, offset, self.chance.choice(SIZES))
            self.note("synced", how, seq, path, offset)
        os.close(fd)

    def replace(self, path):
        """As editors and databases do: a new file, synced, takes the name, and the directory is synced."""
        folder, name = os.path.split(path)
        new = f"{folder}/new/{name}"
        fd = self.create(new)
        length = self.write(fd, new, 0, self.chance.choice(SIZES))
        self.sync(fd, new, length)
        os.rename(self.path(new), self.path(path))
        self.note("did", "rename", new, path)
        os.close(fd)
        for parent in (f"{folder}/new", folder):
            fd = os.open(self.path(parent), os.O_RDONLY | os.O_DIRECTORY)
            seq = self.seq()
            os.fsync(fd)
            os.close(fd)
        self.note("synced", "fsync of the directory", seq, path, length)

    def change_unsynced(self, path):
        """Whether the disk keeps this is nobody's promise but that of the next sync."""
        os.mkdir(self.path(path))
        self.note("did", "mkdir", path)
        os.chmod(self.path(path), 0o700)
        self.note("did", "chmod", path)
        os.rmdir(self.path(path))
        self.note("did", "rmdir", path)

    def run(self):
        for folder in (self.name, f"{self.name}/new"):
            os.mkdir(self.path(folder))
            self.note("did", "mkdir", folder)
        number = 0
        while True:
            number += 1
            self.chance.choice([self.write_and_sync, self.write_synced, self.replace, self.change_unsynced])(
                f"{self.name}/{number}")


def main():
    folder, name, diary = sys.argv[1:]
    with open(diary, "w") as out:
        storm = Storm(folder, name, out)
        try:
            storm.run()
        except OSError as error:
            storm.note("ended", error.errno)


if __name__ == "__main__":
    main()
