"""Nothing is lost: not by a storm, not with thousands of files, not for slow subscribers."""

import contextlib
import errno
import multiprocessing
import os
import random
import re
import resource
import selectors
import shutil
import subprocess
import sys
import time

import pytest

import harness
import syscalls
import workloads

FILES = 4500


def count_seen(path, pattern):
    with open(path, errors="surrogateescape") as lines:
        return len(set(re.findall(pattern, lines.read(), re.MULTILINE)))


@contextlib.contextmanager
def inotifywait(folder, out):
    """What inotifywait sees below @folder, a path a line, in the file @out."""
    with open(out, "w") as output, open(out + ".stderr", "w") as errors:
        watcher = subprocess.Popen(["inotifywait", "-m", "-r", "-e", "close_write", "--format", "%w%f", folder],
                                   stdout=output, stderr=errors)
    try:
        harness.wait_until(lambda: "Watches established" in open(out + ".stderr").read(), "inotifywait")
        yield watcher
    finally:
        watcher.terminate()
        watcher.wait(harness.PATIENCE_S)


def test_hrfs_loses_nothing_of_what_inotifywait_loses(mount, place, show):
    tarball = os.path.join(place, "tree.tar")
    workloads.make_tarball(tarball, FILES)
    mounted = mount()
    native, out = os.path.join(place, "native"), os.path.join(place, "inotify")
    os.mkdir(native)
    with inotifywait(native, out + ".native"):
        workloads.untar(tarball, native)
    with inotifywait(mounted.point, out), mounted.subscribe() as subscription:
        workloads.untar(tarball, mounted.point)
        os.mkdir(mounted.path("end"))
        events = subscription.until(lambda event: event["path"] == "end")
        created = {event["path"] for event in events if event["op"] == "create"}
        closed = {event["path"] for event in events if event["op"] == "close"}
        while len(closed) < FILES:
            closed |= {event["path"] for event in subscription.until(lambda event: event["op"] == "close")}
    on_mount, on_native = (count_seen(path, r"^.*file\d+\.txt$") for path in (out, out + ".native"))
    show(f"close after writing, of {FILES} files of an untar: inotifywait saw {on_native} natively and {on_mount} "
         f"on the mount; hrfs {len(closed)}")
    assert len(created) == len(closed) == FILES


def test_10000_random_writes_are_10000_events(mount, mode):
    mounted = mount(options=mode.options)
    chance = random.Random(2)
    writes = [(chance.randrange(8 << 20), chance.choice([1, 100, 4096, 10000, 65536])) for _ in range(10000)]
    fd = os.open(mounted.path("f"), os.O_RDWR | os.O_CREAT)
    for offset, length in writes:
        assert os.pwrite(fd, b"x" * length, offset) == length
    os.close(fd)
    mounted.settle()
    events = [event for event in mounted.events() if (event["op"], event["origin"]) == ("write", "vfs")]
    assert [(event["offset"], event["length"]) for event in events] == writes


def test_a_write_beyond_the_largest_request_adds_up(mount, mode):
    mounted = mount(options=mode.options)
    size = 20 << 20
    fd = os.open(mounted.path("f"), os.O_WRONLY | os.O_CREAT)
    assert os.pwrite(fd, b"x" * size, 4096) == size
    os.close(fd)
    mounted.settle()
    end = 4096
    for event in mounted.events():
        if event["op"] == "write" and event["path"] == "f":
            assert event["offset"] == end
            end += event["length"]
            assert event["size"] == end
    assert end == 4096 + size


# ---- A large tree and few descriptors ----

def make_large_tree(root, files):
    """Few different contents, so that git can take it in quickly."""
    contents = [f"content {number}\n" * 10 for number in range(100)]
    for number in range(files):
        folder = f"{root}/d{number // 1000}"
        if number % 1000 == 0:
            os.mkdir(folder)
        with open(f"{folder}/f{number}", "w") as file:
            file.write(contents[number % 100])


def test_the_table_of_descriptors_is_large_from_the_start(mount):
    """The kernel makes a request wait each time it has to make it larger."""
    mounted = mount(start=False, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)))
    mounted.start()
    with open(f"/proc/{mounted.status()['worker_pid']}/status") as status:
        size = next(int(line.split()[1]) for line in status if line.startswith("FDSize:"))
    assert size > 1024, f"room for {size} descriptors, and 1024 may be cached"


@pytest.mark.limit(500)
def test_200000_files_with_1024_descriptors(mount, show):
    files = 200_000
    mounted = mount(start=False, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)))
    make_large_tree(mounted.source, files)
    workloads.git(mounted.source, "init", "-q")
    workloads.git(mounted.source, "add", "-A")
    mounted.start()

    found = workloads.run("find", mounted.point, "-path", "*/.git", "-prune", "-o", "-type", "f", "-print")
    assert found.count("\n") == files
    matches = workloads.run("grep", "-r", "-l", "--exclude-dir=.git", "content 42$", mounted.point)
    assert matches.count("\n") == files // 100
    status = workloads.git(mounted.point, "status", "--porcelain")
    assert status.count("\nA ") + status.startswith("A ") == files
    worker = mounted.status()["worker_pid"]
    descriptors = len(os.listdir(f"/proc/{worker}/fd"))
    show(f"{files} files, 1024 descriptors allowed: the worker has {descriptors} open")
    assert descriptors < 1024
    workloads.run("rm", "-rf", *[mounted.path(name) for name in os.listdir(mounted.point)])
    assert os.listdir(mounted.source) == []


def test_as_many_files_can_be_written_as_descriptors_are_allowed(mount):
    """Descriptors kept for speed make room for those that programs need."""
    mounted = mount(start=False, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)))
    make_large_tree(mounted.source, 1000)
    mounted.start()
    workloads.run("find", mounted.point, "-type", "f", "-exec", "setfattr", "-n", "user.a", "-v", "b", "{}", "+")
    descriptors = len(os.listdir(f"/proc/{mounted.status()['worker_pid']}/fd"))
    assert descriptors > 200, "nothing was kept"
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(mounted.path(f"new{number}"), "w")) for number in range(1024 - 100)]
        for file in files:
            file.write("x")
    assert sum(name.startswith("new") for name in os.listdir(mounted.source)) == len(files)


@pytest.mark.parametrize("passthrough", ["on", "off"])
@pytest.mark.parametrize("allowed", [64, 300, 1024])
def test_who_holds_all_the_files_he_can_keeps_nobody_from_looking(mount, allowed, passthrough):
    mounted = mount(start=False, options=f"passthrough={passthrough}",
                    preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed)))
    make_large_tree(mounted.source, 1000)
    mounted.start()
    folder = os.path.join(mounted.point, sorted(os.listdir(mounted.point))[0])
    old = os.path.join(folder, sorted(os.listdir(folder))[0])
    with open(mounted.path("written"), "w") as writer:
        writer.write("x")
        writer.flush()
        with contextlib.ExitStack() as stack, open(mounted.path("written")) as reader:
            held = 0
            with pytest.raises(OSError) as refused:
                for held in range(allowed):
                    stack.enter_context(open(mounted.path(f"new{held}"), "w"))
            assert refused.value.errno == errno.ENFILE and not os.path.exists(mounted.path(f"new{held}"))
            with pytest.raises(OSError) as refused:
                open(old, "r+").close()
            assert refused.value.errno == errno.ENFILE
            # The files that are open already, and everything that needs no descriptor for longer than its request.
            assert reader.read() == "x"
            for number in range(held):
                os.stat(mounted.path(f"new{number}"))
            workloads.run("find", mounted.point, "-ls")
            if passthrough == "on":
                with open(old) as file:
                    file.read()
            os.mkdir(mounted.path("d"))
            os.rename(old, mounted.path("d/moved"))
            os.link(mounted.path("d/moved"), old)
            os.unlink(old)
            os.truncate(mounted.path("new0"), 5)
            assert mounted.sync()
    with open(mounted.path("written"), "r+") as file:
        file.write("y")
    with open(mounted.path("after"), "w") as file:
        file.write("x")


def test_a_worker_that_follows_has_room_for_what_is_open_already(mount):
    """Its descriptors are opened when they are needed: new files must not take their places."""
    mounted = mount(start=False, options="transport=classic",
                    preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)))
    mounted.start()
    mounted.expect_stderr = True
    with contextlib.ExitStack() as stack:
        files = []

        def open_all():
            with pytest.raises(OSError) as refused:
                for number in range(128):
                    files.append(stack.enter_context(open(mounted.path(f"{len(files)}"), "wb", buffering=0)))
            assert refused.value.errno == errno.ENFILE
            return len(files)

        before = open_all()
        mounted.kill_worker()
        # A descriptor or two that the first worker had for itself may be free.
        assert open_all() < before + 10
        for file in files:
            file.write(b"x")


def test_who_is_in_a_removed_directory_is_not_hit_by_those_who_hold_all_files(mount):
    mounted = mount(start=False, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)))
    mounted.start()
    os.mkdir(mounted.path("d"))
    folder = os.open(mounted.path("d"), os.O_PATH | os.O_DIRECTORY)
    os.rmdir(mounted.path("d"))
    with contextlib.ExitStack() as stack:
        with pytest.raises(OSError) as refused:
            for number in range(128):
                stack.enter_context(open(mounted.path(f"{number}"), "wb"))
        assert refused.value.errno == errno.ENFILE
        time.sleep(1.2)
        assert os.fstat(folder).st_nlink == 0
    os.close(folder)


def test_an_open_file_is_found_after_it_was_moved_behind_the_mount(mount):
    """Out of the tree, its descriptor has gone from the cache by then, and its name leads to another file."""
    mounted = mount(start=False, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)))
    mounted.expect_replay = False
    make_large_tree(mounted.source, 1000)
    real, outside = os.path.join(mounted.source, "f"), mounted.source + ".outside"
    with open(real, "w") as file:
        file.write("the one")
    mounted.start()
    with open(mounted.path("f")) as file:
        os.rename(real, outside)
        with open(real, "w") as other:
            other.write("another that is longer")
        workloads.run("sh", "-c", 'find "$1" -type f -exec cat {} + >/dev/null', "-", mounted.point)
        # Reading makes the kernel ask for the time of it.
        assert file.read() == "the one"
        now, moved = os.fstat(file.fileno()), os.stat(outside)
        assert (now.st_ino, now.st_size) == (moved.st_ino, len("the one"))


def test_a_file_with_another_name_needs_no_descriptor_when_one_is_removed(mount):
    mounted = mount()
    count = 300
    for number in range(count):
        with open(mounted.path(f"temporary{number}"), "w") as file:
            file.write("x")
        os.link(mounted.path(f"temporary{number}"), mounted.path(f"f{number}"))
        os.unlink(mounted.path(f"temporary{number}"))
    descriptors = os.listdir(f"/proc/{mounted.status()['worker_pid']}/fd")
    assert len(descriptors) < count, "one is kept for each"
    assert all(os.stat(mounted.path(f"f{number}")).st_nlink == 1 for number in range(count))


def shared_memory(pid):
    """Bytes that the daemon's tables take in fact, which live in a file without a name."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{fd}"
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(path).startswith("/memfd:hrfs-tables"):
                return os.stat(path).st_blocks * 512
    raise AssertionError("no tables")


def test_forgotten_inodes_give_their_memory_back(mount):
    """Those that are removed, and those that the kernel no longer has, because their names have gone."""
    files = 30_000
    mounted = mount(start=False)
    # What goes away behind the mount cannot be in the log.
    mounted.expect_replay = False
    make_large_tree(mounted.source, files)
    mounted.start()
    worker = mounted.status()["worker_pid"]

    def look():
        workloads.run("find", mounted.point, "-type", "f", "-size", "+0")
        assert mounted.status()["inodes"] > files
        return mounted.status()["table_memory"], shared_memory(worker)

    known, taken = look()
    assert known <= 250 * files + (1 << 20)
    workloads.run("rm", "-rf", *[mounted.path(name) for name in os.listdir(mounted.point)])
    harness.wait_until(lambda: mounted.status()["inodes"] == 1, "the inodes to be forgotten")
    assert mounted.status()["table_memory"] < known / 5 and shared_memory(worker) < taken / 5

    make_large_tree(mounted.source, files)
    known, taken = look()
    for name in os.listdir(mounted.source):
        shutil.rmtree(os.path.join(mounted.source, name))

    def are_forgotten():
        # The kernel lets go of a name when it asks again and there is none.
        for number in range(files):
            os.path.exists(mounted.path(f"d{number // 1000}/f{number}"))
        return mounted.status()["inodes"] < files / 10
    harness.wait_until(are_forgotten, "the inodes to be forgotten")
    # The last 4,096 are kept for those who come with a file handle; memory is given back by the 4,096, and they may lie on some sides of a border.
    kept = 2 << 20
    assert mounted.status()["table_memory"] < known / 5 + kept and shared_memory(worker) < taken / 5 + kept


def rename_until(folder, files, stop):
    while time.monotonic() < stop:
        for old, new in (("f", "g"), ("g", "f")):
            for number in range(files):
                os.rename(f"{folder}/{old}{number}", f"{folder}/{new}{number}")


def test_a_file_is_found_while_it_is_renamed(mount):
    """It was never opened, so nothing but its name leads to it."""
    mounted = mount(start=False)
    files, seconds = 200, 6
    for number in range(files):
        open(os.path.join(mounted.source, f"f{number}"), "w").close()
    mounted.start()
    descriptors = [os.open(mounted.path(f"f{number}"), os.O_PATH) for number in range(files)]
    stop = time.monotonic() + seconds
    renamer = multiprocessing.get_context("fork").Process(target=rename_until, args=(mounted.point, files, stop))
    renamer.start()
    while time.monotonic() < stop:
        for fd in descriptors:
            syscalls.stat_again(fd)
    renamer.join()
    assert renamer.exitcode == 0
    for fd in descriptors:
        os.close(fd)


# ---- Subscribers ----

class Reader:
    """A subscriber that checks the order as it reads and keeps no more than a digest."""

    def __init__(self, path, since):
        self.path = path
        self.last = since
        self.open()

    def open(self):
        self.connection = harness.Subscription(self.path, self.last)
        self.connection.socket.setblocking(False)
        self.rest = self.connection.buffer
        self.connection.buffer = b""
        self.take(b"")

    def take(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b'{"seq":'):
                seq = int(line[7:line.index(b",")])
                assert seq == self.last + 1, "a hole, or a repeat"
                self.last = seq
            else:
                assert line.startswith(b'{"caught_up":'), line

    def read(self):
        data = self.connection.socket.recv(1 << 18)
        assert data, "the server closed the connection"
        self.take(data)

    def close(self):
        self.connection.close()
        self.rest = b""


def anonymous_memory(pid):
    """Bytes that the process has allocated; the mapped journal is not among them."""
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"RssAnon:\s*(\d+) kB", status.read()).group(1)) << 10


def read_until(readers, is_over):
    """Let all @readers read what comes, until @is_over()."""
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader.connection.socket, selectors.EVENT_READ, reader)
        while not is_over():
            for key, _ in selector.select(0.1):
                key.data.read()


@pytest.mark.limit(300)
def test_50_subscribers_each_get_every_event_once(mount, show):
    mounted = mount()
    storm_script = os.path.join(os.path.dirname(__file__), "storm.py")
    start = mounted.sync()
    readers = [Reader(mounted.socket, start) for _ in range(48)]
    stopped = Reader(mounted.socket, start)
    killed = Reader(mounted.socket, start)
    worker = mounted.status()["worker_pid"]
    before = peak = anonymous_memory(worker)

    for half in range(2):
        storm = subprocess.Popen([sys.executable, storm_script, mounted.point, f"storm{half}",
                                  os.path.join(mounted.folder, "diary"), "500"], stdin=subprocess.PIPE)

        def is_over():
            nonlocal peak
            peak = max(peak, anonymous_memory(worker))
            return storm.poll() is not None

        # One of them dies after the first half, and is back after the second with what it had.
        read_until(readers + ([killed] if half == 0 else []), is_over)
        assert storm.returncode == 0
        killed.close() if half == 0 else killed.open()

    mounted.settle()
    end = mounted.sync()
    read_until([*readers, killed, stopped], lambda: all(reader.last >= end for reader in [*readers, killed, stopped]))
    after = anonymous_memory(worker)
    show(f"50 subscribers, {end - start} events each; the worker's memory: {before >> 10} KiB before, "
         f"{peak >> 10} at most, {after >> 10} after")
    assert end - start > 20_000
    assert peak - before < 32 << 20


def write_the_first_byte(path):
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"x", 0)
    os.close(fd)


def write_far_and_truncate(path):
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"y", 20000)
    os.close(fd)
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))


def open_and_close(path):
    os.close(os.open(path, os.O_WRONLY))


def repeat_until(function, path, end):
    while time.monotonic() < end:
        function(path)


def wrong_sizes(events):
    """Events that tell another size than those before them come to."""
    size = 0
    for event in events:
        if event["op"] == "truncate":
            size = event["size"]
        elif event["op"] == "write":
            size = max(size, event["offset"] + event["length"])
        if event["op"] in ("truncate", "write", "close") and event["size"] != size:
            yield f"{event['seq']}: {event['op']} says {event['size']}, not {size}"


def test_each_size_in_the_log_is_that_of_its_place(mount, far_mode):
    mounted = mount(options=far_mode.options)
    path = mounted.path("f")
    with open(path, "wb"):
        pass
    end = time.monotonic() + 4
    workers = [multiprocessing.Process(target=repeat_until, args=(function, path, end))
               for function in (write_the_first_byte, write_far_and_truncate, open_and_close, open_and_close)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    mounted.sync()
    assert not list(wrong_sizes(event for event in mounted.events() if event.get("path") == "f"))[:10]
