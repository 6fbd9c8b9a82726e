"""What the tests drive: a mount with its own source, log and socket, and connections to it."""

import collections
import contextlib
import json
import os
import pwd
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import traceback

import replay

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("HRFS_BUILD", os.path.join(TOP, "build"))
MOUNT_HRFS = os.path.join(BUILD, "mount.hrfs")
HRFS = os.path.join(BUILD, "hrfs")

IS_ROOT = os.geteuid() == 0

# An account that every Debian has; fusermount3 wants one with a name.
USER = pwd.getpwnam("daemon")

# How long anything may take that should take no time. Only a broken program waits that long.
PATIENCE_S = 30

URING_SWITCH = "/sys/module/fuse/parameters/enable_uring"


class TimeIsUp(Exception):
    pass


def wait_until(condition, what, timeout=PATIENCE_S):
    """Look at @condition until it is true; returns its value."""
    end = time.monotonic() + timeout
    while True:
        # A look that took long itself, or that the machine stood still in, is not the last one.
        is_last_look = time.monotonic() > end
        value = condition()
        if value:
            return value
        if is_last_look:
            raise TimeIsUp(f"waited {timeout} s for {what}")
        time.sleep(0.005)


# ---- Mounts of this machine ----

def mounts_below(folder):
    """[(mount point, connection number)] of the FUSE mounts at or below @folder, innermost first. Looks at no mount."""
    found = []
    with open("/proc/self/mountinfo") as table:
        for line in table:
            fields, _, rest = line.partition(" - ")
            device, path = fields.split()[2], fields.split()[4]
            path = path.encode().decode("unicode_escape")
            if rest.startswith("fuse") and (path + "/").startswith(folder + "/"):
                found.append((path, int(device.split(":")[1])))
    return found[::-1]


def abort_mounts(folder):
    """Let go of every program that hangs on a FUSE mount below @folder."""
    control = "/sys/fs/fuse/connections"
    if IS_ROOT and not os.path.ismount(control):
        subprocess.run(["mount", "-t", "fusectl", "none", control], check=False)
    for path, number in mounts_below(folder):
        with contextlib.suppress(OSError), open(f"{control}/{number}/abort", "w") as abort:
            abort.write("1")
        unmount_command = ["umount", "-l", path] if IS_ROOT else ["fusermount3", "-u", "-z", path]
        subprocess.run(unmount_command, check=False, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def installed():
    """mount.hrfs where mount(8) looks for it, under both its names."""
    missing = [path for path in ("/sbin/mount.hrfs", "/sbin/mount.fuse.hrfs") if not os.path.lexists(path)]
    for path in missing:
        os.symlink(MOUNT_HRFS, path)
    try:
        yield
    finally:
        for path in missing:
            os.unlink(path)


# ---- Other users ----

def become(user):
    os.setgroups([user.pw_gid])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


Result = collections.namedtuple("Result", "pid value")


def in_child(function, user=None):
    """Call @function in a child process, as @user (a pwd entry) or as ourselves. Returns (pid, its value, through JSON)."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read_end)
            if user:
                become(user)
            value = function()
            os.write(write_end, json.dumps(value).encode())
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child failed: {os.waitstatus_to_exitcode(status)}"
    return Result(pid, json.loads(text))


# ---- The socket ----

class Connection:
    """A connection in the native dialect: an object a line."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(path)
        self.buffer = b""

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, message):
        self.send_raw(json.dumps(message).encode() + b"\n")

    def send_raw(self, data):
        self.socket.sendall(data)

    def read_line(self):
        """The next line without its newline, or None at the end."""
        lines = self.read_lines(1)
        return lines[0] if lines else None

    def read_lines(self, most=None):
        """At least one line, as many as have come; [] at the end. A line that was begun stays for later."""
        while True:
            if most == 1:
                line, newline, rest = self.buffer.partition(b"\n")
                if newline:
                    self.buffer = rest
                    return [line]
            elif b"\n" in self.buffer:
                whole, _, self.buffer = self.buffer.rpartition(b"\n")
                return whole.split(b"\n")
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                return []
            self.buffer += data

    def receive(self):
        line = self.read_line()
        assert line is not None, "the server closed the connection"
        return json.loads(line)

    def ask(self, request):
        self.send(request)
        return self.receive()

    def is_at_end(self):
        """Whether the server closes the connection without another word."""
        return self.read_line() is None

    def has_input(self, timeout=0):
        return bool(self.buffer) or bool(select.select([self.socket], [], [], timeout)[0])


class Subscription(Connection):
    """A connection that follows the log. Its hello has been read."""

    def __init__(self, path, since="now", follow=True):
        super().__init__(path)
        self.send({"subscribe": {"since": since, "follow": follow}})
        self.hello = self.receive()["hello"]
        self.caught_up = None

    def events(self):
        """Events, past and live, until the server ends the connection."""
        while lines := self.read_lines():
            for line in lines:
                message = json.loads(line)
                if "seq" in message:
                    yield message
                elif "caught_up" in message:
                    self.caught_up = message["caught_up"]
                elif "bye" not in message:
                    raise AssertionError(f"unexpected: {message}")

    def until(self, wanted):
        """Read up to the first event that @wanted accepts; returns all that were read."""
        seen = []
        while True:
            message = self.receive()
            if "seq" in message:
                seen.append(message)
                if wanted(message):
                    return seen


# ---- A mount ----

class Mount:
    """
    A source mounted through mount.hrfs -f, with its own state folder and socket.

    start() waits until it is live. stop() unmounts; check() is what every test promises at its end, see there.
    """

    def __init__(self, folder, source=None, in_place=False, options="", user=None, preexec=None, wrapper=()):
        self.folder = folder
        self.source = source or os.path.join(folder, "source")
        self.point = self.source if in_place else os.path.join(folder, "mnt")
        self.in_place = in_place
        self.state = os.path.join(folder, "state")
        self.socket = os.path.join(folder, "socket")
        self.stderr_path = os.path.join(folder, "stderr")
        self.options = options
        self.user = user
        self.preexec = preexec
        self.wrapper = list(wrapper)
        self.process = None
        for path in (self.source, self.point):
            os.makedirs(path, exist_ok=True)
            if user:
                os.chown(path, user.pw_uid, user.pw_gid)
        # The tree behind an in-place mount is reached through a descriptor from before.
        self.source_fd = os.open(self.source, os.O_PATH | os.O_DIRECTORY)
        self.base = None
        # What check() does not ask for; a test that provokes it says so.
        self.expect_exit = 0
        self.expect_stderr = False
        self.expect_replay = True
        # For a test of the time before.
        self.waits_for_scan = True

    def path(self, *names):
        return os.path.join(self.point, *names)

    @property
    def real(self):
        """The tree underneath, also while something is mounted over it."""
        return f"/proc/self/fd/{self.source_fd}" if self.in_place else self.source

    def command(self):
        options = f"state={self.state},socket={self.socket}"
        if self.options:
            options += "," + self.options
        where = [self.source] if self.in_place else [self.source, self.point]
        return [*self.wrapper, MOUNT_HRFS, *where, "-f", "-o", options]

    def _before_exec(self):
        if self.preexec:
            self.preexec()
        if self.user:
            become(self.user)

    def start(self):
        is_first = self.base is None
        if is_first:
            self.base = replay.walk(self.source)
        with open(self.stderr_path, "ab") as stderr:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stderr=stderr, cwd="/",
                                            preexec_fn=self._before_exec)
        wait_until(lambda: self.is_live() or self.process.poll() is not None, "the mount")
        assert self.process.poll() is None, f"mount.hrfs ended with {self.process.returncode}: {self.stderr()}"
        if is_first and self.waits_for_scan:
            wait_until(self.has_scanned, "the end of the scan")
        return self

    def has_scanned(self):
        """What a test does behind the mount while the first scan looks may be found by it."""
        # Where a test injects faults the connection may be what fails.
        with contextlib.suppress(AssertionError, KeyError, OSError):
            return self.status()["scan"]["state"] not in ("waiting", "running")
        return False

    def is_live(self):
        with contextlib.suppress(OSError):
            return bool(self.attribute("user.hrfs.seq"))
        return False

    def attribute(self, name):
        """An extended attribute of the root, asked for as a user who may."""
        if self.user and IS_ROOT:
            return self._as_user(["getfattr", "--only-values", "-n", name, self.point])
        return os.getxattr(self.point, name).decode()

    def _as_user(self, command):
        done = subprocess.run(command, preexec_fn=lambda: become(self.user), capture_output=True)
        if done.returncode != 0:
            raise OSError(done.stderr.decode())
        return done.stdout.decode()

    def stderr(self):
        with open(self.stderr_path, errors="surrogateescape") as text:
            return text.read()

    # ---- Talking to it ----

    def connect(self):
        return Connection(self.socket)

    def subscribe(self, since="now", follow=True):
        return Subscription(self.socket, since, follow)

    def sync(self):
        """The seq up to which everything before the call is in the store."""
        with self.connect() as connection:
            return connection.ask({"sync": {}})["sync"]["seq"]

    def status(self):
        with self.connect() as connection:
            return connection.ask({"status": {}})["status"]

    def events(self, since=0):
        """All events after @since that are logged by now."""
        with self.subscribe(since or "oldest", follow=False) as subscription:
            return list(subscription.events())

    def wait_for(self, since, **wanted):
        """Wait for an event after @since with these members; returns it and all before it."""
        with self.subscribe(since) as subscription:
            seen = subscription.until(lambda event: all(event.get(key) == value for key, value in wanted.items()))
            return seen[-1], seen[:-1]

    def settle(self):
        """Wait until the kernel has let go of what was open: the last close events have come."""
        marker = self.path(".settled")
        since = self.sync()
        self._run(["sh", "-c", f': > "{marker}"; rm "{marker}"'])
        self.wait_for(since, op="unlink", path=".settled")

    def _run(self, command):
        preexec = (lambda: become(self.user)) if self.user and IS_ROOT else None
        return subprocess.run(command, check=True, timeout=PATIENCE_S, preexec_fn=preexec)

    # ---- The end ----

    def unmount(self):
        if self.user or not IS_ROOT:
            self._run(["fusermount3", "-u", self.point])
        else:
            subprocess.run(["umount", self.point], check=True, timeout=PATIENCE_S)

    def stop(self):
        """Unmount and wait for the end of the daemon."""
        if self.process is None:
            return
        if self.process.poll() is None and self.point in [path for path, _ in mounts_below(self.folder)]:
            self.unmount()
        self.exit_status = self.process.wait(PATIENCE_S)
        self.process = None

    def kill_all(self):
        """Supervisor and worker, together, without a word."""
        status = self.status()
        for pid in (status["supervisor_pid"], status["worker_pid"]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        wait_until(lambda: not os.path.exists(f"/proc/{status['worker_pid']}"), "the worker's end")
        self.process = None

    def kill_worker(self, worker=None):
        """Returns once another worker serves. @worker: its pid, for one that cannot be asked."""
        worker = worker or self.status()["worker_pid"]
        os.kill(worker, signal.SIGKILL)

        def is_replaced():
            with contextlib.suppress(OSError, AssertionError):
                return self.status()["worker_pid"] != worker
            return False
        wait_until(is_replaced, "another worker")

    def logged(self):
        """All events of the log as `hrfs log` gives them; mounted or not."""
        done = subprocess.run([HRFS, "log", self.state, "--json"], check=True, capture_output=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def check(self):
        """What holds when a test is over, unless it said otherwise. The daemon has ended."""
        assert self.exit_status == self.expect_exit, f"exit status {self.exit_status}: {self.stderr()}"
        assert mounts_below(self.folder) == []
        if not self.expect_stderr:
            assert self.stderr() == "", self.stderr()
        self.check_database()
        events = self.logged()
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1)), "a hole, or a repeat"
        if self.expect_replay:
            wrong = replay.differences(replay.replay(self.base, events), replay.walk(self.source))
            assert not wrong, "\n".join(wrong[:20])

    def check_database(self):
        with contextlib.closing(sqlite3.connect(f"file:{self.state}/events.db?mode=ro", uri=True)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            count, first, last = database.execute("SELECT count(*), min(seq), max(seq) FROM history").fetchone()
            assert (first, last) == (1, count), "the store has a hole"

    def destroy(self):
        """Whatever is left, by force. For a test that failed half-way, too."""
        if self.process and self.process.poll() is None:
            abort_mounts(self.folder)
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        abort_mounts(self.folder)
        os.close(self.source_fd)


# ---- Time limits ----

class Watchdog:
    """
    Ends a test that hangs. Its thread aborts the FUSE connections below @folders, which sets free whoever waits on
    them, also in state D, and then interrupts the main thread.
    """

    def __init__(self, folders, seconds):
        self.folders = folders
        self.timer = threading.Timer(seconds, self._bite)
        self.timer.daemon = True
        self.seconds = seconds

    def __enter__(self):
        self.previous = signal.signal(signal.SIGALRM, self._interrupt)
        self.timer.start()
        return self

    def __exit__(self, *_):
        self.timer.cancel()
        signal.signal(signal.SIGALRM, self.previous)

    def _bite(self):
        frame = sys._current_frames().get(threading.main_thread().ident)
        print(f"\ntime is up after {self.seconds} s, at:", file=sys.__stderr__)
        traceback.print_stack(frame, file=sys.__stderr__)
        for folder in self.folders:
            abort_mounts(folder)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    def _interrupt(self, *_):
        raise TimeIsUp(f"the test took more than {self.seconds} s; its mounts were aborted")
