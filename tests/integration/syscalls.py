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
    return result


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


AT_EMPTY_PATH = 0x1000
AT_STATX_FORCE_SYNC = 0x2000
STATX_BASIC_STATS = 0x7ff


def stat_again(fd):
    """Have the file system asked for the attributes of @fd, whatever the kernel knows of them."""
    buffer = ctypes.create_string_buffer(256)
    check(libc.statx(fd, b"", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, buffer))


HANDLE_MAX = 128


def name_to_handle(path):
    """The file handle of @path, as open_by_handle() takes it."""
    handle = ctypes.create_string_buffer(struct.pack("=Ii", HANDLE_MAX, 0), 8 + HANDLE_MAX)
    check(libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), handle, ctypes.byref(ctypes.c_int()), 0))
    return handle


def open_by_handle(mount_fd, handle, flags):
    return check(libc.open_by_handle_at(mount_fd, handle, flags))
