"""
mount.hrfs while one of its calls fails: it may refuse, or end with a clear message. It never crashes or hangs, loses no event that
a program was told of, and leaves no stale mount.

HRFS_FAULTS is how many places are tried for each kind of call; they lie ever further apart.
"""

import contextlib
import errno
import os
import threading

import pytest

import disk_image
import harness
from test_kill import compare, read_only_while_open

FAULTS = int(os.environ.get("HRFS_FAULTS", "5"))
INJECT = os.path.join(harness.BUILD, "tests/fault/inject.so")
needs_injection = pytest.mark.skipif(not os.path.exists(INJECT), reason="this build has no fault injection")

# Of some thousand allocations, some dozen syncs; the last places are while it serves, or never reached.
SPREAD = {"memory": 4000, "write": 600, "sync": 24, "grow": 60, "sqlite": 600}


def places(kind):
    """From the first call to the last one of interest, each so many times further than the one before."""
    ratio = SPREAD[kind] ** (1 / max(FAULTS - 1, 1))
    return sorted({max(1, round(ratio ** i)) for i in range(FAULTS)})


class Diary:
    """What a small storm was told: done, or failed, with whatever error."""

    def __init__(self, folder):
        self.folder = folder
        self.lines = []

    def path(self, path):
        return os.path.join(self.folder, path)

    def call(self, function, *what):
        """Returns (whether it was done, what it returned)."""
        try:
            value = function()
        except OSError as error:
            assert error.errno not in (errno.EEXIST, errno.ENOENT), f"a call was made twice, or not at all: {what}"
            self.lines.append(("tried", *what))
            return False, None
        self.lines.append(("did", *what))
        return True, value

    def write_file(self, path):
        is_done, fd = self.call(lambda: os.open(self.path(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644),
                                "create", path)
        if not is_done:
            return False
        for offset in (0, 1000, 2000):
            self.call(lambda: os.pwrite(fd, b"x" * 1000, offset), "write", path, offset, 1000)
        # Either may be refused, and neither is a change.
        for function in (os.fsync, os.close):
            with contextlib.suppress(OSError):
                function(fd)
        return True

    def storm(self):
        for number in range(40):
            folder = f"storm{number}"
            is_done, _ = self.call(lambda: os.mkdir(self.path(folder)), "mkdir", folder)
            if is_done and self.write_file(f"{folder}/a"):
                self.call(lambda: os.rename(self.path(f"{folder}/a"), self.path(f"{folder}/b")),
                          "rename", f"{folder}/a", f"{folder}/b")


def wrapper(fault):
    return ["env", f"LD_PRELOAD={INJECT}", f"HRFS_FAULT={fault}"]


def try_with_fault(mounted, fault):
    """A mount's life with a fault. Returns what the storm wrote down; the daemon has ended."""
    mounted.wrapper = wrapper(fault)
    diary = Diary(mounted.point)
    try:
        mounted.start()
    except (AssertionError, harness.TimeIsUp):
        assert mounted.process.poll() is not None, f"{fault}: hangs at its start"
    else:
        with mounted.subscribe("oldest"):
            diary.storm()
        mounted.stop()
    if mounted.process:
        mounted.exit_status = mounted.process.wait(harness.PATIENCE_S)
        mounted.process = None
    return diary.lines


@needs_injection
def test_links_where_a_descriptor_alone_does_not_do(mount):
    """Before Linux 6.10 the kernel wants CAP_DAC_READ_SEARCH for that."""
    mounted = mount(start=False)
    mounted.wrapper = wrapper("link:1+")
    mounted.start()
    with open(mounted.path("a"), "w") as file:
        file.write("text")
    os.link(mounted.path("a"), mounted.path("b"))
    os.symlink("a", mounted.path("c"))
    os.link(mounted.path("c"), mounted.path("d"), follow_symlinks=False)
    assert os.path.samefile(mounted.path("a"), mounted.path("b")) and os.readlink(mounted.path("d")) == "a"
    with pytest.raises(FileNotFoundError):
        os.link(mounted.path("a"), mounted.path("missing/b"))


@needs_injection
def test_a_file_that_was_made_when_the_worker_died_is_logged_and_open(mount, a_user):
    """An ordinary user's worker may not open for writing what it has made read-only."""
    mounted = mount(start=False, options="transport=classic", user=a_user if harness.IS_ROOT else None)
    mounted.expect_stderr = True
    mounted.wrapper = wrapper("made:1")
    mounted.start()
    worker = mounted.status()["worker_pid"]
    done = harness.in_child(read_only_while_open(mounted.path("f"), lambda: None), mounted.user)
    assert done.value == [4, "text", 0o444]
    assert mounted.status()["worker_pid"] != worker
    assert [event["op"] for event in mounted.events() if event.get("path") == "f"][:2] == ["create", "write"]


@pytest.fixture
def small_source(place):
    with disk_image.small_disk(os.path.join(place, "small"), 1 << 20) as point:
        yield point


@needs_injection
def test_a_short_write_is_answered_as_short_when_the_worker_died(small_source, mount):
    mounted = mount(start=False, source=small_source, options="transport=classic")
    mounted.expect_stderr = True
    mounted.wrapper = wrapper("short:1")
    mounted.start()
    worker = mounted.status()["worker_pid"]
    with open(mounted.path("f"), "wb", buffering=0) as file:
        # Room for a part of the one request that comes next.
        os.posix_fallocate(file.fileno(), 0, 600 << 10)
        assert 0 < (written := os.pwrite(file.fileno(), bytes(1000 << 10), 600 << 10)) < 1000 << 10
    event, _ = mounted.wait_for(1, op="write")
    assert event["length"] == written and os.path.getsize(mounted.path("f")) == (600 << 10) + written
    assert mounted.status()["worker_pid"] != worker


@pytest.fixture
def late(mount):
    """A mount that takes its time to log a truncation, with a file that is not empty."""
    mounted = mount(start=False, options="transport=classic")
    mounted.wrapper = wrapper("late:1+")
    mounted.start()
    with open(mounted.path("a"), "w") as file:
        file.write("old text")
    return mounted


@contextlib.contextmanager
def truncated(mounted, name):
    """By an open; inside, that is done and not logged yet."""
    thread = threading.Thread(target=lambda: os.close(os.open(mounted.path(name), os.O_WRONLY | os.O_TRUNC)))
    thread.start()
    harness.wait_until(lambda: os.path.getsize(os.path.join(mounted.source, name)) == 0, "the truncation")
    yield
    thread.join()


@needs_injection
def test_a_truncation_by_open_is_logged_before_the_write_that_follows_it(late):
    since = late.sync()
    with truncated(late, "a"):
        fd = os.open(late.path("a"), os.O_WRONLY)
        os.write(fd, b"new")
        os.close(fd)
    changes = [event for event in late.events() if event["seq"] > since and event["op"] in ("write", "truncate")]
    assert [(event["op"], event["size"]) for event in changes] == [("truncate", 0), ("write", 3)]


@needs_injection
def test_an_event_does_not_call_a_file_by_a_name_that_was_removed_before_it(late):
    # The name that was made last is the one in events.
    os.link(late.path("a"), late.path("b"))
    since = late.sync()
    with truncated(late, "a"):
        os.unlink(late.path("b"))
    changes = [(event["op"], event["path"]) for event in late.events() if event["seq"] > since]
    assert changes[:2] == [("unlink", "b"), ("truncate", "a")]


def check_end(mounted, fault):
    assert mounted.exit_status >= 0, f"{fault}: ended by signal {-mounted.exit_status}"
    assert "ended by signal" not in mounted.stderr(), f"{fault}: {mounted.stderr()}"
    assert mounted.exit_status == 0 or mounted.stderr(), f"{fault}: ended without a word"
    assert harness.mounts_below(mounted.folder) == [], f"{fault}: a stale mount"


@needs_injection
@pytest.mark.limit(600)
@pytest.mark.parametrize("kind", SPREAD)
def test_a_fault_loses_no_event(mount, kind, show):
    ended = 0
    for number in places(kind):
        fault = f"{kind}:{number}"
        mounted = mount(start=False)
        lines = try_with_fault(mounted, fault)
        check_end(mounted, fault)
        ended += mounted.exit_status != 0
        mounted.wrapper = []
        mounted.expect_stderr = True
        mounted.start()
        mounted.settle()
        events = mounted.events()
        compare(lines, events)
        mounted.stop()
        mounted.check()
    show(f"{len(places(kind))} faults of {kind}: {ended} times the daemon ended")
