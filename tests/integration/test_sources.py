"""
What is underneath: the file systems that a source can lie on, and the namespaces that the mount is used from.

On each, a day's work is done natively beside it as well (twins.py), in all four modes where the mode could matter.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import shutil
import subprocess

import pytest

import calls
import harness
import syscalls
from syscalls import entries, read_all
from twins import MEMBER, OWNER, ROOT, Twins, attempt, facts, make_directory, make_file, mode_of

FS_IOC_GETFLAGS = 0x80086601


@contextlib.contextmanager
def mounted_at(point, *arguments):
    """Something mounted with mount(8) for as long as the block lasts."""
    done = subprocess.run(["mount", *arguments, point], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot be mounted here: {done.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=False)


def new_folder(*names):
    folder = os.path.join(*names)
    os.makedirs(folder)
    return folder


def a_days_work():
    """Some of everything; returns what it saw."""
    make_directory("d", 0o2775, (OWNER.uid, MEMBER.groups[0]))
    os.makedirs("d/e/f")
    make_file("d/a", b"first\n")
    with open("d/a", "ab") as file:
        file.write(b"second\n")
    os.link("d/a", "d/e/linked")
    os.symlink("../a", "d/e/symlink")
    os.mkfifo("fifo")
    os.rename("d/e", "d/g")
    make_file("new", b"new contents")
    make_file("old", b"old")
    fd = os.open("old", os.O_RDWR)
    os.rename("new", "old")
    os.pwrite(fd, b"unlinked", 0)
    seen = [os.pread(fd, 100, 0).decode(), os.fstat(fd).st_nlink]
    os.close(fd)
    fd = os.open("old", os.O_RDWR)
    with mmap.mmap(fd, 12) as mapping:
        mapping[4:8] = b"MMAP"
        mapping.flush()
    os.ftruncate(fd, 100_000)
    os.pwrite(fd, b"end", 200_000)
    seen.append(attempt(syscalls.fallocate, fd, 0, 0, 300_000))
    seen.append(attempt(syscalls.fallocate, fd, syscalls.FALLOC_FL_PUNCH_HOLE | syscalls.FALLOC_FL_KEEP_SIZE, 4096,
                        8192))
    os.fsync(fd)
    os.close(fd)
    os.chmod("d/a", 0o4750)
    os.chown("d/a", OWNER.uid, OWNER.gid)
    seen.append(attempt(os.setxattr, "d/a", "user.a", b"1"))
    seen.append(attempt(os.setxattr, "d", "system.posix_acl_default", calls.acl(7, 5, 0, 7, {OWNER.uid: 7})))
    make_file("d/inherits")
    fd = os.open("d", os.O_TMPFILE | os.O_RDWR, 0o644)
    calls.link_open_file(fd, "d/was-nameless")
    os.close(fd)
    seen.append(attempt(syscalls.renameat2, "d", "old", syscalls.RENAME_EXCHANGE))
    os.unlink("old/a")
    return [*seen, mode_of("old/g/linked"), sorted(os.listdir("old"))]


WANTED = ["unlinked", 0]


# ---- Kinds of file systems ----

@pytest.mark.parametrize("kind", ["tmpfs", "disk"])
def test_tmpfs_and_a_disk_as_source(request, mount, mode, kind):
    folder = request.getfixturevalue("disk_place" if kind == "disk" else "place")
    twins = Twins(mount(folder=folder, options=mode.options), os.path.join(folder, "native"))
    assert twins.same(a_days_work)[:2] == WANTED


# The least that each can be made of.
IMAGE_MIB = {"ext4": 64, "btrfs": 128, "xfs": 320}


def make_image(path, *options, kind="ext4"):
    """A file with an empty file system in it, or a skip that says why not."""
    with open(path, "wb") as image:
        image.truncate(IMAGE_MIB[kind] << 20)
    done = subprocess.run([f"mkfs.{kind}", "-q", *options, path], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"mkfs.{kind} {' '.join(options)}: {done.stderr.strip()}")


@pytest.fixture
def ext4(place):
    """An ext4 of its own, in a file."""
    make_image(place + "/image")
    with mounted_at(new_folder(place, "ext4"), "-o", "loop", place + "/image") as point:
        os.rmdir(point + "/lost+found")
        yield point


def test_ext4_as_source(ext4, mount):
    twins = Twins(mount(source=new_folder(ext4, "source")), os.path.join(ext4, "native"))
    assert twins.same(a_days_work)[:2] == WANTED


@pytest.fixture(params=["btrfs", "xfs"])
def another(request, place):
    """A file system of another kind of its own, in a file."""
    make_image(place + "/image", kind=request.param)
    with mounted_at(new_folder(place, request.param), "-o", "loop", place + "/image") as point:
        yield point


def test_another_file_system_as_source(another, mount, mode):
    twins = Twins(mount(source=new_folder(another, "source"), options=mode.options), os.path.join(another, "native"))
    assert twins.same(a_days_work)[:2] == WANTED


def test_who_reads_on_meets_nothing_that_was_removed_meanwhile(another, mount):
    """What is after the piece that he has: read ahead or not, it is not there any more."""
    mounted = mount(source=new_folder(another, "source"))
    for number in range(600):
        make_file(mounted.path(f"f{number}"), b"")
    order = os.listdir(mounted.point)
    make_file(mounted.path("so that it is read again"), b"")
    fd = os.open(mounted.point, os.O_RDONLY)
    try:
        begun = len(entries(fd, 4096))
        victims = order[begun + 5:begun + 65:20]
        for name in victims:
            os.unlink(mounted.path(name))
        seen = read_all(fd, 4096)
    finally:
        os.close(fd)
    assert len(victims) == 3 and not set(victims) & set(seen)
    assert len(seen) >= 600 - begun - 3


@pytest.mark.parametrize("in_place", [False, True])
def test_a_program_does_not_meet_forever_what_it_renames_while_it_reads(another, mount, in_place):
    """Each new name comes after all others; btrfs shows who reads no more than there was at the beginning."""
    mounted = mount(source=new_folder(another, "source"), in_place=in_place)
    names = [f"a file with a rather long name {number}" for number in range(2000)]
    for name in names:
        make_file(mounted.path(name), b"")
    met = 0
    with os.scandir(mounted.point) as entries:
        for entry in entries:
            met += 1
            assert met <= 2 * len(names), "it goes on for ever"
            os.rename(entry.path, mounted.path("another name"))
            os.rename(mounted.path("another name"), entry.path)
    assert met >= len(names) and sorted(os.listdir(mounted.point)) == sorted(names)
    # The source must outlive what the fixture looks at, which does not look for the mount here.
    mounted.unmount()
    mounted.stop()
    mounted.check()


def test_a_whole_file_system_as_source(ext4, mount):
    mounted = mount(source=ext4)
    make_file(mounted.path("f"), b"x" * 5000)
    assert os.stat(mounted.point).st_ino == os.stat(ext4).st_ino
    assert os.statvfs(mounted.point).f_blocks == os.statvfs(ext4).f_blocks
    assert os.listdir(ext4) == ["f"]


def test_a_full_file_system_is_told_as_such(mount, place):
    with mounted_at(new_folder(place, "small"), "-t", "tmpfs", "-o", "size=1m", "none") as small:
        mounted = mount(source=small)
        fd = os.open(mounted.path("f"), os.O_WRONLY | os.O_CREAT)
        written = 0
        with pytest.raises(OSError) as full:
            while True:
                written += os.write(fd, b"x" * 10_000)
        os.close(fd)
        assert full.value.errno == errno.ENOSPC
        assert os.stat(mounted.path("f")).st_size == written == os.stat(small + "/f").st_size
        os.unlink(mounted.path("f"))
        # The kernel does not wait for the daemon to let go of it.
        harness.wait_until(lambda: os.statvfs(small).f_bavail * os.statvfs(small).f_bsize > 200_000, "room")
        make_file(mounted.path("g"), b"x" * 100_000)
        # The source must outlive what the fixture looks at.
        mounted.stop()
        mounted.check()


# ---- overlayfs ----

@contextlib.contextmanager
def overlay(folder):
    """An overlay with some files below; yields its mount point."""
    lower, upper, work = (new_folder(folder, name) for name in ("lower", "upper", "work"))
    os.makedirs(lower + "/below/deep")
    make_file(lower + "/below/f", b"from below " * 1000, 0o644)
    make_file(lower + "/below/deep/g", b"deep", 0o600, (OWNER.uid, OWNER.gid))
    os.link(lower + "/below/f", lower + "/below/link")
    os.symlink("f", lower + "/below/symlink")
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    with mounted_at(new_folder(folder, "merged"), "-t", "overlay", "overlay", "-o", options) as merged:
        yield merged


def work_on_an_overlay():
    """Copy-ups while a file is open, whiteouts, renames of what lies below."""
    seen = []
    reader = os.open("below/f", os.O_RDONLY)
    seen.append(os.pread(reader, 10, 0).decode())
    writer = os.open("below/f", os.O_RDWR)
    os.pwrite(writer, b"FROM ABOVE", 0)
    fresh = os.open("below/f", os.O_RDONLY)
    seen += [os.pread(writer, 10, 0).decode(), os.pread(fresh, 10, 0).decode(), os.fstat(writer).st_size]
    for fd in (reader, writer, fresh):
        os.close(fd)
    os.chmod("below/deep/g", 0o640)
    os.unlink("below/symlink")
    os.symlink("elsewhere", "below/symlink")
    seen.append(attempt(os.rename, "below/deep", "below/moved"))
    os.rename("below/link", "link")
    make_file("below/new", b"new")
    shutil.rmtree("below/deep", ignore_errors=True)
    os.mkdir("again")
    os.rmdir("again")
    seen.append(sorted(os.listdir("below")))
    return seen


@pytest.mark.parametrize("work", [work_on_an_overlay, lambda: a_days_work()[:2]], ids=["copy_up", "a_days_work"])
def test_overlayfs_as_source(mount, mode, place, work):
    with overlay(new_folder(place, "ours")) as ours, overlay(new_folder(place, "theirs")) as native:
        mounted = mount(start=False, source=ours, options=mode.options)
        # Whoever unlinks one of two names of a file that is copied up splits them: sizes by inode say nothing.
        mounted.expect_replay = False
        mounted.start()
        twins = OverlayTwins(mounted, native)
        assert twins.same(work)[:2] in (["from below", "FROM ABOVE"], WANTED)
        mounted.stop()
        mounted.check()


class OverlayTwins(Twins):
    """Twins whose native tree is there already."""

    def __init__(self, mounted, native):
        self.mounted = mounted
        self.native = native


def test_a_source_whose_handles_cannot_be_had(mount, mode, place):
    """
    An overlay without nfs_export gives no handles that can be opened: inodes are found by parent and name. So what is
    renamed, and what is open while it is renamed or unlinked, must be found all the same.
    """
    def work():
        os.chdir(mounted.point)
        os.makedirs("a/b/c")
        make_file("a/b/c/f", b"found")
        fd = os.open("a/b/c/f", os.O_RDWR)
        os.rename("a/b", "moved")
        os.rename("moved/c/f", "moved/c/g")
        os.pwrite(fd, b"FOUND", 0)
        os.fchmod(fd, 0o600)
        seen = [os.pread(fd, 10, 0).decode(), facts("moved/c/g")["mode"]]
        os.unlink("moved/c/g")
        os.ftruncate(fd, 100)
        seen += [os.fstat(fd).st_size, os.fstat(fd).st_nlink]
        os.close(fd)
        shutil.rmtree("moved")
        return seen

    with overlay(new_folder(place, "overlay")) as merged:
        mounted = mount(source=merged, options=mode.options)
        assert harness.in_child(work).value == ["FOUND", "0o100600", 100, 0]
        mounted.stop()
        mounted.check()


def test_an_overlay_on_top_of_the_mount(mount, mode, place):
    """As containers do it: the mount is the lower layer, or the upper one."""
    mounted = mount(options=mode.options)
    make_directory(mounted.path("lower"))
    make_file(mounted.path("lower/f"), b"lower", 0o644)
    upper, work = new_folder(place, "upper"), new_folder(place, "work")
    options = f"lowerdir={mounted.path('lower')},upperdir={upper},workdir={work}"
    with mounted_at(new_folder(place, "merged"), "-t", "overlay", "overlay", "-o", options) as merged:
        with open(merged + "/f", "r+b") as file:
            assert file.read() == b"lower"
            file.write(b", and above")
        with open(merged + "/f", "rb") as file:
            assert file.read() == b"lower, and above"
    assert os.stat(mounted.path("lower/f")).st_size == 5


# ---- Several file systems in one source ----

@pytest.fixture
def source_of_two(place):
    """A tmpfs with another one mounted inside, whose inode numbers are the same: both begin to count at 1."""
    with mounted_at(new_folder(place, "two"), "-t", "tmpfs", "none") as outer:
        make_file(outer + "/f", b"outer")
        with mounted_at(new_folder(outer, "inner"), "-t", "tmpfs", "-o", "size=4m", "none") as inner:
            make_file(inner + "/f", b"inner")
            make_directory(inner + "/d")
            make_file(inner + "/d/g", b"deep")
            yield outer


def test_a_source_that_contains_a_mount_point(source_of_two, mount, mode):
    """Files of two file systems are two files, also where their numbers are the same."""
    assert os.stat(source_of_two + "/f").st_ino == os.stat(source_of_two + "/inner/f").st_ino
    mounted = mount(start=False, source=source_of_two, options=mode.options)
    # The replay goes by inode number.
    mounted.expect_replay = False
    mounted.start()
    for number in range(3):
        for name, wanted in (("f", b"outer"), ("inner/f", b"inner"), ("inner/d/g", b"deep")):
            with open(mounted.path(name), "r+b") as file:
                assert file.read().startswith(wanted)
                file.write(f" {number}".encode())
    with open(source_of_two + "/f", "rb") as outer, open(source_of_two + "/inner/f", "rb") as inner:
        assert (outer.read(), inner.read()) == (b"outer 0 1 2", b"inner 0 1 2")
    for call in (os.rename, os.link):
        assert attempt(call, mounted.path("f"), mounted.path("inner/new")) == "EXDEV"
        assert attempt(call, mounted.path("inner/f"), mounted.path("new")) == "EXDEV"
    assert attempt(os.rmdir, mounted.path("inner")) == "EBUSY"
    assert attempt(os.rename, mounted.path("inner"), mounted.path("other")) == "EBUSY"
    os.makedirs(mounted.path("inner/h/i"))
    os.rename(mounted.path("inner/d"), mounted.path("inner/h/d"))
    assert sorted(os.listdir(mounted.path("inner/h"))) == ["d", "i"]
    assert os.statvfs(mounted.path("inner")).f_blocks == os.statvfs(source_of_two + "/inner").f_blocks
    events = mounted.events()
    assert {e["path"] for e in events if e["op"] == "write"} == {"f", "inner/f", "inner/d/g"}
    assert [e["path"] for e in events if e["op"] == "rename"] == ["inner/d"]


def test_what_is_mounted_in_the_source_later_is_seen(mount, place):
    with mounted_at(new_folder(place, "outer"), "-t", "tmpfs", "none") as outer:
        os.mkdir(outer + "/inner")
        mounted = mount(start=False, source=outer)
        mounted.expect_replay = False
        mounted.start()
        assert os.listdir(mounted.path("inner")) == []
        with mounted_at(outer + "/inner", "-t", "tmpfs", "none") as inner:
            make_file(inner + "/f", b"later")
            harness.wait_until(lambda: os.path.exists(mounted.path("inner/f")), "what was mounted")
            with open(mounted.path("inner/f"), "rb") as file:
                assert file.read() == b"later"
            make_file(mounted.path("inner/g"), b"through")
            assert sorted(os.listdir(inner)) == ["f", "g"]
        harness.wait_until(lambda: not os.path.exists(mounted.path("inner/f")), "what was unmounted")
        mounted.stop()
        mounted.check()


# ---- Read-only sources ----

def try_to_change():
    """Each change, and how it is refused; then what may still be read."""
    steps = [(os.mkdir, "new"), (make_file, "new"), (os.unlink, "f"), (os.rmdir, "d"), (os.rename, "f", "g"),
             (os.link, "f", "g"), (os.symlink, "x", "s"), (os.mkfifo, "fifo"), (os.chmod, "f", 0o600),
             (os.chown, "f", 1, 1), (os.utime, "f"), (os.truncate, "f", 0), (os.open, "f", os.O_WRONLY),
             (os.open, "f", os.O_RDWR), (os.open, "f", os.O_RDONLY | os.O_TRUNC),
             (os.open, ".", os.O_TMPFILE | os.O_RDWR), (os.setxattr, "f", "user.a", b"1"),
             (os.removexattr, "f", "user.b"), (os.unlink, "missing"), (os.mkdir, "d")]
    found = [attempt(*step) for step in steps]
    with open("f") as file:
        return [*found, file.read(), sorted(os.listdir(".")), os.access("f", os.W_OK),
                attempt(os.getxattr, "f", "user.b")]


@pytest.mark.parametrize("how", ["source", "mount"])
def test_a_read_only_source(mount, mode, disk_place, how):
    """A bind mount that is read-only, and as the other case a mount with -o ro: EROFS, as natively."""
    tree = new_folder(disk_place, "tree")
    make_file(tree + "/f", b"contents")
    os.setxattr(tree + "/f", "user.b", b"2")
    os.mkdir(tree + "/d")
    with mounted_at(new_folder(disk_place, "read-only"), "--bind", "-o", "ro", tree) as read_only:
        if how == "source":
            mounted = mount(folder=disk_place, source=read_only, options=mode.options)
        else:
            mounted = mount(folder=disk_place, source=tree, options=mode.options + ",ro")

        def in_tree(root):
            def work():
                os.chdir(root)
                return try_to_change()
            return harness.in_child(work).value

        native, ours = in_tree(read_only), in_tree(mounted.point)
        assert ours == native
        assert native[0] == native[2] == native[12] == "EROFS" and native[20] == "contents"
        assert {event["op"] for event in mounted.events()} == {"mounted"}
        mounted.stop()
        mounted.check()


# ---- Case-insensitive directories ----

def test_a_case_insensitive_directory(mount, place):
    make_image(place + "/image", "-O", "casefold", "-E", "encoding=utf8")
    with mounted_at(new_folder(place, "ext4"), "-o", "loop", place + "/image") as ext4:
        source = new_folder(ext4, "source")
        subprocess.run(["chattr", "+F", source], check=True)
        mounted = mount(start=False, source=source)
        mounted.expect_replay = False
        mounted.start()
        make_file(mounted.path("Name"), b"x")
        for name in ("name", "NAME", "Name"):
            assert os.stat(mounted.path(name)).st_ino == os.stat(source + "/Name").st_ino
        assert attempt(os.mkdir, mounted.path("NAME")) == "EEXIST"
        with open(mounted.path("nAmE"), "ab") as file:
            file.write(b"y")
        os.rename(mounted.path("name"), mounted.path("NAME"))
        assert os.listdir(mounted.point) == ["NAME"]
        os.unlink(mounted.path("name"))
        harness.wait_until(lambda: not os.path.exists(mounted.path("Name")), "the end of every spelling")
        mounted.stop()
        mounted.check()


# ---- Other namespaces, and in place ----

def in_namespace(script, *arguments, options=("-m",)):
    """Run a shell script in a mount namespace of its own."""
    done = subprocess.run(["unshare", *options, "--propagation", "private", "sh", "-e", "-c", script, "sh", *arguments],
                          capture_output=True, text=True, timeout=harness.PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_bind_mount_in_another_mount_namespace(mount, mode, place):
    """What a container does with the part of the mount that it was given comes with the path of the whole mount."""
    mounted = mount(options=mode.options)
    os.makedirs(mounted.path("given/sub"))
    target = new_folder(place, "target")
    in_namespace('mount --bind "$1" "$2"; umount -l "$3"; cd "$2"; echo hello > sub/f; mv sub/f g; chmod 600 g; cat g',
                 mounted.path("given"), target, mounted.point)
    assert os.listdir(target) == []
    with open(mounted.path("given/g")) as file:
        assert file.read() == "hello\n"
    mounted.settle()
    events = [(e["op"], e["path"], e.get("to"),
               e["comm"]) for e in mounted.events() if e["path"].startswith("given/sub/f")
              or e["path"] == "given/g"]
    assert [event for event in events if event[0] != "close"] == [
        ("create", "given/sub/f", None, "sh"), ("write", "given/sub/f", None, "sh"),
        ("rename", "given/sub/f", "given/g", "mv"), ("chmod", "given/g", None, "chmod")]


def test_a_container_with_a_root_and_pids_of_its_own(mount, place):
    mounted = mount()
    os.mkdir(mounted.path("given"))
    root = new_folder(place, "root")
    in_namespace('mount --bind / "$2"; mount --bind "$1" "$2/mnt"; '
                 'chroot "$2" sh -e -c "cd /mnt; echo hello > f; ln f g; rm f"',
                 mounted.path("given"), root, options=("-m", "-p", "-f"))
    events = [(e["op"], e["path"]) for e in mounted.events() if e["op"] in ("create", "write", "link", "unlink")]
    assert events == [("create", "given/f"), ("write", "given/f"), ("link", "given/f"), ("unlink", "given/f")]


def test_users_of_another_user_namespace(mount, place):
    """Root of a container is user 61001 here, and so are its files; what it must not do it cannot do."""
    mounted = mount()
    make_directory(mounted.path("given"), 0o777)
    make_file(mounted.path("given/secret"), b"x", 0o600)
    script = ('mkdir given/d; echo hello > given/d/f; chown 0:0 given/d/f; '
              'cat given/secret 2>/dev/null && exit 1; mknod given/n c 1 3 2>/dev/null && exit 1; exit 0')
    command = ["setpriv", f"--reuid={OWNER.uid}", f"--regid={OWNER.gid}", "--clear-groups",
               "unshare", "-U", "-r", "-m", "sh", "-e", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=mounted.point, timeout=harness.PATIENCE_S)
    if "unshare failed" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert facts(mounted.path("given/d/f"))["owner"] == [OWNER.uid, OWNER.gid]
    event, _ = mounted.wait_for("oldest", op="create", path="given/d/f")
    assert (event["uid"], event["gid"]) == (OWNER.uid, OWNER.gid)


def test_in_place_over_a_directory_that_programs_are_using(mount, mode, disk_place):
    """Who stood in the directory, or had a file of it open, goes on; who comes by path is on the mount."""
    mounted = mount(start=False, in_place=True, folder=disk_place, options=mode.options)
    make_directory(mounted.source + "/d")
    make_file(mounted.source + "/d/f", b"before\n")
    here = os.open(mounted.source + "/d", os.O_RDONLY | os.O_DIRECTORY)
    fd = os.open(mounted.source + "/d/f", os.O_RDWR)
    user = subprocess.Popen(["sh", "-e", "-c", "read line; cat d/f; pwd -P; echo more >> d/f; mkdir d/by-path"],
                            stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, cwd=mounted.source, text=True)
    mounted.start()
    # Made underneath by who was there before: no event.
    mounted.expect_replay = False
    os.pwrite(fd, b"BEFORE\n", 0)
    out, _ = user.communicate("go\n", timeout=harness.PATIENCE_S)
    assert user.returncode == 0 and out.split() == ["BEFORE", mounted.source]
    assert sorted(os.listdir(here)) == ["by-path", "f"]
    with open(mounted.path("d/f"), "ab") as file:
        file.write(b"through the mount")
    event, _ = mounted.wait_for("oldest", op="close", path="d/f")
    assert os.pread(fd, 100, 0) == b"BEFORE\nmore\nthrough the mount"
    assert event["size"] == 29
    os.close(fd)
    os.close(here)


def test_a_walk_of_an_in_place_mount_asks_for_nothing_twice(mount, disk_place):
    """The kernel keeps what it has read of a directory until that is changed, and opens it without us."""
    mounted = mount(start=False, in_place=True, folder=disk_place)
    for number in range(20):
        make_directory(f"{mounted.source}/d{number}")
        make_file(f"{mounted.source}/d{number}/f", b"x")
    mounted.start()

    def walk():
        for folder, _, files in os.walk(mounted.point):
            for name in files:
                os.lstat(os.path.join(folder, name))
            os.lstat(folder)

    def requests_of(work):
        before = mounted.status()["requests"]
        work()
        after = mounted.status()["requests"]
        return {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}

    # The first brings the entries, the second the times of access that the first has changed.
    walk()
    walk()
    assert requests_of(walk) == {}
    os.mkdir(mounted.path("d3/new"))
    assert sorted(os.listdir(mounted.path("d3"))) == ["f", "new"]
    os.rename(mounted.path("d3/new"), mounted.path("d4/new"))
    assert (os.listdir(mounted.path("d3")), sorted(os.listdir(mounted.path("d4")))) == (["f"], ["f", "new"])
    os.rmdir(mounted.path("d4/new"))
    os.unlink(mounted.path("d4/f"))
    assert os.listdir(mounted.path("d4")) == []


def test_directories_of_an_in_place_mount_that_are_open(mount, disk_place):
    """Reading one that is changed or removed meanwhile, syncing it, its flags: as with any other."""
    mounted = mount(start=False, in_place=True, folder=disk_place)
    names = [f"a name of some length, number {number}" for number in range(5000)]
    make_directory(mounted.source + "/large")
    for name in names:
        make_file(f"{mounted.source}/large/{name}", b"")
    make_directory(mounted.source + "/removed")
    mounted.start()
    for _ in range(2):
        with os.scandir(mounted.path("large")) as entries:
            seen = [next(entries).name for _ in range(100)]
            os.unlink(mounted.path("large", names.pop()))
            make_file(mounted.path("large/new"), b"")
            seen += [entry.name for entry in entries]
        assert len(seen) == len(set(seen)) and set(names) <= set(seen)
        os.unlink(mounted.path("large/new"))
        assert sorted(os.listdir(mounted.path("large"))) == sorted(names)
    fd = os.open(mounted.path("removed"), os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    real = os.open(f"{mounted.real}/removed", os.O_RDONLY | os.O_DIRECTORY)
    assert fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)) == fcntl.ioctl(real, FS_IOC_GETFLAGS, bytes(8))
    os.close(real)
    assert os.listdir(fd) == []
    os.rmdir(mounted.path("removed"))
    with contextlib.suppress(FileNotFoundError):
        assert os.listdir(fd) == []
    with pytest.raises(FileNotFoundError):
        os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.close(fd)
