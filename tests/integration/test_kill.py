"""kill -9 at any moment: every change that a program was told of has its event, once."""

import collections
import contextlib
import json
import mmap
import os
import random
import signal
import subprocess
import sys
import time

import pytest

import harness

KILLS = 20
STORMS = 3

TRANSPORTS = ["classic", "io_uring"]


@pytest.fixture(params=TRANSPORTS)
def transport(request):
    if request.param == "io_uring":
        request.getfixturevalue("with_uring")
    return request.param


class Storms:
    """A few storms on one mount, and their diaries."""

    def __init__(self, mounted):
        self.mounted = mounted
        self.processes = {}

    def __enter__(self):
        script = os.path.join(os.path.dirname(__file__), "storm.py")
        for number in range(STORMS):
            name = f"storm{number}"
            diary = os.path.join(self.mounted.folder, f"diary{number}")
            self.processes[name] = diary, subprocess.Popen(
                [sys.executable, script, self.mounted.point, name, diary, "1000000"], stdin=subprocess.PIPE)
        return self

    def __exit__(self, *_):
        for _, process in self.processes.values():
            process.stdin.close()
        for _, process in self.processes.values():
            try:
                process.wait(harness.PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise

    def wait_for_progress(self):
        """Until every storm has done something since the call: it is in the middle of its work."""
        sizes = {diary: os.path.getsize(diary) if os.path.exists(diary) else 0
                 for diary, _ in self.processes.values()}
        harness.wait_until(lambda: all(os.path.exists(diary) and os.path.getsize(diary) > size
                                       for diary, size in sizes.items()), "the storms to go on")

    def lines(self):
        for diary, process in self.processes.values():
            assert process.returncode == 0
            with open(diary) as lines:
                yield from map(json.loads, lines)


def key(event):
    """An event as a storm's diary has it."""
    if event["op"] == "write":
        return "write", event["path"], event["offset"], event["length"]
    if event["op"] in ("rename", "link"):
        return event["op"], event["path"], event["to"]
    return event["op"], event["path"]


def compare(diary, events):
    """Every change that was done has one event; there are no others, but at most one of each that failed with the mount."""
    did, tried = collections.Counter(), collections.Counter()
    for line in diary:
        (did if line[0] == "did" else tried)[tuple(line[1:])] += 1
    logged = collections.Counter(key(event) for event in events
                                 if event["path"].startswith("storm") and event["op"] != "close")
    assert did - logged == {}, "changes without their event"
    extra = logged - did
    assert extra - tried == {}, "events without a change, or repeated"
    return sum(did.values()), sum(tried.values()), sum(extra.values())


def a_moment(chance):
    """The kills fall anywhere in a storm; this is no wait for anything."""
    time.sleep(chance.uniform(0.02, 0.25))


@pytest.mark.limit(200)
def test_kill_of_the_worker(mount, transport, show):
    mounted = mount(options=f"transport={transport}")
    mounted.expect_stderr = True
    chance = random.Random(transport)
    with Storms(mounted) as storms:
        for _ in range(KILLS):
            storms.wait_for_progress()
            a_moment(chance)
            mounted.kill_worker()
        storms.wait_for_progress()
    mounted.settle()
    done, failed, extra = compare(storms.lines(), mounted.events())
    show(f"{KILLS} kills of the worker ({transport}): {done} changes logged once, "
         f"{failed} calls failed, {extra} of them had been done")
    if transport == "classic":
        assert failed == 0, "a program saw that the worker was killed"


@pytest.mark.limit(200)
def test_kill_of_supervisor_and_worker(mount, transport, show):
    mounted = mount(options=f"transport={transport}")
    mounted.expect_stderr = True
    chance = random.Random(transport)
    with Storms(mounted) as storms:
        for _ in range(KILLS):
            storms.wait_for_progress()
            a_moment(chance)
            mounted.kill_all()
            mounted.start()
        storms.wait_for_progress()
    mounted.settle()
    done, failed, extra = compare(storms.lines(), mounted.events())
    show(f"{KILLS} kills of everything ({transport}): {done} changes logged once, "
         f"{failed} calls failed, {extra} of them had been done")


def test_programs_keep_their_open_files_when_the_worker_is_killed(mount):
    mounted = mount(options="transport=classic")
    mounted.expect_stderr = True
    with open(mounted.path("f"), "w+b", buffering=0) as file:
        file.write(b"before ")
        mounted.kill_worker()
        file.write(b"after")
        file.seek(0)
        assert file.read() == b"before after"
    with open(mounted.path("f"), "rb") as file:
        assert file.read() == b"before after"


def test_a_close_after_the_worker_was_killed_tells_who_had_opened(mount):
    mounted = mount(options="transport=classic")
    mounted.expect_stderr = True
    with open(mounted.path("f"), "wb", buffering=0) as file:
        mounted.kill_worker()
        file.write(b"x")
    event, before = mounted.wait_for(1, op="close")
    write = next(event for event in before if event["op"] == "write")
    assert event["pid"] == write["pid"] == os.getpid()
    assert (event["comm"], event["uid"], event["gid"]) == (write["comm"], write["uid"], write["gid"])


def test_stores_through_a_mapping_around_a_kill_are_not_lost(mount, disk_place):
    mounted = mount(options="transport=classic,passthrough=on", folder=disk_place)
    mounted.expect_stderr = True
    with open(mounted.path("f"), "w+b") as file:
        file.truncate(4096)
        since = mounted.sync()
        with mmap.mmap(file.fileno(), 4096) as mapping:
            worker = mounted.status()["worker_pid"]
            os.kill(worker, signal.SIGSTOP)
            mapping[0:1] = b"x"
            mounted.kill_worker(worker)
            event, _ = mounted.wait_for(since, op="write", origin="mmap")
    assert event["uncertain"] and event["path"] == "f"


def test_a_subscriber_goes_on_where_it_was_when_the_worker_is_killed(mount):
    mounted = mount(options="transport=classic")
    mounted.expect_stderr = True
    seen = []
    with mounted.subscribe("oldest") as subscription:
        for number in range(10):
            os.mkdir(mounted.path(f"before{number}"))
        seen += subscription.until(lambda event: event["path"] == "before9")
        mounted.kill_worker()
        with contextlib.suppress(AssertionError, OSError):
            while True:
                message = subscription.receive()
                seen += [message] if "seq" in message else []
    for number in range(10):
        os.mkdir(mounted.path(f"after{number}"))
    with mounted.subscribe(seen[-1]["seq"]) as subscription:
        seen += subscription.until(lambda event: event["path"] == "after9")
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))


def test_a_mount_that_died_is_replaced(mount):
    mounted = mount()
    mounted.expect_stderr = True
    os.mkdir(mounted.path("before"))
    mounted.kill_all()
    with pytest.raises(OSError):
        os.listdir(mounted.point)
    mounted.start()
    assert os.listdir(mounted.point) == ["before"]
    os.mkdir(mounted.path("after"))
