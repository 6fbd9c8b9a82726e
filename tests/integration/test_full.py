"""
Full and failing disks. The log's disk full: changes fail before they are made and go on by themselves when there is room.
With on-log-full=gap they are made, and one gap event counts them. The source's disk full: programs see what the disk says,
and no event tells of more.
"""

import contextlib
import errno
import os
import resource
import sqlite3
import subprocess
import time

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
STATUS_USAGE = 1

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


def can_store(mounted):
    """The journal has room a moment before the database has."""
    with mounted.connect() as connection:
        return "sync" in connection.ask({"sync": {}})


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
    return ballast, made + take_the_last_room(mounted, "old")


def take_the_last_room(mounted, name):
    """An event with a long name did not fit; now take what is left, to the last short one. Returns how many were made."""
    made = 0
    with pytest.raises(OSError):
        while True:
            os.chmod(mounted.path(name), 0o755)
            made += 1
    return made


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
        harness.wait_until(lambda: can_store(mounted), "the log's disk to be written to")
        storm_until_done(mounted, "after", 50)
        mounted.settle()
        assert CAN_AGAIN in mounted.stderr()
    show(f"{made} changes until the log's disk was full")


def test_a_file_closed_while_the_log_is_full_has_its_close_event_when_there_is_room(state_disk, mount):
    mounted = mount_on(mount, state_disk)
    mounted.expect_stderr = True
    mounted.start()
    with end_of(mounted):
        write(mounted.path("old"), b"what was there")
        since = mounted.sync()
        fd = os.open(mounted.path("held"), os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(fd, b"written before")
        ballast, _ = fill_log(mounted, state_disk)
        os.close(fd)
        os.unlink(ballast)
        harness.wait_until(lambda: can_change(mounted, "again"), "changes to go on")
        harness.wait_until(lambda: can_store(mounted), "the log's disk to be written to")
        mounted.settle()
        assert [event["op"] for event in mounted.events(since) if event["path"] == "held"] == [
            "create", "write", "close"]


def lose_changes(mounted, count):
    for number in range(count):
        os.mkdir(mounted.path(f"lost{number}"))


def gaps(mounted, since=0):
    return [event for event in mounted.events(since) if event["op"] == "gap"]


def fill_log_and_lose(mounted, state_disk):
    """Until changes are lost. Returns the ballast, whose end makes room."""
    mounted.sync()
    ballast = os.path.join(state_disk, "ballast")
    disk_image.fill(ballast, leave=ROOM)
    for number in range(1_000_000):
        os.mkdir(mounted.path(f"storm{number}-" + "x" * 180))
        if number % 100 == 0 and mounted.status()["lost"]:
            return ballast
    raise AssertionError("the log never got full")


def check_one_gap(mounted, lost):
    """One gap, of @lost changes, with the next number; all before and behind it in order."""
    events = mounted.events()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [(event["first"], event["count"]) for event in events if event["op"] == "gap"] == [
        (event["seq"], lost) for event in events if event["op"] == "gap"]
    assert len(gaps(mounted)) == 1
    made = {event["path"] for event in events if event["op"] == "mkdir"}
    assert len(set(os.listdir(mounted.source)) - made) == lost, "what is not in the log is what the gap counts"


@pytest.mark.parametrize("killed", ["nobody", "worker", "all"])
def test_with_gap_changes_go_on_while_the_log_is_full_and_one_gap_event_counts_them(state_disk, mount, killed):
    mounted = mount_on(mount, state_disk, options="on-log-full=gap")
    mounted.expect_stderr = True
    mounted.expect_replay = False
    mounted.start()
    with end_of(mounted):
        ballast = fill_log_and_lose(mounted, state_disk)
        lose_changes(mounted, 100)
        lost = mounted.status()["lost"]
        assert lost >= 100 and gaps(mounted) == []
        if killed == "worker":
            mounted.kill_worker()
        elif killed == "all":
            mounted.kill_all()
            harness.abort_mounts(mounted.folder)
            mounted.start()
            # That it was mounted is lost, too, but is no directory.
            lost = mounted.status()["lost"] - 1
        os.mkdir(mounted.path("one-more"))
        lost += 1
        os.unlink(ballast)
        harness.wait_until(lambda: gaps(mounted), "the gap to be told", timeout=60)
        assert mounted.status()["lost"] is None
        storm_until_done(mounted, "after", 20)
        mounted.settle()
        if killed != "all":
            check_one_gap(mounted, lost)
        else:
            assert [event["count"] for event in gaps(mounted)] == [lost + 1]
        gap = gaps(mounted)[0]
        # A subscriber that stands before, at and behind the gap gets what follows.
        for since in (gap["seq"] - 2, gap["seq"] - 1, gap["seq"]):
            assert mounted.events(since)[0]["seq"] == since + 1
        # What was made behind the gap replays onto the tree as it was there.
        tail = mounted.events(gap["seq"])
        made = [event["path"] for event in tail if event["op"] == "mkdir"]
        assert made == [f"after{number}" for number in range(20)]
        shown = subprocess.run([harness.HRFS, "log", mounted.state, "--json", "--op", "gap"], capture_output=True,
                               text=True, check=True, timeout=harness.PATIENCE_S)
        assert shown.stdout.count("\n") == 1


def test_gaps_count_what_is_lost_while_many_programs_change_the_tree(state_disk, mount):
    mounted = mount_on(mount, state_disk, options="on-log-full=gap")
    mounted.expect_stderr = True
    mounted.expect_replay = False
    mounted.start()
    with end_of(mounted):
        ballast = fill_log_and_lose(mounted, state_disk)
        storms = [subprocess.Popen(["sh", "-c", f'cd "{mounted.point}" && i=0; '
                                    f'while [ $i -lt 400 ]; do mkdir many{storm}-$i || exit 1; i=$((i + 1)); done'])
                  for storm in range(4)]
        harness.wait_until(lambda: os.path.exists(f"{mounted.source}/many3-50"), "the storms", timeout=60)
        os.unlink(ballast)
        assert [storm.wait(120) for storm in storms] == [0] * 4
        harness.wait_until(lambda: gaps(mounted) and not mounted.status()["lost"], "the gap to be told", timeout=60)
        check_one_gap(mounted, gaps(mounted)[0]["count"])


def log_bytes(mounted):
    total = 0
    for name in ("events.db", "events.db-wal", "journal"):
        with contextlib.suppress(FileNotFoundError):
            total += os.path.getsize(f"{mounted.state}/{name}")
    return total


def check_that_reason_is_said(mounted, reason):
    failed = subprocess.run([harness.HRFS, "sync", mounted.point], capture_output=True, text=True,
                            timeout=harness.PATIENCE_S)
    assert failed.returncode == 1 and failed.stderr.count("\n") == 1 and reason in failed.stderr
    assert f"{CANNOT_WRITE}: {reason}\n" in mounted.stderr()


def check_that_full_log_is_refused_in_a_line(mounted, reason):
    assert "not closed cleanly" not in mounted.stderr(), "what is in the journal is in the log"
    failed = subprocess.run(mounted.command(), capture_output=True, text=True, timeout=harness.PATIENCE_S)
    assert failed.returncode == STATUS_LOG
    assert failed.stderr == f"mount.hrfs: the log in {mounted.state} is full: {reason}\n"
    assert harness.mounts_below(mounted.folder) == []


def test_a_log_whose_disk_is_full_is_refused_and_it_is_said_what_to_do(state_disk, mount):
    mounted = mount_on(mount, state_disk)
    mounted.expect_stderr = True
    mounted.start()
    with end_of(mounted):
        write(mounted.path("old"), b"what was there")
        ballast, _ = fill_log(mounted, state_disk)
        check_that_reason_is_said(mounted, "its disk is full; make room there")
        mounted.stop()
        check_that_full_log_is_refused_in_a_line(mounted, "its disk is full; make room there")
        os.unlink(ballast)
        mounted.start()
        os.mkdir(mounted.path("after"))


@pytest.mark.parametrize("journal", ["journal_size=1M,", ""], ids=["small journal", "usual journal"])
def test_a_log_never_grows_above_its_quota_and_a_larger_one_lets_changes_go_on(mount, journal):
    quota = 8 << 20
    mounted = mount(start=False, options=f"{journal}log-quota=8M")
    mounted.expect_stderr = True
    mounted.start()
    with pytest.raises(OSError) as caught:
        for number in range(1_000_000):
            os.mkdir(mounted.path(f"{number}-" + "x" * 180))
            if number % 50 == 0:
                assert log_bytes(mounted) <= quota
    assert is_enospc(caught.value)
    assert log_bytes(mounted) > quota // 2, "most of the quota is of use"
    assert mounted.status()["log_error"] == "EDQUOT" and mounted.status()["log_quota"] == quota
    check_that_reason_is_said(mounted, "log-quota is reached; mount with a larger one")
    mounted.stop()
    # Closing it has made a little room.
    mounted.start()
    take_the_last_room(mounted, "0-" + "x" * 180)
    mounted.stop()
    check_that_full_log_is_refused_in_a_line(mounted, "log-quota is reached; mount with a larger one")
    assert log_bytes(mounted) <= quota
    mounted.options = f"{journal}log-quota=32M"
    mounted.start()
    harness.wait_until(lambda: can_change(mounted, "again"), "changes to go on")
    harness.wait_until(lambda: can_store(mounted), "the log's disk to be written to")


@pytest.mark.parametrize("kib", [8 << 10, (8 << 10) + 1, 8500, 9 << 10, 12 << 10, 64 << 10])
def test_every_quota_from_the_smallest_on_has_room_for_the_usual_journal(mount, kib):
    mounted = mount(start=False, options=f"log-quota={kib}K")
    mounted.start()
    storm_until_done(mounted, "some", 100)
    mounted.sync()
    assert log_bytes(mounted) <= kib << 10


@pytest.mark.parametrize("options, status", [("log-quota=1M", STATUS_USAGE), ("log-quota=none", STATUS_USAGE),
                                             ("journal_size=32M,log-quota=16M", STATUS_LOG)])
def test_a_quota_too_small_to_work_with_is_refused(mount, options, status):
    mounted = mount(start=False, options=options)
    failed = subprocess.run(mounted.command(), capture_output=True, text=True, timeout=harness.PATIENCE_S)
    assert failed.returncode == status
    assert failed.stderr.count("\n") == 1 and "log-quota" in failed.stderr
    assert harness.mounts_below(mounted.folder) == []


def test_changes_wait_while_another_program_writes_to_the_database_and_none_is_lost(mount):
    mounted = mount(start=False, options="journal_size=1M,on-log-full=gap")
    mounted.expect_stderr = True
    mounted.start()
    os.mkdir(mounted.path("before"))
    mounted.sync()
    with contextlib.closing(sqlite3.connect(f"{mounted.state}/events.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        storm = subprocess.Popen(["sh", "-c", f'cd "{mounted.point}" && i=0; name={"x" * 180}; '
                                  'while [ $i -lt 3000 ]; do : > $i$name; i=$((i + 1)); done'])
        harness.wait_until(lambda: mounted.status()["log_error"] == "EBUSY", "the daemon to say so", timeout=60)
        harness.wait_until(lambda: mounted.status()["journal"]["used"] > 800_000, "the ring to be full", timeout=60)
        assert storm.poll() is None, "it waits"
        database.execute("ROLLBACK")
    assert storm.wait(60) == 0
    mounted.settle()
    assert mounted.status()["log_error"] is None
    assert gaps(mounted) == []


def test_a_mount_waits_for_room_while_another_program_writes_to_the_database(mount):
    mounted = mount(start=False, options="journal_size=1M")
    mounted.expect_stderr = True
    mounted.start()
    os.mkdir(mounted.path("before"))
    mounted.sync()
    with contextlib.closing(sqlite3.connect(f"{mounted.state}/events.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        storm = subprocess.Popen(["sh", "-c", f'cd "{mounted.point}" && i=0; name={"x" * 180}; '
                                  'while [ $i -lt 3000 ]; do : > $i$name; i=$((i + 1)); done'], stderr=subprocess.DEVNULL)
        harness.wait_until(lambda: mounted.status()["log_error"] == "EBUSY", "the daemon to say so", timeout=60)
        used = 0
        while used < (now := mounted.status()["journal"]["used"]) or now < 800_000:
            used = now
            time.sleep(0.1)
        mounted.kill_all()
        harness.abort_mounts(mounted.folder)
        storm.wait(60)
        said = len(mounted.stderr())
        with open(mounted.stderr_path, "ab") as stderr:
            mounted.process = subprocess.Popen(mounted.command(), stdin=subprocess.DEVNULL, stderr=stderr, cwd="/")
        harness.wait_until(lambda: "holds a write transaction" in mounted.stderr()[said:], "it to try")
        assert mounted.process.poll() is None, "it waits"
        database.execute("ROLLBACK")
    harness.wait_until(mounted.is_live, "the mount")


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
            harness.wait_until(lambda: CANNOT_WRITE in mounted.stderr(), "the message")
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
        harness.wait_until(lambda: disk_image.free_bytes(source_disk) > 1 << 20, "room on the source's disk")
        write(mounted.path("small"), b"there is room again")


SMALL = 20 << 20

# Each fills the disk of its source by a call of its own.
FILLERS = {
    "fallocate": lambda path, number: allocate(f"{path}/a{number}", 1 << 20),
    "mkdir": lambda path, number: os.mkdir(f"{path}/d{number}"),
    "symlink": lambda path, number: os.symlink("t" * 900, f"{path}/s{number}"),
    "copy_file_range": lambda path, number: copy(f"{path}/seed", f"{path}/c{number}"),
    "setxattr": lambda path, number: os.setxattr(f"{path}/seed", f"user.{number}", b"v" * 900),
}


def allocate(path, size):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.posix_fallocate(fd, 0, size)
    finally:
        os.close(fd)


def copy(old, new):
    with open(old, "rb") as source, open(new, "wb", buffering=0) as target:
        assert os.copy_file_range(source.fileno(), target.fileno(), 1 << 20) > 0


@pytest.mark.parametrize("filler", FILLERS)
def test_a_source_filled_by_any_call_says_so_and_the_log_replays_to_what_is_there(place, mount, filler):
    with disk_image.Image(place, SMALL) as image:
        mounted = mount(start=False, source=os.path.join(image.point, "source"))
        mounted.start()
        with end_of(mounted):
            write(mounted.path("seed"), os.urandom(1 << 20))
            if filler != "setxattr":
                disk_image.fill(os.path.join(image.point, "ballast"), leave=1 << 20)
            with pytest.raises(OSError) as caught:
                for number in range(100_000):
                    FILLERS[filler](mounted.point, number)
            assert caught.value.errno == errno.ENOSPC
            if filler == "setxattr":
                told = {event["name"] for event in mounted.events() if event["op"] == "setxattr"}
                assert told == set(os.listxattr(f"{mounted.source}/seed"))
            else:
                # Whether one more name fits depends on where its hash puts it.
                os.unlink(os.path.join(image.point, "ballast"))
            mounted.settle()
        os.close(mounted.source_fd)
        mounted.source_fd = os.open(mounted.folder, os.O_PATH)


def fill_all(path, filler):
    """As one user, until there is no more. Returns what is free then, root's share included."""
    with pytest.raises(OSError) as caught:
        for number in range(100_000):
            USER_FILLERS[filler](path, number)
    assert caught.value.errno == errno.ENOSPC
    facts = os.statvfs(path)
    return facts.f_bfree * facts.f_bsize


def append(path, number):
    with open(f"{path}/w{number % 4}", "ab", buffering=0) as file:
        assert file.write(b"x" * 65536)


USER_FILLERS = {
    "write": append,
    "fallocate": FILLERS["fallocate"],
    "copy_file_range": FILLERS["copy_file_range"],
    "setxattr": lambda path, number: os.setxattr(f"{path}/many/{number}", "user.name", os.urandom(900)),
    "link": lambda path, number: os.link(f"{path}/seed", f"{path}/{number}-" + "n" * 240),
}


def prepare_for_user(folder, user):
    """And leave a mebibyte that is not kept for root."""
    os.makedirs(f"{folder}/many")
    write(f"{folder}/seed", os.urandom(1 << 20))
    for number in range(3000):
        write(f"{folder}/many/{number}", b"")
        os.chown(f"{folder}/many/{number}", user.pw_uid, user.pw_gid)
    for name in ("", "seed"):
        os.chown(f"{folder}/{name}", user.pw_uid, user.pw_gid)
    disk_image.fill(os.path.join(os.path.dirname(folder), "ballast"), leave=1 << 20)


@pytest.mark.parametrize("filler", USER_FILLERS)
def test_an_ordinary_user_fills_a_disk_as_far_as_natively_and_root_can_still_write(place, mount, filler, far_mode):
    user = harness.USER
    with disk_image.Image(place, SMALL, reserved=20) as image:
        prepare_for_user(f"{image.point}/native", user)
        native = harness.in_child(lambda: fill_all(f"{image.point}/native", filler), user).value
    with disk_image.Image(place, SMALL, reserved=20) as image:
        prepare_for_user(f"{image.point}/source", user)
        mounted = mount(start=False, source=f"{image.point}/source", options=far_mode.options)
        mounted.start()
        with end_of(mounted):
            left = harness.in_child(lambda: fill_all(mounted.point, filler), user).value
            assert native > SMALL // 10 and abs(left - native) < SMALL // 50
            write(mounted.path("roots"), b"r" * (1 << 20))
            os.unlink(mounted.path("roots"))
            mounted.settle()
        os.close(mounted.source_fd)
        mounted.source_fd = os.open(mounted.folder, os.O_PATH)


def test_a_write_beyond_the_limit_of_its_process_fails_and_is_no_event(mount):
    mounted = mount()
    since = mounted.sync()

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    program = f"""
import errno, os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
fd = os.open({mounted.path("f")!r}, os.O_WRONLY | os.O_CREAT)
assert os.write(fd, b"x" * 10000) == 8192
for change in (lambda: os.write(fd, b"y"), lambda: os.truncate(fd, 9000), lambda: os.posix_fallocate(fd, 0, 9000)):
    try:
        change()
    except OSError as error:
        assert error.errno == errno.EFBIG, error
    else:
        raise SystemExit("it was allowed")
"""
    subprocess.run(["python3", "-c", program], check=True, preexec_fn=limit, timeout=harness.PATIENCE_S)
    last, before = mounted.wait_for(since, op="close", path="f")
    assert [(event["op"], event.get("length")) for event in [*before, last]] == [
        ("create", None), ("write", 8192), ("close", None)]
