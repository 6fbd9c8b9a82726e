"""
Whatever an outsider can grow has a limit, and who behaves badly harms nobody else.

HRFS_RENAMED_FILES is the number of files that are made in a directory that is renamed meanwhile; 20,000 where it is not set.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import threading

import pytest

import harness
from test_kill import Storms, compare

PESTS_OF_A_KIND = 250
CONNECTIONS_MAX = 4096
LINE_MAX = 65536
RENAMED_FILES = int(os.environ.get("HRFS_RENAMED_FILES", 20_000))


def memory(pid, what="VmRSS"):
    """In KiB, without pages of files."""
    with open(f"/proc/{pid}/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(what + ":"))


def sockets(pid):
    count = 0
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:")
    return count


@contextlib.contextmanager
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(mounted):
    """A connection also when the server has not yet taken all those that came before: theirs is a queue of 1,024."""
    def try_it():
        with contextlib.suppress(BlockingIOError):
            return mounted.connect()
        return None
    return harness.wait_until(try_it, "a place in the queue")


# ---- The limits ----

def refusal(mounted, line):
    """The error that a line gets."""
    with mounted.connect() as connection:
        connection.send_raw(line)
        error = connection.receive()["error"]
        assert connection.is_at_end()
        return error


@pytest.mark.parametrize("newline", [b"", b"\n"], ids=["without its end", "whole"])
def test_a_line_has_at_most_65536_bytes(mount, newline):
    mounted = mount()
    line = b'{"sync":{}' + b" " * (LINE_MAX - 12) + b"}"
    assert len(line) == LINE_MAX - 1
    with mounted.connect() as connection:
        connection.send_raw(line + b"\n")
        assert "sync" in connection.receive()
    assert refusal(mounted, line[:-1] + b" }" + newline)["code"] == "EMSGSIZE"
    assert mounted.status()


def test_a_request_nests_at_most_16_deep(mount):
    mounted = mount()
    for depth in (17, 1000, 30000):
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            line = b'{"sync":' + opening * (depth if opening == b"[" else depth // 3) + closing
            assert refusal(mounted, line + b"\n")["code"] in ("EBADMSG", "EINVAL")
    assert mounted.status()


@pytest.mark.parametrize("request_", [
    {"manual": {"path": "a", "note": "x" * 256}}, {"manual": {"path": "a/../b"}},
    {"subscribe": {"since": 2 ** 64}},
], ids=["note", "dots", "number"])
def test_what_a_request_holds_has_a_limit(mount, request_):
    mounted = mount()
    assert refusal(mounted, json.dumps(request_).encode() + b"\n")["code"]
    assert mounted.status()


def is_full(mounted):
    with mounted.connect() as connection:
        # Who is refused has been hung up on, and has the reason to read.
        with contextlib.suppress(BrokenPipeError):
            connection.send({"status": {}})
        return connection.receive().get("error", {}).get("code") == "EUSERS"


def test_there_are_at_most_4096_connections(mount):
    mounted = mount()
    worker = mounted.status()["worker_pid"]
    # The connection that has asked may still be among them.
    before = sockets(worker)
    with many_descriptors(), contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS_MAX):
            stack.enter_context(connect(mounted))
        harness.wait_until(lambda: is_full(mounted), "all connections")
        with mounted.connect() as connection:
            assert connection.receive()["error"]["code"] == "EUSERS"
            assert connection.is_at_end()
        open(mounted.path("f"), "w").close()
    harness.wait_until(lambda: sockets(worker) <= before + 2, "descriptors to come back")
    assert mounted.status()


def test_requests_that_wait_are_not_taken_in(mount):
    """The server reads on only when it has answered: what more is asked stays in the socket, and then with who asks."""
    mounted = mount()
    worker = mounted.status()["worker_pid"]
    before = memory(worker)
    with mounted.connect() as connection:
        connection.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            for _ in range(100_000):
                connection.socket.send(b'{"status":{}}\n' * 100)
        assert mounted.status()
        assert memory(worker) - before < 16 << 10
        # None was lost: all of it is answered when it is read.
        connection.socket.setblocking(True)
        connection.socket.shutdown(1)
        answers = sum(len(lines) for lines in iter(connection.read_lines, []))
        assert answers > 1000


# ---- A thousand pests ----

def is_served(mounted):
    with connect(mounted) as connection:
        # One that is refused may be closed by now; the answer can be read all the same.
        with contextlib.suppress(BrokenPipeError):
            connection.send({"sync": {}})
        answer = connection.receive()
    assert "sync" in answer or answer["error"]["code"] == "EUSERS"
    return "sync" in answer


@contextlib.contextmanager
def pests(mounted):
    script = os.path.join(os.path.dirname(__file__), "pests.py")
    with many_descriptors():
        process = subprocess.Popen([sys.executable, script, mounted.socket, str(PESTS_OF_A_KIND)], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        said, _ = process.communicate()
    assert process.returncode == 0 and "floods" in said


@pytest.mark.parametrize("transport", ["classic"])
def test_a_thousand_bad_subscribers_harm_nobody(mount, transport, show):
    mounted = mount(options=f"transport={transport}")
    for number in range(2000):
        open(mounted.path(f"old{number}"), "w").close()
    worker = mounted.status()["worker_pid"]
    memory_before, sockets_before = memory(worker, "RssAnon"), sockets(worker)
    seen, followers = [[], []], []

    def follow(subscription, into):
        for event in subscription.events():
            into.append(event["seq"])
            if event["path"] == "the last one":
                return
    with contextlib.ExitStack() as stack:
        for into in seen:
            subscription = stack.enter_context(mounted.subscribe("oldest"))
            followers.append(threading.Thread(target=follow, args=[subscription, into]))
            followers[-1].start()
        with Storms(mounted) as storms:
            with pests(mounted):
                for _ in range(5):
                    storms.wait_for_progress()
                # Those who come and go may hold all connections for a moment.
                harness.wait_until(lambda: is_served(mounted), "a connection")
                memory_during = memory(worker, "RssAnon")
            storms.wait_for_progress()
        open(mounted.path("the last one"), "w").close()
        for follower in followers:
            follower.join(harness.PATIENCE_S)
            assert not follower.is_alive(), "a good subscriber waits"
    for seqs in seen:
        assert seqs == list(range(1, len(seqs) + 1)), "a good subscriber missed an event"
    # A subscriber holds one run of lines, one answer and one request at most.
    assert memory_during - memory_before < 4 * PESTS_OF_A_KIND * 64
    harness.wait_until(lambda: sockets(worker) <= sockets_before + 2, "descriptors to come back")
    assert mounted.status()["worker_pid"] == worker
    did, failed, extra = compare(storms.lines(), mounted.events())
    assert (failed, extra) == (0, 0)
    show(f"1,000 bad subscribers: {did} changes, all seen by the good ones; {(memory_during - memory_before) >> 10} MiB for them")


# ---- Files in a directory that is renamed to and fro ----

class Tree:
    """A tree of dicts, in which renaming a directory moves one reference however much is in it."""

    def __init__(self):
        self.root = {}

    def folder(self, path):
        *parents, name = path.split("/")
        at = self.root
        for parent in parents:
            at = at[parent]
        return at, name

    def add(self, path, what):
        folder, name = self.folder(path)
        assert name not in folder, path
        folder[name] = what

    def take(self, path):
        folder, name = self.folder(path)
        return folder.pop(name)

    def apply(self, event):
        if event["op"] in ("create", "mkdir"):
            self.add(event["path"], {} if event["op"] == "mkdir" else None)
        elif event["op"] == "unlink":
            self.take(event["path"])
        elif event["op"] == "rename":
            self.add(event["to"], self.take(event["path"]))
        elif event["op"] in ("write", "close"):
            folder, name = self.folder(event["path"])
            # A file that has been removed by then keeps its last path.
            assert event["op"] == "close" or name in folder, event


def tree_on_disk(path):
    return {entry.name: tree_on_disk(entry.path) if entry.is_dir() else None for entry in os.scandir(path)}


@pytest.mark.limit(600)
def test_files_are_made_in_a_directory_that_is_renamed_meanwhile(mount, show):
    mounted = mount()
    # The model of the fixture moves every name below a directory; ours does not.
    mounted.expect_replay = False
    names = [mounted.path(name) for name in ("here", "there")]
    os.mkdir(names[0])
    os.mkdir(mounted.path("deeper"))
    names.append(mounted.path("deeper/still"))
    folder = os.open(names[0], os.O_PATH)
    stop = threading.Event()
    renames = []

    def rename():
        at = 0
        while not stop.is_set():
            to = (at + 1) % len(names)
            os.rename(names[at], names[to])
            renames.append((names[at], names[to]))
            at = to
    renamer = threading.Thread(target=rename)
    renamer.start()
    try:
        for number in range(RENAMED_FILES):
            fd = os.open(f"f{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder)
            os.write(fd, b"x")
            os.close(fd)
            if number % 3 == 0:
                os.rename(f"f{number}", f"g{number}", src_dir_fd=folder, dst_dir_fd=folder)
            if number % 7 == 0:
                os.unlink(f"g{number}" if number % 3 == 0 else f"f{number}", dir_fd=folder)
    finally:
        stop.set()
        renamer.join()
        os.close(folder)
    mounted.settle()
    events = mounted.events()

    def count(op):
        return sum(event["op"] == op and event["path"] != ".settled" for event in events)
    assert count("create") == count("write") == RENAMED_FILES
    assert count("unlink") == len(range(0, RENAMED_FILES, 7))
    assert count("rename") == len(renames) + len(range(0, RENAMED_FILES, 3))
    tree = Tree()
    for event in events:
        tree.apply(event)
    assert tree.root == tree_on_disk(mounted.source)
    show(f"{RENAMED_FILES} files in a directory that was renamed {len(renames)} times")
