"""
Full and failing disks. The log's disk full: changes fail before they are made and go on by themselves when there is room.
The source's disk full: programs see what the disk says, and no event tells of more. A damaged log is refused, and kept.
"""

import contextlib
import errno
import os
import shutil
import subprocess

import pytest

import disk_image
import harness
import replay

STATE_DISK = 20 << 20
# What the ballast leaves for SQLite before the storm, so that it does not take long.
ROOM = 2 << 20
SOURCE_DISK = 4 << 20
STATUS_STATE = 6
STATUS_LOG = 7

CANNOT_WRITE = "cannot write to the log"
CAN_AGAIN = "the log can be written to again"


def storm_until(mounted, name, is_over, attempts=1_000_000):
    """Changes of all kinds until one fails with an error that @is_over. Returns how many were made."""
    made = 0
    try:
        for number in range(attempts):
            path = mounted.path(f"{name}{number}-" + "x" * 180)
            for change in (lambda: os.mkdir(path), lambda: os.chmod(path, 0o700), lambda: write(f"{path}/f", b"text"),
                           lambda: os.rename(f"{path}/f", f"{path}/g"), lambda: os.symlink("g", f"{path}/s")):
                change()
                made += 1
    except OSError as error:
        assert is_over(error), error
        return made
    raise AssertionError("the log never got full")


def storm_until_done(mounted, name, rounds):
    for number in range(rounds):
        os.mkdir(mounted.path(f"{name}{number}"))
        write(mounted.path(f"{name}{number}/f"), b"text")


def write(path, data):
    with open(path, "wb", buffering=0) as file:
        assert file.write(data) == len(data)


def is_enospc(error):
    return error.errno == errno.ENOSPC


def changes_that_must_fail(mounted, old):
    """One of each kind, on the existing file @old and on new names."""
    new = mounted.path("must-not-be")
    # O_TRUNC and mode bits are changes of the file that is there.
    return {
        "create": lambda: os.open(new, os.O_WRONLY | os.O_CREAT, 0o644),
        "mkdir": lambda: os.mkdir(new),
        "symlink": lambda: os.symlink("x", new),
        "link": lambda: os.link(old, new),
        "mknod": lambda: os.mkfifo(new),
        "rename": lambda: os.rename(old, new),
        "unlink": lambda: os.unlink(old),
        "chmod": lambda: os.chmod(old, 0o600),
        "chown": lambda: os.chown(old, 1, 1),
        "utimens": lambda: os.utime(old, (1, 1)),
        "truncate": lambda: os.truncate(old, 1),
        "write": lambda: write_in_place(old, b"other"),
        "setxattr": lambda: os.setxattr(old, "user.must-not-be", b"x"),
        "open with O_TRUNC": lambda: os.open(old, os.O_WRONLY | os.O_TRUNC),
    }


def write_in_place(path, data):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def differences_from_log(mounted):
    """Between the tree and the replay of all events that a subscriber is sent now."""
    return replay.differences(replay.replay(mounted.base, mounted.events()), replay.walk(mounted.source))


def can_change(mounted, path):
    with contextlib.suppress(OSError):
        os.mkdir(mounted.path(path))
        return True
    return False


@pytest.fixture
def state_disk(place):
    with disk_image.small_disk(os.path.join(place, "state-disk"), STATE_DISK) as point:
        yield point


def mount_on(mount, state_disk, **arguments):
    """A mount whose state is on @state_disk."""
    mounted = mount(start=False, **arguments)
    mounted.state = os.path.join(state_disk, "state")
    mounted.options = ",".join(filter(None, ["journal_size=1M", mounted.options]))
    return mounted


@contextlib.contextmanager
def end_of(mounted):
    """Stop and check the mount here: its disk goes before the fixture would do it."""
    try:
        yield
        mounted.stop()
    except BaseException:
        if mounted.process:
            mounted.process.kill()
            mounted.process.wait()
            mounted.process = None
        harness.abort_mounts(mounted.folder)
        raise
    mounted.check()


# ---- The log's disk ----

def fill_log(mounted, state_disk, name="storm"):
    """Until a change fails. Returns the ballast, whose end makes room."""
    mounted.sync()
    ballast = os.path.join(state_disk, "ballast")
    disk_image.fill(ballast, leave=ROOM)
    made = storm_until(mounted, name, is_enospc)
    # An event with a long name did not fit; now take what is left, to the last short one.
    with pytest.raises(OSError):
        while True:
            os.chmod(mounted.path("old"), 0o644)
            made += 1
    return ballast, made


def test_a_full_log_refuses_changes_before_they_are_made_and_goes_on_when_there_is_room(state_disk, mount, mode, show):
    mounted = mount_on(mount, state_disk, options=mode.options)
    mounted.expect_stderr = True
    mounted.start()
    with end_of(mounted):
        write(mounted.path("old"), b"what was there")
        ballast, made = fill_log(mounted, state_disk)
        before = replay.walk(mounted.source)

        for name, change in changes_that_must_fail(mounted, mounted.path("old")).items():
            with pytest.raises(OSError) as caught:
                change()
            assert caught.value.errno == errno.ENOSPC, name
        assert replay.differences(before, replay.walk(mounted.source)) == [], "a change was refused, and made"
        assert "user.must-not-be" not in os.listxattr(f"{mounted.source}/old")

        # Reading does not need the log.
        with open(mounted.path("old"), "rb") as file:
            assert file.read() == b"what was there"
        assert set(os.listdir(mounted.point)) == set(os.listdir(mounted.source))
        assert differences_from_log(mounted) == []
        assert CANNOT_WRITE in mounted.stderr()

        os.unlink(ballast)
        harness.wait_until(lambda: can_change(mounted, "again"), "changes to go on")
        storm_until_done(mounted, "after", 50)
        mounted.settle()
        assert CAN_AGAIN in mounted.stderr()
    show(f"{made} changes until the log's disk was full")


def test_a_daemon_killed_while_its_log_is_full_comes_back(state_disk, mount):
    mounted = mount_on(mount, state_disk)
    mounted.expect_stderr = True
    mounted.start()
    with end_of(mounted):
        write(mounted.path("old"), b"what was there")
        ballast, _ = fill_log(mounted, state_disk)
        seen = mounted.events()
        mounted.kill_all()
        os.unlink(ballast)
        mounted.start()
        assert mounted.events()[:len(seen)] == seen
        os.mkdir(mounted.path("after"))


def test_a_state_disk_mounted_read_only_is_refused(state_disk, mount):
    mounted = mount_on(mount, state_disk)
    mounted.start()
    os.mkdir(mounted.path("before"))
    with end_of(mounted):
        pass
    disk_image.run("mount", "-o", "remount,ro", state_disk)
    failed = subprocess.run(mounted.command(), capture_output=True, text=True, timeout=harness.PATIENCE_S)
    assert failed.returncode in (STATUS_STATE, STATUS_LOG)
    assert "Read-only file system" in failed.stderr and mounted.state in failed.stderr
    disk_image.run("mount", "-o", "remount,rw", state_disk)
    mounted.start()
    with end_of(mounted):
        os.mkdir(mounted.path("after"))


def test_a_state_disk_that_turns_read_only_refuses_changes(place, mount):
    """As ext4 does it when it finds itself damaged."""
    with disk_image.Image(place, 64 << 20, options="errors=remount-ro") as image:
        mounted = mount_on(mount, image.point)
        mounted.expect_stderr = True
        mounted.start()
        try:
            write(mounted.path("old"), b"what was there")
            mounted.sync()
            image.fail()
            storm_until(mounted, "storm", lambda error: error.errno in (errno.ENOSPC, errno.EROFS, errno.EIO))
            with open(mounted.path("old"), "rb") as file:
                assert file.read() == b"what was there"
            assert CANNOT_WRITE in mounted.stderr()
            assert differences_from_log(mounted) == []
        finally:
            harness.abort_mounts(mounted.folder)
            mounted.process.kill()
            mounted.process.wait()
            mounted.process = None


# ---- The source's disk ----

@pytest.fixture
def source_disk(place):
    with disk_image.small_disk(os.path.join(place, "source-disk"), SOURCE_DISK) as point:
        yield point


def test_a_full_source_gives_short_writes_and_enospc_and_events_only_of_what_happened(source_disk, mount, mode):
    mounted = mount(start=False, source=source_disk, options=mode.options)
    mounted.start()
    with end_of(mounted):
        since = mounted.sync()
        written = []
        fd = os.open(mounted.path("big"), os.O_WRONLY | os.O_CREAT, 0o644)
        piece = os.urandom((1 << 20) - 4096 * 3 - 17)
        with pytest.raises(OSError) as caught:
            while True:
                written.append(os.write(fd, piece))
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError) as caught:
            os.posix_fallocate(fd, sum(written), 1 << 20)
        assert caught.value.errno == errno.ENOSPC
        os.close(fd)
        assert os.path.getsize(os.path.join(source_disk, "big")) == sum(written)
        mounted.wait_for(since, op="close", path="big")
        events = [event for event in mounted.events(since) if event.get("path") == "big"]
        position = 0
        for event in events:
            if event["op"] == "write":
                assert event["offset"] == position
                position += event["length"]
                assert event["size"] == position
        assert position == sum(written)
        assert {event["op"] for event in events} == {"create", "write", "close"}
        os.unlink(mounted.path("big"))
        # The kernel does not wait for the daemon to let go of a file that was closed.
        harness.wait_until(lambda: disk_image.free_bytes(source_disk) > 1 << 20, "room on the source's disk", timeout=5)
        write(mounted.path("small"), b"there is room again")


# ---- A damaged log ----

def truncate_journal(state):
    os.truncate(f"{state}/journal", os.path.getsize(f"{state}/journal") // 2)


def empty_journal(state):
    os.truncate(f"{state}/journal", 0)


def scribble_over(name):
    def scribble(state):
        with open(f"{state}/{name}", "r+b") as file:
            file.write(b"\xa5" * 4096)
    return scribble


def scribble_over_table(state):
    """In the middle of the database, where its first page does not tell."""
    with open(f"{state}/events.db", "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))


def contents(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            found[name] = file.read()
    return found


# After a kill the pages of the database are in its WAL as well, and damage to them does no harm.
DAMAGES = [
    pytest.param("unmounted", truncate_journal, id="journal cut in half"),
    pytest.param("killed", truncate_journal, id="journal of a killed daemon cut in half"),
    pytest.param("killed", empty_journal, id="journal of a killed daemon emptied"),
    pytest.param("unmounted", scribble_over("journal"), id="journal's header scribbled over"),
    pytest.param("killed", scribble_over("journal"), id="header of a killed daemon's journal scribbled over"),
    pytest.param("unmounted", scribble_over("events.db"), id="database's header scribbled over"),
    pytest.param("unmounted", scribble_over_table, id="database's pages scribbled over"),
]


@pytest.mark.parametrize("end, damage", DAMAGES)
def test_a_damaged_log_is_refused_aloud_and_nothing_of_it_is_deleted(mount, end, damage):
    mounted = mount(options="journal_size=1M")
    mounted.expect_stderr = end == "killed"
    for number in range(100):
        os.mkdir(mounted.path(str(number)))
    mounted.sync()
    if end == "unmounted":
        mounted.stop()
        mounted.check()
    else:
        mounted.kill_all()
        harness.abort_mounts(mounted.folder)
    whole = os.path.join(mounted.folder, "whole")
    shutil.copytree(mounted.state, whole)

    damage(mounted.state)
    damaged = contents(mounted.state)
    failed = subprocess.run(mounted.command(), capture_output=True, text=True, timeout=harness.PATIENCE_S)
    assert failed.returncode == STATUS_LOG, failed.stderr
    assert mounted.state in failed.stderr and "damaged" in failed.stderr
    assert harness.mounts_below(mounted.folder) == []
    after = contents(mounted.state)
    for name in ("events.db", "journal"):
        assert after[name] == damaged[name], f"{name} was changed"

    # Put back, it goes on where it was.
    shutil.rmtree(mounted.state)
    os.rename(whole, mounted.state)
    mounted.start()
    os.mkdir(mounted.path("after"))
