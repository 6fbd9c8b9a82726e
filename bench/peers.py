"""
Who is compared: native, hrfs, and other file systems that stand between a program and a tree.

A peer is set up once, which may compile or install it, and raises Missing with a reason where it cannot be had. Each sample then
gets a mount of its own. No clock runs before the mount was seen to be a mount, of the right type, by the right transport.
"""

import contextlib
import glob
import json
import os
import shutil
import socket
import subprocess
import time

import place as places

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(TOP, "build")
CACHE = os.path.join(TOP, ".cache", "bench")
PROGRAMS = os.path.join(BUILD, "bench")
MOUNT_HRFS = os.path.join(BUILD, "mount.hrfs")
HRFS = os.path.join(BUILD, "hrfs")
URING_SWITCH = "/sys/module/fuse/parameters/enable_uring"

# Nobody needs this long to mount; only what is broken does.
SCAN_PATIENCE_S = 300
PATIENCE_S = 30

# Nothing goes behind a mount of this bench, so a peer may believe its caches.
FOREVER_S = 86400


class Missing(Exception):
    """A peer or a program cannot be had here."""


class Void(Exception):
    """The sample means nothing: what was measured is not what should have been."""


# ---- What comes from elsewhere ----

def install(program, package):
    """See to it that @program is there, by the distribution's @package."""
    if shutil.which(program):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing(f"{program} is not installed (Debian: {package})")
    done = subprocess.run(["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "install", "--no-install-recommends", package],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    if not shutil.which(program):
        last = done.stdout.strip().splitlines()[-1:] or ["no word"]
        raise Missing(f"{package} cannot be installed: {last[0]}")


def first_line(*command):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError:
        return "not installed"
    return (done.stdout.strip().splitlines() or [""])[0]


def build_programs():
    """hrfs itself, and the tight loops of this bench."""
    names = [f"bench/bench-{name}" for name in ("files", "latency", "log", "null", "subscribers")]
    for targets in ([], names):
        subprocess.run([os.path.join(TOP, "tools", "build"), *targets], check=True)


# ---- Mounts ----

def wait_for_mount(point, process):
    """Until something is mounted at @point; its type."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for path, kind, _ in places.mounts_at(point):
            if path == point:
                return kind
        if process.poll() is not None:
            raise Void(f"ended with {process.returncode} and did not mount")
        time.sleep(0.002)
    raise Void("did not mount in time")


def check_mount(point, wanted):
    kinds = [kind for path, kind, _ in places.mounts_at(point) if path == point]
    if not kinds or not kinds[0].startswith(wanted):
        raise Void(f"{point} is {kinds[0] if kinds else 'not a mount'}, not {wanted}")
    os.stat(point)


def thread_names(pid):
    names = []
    for path in glob.glob(f"/proc/{pid}/task/*/comm"):
        with contextlib.suppress(OSError), open(path) as comm:
            names.append(comm.read().strip())
    return names


def wait_for_ring(pid):
    """libfuse names the threads that serve a ring, and starts them after the mount."""
    end = time.monotonic() + PATIENCE_S
    while not any(name.startswith("fuse-ring") for name in thread_names(pid)):
        if time.monotonic() > end:
            raise Void("no thread of it serves a ring")
        time.sleep(0.002)


class Peer:
    """A way to a tree. @transport is what was asked for; is_on_uring what this one has."""

    name = ""
    type = "fuse"
    is_on_uring = False
    in_place = False
    workloads = ()      # names of those in which it takes part; (): all

    def __init__(self, transport="classic"):
        self.transport = transport
        self.process = None     # while it is mounted

    def set_up(self):
        """Once. Raises Missing."""

    def command(self, place):
        raise NotImplementedError

    def point(self, place):
        return place.source if self.in_place else place.mnt

    def check(self, place, process):
        check_mount(self.point(place), self.type)
        if self.is_on_uring and self.transport == "io_uring":
            wait_for_ring(process.pid)

    def position(self, place):
        """What grows with every change that it saw; None where it cannot tell."""
        return None

    @contextlib.contextmanager
    def mounted(self, place, preexec=None):
        """Yields the path to work in."""
        with open(os.path.join(place.state, os.pardir, "words"), "w+") as words:
            process = subprocess.Popen(self.command(place), stdin=subprocess.DEVNULL, stdout=words, stderr=words,
                                       preexec_fn=preexec)
            try:
                wait_for_mount(self.point(place), process)
                self.process = process
                self.check(place, process)
                yield self.point(place)
                check_mount(self.point(place), self.type)
            finally:
                self.end(place, process)

    def end(self, place, process):
        for _ in range(50):
            if subprocess.run(["umount", self.point(place)], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                break
            time.sleep(0.1)
            if not places.mounts_at(self.point(place)):
                break
        else:
            places.let_go(self.point(place))
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()


class Native(Peer):
    name = "native"

    @contextlib.contextmanager
    def mounted(self, place, preexec=None):
        if places.mounts_at(place.source):
            raise Void(f"{place.source} is a mount")
        yield place.source


class Hrfs(Peer):
    name = "hrfs"
    is_on_uring = True
    options = ""

    def command(self, place):
        options = f"state={place.state},socket={place.socket},transport={self.transport}{self.options}"
        where = [place.source] if self.in_place else [place.source, place.mnt]
        return [MOUNT_HRFS, "-f", *where, "-o", options]

    def status(self, place):
        """Asked over the socket, which makes no request to the file system."""
        return ask(place.socket, {"status": {}})["status"]

    def check(self, place, process):
        check_mount(self.point(place), self.type)
        os.getxattr(self.point(place), "user.hrfs.seq")
        status = self.status(place)
        if status["transport"] != self.transport:
            raise Void(f"its transport is {status['transport']}, not {self.transport}")
        if not status["passthrough"]:
            raise Void(f"no passthrough: {status['passthrough_reason']}")
        self.wait_for_scan(place)

    def wait_for_scan(self, place):
        """A new mount is useful at once, but looks at the whole tree beside that, once."""
        end = time.monotonic() + SCAN_PATIENCE_S
        while self.status(place)["scan"]["state"] in ("waiting", "running"):
            if time.monotonic() > end:
                raise Void("its first scan does not end")
            time.sleep(0.01)

    def position(self, place):
        return self.status(place)["next"]


class HrfsInPlace(Hrfs):
    name = "hrfs-in-place"
    in_place = True


class HrfsAlways(Hrfs):
    """Each event is on stable storage before its call returns."""

    name = "hrfs-always"
    options = ",durability=always"


class HrfsProcess(Hrfs):
    """The log is never synced."""

    name = "hrfs-process"
    options = ",durability=process"


class HrfsWithoutLog(Hrfs):
    """The same build, logging nothing."""

    name = "hrfs-nolog"
    options = ",log=off"

    def position(self, place):
        return None


class PassthroughHp(Peer):
    """libfuse's own passthrough file system, from the source that hrfs is built with, against the same static library."""

    name = "passthrough_hp"
    is_on_uring = True
    options = ()
    program = os.path.join(CACHE, "passthrough_hp")

    def set_up(self):
        sources = glob.glob(os.path.join(TOP, "subprojects", "fuse-*", "example", "passthrough_hp.cc"))
        if not sources:
            raise Missing("the source of libfuse is not below subprojects/ (tools/setup puts it there)")
        source = os.path.realpath(sorted(sources)[-1])
        top = os.path.dirname(os.path.dirname(source))
        built = os.path.join(BUILD, "subprojects", os.path.basename(top))
        library = os.path.join(built, "lib", "libfuse3.a")
        if not os.path.exists(library):
            raise Missing("build/ has no libfuse of its own")
        if os.path.exists(self.program) and os.path.getmtime(self.program) > os.path.getmtime(library):
            return
        install("g++", "g++")
        os.makedirs(CACHE, exist_ok=True)
        command = ["g++", "-O2", "-std=c++17", "-D_FILE_OFFSET_BITS=64", "-include", f"{built}/fuse_config.h", f"-I{built}",
                   f"-I{top}/include", source, library, "-lpthread", "-ldl", "-lrt", "-luring", "-lnuma", "-o", self.program]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise Missing(f"passthrough_hp does not compile: {done.stdout[-300:]}")

    def command(self, place):
        # A descriptor for each thread is better for the classic transport; a ring has its own way.
        own = ["-o", "io_uring"] if self.transport == "io_uring" else ["--clone-fd"]
        return [self.program, "--foreground", *self.options, *own, place.source, place.mnt]


class PassthroughHpSeeing(PassthroughHp):
    """The one that sees reads and writes, as hrfs sees writes."""

    name = "passthrough_hp-nopassthrough"
    options = ("--nopassthrough",)
    workloads = ("untar", "write-4k", "write-1m", "random-write-4k")


class PassthroughHpDetached(PassthroughHp):
    """In a session of its own, and so in a scheduling group of its own (sched(7)), as it is when it goes to the background by itself."""

    name = "passthrough_hp-detached"

    def command(self, place):
        return ["setsid", *super().command(place)]


class Null(Peer):
    """bench-null: a file system that does nothing. No peer: it shows what FUSE itself costs."""

    name = "null"
    is_on_uring = True

    def command(self, place):
        return [os.path.join(PROGRAMS, "bench-null"), "-f", place.mnt, *(["-o", "io_uring"] if self.transport == "io_uring" else [])]


class Bindfs(Peer):
    name = "bindfs"

    def set_up(self):
        install("bindfs", "bindfs")

    def command(self, place):
        caches = f"attr_timeout={FOREVER_S},entry_timeout={FOREVER_S},negative_timeout={FOREVER_S},kernel_cache"
        return ["bindfs", "-f", "--multithreaded", "-o", caches, place.source, place.mnt]


LOGGEDFS_CONFIG = """<?xml version="1.0" encoding="UTF-8"?>
<loggedFS logEnabled="true" printProcessName="true">
<includes>
<include extension=".*" uid="*" action="create|mknod|mkdir|mkfifo|symlink|link|unlink|rmdir|rename|chmod|chown|truncate|utime|write"
 retname=".*"/>
</includes>
<excludes></excludes>
</loggedFS>
"""


class Loggedfs(Peer):
    """Told to log changes only, which is what hrfs logs. It mounts over the source."""

    name = "loggedfs"
    in_place = True

    def set_up(self):
        install("loggedfs", "loggedfs")

    def command(self, place):
        config = os.path.join(place.state, "loggedfs.xml")
        with open(config, "w", encoding="utf-8") as out:
            out.write(LOGGEDFS_CONFIG)
        return ["loggedfs", "-f", "-p", "-c", config, "-l", os.path.join(place.state, "log"), place.source]


ALL = [Native, Hrfs, PassthroughHp, PassthroughHpSeeing, PassthroughHpDetached, Bindfs, Loggedfs, HrfsInPlace, HrfsWithoutLog,
       HrfsAlways, HrfsProcess]
USUAL = ["native", "hrfs", "passthrough_hp", "passthrough_hp-nopassthrough", "bindfs", "loggedfs", "hrfs-nolog"]


# ---- The socket ----

def ask(path, request):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(path)
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as lines:
            return json.loads(lines.readline())


# ---- The transport ----

def has_uring():
    return os.path.exists(URING_SWITCH)


@contextlib.contextmanager
def transport_enabled(transport):
    """FUSE over io_uring is switched on for as long as it is measured."""
    if transport != "io_uring":
        yield
        return
    with open(URING_SWITCH) as switch:
        before = switch.read()
    try:
        with open(URING_SWITCH, "w") as switch:
            switch.write("Y")
        yield
    finally:
        with open(URING_SWITCH, "w") as switch:
            switch.write(before)
