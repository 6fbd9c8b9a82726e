"""hrfs restart: another program is put under a live mount, and one that does not work leaves the running one there."""

import contextlib
import fcntl
import json
import os
import signal
import struct
import subprocess
import threading

import pytest

import harness
from test_kill import Storms, compare

VERSION_WORD = b"hrfs-handover/2"


class Installed:
    """The installed program of a test: a file of its own, which an upgrade replaces as package managers do."""

    def __init__(self, folder, monkeypatch):
        self.path = os.path.join(folder, "mount.hrfs")
        with open(harness.MOUNT_HRFS, "rb") as program:
            self.original = program.read()
        done = subprocess.run([harness.MOUNT_HRFS, "-V"], check=True, capture_output=True)
        self.version = done.stdout.split()[1]
        self.install(self.original)
        monkeypatch.setattr(harness, "MOUNT_HRFS", self.path)

    def install(self, data, mode=0o755):
        with open(self.path + ".new", "wb") as program:
            program.write(data)
            os.fchmod(program.fileno(), mode)
        os.rename(self.path + ".new", self.path)

    def install_version(self, version):
        """The same program under another version, of as many letters."""
        assert len(version) == len(self.version)
        self.install(self.original.replace(self.version, version))

    def install_script(self, text):
        self.install(b"#!/bin/sh\n" + text.encode())


@pytest.fixture
def installed(place, monkeypatch):
    return Installed(place, monkeypatch)


def restart(mounted):
    return subprocess.run([harness.HRFS, "restart", mounted.point], capture_output=True, text=True, timeout=100)


def hold_locks(path, read_end, write_end):
    """In a child: hold both kinds of lock on @path until the pipe is closed."""
    with open(path, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.lockf(file, fcntl.LOCK_EX, 10, 5)
        os.write(write_end, b"l")
        os.close(write_end)
        os.read(read_end, 1)
        file.write(b"with its locks held")


def is_locked_for_others(path):
    """Whether neither lock can be had, and the fcntl lock still covers what it did."""
    def look():
        with open(path, "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return "the flock is gone"
            except BlockingIOError:
                pass
            wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
            kind, _, start, length, pid = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, wanted))
            return [kind, start, length, pid]
    return harness.in_child(look).value


class Reader(threading.Thread):
    """A subscriber that comes back after each good-bye, and keeps the numbers it has been given."""

    def __init__(self, mounted):
        super().__init__()
        self.mounted = mounted
        self.seqs = []
        self.failure = None
        self.stop_at = None

    def run(self):
        try:
            # Whoever connects while a worker ends gets its good-bye for a hello.
            while self.stop_at is None or not self.seqs or self.seqs[-1] < self.stop_at:
                with contextlib.suppress(AssertionError, ConnectionError, KeyError):
                    self.read()
        except Exception as error:
            self.failure = error

    def read(self):
        since = self.seqs[-1] if self.seqs else "oldest"
        with harness.Subscription(self.mounted.socket, since) as subscription:
            for event in subscription.events():
                self.seqs.append(event["seq"])
                if self.stop_at is not None and event["seq"] >= self.stop_at:
                    return


@pytest.mark.limit(200)
def test_upgrade_forth_and_back_under_load(mount, installed, show):
    mounted = mount(options="transport=classic")
    mounted.expect_stderr = True
    supervisor = mounted.status()["supervisor_pid"]
    open(mounted.path("locked"), "wb").close()
    hold_read, hold_write = os.pipe()
    word_read, word_write = os.pipe()
    holder = os.fork()
    if holder == 0:
        os.close(hold_write)
        try:
            hold_locks(mounted.path("locked"), hold_read, word_write)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.read(word_read, 1) == b"l"
    readers = [Reader(mounted) for _ in range(3)]
    for reader in readers:
        reader.start()
    pieces = []
    with Storms(mounted) as storms, open(mounted.path("growing"), "wb", buffering=0) as growing:
        def write_along(stop):
            while not stop.is_set():
                piece = f"piece {len(pieces)}\n".encode()
                growing.write(piece)
                pieces.append(piece)
        stop = threading.Event()
        writer = threading.Thread(target=write_along, args=[stop])
        writer.start()
        for version in (b"0.9.9", installed.version) * 2:
            storms.wait_for_progress()
            installed.install_version(version)
            done = restart(mounted)
            assert (done.returncode, done.stderr) == (0, "")
            status = mounted.status()
            assert status["version"] == version.decode() and status["supervisor_pid"] == supervisor
            assert is_locked_for_others(mounted.path("locked")) == [fcntl.F_WRLCK, 5, 10, holder]
        storms.wait_for_progress()
        stop.set()
        writer.join()
    with open(mounted.path("growing"), "rb") as grown:
        assert grown.read() == b"".join(pieces)
    os.close(hold_write)
    assert os.waitpid(holder, 0)[1] == 0
    os.close(hold_read), os.close(word_read), os.close(word_write)
    mounted.settle()
    last = mounted.sync()
    for reader in readers:
        reader.stop_at = last
    # Whoever has had that one already sees the next.
    open(mounted.path("last"), "wb").close()
    for reader in readers:
        reader.join(harness.PATIENCE_S)
        assert reader.failure is None
        assert reader.seqs[:last] == list(range(1, last + 1)), "a subscriber missed an event, or had one twice"
    events = [event for event in mounted.events() if event["path"].startswith("storm")]
    did, failed, extra = compare(storms.lines(), events)
    assert (failed, extra) == (0, 0), "a program saw the upgrade"
    show(f"4 upgrades: {did} changes of storms and {len(pieces)} writes to an open file went on, {last} events to 3 subscribers")


class Background:
    """A mount as users have it: mount.hrfs returned, and the daemon goes on. What others have of a mount under test, as far as it is needed here."""

    def __init__(self, place):
        self.source, self.point = os.path.join(place, "source"), os.path.join(place, "mnt")
        for folder in (self.source, self.point):
            os.mkdir(folder)
        options = f"transport=classic,state={place}/state,socket={place}/socket"
        subprocess.run([harness.MOUNT_HRFS, self.source, self.point, "-o", options], check=True, timeout=harness.PATIENCE_S)

    def status(self):
        done = subprocess.run([harness.HRFS, "status", "--json", self.point], check=True, capture_output=True, text=True)
        return json.loads(done.stdout)

    def path(self, name):
        return os.path.join(self.point, name)

    def kill_worker(self):
        worker = self.status()["worker_pid"]
        os.kill(worker, signal.SIGKILL)
        harness.wait_until(lambda: self.status()["worker_pid"] != worker, "another worker")

    def end_trial(self):
        """The program before is kept until the new one's worker has served for two seconds; then its file is let go."""
        folder = f"/proc/{self.status()['supervisor_pid']}/fd"
        def files():
            return [os.readlink(os.path.join(folder, fd)) for fd in os.listdir(folder)]
        harness.wait_until(lambda: sum("mount.hrfs" in file for file in files()) == 1, "the end of the trial")


def test_a_daemon_in_the_background_is_replaced_again_and_again(place, installed):
    mounted = Background(place)
    try:
        for version in (b"0.9.1", b"0.9.2", b"0.9.3"):
            installed.install_version(version)
            done = restart(mounted)
            assert done.returncode == 0, done
            mounted.end_trial()
            mounted.kill_worker()
            os.mkdir(mounted.path(version.decode()))
            assert mounted.status()["version"] == version.decode()
        installed.install(installed.original.replace(b"INTO events (time", b"INTO elsewh (time"))
        assert not refuses(mounted, "the one before goes on")
        mounted.kill_worker()
        assert sorted(os.listdir(mounted.point)) == ["0.9.1", "0.9.2", "0.9.3", "open"]
    finally:
        subprocess.run(["umount", mounted.point], check=True)
    assert sorted(os.listdir(mounted.source)) == ["0.9.1", "0.9.2", "0.9.3", "open"]


# ---- What is refused before anything happens ----

def refuses(mounted, words):
    """That a restart is refused with one line that has @words, and that nothing has changed by it."""
    before = mounted.status()
    with open(mounted.path("open"), "w+b", buffering=0) as file:
        file.write(b"before ")
        done = restart(mounted)
        file.write(b"after")
        file.seek(0)
        assert file.read() == b"before after"
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done
    assert words in done.stderr
    after = mounted.status()
    assert after["version"] == before["version"] and after["supervisor_pid"] == before["supervisor_pid"]
    return before["worker_pid"] == after["worker_pid"]


BROKEN = {
    "is not executable": (lambda it: it.install(it.original, 0o644), "cannot be executed: Permission denied"),
    "is no program": (lambda it: it.install(b"\x7fELF but not really"), "cannot be executed: Exec format error"),
    "is gone": (lambda it: os.unlink(it.path), "cannot be executed: No such file"),
    "is a script that fails": (lambda it: it.install_script("exit 1"), "it ended with status 1"),
    "says why": (lambda it: it.install_script("echo 'no such day'; exit 3"), "refuses to start: no such day"),
    "crashes": (lambda it: it.install_script("kill -SEGV $$"), "signal 11"),
    "hangs": (lambda it: it.install_script("exec sleep 1000"), "did not answer in time"),
    "has another handover": (lambda it: it.install(it.original.replace(VERSION_WORD, b"hrfs-handover/9")),
                             "is of another version of hrfs"),
    "is too old to rehearse": (lambda it: it.install(it.original.replace(b"rehearse\0", b"rehEarse\0")), "unknown option"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_the_running_program_stays_when_the_installed_one(mount, installed, how):
    install, words = BROKEN[how]
    mounted = mount(options="transport=classic")
    mounted.expect_stderr = True
    install(installed)
    assert refuses(mounted, words), "the worker was replaced for nothing"
    installed.install_version(b"0.9.9")
    assert restart(mounted).returncode == 0
    assert mounted.status()["version"] == "0.9.9"


def test_sighup_says_in_the_messages_why_it_is_refused(mount, installed):
    mounted = mount(options="transport=classic")
    mounted.expect_stderr = True
    installed.install_script("exit 1")
    os.kill(mounted.status()["supervisor_pid"], signal.SIGHUP)
    harness.wait_until(lambda: "no restart: the installed program refuses to start" in mounted.stderr(), "the message")
    assert mounted.status()["restarts"] == 0


def test_a_restart_over_io_uring_is_refused(mount, with_uring):
    mounted = mount(options="transport=io_uring")
    mounted.expect_stderr = True
    done = restart(mounted)
    assert done.returncode == 1 and "programs would lose their open files" in done.stderr


# ---- What fails after it was put in place ----

PASSES = 'case " $* " in *" --rehearse "*) exit 0;; esac\n'


def test_the_program_before_comes_back_when_the_workers_of_the_new_one_die(mount, installed):
    mounted = mount(options="transport=classic")
    mounted.expect_stderr = True
    # What reads the log finds nothing wrong; what writes it does not.
    broken = installed.original.replace(b"INTO events (time", b"INTO elsewh (time")
    assert broken != installed.original
    installed.install(broken)
    assert not refuses(mounted, "the one before goes on")
    assert "its worker" in mounted.stderr()
    assert mounted.status()["restart_error"]


def has_ended(pid):
    """Also when nobody has waited for it yet."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_new_program_that_crashes_in_its_first_second_leaves_the_mount_to_the_one_before(mount, installed):
    mounted = mount(options="transport=classic")
    mounted.expect_stderr = True
    mounted.expect_exit = -signal.SIGSEGV
    installed.install_script(PASSES + "kill -SEGV $$")
    with open(mounted.path("open"), "w+b", buffering=0) as file:
        file.write(b"before ")
        done = restart(mounted)
        file.write(b"after")
        file.seek(0)
        assert file.read() == b"before after"
    assert done.returncode == 1 and "it crashed, or hung; the one before goes on" in done.stderr
    status = mounted.status()
    assert os.path.exists(f"/proc/{status['supervisor_pid']}")
    mounted.unmount()
    mounted.stop()
    harness.wait_until(lambda: has_ended(status["supervisor_pid"]), "the daemon's end")
    mounted.check()


def test_only_the_owner_and_root_may_restart(mount, installed, a_user):
    mounted = mount(options=f"transport=classic,allow_other,subscribers={a_user.pw_gid}")

    def ask():
        with harness.Connection(mounted.socket) as connection:
            return connection.ask({"restart": {}})
    assert harness.in_child(ask, a_user).value["error"]["code"] == "EACCES"
    assert mounted.status()["restarts"] == 0
