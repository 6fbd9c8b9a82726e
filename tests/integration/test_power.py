"""
Power loss: what a sync promised is there afterwards, in the tree and in the log, and the log tells nothing else. What
the disk lost or kept beside that, the scan of the next mount tells: the log, replayed, is the tree.

Source and state are on an image that is cut off at a random instant (disk_image.Image.cut). What the kernel had handed to
the disk by then counts as kept, so a flush of the disk's own cache is not seen here. HRFS_POWER_CUTS is the number of cuts.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

import disk_image
import harness
import replay
import sync_storm
import syscalls

CUTS = int(os.environ.get("HRFS_POWER_CUTS", "12"))
CUTS_AN_IMAGE = 8
CONTROL_CUTS = 3
STORMS = 3
IMAGE_SIZE = 192 << 20


class Listener(threading.Thread):
    """A subscriber that remembers what it was sent until the connection ends."""

    def __init__(self, mounted, since):
        super().__init__(daemon=True)
        self.since = since
        self.subscription = mounted.subscribe(since or "oldest")
        self.lines = []

    def run(self):
        with contextlib.suppress(OSError):
            while lines := self.subscription.read_lines():
                self.lines += lines

    def wait_for(self, mounted):
        """Until it has been sent all that the log has now. Without its disk the daemon may not manage that."""
        with contextlib.suppress(OSError, harness.TimeIsUp):
            last = int(mounted.attribute("user.hrfs.seq"))
            harness.wait_until(lambda: self.since + len(self.lines) >= last, "the subscriber", timeout=3)

    def events(self):
        """After the end of the daemon."""
        self.join(harness.PATIENCE_S)
        assert not self.is_alive()
        self.subscription.close()
        return [event for event in map(json.loads, self.lines) if "seq" in event]


class Diary:
    """
    What one storm was promised before @cut_ns.

    A sync that the cut overtakes may return 0 although the file system has given up: that is the way this cut
    is made, and no promise. Those are in `overtaken`.
    """

    def __init__(self, path, cut_ns):
        self.did = []
        self.synced = []
        self.overtaken = []
        self.changes_synced = 0
        with open(path) as lines:
            for line in lines.read().splitlines():
                kind, when_ns, *rest = json.loads(line)
                assert kind != "ended" or when_ns > cut_ns, f"the storm failed before the cut: {rest}"
                if when_ns > cut_ns:
                    self.overtaken += [rest] if kind == "synced" else []
                elif kind == "did":
                    self.did.append(tuple(rest))
                elif kind == "synced":
                    self.synced.append(rest)
                    self.changes_synced = len(self.did)

    def promised_seq(self):
        return max((seq for _, seq, _, _ in self.synced), default=0)

    def promised_changes(self):
        return self.did[:self.changes_synced]


def key(event):
    """An event as a diary has it."""
    if event["op"] == "write":
        return "write", event["path"], event.get("offset"), event.get("length")
    if event["op"] == "rename":
        return "rename", event["path"], event["to"]
    return event["op"], event["path"]


def kill_daemon(mounted):
    """Supervisor and worker, also one that was started a moment ago; the daemon is not asked."""
    supervisor = mounted.process.pid
    os.kill(supervisor, signal.SIGSTOP)
    with open(f"/proc/{supervisor}/task/{supervisor}/children") as children:
        workers = [int(pid) for pid in children.read().split()]
    for pid in [*workers, supervisor]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    mounted.process.wait(harness.PATIENCE_S)
    mounted.process = None
    harness.abort_mounts(mounted.folder)


class Machine:
    """A computer whose power can be cut: its disk, and what must be true of it."""

    def __init__(self, place, image, options):
        self.place = place
        self.image = image
        self.options = f"journal_size=4M,{options}"
        self.boots = 0
        self.log = []
        self.base = None  # the tree when the log began

    def mount(self):
        """hrfs on the image as it is now."""
        folder = os.path.join(self.place, f"boot{self.boots}")
        self.boots += 1
        os.mkdir(folder)
        mounted = harness.Mount(folder, source=os.path.join(self.image.point, "source"), options=self.options)
        mounted.state = os.path.join(self.image.point, "state")
        return mounted

    @contextlib.contextmanager
    def booted(self):
        mounted = self.mount()
        try:
            mounted.start()
            self.base = self.base or mounted.base
            harness.wait_until(lambda: mounted.status()["scan"]["state"] == "done", "the scan", timeout=60)
            yield mounted
        finally:
            mounted.destroy()

    def start_storms(self, mounted):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sync_storm.py")
        diaries = [os.path.join(mounted.folder, f"diary{number}") for number in range(STORMS)]
        return diaries, [subprocess.Popen([sys.executable, script, mounted.point, f"{self.boots}.{number}", diary])
                         for number, diary in enumerate(diaries)]

    def run_until_cut(self, wait_s):
        """A storm and the end of the power. Returns (what the storms were promised, what a subscriber was sent)."""
        with self.booted() as mounted:
            listener = Listener(mounted, len(self.log))
            listener.start()
            diaries, storms = self.start_storms(mounted)
            try:
                harness.wait_until(lambda: all(os.path.exists(d) and b"synced" in open(d, "rb").read()
                                               for d in diaries), "the storms")
                time.sleep(wait_s)
                cut_ns = time.monotonic_ns()
                self.image.cut()
                listener.wait_for(mounted)
            finally:
                kill_daemon(mounted)
                for storm in storms:
                    storm.wait(harness.PATIENCE_S)
        self.image.unmount()
        self.image.mount()
        return [Diary(diary, cut_ns) for diary in diaries], listener.events()

    def look(self):
        """Mount what the disk kept, change something, unmount. Returns all events that are logged then."""
        with self.booted() as mounted:
            os.mkdir(mounted.path(f"after{self.boots}"))
            mounted.stop()
            assert mounted.exit_status == 0, mounted.stderr()
            mounted.check_database()
            log = mounted.logged()
        assert [event["seq"] for event in log] == list(range(1, len(log) + 1)), "a hole, or a repeat"
        assert any(key(event) == ("mkdir", f"after{self.boots}") for event in log)
        self.check_replay(log)
        return log

    def check_replay(self, log):
        wrong = replay.differences(replay.replay(dict(self.base), log),
                                   replay.walk(os.path.join(self.image.point, "source")))
        assert not wrong, "\n".join(wrong[:20])

    def is_of_look(self, event):
        return (event["op"] in ("mounted", "unmounted") or event.get("origin") in ("recovered", "scan")
                or key(event) == ("mkdir", f"after{self.boots}"))

    def file_is_kept(self, path, length):
        try:
            with open(os.path.join(self.image.point, "source", path), "rb") as file:
                return file.read(length) == sync_storm.content(path, 0, length)
        except FileNotFoundError:
            # It was renamed after this sync; the sync of the directory that follows is looked at by itself.
            return "/new/" in path and self.file_is_kept(path.replace("/new/", "/"), length)

    def cut(self, wait_s, everything_is_promised=False):
        """One cut. Returns (number of syncs, events lost that had been promised); asserts all that no setting changes."""
        diaries, sent = self.run_until_cut(wait_s)
        before, self.log = self.log, self.look()
        assert self.log[:len(before)] == before, "what had been in the log before is another now"

        # What the disk kept are the first of the events that there were; then come those of the mount after.
        kept = 0
        for event, original in zip(self.log[len(before):], sent):
            if event != original:
                break
            kept += 1
        for event in self.log[len(before) + kept:]:
            assert kept == len(sent) or self.is_of_look(event), \
                f"never sent: {event}; sent: {sent[kept:kept + 1]}"

        for diary in diaries:
            for number, (how, _, path, length) in enumerate(diary.synced):
                assert self.file_is_kept(path, length), (
                    f"{how} of {path} ({length} bytes) returned, and its data are not there; it was sync "
                    f"{number + 1} of {len(diary.synced)} before the cut, {diary.overtaken} were overtaken by it")

        lost = max(0, max(diary.promised_seq() for diary in diaries) - len(before) - kept)
        events = {key(event) for event in self.log if event.get("origin") != "scan"}
        for diary in diaries:
            promised = diary.did if everything_is_promised else diary.promised_changes()
            lost += sum(change not in events for change in promised)
        return sum(len(diary.synced) for diary in diaries), lost


def cut_often(place, options, cuts, seed, **arguments):
    """@cuts cuts, a new image now and then. Returns (syncs, promised events lost)."""
    chance = random.Random(seed)
    synced = lost = done = 0
    while done < cuts:
        folder = os.path.join(place, f"machine{done}")
        os.mkdir(folder)
        with disk_image.Image(folder, IMAGE_SIZE) as image:
            machine = Machine(folder, image, options)
            for _ in range(min(CUTS_AN_IMAGE, cuts - done)):
                result = machine.cut(chance.uniform(0, 0.6), **arguments)
                synced, lost, done = synced + result[0], lost + result[1], done + 1
    return synced, lost


@pytest.fixture(params=["classic", "io_uring"])
def transport(request):
    if request.param == "io_uring":
        request.getfixturevalue("with_uring")
    return request.param


@pytest.mark.limit(60 + 10 * CUTS)
def test_what_was_synced_survives_a_power_cut(place, transport, show):
    cuts = (CUTS + 1) // 2
    synced, lost = cut_often(place, f"transport={transport}", cuts, transport)
    show(f"{cuts} power cuts ({transport}): {synced} syncs that returned, {lost} promised events lost")
    assert lost == 0


@pytest.mark.limit(60 + 10 * CUTS)
def test_with_durability_always_every_change_survives_a_power_cut(place, show):
    cuts = (CUTS + 3) // 4
    synced, lost = cut_often(place, "transport=classic,durability=always", cuts, "always", everything_is_promised=True)
    show(f"{cuts} power cuts (durability=always): {lost} events lost")
    assert lost == 0


def synced_by(place, sync, options="transport=classic"):
    """Cut after @sync of a mount whose changes nothing else syncs. Returns (seq promised, seq kept, directories kept)."""
    with disk_image.Image(place, IMAGE_SIZE) as image:
        machine = Machine(place, image, options)
        with machine.booted() as mounted:
            for number in range(20):
                os.mkdir(mounted.path(f"d{number}"))
            seq = int(mounted.attribute("user.hrfs.seq"))
            sync(mounted.point)
            image.cut()
            kill_daemon(mounted)
        image.unmount()
        image.mount()
        kept = len(os.listdir(os.path.join(image.point, "source")))
        return seq, len(machine.look()), kept


def test_sync_of_the_whole_machine_survives_a_power_cut(place):
    promised, kept, directories = synced_by(place, lambda point: os.sync())
    assert kept >= promised and directories == 20


@pytest.mark.parametrize("option", ["sync", "dirsync"])
def test_names_survive_a_power_cut_by_themselves(place, option):
    promised, kept, directories = synced_by(place, lambda point: None, option)
    assert kept >= promised and directories == 20


@pytest.mark.xfail(reason="Linux hands syncfs(2) to virtiofs only, and returns 0 for other FUSE mounts", strict=True)
def test_syncfs_of_the_mount_survives_a_power_cut(place):
    promised, kept, directories = synced_by(place, syncfs)
    assert kept >= promised and directories == 20


def syncfs(point):
    fd = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
    try:
        syscalls.check(syscalls.libc.syncfs(fd))
    finally:
        os.close(fd)


def test_a_log_that_is_never_synced_loses_events_in_a_power_cut(place, show):
    """The control: these tests can see a loss."""
    _, lost = cut_often(place, "transport=classic,durability=process", CONTROL_CUTS, "process")
    show(f"{CONTROL_CUTS} power cuts (durability=process): {lost} promised events lost, as it must be")
    assert lost > 0
