"""
Behind the mount: what others do to the source shows within a second, and what is reached is never another file. And listings, of which
the kernel keeps what it has read.
"""

import contextlib
import mmap
import os
import resource
import stat
import subprocess
import sys
import time

import pytest

import harness
from syscalls import entries, read_all
from twins import attempt, facts, make_file, opened, read_file, write_file

# How long what is done behind the mount may stay hidden, and what the machine may add to it.
TIME_OUT_S, SLACK_S = 1, 20


def becomes(condition, what):
    harness.wait_until(condition, what, TIME_OUT_S + SLACK_S)


def mount_to_go_behind(mount, folder, options=""):
    """A mount whose source is changed by others; the log cannot explain the tree."""
    mounted = mount(start=False, folder=folder, options=options)
    os.mkdir(os.path.join(mounted.source, "d"))
    make_file(os.path.join(mounted.source, "f"), b"old " * 10_000)
    mounted.start()
    mounted.expect_replay = False
    return mounted


@pytest.fixture
def behind(mount, disk_place):
    return mount_to_go_behind(mount, disk_place)


@pytest.fixture
def behind_in_mode(mount, mode, disk_place):
    return mount_to_go_behind(mount, disk_place, mode.options)


def test_contents_changed_behind_the_mount_are_seen_in_time(behind_in_mode):
    """The page cache is dropped, for who opens anew and for who has the file open and mapped."""
    real, path = os.path.join(behind_in_mode.source, "f"), behind_in_mode.path("f")
    with opened(path, os.O_RDONLY) as fd, mmap.mmap(fd, 40_000, prot=mmap.PROT_READ) as mapping:
        assert os.pread(fd, 4, 0) == mapping[0:4] == read_file(path)[:4] == b"old "
        with opened(real, os.O_WRONLY) as below:
            os.pwrite(below, b"new " * 10_000, 0)
        becomes(lambda: read_file(path)[:4] == b"new ", "the new contents by name")
        becomes(lambda: os.pread(fd, 4, 36_000) == b"new ", "the new contents of an open file")
        assert mapping[0:4] == b"new "
        os.truncate(real, 100)
        becomes(lambda: os.stat(path).st_size == 100, "the new size")
        assert len(read_file(path)) == 100
        write_file(real, b"longer " * 10_000)
        becomes(lambda: len(os.pread(fd, 100_000, 0)) == 70_000, "the new length of an open file")


def test_names_changed_behind_the_mount_are_seen_in_time(behind):
    real, point = behind.source, behind.point
    assert os.listdir(behind.path("d")) == [] and not os.path.exists(behind.path("d/new"))
    assert os.path.exists(behind.path("f"))
    make_file(os.path.join(real, "d/new"), b"x")
    becomes(lambda: os.path.exists(behind.path("d/new")), "a new name")
    becomes(lambda: os.listdir(behind.path("d")) == ["new"], "a new name in a listing")
    os.rename(os.path.join(real, "f"), os.path.join(real, "g"))
    becomes(lambda: os.path.exists(behind.path("g")) and not os.path.exists(behind.path("f")), "a renamed file")
    os.unlink(os.path.join(real, "g"))
    becomes(lambda: os.listdir(point) == ["d"] and not os.path.exists(behind.path("g")), "a removed file")
    os.rename(os.path.join(real, "d"), os.path.join(real, "e"))
    becomes(lambda: os.path.exists(behind.path("e/new")), "a renamed directory")


def test_listings_in_a_row_are_of_the_moment(behind_in_mode):
    """The second one has no attributes for the kernel, which knows them; what is new it asks for."""
    real, folder = os.path.join(behind_in_mode.source, "d"), behind_in_mode.path("d")
    for size in range(1, 20):
        make_file(os.path.join(real, f"f{size}"), b"x" * size)
        made = os.path.join(folder, f"g{size}")
        make_file(made, b"y" * size)
        found = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
        assert found == {f"{letter}{each}": each for letter in "fg" for each in range(1, size + 1)}
        os.chmod(made, 0o600)
        assert stat.S_IMODE(os.stat(made).st_mode) == 0o600
    for size in range(1, 20):
        os.unlink(os.path.join(folder, f"f{size}"))
        os.unlink(os.path.join(real, f"g{size}"))
        assert len(os.listdir(folder)) == 2 * (19 - size)


def test_a_listing_is_read_again_in_time_though_the_directory_seems_unchanged(behind_in_mode):
    """rsync(1) and tar(1) set times back."""
    real, folder = os.path.join(behind_in_mode.source, "d"), behind_in_mode.path("d")
    assert os.listdir(folder) == []
    was = os.stat(real)
    make_file(os.path.join(real, "new"), b"x")
    os.utime(real, ns=(was.st_atime_ns, was.st_mtime_ns))
    becomes(lambda: os.listdir(folder) == ["new"], "a new name in a listing")
    os.unlink(os.path.join(real, "new"))
    os.utime(real, ns=(was.st_atime_ns, was.st_mtime_ns))
    becomes(lambda: os.listdir(folder) == [], "a removed name in a listing")


def test_a_listing_outlives_its_worker_no_longer_than_another(mount, disk_place):
    behind = mount_to_go_behind(mount, disk_place, "transport=classic")
    behind.expect_stderr = True
    real, folder = os.path.join(behind.source, "d"), behind.path("d")
    was = os.stat(real)
    assert os.listdir(folder) == []
    behind.kill_worker()
    make_file(os.path.join(real, "new"), b"x")
    os.utime(real, ns=(was.st_atime_ns, was.st_mtime_ns))
    becomes(lambda: os.listdir(folder) == ["new"], "a new name in a listing")


def walked(path):
    """How many files a walk finds that looks at each."""
    return sum(len([os.lstat(os.path.join(folder, name)) for name in names]) for folder, _, names in os.walk(path))


def requests_of(mounted, work):
    before = mounted.status()["requests"]
    work()
    return {name: count - before.get(name, 0) for name, count in mounted.status()["requests"].items() if count != before.get(name, 0)}


def make_folders(where, folders, files):
    for folder in range(folders):
        os.mkdir(os.path.join(where, f"folder{folder}"))
        for file in range(files):
            make_file(os.path.join(where, f"folder{folder}", f"file{file}"), b"x")


def test_a_second_walk_asks_for_nothing(behind_in_mode):
    mounted = behind_in_mode
    make_folders(mounted.source, 20, 20)

    def attempt_walk():
        walked(mounted.point)
        return requests_of(mounted, lambda: walked(mounted.point))
    # Once a second what the kernel keeps is dropped, which may come between the two.
    seen = [attempt_walk() for _ in range(10)]
    assert {} in seen, seen


def test_a_walk_after_a_while_asks_for_whole_directories(behind):
    make_folders(behind.source, 20, 50)

    def attempt_walk():
        walked(behind.point)
        time.sleep(2.5 * TIME_OUT_S)
        return requests_of(behind, lambda: walked(behind.point)).get("LOOKUP", 0)
    assert min(attempt_walk() for _ in range(3)) < 20 * 50 / 2


def test_a_file_replaced_behind_the_mount_is_seen_in_time(behind):
    """Another inode of the same name, also another type."""
    real, path = os.path.join(behind.source, "f"), behind.path("f")
    with opened(path, os.O_RDONLY) as fd:
        make_file(real + ".new", b"replaced")
        os.rename(real + ".new", real)
        becomes(lambda: read_file(path) == b"replaced", "the other file")
        assert os.pread(fd, 4, 0) == b"old "
    os.unlink(real)
    os.mkdir(real)
    becomes(lambda: os.path.isdir(path), "the directory in its place")
    make_file(os.path.join(path, "inside"), b"x")
    assert os.listdir(real) == ["inside"]


def test_attributes_changed_behind_the_mount_are_seen_in_time(behind):
    real, path = os.path.join(behind.source, "f"), behind.path("f")
    assert facts(path)["mode"] == "0o100644"
    os.chmod(real, 0o600)
    os.chown(real, 5, 6)
    os.setxattr(real, "user.a", b"1")
    os.utime(real, ns=(10**18, 10**18))
    becomes(lambda: facts(path) == facts(real), "the new attributes")
    becomes(lambda: os.stat(path).st_mtime_ns == 10**18, "the new times")


def test_appends_behind_the_mount_and_through_it_do_not_overwrite_each_other(behind_in_mode):
    real, path = os.path.join(behind_in_mode.source, "f"), behind_in_mode.path("f")
    write_file(real, b"")
    with opened(path, os.O_WRONLY | os.O_APPEND) as ours, opened(real, os.O_WRONLY | os.O_APPEND) as theirs:
        for number in range(100):
            os.write(ours, f"ours {number:03d}\n".encode())
            os.write(theirs, f"their {number:03d}\n".encode())
    lines = read_file(real).split(b"\n")[:-1]
    assert sorted(lines) == sorted([b"ours %03d" % n for n in range(100)] + [b"their %03d" % n for n in range(100)])


def test_appends_go_to_the_end_of_what_was_truncated_behind_the_mount(behind_in_mode):
    """As logrotate(8) does it with copytruncate."""
    real, path = os.path.join(behind_in_mode.source, "f"), behind_in_mode.path("f")
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"more")
        os.truncate(real, 0)
        os.write(fd, b"one ")
        assert read_file(real) == b"one "
        time.sleep(1.3 * TIME_OUT_S)
        os.truncate(real, 0)
        since = behind_in_mode.sync()
        os.write(fd, b"two")
        assert read_file(real) == b"two"
    event, _ = behind_in_mode.wait_for(since, op="write", path="f")
    assert (event["offset"], event["length"], event["size"]) == (0, 3, 3)


def test_a_file_that_took_the_name_behind_the_mount_is_not_taken_for_the_one_that_had_it(behind):
    path, real = behind.path("f"), os.path.join(behind.source, "f")
    fd = os.open(path, os.O_PATH)
    try:
        ino = os.fstat(fd).st_ino
        os.rename(real, real + ".old")
        with open(real, "w") as file:
            file.write("the other")
        # The kernel still believes that this is the old one's name.
        os.unlink(path)
        assert not os.path.exists(real) and os.path.exists(real + ".old")
        assert attempt(lambda: os.fstat(fd).st_ino) in (ino, "ESTALE"), "another file's attributes"
    finally:
        os.close(fd)


# ---- Who reads a directory beside others ----

@pytest.fixture(params=["disk", "tmpfs"])
def listed(request, mount, far_mode):
    """Makes a mount, elsewhere or in place, with a directory of 600 files that nobody has read, and tells in which order they come."""
    def make(in_place):
        mounted = mount(start=False, in_place=in_place, options=far_mode.options,
                        folder=request.getfixturevalue("disk_place" if request.param == "disk" else "place"))
        folder = os.path.join(mounted.source, "d")
        os.mkdir(folder)
        for number in range(600):
            make_file(os.path.join(folder, f"f{number}"), b"")
        order = os.listdir(folder)
        mounted.start()
        return mounted.path("d"), order
    return make


@pytest.mark.parametrize("in_place", [False, True], ids=["elsewhere", "in_place"])
@pytest.mark.parametrize("size", [1024, 4096, 16384])
def test_a_listing_is_of_the_moment_whatever_was_read_before(listed, in_place, size):
    """Somebody has read the beginning and gone; what he would have read next was changed since."""
    folder, order = listed(in_place)
    with opened(folder, os.O_RDONLY) as fd:
        begun = len(entries(fd, size))
    victims = order[begun + 5:begun + 125:20]
    assert len(victims) > 2
    for name in victims:
        os.unlink(os.path.join(folder, name))
    make_file(os.path.join(folder, "new"), b"")
    with opened(folder, os.O_RDONLY) as fd:
        seen = read_all(fd, size)
    assert not set(victims) & set(seen) and "new" in seen
    assert sorted(seen) == sorted(set(order) - set(victims) | {"new"})
    assert sorted(os.listdir(folder)) == sorted(seen)


@pytest.mark.parametrize("in_place", [False, True], ids=["elsewhere", "in_place"])
def test_a_directory_read_again_from_its_beginning_is_of_the_moment(listed, in_place):
    folder, order = listed(in_place)
    with opened(folder, os.O_RDONLY) as fd:
        begun = len(entries(fd, 4096)) + len(entries(fd, 4096))
        victims = order[begun + 5:begun + 65:20]
        for name in victims:
            os.unlink(os.path.join(folder, name))
        os.lseek(fd, 0, os.SEEK_SET)
        assert sorted(read_all(fd, 4096)) == sorted(set(order) - set(victims))


def test_who_reads_many_directories_takes_no_descriptor_from_programs(mount):
    """The first piece of each, and no more: they are kept open for the next."""
    mounted = mount(start=False, preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)))
    make_folders(mounted.source, 130, 250)
    mounted.start()
    with contextlib.ExitStack() as stack:
        for number in range(130):
            fd = stack.enter_context(opened(mounted.path(f"folder{number}"), os.O_RDONLY))
            assert entries(fd, 1024)
        for number in range(120):
            stack.enter_context(opened(mounted.path(f"new{number}"), os.O_CREAT | os.O_WRONLY))


# Reads a directory to its end, so that the kernel keeps it, and then once more, to memory that nobody provides.
STUCK_READER = """
import ctypes, fcntl, mmap, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
uffd = libc.syscall(323, os.O_CLOEXEC)
if uffd < 0:
    sys.exit(77)
fcntl.ioctl(uffd, 0xc018aa3f, struct.pack("QQQ", 0xaa, 0, 0))
area = mmap.mmap(-1, 65536)
address = ctypes.addressof(ctypes.c_char.from_buffer(area))
fcntl.ioctl(uffd, 0xc020aa00, struct.pack("QQQQ", address, 65536, 1, 0))
fd = os.open(sys.argv[1], os.O_RDONLY)
buffer = ctypes.create_string_buffer(32768)
for _ in range(2):
    while libc.getdents64(fd, buffer, 32768) > 0:
        pass
    os.lseek(fd, 0, os.SEEK_SET)
print("reading", flush=True)
libc.getdents64(fd, ctypes.c_void_p(address), 32768)
"""


def waits_for_memory(pid):
    with open(f"/proc/{pid}/stack") as stack:
        return "handle_userfault" in stack.read()


@pytest.fixture
def stuck_reader(mount, disk_place):
    """A mount, and a program that is given a listing from the kernel's memory and does not take it."""
    mounted = mount_to_go_behind(mount, disk_place, "transport=classic")
    mounted.expect_stderr = True
    make_folders(mounted.path("d"), 1, 10)
    reader = subprocess.Popen([sys.executable, "-c", STUCK_READER, mounted.path("d/folder0")], stdout=subprocess.PIPE)
    try:
        if not reader.stdout.readline():
            assert reader.wait() == 77
            pytest.skip("this user may not have a userfaultfd")
        harness.wait_until(lambda: waits_for_memory(reader.pid), "the reader to be stuck")
        # What it has read is dropped about now.
        time.sleep(2 * TIME_OUT_S)
        assert waits_for_memory(reader.pid)
        yield mounted
    finally:
        reader.kill()
        reader.communicate()


def test_a_program_that_does_not_take_its_listing_holds_up_no_new_worker(stuck_reader):
    stuck_reader.kill_worker()
    make_file(stuck_reader.path("after"), b"x")
    assert os.stat(stuck_reader.path("f")).st_size == 40_000
    with stuck_reader.connect() as connection:
        assert connection.ask({"restart": {}}) == {"restart": {}}
    assert read_file(stuck_reader.path("after")) == b"x"


def test_a_program_that_does_not_take_its_listing_holds_up_no_look_at_mappings(stuck_reader):
    mounted = stuck_reader
    since = mounted.sync()
    with opened(mounted.path("f"), os.O_RDWR) as fd, mmap.mmap(fd, 40_000) as mapping:
        mapping[0:4] = b"NEW "
        mapping.flush()
        mounted.wait_for(since, op="write", path="f")


# ---- Who is who ----

@pytest.fixture(params=["disk", "tmpfs"])
def moved(request, mount):
    folder = request.getfixturevalue("disk_place" if request.param == "disk" else "place")
    mounted = mount_to_go_behind(mount, folder, "transport=classic")
    mounted.expect_stderr = True
    return mounted


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR], ids=["write_only", "read_write"])
def test_a_file_that_was_made_and_moved_behind_the_mount_stays_with_its_program(moved, flags):
    """As logrotate(8) does it, from behind: also when a worker dies."""
    real = os.path.join(moved.source, "log")
    with opened(moved.path("log"), os.O_CREAT | flags) as fd:
        os.write(fd, b"one ")
        os.rename(real, real + ".1")
        time.sleep(1.3 * TIME_OUT_S)
        assert os.fstat(fd).st_size == 4
        os.setxattr(fd, "user.a", b"b")
        assert os.listxattr(fd) == ["user.a"]
        moved.kill_worker()
        os.write(fd, b"two ")
        assert os.fstat(fd).st_size == 8
    assert read_file(real + ".1") == b"one two "


def test_a_file_that_was_made_and_removed_behind_the_mount_stays_with_its_program(moved):
    with opened(moved.path("log"), os.O_CREAT | os.O_WRONLY) as fd:
        os.unlink(os.path.join(moved.source, "log"))
        time.sleep(1.3 * TIME_OUT_S)
        assert os.fstat(fd).st_nlink == 0
        os.write(fd, b"still")
        assert os.fstat(fd).st_size == 5


def with_the_number_of(path, number):
    """Makes @path with inode @number, which is free; returns whether the file system would have it."""
    made = []
    for attempt_number in range(20):
        make_file(f"{path}.{attempt_number}", b"the other")
        made.append(f"{path}.{attempt_number}")
        if os.stat(made[-1]).st_ino == number:
            os.rename(made.pop(), path)
            break
    for other in made:
        os.unlink(other)
    return os.path.exists(path)


def test_a_number_that_was_given_again_is_not_taken_for_the_file_that_had_it(behind):
    """Held by O_PATH only, which opens nothing."""
    real = os.path.join(behind.source, "held")
    make_file(real, b"the one")
    with opened(behind.path("held"), os.O_PATH) as fd:
        ino = os.fstat(fd).st_ino
        os.unlink(real)
        if not with_the_number_of(os.path.join(behind.source, "other"), ino):
            pytest.skip("this file system does not give numbers again at once")
        assert os.stat(behind.path("other")).st_ino == ino and read_file(behind.path("other")) == b"the other"
        assert attempt(lambda: read_file(f"/proc/self/fd/{fd}")) in ("ENOENT", "ESTALE")


@pytest.mark.parametrize("passthrough", ["on", "off"])
def test_a_file_replaced_by_one_of_its_number_size_and_time_is_read_anew(mount, disk_place, passthrough):
    """Nothing tells the two apart but when they were born; and no descriptor was kept of the first."""
    mounted = mount(start=False, folder=disk_place, options=f"passthrough={passthrough}",
                    preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300)))
    mounted.expect_replay = False
    real = os.path.join(mounted.source, "f")
    make_file(real, b"the one one")
    make_folders(mounted.source, 3, 100)
    mounted.start()
    assert read_file(mounted.path("f")) == b"the one one"
    assert all(read_file(os.path.join(where, name)) for where, _, names in os.walk(mounted.point) for name in names)
    was = os.stat(real)
    os.unlink(real)
    if not with_the_number_of(real, was.st_ino):
        pytest.skip("this file system does not give numbers again at once")
    write_file(real, b"another one")
    os.utime(real, ns=(was.st_atime_ns, was.st_mtime_ns))
    becomes(lambda: read_file(mounted.path("f")) == b"another one", "the other contents")


def test_a_file_is_not_lost_with_a_name_whose_other_was_removed_behind_the_mount(moved):
    """The name is still known here, but leads nowhere."""
    one, other = moved.path("one"), moved.path("other")
    make_file(one, b"x")
    os.link(one, other)
    with opened(one, os.O_PATH) as fd:
        os.unlink(os.path.join(moved.source, "other"))
        os.unlink(one)
        assert os.fstat(fd).st_nlink == 0


def test_an_open_file_is_not_lost_either_when_the_worker_dies(moved):
    one, other = moved.path("one"), moved.path("other")
    with opened(one, os.O_CREAT | os.O_WRONLY) as fd:
        os.link(one, other)
        os.unlink(os.path.join(moved.source, "other"))
        os.unlink(one)
        moved.kill_worker()
        os.write(fd, b"still here")
        assert os.fstat(fd).st_size == 10


def test_a_file_renamed_behind_the_mount_is_not_lost_with_its_new_name(moved):
    make_file(moved.path("q1"), b"x")
    with opened(moved.path("q1"), os.O_PATH) as fd:
        os.rename(os.path.join(moved.source, "q1"), os.path.join(moved.source, "q2"))
        assert os.stat(moved.path("q2")).st_size == 1
        os.unlink(moved.path("q2"))
        assert os.fstat(fd).st_nlink == 0
