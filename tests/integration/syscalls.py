"""System calls that Python's os module has no name for."""

import ctypes
import os
import struct

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
FALLOC_FL_ZERO_RANGE = 16

AT_FDCWD = -100

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def check(result):
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def renameat2(old, new, flags):
    check(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), ctypes.c_uint(flags)))


def fallocate(fd, mode, offset, length):
    check(libc.fallocate(fd, mode, offset, length))


def getdents64(fd, buffer, size):
    """Returns how many bytes of entries were written to @buffer, as dirent64 in <dirent.h>."""
    length = libc.getdents64(fd, buffer, ctypes.c_size_t(size))
    check(length)
    return length


def entries(fd, size):
    """The next names of an open directory, as getdents64(2) gives them for @size bytes; none at the end."""
    buffer = ctypes.create_string_buffer(size)
    length = getdents64(fd, buffer, size)
    names, at = [], 0
    while at < length:
        (record,) = struct.unpack_from("H", buffer, at + 16)
        names.append(buffer.raw[at + 19:at + record].split(b"\0")[0].decode())
        at += record
    return names


def read_all(fd, size):
    names = []
    while piece := entries(fd, size):
        names += piece
    return [name for name in names if name not in (".", "..")]
