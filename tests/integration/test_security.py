"""What hrfs defends, and against whom: see docs/security.md."""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading

import pytest

import harness

# Bits of CAP_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETGID, SETUID, LINUX_IMMUTABLE, SYS_ADMIN, MKNOD, LEASE, SETFCAP.
WORKER_CAPABILITIES = sum(1 << bit for bit in (0, 1, 2, 3, 4, 6, 7, 9, 21, 27, 28, 31))
SETPCAP = 1 << 8
SYS_CHROOT = 1 << 18


# ---- Privileges ----

def process_status(pid):
    with open(f"/proc/{pid}/status") as lines:
        return dict(line.rstrip("\n").split(":\t", 1) for line in lines if ":\t" in line)


def capabilities(pid, which):
    return int(process_status(pid)[which], 16)


def check_capabilities(pid, expected):
    for which in ("CapPrm", "CapEff", "CapBnd"):
        assert capabilities(pid, which) & ~expected == 0, f"{which} of {pid} has more"
        assert capabilities(pid, which) == expected & capabilities(os.getpid(), "CapPrm")
    assert capabilities(pid, "CapInh") == capabilities(pid, "CapAmb") == 0


def notifier_of(worker):
    """The one process that the worker has forked."""
    with open(f"/proc/{worker}/task/{worker}/children") as children:
        (notifier,) = children.read().split()
    return int(notifier)


def has_another_notifier(mounted, dead):
    """Forked by whatever thread had something to tell."""
    worker = mounted.status()["worker_pid"]
    children = []
    for thread in os.listdir(f"/proc/{worker}/task"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{worker}/task/{thread}/children") as pids:
            children += pids.read().split()
    return children and str(dead) not in children


def check_privileges_of_root(mounted):
    status = mounted.status()
    check_capabilities(status["supervisor_pid"], WORKER_CAPABILITIES | SETPCAP)
    check_capabilities(status["worker_pid"], WORKER_CAPABILITIES)
    for thread in os.listdir(f"/proc/{status['worker_pid']}/task"):
        # A thread that helps to start ends by itself, between the two looks too; the first one stays.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            assert capabilities(f"{status['worker_pid']}/task/{thread}", "CapPrm") & ~WORKER_CAPABILITIES == 0
    notifier = notifier_of(status["worker_pid"])
    for pid in (status["supervisor_pid"], status["worker_pid"], notifier):
        assert process_status(pid)["NoNewPrivs"] == "1"
    # It has just been forked, maybe.
    harness.wait_until(lambda: capabilities(notifier, "CapPrm") == capabilities(notifier, "CapEff") == 0, "it to have none")


def test_supervisor_and_worker_of_root_have_only_the_capabilities_they_need(mount, mode):
    mounted = mount(options=mode.options)
    check_privileges_of_root(mounted)
    mounted.kill_worker()
    mounted.expect_stderr = True
    check_privileges_of_root(mounted)


def test_a_restart_neither_gains_nor_loses_a_capability(mount):
    mounted = mount(options="transport=classic")
    for _ in range(2):
        with mounted.connect() as connection:
            assert connection.ask({"restart": {}}) == {"restart": {}}
        harness.wait_until(lambda: not is_on_trial(mounted), "the end of the trial")
        check_privileges_of_root(mounted)


def is_on_trial(mounted):
    try:
        return mounted.status()["on_trial"]
    except (AssertionError, KeyError, OSError):
        return True


@pytest.mark.as_user
def test_the_notifier_holds_two_descriptors_and_ends_with_its_worker(mount):
    mounted = mount(options="transport=classic")
    mounted.expect_stderr = True
    notifier = notifier_of(mounted.status()["worker_pid"])
    harness.wait_until(lambda: sorted(os.listdir(f"/proc/{notifier}/fd")) == ["0", "1"], "the others to be closed")
    assert os.readlink(f"/proc/{notifier}/fd/1") == "/dev/fuse"
    mounted.kill_worker()
    harness.wait_until(lambda: not os.path.exists(f"/proc/{notifier}"), "its end")
    other = notifier_of(mounted.status()["worker_pid"])
    os.kill(other, signal.SIGKILL)
    # Another is made when there is something to tell.
    os.mkdir(mounted.path("d"))
    harness.wait_until(lambda: os.listdir(mounted.path("d")) == [] and has_another_notifier(mounted, other), "another")


@pytest.mark.as_user
def test_the_worker_of_a_user_gains_nothing_by_executing(mount, a_user):
    mounted = mount(user=a_user)
    status = mounted.status()
    assert process_status(status["worker_pid"])["NoNewPrivs"] == "1"
    # Unmounting is fusermount3's, which is set-user-id.
    assert process_status(status["supervisor_pid"])["NoNewPrivs"] == "0"
    for pid in (status["supervisor_pid"], status["worker_pid"]):
        assert capabilities(pid, "CapPrm") == capabilities(pid, "CapEff") == 0


# ---- The state folder and the socket: what somebody has put there before ----

def mount_command(source, point, *arguments):
    return subprocess.run([harness.MOUNT_HRFS, source, point, *arguments], capture_output=True, text=True, timeout=60)


def is_refused(done, *words):
    """That mount.hrfs refuses to use the folder or the socket, in one line."""
    assert done.returncode == 6, done
    assert done.stderr.count("\n") == 1 and all(word in done.stderr for word in words), done.stderr


def facts(path):
    st = os.lstat(path)
    return st.st_mode, st.st_uid, st.st_gid, st.st_nlink, st.st_size, st.st_mtime_ns


@contextlib.contextmanager
def untouched(path):
    """That neither @path nor what is in it changes."""
    def look():
        below = [os.path.join(path, name) for name in sorted(os.listdir(path))] if os.path.isdir(path) else []
        return [(name, facts(name)) for name in [path, *below]]
    before = look()
    yield
    assert look() == before


class Places:
    """A source of an ordinary user that root mounts, a folder of that user's, and something that is root's."""

    def __init__(self, place, user):
        self.user = user
        self.source, self.point, self.home, self.secret = (os.path.join(place, name)
                                                           for name in ("source", "mnt", "home", "secret"))
        for path in (self.source, self.point, self.home, self.secret):
            os.mkdir(path, 0o700)
        for path in (self.source, self.home):
            os.chown(path, user.pw_uid, user.pw_gid)
        self.secret_file = os.path.join(self.secret, "file")
        with open(self.secret_file, "w") as file:
            file.write("root's own")
        os.chmod(self.secret_file, 0o600)

    def mount(self, state=None, socket=None):
        return mount_command(self.source, self.point, "-o", f"state={state or self.home + '/state'},"
                                                            f"socket={socket or self.home + '/socket'}")

    def in_home(self, name):
        return os.path.join(self.home, name)


@pytest.fixture
def places(place):
    return Places(place, harness.USER)


def symlink_as(user, target, path):
    os.symlink(target, path)
    os.lchown(path, user.pw_uid, user.pw_gid)


@pytest.mark.parametrize("below", ["", "/new"])
def test_a_state_folder_is_not_found_through_a_link_of_another_user(places, below):
    symlink_as(places.user, places.secret, places.in_home("state"))
    with untouched(places.secret):
        is_refused(places.mount(places.in_home("state" + below)), "state", "symbolic link")


def test_a_state_folder_is_found_through_a_link_of_ones_own(places):
    os.mkdir(places.in_home("real"))
    os.symlink("real", places.in_home("state"))
    done = places.mount()
    assert (done.returncode, done.stderr) == (0, "")
    subprocess.run(["umount", places.point], check=True)
    harness.wait_until(lambda: not harness.mounts_below(places.point), "the end of the mount")
    assert "journal" in os.listdir(places.in_home("real"))


def test_a_folder_of_other_things_is_not_taken_for_a_state_folder(places):
    with untouched(places.secret):
        is_refused(places.mount(places.secret), "is not empty, and holds no log")


def test_a_state_folder_of_another_user_is_not_used(places):
    other = places.in_home("state")
    os.mkdir(other, 0o700)
    open(other + "/lock", "w").close()
    os.chown(other, harness.USER.pw_uid + 4321, 0)
    with untouched(other):
        is_refused(places.mount(), "belongs to another user")


PLANTED = {
    "a symbolic link": lambda places, path: symlink_as(places.user, places.secret_file, path),
    "a hard link": lambda places, path: os.link(places.secret_file, path),
    "a pipe": lambda places, path: os.mkfifo(path),
    "a directory": lambda places, path: os.mkdir(path),
}


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("name", ["lock", "journal", "events.db", "events.db-wal", "events.db-shm", "messages"])
def test_a_planted_file_in_the_state_folder_is_refused(places, name, kind):
    state = places.in_home("state")
    os.mkdir(state, 0o700)
    os.chown(state, places.user.pw_uid, places.user.pw_gid)
    PLANTED[kind](places, os.path.join(state, name))
    with untouched(places.secret):
        is_refused(places.mount(), name, "move it away")
    with open(places.secret_file) as file:
        assert file.read() == "root's own"


def test_a_planted_new_journal_is_not_written_to(places):
    state = places.in_home("state")
    os.mkdir(state, 0o700)
    with open(state + "/lock", "w"):
        pass
    os.chmod(state + "/lock", 0o600)
    for path in (state, state + "/lock"):
        os.chown(path, places.user.pw_uid, places.user.pw_gid)
    os.link(places.secret_file, state + "/journal.new")
    try:
        done = places.mount()
        assert (done.returncode, done.stderr) == (0, "")
        subprocess.run(["umount", places.point], check=True)
    finally:
        harness.abort_mounts(places.point)
    with open(places.secret_file) as file:
        assert file.read() == "root's own"
    assert os.stat(places.secret_file).st_uid == 0


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_socket_is_not_replaced(places, kind):
    PLANTED[kind](places, places.in_home("socket"))
    with untouched(places.secret):
        is_refused(places.mount(), "cannot make the socket")


def test_a_socket_is_not_made_through_a_link_of_another_user(places):
    symlink_as(places.user, places.secret, places.in_home("run"))
    with untouched(places.secret):
        is_refused(places.mount(socket=places.in_home("run/socket")), "socket", "symbolic link")


def test_a_socket_in_a_folder_that_all_may_write_is_only_for_its_owner(mount, place):
    shared = os.path.join(place, "shared")
    os.mkdir(shared)
    os.chmod(shared, 0o1777)
    mounted = mount(start=False)
    mounted.socket = os.path.join(shared, "socket")
    mounted.start()
    assert os.stat(mounted.socket).st_mode & 0o777 == 0o600

    def try_it():
        try:
            with harness.Connection(mounted.socket):
                return "connected"
        except PermissionError:
            pass
        try:
            os.unlink(mounted.socket)
        except PermissionError:
            return "refused"
    assert harness.in_child(try_it, harness.USER).value == "refused"
    assert mounted.status()


libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_EXCHANGE = 2


def exchange(one, other):
    """Swap two names at once. Returns whether that could be done."""
    return libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0


@contextlib.contextmanager
def exchanging(one, other):
    """Swap two names to and fro, as fast as it goes, in a process of its own; gives a function that counts how often so far."""
    counter = os.memfd_create("count")
    pid = os.fork()
    if pid == 0:
        count = 0
        while True:
            count += exchange(one, other)
            if count % 16 == 0:
                os.pwrite(counter, b"%d" % count, 0)
    try:
        yield lambda: int(os.pread(counter, 20, 0) or 0)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(counter)


@pytest.mark.parametrize("victim", ["state", "socket"])
def test_no_swap_leads_the_state_folder_or_the_socket_astray(places, victim):
    """The folder above is a link to root's every other moment. A mount either fails, or works where it should."""
    way, trap = places.in_home("way"), places.in_home("trap")
    os.mkdir(way)
    os.chown(way, places.user.pw_uid, places.user.pw_gid)
    symlink_as(places.user, places.secret, trap)
    path = {victim: way + "/" + victim}
    worked = 0
    with untouched(places.secret), exchanging(way, trap) as count:
        for _ in range(30):
            before = count()
            done = places.mount(**path)
            assert done.returncode in (0, 5, 6), done
            if done.returncode == 0:
                worked += 1
                subprocess.run(["umount", places.point], check=True)
                harness.wait_until(lambda: not harness.mounts_below(places.point), "the end of the mount")
            harness.wait_until(lambda: count() > before, "the swapping")
    assert facts(places.secret_file)[1] == 0


# ---- The source: what somebody swaps while files are made ----

def make_files(folder, stop, made):
    number = 0
    while not stop.is_set():
        path = os.path.join(folder, f"f{number}")
        with contextlib.suppress(OSError):
            with open(path, "x") as file:
                file.write("mine")
            os.chmod(path, 0o666)
            os.truncate(path, 2)
            os.setxattr(path, "user.mine", b"1")
            os.mkdir(path + "d")
            os.rename(path, path + "d/f")
            os.unlink(path + "d/f")
            os.rmdir(path + "d")
            made.append(number)
        number += 1


@pytest.mark.parametrize("where", ["behind the mount", "through the mount"])
@pytest.mark.parametrize("passthrough", ["on", "off"])
def test_no_swap_of_a_directory_and_a_link_leads_out_of_the_source(mount, place, where, passthrough):
    outside = os.path.join(place, "outside")
    os.mkdir(outside)
    with open(outside + "/f1", "w") as file:
        file.write("not yours")
    mounted = mount(options=f"passthrough={passthrough}")
    # A path is that of the moment, which a replay of events in another order cannot follow; test_storms.py has what can be replayed.
    mounted.expect_replay = False
    for name in ("folder", "inside"):
        os.mkdir(mounted.path(name))
    # Through the mount the kernel resolves names, for the program, so that the link stays inside. Behind it nobody but the daemon can go astray: the
    # program goes through the directory that it has open.
    behind = where == "behind the mount"
    os.symlink(outside if behind else "inside", mounted.path("link"))
    root = mounted.source if behind else mounted.point
    fd = os.open(mounted.path("folder"), os.O_PATH)
    folder = f"/proc/self/fd/{fd}" if behind else mounted.path("folder")
    stop, made = threading.Event(), []
    maker = threading.Thread(target=make_files, args=[folder, stop, made])
    with untouched(outside), exchanging(os.path.join(root, "folder"), os.path.join(root, "link")) as count:
        maker.start()
        try:
            harness.wait_until(lambda: count() > 3000 and len(made) > 50, "the swaps, and files made in between")
        finally:
            stop.set()
            maker.join()
            os.close(fd)
    with open(outside + "/f1") as file:
        assert file.read() == "not yours"


# ---- Who sees what ----

def test_the_events_of_a_mount_for_all_are_shown_to_those_allowed_only(mount, a_user):
    mounted = mount(options="allow_other")
    os.chmod(mounted.source, 0o755)
    open(mounted.path("seen"), "w").close()

    def look():
        assert os.listdir(mounted.point) == ["seen"]
        answers = {}
        try:
            with harness.Connection(mounted.socket):
                answers["socket"] = "open"
        except PermissionError:
            answers["socket"] = "closed"
        answers["log"] = subprocess.run([harness.HRFS, "log", mounted.point], capture_output=True, text=True).returncode
        done = subprocess.run([harness.HRFS, "tail", mounted.point], capture_output=True, text=True)
        answers["tail"] = done.returncode
        assert "its owner, the group of its subscribers and root are" in done.stderr
        answers["state"] = os.access(mounted.state, os.R_OK) or os.access(mounted.state, os.X_OK)
        answers["attributes"] = [os.getxattr(mounted.point, "user.hrfs." + name).decode() for name in ("socket", "log")]
        answers["seq"] = os.getxattr(mounted.point, "user.hrfs.seq").decode().isdigit()
        answers["others"] = [name for name in os.listxattr(mounted.path("seen")) if "hrfs" in name]
        return answers
    assert harness.in_child(look, a_user).value == {
        "socket": "closed", "log": 1, "tail": 1, "state": False, "attributes": [mounted.socket, mounted.state], "seq": True,
        "others": []}


def test_the_server_asks_who_connects_even_when_the_file_lets_everybody(mount, a_user):
    mounted = mount()
    os.chmod(mounted.socket, 0o666)

    def ask():
        with harness.Connection(mounted.socket) as connection:
            answer = connection.receive()
            assert connection.is_at_end()
            return answer
    assert harness.in_child(ask, a_user).value["error"]["code"] == "EACCES"


def test_members_of_the_group_of_subscribers_may_connect(mount, a_user):
    mounted = mount(options=f"subscribers={a_user.pw_gid}")

    def ask():
        with harness.Connection(mounted.socket) as connection:
            return "status" in connection.ask({"status": {}})
    assert harness.in_child(ask, a_user).value
    assert os.stat(mounted.socket).st_mode & 0o777 == 0o660
