"""
Files as programs use them: names, open files, locks, mappings, attributes, directories, sizes.

Where it fits, the same is done natively beside the mount (twins.py). What depends on how the kernel reaches our
files is done in all four modes. HRFS_BIG_DIRECTORY is the number of entries of the large directory, 50,000 where it
is not set.
"""

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import random
import signal
import socket
import stat
import struct
import subprocess
import threading
import time

import pytest

import calls
import harness
import syscalls
import twins as twins_module
from twins import (OWNER, ROOT, STRANGER, Twins, attempt, make_directory, make_file, mode_of, opened, read_file,
                   write_file)

BIG_DIRECTORY = int(os.environ.get("HRFS_BIG_DIRECTORY", 50_000))

GIB = 1 << 30


def make_twins(mount, folder, **arguments):
    return Twins(mount(folder=folder, **arguments), os.path.join(folder, "native"))


@pytest.fixture(params=["disk", "tmpfs"])
def twins(request, mount):
    """One mount on each kind of file system."""
    return make_twins(mount, request.getfixturevalue("disk_place" if request.param == "disk" else "place"))


@pytest.fixture
def twins_in_mode(mount, mode, disk_place):
    return make_twins(mount, disk_place, options=mode.options)


def text(data):
    return data.decode("latin1")


# ---- Hard links ----

def test_hard_links_are_one_inode(twins_in_mode):
    def work():
        make_file("a", b"first")
        os.makedirs("d/e")
        os.link("a", "d/b")
        os.link("d/b", "d/e/c")
        with opened("d/b", os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, b", second")
        os.chmod("d/e/c", 0o600)
        inodes = {os.lstat(name).st_ino for name in ("a", "d/b", "d/e/c")}
        seen = [len(inodes), text(read_file("a")), mode_of("a"), os.lstat("a").st_nlink]
        os.unlink("a")
        return [*seen, os.lstat("d/b").st_nlink, text(read_file("d/e/c")), attempt(read_file, "a")]

    assert twins_in_mode.same(work) == [1, "first, second", "0o100600", 3, 2, "first, second", "ENOENT"]


@pytest.mark.parametrize("used", ["a", "d/b"])
def test_an_event_of_a_hard_link_names_the_path_that_was_used_or_a_live_one(mount, used):
    """The kernel tells the inode and not the name of an open, so it can be either name; never one that is gone."""
    mounted = mount()
    make_file(mounted.path("a"), b"x")
    os.mkdir(mounted.path("d"))
    os.link(mounted.path("a"), mounted.path("d/b"))
    since = mounted.sync()
    with opened(mounted.path(used), os.O_WRONLY) as fd:
        os.write(fd, b"both live")
        first, _ = mounted.wait_for(since, op="write")
        since = mounted.sync()
        os.unlink(mounted.path("d/b" if used == "a" else "a"))
        os.write(fd, b"one lives")
        second, _ = mounted.wait_for(since, op="write")
    assert first["path"] in ("a", "d/b")
    assert second["path"] == used
    assert first["ino"] == second["ino"]


def test_link_and_unlink_events_name_the_path_that_was_used(mount):
    mounted = mount()
    make_file(mounted.path("a"))
    os.link(mounted.path("a"), mounted.path("b"))
    os.link(mounted.path("b"), mounted.path("c"))
    os.rename(mounted.path("b"), mounted.path("bb"))
    os.unlink(mounted.path("a"))
    ops = [(e["op"], e["path"], e.get("to")) for e in mounted.events() if e["op"] in ("link", "rename", "unlink")]
    assert ops[0] == ("link", "a", "b") and ops[1][0::2] == ("link", "c")
    assert ops[2:] == [("rename", "b", "bb"), ("unlink", "a", None)]


def test_rename_of_one_hard_link_over_another_does_nothing(twins):
    def work():
        make_file("a", b"x")
        os.link("a", "b")
        os.rename("a", "b")
        return sorted(os.listdir("."))

    assert twins.same(work) == ["a", "b"]


# ---- Open while unlinked or replaced ----

def use_without_a_name(fd):
    """Everything one does with a descriptor, on a file of 11 bytes that has no name; what it showed."""
    os.pwrite(fd, b"LATE", 5)
    seen = [text(os.pread(fd, 100, 0))]
    os.ftruncate(fd, 20_000)
    os.pwrite(fd, b"end", 19_997)
    os.fchmod(fd, 0o751)
    os.fchown(fd, 5, 6)
    os.utime(fd, ns=(10**18, 10**18))
    os.setxattr(fd, "user.a", b"1")
    syscalls.fallocate(fd, syscalls.FALLOC_FL_PUNCH_HOLE | syscalls.FALLOC_FL_KEEP_SIZE, 4096, 4096)
    with mmap.mmap(fd, 20_000) as mapping:
        mapping[100:104] = b"mmap"
        mapping.flush()
        seen.append(text(mapping[19_997:]))
    os.fsync(fd)
    st = os.fstat(fd)
    seen += [st.st_nlink, st.st_size, oct(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns > 10**18,
             text(os.pread(fd, 4, 100)), attempt(os.getxattr, fd, "user.a"), attempt(os.listxattr, fd)]
    # What /proc/self/fd leads to is still this file.
    seen.append(text(read_file(f"/proc/self/fd/{fd}"))[:9])
    seen.append(attempt(calls.link_open_file, fd, "again"))
    return seen


WANTED_WITHOUT_A_NAME = ["HelloLATEld", "end", 0, 20_000, "0o100751", 5, 6, True, "mmap", "31", ["user.a"], "HelloLATE",
                         "ENOENT"]


@pytest.mark.parametrize("end", ["unlinked", "replaced", "directory_gone"])
def test_a_file_that_loses_its_name_while_it_is_open(twins_in_mode, end):
    def work():
        make_directory("d")
        make_file("d/f", b"Hello world")
        with opened("d/f", os.O_RDWR) as fd:
            if end == "replaced":
                make_file("other", b"other")
                os.rename("other", "d/f")
            else:
                os.unlink("d/f")
            if end == "directory_gone":
                os.rmdir("d")
            seen = use_without_a_name(fd)
        return [seen, os.path.exists("d/f") and text(read_file("d/f"))]

    assert twins_in_mode.same(work) == [WANTED_WITHOUT_A_NAME, end == "replaced" and "other"]


def test_a_file_that_was_opened_twice_and_unlinked(twins_in_mode):
    """What one descriptor writes the other reads, also one that was opened only for reading."""
    def work():
        make_file("f", b"x" * 100)
        with opened("f", os.O_RDONLY) as reader, opened("f", os.O_WRONLY) as writer:
            os.unlink("f")
            make_file("f", b"new")
            os.pwrite(writer, b"y" * 200, 0)
            first = len(os.pread(reader, 1000, 0))
            os.ftruncate(writer, 50)
            return [first, text(os.pread(reader, 1000, 0)) == "y" * 50, os.fstat(reader).st_size, text(read_file("f"))]

    assert twins_in_mode.same(work) == [200, True, 50, "new"]


def test_a_directory_that_is_removed_while_somebody_is_in_it(twins):
    def work():
        make_directory("d")
        os.chdir("d")
        os.rmdir("../d")
        return [attempt(make_file, "f"), attempt(os.listdir, "."), attempt(os.getcwd),
                attempt(lambda: os.stat(".").st_nlink),
                attempt(os.stat, "..") == "ENOENT"]

    seen = twins.same(work)
    assert (seen[0], seen[3]) == ("ENOENT", 0)


def test_a_file_that_is_unlinked_while_only_a_path_descriptor_holds_it(twins):
    def work():
        make_file("f", b"held")
        os.symlink("target", "s")
        with opened("f", os.O_PATH) as file, opened("s", os.O_PATH | os.O_NOFOLLOW) as link:
            os.unlink("f")
            os.unlink("s")
            return [attempt(lambda: os.fstat(file).st_nlink), attempt(lambda: text(read_file(f"/proc/self/fd/{file}"))),
                    attempt(os.readlink, "", dir_fd=link)]

    assert twins.same(work) == [0, "held", "target"]


def test_rename_over_an_open_file(twins_in_mode):
    """Readers of the old file keep it; who opens by name gets the new one at once; again and again."""
    def work():
        make_file("f", b"version 0")
        fds, seen = [os.open("f", os.O_RDONLY)], []
        for number in range(1, 20):
            make_file("f.new", f"version {number}".encode())
            os.rename("f.new", "f")
            fds.append(os.open("f", os.O_RDWR if number % 2 else os.O_RDONLY))
        for fd in fds:
            seen.append(text(os.pread(fd, 100, 0)))
            os.close(fd)
        return seen

    assert twins_in_mode.same(work) == [f"version {number}" for number in range(20)]


# ---- renameat2 ----

def test_rename_exchange(twins):
    def work():
        os.makedirs("d/inner")
        make_file("f", b"file")
        make_file("d/inner/g", b"inner")
        os.symlink("f", "link")
        with opened("f", os.O_RDWR) as fd:
            seen = [attempt(syscalls.renameat2, "f", "d/inner", syscalls.RENAME_EXCHANGE),
                    attempt(syscalls.renameat2, "link", "d", syscalls.RENAME_EXCHANGE),
                    attempt(syscalls.renameat2, "f", "missing", syscalls.RENAME_EXCHANGE),
                    attempt(syscalls.renameat2, "f", "f/g", syscalls.RENAME_EXCHANGE),
                    attempt(syscalls.renameat2, "f", "f/g", syscalls.RENAME_EXCHANGE | syscalls.RENAME_NOREPLACE)]
            os.write(fd, b"FILE")
        return [*seen, text(read_file("link/inner")), text(read_file("f/g")), os.readlink("d")]

    assert twins.same(work) == [None, None, "ENOENT", "EINVAL", "EINVAL", "FILE", "inner", "f"]


def test_rename_noreplace(twins):
    def work():
        make_file("f", b"f")
        make_file("g", b"g")
        make_directory("d")
        return [attempt(syscalls.renameat2, "f", name, syscalls.RENAME_NOREPLACE) for name in ("g", "d", "f", "new")]

    assert twins.same(work) == ["EEXIST", "EEXIST", "EEXIST", None]


def test_rename_whiteout(twins):
    """What overlayfs leaves where something was: a device 0:0."""
    def work():
        make_file("f", b"f")
        found = attempt(syscalls.renameat2, "f", "g", syscalls.RENAME_WHITEOUT)
        st = os.lstat("f")
        return [found, oct(st.st_mode), st.st_rdev, text(read_file("g"))]

    assert twins.same(work) == [None, "0o20000", 0, "f"]


# ---- O_TMPFILE ----

def test_a_file_made_without_a_name_gets_one(twins_in_mode):
    def work():
        make_directory("d")
        with opened("d", os.O_TMPFILE | os.O_RDWR, 0o640) as fd:
            os.write(fd, b"nameless")
            os.ftruncate(fd, 6000)
            seen = [os.fstat(fd).st_nlink, os.listdir("d")]
            calls.link_open_file(fd, "d/named")
            calls.link_open_file(fd, "twice")
            os.pwrite(fd, b"NAME", 0)
            seen += [os.fstat(fd).st_nlink, text(read_file("twice")[:8]), os.lstat("d/named").st_size]
        with opened("d", os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o640) as fd:
            os.write(fd, b"never")
            seen.append(attempt(calls.link_open_file, fd, "never"))
        seen.append(attempt(os.open, "d", os.O_TMPFILE | os.O_RDONLY))
        return seen

    assert twins_in_mode.same(work) == [0, [], 2, "NAMEless", 6000, "ENOENT", "EINVAL"]


def test_the_events_of_a_file_made_without_a_name(mount):
    mounted = mount()
    with opened(mounted.point, os.O_TMPFILE | os.O_RDWR, 0o640) as fd:
        os.write(fd, b"nameless")
        calls.link_open_file(fd, mounted.path("named"))
        os.write(fd, b"!")
    link, _ = mounted.wait_for("oldest", op="link")
    assert link["to"] == "named" and link["ino"] == os.lstat(mounted.path("named")).st_ino
    write, _ = mounted.wait_for(link["seq"], op="write")
    assert (write["path"], write["size"]) == ("named", 9)


# ---- Writing ----

def test_many_processes_and_threads_append_to_one_file(mount, mode):
    """Each line arrives once and whole, and no two overlap."""
    mounted = mount(options=mode.options)
    processes, threads, lines = 4, 3, 150
    path = mounted.path("log")

    def line(process, thread, number):
        return f"{process} {thread} {number} ".encode() + b"." * ((process * 7 + thread * 31 + number) % 500) + b"\n"

    def append(process, thread):
        with opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
            for number in range(lines):
                os.write(fd, line(process, thread, number))

    def work(process):
        running = [threading.Thread(target=append, args=(process, thread)) for thread in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return True

    starters = [threading.Thread(target=harness.in_child,
                                 args=(lambda p=process: work(p),)) for process in range(processes)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    wanted = [line(p, t, n) for p in range(processes) for t in range(threads) for n in range(lines)]
    assert sorted(read_file(path).splitlines(keepends=True)) == sorted(wanted)
    mounted.settle()
    writes = [(e["offset"], e["length"]) for e in mounted.events() if e["op"] == "write"]
    assert sum(length for _, length in writes) == sum(map(len, wanted))
    assert all(a + length == b for (a, length), (b, _) in zip(sorted(writes), sorted(writes)[1:]))


def test_o_direct(twins_in_mode):
    """Aligned; what is not aligned a disk refuses and FUSE does not, because no block size stands in between."""
    def work():
        block = mmap.mmap(-1, 8192)
        block.write(b"direct! " * 1024)
        with opened("f", os.O_RDWR | os.O_CREAT | os.O_DIRECT) as fd, opened("f", os.O_RDWR) as other:
            seen = [os.pwrite(fd, block, 4096), os.fstat(fd).st_size]
            os.pwrite(other, b"cached", 4096)
            answer = mmap.mmap(-1, 8192)
            seen += [os.preadv(fd, [answer], 4096), text(answer[:16])]
            block[:8] = b"again!! "
            os.pwrite(fd, block, 4096)
            seen.append(text(os.pread(other, 16, 4096)))
            seen.append(os.preadv(fd, [answer], 12288))
        return seen

    assert twins_in_mode.same(work) == [8192, 12288, 8192, "cached! direct! ", "again!! direct! ", 0]


@pytest.mark.parametrize("flag", ["O_SYNC", "O_DSYNC"])
def test_o_sync_writes_are_logged_and_stored_when_they_return(mount, mode, flag, disk_place):
    mounted = mount(folder=disk_place, options=mode.options)
    with opened(mounted.path("f"), os.O_WRONLY | os.O_CREAT | getattr(os, flag)) as fd:
        for number in range(20):
            os.write(fd, b"x" * 100)
            assert os.stat(os.path.join(mounted.source, "f")).st_size == 100 * (number + 1)
        os.fsync(fd)
        os.fdatasync(fd)
    writes = [(e["offset"], e["length"]) for e in mounted.events() if e["op"] == "write"]
    assert writes == [(100 * number, 100) for number in range(20)]


def test_syncfs_and_sync_of_a_directory(twins):
    """
    FUSE passes syncfs(2) to virtiofs alone; elsewhere the kernel writes its own dirty pages back and answers 0. So here
    it can only be seen that it succeeds; fsync of a directory comes to us.
    """
    def work():
        make_file("f", b"x")
        with opened(".", os.O_RDONLY | os.O_DIRECTORY) as directory, opened("f", os.O_RDWR) as file:
            return [attempt(calls.syncfs, directory), attempt(calls.syncfs, file), attempt(os.fsync, directory),
                    attempt(os.fdatasync, directory), attempt(os.fsync, file)]

    assert twins.same(work) == [None] * 5


# ---- Holes ----

def layout(fd):
    """[(data from, to)] as SEEK_DATA and SEEK_HOLE tell it."""
    found, at = [], 0
    while True:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO
            return found
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append([start, at])


def test_sparse_files_and_their_holes(twins_in_mode):
    def work():
        with opened("f", os.O_RDWR | os.O_CREAT) as fd:
            os.pwrite(fd, b"x" * 4096, 1 << 20)
            os.pwrite(fd, b"y" * 4096, 5 << 20)
            os.ftruncate(fd, 8 << 20)
            seen = [layout(fd), os.stat("f").st_blocks < 100, attempt(os.lseek, fd, 9 << 20, os.SEEK_DATA),
                    attempt(os.lseek, fd, 8 << 20, os.SEEK_HOLE), attempt(os.lseek, fd, -1, os.SEEK_SET),
                    attempt(os.lseek, fd, 0, os.SEEK_END)]
        with opened("f", os.O_RDONLY) as fd:
            return [*seen, layout(fd), os.pread(fd, 10, 3 << 20) == bytes(10)]

    seen = twins_in_mode.same(work)
    assert seen[0] == seen[6] == [[1 << 20, (1 << 20) + 4096], [5 << 20, (5 << 20) + 4096]]


ALLOCATIONS = {
    "plain": 0, "keep_size": syscalls.FALLOC_FL_KEEP_SIZE,
    "punch_hole": syscalls.FALLOC_FL_PUNCH_HOLE | syscalls.FALLOC_FL_KEEP_SIZE,
    "zero_range": syscalls.FALLOC_FL_ZERO_RANGE,
    "zero_range_keep_size": syscalls.FALLOC_FL_ZERO_RANGE | syscalls.FALLOC_FL_KEEP_SIZE,
    "punch_hole_alone": syscalls.FALLOC_FL_PUNCH_HOLE, "nonsense": 0x4000,
}


@pytest.mark.parametrize("how", ALLOCATIONS)
def test_every_mode_of_fallocate(twins, how):
    def work():
        seen = []
        for offset, length in ((0, 4096), (4096, 8192), (100, 5000), (30_000, 50_000), (90_000, 10), (0, 0), (-1, 5)):
            make_file(f"f{offset}", b"x" * 40_000)
            with opened(f"f{offset}", os.O_RDWR) as fd:
                seen.append([attempt(syscalls.fallocate, fd, ALLOCATIONS[how], offset, length), layout(fd),
                             os.fstat(fd).st_size, os.fstat(fd).st_blocks])
            os.rename(f"f{offset}", f"g{offset}-{length}")
        with opened("g0-0", os.O_RDONLY) as fd:
            seen.append(attempt(syscalls.fallocate, fd, ALLOCATIONS[how], 0, 10))
        return seen

    seen = twins.same(work)
    if how in ("plain", "punch_hole"):
        assert [row[0] for row in seen[:5]] == [None] * 5


@pytest.mark.parametrize("how", ["COLLAPSE_RANGE", "INSERT_RANGE", "UNSHARE_RANGE"])
def test_modes_of_fallocate_that_fuse_has_not(mount, disk_place, how):
    """ext4 can collapse and insert; FUSE's kernel side answers EOPNOTSUPP to all but punching and zeroing ranges."""
    mounted = mount(folder=disk_place)
    make_file(mounted.path("f"), b"x" * 40_000)
    with opened(mounted.path("f"), os.O_RDWR) as fd:
        assert attempt(syscalls.fallocate, fd, getattr(calls, "FALLOC_FL_" + how), 4096,
                       4096) == errno.errorcode[errno.EOPNOTSUPP]
    assert read_file(mounted.path("f")) == b"x" * 40_000


# ---- Copies inside the kernel ----

def test_copy_file_range(twins_in_mode):
    def work():
        make_file("a", bytes(range(256)) * 400)
        make_file("b", b"b" * 1000)
        seen = []
        with opened("a", os.O_RDWR) as a, opened("b", os.O_RDWR) as b, \
                opened("b", os.O_WRONLY | os.O_APPEND) as appending, \
                opened("a", os.O_RDONLY) as reading, opened(".", os.O_RDONLY) as directory:
            for arguments in ((a, b, 5000, 100, 10), (a, b, 10_000, 102_000, 500), (a, b, 100, 200_000, 0),
                              (a, a, 1000, 0, 50_000), (a, a, 1000, 0, 500), (a, b, 0, 0, 0), (a, reading, 10, 0, 0),
                              (a, appending, 10, 0, 0), (directory, b, 10, 0, 0), (a, directory, 10, 0, 0),
                              (a, b, 10, -5, 0)):
                seen.append(attempt(os.copy_file_range, *arguments))
            os.lseek(a, 7, os.SEEK_SET)
            os.lseek(b, 0, os.SEEK_END)
            seen += [os.copy_file_range(a, b, 93), os.lseek(a, 0, os.SEEK_CUR), os.lseek(b, 0, os.SEEK_CUR)]
        return seen

    assert twins_in_mode.same(work)[:7] == [5000, 400, 0, 1000, "EINVAL", 0, "EBADF"]


def test_splice_and_sendfile(twins_in_mode):
    """From the mount to a pipe and to a socket, from a pipe to the mount, and from file to file."""
    def work():
        data = random.Random(1).randbytes(100_000)
        make_file("a", data)
        make_file("b")
        seen = []
        with opened("a", os.O_RDONLY) as a, opened("b", os.O_RDWR) as b:
            out, into = os.pipe()
            at = 0
            while at < len(data):
                count = os.splice(a, into, 30_000, offset_src=at)
                assert os.splice(out, b, count, offset_dst=at) == count
                at += count
            seen.append(read_file("b") == data)
            ours, theirs = socket.socketpair()
            seen.append(os.sendfile(ours.fileno(), a, 500, 10_000))
            seen.append(theirs.recv(20_000, socket.MSG_WAITALL | socket.MSG_DONTWAIT) == data[500:10_500])
            os.lseek(b, 0, os.SEEK_END)
            seen.append(os.sendfile(b, a, 0, 50_000))
        return [*seen, hashlib.sha256(read_file("b")).hexdigest()]

    seen = twins_in_mode.same(work)
    assert seen[:4] == [True, 10_000, True, 50_000]


# ---- Extended attributes ----

def test_extended_attributes_in_all_namespaces(twins):
    def work():
        make_file("f")
        make_directory("d", 0o1777)
        os.symlink("f", "link")
        os.mkfifo("fifo")
        seen = {}
        acl = calls.acl(6, 4, 4, 6, users={STRANGER.uid: 6})
        for path in ("f", "d", "link", "fifo"):
            for name, value in (("user.a", b"1"), ("trusted.a", b"2"), ("security.a", b"3"), ("system.a", b"4"),
                                ("nothing", b"5"),
                                ("user.", b"6"), ("user." + "n" * 250, b"7"), ("user." + "n" * 251, b"8"),
                                ("user.empty", b""),
                                ("system.posix_acl_access", acl), ("system.posix_acl_default", acl),
                                ("system.posix_acl_access", b"nonsense")):
                key = f"{path} {name[:30]} {len(name)} {len(value)}"
                seen[key] = [attempt(os.setxattr, path, name, value, follow_symlinks=False),
                             attempt(os.getxattr, path, name, follow_symlinks=False)]
            seen[f"{path} list"] = attempt(lambda: sorted(os.listxattr(path, follow_symlinks=False)))
            seen[f"{path} remove"] = [attempt(os.removexattr, path, name, follow_symlinks=False)
                                      for name in ("user.a", "user.a", "trusted.a", "system.posix_acl_default")]
        return seen

    seen = twins.same(work)
    assert seen["f user.a 6 1"] == [None, "31"] and seen["f trusted.a 9 1"] == [None, "32"]
    assert seen["f security.a 10 1"] == [None, "33"] and seen["link trusted.a 9 1"] == [None, "32"]
    assert seen["link user.a 6 1"][0] == "EPERM" and seen["f remove"][:2] == [None, "ENODATA"]


def test_setxattr_that_creates_or_replaces(twins):
    def work():
        make_file("f")
        return [attempt(os.setxattr, "f", "user.a", b"1", os.XATTR_REPLACE),
                attempt(os.setxattr, "f", "user.a", b"2", os.XATTR_CREATE),
                attempt(os.setxattr, "f", "user.a", b"3", os.XATTR_CREATE),
                attempt(os.setxattr, "f", "user.a", b"4" * 500, os.XATTR_REPLACE), attempt(os.getxattr, "f", "user.a")]

    assert twins.same(work) == ["ENODATA", None, "EEXIST", None, "34" * 500]


def test_large_and_many_attributes(twins):
    """A disk's block ends at some size, ENOSPC; and 64 KiB are the end for everybody, E2BIG."""
    def work():
        make_file("f")
        make_file("g")
        seen = [[size, attempt(os.setxattr, "f", "user.a", b"v" * size)] for size in (2000, 3900, 5000, 65536, 65537)]
        for number in range(60):
            os.setxattr("g", f"user.{number:02d}", b"v" * 10)
        return [seen, sorted(os.listxattr("g")) == [f"user.{number:02d}" for number in range(60)]]

    seen, many = twins.same(work)
    assert many and seen[0] == [2000, None] and seen[-1] == [65537, "E2BIG"]


def test_attributes_as_an_ordinary_user_sees_them(twins):
    def prepare():
        make_directory("sticky", 0o1777)
        make_file("f", b"", 0o644)
        make_file("own", b"", 0o644, (OWNER.uid, OWNER.gid))
        for name in ("f", "own"):
            for attribute in ("user.a", "trusted.a", "security.a"):
                os.setxattr(name, attribute, b"1")

    def work():
        return [[attempt(os.listxattr, name), *(attempt(os.getxattr, name, attribute) for attribute in
                                                ("user.a", "trusted.a", "security.a", "user.missing")),
                 *(attempt(os.setxattr, name, attribute, b"2") for attribute in
                   ("user.b", "trusted.b", "security.b", "security.capability"))] for name in ("f", "own", "sticky")]

    twins.same(prepare)
    seen = twins.same(work, OWNER)
    assert "trusted.a" not in seen[0][0] and seen[0][5] == "EACCES" and seen[1][5] is None and seen[2][5] == "EPERM"


# ---- Locks ----

def test_flock_between_processes(mount, mode):
    mounted = mount(options=mode.options)
    path = mounted.path("f")
    make_file(path)

    def try_lock(how):
        def work():
            with opened(path, os.O_RDWR) as fd:
                return attempt(fcntl.flock, fd, how | fcntl.LOCK_NB)
        return harness.in_child(work).value

    with opened(path, os.O_RDONLY) as fd:
        fcntl.flock(fd, fcntl.LOCK_SH)
        assert [try_lock(fcntl.LOCK_SH), try_lock(fcntl.LOCK_EX)] == [None, "EAGAIN"]
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert [try_lock(fcntl.LOCK_SH), try_lock(fcntl.LOCK_EX)] == ["EAGAIN", "EAGAIN"]
    assert try_lock(fcntl.LOCK_EX) is None


def lock_record(kind, start, length):
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


def test_fcntl_locks_of_ranges_between_processes(mount, mode):
    mounted = mount(options=mode.options)
    path = mounted.path("f")
    make_file(path, b"x" * 100)

    def try_range(kind, start, length, command=fcntl.F_SETLK):
        def work():
            with opened(path, os.O_RDWR) as fd:
                return attempt(lambda: fcntl.fcntl(fd, command, lock_record(kind, start, length)) and None)
        return harness.in_child(work).value

    with opened(path, os.O_RDWR) as fd:
        fcntl.fcntl(fd, fcntl.F_SETLK, lock_record(fcntl.F_WRLCK, 10, 10))
        assert try_range(fcntl.F_WRLCK, 15, 10) == "EAGAIN"
        assert try_range(fcntl.F_RDLCK, 19, 1) == "EAGAIN"
        assert try_range(fcntl.F_WRLCK, 20, 10) is None
        assert try_range(fcntl.F_WRLCK, 15, 1, fcntl.F_OFD_SETLK) == "EAGAIN"

        def who():
            with opened(path, os.O_RDWR) as other:
                return struct.unpack("hhqqi4x", fcntl.fcntl(other, fcntl.F_GETLK, lock_record(fcntl.F_WRLCK, 0, 0)))

        assert harness.in_child(who).value == [fcntl.F_WRLCK, os.SEEK_SET, 10, 10, os.getpid()]
        # A lock of a process goes with any descriptor of the file that it closes.
        os.close(os.open(path, os.O_RDONLY))
        assert try_range(fcntl.F_WRLCK, 15, 10) is None


def test_locks_of_open_file_descriptions(mount, mode):
    mounted = mount(options=mode.options)
    path = mounted.path("f")
    make_file(path, b"x" * 100)
    with opened(path, os.O_RDWR) as one, opened(path, os.O_RDWR) as two:
        fcntl.fcntl(one, fcntl.F_OFD_SETLK, lock_record(fcntl.F_WRLCK, 0, 50))
        assert attempt(fcntl.fcntl, two, fcntl.F_OFD_SETLK, lock_record(fcntl.F_WRLCK, 40, 20)) == "EAGAIN"
        os.close(os.open(path, os.O_RDONLY))
        assert attempt(fcntl.fcntl, two, fcntl.F_OFD_SETLK, lock_record(fcntl.F_WRLCK, 40, 20)) == "EAGAIN"
        fcntl.fcntl(one, fcntl.F_OFD_SETLK, lock_record(fcntl.F_UNLCK, 0, 0))
        fcntl.fcntl(two, fcntl.F_OFD_SETLK, lock_record(fcntl.F_WRLCK, 40, 20))


def test_a_process_that_waits_for_a_lock_gets_it(mount, mode):
    mounted = mount(options=mode.options)
    path = mounted.path("f")
    make_file(path)
    out, into = os.pipe()
    got = []

    def wait():
        with opened(path, os.O_RDWR) as fd:
            os.write(into, b"1")
            fcntl.flock(fd, fcntl.LOCK_EX)
            fcntl.lockf(fd, fcntl.LOCK_EX)
            return True

    with opened(path, os.O_RDWR) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        waiter = threading.Thread(target=lambda: got.append(harness.in_child(wait).value))
        waiter.start()
        os.read(out, 1)
        # The daemon answers while somebody waits.
        for number in range(50):
            make_file(mounted.path(f"meanwhile{number}"))
        assert got == []
        fcntl.flock(fd, fcntl.LOCK_UN)
        waiter.join(harness.PATIENCE_S)
    os.close(out)
    os.close(into)
    assert got == [True]


def test_locks_between_users(mount, mode):
    """A lock of one user is in the way of another, of whatever kind it is, and is seen to be whose it is."""
    mounted = mount(options=mode.options)
    path = mounted.path("f")
    make_file(path, b"x" * 100, 0o666)

    def try_locks(person):
        def work():
            twins_module.become(person)
            with opened(path, os.O_RDWR) as fd:
                holder = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, lock_record(fcntl.F_WRLCK, 0, 0)))
                return [attempt(fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
                        attempt(lambda: fcntl.fcntl(fd, fcntl.F_SETLK, lock_record(fcntl.F_WRLCK, 5, 1)) and None),
                        attempt(lambda: fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock_record(fcntl.F_RDLCK, 9, 1)) and None),
                        holder[4] if holder[0] != fcntl.F_UNLCK else None]
        return harness.in_child(work).value

    def hold_and_try():
        twins_module.become(OWNER)
        with opened(path, os.O_RDWR) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX)
            fcntl.fcntl(fd, fcntl.F_SETLK, lock_record(fcntl.F_WRLCK, 0, 10))
            os.write(into, b"1")
            os.read(go_on, 1)
        return os.getpid()

    out, into = os.pipe()
    go_on, end = os.pipe()
    holder = []
    thread = threading.Thread(target=lambda: holder.append(harness.in_child(hold_and_try).value))
    thread.start()
    os.read(out, 1)
    seen = [try_locks(person) for person in (STRANGER, OWNER, ROOT)]
    os.write(end, b"1")
    thread.join(harness.PATIENCE_S)
    assert seen == [["EAGAIN", "EAGAIN", "EAGAIN", holder[0]]] * 3
    assert try_locks(STRANGER) == [None, None, None, None]
    for fd in (out, into, go_on, end):
        os.close(fd)


def test_a_lease_is_broken_by_who_opens_the_file(twins):
    """The holder is told by a signal, and the other gets the file when the lease has been given back."""
    def work():
        make_file("f", b"x")
        told = []
        signal.signal(signal.SIGIO, lambda *_: told.append("SIGIO"))
        with opened("f", os.O_RDONLY) as fd:
            seen = [attempt(fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)]
            seen.append(attempt(os.open, "f", os.O_WRONLY | os.O_NONBLOCK))
            harness.wait_until(lambda: told, "the signal")
            seen += [*told, attempt(fcntl.fcntl, fd, fcntl.F_GETLEASE),
                     attempt(fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_UNLCK),
                     attempt(lambda: os.close(os.open("f", os.O_WRONLY | os.O_NONBLOCK)))]
        return seen

    assert twins.same(work) == [0, "EAGAIN", "SIGIO", fcntl.F_UNLCK, 0, None]


def test_leases(twins):
    """Kept by the kernel: as many as it gives natively."""
    def work():
        make_file("f", b"x", 0o644, (os.getuid(), os.getgid()))
        seen = []
        with opened("f", os.O_RDONLY) as fd:
            for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK):
                seen += [attempt(fcntl.fcntl, fd, fcntl.F_SETLEASE, kind), attempt(fcntl.fcntl, fd, fcntl.F_GETLEASE)]
        return seen

    assert twins.same(work)[:2] == [0, fcntl.F_RDLCK]


# ---- Mappings ----

def test_shared_mappings_between_processes(mount, mode, disk_place):
    mounted = mount(folder=disk_place, options=mode.options)
    path = mounted.path("f")
    make_file(path, b"x" * 20_000)
    with opened(path, os.O_RDWR) as fd, mmap.mmap(fd, 20_000) as mapping:
        def work():
            with opened(path, os.O_RDWR) as other, mmap.mmap(other, 20_000) as theirs:
                theirs[5000:5005] = b"child"
                return text(theirs[0:5])
        mapping[0:5] = b"ours!"
        assert harness.in_child(work).value == "ours!"
        assert mapping[5000:5005] == b"child"
        # What is stored is read, and what is written is mapped, at once.
        assert os.pread(fd, 5, 5000) == b"child"
        os.pwrite(fd, b"write", 10_000)
        assert mapping[10_000:10_005] == b"write"
        with opened(path, os.O_RDONLY) as reader:
            mapping[15_000:15_005] = b"store"
            assert os.pread(reader, 5, 15_000) == b"store"
    assert read_file(path)[5000:5005] == b"child"
    mounted.wait_for("oldest", op="close", path="f")
    assert read_file(os.path.join(mounted.source, "f"))[15_000:15_005] == b"store"


def check_times_of_stores(mounted, between):
    """In place, where the kernel believes what it was told for an hour. @between: is called before the store."""
    path = mounted.path("f")
    make_file(path, b"x" * 9000)
    os.utime(path, (0, 0))
    with opened(path, os.O_RDWR) as fd, mmap.mmap(fd, 9000) as mapping:
        assert os.stat(path).st_mtime == 0
        between()
        mapping[0:5] = b"store"
    harness.wait_until(lambda: os.stat(path).st_mtime > 0, "the time of the stores", timeout=5)


def test_stores_through_a_mapping_move_the_times_that_stat_tells(mount, mode, disk_place):
    check_times_of_stores(mount(folder=disk_place, in_place=True, options=mode.options), lambda: None)


@pytest.mark.parametrize("passthrough", ["on", "off"])
def test_stores_move_the_times_when_a_worker_has_died(mount, disk_place, passthrough):
    """Over the classic transport, where the file stays open."""
    mounted = mount(folder=disk_place, in_place=True, options=f"transport=classic,passthrough={passthrough}")
    mounted.expect_stderr = True
    check_times_of_stores(mounted, mounted.kill_worker)


def test_sendfile_sends_what_was_stored_through_a_mapping(mount, mode, place):
    """
    From a descriptor that can write, the kernel takes the pages for it through its own cache. What it has taken is dropped
    at once, but by another thread: hence the repetition.
    """
    mounted = mount(options=mode.options)
    with opened(mounted.path("f"), os.O_RDWR | os.O_CREAT) as fd, open(os.path.join(place, "out"), "w+b") as out:
        os.pwrite(fd, b"old " * 4096, 0)

        def sent():
            out.seek(0)
            os.sendfile(out.fileno(), fd, 0, 16_384)
            return os.pread(out.fileno(), 4, 0)

        with mmap.mmap(fd, 16_384) as mapping:
            assert sent() == b"old "
            mapping[0:4] = b"new "
            harness.wait_until(lambda: sent() == b"new ", "what was stored to be sent")


def test_private_mappings_change_nothing(twins_in_mode):
    def work():
        make_file("f", b"x" * 9000)
        with opened("f", os.O_RDONLY) as fd, mmap.mmap(fd, 9000, mmap.MAP_PRIVATE,
                                                       mmap.PROT_READ | mmap.PROT_WRITE) as mapping:
            mapping[0:5] = b"local"
            return [text(mapping[0:6]), text(os.pread(fd, 5, 0))]

    assert twins_in_mode.same(work) == ["localx", "xxxxx"]


def test_mappings_outlive_descriptor_and_name(twins_in_mode):
    def work():
        make_file("f", b"x" * 9000)
        os.link("f", "g")
        fd = os.open("f", os.O_RDWR)
        mapping = mmap.mmap(fd, 9000)
        os.close(fd)
        os.unlink("f")
        mapping[4096:4101] = b"still"
        mapping.flush()
        mapping.close()
        return text(read_file("g")[4096:4101])

    assert twins_in_mode.same(work) == "still"


# ---- Programs ----

def test_programs_run_from_the_mount(mount, mode, disk_place):
    mounted = mount(folder=disk_place, options=mode.options)
    program, script = mounted.path("program"), mounted.path("script")
    write_file(program, read_file("/bin/echo"))
    write_file(script, f"#!{program}\n".encode())
    for path in (program, script):
        assert attempt(subprocess.run, [path]) == "EACCES"
        os.chmod(path, 0o755)
    assert subprocess.run([program, "it", "runs"], capture_output=True, check=True).stdout == b"it runs\n"
    assert subprocess.run([script, "x"], capture_output=True, check=True).stdout.split()[-1] == b"x"
    write_file(mounted.path("library.so"), read_file(next(path for path in map(os.path.realpath, shared_libraries()))))
    done = subprocess.run(["/bin/echo", "loaded"], capture_output=True, env={"LD_PRELOAD": mounted.path("library.so")})
    assert (done.stdout, done.stderr) == (b"loaded\n", b"")


def shared_libraries():
    with open("/proc/self/maps") as maps:
        return sorted({line.split()[-1] for line in maps if "libc.so" in line or "libm.so" in line})


def test_etxtbsy(twins_in_mode):
    """A program that runs cannot be written, and one that is being written cannot run."""
    def work():
        write_file("program", read_file("/bin/sleep"))
        os.chmod("program", 0o755)
        with opened("program", os.O_WRONLY):
            while_written = attempt(subprocess.run, ["./program", "0"])
        running = subprocess.Popen(["./program", "30"])
        while_running = [attempt(os.open, "program", os.O_WRONLY), attempt(os.truncate, "program", 0),
                         attempt(os.open, "program", os.O_RDWR | os.O_TRUNC)]
        os.rename("program", "renamed")
        os.unlink("renamed")
        running.terminate()
        return [while_written, *while_running, running.wait()]

    assert twins_in_mode.same(work) == ["ETXTBSY", "ETXTBSY", "ETXTBSY", "ETXTBSY", -15]


def test_a_program_runs_right_after_it_was_written(mount, mode):
    """A linker, then the program: no release that comes late makes it busy."""
    mounted = mount(options=mode.options)
    data = read_file("/bin/true")
    for number in range(30):
        path = mounted.path(f"program{number % 3}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        write_file(path, data)
        os.chmod(path, 0o755)
        assert subprocess.run([path]).returncode == 0


# ---- Fifos, sockets, devices ----

def test_fifos(mount):
    mounted = mount()
    path = mounted.path("fifo")
    os.mkfifo(path)

    def work():
        with open(path, "wb") as fifo:
            fifo.write(b"through a fifo" * 10_000)
        return True

    writer = threading.Thread(target=harness.in_child, args=(work,))
    writer.start()
    with open(path, "rb") as fifo:
        data = fifo.read()
    writer.join()
    assert data == b"through a fifo" * 10_000
    assert os.lstat(path).st_size == 0
    assert "write" not in [event["op"] for event in mounted.events()]


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_sockets(mount, kind):
    mounted = mount()

    def work():
        os.chdir(mounted.point)
        server = socket.socket(socket.AF_UNIX, kind)
        server.bind("socket")
        client = socket.socket(socket.AF_UNIX, kind)
        if kind == socket.SOCK_DGRAM:
            client.connect("socket")
            client.send(b"hello")
            found = server.recv(10).decode()
        else:
            server.listen()
            client.connect("socket")
            client.send(b"hello")
            found = server.accept()[0].recv(10).decode()
        other = socket.socket(socket.AF_UNIX, kind)
        return [found, attempt(other.bind, "socket"), os.unlink("socket"), attempt(other.connect, "socket")]

    assert harness.in_child(work).value == ["hello", "EADDRINUSE", None, "ENOENT"]


def test_device_nodes(twins):
    def work():
        seen = []
        for name, kind, device in (("null", stat.S_IFCHR, (1, 3)), ("zero", stat.S_IFCHR, (1, 5)),
                                   ("big", stat.S_IFCHR, (300, 70_000)), ("block", stat.S_IFBLK, (7, 200))):
            os.mknod(name, kind | 0o666, os.makedev(*device))
            st = os.lstat(name)
            seen.append([os.major(st.st_rdev), os.minor(st.st_rdev)])
        with opened("null", os.O_RDWR) as null, opened("zero", os.O_RDONLY) as zero:
            return [*seen, os.write(null, b"away"), attempt(os.read, null, 5), os.read(zero, 5).hex()]

    assert twins.same(work) == [[1, 3], [1, 5], [300, 70_000], [7, 200], 4, "", "00" * 5]


# ---- What stat says ----

def test_times_of_birth_are_the_sources(mount, mode, disk_place):
    mounted = mount(folder=disk_place, options=mode.options)
    make_file(mounted.path("f"), b"x")
    os.mkdir(mounted.path("d"))
    os.symlink("f", mounted.path("s"))
    for name in ("f", "d", "s", ""):
        born = calls.birth_time(mounted.path(name))
        assert born and born == calls.birth_time(os.path.join(mounted.source, name))
    os.utime(mounted.path("f"), (5, 5))
    assert calls.birth_time(mounted.path("f")) == calls.birth_time(os.path.join(mounted.source, "f"))


def test_all_of_stat_is_as_underneath(mount, mode, disk_place):
    mounted = mount(folder=disk_place, options=mode.options)
    make_file(mounted.path("f"), b"x" * 10_000, 0o640, (5, 6))
    os.utime(mounted.path("f"), ns=(123_456_789_012_345_678, 1_234_567_890_123_456_789))
    os.mkdir(mounted.path("d"))
    os.symlink("f", mounted.path("s"))
    os.mknod(mounted.path("n"), stat.S_IFCHR | 0o600, os.makedev(5, 300))

    def seen(root, name):
        st = os.lstat(os.path.join(root, name))
        return {field: getattr(st, field) for field in dir(st) if field.startswith("st_") and field != "st_dev"}

    for name in ("f", "d", "s", "n"):
        ours, real = seen(mounted.point, name), seen(mounted.source, name)
        assert ours == real, twins_module.differences(ours, real, "mount", "source")


def test_inode_numbers_are_the_sources_and_stay_over_remounts(mount, disk_place):
    mounted = mount(folder=disk_place)
    os.makedirs(mounted.path("d/e"))
    for number in range(50):
        make_file(mounted.path(f"d/e/{number}"))
    os.link(mounted.path("d/e/1"), mounted.path("link"))

    def inodes(root):
        found = {"": os.stat(root).st_ino}
        for folder, directories, files in os.walk(root):
            listed = {entry.name: entry.inode() for entry in os.scandir(folder)}
            for name in directories + files:
                path = os.path.join(folder, name)
                found[os.path.relpath(path, root)] = os.lstat(path).st_ino
                assert listed[name] == os.lstat(path).st_ino
        return found

    before = inodes(mounted.point)
    assert before == inodes(mounted.source)
    mounted.stop()
    mounted.start()
    assert inodes(mounted.point) == before


def test_statfs(twins):
    def numbers(root):
        found = os.statvfs(root)
        return [found.f_bsize, found.f_frsize, found.f_blocks, found.f_files, found.f_namemax]

    assert numbers(twins.mounted.point) == numbers(twins.native)
    # Others use the same disk meanwhile.
    ours, native = os.statvfs(twins.mounted.point), os.statvfs(twins.native)
    assert abs(ours.f_bavail - native.f_bavail) < native.f_blocks / 50


# ---- Directories ----

def fill(folder, names):
    for name in names:
        os.close(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


def test_readdir_is_stable_while_the_directory_changes(mount, mode, disk_place):
    """What is there the whole time is listed exactly once, whatever comes and goes beside it."""
    mounted = mount(start=False, folder=disk_place, options=mode.options)
    os.mkdir(os.path.join(mounted.source, "d"))
    stay = {f"stay-{number}-{'x' * 60}" for number in range(700)}
    fill(os.path.join(mounted.source, "d"), stay)
    fill(os.path.join(mounted.source, "d"), (f"go-{number}" for number in range(250)))
    mounted.start()
    with calls.Directory(mounted.path("d")) as directory:
        seen = []
        for number in range(250):
            seen += [directory.read(), directory.read()]
            os.unlink(mounted.path(f"d/go-{number}"))
            fill(mounted.path("d"), [f"come-{number}"])
        seen += directory.rest()
    staying = [name for name in seen if name.startswith("stay-")]
    assert len(staying) == len(set(staying)) and set(staying) == stay
    assert len(seen) == len(set(seen))
    assert seen.count(".") == seen.count("..") == 1


def test_removing_what_is_listed_as_rm_does(mount, mode, disk_place):
    mounted = mount(folder=disk_place, options=mode.options)
    os.mkdir(mounted.path("d"))
    fill(mounted.path("d"), (f"file-with-a-long-name-{number}" for number in range(600)))
    with calls.Directory(mounted.path("d")) as directory:
        while (name := directory.read()) is not None:
            if name not in (".", ".."):
                os.unlink(mounted.path("d", name))
    assert attempt(os.rmdir, mounted.path("d")) is None


def test_telldir_and_seekdir(mount, mode, disk_place):
    mounted = mount(start=False, folder=disk_place, options=mode.options)
    os.mkdir(os.path.join(mounted.source, "d"))
    fill(os.path.join(mounted.source, "d"), (f"file-with-a-long-name-{number}" for number in range(1200)))
    mounted.start()
    with calls.Directory(mounted.path("d")) as directory:
        places = []
        while True:
            place = directory.tell()
            name = directory.read()
            if name is None:
                break
            places.append((place, name))
        assert len(places) == 1202
        for place, name in random.Random(1).sample(places, 100):
            directory.seek(place)
            assert directory.read() == name
        directory.seek(places[900][0])
        assert directory.rest() == [name for _, name in places[900:]]


def test_rewinddir_sees_what_is_new(mount, mode):
    mounted = mount(options=mode.options)
    fill(mounted.point, ["a", "b"])
    with calls.Directory(mounted.point) as directory:
        assert sorted(directory.rest()) == [".", "..", "a", "b"]
        fill(mounted.point, ["c"])
        os.unlink(mounted.path("a"))
        directory.rewind()
        assert sorted(directory.rest()) == [".", "..", "b", "c"]


@pytest.mark.limit(120 + BIG_DIRECTORY // 500)
def test_a_large_directory(mount, disk_place):
    mounted = mount(start=False, folder=disk_place)
    wanted = {f"entry-{number:07d}" for number in range(BIG_DIRECTORY)}
    os.mkdir(os.path.join(mounted.source, "d"))
    fill(os.path.join(mounted.source, "d"), wanted)
    mounted.start()
    names = os.listdir(mounted.path("d"))
    assert len(names) == BIG_DIRECTORY and set(names) == wanted
    # With every attribute, as ls -l and find ask for them.
    assert sum(entry.stat().st_nlink for entry in os.scandir(mounted.path("d"))) == BIG_DIRECTORY
    fill(mounted.path("d"), (f"new-{number}" for number in range(200)))
    for number in range(200):
        os.rename(mounted.path(f"d/new-{number}"), mounted.path(f"d/newer-{number}"))
        os.unlink(mounted.path(f"d/entry-{number:07d}"))
    names = set(os.listdir(mounted.path("d")))
    assert names == wanted - {f"entry-{n:07d}" for n in range(200)} | {f"newer-{n}" for n in range(200)}


# ---- Large files ----

def test_files_over_4_gib(twins_in_mode):
    def work():
        with opened("f", os.O_RDWR | os.O_CREAT) as fd:
            os.pwrite(fd, b"beyond", 5 * GIB + 123)
            os.pwrite(fd, b"start", 0)
            os.pwrite(fd, b"edge" * 2, 4 * GIB - 4)
            seen = [os.fstat(fd).st_size, text(os.pread(fd, 6, 5 * GIB + 123)), text(os.pread(fd, 8, 4 * GIB - 4)),
                    os.pread(fd, 4, GIB).hex(), os.lseek(fd, 4 * GIB + 8192, os.SEEK_DATA)]
            with mmap.mmap(fd, 8192, offset=5 * GIB) as mapping:
                seen.append(text(mapping[123:129]))
                mapping[4096:4100] = b"mmap"
                seen.append(len(mapping))
        return seen

    def finish():
        with opened("f", os.O_RDWR) as fd:
            os.ftruncate(fd, 6 * GIB)
            seen = [os.copy_file_range(fd, fd, 6, 5 * GIB + 123, 6 * GIB), os.fstat(fd).st_size]
            os.ftruncate(fd, 4 * GIB + 2)
            return [*seen, text(os.pread(fd, 20, 4 * GIB - 4)), os.stat("f").st_size]

    def make():
        make_file("f")
        os.truncate("f", 5 * GIB + 8192)

    twins_in_mode.same(make)
    assert twins_in_mode.same(work)[:4] == [5 * GIB + 8192, "beyond", "edgeedge", "00" * 4]
    assert twins_in_mode.same(finish) == [6, 6 * GIB + 6, "edgeed", 4 * GIB + 2]
    write, _ = twins_in_mode.mounted.wait_for("oldest", op="write", offset=5 * GIB + 123)
    assert (write["length"], write["size"]) == (6, 5 * GIB + 8192)


# ---- File handles ----

def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("2")


@pytest.mark.skipif(not harness.IS_ROOT, reason="open_by_handle_at(2) takes CAP_DAC_READ_SEARCH")
@pytest.mark.parametrize("killed", [False, True], ids=["", "worker_killed"])
def test_a_file_handle_outlives_what_the_kernel_has_in_its_cache(mount, disk_place, killed):
    mounted = mount(folder=disk_place, options="transport=classic")
    for number in range(300):
        os.makedirs(mounted.path(f"d{number % 7}/deep"), exist_ok=True)
        make_file(mounted.path(f"d{number % 7}/deep/f{number}"), b"%d" % number)
    paths = [f"d{number % 7}/deep/f{number}" for number in range(300)]
    handles = {path: syscalls.name_to_handle(mounted.path(path)) for path in [*paths, "d3/deep"]}
    os.unlink(mounted.path(paths[5]))
    os.rename(mounted.path(paths[6]), mounted.path("moved"))

    def are_forgotten():
        drop_caches()
        return mounted.status()["inodes"] < 10
    harness.wait_until(are_forgotten, "the kernel to forget")
    if killed:
        mounted.expect_stderr = True
        mounted.kill_worker()
    root = os.open(mounted.point, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number, path in enumerate(paths):
            if number == 5:
                with pytest.raises(OSError) as caught:
                    syscalls.open_by_handle(root, handles[path], os.O_RDONLY)
                assert caught.value.errno == errno.ESTALE
                continue
            fd = syscalls.open_by_handle(root, handles[path], os.O_RDONLY)
            assert os.read(fd, 10) == b"%d" % number
            os.close(fd)
        # A directory is joined to the tree again, up to its root.
        fd = syscalls.open_by_handle(root, handles["d3/deep"], os.O_RDONLY | os.O_DIRECTORY)
        assert os.readlink(f"/proc/self/fd/{fd}") == mounted.path("d3/deep")
        assert "f3" in os.listdir(fd)
        os.close(fd)
        fd = syscalls.open_by_handle(root, handles[paths[10]], os.O_WRONLY)
        os.write(fd, b"by handle")
        os.close(fd)
    finally:
        os.close(root)
    event, _ = mounted.wait_for("oldest", op="write", length=9)
    assert event["path"] == paths[10]


@pytest.mark.skipif(not harness.IS_ROOT, reason="open_by_handle_at(2) takes CAP_DAC_READ_SEARCH")
def test_a_file_handle_of_an_earlier_mount_leads_to_no_other_file(mount):
    mounted = mount()
    names = [f"f{number}" for number in range(50)]
    for name in names:
        make_file(mounted.path(name), name.encode())
    handles = [syscalls.name_to_handle(mounted.path(name)) for name in names]
    mounted.stop()
    again = mount(source=mounted.source)
    for name in reversed(names):
        os.stat(again.path(name))
    root = os.open(again.point, os.O_RDONLY | os.O_DIRECTORY)
    for handle in handles:
        with pytest.raises(OSError) as caught:
            syscalls.open_by_handle(root, handle, os.O_RDONLY)
        assert caught.value.errno == errno.ESTALE
    os.close(root)


# ---- Flags of files ----

def test_chattr_moves_the_time_of_change(twins):
    """Which the kernel believes to know: the request is not one that changes attributes."""
    twins.same(lambda: make_file("f", b"x"))

    def work():
        before = os.stat("f").st_ctime_ns
        time.sleep(0.02)
        done = subprocess.run(["chattr", "+A", "f"], capture_output=True)
        return [done.returncode, os.stat("f").st_ctime_ns > before]

    answer, has_moved = twins.same(work)
    assert has_moved == (answer == 0)


def test_lsattr_and_chattr(twins):
    """FS_IOC_GETFLAGS and FS_IOC_SETFLAGS go through, where the source has them; a+i hold as they do natively."""
    def work():
        make_file("f", b"x")
        make_directory("d")
        seen = []
        for flag in ("+d", "+A", "+i", "-i", "+a"):
            done = subprocess.run(["chattr", flag, "f"], capture_output=True)
            listed = subprocess.run(["lsattr", "-d", "f"], capture_output=True, text=True)
            seen.append([flag, done.returncode, listed.returncode, listed.stdout.split()[:1],
                         attempt(lambda: os.close(os.open("f", os.O_WRONLY))),
                         attempt(lambda: os.close(os.open("f", os.O_WRONLY | os.O_APPEND))),
                         attempt(os.rename, "f", "f"), attempt(os.link, "f", "other"), attempt(os.chmod, "f", 0o640),
                         attempt(os.truncate, "f", 5)])
            if os.path.lexists("other"):
                os.unlink("other")
        seen.append(subprocess.run(["chattr", "-a", "f"], capture_output=True).returncode)
        seen.append(subprocess.run(["chattr", "+A", "d"], capture_output=True).returncode)
        seen.append(subprocess.run(["lsattr", "-d", "d"], capture_output=True, text=True).stdout.split()[:1])
        return seen

    seen = twins.same(work)
    if seen[2][1] == 0:
        assert seen[2][4] == "EPERM" and seen[3][4] is None
