"""
Random input and output on a few files, each beside a model in memory: a bytearray that has the same done to it.

Every answer is compared with the model: what a read returns, how much a call says it did, and the size. An operation
that the source's file system does not know is not used. The sequence depends on the seed alone (and on how much of a
copy the kernel makes at a time), so a failure comes again.
"""

import collections
import contextlib
import errno
import mmap
import os
import random

import calls
import syscalls

SIZE_MAX = 300_000       # bytes; the files stay below this
LENGTH_MAX = 70_000      # bytes of one operation: more than one page of anything
DESCRIPTORS_MAX = 6      # a file
MAPPINGS_MAX = 3         # a file
HISTORY = 25             # operations shown when one is wrong
PAGE = mmap.PAGESIZE

HOW_TO_OPEN = [os.O_RDWR, os.O_RDWR, os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_APPEND, os.O_WRONLY | os.O_APPEND,
               os.O_RDWR | os.O_SYNC]

ZERO_RANGE = syscalls.FALLOC_FL_ZERO_RANGE
KEEP_SIZE = syscalls.FALLOC_FL_KEEP_SIZE
PUNCH_HOLE = syscalls.FALLOC_FL_PUNCH_HOLE | KEEP_SIZE


class Differs(AssertionError):
    pass


class Descriptor:
    def __init__(self, path, flags):
        self.fd = os.open(path, flags)
        self.can_read = flags & os.O_ACCMODE != os.O_WRONLY
        self.can_write = flags & os.O_ACCMODE != os.O_RDONLY
        self.appends = bool(flags & os.O_APPEND)


class File:
    """A file, the descriptors and mappings of it, and what must be in it."""

    def __init__(self, path):
        self.path = path
        self.data = bytearray()
        self.mappings = []
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        self.descriptors = [Descriptor(path, flags) for flags in (os.O_RDWR, os.O_RDONLY, os.O_RDWR | os.O_APPEND)]

    def close(self):
        for mapping in self.mappings:
            mapping.close()
        for descriptor in self.descriptors:
            os.close(descriptor.fd)

    def resize(self, size):
        if size < len(self.data):
            del self.data[size:]
        else:
            self.data.extend(bytes(size - len(self.data)))

    def put(self, offset, data):
        if offset > len(self.data):
            self.resize(offset)
        self.data[offset:offset + len(data)] = data


def supported(folder, mode):
    """Whether the file system of @folder has this mode of fallocate."""
    path = os.path.join(folder, "can-it")
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.ftruncate(fd, 4 * PAGE)
        syscalls.fallocate(fd, mode, PAGE, PAGE)
        return True
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return False
    finally:
        os.close(fd)
        os.unlink(path)


class Play:
    """A run of random operations on @count files in @folder, which lies on the mount; @source is what is underneath."""

    def __init__(self, folder, source, seed, count):
        self.chance = random.Random(seed)
        self.source = source
        self.allocations = [mode for mode in (0, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE)
                            if supported(source, mode)]
        self.files = [File(os.path.join(folder, f"file{number}")) for number in range(count)]
        self.history = collections.deque(maxlen=HISTORY)
        self.counts = collections.Counter()
        # More than enough, made once: random bytes are slow to come by.
        self.noise = self.chance.randbytes(LENGTH_MAX + 4096)

    def close(self):
        for file in self.files:
            file.close()

    # ---- Choosing ----

    def length(self):
        """Mostly small; now and then many pages."""
        most = self.chance.choice((1, 100, 5000, 5000, LENGTH_MAX))
        return self.chance.randint(1, most)

    def bytes(self, length):
        at = self.chance.randrange(4096)
        return self.noise[at:at + length]

    def place(self, file, beyond=0):
        """An offset in @file, or up to @beyond bytes after its end; pages' edges are likelier than others."""
        offset = self.chance.randint(0, min(len(file.data) + beyond, SIZE_MAX - LENGTH_MAX))
        if self.chance.random() < 0.3:
            offset -= offset % PAGE
        return offset

    def descriptor(self, file, wanted):
        return self.chance.choice([d for d in file.descriptors if wanted(d)])

    def writer(self, file):
        return self.descriptor(file, lambda d: d.can_write)

    def placed_writer(self, file):
        return self.descriptor(file, lambda d: d.can_write and not d.appends)

    def reader(self, file):
        return self.descriptor(file, lambda d: d.can_read)

    # ---- Comparing ----

    def note(self, *what):
        self.history.append(" ".join(map(str, what)))

    def same(self, found, wanted, what):
        if found == wanted:
            return
        if isinstance(wanted, (bytes, bytearray)):
            at = next((i for i, (a, b) in enumerate(zip(found, wanted)) if a != b), min(len(found), len(wanted)))
            what += (f": {len(found)} bytes for {len(wanted)}, the first difference at {at}: "
                     f"{bytes(found[at:at + 8]).hex()} for {bytes(wanted[at:at + 8]).hex()}")
        else:
            what += f": {found} for {wanted}"
        raise Differs("\n".join([what, "after:", *self.history]))

    def check_size(self, file):
        self.same(os.fstat(self.chance.choice(file.descriptors).fd).st_size, len(file.data), "fstat's size")
        self.same(os.stat(file.path).st_size, len(file.data), "stat's size")

    def check_all(self, file):
        """The whole file, through the mount and, once stores are written back, underneath."""
        self.check_size(file)
        self.same(os.pread(self.reader(file).fd, SIZE_MAX + PAGE, 0), file.data, f"contents of {file.path}")
        for mapping in file.mappings:
            mapping.flush()
        with open(os.path.join(self.source, os.path.basename(file.path)), "rb") as real:
            self.same(real.read(), file.data, f"contents of {file.path} underneath")

    # ---- Operations: on the file and on its model ----

    def read(self, file):
        offset, length = self.place(file, 5000), self.length()
        self.note("read", file.path, offset, length)
        data = os.pread(self.reader(file).fd, length, offset)
        self.same(data, file.data[offset:offset + length], "read")

    def read_by_position(self, file):
        offset, length, fd = self.place(file), self.length(), self.reader(file).fd
        self.note("lseek and read", file.path, offset, length)
        os.lseek(fd, offset, os.SEEK_SET)
        self.same(os.read(fd, length), file.data[offset:offset + length], "read after lseek")

    def write(self, file):
        writer, data = self.placed_writer(file), self.bytes(self.length())
        offset = self.place(file, 20_000)
        self.note("write", file.path, offset, len(data))
        self.same(os.pwrite(writer.fd, data, offset), len(data), "pwrite's answer")
        file.put(offset, data)

    def write_vector(self, file):
        writer, offset = self.placed_writer(file), self.place(file)
        parts = [self.bytes(self.chance.randint(1, 3000)) for _ in range(3)]
        self.note("pwritev", file.path, offset, [len(part) for part in parts])
        self.same(os.pwritev(writer.fd, parts, offset), sum(map(len, parts)), "pwritev's answer")
        file.put(offset, b"".join(parts))

    def append(self, file):
        writer = next((d for d in file.descriptors if d.appends), None)
        data = self.bytes(self.length())
        if writer is None or len(file.data) + len(data) > SIZE_MAX:
            return
        self.note("append", file.path, len(file.data), len(data))
        self.same(os.write(writer.fd, data), len(data), "write's answer")
        self.same(os.lseek(writer.fd, 0, os.SEEK_CUR), len(file.data) + len(data), "the position after an append")
        file.put(len(file.data), data)

    def truncate(self, file):
        size = self.place(file, 20_000)
        self.note("truncate", file.path, size)
        if self.chance.random() < 0.5:
            os.ftruncate(self.writer(file).fd, size)
        else:
            os.truncate(file.path, size)
        file.resize(size)

    def allocate(self, file):
        if not self.allocations:
            return
        mode, writer = self.chance.choice(self.allocations), self.writer(file)
        offset, length = self.place(file, 5000), self.length()
        self.note("fallocate", file.path, "mode", mode, offset, length)
        syscalls.fallocate(writer.fd, mode, offset, length)
        if not mode & KEEP_SIZE and offset + length > len(file.data):
            file.resize(offset + length)
        if mode & (PUNCH_HOLE | ZERO_RANGE) & ~KEEP_SIZE:
            end = min(offset + length, len(file.data))
            if end > offset:
                file.data[offset:end] = bytes(end - offset)

    def copy(self, file):
        """Within a file or between two; where it would overlap, it must be refused."""
        target = self.chance.choice(self.files)
        reader, writer = self.reader(file), self.placed_writer(target)
        from_offset, to_offset, length = self.place(file), self.place(target, 5000), self.length()
        self.note("copy_file_range", file.path, from_offset, target.path, to_offset, length)
        wanted = max(0, min(length, len(file.data) - from_offset))
        if target is file and wanted and abs(from_offset - to_offset) < wanted:
            with contextlib.suppress(OSError):
                os.copy_file_range(reader.fd, writer.fd, wanted, from_offset, to_offset)
                raise Differs("an overlapping copy was made")
            return
        # It may copy less than it was asked for, so go on until there is no more.
        while wanted:
            copied = os.copy_file_range(reader.fd, writer.fd, wanted, from_offset, to_offset)
            if not 0 < copied <= wanted:
                self.same(copied, wanted, "copy_file_range's answer")
            target.put(to_offset, file.data[from_offset:from_offset + copied])
            from_offset, to_offset, wanted = from_offset + copied, to_offset + copied, wanted - copied

    def send(self, file):
        """sendfile(2), which is splice inside the kernel."""
        target = self.chance.choice(self.files)
        if target is file:
            return
        reader, writer = self.reader(file), self.placed_writer(target)
        from_offset, to_offset, length = self.place(file), self.place(target), self.length()
        self.note("sendfile", file.path, from_offset, target.path, to_offset, length)
        os.lseek(writer.fd, to_offset, os.SEEK_SET)
        sent = os.sendfile(writer.fd, reader.fd, from_offset, length)
        wanted = file.data[from_offset:from_offset + length]
        self.same(sent, len(wanted), "sendfile's answer")
        target.put(to_offset, wanted)

    def map(self, file):
        if len(file.mappings) == MAPPINGS_MAX:
            file.mappings.pop(self.chance.randrange(MAPPINGS_MAX)).close()
        if not file.data:
            return
        # Stores need a descriptor that can read as well.
        fd = self.descriptor(file, lambda d: d.can_read and d.can_write).fd
        length = self.chance.randint(1, len(file.data))
        self.note("mmap", file.path, length)
        file.mappings.append(mmap.mmap(fd, length))

    def mapped_range(self, file):
        """A mapping, and a range in it that lies before the end of the file: beyond is a bus error."""
        usable = file.mappings if file.data else []
        if not usable:
            return None
        mapping = self.chance.choice(usable)
        end = min(len(mapping), len(file.data))
        offset = self.chance.randrange(end)
        return mapping, offset, min(end, offset + self.length())

    def store(self, file):
        found = self.mapped_range(file)
        if not found:
            return
        mapping, offset, end = found
        self.note("store", file.path, offset, end - offset)
        data = self.bytes(end - offset)
        mapping[offset:end] = data
        file.put(offset, data)
        if self.chance.random() < 0.3:
            self.note("msync", file.path)
            mapping.flush()

    def load(self, file):
        found = self.mapped_range(file)
        if not found:
            return
        mapping, offset, end = found
        self.note("load", file.path, offset, end - offset)
        self.same(mapping[offset:end], file.data[offset:end], "what a mapping shows")

    def reopen(self, file):
        """Other descriptors; the first three stay, so that every operation finds one."""
        if len(file.descriptors) == DESCRIPTORS_MAX:
            os.close(file.descriptors.pop(self.chance.randrange(3, DESCRIPTORS_MAX)).fd)
        flags = self.chance.choice(HOW_TO_OPEN)
        if flags & os.O_ACCMODE != os.O_RDONLY and self.chance.random() < 0.05:
            flags |= os.O_TRUNC
            file.resize(0)
        self.note("open", file.path, oct(flags))
        file.descriptors.append(Descriptor(file.path, flags))

    def synchronise(self, file):
        descriptor = self.chance.choice(file.descriptors)
        self.note("sync", file.path)
        self.chance.choice((os.fsync, os.fdatasync))(descriptor.fd)

    OPERATIONS = {
        read: 20, read_by_position: 5, write: 20, write_vector: 3, append: 6, truncate: 5, allocate: 8, copy: 6,
        send: 3, map: 3, store: 12, load: 8, reopen: 4, synchronise: 2,
    }

    def run(self, operations):
        kinds, weights = list(self.OPERATIONS), list(self.OPERATIONS.values())
        for number in range(1, operations + 1):
            kind, file = self.chance.choices(kinds, weights)[0], self.chance.choice(self.files)
            kind(self, file)
            self.counts[kind.__name__] += 1
            if number % 10 == 0:
                self.check_size(file)
            if number % 250 == 0:
                self.check_all(file)
        for file in self.files:
            self.check_all(file)
