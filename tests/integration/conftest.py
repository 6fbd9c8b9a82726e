"""
Fixtures.

    mount      makes mounts; each has its own source, mount point, log and socket. When the test is over every one of
               them is unmounted, and checked as harness.Mount.check() says.
    mode       runs a test in all four modes: classic and io_uring, passthrough on and off.
    far_mode   runs it in two: classic with passthrough off, io_uring with passthrough on.
    a_user     an ordinary user's account, for whom /dev/fuse is open.
    place      an empty folder on tmpfs, disk_place one on a disk; outside of any mount.

A test has 120 seconds, or what its mark `limit` says. Then the connections of its mounts are aborted, so nothing hangs.
"""

import collections
import contextlib
import os
import pwd
import shutil
import signal
import stat
import tempfile

import pytest

import harness

DEFAULT_LIMIT_S = 120

Mode = collections.namedtuple("Mode", "transport passthrough options")

MODES = [Mode(transport, passthrough, f"transport={transport},passthrough={passthrough}")
         for transport in ("classic", "io_uring") for passthrough in ("on", "off")]


def pytest_configure():
    """A shell ignores SIGINT for what it runs in the background, and so would every program that a test starts."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """As an ordinary user, only tests that say they can are run."""
    if harness.IS_ROOT:
        return
    for item in items:
        if item.get_closest_marker("as_user") is None:
            item.add_marker(pytest.mark.skip(reason="needs root"))


# ---- Folders ----

@contextlib.contextmanager
def open_folder(parent):
    """A folder below @parent that every user can reach, unlike pytest's own. tools/test removes it if we are killed."""
    folder = tempfile.mkdtemp(prefix=f"hrfs-test-{os.getpid()}-", dir=parent)
    os.chmod(folder, 0o755)
    try:
        yield folder
    finally:
        harness.abort_mounts(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def tmpfs_folder():
    with open_folder("/dev/shm") as folder:
        yield folder


@pytest.fixture(scope="session")
def disk_folder():
    with open_folder(os.environ.get("TMPDIR", "/var/tmp")) as folder:
        yield folder


def folder_of_test(request, parent):
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)[:24]
    return tempfile.mkdtemp(prefix=name + "-", dir=parent)


def remove(folder):
    """A daemon that ends in the background may still take away files of its own."""
    def is_gone():
        shutil.rmtree(folder, ignore_errors=True)
        return not os.path.lexists(folder)
    harness.wait_until(is_gone, f"{folder} to be removed")


@pytest.fixture
def place(request, tmpfs_folder):
    folder = folder_of_test(request, tmpfs_folder)
    os.chmod(folder, 0o755)
    yield folder
    remove(folder)


@pytest.fixture
def disk_place(request, disk_folder):
    folder = folder_of_test(request, disk_folder)
    os.chmod(folder, 0o755)
    yield folder
    remove(folder)


@pytest.fixture(scope="session", autouse=True)
def programs(tmpfs_folder):
    """Copies of the programs that every user may run: the checkout can be in a folder that is closed to others."""
    for name in ("MOUNT_HRFS", "HRFS"):
        copy = shutil.copy(getattr(harness, name), tmpfs_folder)
        setattr(harness, name, copy)


# ---- Mounts ----

class Mounts:
    """The mounts of one test."""

    def __init__(self, folder):
        self.folder = folder
        self.all = []

    def __call__(self, start=True, folder=None, **arguments):
        if folder is None:
            folder = self.folder
        folder = os.path.join(folder, str(len(self.all)))
        os.mkdir(folder)
        if arguments.get("user"):
            os.chown(folder, arguments["user"].pw_uid, arguments["user"].pw_gid)
        mount = harness.Mount(folder, **arguments)
        self.all.append(mount)
        return mount.start() if start else mount

    def finish(self):
        for mount in self.all:
            if mount.process:
                mount.stop()
                mount.check()

    def destroy(self):
        for mount in self.all:
            mount.destroy()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.has_failed = outcome.get_result().failed


@pytest.fixture
def mount(request, place, disk_place):
    mounts = Mounts(place)
    yield mounts
    try:
        # What a failed test leaves says nothing more.
        if not getattr(request.node, "has_failed", False):
            mounts.finish()
    finally:
        mounts.destroy()


@pytest.fixture(autouse=True)
def watchdog(request, tmpfs_folder, disk_folder):
    marker = request.node.get_closest_marker("limit")
    limit = marker.args[0] if marker else DEFAULT_LIMIT_S
    with harness.Watchdog([tmpfs_folder, disk_folder], limit):
        yield


# ---- Modes and users ----

@pytest.fixture(autouse=True)
def uring_switch():
    """
    Whether there is FUSE over io_uring, left as it was found. Automatic, so that it is put back only when the mounts of the test are gone:
    a worker that follows a killed one may still be about to use it.
    """
    if not os.path.exists(harness.URING_SWITCH):
        yield None
        return
    with open(harness.URING_SWITCH) as switch:
        before = switch.read()
    yield harness.URING_SWITCH
    with open(harness.URING_SWITCH) as switch:
        if switch.read() == before:
            return
    with open(harness.URING_SWITCH, "w") as switch:
        switch.write(before)


@pytest.fixture
def with_uring(uring_switch):
    """FUSE over io_uring is switched on, as an administrator does it."""
    if not uring_switch:
        pytest.skip("this kernel has no FUSE over io_uring")
    with open(uring_switch, "w") as switch:
        switch.write("Y")


@pytest.fixture(params=MODES, ids=lambda mode: f"{mode.transport}-passthrough_{mode.passthrough}")
def mode(request):
    if request.param.transport == "io_uring":
        request.getfixturevalue("with_uring")
    return request.param


@pytest.fixture(params=[MODES[1], MODES[2]], ids=lambda mode: f"{mode.transport}-passthrough_{mode.passthrough}")
def far_mode(request):
    """The two modes that have nothing in common, for what takes too long to be done in all four."""
    if request.param.transport == "io_uring":
        request.getfixturevalue("with_uring")
    return request.param


@pytest.fixture
def a_user():
    """An ordinary user; ourselves when we are one. /dev/fuse is open to all, as it is wherever udev runs."""
    if not harness.IS_ROOT:
        yield pwd.getpwuid(os.getuid())
        return
    before = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    os.chmod("/dev/fuse", 0o666)
    yield harness.USER
    os.chmod("/dev/fuse", before)


@pytest.fixture
def show(capsys):
    """Print a line that is seen also when the test passes."""
    def print_now(text):
        with capsys.disabled():
            print(f"\n    {text}", end=" ")
    return print_now
