#!/usr/bin/python3
"""
Storm: change a tree as fast as it goes, and keep a diary of what the kernel said had been done.

    storm.py FOLDER NAME DIARY COUNT

FOLDER/NAME is its playground: no two storms share one. The diary is a file outside of the mount, one JSON array a line:

    ["did", op, path, ...]    the system call returned: there must be one event of it
    ["tried", op, path, ...]  it failed because the mount had gone: there may be one event of it

Paths are relative to FOLDER. After a failure the storm waits until the mount is back and goes on elsewhere. It
ends after COUNT rounds, or when its standard input is closed.
"""

import errno
import json
import os
import random
import select
import sys
import time

# What the kernel gives for a mount whose connection was ended; ECANCELED for a request that was in a ring.
GONE = {errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED, errno.EIO, errno.ESTALE, errno.EINTR, errno.ENODEV}


class MountIsGone(Exception):
    pass


class Storm:
    def __init__(self, folder, name, diary):
        self.folder = folder
        self.name = name
        self.diary = diary
        self.chance = random.Random(name)

    def note(self, *line):
        self.diary.write(json.dumps(line) + "\n")
        self.diary.flush()

    def path(self, path):
        return os.path.join(self.folder, path)

    def call(self, function, *what):
        """Make a system call and write down how it went. @what is the event it should be."""
        try:
            value = function()
        except OSError as error:
            if error.errno not in GONE:
                raise
            self.note("tried", *what)
            raise MountIsGone from error
        self.note("did", *what)
        return value

    def wait_for_mount(self):
        while True:
            try:
                os.getxattr(self.folder, "user.hrfs.seq")
                return
            except OSError:
                time.sleep(0.005)

    def write_file(self, path):
        """A file of a few pieces, each written once, one after the other."""
        fd = self.call(lambda: os.open(self.path(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "create", path)
        try:
            offset = 0
            for _ in range(self.chance.randint(1, 6)):
                piece = self.chance.randbytes(self.chance.choice([1, 100, 4096, 10000]))
                self.call(lambda: os.pwrite(fd, piece, offset), "write", path, offset, len(piece))
                offset += len(piece)
        finally:
            try:
                os.close(fd)
            except OSError:
                pass

    def round(self, number):
        folder = f"{self.name}/{number}"
        self.call(lambda: os.mkdir(self.path(folder)), "mkdir", folder)
        for name in ("a", "b", "c"):
            self.write_file(f"{folder}/{name}")
        self.call(lambda: os.rename(self.path(f"{folder}/a"), self.path(f"{folder}/A")),
                  "rename", f"{folder}/a", f"{folder}/A")
        self.call(lambda: os.rename(self.path(f"{folder}/b"), self.path(f"{folder}/c")),
                  "rename", f"{folder}/b", f"{folder}/c")
        self.call(lambda: os.symlink("A", self.path(f"{folder}/s")), "symlink", f"{folder}/s")
        self.call(lambda: os.link(self.path(f"{folder}/A"), self.path(f"{folder}/l")),
                  "link", f"{folder}/A", f"{folder}/l")
        self.call(lambda: os.chmod(self.path(f"{folder}/c"), 0o600), "chmod", f"{folder}/c")
        self.call(lambda: os.unlink(self.path(f"{folder}/s")), "unlink", f"{folder}/s")
        if number % 2:
            for name in ("A", "l", "c"):
                self.call(lambda: os.unlink(self.path(f"{folder}/{name}")), "unlink", f"{folder}/{name}")
            self.call(lambda: os.rmdir(self.path(folder)), "rmdir", folder)

    def start(self):
        """Make the playground; the mount may go while it is made."""
        while True:
            try:
                self.call(lambda: os.mkdir(self.path(self.name)), "mkdir", self.name)
                return
            except MountIsGone:
                self.wait_for_mount()
            except FileExistsError:
                return


def main():
    folder, name, diary, count = sys.argv[1:]
    with open(diary, "w") as out:
        storm = Storm(folder, name, out)
        storm.start()
        for number in range(int(count)):
            if select.select([sys.stdin], [], [], 0)[0]:
                break
            try:
                storm.round(number)
            except MountIsGone:
                storm.wait_for_mount()


if __name__ == "__main__":
    main()
