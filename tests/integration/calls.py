"""More system calls and C library functions that Python's os module lacks; syscalls.py has those that change names."""

import contextlib
import ctypes
import os
import struct

from syscalls import AT_FDCWD, check, libc

AT_EMPTY_PATH = 0x1000

FALLOC_FL_COLLAPSE_RANGE = 8
FALLOC_FL_INSERT_RANGE = 32
FALLOC_FL_UNSHARE_RANGE = 64

CAP_SYS_ADMIN = 21
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 4
CAP_FSETID = 4

STATX_BTIME = 0x800

IN_ATTRIB, IN_CREATE = 0x4, 0x100

libc.opendir.restype = ctypes.c_void_p
libc.closedir.argtypes = libc.readdir.argtypes = libc.telldir.argtypes = libc.rewinddir.argtypes = [ctypes.c_void_p]
libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


def link_open_file(fd, name):
    """Give the file behind @fd another name, also when it has none."""
    check(libc.linkat(AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, os.fsencode(name), 0x400))


def syncfs(fd):
    check(libc.syncfs(fd))


def birth_time(path):
    """When the file was made, in nanoseconds, or None where the file system does not know."""
    answer = ctypes.create_string_buffer(256)
    check(libc.statx(AT_FDCWD, os.fsencode(path), 0x100, STATX_BTIME, answer))
    if not struct.unpack_from("=I", answer, 0)[0] & STATX_BTIME:
        return None
    seconds, nanoseconds = struct.unpack_from("=qI", answer, 80)
    return seconds * 10**9 + nanoseconds


def drop_capability(number):
    """Take one of the first 32 capabilities out of this process' effective set."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    check(libc.capget(header, sets))
    sets[0] &= ~(1 << number)
    check(libc.capset(header, sets))


def keep_capabilities():
    """The effective set of this process stays when its user changes."""
    check(libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0))


class Directory:
    """A directory stream of the C library."""

    def __init__(self, path):
        self.stream = libc.opendir(os.fsencode(path))
        if not self.stream:
            check(-1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        libc.closedir(self.stream)

    def read(self):
        """The next name, or None at the end. "." and ".." come as well."""
        ctypes.set_errno(0)
        entry = libc.readdir(self.stream)
        if not entry:
            if ctypes.get_errno():
                check(-1)
            return None
        # ino, off, reclen and type stand before the name.
        return os.fsdecode(ctypes.string_at(entry + 19))

    def rest(self):
        """The names from here to the end."""
        return list(iter(self.read, None))

    def tell(self):
        return libc.telldir(self.stream)

    def seek(self, position):
        libc.seekdir(self.stream, position)

    def rewind(self):
        libc.rewinddir(self.stream)


class Watch:
    """inotify on one directory, as somebody who looks from behind the mount has it."""

    def __init__(self, path, mask):
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        check(self.fd)
        check(libc.inotify_add_watch(self.fd, os.fsencode(path), mask))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def seen(self):
        """[(mask, name)] since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.fd, 65536):
                while data:
                    _, mask, _, length = struct.unpack_from("=iIII", data)
                    found.append((mask, os.fsdecode(data[16:16 + length].rstrip(b"\0"))))
                    data = data[16 + length:]
        return found


# ---- POSIX ACLs, as extended attributes carry them ----

ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER = 1, 2, 4, 8, 16, 32


def acl(owner, group, other, mask=None, users=None, groups=None):
    """The value of system.posix_acl_*: permissions are 0 to 7, @users and @groups are {id: permissions}."""
    nobody = 0xffffffff
    entries = [(ACL_USER_OBJ, owner, nobody)]
    entries += [(ACL_USER, allowed, uid) for uid, allowed in sorted((users or {}).items())]
    entries += [(ACL_GROUP_OBJ, group, nobody)]
    entries += [(ACL_GROUP, allowed, gid) for gid, allowed in sorted((groups or {}).items())]
    if mask is not None:
        entries += [(ACL_MASK, mask, nobody)]
    entries += [(ACL_OTHER, other, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
