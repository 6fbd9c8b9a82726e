"""
kill -9 at any moment: every change that a program was told of has its event, once.

HRFS_KILL_SECONDS is how long the loops at the end go on.
"""

import collections
import contextlib
import json
import mmap
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

import harness
import workloads

KILLS = 20
KILL_SECONDS = int(os.environ.get("HRFS_KILL_SECONDS", "5"))
STORMS = 3

TRANSPORTS = ["classic", "io_uring"]


@pytest.fixture(params=TRANSPORTS)
def transport(request):
    if request.param == "io_uring":
        request.getfixturevalue("with_uring")
    return request.param


class Storms:
    """A few storms on one mount, and their diaries."""

    def __init__(self, mounted, count=STORMS):
        self.mounted = mounted
        self.count = count
        self.processes = {}

    def __enter__(self):
        script = os.path.join(os.path.dirname(__file__), "storm.py")
        for number in range(self.count):
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


def read_only_while_open(path, kill):
    """A file that is made for writing with a mode that lets nobody write, as git's objects are. @kill is called while it is open."""
    def work():
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o444)
        kill()
        return [os.write(fd, b"text"), os.pread(fd, 9, 0).decode(), os.fstat(fd).st_mode & 0o777]
    return work


def test_an_ordinary_users_programs_keep_what_they_may_not_open_again(mount, a_user):
    mounted = mount(options="transport=classic", user=a_user if harness.IS_ROOT else None)
    mounted.expect_stderr = True
    worker = mounted.status()["worker_pid"]
    done = harness.in_child(read_only_while_open(mounted.path("f"), lambda: os.kill(worker, signal.SIGKILL)), mounted.user)
    assert done.value == [4, "text", 0o444]


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


@pytest.mark.limit(180)
def test_workers_in_a_row_do_not_use_up_the_intents(mount):
    """A worker that is killed after an answer leaves the intent of that request, which never comes again. There are 128."""
    mounted = mount(options="transport=classic")
    mounted.expect_stderr = True
    with Storms(mounted, 12) as storms:
        for _ in range(500):
            mounted.kill_worker()
            harness.wait_until(mounted.is_live, "the mount to come back")
    mounted.settle()
    _, failed, _ = compare(storms.lines(), mounted.events())
    assert failed == 0


@pytest.mark.parametrize("after_ms", [0, 1, 3, 10, 30, 100])
def test_a_daemon_told_to_stop_while_a_new_worker_starts_ends_at_once(mount, after_ms):
    """The new worker is not left waiting for a word that does not come."""
    for number in range(3):
        mounted = mount()
        mounted.expect_stderr = True
        os.mkdir(mounted.path("before"))
        os.kill(mounted.status()["worker_pid"], signal.SIGKILL)
        time.sleep(after_ms / 1000)
        mounted.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        mounted.exit_status = mounted.process.wait(harness.PATIENCE_S)
        took = time.monotonic() - began
        assert took < 2, f"try {number}: {took:.2f} s"
        mounted.process = None
        if mounted.exit_status:
            # The word came before that of the death: nobody follows, and the next mount recovers.
            assert "the worker did not end well" in mounted.stderr() and "cannot" not in mounted.stderr()
            mounted.start()
            mounted.stop()
        mounted.check()


# ---- Real programs, and kills that do not wait ----

class Killer(threading.Thread):
    """Kills the worker every 50 to 300 ms, whatever it does at that moment: it may not even have begun to serve."""

    def __init__(self, mounted, chance):
        super().__init__(daemon=True)
        self.mounted = mounted
        self.chance = chance
        self.is_over = threading.Event()
        self.kills = 0
        self.longest_outage_s = 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.join()

    def _wait_for_mount(self):
        """What a program waits until the mount is there again."""
        begun = time.monotonic()
        harness.wait_until(self.mounted.is_live, "the mount to come back")
        self.longest_outage_s = max(self.longest_outage_s, time.monotonic() - begun)

    def run(self):
        supervisor = self.mounted.process.pid
        while not self.is_over.wait(self.chance.uniform(0.05, 0.3)):
            with open(f"/proc/{supervisor}/task/{supervisor}/children") as children:
                workers = [int(pid) for pid in children.read().split()]
            for worker in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                    self.kills += 1
            if self.kills % 4 == 0:
                self._wait_for_mount()


class Follower(threading.Thread):
    """A subscriber that connects again whenever it loses its connection, and goes on after the last event it was sent."""

    def __init__(self, mounted):
        super().__init__(daemon=True)
        self.mounted = mounted
        self.seqs = []

    def follow_to(self, last):
        """Until @last has come."""
        harness.wait_until(lambda: self.seqs and self.seqs[-1] >= last, "the subscriber")

    def run(self):
        while self.mounted.process:
            # A server that is about to end answers with its `bye`.
            with contextlib.suppress(OSError, AssertionError, KeyError):
                with self.mounted.subscribe(self.seqs[-1] if self.seqs else "oldest") as subscription:
                    for event in subscription.events():
                        self.seqs.append(event["seq"])
            time.sleep(0.005)


class Programs:
    """Real programs at work on a mount, each again and again in a thread of its own, and what they make natively."""

    def __init__(self, mounted, folder):
        self.mounted = mounted
        self.native = os.path.join(folder, "native")
        self.tarball = os.path.join(folder, "tree.tar")
        self.is_over = threading.Event()
        self.rounds = collections.Counter()
        self.failures = []
        self.rows = 0
        workloads.make_tarball(self.tarball, 400)
        os.makedirs(f"{self.native}/tree")
        workloads.untar(self.tarball, f"{self.native}/tree")
        shutil.copytree(f"{self.native}/tree", f"{self.native}/repository", symlinks=True)
        workloads.git_work(f"{self.native}/repository")
        self.git_clone(self.native, 0)
        self.threads = [threading.Thread(target=self._repeat, args=[work], daemon=True)
                        for work in (self.untar, self.git_clone, self.dd, self.sqlite)]

    def untar(self, where, number):
        os.mkdir(f"{where}/tar{number}")
        workloads.untar(self.tarball, f"{where}/tar{number}")
        if number:
            workloads.run("rm", "-r", f"{where}/tar{number - 1}")

    def git_clone(self, where, number):
        workloads.run("git", "clone", "-q", "--no-hardlinks", f"{self.native}/repository", f"{where}/clone{number}")
        if number:
            workloads.run("rm", "-r", f"{where}/clone{number - 1}")

    def dd(self, where, number):
        workloads.run("dd", f"if={self.tarball}", f"of={where}/dd", "bs=7k", "conv=fsync")

    def sqlite(self, where, number):
        journal_mode = ["WAL", "DELETE"][number % 2]
        workloads.run(sys.executable, "-c", SQLITE_WORK, f"{where}/database", journal_mode)
        self.rows += SQLITE_ROWS

    def _repeat(self, work):
        number = 0
        try:
            while not self.is_over.is_set():
                work(self.mounted.point, number)
                number += 1
                self.rounds[work.__name__] = number
        except BaseException as error:
            self.failures.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def check(self):
        """No program saw an error, and what they made is what they make natively."""
        assert not self.failures, f"a program saw an error: {self.failures}\n{self.mounted.stderr()[-3000:]}"
        source = self.mounted.source
        assert workloads.tree_differences(f"{source}/tar{self.rounds['untar'] - 1}", f"{self.native}/tree") == []
        clone = f"{source}/clone{self.rounds['git_clone'] - 1}"
        assert workloads.tree_differences(clone, f"{self.native}/clone0", without=[".git"]) == []
        workloads.git(clone, "fsck", "--strict")
        assert workloads.git(clone, "status", "--porcelain") == ""
        workloads.run("cmp", self.tarball, f"{source}/dd")
        with contextlib.closing(sqlite3.connect(f"{self.mounted.point}/database")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute("SELECT count(*) FROM t").fetchone() == (self.rows,)


SQLITE_ROWS = 40
SQLITE_WORK = f"""
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA journal_mode = " + sys.argv[2])
database.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x)")
for i in range({SQLITE_ROWS}):
    database.execute("INSERT INTO t (x) VALUES (randomblob(2000))")
database.close()
"""


def after_the_kills(mounted, storms, follower):
    """Nothing was lost, for the log or for whoever follows it. Returns what compare() does."""
    mounted.settle()
    figures = compare(storms.lines(), mounted.events())
    last = mounted.sync()
    follower.follow_to(last)
    assert follower.seqs[:last] == list(range(1, last + 1)), "the subscriber saw a hole, or a repeat"
    return figures


@pytest.mark.limit(120 + 3 * KILL_SECONDS)
@pytest.mark.parametrize("passthrough", ["on", "off"])
def test_programs_do_not_notice_that_the_worker_is_killed_all_the_time(mount, disk_place, passthrough, show):
    mounted = mount(options=f"transport=classic,passthrough={passthrough}")
    mounted.expect_stderr = True
    follower = Follower(mounted)
    follower.start()
    with Storms(mounted, 1) as storms, Programs(mounted, disk_place) as programs:
        with Killer(mounted, random.Random(passthrough)) as killer:
            time.sleep(KILL_SECONDS)
    programs.check()
    done, failed, _ = after_the_kills(mounted, storms, follower)
    assert failed == 0, "a program saw that the worker was killed"
    show(f"{killer.kills} kills: {done} changes of storms and {dict(programs.rounds)} done, "
         f"{follower.seqs[-1]} events; no call took longer than {killer.longest_outage_s:.2f} s")


@pytest.mark.limit(120 + 3 * KILL_SECONDS)
def test_over_io_uring_the_mount_is_back_after_each_kill(mount, with_uring, show):
    mounted = mount(options="transport=io_uring")
    mounted.expect_stderr = True
    follower = Follower(mounted)
    follower.start()
    with Storms(mounted) as storms:
        with Killer(mounted, random.Random("io_uring")) as killer:
            time.sleep(KILL_SECONDS)
        harness.wait_until(mounted.is_live, "the mount to come back")
    done, failed, extra = after_the_kills(mounted, storms, follower)
    show(f"{killer.kills} kills over io_uring: {done} changes logged once, {failed} calls failed, {extra} of them "
         f"had been done; the mount was away for {killer.longest_outage_s:.2f} s at most")
