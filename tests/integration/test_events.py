"""Every change is an event, with what it says about the change and about who made it; a failed call is none."""

import contextlib
import ctypes
import errno
import mmap
import os
import re
import socket
import stat
import subprocess
import threading

import pytest

import harness
import syscalls

PR_SET_NAME = 15


class Actor:
    """Somebody who works on a mount, in a process of their own for each piece of work."""

    def __init__(self, mounted, user):
        self.mounted = mounted
        self.user = user if harness.IS_ROOT else None
        self.uid = user.pw_uid if user else os.getuid()
        self.gid = user.pw_gid if user else os.getgid()

    def path(self, *names):
        return self.mounted.path(*names)

    def do(self, work):
        """Do @work; returns its Result."""
        return harness.in_child(work, self.user)

    def prepare(self, work):
        """Do @work; its events are nobody's business."""
        self.do(work)
        self.mounted.settle()

    def events(self, work):
        """All events of @work but close, which comes when the kernel likes."""
        since = self.mounted.sync()
        done = self.do(work)
        self.mounted.settle()
        events = [event for event in self.mounted.events(since)
                  if event["op"] != "close" and ".settled" not in event["path"]]
        for event in events:
            self.check_who(event, done.pid)
        return events

    def one(self, work):
        events = self.events(work)
        assert len(events) == 1, events
        return events[0]

    def check_who(self, event, pid):
        with open("/proc/self/comm") as comm:
            assert event["comm"] == comm.read().rstrip("\n")
        assert (event["pid"], event["uid"], event["gid"]) == (pid, self.uid, self.gid)
        assert event["origin"] == "vfs" and "uncertain" not in event
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", event["time"])

    def ino(self, name):
        return os.lstat(os.path.join(self.mounted.source, name)).st_ino


@pytest.fixture(params=["root", pytest.param("user", marks=pytest.mark.as_user)])
def actor(request, mount, disk_place):
    """Root on a mount of root's, and an ordinary user on their own, through fusermount3."""
    os.umask(0o022)
    if request.param == "root":
        return Actor(mount(folder=disk_place), None)
    user = request.getfixturevalue("a_user")
    os.chmod(disk_place, 0o755)
    return Actor(mount(folder=disk_place, user=user), user)


def write_file(path, data=b"", mode=0o644):
    """One create, at most one write."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    if data:
        os.write(fd, data)
    os.close(fd)


@contextlib.contextmanager
def opened(path, flags):
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def has(event, **members):
    """Whether @event says all of it; an assertion that shows the event."""
    assert {key: event.get(key) for key in members} == members, event
    return True


# ---- Names ----

def test_create(actor):
    event = actor.one(lambda: write_file(actor.path("new"), mode=0o640))
    has(event, op="create", path="new", mode=0o640, ino=actor.ino("new"))


def test_create_in_a_directory_names_the_whole_path(actor):
    actor.prepare(lambda: os.makedirs(actor.path("a/b/c")))
    has(actor.one(lambda: write_file(actor.path("a/b/c/new"))), op="create", path="a/b/c/new")


def test_mkdir(actor):
    event = actor.one(lambda: os.mkdir(actor.path("new"), 0o751))
    has(event, op="mkdir", path="new", mode=0o751, ino=actor.ino("new"))


def test_symlink(actor):
    event = actor.one(lambda: os.symlink("some/where", actor.path("new")))
    has(event, op="symlink", path="new", target="some/where", ino=actor.ino("new"))


def test_link(actor):
    actor.prepare(lambda: write_file(actor.path("old")))
    event = actor.one(lambda: os.link(actor.path("old"), actor.path("new")))
    has(event, op="link", path="old", to="new", ino=actor.ino("new"))


def test_mknod_of_a_fifo(actor):
    event = actor.one(lambda: os.mkfifo(actor.path("new"), 0o620))
    has(event, op="mknod", path="new", mode=stat.S_IFIFO | 0o600 | 0o020 & ~0o022, ino=actor.ino("new"))


def test_mknod_of_a_socket(actor):
    def bind():
        # The whole path would be too long for a socket's address.
        os.chdir(actor.mounted.point)
        socket.socket(socket.AF_UNIX).bind("new")

    event = actor.one(bind)
    has(event, op="mknod", path="new", ino=actor.ino("new"))
    assert stat.S_ISSOCK(event["mode"])


def test_rename(actor):
    actor.prepare(lambda: (write_file(actor.path("old")), os.mkdir(actor.path("folder"))))
    event = actor.one(lambda: os.rename(actor.path("old"), actor.path("folder/new")))
    has(event, op="rename", path="old", to="folder/new", ino=actor.ino("folder/new"))
    assert event.get("flags", 0) == 0


def test_rename_over_a_file(actor):
    actor.prepare(lambda: (write_file(actor.path("old"), b"old"), write_file(actor.path("new"), b"new!")))
    has(actor.one(lambda: os.rename(actor.path("old"), actor.path("new"))), op="rename", path="old", to="new")


def test_rename_of_a_directory_changes_the_paths_below_it(actor):
    actor.prepare(lambda: (os.makedirs(actor.path("old/sub")), write_file(actor.path("old/sub/f"))))
    has(actor.one(lambda: os.rename(actor.path("old"), actor.path("new"))), op="rename", path="old", to="new")
    has(actor.one(lambda: os.chmod(actor.path("new/sub/f"), 0o600)), op="chmod", path="new/sub/f")


def test_rename_exchange(actor):
    actor.prepare(lambda: (write_file(actor.path("a"), b"a"), os.mkdir(actor.path("b"))))
    event = actor.one(lambda: syscalls.renameat2(actor.path("a"), actor.path("b"), syscalls.RENAME_EXCHANGE))
    has(event, op="rename", path="a", to="b", flags=syscalls.RENAME_EXCHANGE)


def test_rename_noreplace(actor):
    actor.prepare(lambda: write_file(actor.path("a")))
    event = actor.one(lambda: syscalls.renameat2(actor.path("a"), actor.path("b"), syscalls.RENAME_NOREPLACE))
    has(event, op="rename", path="a", to="b", flags=syscalls.RENAME_NOREPLACE)


def test_unlink(actor):
    actor.prepare(lambda: write_file(actor.path("f")))
    ino = actor.ino("f")
    has(actor.one(lambda: os.unlink(actor.path("f"))), op="unlink", path="f", ino=ino)


def test_rmdir(actor):
    actor.prepare(lambda: os.mkdir(actor.path("d")))
    ino = actor.ino("d")
    has(actor.one(lambda: os.rmdir(actor.path("d"))), op="rmdir", path="d", ino=ino)


# ---- Contents ----

def test_write(actor):
    actor.prepare(lambda: write_file(actor.path("f"), b"x" * 100))

    def work():
        with opened(actor.path("f"), os.O_WRONLY) as fd:
            os.pwrite(fd, b"y" * 30, 90)

    has(actor.one(work), op="write", path="f", offset=90, length=30, size=120, ino=actor.ino("f"))


def test_write_at_the_end_of_a_file_opened_for_append_says_where_it_went(actor):
    actor.prepare(lambda: write_file(actor.path("f"), b"x" * 100))

    def work():
        with opened(actor.path("f"), os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, b"y" * 30)
            os.write(fd, b"y" * 5)

    first, second = actor.events(work)
    has(first, op="write", path="f", offset=100, length=30, size=130)
    has(second, op="write", path="f", offset=130, length=5, size=135)


def test_write_through_two_descriptors_at_once(actor):
    def work():
        write_file(actor.path("f"))
        with opened(actor.path("f"), os.O_RDWR) as one, opened(actor.path("f"), os.O_RDONLY) as reader, \
                opened(actor.path("f"), os.O_WRONLY) as two:
            os.pwrite(one, b"1" * 10, 0)
            os.pwrite(two, b"2" * 10, 10)
            assert os.pread(reader, 100, 0) == b"1" * 10 + b"2" * 10

    create, first, second = actor.events(work)
    has(create, op="create")
    has(first, op="write", offset=0, length=10, size=10)
    has(second, op="write", offset=10, length=10, size=20)


def test_truncate(actor):
    actor.prepare(lambda: write_file(actor.path("f"), b"x" * 100))
    event = actor.one(lambda: os.truncate(actor.path("f"), 40))
    has(event, op="truncate", path="f", size=40, ino=actor.ino("f"))


def test_truncate_of_an_open_file(actor):
    actor.prepare(lambda: write_file(actor.path("f"), b"x" * 100))

    def work():
        with opened(actor.path("f"), os.O_RDWR) as fd:
            os.ftruncate(fd, 5000)

    has(actor.one(work), op="truncate", path="f", size=5000)


def test_open_with_truncation(actor):
    actor.prepare(lambda: write_file(actor.path("f"), b"x" * 100))

    def work():
        with opened(actor.path("f"), os.O_WRONLY | os.O_TRUNC):
            pass

    has(actor.one(work), op="truncate", path="f", size=0)


def test_fallocate(actor):
    actor.prepare(lambda: write_file(actor.path("f"), b"x" * 100))

    def work():
        with opened(actor.path("f"), os.O_RDWR) as fd:
            syscalls.fallocate(fd, 0, 50, 8142)

    has(actor.one(work), op="fallocate", path="f", offset=50, length=8142, size=8192)


def test_fallocate_that_punches_a_hole_says_so(actor):
    actor.prepare(lambda: write_file(actor.path("f"), b"x" * 10000))
    how = syscalls.FALLOC_FL_PUNCH_HOLE | syscalls.FALLOC_FL_KEEP_SIZE

    def work():
        with opened(actor.path("f"), os.O_RDWR) as fd:
            syscalls.fallocate(fd, how, 4096, 4096)

    has(actor.one(work), op="fallocate", path="f", offset=4096, length=4096, size=10000, mode=how)


def test_copy_file_range(actor):
    actor.prepare(lambda: (write_file(actor.path("from"), b"x" * 5000), write_file(actor.path("into"), b"y" * 10)))

    def work():
        with opened(actor.path("from"), os.O_RDONLY) as source, opened(actor.path("into"), os.O_WRONLY) as target:
            assert os.copy_file_range(source, target, 3000, 100, 10) == 3000

    has(actor.one(work), op="copy", path="into", offset=10, length=3000, size=3010, ino=actor.ino("into"))


def test_close_comes_once_with_the_final_size(actor):
    since = actor.mounted.sync()

    def work():
        write_file(actor.path("f"), b"x" * 100)
        with opened(actor.path("f"), os.O_RDWR) as fd:
            other = os.dup(fd)
            os.write(fd, b"y" * 200)
            os.close(other)

    actor.do(work)
    last, before = actor.mounted.wait_for(since, op="close", path="f", size=200)
    has(last, ino=actor.ino("f"), origin="vfs")
    assert [event["size"] for event in before if event["op"] == "close"] == [100]


def test_reading_is_no_event(actor):
    actor.prepare(lambda: (write_file(actor.path("f"), b"x"), os.mkdir(actor.path("d"))))

    def work():
        with opened(actor.path("f"), os.O_RDONLY) as fd:
            os.read(fd, 10)
        os.listdir(actor.path("d"))
        os.lstat(actor.path("f"))

    assert actor.events(work) == []


def test_stores_through_a_shared_mapping(actor):
    actor.prepare(lambda: write_file(actor.path("f"), b"x" * 8192))
    since = actor.mounted.sync()

    def work():
        with opened(actor.path("f"), os.O_RDWR) as fd, mmap.mmap(fd, 8192) as mapping:
            mapping[4096:4100] = b"mmap"
            mapping.flush()

    actor.do(work)
    event, _ = actor.mounted.wait_for(since, op="write", path="f")
    assert event["origin"] == "mmap" or event["length"] >= 4, event
    actor.mounted.wait_for(since, op="close", path="f")
    with open(os.path.join(actor.mounted.source, "f"), "rb") as file:
        assert file.read()[4096:4100] == b"mmap"


def test_stores_through_a_mapping_are_seen_while_it_stays_open(actor):
    actor.prepare(lambda: write_file(actor.path("f"), b"x" * 8192))
    since = actor.mounted.sync()

    with actor.mounted.subscribe(since) as subscription:
        def work():
            with opened(actor.path("f"), os.O_RDWR) as fd, mmap.mmap(fd, 8192) as mapping:
                mapping[0:4] = b"mmap"
                if actor.user:
                    # Without passthrough the pages are the kernel's, which writes them back in its own time, or now.
                    mapping.flush()
                subscription.until(lambda event: event["op"] == "write")
                return True

        assert actor.do(work).value


# ---- Attributes ----


class ClosedMapping:
    """A mapping of a file whose descriptor is closed; Python's own keeps one."""

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def __init__(self, path, size):
        self.size = size
        with opened(path, os.O_RDWR) as fd:
            self.address = self.libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
        assert self.address != ctypes.c_void_p(-1).value

    def store(self, text):
        """Without passthrough the pages are the kernel's, which writes them back in its own time, or now."""
        ctypes.memmove(self.address, text, len(text))
        assert self.libc.msync(ctypes.c_void_p(self.address), ctypes.c_size_t(self.size), ctypes.c_int(4)) == 0

    def unmap(self):
        assert self.libc.munmap(self.address, self.size) == 0


@pytest.fixture(params=["disk", "tmpfs"])
def either_place(request, place, disk_place):
    return disk_place if request.param == "disk" else place


def test_stores_through_a_mapping_whose_file_is_closed_are_told(mount, either_place, far_mode):
    mounted = mount(folder=either_place, options=far_mode.options)
    with open(mounted.path("f"), "wb") as file:
        file.write(bytes(8192))
    is_on_tmpfs = either_place.startswith("/dev/shm") and far_mode.passthrough == "on"
    mapping = ClosedMapping(mounted.path("f"), 8192)
    mounted.sync()
    for text in (b"once", b"twice"):
        since = mounted.sync()
        mapping.store(text)
        # tmpfs shows stores to nobody, until there can be no more.
        if not is_on_tmpfs:
            assert mounted.wait_for(since, op="write", origin="mmap")[0]["path"] == "f"
    since = mounted.sync()
    mapping.store(b"at last")
    mapping.unmap()
    assert mounted.wait_for(since, op="write", origin="mmap")[0]["path"] == "f"
    harness.wait_until(lambda: mounted.status()["open_files"] == 0, "the file to be done with")
    with open(os.path.join(mounted.source, "f"), "rb") as file:
        assert file.read(7) == b"at last"


def test_the_last_of_stores_through_a_mapping_is_told_where_a_page_was_stored_to_before(mount, disk_place):
    """The kernel changes the time of a file when a clean page of it is stored to, and not again while the page is dirty."""
    mounted = mount(folder=disk_place, options="passthrough=on")
    with open(mounted.path("f"), "wb") as file:
        file.write(bytes(8192))
    with opened(mounted.path("f"), os.O_RDWR) as fd, mmap.mmap(fd, 8192) as mapping:
        since = mounted.sync()
        mapping[0:4] = b"once"
        mounted.wait_for(since, op="write", origin="mmap")
        since = mounted.sync()
        mapping[0:5] = b"twice"
    assert mounted.wait_for(since, op="write", origin="mmap")[0]["path"] == "f"


def test_stores_through_a_mapping_whose_file_is_closed_are_told_by_the_worker_that_takes_over(mount, disk_place):
    mounted = mount(folder=disk_place, options="transport=classic,passthrough=on")
    mounted.expect_stderr = True
    with open(mounted.path("f"), "wb") as file:
        file.write(bytes(8192))
    mapping = ClosedMapping(mounted.path("f"), 8192)
    mounted.kill_worker()
    for text in (b"once", b"twice"):
        since = mounted.sync()
        mapping.store(text)
        assert mounted.wait_for(since, op="write", origin="mmap")[0]["path"] == "f"
    mapping.unmap()
    harness.wait_until(lambda: mounted.status()["open_files"] == 0, "the file to be done with")


def test_a_file_that_is_mapped_closed_and_removed_is_let_go_of(mount, either_place):
    mounted = mount(folder=either_place, options="passthrough=on")
    with open(mounted.path("f"), "wb") as file:
        file.write(bytes(8192))
    mapping = ClosedMapping(mounted.path("f"), 8192)
    os.unlink(mounted.path("f"))
    mapping.store(b"text")
    harness.wait_until(lambda: mounted.status()["open_files"] == 1, "the file to be kept")
    mapping.unmap()
    harness.wait_until(lambda: mounted.status()["open_files"] == 0, "the file to be done with")
    harness.wait_until(lambda: mounted.status()["inodes"] <= 1, "the inode to be forgotten")


def test_chmod(actor):
    actor.prepare(lambda: write_file(actor.path("f")))
    event = actor.one(lambda: os.chmod(actor.path("f"), 0o751))
    has(event, op="chmod", path="f", mode=0o751, ino=actor.ino("f"))


def test_chmod_of_the_root_has_an_empty_path(actor):
    has(actor.one(lambda: os.chmod(actor.path(), 0o755)), op="chmod", path="", mode=0o755)


def test_chown(actor):
    actor.prepare(lambda: write_file(actor.path("f")))
    event = actor.one(lambda: os.chown(actor.path("f"), actor.uid, actor.gid))
    has(event, op="chown", path="f", owner=f"{actor.uid}:{actor.gid}", ino=actor.ino("f"))


def test_chown_of_the_group_leaves_the_user_out(actor):
    actor.prepare(lambda: write_file(actor.path("f")))
    has(actor.one(lambda: os.chown(actor.path("f"), -1, actor.gid)), op="chown", owner=f":{actor.gid}")


def test_utimens(actor):
    actor.prepare(lambda: write_file(actor.path("f")))
    event = actor.one(lambda: os.utime(actor.path("f"), ns=(10**18, 10**18 + 7)))
    has(event, op="utimens", path="f", ino=actor.ino("f"))
    assert os.stat(os.path.join(actor.mounted.source, "f")).st_mtime_ns == 10**18 + 7


def test_setxattr(actor):
    actor.prepare(lambda: write_file(actor.path("f")))
    event = actor.one(lambda: os.setxattr(actor.path("f"), "user.colour", b"blue"))
    has(event, op="setxattr", path="f", name="user.colour", ino=actor.ino("f"))


def test_removexattr(actor):
    actor.prepare(lambda: (write_file(actor.path("f")), os.setxattr(actor.path("f"), "user.colour", b"blue")))
    event = actor.one(lambda: os.removexattr(actor.path("f"), "user.colour"))
    has(event, op="removexattr", path="f", name="user.colour", ino=actor.ino("f"))


# ---- What is no event, and what stays true around it ----

def failing_calls(actor):
    """Calls that fail, and how."""
    path = actor.path
    return [
        (errno.EEXIST, lambda: os.mkdir(path("d"))),
        (errno.EEXIST, lambda: write_file(path("f"))),
        (errno.EEXIST, lambda: os.symlink("x", path("f"))),
        (errno.EEXIST, lambda: os.link(path("f"), path("d"))),
        (errno.ENOENT, lambda: os.link(path("missing"), path("new"))),
        (errno.ENOENT, lambda: os.unlink(path("missing"))),
        (errno.EISDIR, lambda: os.unlink(path("d"))),
        (errno.ENOTEMPTY, lambda: os.rmdir(path("d"))),
        (errno.ENOTDIR, lambda: os.rmdir(path("f"))),
        (errno.ENOENT, lambda: os.rename(path("missing"), path("new"))),
        (errno.ENOTDIR, lambda: os.rename(path("d"), path("f"))),
        (errno.EEXIST, lambda: syscalls.renameat2(path("f"), path("g"), syscalls.RENAME_NOREPLACE)),
        (errno.ENOENT, lambda: syscalls.renameat2(path("f"), path("missing"), syscalls.RENAME_EXCHANGE)),
        (errno.ENOENT, lambda: os.truncate(path("missing"), 0)),
        (errno.EISDIR, lambda: os.truncate(path("d"), 0)),
        (errno.ENOENT, lambda: os.chmod(path("missing"), 0o600)),
        (errno.ENODATA, lambda: os.removexattr(path("f"), "user.missing")),
        (errno.ENAMETOOLONG, lambda: os.mkdir(path("n" * 256))),
    ]


def test_failed_calls_are_no_events(actor):
    actor.prepare(lambda: (os.mkdir(actor.path("d")), write_file(actor.path("d/x")), write_file(actor.path("f")),
                           write_file(actor.path("g"))))

    def work():
        got = []
        for wanted, call in failing_calls(actor):
            try:
                call()
                got.append([wanted, 0])
            except OSError as error:
                got.append([wanted, error.errno])
        return [pair for pair in got if pair[0] != pair[1]]

    since = actor.mounted.sync()
    assert actor.do(work).value == []
    actor.mounted.settle()
    assert [e for e in actor.mounted.events(since) if ".settled" not in e["path"]] == []


def test_events_of_an_unlinked_file_carry_its_last_name(actor):
    def work():
        fd = os.open(actor.path("f"), os.O_RDWR | os.O_CREAT)
        os.unlink(actor.path("f"))
        os.write(fd, b"late")
        os.close(fd)

    create, unlink, write = actor.events(work)
    has(create, op="create", path="f")
    has(unlink, op="unlink", path="f")
    has(write, op="write", path="f", ino=create["ino"], length=4)


def test_events_of_a_renamed_open_file_carry_its_new_name(actor):
    def work():
        fd = os.open(actor.path("old"), os.O_WRONLY | os.O_CREAT)
        os.rename(actor.path("old"), actor.path("new"))
        os.write(fd, b"late")
        os.close(fd)

    _, _, write = actor.events(work)
    has(write, op="write", path="new")


def test_a_program_is_named_by_its_comm(mount):
    mounted = mount()
    since = mounted.sync()
    subprocess.run(["touch", mounted.path("f")], check=True)
    event, _ = mounted.wait_for(since, op="create")
    has(event, comm="touch", uid=0)


def set_name(name):
    assert ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0) == 0


@pytest.mark.skipif(not harness.IS_ROOT, reason="an unprivileged daemon may not ask for such moments")
def test_a_thread_that_takes_another_name_is_called_by_it_at_once(mount):
    mounted = mount()
    with open("/proc/self/comm") as comm:
        before = comm.read().rstrip("\n")
    names = [f"name {i}" for i in range(100)]
    with open(mounted.path("f"), "wb", buffering=0) as file:
        since = mounted.sync()
        try:
            for name in names:
                set_name(name)
                file.write(b"x")
        finally:
            set_name(before)
    mounted.settle()
    assert [event["comm"] for event in mounted.events(since) if event["op"] == "write" and event["path"] == "f"] == names


def test_a_thread_is_named_by_its_process(mount):
    mounted = mount()
    since = mounted.sync()
    thread = threading.Thread(target=write_file, args=[mounted.path("f")])
    thread.start()
    thread.join()
    event, _ = mounted.wait_for(since, op="create")
    has(event, pid=os.getpid())


def test_a_writer_of_another_pid_namespace_has_pid_0(mount):
    # Its namespace is made for its children, so the daemon is one of them; the mount stays where we see it.
    mounted = mount(wrapper=["unshare", "--pid", "--fork", "--kill-child"])
    since = mounted.sync()
    write_file(mounted.path("f"))
    event, _ = mounted.wait_for(since, op="create")
    has(event, pid=0)


def test_mounting_and_unmounting_are_events(mount):
    mounted = mount()
    write_file(mounted.path("f"))
    mounted.stop()
    mounted.check()
    mounted.start()
    mounted.stop()
    mounted.check()
    ops = [event["op"] for event in mounted.logged()]
    assert [op for op in ops if op in ("mounted", "unmounted")] == ["mounted", "unmounted"] * 2
    assert ops[0] == "mounted" and ops[-1] == "unmounted"
