"""A tree with one of everything that a copy can lose: links, holes, owners, times, attributes, devices."""

import os
import random
import struct

import calls
import syscalls
from twins import MEMBER, OWNER, STRANGER, TEAM, attempt, make_directory, make_file

EPOCH_NS = 1_700_000_000 * 10**9

KIB = 1 << 10

# cap_net_raw+ep, as setcap(8) stores it.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


def make_sparse(path, size, islands):
    """A file of @size bytes of which only what lies at these offsets is there."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    for offset in islands:
        os.pwrite(fd, b"island" * 700, offset)
    os.ftruncate(fd, size)
    os.close(fd)


def make_plain(root):
    chance = random.Random(3)
    for number in range(60):
        folder = f"{root}/plain/{number % 7}"
        os.makedirs(folder, exist_ok=True)
        make_file(f"{folder}/file{number}", chance.randbytes(chance.choice([0, 1, 5000, 70_000])),
                  chance.choice([0o600, 0o644, 0o755, 0o400, 0]), chance.choice([(0, 0), (OWNER.uid, OWNER.gid)]))
    make_file(f"{root}/plain/{'n' * 255}", b"a long name")
    make_file(os.fsencode(root) + b"/plain/\xff \n\xe4", b"a name that is no text")


def make_linked(root):
    make_directory(f"{root}/linked")
    make_file(f"{root}/linked/one", b"linked")
    for name in ("two", "three"):
        os.link(f"{root}/linked/one", f"{root}/linked/{name}")
    os.symlink("one", f"{root}/linked/symlink")
    os.symlink("/nowhere/" + "x" * 200, f"{root}/linked/dangling")
    os.lchown(f"{root}/linked/dangling", OWNER.uid, OWNER.gid)
    os.link(f"{root}/linked/dangling", f"{root}/linked/dangling-too", follow_symlinks=False)


def make_sparse_files(root):
    make_directory(f"{root}/sparse")
    make_sparse(f"{root}/sparse/holes-inside", 3000 * KIB, [0, 1024 * KIB, 2048 * KIB])
    make_sparse(f"{root}/sparse/hole-at-the-end", 1024 * KIB, [0])
    make_sparse(f"{root}/sparse/hole-at-the-start", 1028 * KIB, [1024 * KIB])
    make_sparse(f"{root}/sparse/only-a-hole", 1024 * KIB, [])
    fd = os.open(f"{root}/sparse/punched", os.O_RDWR | os.O_CREAT, 0o644)
    os.pwrite(fd, b"x" * 256 * KIB, 0)
    syscalls.fallocate(fd, syscalls.FALLOC_FL_PUNCH_HOLE | syscalls.FALLOC_FL_KEEP_SIZE, 64 * KIB, 128 * KIB)
    os.close(fd)


def make_attributed(root):
    """ACLs, extended attributes, set-id bits and owners."""
    make_directory(f"{root}/attributed", 0o2770, (OWNER.uid, TEAM))
    path = f"{root}/attributed/file"
    make_file(path, b"attributed", 0o640, (OWNER.uid, TEAM))
    os.setxattr(path, "system.posix_acl_access", calls.acl(6, 4, 0, 6, {MEMBER.uid: 6, STRANGER.uid: 4}, {TEAM: 2}))
    # An older kernel's tmpfs does without these.
    attempt(os.setxattr, path, "user.text", b"value")
    attempt(os.setxattr, path, "user.bytes", bytes(range(256)))
    os.setxattr(path, "trusted.hrfs-test", b"for root")
    os.setxattr(f"{root}/attributed", "system.posix_acl_default", calls.acl(7, 5, 0, 7, {MEMBER.uid: 7}))
    os.setxattr(f"{root}/attributed", "system.posix_acl_access", calls.acl(7, 7, 0, 7, {MEMBER.uid: 7}))
    make_file(f"{root}/attributed/program", b"#!/bin/sh\n", 0o4755, (OWNER.uid, OWNER.gid))
    make_file(f"{root}/attributed/capable", b"#!/bin/sh\n", 0o755)
    os.setxattr(f"{root}/attributed/capable", "security.capability", CAPABILITY)
    make_directory(f"{root}/attributed/sticky", 0o1777)


def make_special(root):
    make_directory(f"{root}/special")
    os.mkfifo(f"{root}/special/fifo", 0o620)
    os.mknod(f"{root}/special/null", 0o020666, os.makedev(1, 3))
    os.mknod(f"{root}/special/disk", 0o060640, os.makedev(7, 200))


def set_times(root):
    """Each its own, to the nanosecond; children before their directory, which changes with them."""
    count = 0
    for folder, folders, files in os.walk(os.fsencode(root), topdown=False):
        for name in (*files, *folders):
            count += 1
            when = EPOCH_NS + count * 1_000_000_007
            os.utime(os.path.join(folder, name), ns=(when, when), follow_symlinks=False)
    os.utime(root, ns=(EPOCH_NS, EPOCH_NS))


def make(root):
    os.makedirs(root)
    for make_part in (make_plain, make_linked, make_sparse_files, make_attributed, make_special):
        make_part(root)
    set_times(root)
