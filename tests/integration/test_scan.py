"""The scan at the start of a mount: what was changed while nobody looked becomes events, and nothing else does."""

import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

import harness
import replay


@pytest.fixture
def mount(mount):
    """Here the scan may still run when the mount is live."""
    def make(start=True, **arguments):
        mounted = mount(start=False, **arguments)
        mounted.waits_for_scan = False
        return mounted.start() if start else mounted

    return make


def scan_of(mounted):
    return mounted.status()["scan"]


def scanned(mounted, patience=60):
    """Wait for the end of the scan; returns what the status says of it."""
    def ended():
        scan = scan_of(mounted)
        return scan if scan["state"] not in ("waiting", "running") else None
    try:
        scan = harness.wait_until(ended, "the scan", timeout=patience)
    except harness.TimeIsUp as error:
        raise harness.TimeIsUp(f"{error}: {scan_of(mounted)}") from error
    assert scan["state"] == "done", scan
    return scan


def reported(events):
    """What the scan told: (op, path, new path or target)."""
    return [(event["op"], event["path"], event.get("to", event.get("target"))) for event in events
            if event.get("origin") == "scan"]


def changed(events):
    """The names that the scan told of."""
    return {to if op in ("link", "rename") else path for op, path, to in reported(events)}


def write(path, data=b"data", mode="wb"):
    with open(path, mode) as file:
        file.write(data)


def plant(root):
    """A tree with something of every kind."""
    for name in ("a", "a/b", "a/b/c", "old", "old/below", "empty"):
        os.mkdir(os.path.join(root, name))
    for name in ("top", "a/one", "a/b/two", "a/b/c/three", "old/four", "old/below/five", "kept", "mode", "touched",
                 "replaced", "becomes_dir", "linked"):
        write(os.path.join(root, name), name.encode() * 10)
    os.symlink("top", os.path.join(root, "link"))
    os.symlink("a", os.path.join(root, "link_to_a"))
    os.link(os.path.join(root, "linked"), os.path.join(root, "a/linked_too"))
    os.mkfifo(os.path.join(root, "fifo"))
    os.mkdir(os.path.join(root, "becomes_file"))
    write(os.path.join(root, "becomes_file/inside"))


def edit(root):
    """An edit of every kind."""
    path = lambda name: os.path.join(root, name)
    write(path("new"))
    write(path("new_and_empty"), b"")
    os.mkdir(path("new_dir"))
    write(path("new_dir/file"), b"x" * 100000)
    os.symlink("nowhere", path("new_dir/link"))
    os.mkfifo(path("new_dir/fifo"))
    os.link(path("kept"), path("new_dir/kept_too"))
    write(path("top"), b"grown" * 100)
    os.truncate(path("a/one"), 3)
    write(path("a/b/two"), b"TWO" + b"two" * 9)
    os.chmod(path("mode"), 0o600)
    os.utime(path("touched"), (1, 1))
    os.unlink(path("a/b/c/three"))
    shutil.rmtree(path("old"))
    os.rmdir(path("empty"))
    write(path("replacing"), b"replaced" * 10)
    os.rename(path("replacing"), path("replaced"))
    os.unlink(path("becomes_dir"))
    os.mkdir(path("becomes_dir"))
    shutil.rmtree(path("becomes_file"))
    write(path("becomes_file"))
    os.unlink(path("link"))
    os.symlink("kept", path("link"))
    os.unlink(path("linked"))
    os.unlink(path("fifo"))
    os.chmod(path("a/b"), 0o700)
    os.chmod(root, 0o750)


EDITED = {"new", "new_and_empty", "new_dir", "new_dir/file", "new_dir/link", "new_dir/fifo", "new_dir/kept_too",
          "top", "a/one", "a/b/two", "mode", "touched", "a/b/c/three", "old", "old/four", "old/below", "old/below/five",
          "empty", "replaced", "becomes_dir", "becomes_file", "becomes_file/inside", "link", "linked", "fifo", "a/b", ""}


@pytest.fixture(params=["tmpfs", "disk"])
def planted(request, mount, disk_place):
    """A mount of a planted tree, whose first scan is over."""
    mounted = mount(start=False, folder=disk_place if request.param == "disk" else None)
    plant(mounted.source)
    mounted.start()
    scanned(mounted)
    return mounted


# ---- What is found ----

def test_edits_of_every_kind_while_unmounted_are_found(planted):
    planted.stop()
    edit(planted.source)
    planted.start()
    assert scanned(planted)["differences"] == len(reported(planted.events()))
    assert changed(planted.events()) == EDITED
    planted.stop()
    planted.check()


def test_edits_after_supervisor_and_worker_were_killed_are_found(planted):
    for number in range(100):
        write(planted.path(f"live{number}"))
    planted.expect_stderr = True
    planted.kill_all()
    harness.abort_mounts(planted.folder)
    edit(planted.source)
    os.unlink(os.path.join(planted.source, "live7"))
    write(os.path.join(planted.source, "live8"), b"more than before")
    write(os.path.join(planted.source, "live9"), b"DATA")
    planted.start()
    scanned(planted)
    # The bytes of live9 are as many as before: only its times tell, so the event says that it is not certain.
    assert changed(planted.events()) == EDITED | {"live7", "live8", "live9"}
    assert [event for event in planted.events() if event["path"] == "live9"][-1]["uncertain"]
    planted.stop()
    planted.check()


def test_what_was_renamed_while_unmounted_is_told_as_renamed(planted):
    planted.stop()
    path = lambda name: os.path.join(planted.source, name)
    os.rename(path("a"), path("z"))
    os.rename(path("kept"), path("z/kept"))
    os.mkdir(path("deeper"))
    os.rename(path("old"), path("deeper/old"))
    planted.start()
    scanned(planted)
    assert sorted(reported(planted.events())) == [
        ("mkdir", "deeper", None), ("rename", "a", "z"), ("rename", "kept", "z/kept"), ("rename", "old", "deeper/old")]
    planted.stop()
    planted.check()


def test_a_file_that_was_moved_down_does_not_hide_what_was_removed(mount):
    """Its row has no name when its old directory is walked, and one when it is come back to."""
    mounted = mount(start=False)
    for number in range(20):
        os.makedirs(os.path.join(mounted.source, f"d{number}/new"))
        for name in ("moved", "removed"):
            write(os.path.join(mounted.source, f"d{number}/{name}"))
    mounted.start()
    scanned(mounted)
    mounted.stop()
    for number in range(20):
        folder = os.path.join(mounted.source, f"d{number}")
        os.rename(f"{folder}/moved", f"{folder}/new/moved")
        os.unlink(f"{folder}/removed")
    mounted.start()
    scanned(mounted)
    assert sorted(reported(mounted.events())) == sorted(
        [("rename", f"d{number}/moved", f"d{number}/new/moved") for number in range(20)]
        + [("unlink", f"d{number}/removed", None) for number in range(20)])


def test_a_large_removed_tree_is_told_from_below(mount):
    mounted = mount(start=False)
    for number in range(300):
        os.makedirs(os.path.join(mounted.source, f"d/{number % 7}/{number}"))
        write(os.path.join(mounted.source, f"d/{number % 7}/{number}/file"))
    mounted.start()
    scanned(mounted)
    mounted.stop()
    shutil.rmtree(os.path.join(mounted.source, "d"))
    mounted.start()
    scanned(mounted)
    assert len(reported(mounted.events())) == 1 + 7 + 2 * 300
    mounted.stop()
    mounted.check()


def test_hard_links_made_while_unmounted_are_links(planted):
    planted.stop()
    os.mkdir(os.path.join(planted.source, "links"))
    for number in range(5):
        os.link(os.path.join(planted.source, "top"), os.path.join(planted.source, f"links/{number}"))
    planted.start()
    scanned(planted)
    assert sorted(op for op, _, _ in reported(planted.events())) == ["link"] * 5 + ["mkdir"]
    planted.stop()
    planted.check()


def make_with_number(folder, number, make):
    """What @make makes in @folder with the inode @number, which is free; or the test is skipped. Returns its path."""
    others, found = [], None
    for attempt in range(500):
        path = os.path.join(folder, f"t{attempt}")
        make(path)
        if os.stat(path).st_ino == number:
            found = path
            break
        others.append(path)
    for path in others:
        os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
    if not found:
        pytest.skip("this file system does not give numbers again at once")
    return found


@pytest.fixture
def with_links(mount, disk_place):
    """Ended, with a file of two names that were removed since; and its number."""
    mounted = mount(folder=disk_place)
    scanned(mounted)
    write(mounted.path("p"), b"old")
    os.link(mounted.path("p"), mounted.path("q"))
    ino = os.stat(mounted.path("p")).st_ino
    mounted.stop()
    os.unlink(os.path.join(mounted.source, "p"))
    os.unlink(os.path.join(mounted.source, "q"))
    return mounted, ino


def check_scans(mounted, wanted):
    """The next scan tells @wanted, and those after it nothing."""
    for expected in (wanted, [], []):
        since = len(mounted.logged())
        mounted.start()
        scanned(mounted)
        assert sorted(reported(mounted.events(since))) == sorted(expected)
        mounted.stop()
        mounted.check()


def test_a_directory_that_got_the_number_of_a_file_with_links_stays_one(with_links):
    mounted, ino = with_links
    folder = os.path.join(mounted.source, "aa")
    os.rename(make_with_number(mounted.source, ino, os.mkdir), folder)
    write(os.path.join(folder, "inside"), b"")
    check_scans(mounted, [("mkdir", "aa", None), ("create", "aa/inside", None), ("unlink", "p", None), ("unlink", "q", None)])


def test_links_to_a_file_that_got_the_number_of_another_are_links(with_links):
    mounted, ino = with_links
    os.rename(make_with_number(mounted.source, ino, lambda path: write(path, b"")), os.path.join(mounted.source, "j"))
    os.link(os.path.join(mounted.source, "j"), os.path.join(mounted.source, "zz"))
    mounted.start()
    scanned(mounted)
    told = reported(mounted.events())
    assert [op for op, _, _ in told].count("create") == [op for op, _, _ in told].count("link") == 1
    assert {path for op, path, _ in told if op == "unlink"} == {"p", "q"}
    mounted.stop()
    mounted.check()
    check_scans(mounted, [])


def test_changes_behind_a_running_mount_are_found_by_the_next_scan(planted):
    write(os.path.join(planted.source, "behind"))
    write(os.path.join(planted.source, "top"), b"changed behind")
    planted.stop()
    planted.start()
    scanned(planted)
    assert changed(planted.events()) == {"behind", "top"}
    planted.stop()
    planted.check()


# ---- What is not ----

def test_a_tree_in_which_nothing_was_changed_gives_no_events(planted):
    entries = scan_of(planted)["entries"]
    write(planted.path("live"))
    os.rename(planted.path("a"), planted.path("moved"))
    os.utime(planted.path("kept"), (5, 5))
    os.chmod(planted.path("kept"), 0o640)
    os.link(planted.path("kept"), planted.path("kept_again"))
    for _ in range(3):
        planted.stop()
        planted.start()
        assert scanned(planted)["entries"] == entries + 2
        assert scan_of(planted)["differences"] == 0
    assert reported(planted.events()) == []


def test_the_first_scan_of_a_log_takes_the_tree_as_it_is(planted):
    assert reported(planted.events()) == []
    assert scan_of(planted)["entries"] == len(replay.walk(planted.source))


def test_a_full_scan_of_a_new_log_tells_of_everything(mount):
    mounted = mount(start=False, options="scan=full")
    plant(mounted.source)
    mounted.start()
    scanned(mounted)
    mounted.stop()
    wrong = replay.differences(replay.replay({"": replay.node_of(mounted.source)}, mounted.logged()),
                               replay.walk(mounted.source))
    assert not wrong, "\n".join(wrong)
    # It is not how the tree was when the log began that its replay begins with.
    mounted.expect_replay = False


def test_with_scan_off_nothing_is_compared(planted):
    planted.stop()
    edit(planted.source)
    planted.options = "scan=off"
    planted.start()
    assert scan_of(planted)["state"] == "off"
    assert reported(planted.events()) == []
    planted.stop()
    # What was not found then is found later.
    planted.options = "scan=auto"
    planted.start()
    scanned(planted)
    assert changed(planted.events()) == EDITED


def test_a_wrong_word_for_scan_is_refused(mount):
    mounted = mount(start=False, options="scan=sometimes")
    done = subprocess.run(mounted.command(), capture_output=True, text=True, timeout=harness.PATIENCE_S)
    assert done.returncode == 1
    assert done.stderr == "mount.hrfs: scan=sometimes: not auto, full or off\n"


def test_without_what_was_known_the_tree_is_taken_as_it_is(planted):
    """Deleted events and a deleted or damaged tree.db cannot be compared with; nothing false is told."""
    planted.stop()
    write(os.path.join(planted.state, "tree.db"), b"no database" * 1000)
    write(os.path.join(planted.source, "new"))
    planted.start()
    scanned(planted)
    assert reported(planted.events()) == []
    planted.expect_replay = False


def test_links_are_not_followed_and_mode_0_directories_do_not_end_a_scan(planted):
    planted.stop()
    outside = os.path.join(planted.folder, "outside")
    os.mkdir(outside)
    write(os.path.join(outside, "file"))
    os.symlink(outside, os.path.join(planted.source, "way_out"))
    shutil.rmtree(os.path.join(planted.source, "a"))
    os.symlink(outside, os.path.join(planted.source, "a"))
    planted.start()
    scanned(planted)
    assert not any("file" in path for _, path, _ in reported(planted.events()))
    assert ("symlink", "a", outside) in reported(planted.events())


# ---- While it runs ----

def plant_many(mounted, files):
    """@files of them, in 100 directories."""
    for directory in range(100):
        os.mkdir(os.path.join(mounted.source, str(directory)))
        for name in range(files // 100):
            os.close(os.open(os.path.join(mounted.source, f"{directory}/{name}"), os.O_CREAT | os.O_WRONLY))


def test_the_mount_is_usable_while_the_scan_runs_and_ends_at_once(mount):
    mounted = mount(start=False)
    plant_many(mounted, 100_000)
    mounted.start()
    write(mounted.path("usable"))
    assert scan_of(mounted)["state"] in ("waiting", "running")
    assert os.path.getsize(mounted.path("usable")) == 4
    mounted.process.send_signal(signal.SIGTERM)
    assert mounted.process.wait(harness.PATIENCE_S) == 0


def test_a_scan_whose_worker_is_killed_is_done_again_and_tells_nothing_twice(mount):
    mounted = mount(start=False)
    plant_many(mounted, 20_000)
    mounted.start()
    assert scanned(mounted)["entries"] == 20_000 + 100 + 1
    mounted.stop()
    for number in range(100):
        shutil.rmtree(os.path.join(mounted.source, str(number)))
    mounted.expect_stderr = True
    mounted.start()
    kills = 0
    while scan_of(mounted)["state"] in ("waiting", "running") and kills < 5:
        mounted.kill_worker()
        kills += 1
    assert kills > 0
    scanned(mounted)
    told = reported(mounted.events())
    assert len(told) == len(set(told)) == 20_000 + 100


class Storm(threading.Thread):
    """Changes of every kind through the mount until it is stopped."""

    def __init__(self, mounted, number):
        super().__init__()
        self.root = mounted.path(f"storm{number}")
        self.number = number
        self.rounds = 0
        self.is_stopping = False
        self.error = None

    def path(self, name):
        return os.path.join(self.root, name)

    def round(self):
        write(self.path("file"), b"x" * (self.rounds % 5000))
        write(self.path("file"), b"more", "ab")
        write(self.path("swap"), b"y" * (self.rounds % 77))
        os.rename(self.path("swap"), self.path("kept"))
        os.chmod(self.path("kept"), 0o600 + self.rounds % 8)
        os.utime(self.path("kept"), (self.rounds, self.rounds))
        os.mkdir(self.path("dir"))
        os.symlink(str(self.rounds), self.path("dir/link"))
        os.link(self.path("kept"), self.path("dir/hard"))
        os.truncate(self.path("dir/hard"), self.rounds % 999)
        os.rename(self.path("dir"), self.path("moved"))
        os.rename(self.path("big"), self.path("elsewhere"))
        os.rename(self.path("elsewhere"), self.path("big"))
        write(self.path("big/100"), b"z" * (self.rounds % 100))
        os.unlink(self.path("moved/link"))
        os.unlink(self.path("moved/hard"))
        os.rmdir(self.path("moved"))
        os.unlink(self.path("file"))

    def run(self):
        try:
            while not self.is_stopping:
                self.round()
                self.rounds += 1
                # A scan comes to its end only where it can read the log faster than it is written.
                time.sleep(0.002)
        except BaseException as error:
            self.error = error

    def stop(self):
        self.is_stopping = True
        self.join()
        assert self.error is None, self.error


@pytest.mark.parametrize("known", ["nothing", "everything"])
def test_a_storm_through_the_mount_gives_no_event_of_the_scan(mount, mode, known):
    mounted = mount(start=False, options=f"scan=full,{mode.options}" if known == "everything" else mode.options)
    for number in range(2):
        os.makedirs(os.path.join(mounted.source, f"storm{number}/big"))
        for name in range(200):
            write(os.path.join(mounted.source, f"storm{number}/big/{name}"))
    if known == "everything":
        mounted.options = mode.options
        mounted.start()
        scanned(mounted)
        mounted.stop()
        mounted.options = f"scan=full,{mode.options}"
    mounted.start()
    storms = [Storm(mounted, number) for number in range(2)]
    for storm in storms:
        storm.start()
    scanned(mounted)
    for storm in storms:
        storm.stop()
    assert all(storm.rounds > 0 for storm in storms)
    assert [event for event in mounted.events() if event.get("origin") == "scan"] == []
    mounted.stop()
    mounted.check()
    # Nor afterwards, of all that the storm has left.
    mounted.start()
    assert scanned(mounted)["differences"] == 0


def test_a_rename_of_what_no_scan_has_seen_does_not_end_the_scan(mount):
    mounted = mount(start=False, options="scan=off")
    write(os.path.join(mounted.source, "a"))
    write(os.path.join(mounted.source, "other"))
    mounted.start()
    os.rename(mounted.path("a"), mounted.path("b"))
    mounted.stop()
    mounted.options = "scan=auto"
    mounted.start()
    assert scanned(mounted)["entries"] == 3
    mounted.stop()
    write(os.path.join(mounted.source, "other"), b"changed")
    write(os.path.join(mounted.source, "new"))
    mounted.start()
    scanned(mounted)
    assert changed(mounted.events()) == {"other", "new"}
