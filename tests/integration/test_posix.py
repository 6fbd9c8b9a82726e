"""
Ownership and permission as each user sees them on a mount of root's that is open to all.

Nearly every test does its work twice, natively and through the mount, as the same user (twins.py): answers, errors and
the trees that come out of it must be the same. On top of that each says what it expects, where that is known, so that
two equal mistakes in the test are noticed.
"""

import errno
import mmap
import os
import socket
import stat
import subprocess
import sys
import time

import pytest

import calls
import harness
import syscalls
import twins as twins_module
from twins import (MEMBER, OTHER_TEAM, OWNER, ROOT, STRANGER, TAMED_ROOT, TEAM, Person, Twins, attempt, facts,
                   make_directory, make_file, mode_of)

EVERYBODY = [ROOT, OWNER, MEMBER, STRANGER]


@pytest.fixture(params=["disk", "tmpfs"])
def twins(request, mount):
    folder = request.getfixturevalue("disk_place" if request.param == "disk" else "place")
    return Twins(mount(folder=folder), os.path.join(folder, "native"))


def named(function):
    """A function that makes something, as a parameter with a readable name."""
    return pytest.param(function, id=function.__name__.removeprefix("make_"))


# ---- What is new ----

def make_a_file(name, mode):
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))


def make_a_directory(name, mode):
    os.mkdir(name, mode)


def make_a_symlink(name, mode):
    os.symlink("somewhere", name)


def make_a_fifo(name, mode):
    os.mkfifo(name, mode)


def make_a_plain_node(name, mode):
    os.mknod(name, stat.S_IFREG | mode)


def make_a_tmpfile(name, mode):
    fd = os.open(os.path.dirname(name), os.O_TMPFILE | os.O_RDWR, mode)
    calls.link_open_file(fd, name)
    os.close(fd)


MAKERS = [named(function) for function in (make_a_file, make_a_directory, make_a_symlink, make_a_fifo,
                                           make_a_plain_node, make_a_tmpfile)]


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_new_belongs_to_its_maker(twins, make):
    twins.same(lambda: make_directory("all", 0o777))
    for who in EVERYBODY:
        def work():
            make(f"all/{who.name}", 0o666)
            st = os.lstat(f"all/{who.name}")
            return [st.st_uid, st.st_gid]
        assert twins.same(work, who) == [who.uid, who.gid]


@pytest.mark.parametrize("make", [make for make in MAKERS if make.id != "a_tmpfile"])
def test_what_is_new_is_never_seen_with_another_owner_or_mode(twins, make):
    """inotify underneath tells of the birth, and of nothing put right after it."""
    twins.same(lambda: make_directory("all", 0o2777, (0, OTHER_TEAM)))

    def work():
        make("all/new", 0o640)
        return True

    with calls.Watch(os.path.join(twins.mounted.source, "all"), calls.IN_CREATE | calls.IN_ATTRIB) as watch:
        twins.same(work, OWNER)
        seen = watch.seen()
    assert [name for _, name in seen] == ["new"] and seen[0][0] & calls.IN_CREATE, seen


def test_the_event_of_a_new_file_names_its_maker(twins):
    twins.same(lambda: make_directory("all", 0o777))
    twins.same(lambda: make_a_file("all/new", 0o666), MEMBER)
    event, _ = twins.mounted.wait_for("oldest", op="create", path="all/new")
    assert (event["uid"], event["gid"], event["mode"]) == (MEMBER.uid, MEMBER.gid, 0o644)


@pytest.mark.parametrize("make", MAKERS)
def test_the_umask(twins, make):
    twins.same(lambda: make_directory("all", 0o777))
    for umask in (0, 0o022, 0o027, 0o077, 0o777):
        def work():
            make(f"all/{umask:o}", 0o1777)
            return mode_of(f"all/{umask:o}")
        mode = int(twins.same(work, OWNER, umask), 8)
        if not stat.S_ISLNK(mode):
            assert mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("make", MAKERS)
def test_a_default_acl_decides_instead_of_the_umask(twins, make):
    default = calls.acl(7, 5, 0, mask=7, users={MEMBER.uid: 7}, groups={TEAM: 4})

    def prepare():
        make_directory("all", 0o777)
        os.setxattr("all", "system.posix_acl_default", default)

    def work():
        make("all/new", 0o664)
        return facts("all/new")

    twins.same(prepare)
    found = twins.same(work, OWNER, 0o077)
    if make is not make_a_symlink:
        assert "system.posix_acl_access" in found and int(found["mode"], 8) & 0o777 == 0o660
    assert ("system.posix_acl_default" in found) == (make is make_a_directory)


def test_a_default_acl_without_named_entries(twins):
    def prepare():
        make_directory("all", 0o777)
        os.setxattr("all", "system.posix_acl_default", calls.acl(6, 4, 2))

    def work():
        make_a_file("all/f", 0o777)
        make_a_directory("all/d", 0o777)
        return [mode_of("all/f"), mode_of("all/d")]

    twins.same(prepare)
    assert twins.same(work, OWNER, 0o777) == ["0o100642", "0o40642"]


# ---- Set-gid directories and groups ----

@pytest.mark.parametrize("make", MAKERS)
def test_a_set_gid_directory_gives_its_group(twins, make):
    twins.same(lambda: make_directory("all", 0o2777, (0, TEAM)))
    for who in EVERYBODY:
        def work():
            make(f"all/{who.name}", 0o2775)
            st = os.lstat(f"all/{who.name}")
            return [st.st_uid, st.st_gid, oct(st.st_mode)]
        uid, gid, mode = twins.same(work, who)
        assert (uid, gid) == (who.uid, TEAM)
        if make is make_a_directory:
            assert int(mode, 8) & stat.S_ISGID
        if make is make_a_file:
            # Who is not of the group must not make a set-gid file of that group.
            assert bool(int(mode, 8) & stat.S_ISGID) == (who is ROOT or TEAM in who.groups)


def test_set_gid_goes_down_a_tree(twins):
    def work():
        os.makedirs("all/a/b/c")
        make_a_file("all/a/b/c/f", 0o644)
        return [facts(path) for path in ("all/a", "all/a/b", "all/a/b/c", "all/a/b/c/f")]

    twins.same(lambda: make_directory("all", 0o2777, (0, TEAM)))
    assert {found["owner"][1] for found in twins.same(work, STRANGER)} == {TEAM}


@pytest.mark.parametrize("who", [*EVERYBODY, TAMED_ROOT], ids=lambda who: who.name)
def test_chmod_drops_set_gid_for_who_is_not_of_the_group(twins, who):
    def prepare():
        for gid in (TEAM, OTHER_TEAM, who.gid):
            make_file(f"file{gid}", b"x", 0o644, (who.uid, gid))
            make_directory(f"directory{gid}", 0o755, (who.uid, gid))

    def work():
        found = []
        for name in sorted(os.listdir(".")):
            found.append([name, attempt(os.chmod, name, 0o6755), mode_of(name)])
        return found

    twins.same(prepare)
    modes = {name: int(mode, 8) for name, _, mode in twins.same(work, who)}
    assert bool(modes[f"file{OTHER_TEAM}"] & stat.S_ISGID) == (who is ROOT)
    assert modes[f"file{who.gid}"] & stat.S_ISGID


@pytest.mark.parametrize("who", [ROOT, OWNER], ids=lambda who: who.name)
def test_an_acl_drops_set_gid_for_who_is_not_of_the_group(twins, who):
    groups = (OTHER_TEAM, who.gid)

    def prepare():
        for gid in groups:
            make_file(f"file{gid}", b"x", 0o644, (who.uid, gid))
            os.chmod(f"file{gid}", 0o2775)

    def work():
        return [[attempt(os.setxattr, f"file{gid}", "system.posix_acl_access",
                         calls.acl(7, 5, 5, mask=7, users={STRANGER.uid: 6})), mode_of(f"file{gid}")] for gid in groups]

    twins.same(prepare)
    found = dict(zip(groups, twins.same(work, who)))
    assert int(found[who.gid][1], 8) & stat.S_ISGID
    if who is OWNER:
        assert not int(found[OTHER_TEAM][1], 8) & stat.S_ISGID


def test_access_by_a_supplementary_group(twins):
    def prepare():
        make_directory("team", 0o770, (0, TEAM))
        make_file("team/f", b"secret", 0o640, (0, TEAM))

    def work():
        def read():
            with open("team/f") as file:
                return file.read()
        return [attempt(read), attempt(os.listdir, "team"), attempt(make_a_file, f"team/{os.getuid()}", 0o600),
                os.access("team/f", os.R_OK), os.access("team/f", os.W_OK)]

    twins.same(prepare)
    assert twins.same(work, MEMBER) == ["secret", ["f"], None, True, False]
    assert twins.same(work, STRANGER) == ["EACCES", "EACCES", "EACCES", False, False]


def test_the_last_of_many_supplementary_groups(twins):
    """More than any request could carry: 1,000 groups, the wanted one at the end."""
    many = Person("of many groups", 61004, 61004, (*range(70_000, 70_999), TEAM))

    def prepare():
        make_directory("team", 0o2770, (0, TEAM))

    def work():
        make_a_file("team/f", 0o2770)
        make_a_directory("team/d", 0o770)
        os.chown("team/f", -1, 70_500)
        os.rename("team/f", "team/d/f")
        return [facts("team/d"), facts("team/d/f")]

    twins.same(prepare)
    directory, file = twins.same(work, many, 0o007)
    assert directory["owner"] == [many.uid, TEAM] and file["owner"] == [many.uid, 70_500]


# ---- Set-id bits ----

SET_ID_MODES = [0o4777, 0o2777, 0o6777, 0o4767, 0o4666, 0o0777]
WITHOUT_GROUP_EXECUTION = [0o2767, 0o6666]


# VFS_CAP_REVISION_2, cap_chown permitted and effective.
CAPABILITY = bytes.fromhex("0100000201000000000000000000000000000000")


def with_open(flags, call):
    def work(name):
        fd = os.open(name, flags)
        try:
            call(fd)
        finally:
            os.close(fd)
    return work


def copy_into(fd):
    source = os.open("source", os.O_RDONLY)
    os.copy_file_range(source, fd, 100, 0, 0)
    os.close(source)


def send_into(fd):
    source = os.open("source", os.O_RDONLY)
    os.sendfile(fd, source, 0, 100)
    os.close(source)


PUNCH = syscalls.FALLOC_FL_PUNCH_HOLE | syscalls.FALLOC_FL_KEEP_SIZE

CLEARING = {
    "write": with_open(os.O_WRONLY, lambda fd: os.write(fd, b"x")),
    "write_of_nothing": with_open(os.O_WRONLY, lambda fd: os.write(fd, b"")),
    "append": with_open(os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b"x")),
    "truncate": lambda name: os.truncate(name, 5),
    "truncate_to_the_same_size": lambda name: os.truncate(name, os.stat(name).st_size),
    "ftruncate": with_open(os.O_WRONLY, lambda fd: os.ftruncate(fd, 5)),
    "open_with_O_TRUNC": with_open(os.O_WRONLY | os.O_TRUNC, lambda fd: None),
    "open_alone": with_open(os.O_RDWR, lambda fd: None),
    "fallocate": with_open(os.O_WRONLY, lambda fd: syscalls.fallocate(fd, 0, 0, 9000)),
    "punch": with_open(os.O_WRONLY, lambda fd: syscalls.fallocate(fd, PUNCH, 0, 4096)),
    "copy_file_range": with_open(os.O_WRONLY, copy_into),
    "sendfile": with_open(os.O_WRONLY, send_into),
    "chown_to_the_owner_it_has": lambda name: os.chown(name, OWNER.uid, -1),
    "chown_to_the_group_it_has": lambda name: os.chown(name, -1, TEAM),
    "chown_to_another_owner": lambda name: os.chown(name, STRANGER.uid, -1),
    "chown_to_another_group": lambda name: os.chown(name, -1, OWNER.gid),
    "chown_through_a_descriptor": with_open(os.O_RDONLY, lambda fd: os.fchown(fd, OWNER.uid, TEAM)),
    "utimens": lambda name: os.utime(name, (5, 5)),
    "link": lambda name: os.link(name, name + "-link"),
    "rename": lambda name: os.rename(name, name + "-renamed"),
}


WRITING = {"write", "append", "truncate", "truncate_to_the_same_size", "ftruncate", "open_with_O_TRUNC",
           "fallocate", "punch", "copy_file_range", "sendfile"}

UNTOLD = {"fallocate", "punch", "copy_file_range"}

CLEARERS = [OWNER, MEMBER, STRANGER, ROOT, TAMED_ROOT]


def prepare_set_id(modes):
    """The same files for each of CLEARERS, all of the owner and the team."""
    make_file("source", b"s" * 200)
    for number in range(len(CLEARERS)):
        make_directory(f"as{number}", 0o777)
        for mode in modes:
            make_file(f"as{number}/{mode:o}", b"x" * 5000, mode, (OWNER.uid, TEAM))
        make_file(f"as{number}/capable", b"x" * 5000, 0o777, (OWNER.uid, TEAM))
        os.setxattr(f"as{number}/capable", "security.capability", CAPABILITY)


@pytest.mark.parametrize("what", CLEARING)
def test_set_id_bits_and_capabilities_are_cleared_as_linux_does(twins, what):
    """By the owner, another user of the group, one who is of no group, root, and root without CAP_FSETID."""
    twins.same(lambda: prepare_set_id(SET_ID_MODES))
    for number, who in enumerate(CLEARERS):
        def work():
            names = sorted(os.listdir(f"as{number}"))
            return {"answers": {name: attempt(CLEARING[what], f"as{number}/{name}") for name in names},
                    "modes": {name: mode_of(f"as{number}/{name}") for name in sorted(os.listdir(f"as{number}"))}}
        found = twins.same(work, who)
        if what.startswith("chown") and who is ROOT:
            assert found["modes"]["6777"] == "0o100777"
        if what in WRITING:
            assert found["answers"]["6777"] is None
            assert found["modes"]["6777"] == ("0o106777" if who is ROOT else "0o100777")


@pytest.mark.parametrize("what", sorted(WRITING))
def test_who_asks_for_the_mode_alone_is_told_the_bits_are_cleared(twins, what):
    """stat(1) asks for no more than it prints. After a write the kernel no longer knows times and size, but it still knows the mode."""
    def prepare():
        make_file("source", b"s" * 200)
        make_file("f", b"x" * 5000, 0o6777, (OWNER.uid, TEAM))

    def work():
        assert mode_of("f") == "0o106777"
        attempt(CLEARING[what], "f")
        return subprocess.run(["stat", "-c", "%a", "f"], check=True, capture_output=True, text=True).stdout

    twins.same(prepare)
    assert twins.same(work, STRANGER) == "777\n"


@pytest.mark.parametrize("who", CLEARERS, ids=lambda who: who.name)
def test_set_gid_without_group_execution(twins, who):
    """
    Since Linux 6.2 it is cleared as well, when who changes the file is neither of its group nor has CAP_FSETID.

    FUSE's requests for chown, fallocate and copy_file_range have no flag for that capability, so for them root without
    it is taken for root, whose set-gid stays; it is left out there.
    """
    def prepare():
        make_file("source", b"s" * 200)
        for what in CLEARING:
            make_directory(what, 0o777)
            for mode in WITHOUT_GROUP_EXECUTION:
                make_file(f"{what}/{mode:o}", b"x" * 5000, mode, (OWNER.uid, TEAM))

    def work():
        found = {}
        for what, call in CLEARING.items():
            if who is TAMED_ROOT and (what in UNTOLD or what.startswith("chown")):
                continue
            for name in sorted(os.listdir(what)):
                answer = attempt(call, f"{what}/{name}")
                found[f"{what} {name}"] = [answer, *(mode_of(f"{what}/{now}") for now in sorted(os.listdir(what))
                                                     if now.startswith(name))]
        return found

    twins.same(prepare)
    found = twins.same(work, who)
    assert found["write 2767"] == [None, "0o100767" if who in (STRANGER, TAMED_ROOT) else "0o102767"]


def test_chown_of_nothing_clears_set_id_bits(twins):
    """chown(f, -1, -1): the SETATTR that comes of it has no attribute set, which no other call causes."""
    twins.same(lambda: make_file("f", b"x", 0o6755, (OWNER.uid, OWNER.gid)))

    def work():
        os.chown("f", -1, -1)
        return mode_of("f")

    assert twins.same(work, OWNER) == "0o100755"


def test_a_store_through_a_mapping_leaves_set_id_bits(twins):
    def work():
        fd = os.open("f", os.O_RDWR)
        with mmap.mmap(fd, 100) as mapping:
            mapping[3:6] = b"abc"
            mapping.flush()
        os.close(fd)
        return mode_of("f")

    twins.same(lambda: make_file("f", b"x" * 100, 0o6777, (OWNER.uid, OWNER.gid)))
    assert twins.same(work, OWNER) == "0o106777"


def test_clearing_set_id_bits_is_an_event(twins):
    twins.same(lambda: make_file("f", b"x", 0o6755, (OWNER.uid, OWNER.gid)))
    since = twins.mounted.sync()
    twins.same(lambda: os.close(os.open("f", os.O_WRONLY | os.O_TRUNC)), OWNER)
    event, _ = twins.mounted.wait_for(since, op="chmod", path="f")
    assert event["mode"] == 0o755


# ---- Sticky directories ----

def test_sticky_directories(twins):
    """Only who owns the file, or the directory, or root, takes or replaces a name in it."""
    def prepare():
        for number in range(len(EVERYBODY)):
            make_directory(f"sticky{number}", 0o1777, (OWNER.uid, OWNER.gid))
            for owner in EVERYBODY:
                for kind in ("unlink", "rename", "replace", "exchange", "link"):
                    make_file(f"sticky{number}/{kind}-{owner.name}", b"x", 0o666, (owner.uid, owner.gid))
                make_directory(f"sticky{number}/rmdir-{owner.name}", 0o777, (owner.uid, owner.gid))

    def work():
        os.chdir(f"sticky{number}")
        found = {}
        for owner in EVERYBODY:
            def take(kind, call):
                found[f"{kind} {owner.name}"] = attempt(call, f"{kind}-{owner.name}")

            def replace(name):
                make_a_file("mine-" + name, 0o666)
                os.rename("mine-" + name, name)

            def exchange(name):
                make_a_file("mine-" + name, 0o666)
                syscalls.renameat2("mine-" + name, name, syscalls.RENAME_EXCHANGE)

            take("unlink", os.unlink)
            take("rename", lambda name: os.rename(name, name + "-renamed"))
            take("replace", replace)
            take("exchange", exchange)
            take("link", lambda name: os.link(name, name + "-link"))
            take("rmdir", os.rmdir)
        return found

    twins.same(prepare)
    for number, who in enumerate(EVERYBODY):
        found = twins.same(work, who)
        for owner in EVERYBODY:
            allowed = who in (ROOT, OWNER) or who is owner
            wanted = None if allowed else "EPERM"
            for kind in ("unlink", "rename", "replace", "exchange", "rmdir"):
                assert found[f"{kind} {owner.name}"] == wanted, (who.name, kind, owner.name)


# ---- Links ----

def test_link_permission(twins):
    """As /proc/sys/fs/protected_hardlinks has it, which the kernel itself looks after."""
    def prepare():
        make_directory("all", 0o777)
        for mode in (0o600, 0o644, 0o664, 0o666, 0o4666, 0o2676, 0o2666):
            make_file(f"all/{mode:o}", b"x", mode, (OWNER.uid, TEAM))
        os.mkfifo("all/fifo")
        os.chmod("all/fifo", 0o666)
        os.symlink("666", "all/symlink")
        make_directory("all/directory", 0o777)
        make_directory("closed", 0o755)

    def work():
        os.chdir("all")
        names = sorted(name for name in os.listdir(".") if "-" not in name)
        found = {name: attempt(os.link, name, f"{name}-{os.getuid()}", follow_symlinks=False) for name in names}
        found["into a closed directory"] = attempt(os.link, "666", f"../closed/{os.getuid()}")
        return found

    twins.same(prepare)
    for who in EVERYBODY:
        found = twins.same(work, who)
        assert found["directory"] == "EPERM"
        assert found["into a closed directory"] == (None if who is ROOT else "EACCES")
        assert found["666"] is None


def test_linking_an_open_file_of_another(twins):
    def work():
        fd = os.open("f", os.O_RDONLY)
        return attempt(calls.link_open_file, fd, f"all/{os.getuid()}")

    twins.same(lambda: (make_directory("all", 0o777), make_file("f", b"x", 0o644)) and None)
    for who in EVERYBODY:
        assert twins.same(work, who) == (None if who is ROOT else "EPERM")


# ---- Names of attributes ----

def test_who_has_cap_sys_admin_sees_the_names_of_trusted_attributes(twins):
    """Whoever it is, and nobody else; in a namespace of users of one's own it does not count."""
    tamed = Person("root without CAP_SYS_ADMIN", 0, 0, (), calls.CAP_SYS_ADMIN)

    def prepare():
        make_file("f", b"x", 0o644)
        for name in ("user.a", "trusted.a"):
            os.setxattr("f", name, b"v")

    def with_capabilities():
        calls.keep_capabilities()
        os.setresuid(*[STRANGER.uid] * 3)
        return os.listxattr("f")

    def in_namespace():
        return subprocess.run(["unshare", "--user", "--map-root-user", sys.executable, "-c",
                               "import os; print(*os.listxattr('f'))"], check=True, capture_output=True, text=True).stdout

    twins.same(prepare)
    assert "trusted.a" in twins.same(with_capabilities)
    for who in (ROOT, tamed, STRANGER):
        assert ("trusted.a" in twins.same(lambda: os.listxattr("f"), who)) == (who is ROOT)
    assert twins.same(in_namespace) == "user.a\n"


# ---- Permission to open, search and change ----

FLAGS = {"read": os.O_RDONLY, "write": os.O_WRONLY, "both": os.O_RDWR, "path": os.O_PATH,
         "read and truncate": os.O_RDONLY | os.O_TRUNC, "write and truncate": os.O_WRONLY | os.O_TRUNC,
         "neither": os.O_ACCMODE, "neither and truncate": os.O_ACCMODE | os.O_TRUNC,
         "append": os.O_WRONLY | os.O_APPEND, "noatime": os.O_RDONLY | os.O_NOATIME}


def open_and_close(name, flags, mode=0o666):
    os.close(os.open(name, flags, mode))


@pytest.mark.parametrize("content", [b"", b"x"], ids=["empty", "full"])
@pytest.mark.parametrize("how", [how for how, flags in FLAGS.items() if flags & os.O_TRUNC])
def test_an_open_that_truncates_moves_the_times(twins, how, content):
    def work():
        make_file("f", content)
        os.utime("f", (1, 1))
        before = os.stat("f")
        # Longer than the kernel's clock needs to go on.
        time.sleep(0.05)
        open_and_close("f", FLAGS[how])
        now = os.stat("f")
        return [now.st_size, now.st_mtime > 1, now.st_ctime_ns > before.st_ctime_ns]

    assert twins.same(work) == [0, True, True]


def test_every_permission_to_open_a_file(twins):
    """The eight permissions of each class, for somebody of that class and everybody else, in each way to open."""
    modes = sorted({bits << shift for bits in range(8) for shift in (0, 3, 6)})

    def prepare():
        for mode in modes:
            make_file(f"{mode:03o}", b"x", mode, (OWNER.uid, TEAM))

    def work():
        found = {}
        for mode in modes:
            name = f"{mode:03o}"
            for how, flags in FLAGS.items():
                found[f"{name} {how}"] = attempt(open_and_close, name, flags)
            for what in (os.R_OK, os.W_OK, os.X_OK):
                found[f"{name} access {what}"] = os.access(name, what)
        return found

    twins.same(prepare)
    for who in EVERYBODY:
        found = twins.same(work, who)
        for shift, right in ((6, OWNER), (3, MEMBER), (0, STRANGER)):
            if who is right:
                assert found[f"{4 << shift:03o} read"] is None and found[f"{2 << shift:03o} read"] == "EACCES"
                assert found[f"{2 << shift:03o} write"] is None and found[f"{4 << shift:03o} write"] == "EACCES"
    assert found["000 path"] is None


def test_every_permission_of_a_directory(twins):
    modes = sorted({bits << shift for bits in range(8) for shift in (0, 3, 6)})

    def prepare():
        for number in range(len(EVERYBODY)):
            for mode in modes:
                make_directory(f"{number}-{mode:03o}")
                make_file(f"{number}-{mode:03o}/f", b"x", 0o666)
                make_directory(f"{number}-{mode:03o}/d", 0o777)
                make_directory(f"{number}-{mode:03o}/e", 0o777)
                os.chown(f"{number}-{mode:03o}", OWNER.uid, TEAM)
                os.chmod(f"{number}-{mode:03o}", mode)

    def work():
        found = {}
        for mode in modes:
            where = f"{number}-{mode:03o}"
            for call in (lambda: sorted(os.listdir(where)), lambda: open_and_close(where + "/f", os.O_RDONLY),
                         lambda: os.lstat(where + "/f").st_size, lambda: os.lstat(where + "/missing"),
                         lambda: make_a_file(where + "/new", 0o666), lambda: os.mkdir(where + "/newd"),
                         lambda: os.symlink("x", where + "/news"), lambda: os.mkfifo(where + "/newf"),
                         lambda: os.link(where + "/f", where + "/newl"),
                         lambda: os.rename(where + "/f", where + "/g"), lambda: os.unlink(where + "/g"),
                         lambda: os.rename(where + "/d", where + "/d2"), lambda: os.rmdir(where + "/e"),
                         lambda: open_and_close(where, os.O_TMPFILE | os.O_RDWR), lambda: os.chdir(where)):
                here = os.open(".", os.O_PATH)
                found.setdefault(where, []).append(attempt(call))
                os.fchdir(here)
                os.close(here)
        return found

    twins.same(prepare)
    for number, who in enumerate(EVERYBODY):
        found = twins.same(work, who)
        if who is STRANGER:
            assert found[f"{number}-005"][:5] == [["d", "e", "f"], None, 1, "ENOENT", "EACCES"]
            assert found[f"{number}-003"][0] == "EACCES" and found[f"{number}-003"][4] is None


def test_the_first_class_that_fits_decides(twins):
    """An owner whom the owner's bits refuse is refused, whatever the others may; and so for the group."""
    def prepare():
        make_file("owner", b"x", 0o077, (OWNER.uid, TEAM))
        make_file("group", b"x", 0o707, (0, TEAM))

    def work():
        return [attempt(open_and_close, "owner", os.O_RDONLY), attempt(open_and_close, "group", os.O_RDONLY)]

    twins.same(prepare)
    assert twins.same(work, OWNER) == ["EACCES", "EACCES"]
    assert twins.same(work, STRANGER) == [None, None]


def test_permission_is_asked_at_open_and_not_after(twins):
    """Who has a file open for writing goes on after a chmod 0; who created a read-only file writes to it."""
    def work():
        fd = os.open("all/f", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o444)
        os.write(fd, b"created read-only")
        os.fchmod(fd, 0)
        os.write(fd, b", written with mode 0")
        os.ftruncate(fd, 30)
        found = [os.pread(fd, 100, 0).decode(), attempt(open_and_close, "all/f", os.O_RDONLY)]
        os.close(fd)
        return found

    twins.same(lambda: make_directory("all", 0o777))
    assert twins.same(work, OWNER) == ["created read-only, written wit", "EACCES"]


def test_what_only_the_owner_may(twins):
    """chmod, chown, times, truncate, attributes, nodes: EPERM and EACCES where the source gives them."""
    def prepare():
        make_directory("all", 0o777)
        make_directory("mine", 0o700, (OWNER.uid, OWNER.gid))
        for number in range(len(EVERYBODY)):
            for mode in (0o600, 0o644, 0o666):
                make_file(f"all/{number}-{mode:o}", b"x", mode, (OWNER.uid, TEAM))

    def work():
        os.chdir("all")
        found = {}
        for mode in ("600", "644", "666"):
            name = f"{number}-{mode}"
            calls_made = {
                "times": lambda: os.utime(name, (5, 5)), "times now": lambda: os.utime(name),
                "truncate": lambda: os.truncate(name, 7), "setxattr": lambda: os.setxattr(name, "user.a", b"1"),
                "getxattr": lambda: os.getxattr(name, "user.a"), "removexattr": lambda: os.removexattr(name, "user.a"),
                "trusted": lambda: os.setxattr(name, "trusted.a", b"1"),
                "noatime": lambda: open_and_close(name, os.O_NOATIME),
                "acl": lambda: os.setxattr(name, "system.posix_acl_access", calls.acl(6, 4, 0, 4, {STRANGER.uid: 4})),
                "group of mine": lambda: os.chown(name, -1, TEAM),
                "other group": lambda: os.chown(name, -1, OTHER_TEAM),
                "chmod": lambda: os.chmod(name, 0o640), "give away": lambda: os.chown(name, STRANGER.uid, -1),
                "take": lambda: os.chown(name, os.getuid(), -1),
            }
            for what, call in calls_made.items():
                found[f"{what} {mode}"] = attempt(call)
        found["char device"] = attempt(os.mknod, f"{number}-c", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        found["block device"] = attempt(os.mknod, f"{number}-b", stat.S_IFBLK | 0o666, os.makedev(7, 0))
        found["behind a closed door"] = attempt(os.stat, "../mine/x")
        found["move to a closed place"] = attempt(os.rename, f"{number}-666", f"../mine/{number}")
        return found

    twins.same(prepare)
    for number, who in enumerate(EVERYBODY):
        found = twins.same(work, who)
        if who is STRANGER:
            assert found["chmod 666"] == found["times 666"] == found["char device"] == "EPERM"
            assert found["times now 644"] == found["truncate 644"] == found["behind a closed door"] == "EACCES"
            assert found["times now 666"] is None and found["truncate 666"] is None
        if who is OWNER:
            assert found["group of mine 644"] is None
            assert found["other group 644"] == found["give away 644"] == found["trusted 644"] == "EPERM"


def test_acls_allow_and_refuse(twins):
    """Named users and groups, and the mask, which is what chmod of the group's bits then changes."""
    def prepare():
        make_file("f", b"x", 0o600, (OWNER.uid, OWNER.gid))
        os.setxattr("f", "system.posix_acl_access",
                    calls.acl(6, 0, 0, mask=6, users={STRANGER.uid: 6}, groups={TEAM: 4}))
        make_file("refused", b"x", 0o666, (OWNER.uid, OWNER.gid))
        os.setxattr("refused", "system.posix_acl_access", calls.acl(6, 6, 6, mask=7, users={STRANGER.uid: 0}))

    def work():
        return [[attempt(open_and_close, name, flags) for flags in (os.O_RDONLY, os.O_WRONLY)]
                for name in ("f", "refused")]

    def limit():
        os.chmod("f", 0o640)
        return facts("f")

    def take_away():
        os.removexattr("f", "system.posix_acl_access")
        return facts("f")

    twins.same(prepare)
    assert twins.same(work, STRANGER) == [[None, None], ["EACCES", "EACCES"]]
    assert twins.same(work, MEMBER)[0] == [None, "EACCES"]
    assert int(twins.same(limit, OWNER)["mode"], 8) & 0o777 == 0o640
    assert twins.same(work, STRANGER)[0] == [None, "EACCES"]
    twins.same(take_away, OWNER)
    assert twins.same(work, STRANGER)[0] == ["EACCES", "EACCES"]


def test_a_change_of_permission_holds_at_once(twins):
    """No time-out stands between a chmod through the mount and the next open."""
    def close():
        os.chmod("d", 0o700)
        return mode_of("d")

    def look():
        return [attempt(os.listdir, "d"), attempt(open_and_close, "d/f", os.O_RDONLY)]

    twins.same(lambda: (make_directory("d", 0o755), make_file("d/f", b"x")) and None)
    assert twins.same(look, STRANGER) == [["f"], None]
    twins.same(close)
    assert twins.same(look, STRANGER) == ["EACCES", "EACCES"]


# ---- Errors ----

def test_errors_of_names(twins):
    """ENOTEMPTY, EISDIR, ENOTDIR, EEXIST, ENOENT, ELOOP, EINVAL, as each call gives them."""
    def prepare():
        os.makedirs("full/inner")
        make_directory("empty")
        make_file("f", b"x")
        os.symlink("loop", "loop")
        os.symlink("missing", "dangling")
        os.symlink("full", "to-full")

    def work():
        rename = os.rename
        noreplace = lambda old, new: syscalls.renameat2(old, new, syscalls.RENAME_NOREPLACE)
        exchange = lambda old, new: syscalls.renameat2(old, new, syscalls.RENAME_EXCHANGE)
        steps = [
            (os.rmdir, "full"), (os.rmdir, "f"), (os.rmdir, "missing"), (os.rmdir, "to-full"), (os.rmdir, "full/."),
            (os.rmdir, "full/inner/.."), (os.unlink, "full"), (os.unlink, "missing"), (os.unlink, "f/x"),
            (os.unlink, "f/"),
            (rename, "empty", "full"), (rename, "f", "full"), (rename, "empty", "f"), (rename, "full", "full/inner/x"),
            (rename, "full/inner", "full"), (rename, "missing", "x"), (rename, "f", "missing/x"), (rename, "f", "f"),
            (rename, ".", "x"), (noreplace, "f", "empty"), (noreplace, "f", "f"), (exchange, "f", "missing"),
            (exchange, "full", "full/inner"), (os.mkdir, "full"), (os.mkdir, "f"), (os.mkdir, "dangling"),
            (os.mkdir, "missing/x"), (os.mkdir, "f/x"), (os.symlink, "x", "f"), (os.symlink, "", "x"),
            (os.link, "f", "full"),
            (os.link, "missing", "x"), (os.link, "empty", "x"), (os.stat, "loop"), (os.listdir, "loop/x"),
            (os.readlink, "f"), (os.readlink, "full"), (os.truncate, "full", 0), (os.truncate, "missing", 0),
            (os.truncate, "f", -1), (os.listdir, "f"), (os.chdir, "f"), (os.stat, "f/"), (os.stat, "f/."),
            (os.stat, ""),
            (os.stat, "dangling"), (os.mkfifo, "f"), (os.chmod, "missing", 0), (os.chmod, "dangling", 0o600),
        ]
        return [[step[0].__name__, list(step[1:]), attempt(*step) and repr(attempt(*step))[:60]] for step in steps
                if step[0] is not os.stat] + [attempt(lambda: os.stat(step[1]).st_size > 0) for step in steps
                                              if step[0] is os.stat]

    twins.same(prepare)
    found = {f"{name} {arguments}": answer for name, arguments, answer in
             [row for row in twins.same(work) if isinstance(row, list)]}
    assert found["rmdir ['full']"] in ("'ENOTEMPTY'", "'EEXIST'")
    assert found["unlink ['full']"] == "'EISDIR'" and found["rmdir ['f']"] == "'ENOTDIR'"


def test_opens_that_fail(twins):
    """O_EXCL, O_NOFOLLOW, O_DIRECTORY, O_CREAT on what is there, O_NONBLOCK of a fifo, trailing slashes."""
    flags = {name: getattr(os, name) for name in
             ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_CREAT", "O_EXCL", "O_NOFOLLOW", "O_DIRECTORY", "O_TRUNC", "O_PATH",
              "O_NONBLOCK", "O_APPEND")}
    ways = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_WRONLY O_CREAT", "O_WRONLY O_CREAT O_EXCL", "O_RDONLY O_NOFOLLOW",
            "O_RDONLY O_DIRECTORY", "O_RDONLY O_DIRECTORY O_NOFOLLOW", "O_WRONLY O_TRUNC",
            "O_RDONLY O_CREAT O_DIRECTORY",
            "O_PATH O_NOFOLLOW", "O_PATH O_DIRECTORY", "O_WRONLY O_NONBLOCK", "O_RDONLY O_NONBLOCK", "O_RDONLY O_TRUNC",
            "O_WRONLY O_CREAT O_NOFOLLOW", "O_RDWR O_CREAT O_EXCL O_NOFOLLOW", "O_WRONLY O_APPEND O_TRUNC"]
    names = ["f", "f/", "d", "d/", "to-f", "to-d", "to-d/", "dangling", "loop", "fifo", "socket", "missing", "missing/",
             "missing/x", "f/x", "device"]

    def prepare():
        make_file("f", b"x")
        make_directory("d")
        os.symlink("f", "to-f")
        os.symlink("d", "to-d")
        os.symlink("nowhere", "dangling")
        os.symlink("loop", "loop")
        os.mkfifo("fifo")
        os.mknod("device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        socket.socket(socket.AF_UNIX).bind("socket")

    def work():
        found = {}
        for name in names:
            for way in ways:
                # A fifo without O_NONBLOCK would wait for ever.
                if name == "fifo" and "O_NONBLOCK" not in way and "O_PATH" not in way and "O_EXCL" not in way:
                    continue
                combined = sum(flags[flag] for flag in way.split())
                found[f"{name} {way}"] = attempt(open_and_close, name, combined)
                for new in ("missing", "nowhere"):
                    if os.path.lexists(new):
                        os.unlink(new)
        return found

    twins.same(prepare)
    found = twins.same(work)
    assert found["f O_WRONLY O_CREAT O_EXCL"] == found["dangling O_WRONLY O_CREAT O_EXCL"] == "EEXIST"
    assert found["to-f O_RDONLY O_NOFOLLOW"] == "ELOOP"
    assert found["f O_RDONLY O_DIRECTORY"] == "ENOTDIR" and found["to-d O_RDONLY O_DIRECTORY O_NOFOLLOW"] == "ENOTDIR"
    assert found["d O_WRONLY"] == found["d O_WRONLY O_CREAT"] == "EISDIR"
    assert found["fifo O_WRONLY O_NONBLOCK"] == found["socket O_RDONLY"] == "ENXIO"
    assert found["dangling O_WRONLY O_CREAT"] is None and found["missing O_RDONLY"] == "ENOENT"


@pytest.mark.parametrize("length", [254, 255, 256, 1024])
def test_names_of_255_bytes_and_no_more(twins, length):
    name, other = "n" * length, "m" * length

    def work():
        return [attempt(make_a_file, name, 0o644), attempt(os.rename, name, other), attempt(os.mkdir, name),
                attempt(os.symlink, "x", other[:-1] + "s"), attempt(os.link, other, other[:-1] + "l"),
                attempt(os.mkfifo, other[:-1] + "f"), attempt(os.unlink, other), attempt(os.rmdir, name),
                attempt(lambda: os.lstat(name).st_size), sorted(map(len, os.listdir(".")))]

    assert twins.same(work)[0] == (None if length <= 255 else "ENAMETOOLONG")


def test_names_of_255_bytes_of_any_kind(twins):
    def work():
        names = ["é" * 127 + "x", "\udcff" * 255, "日" * 85, " " * 255, "." * 255]
        for name in names:
            make_a_file(name, 0o644)
        return sorted(os.fsencode(name).hex() for name in os.listdir(".")) == \
            sorted(os.fsencode(name).hex() for name in names)

    assert twins.same(work)


@pytest.mark.parametrize("length", [4094, 4095, 4096])
def test_paths_of_4095_bytes_and_no_more(twins, length):
    """The root's own path does not count: these are relative, from a working directory in the mount."""
    part = "p" * 200

    def prepare():
        os.makedirs("/".join([part] * 10))
        here = os.getcwd()
        os.chdir("/".join([part] * 10))
        os.makedirs("/".join([part] * 10))
        os.chdir(here)

    def work():
        path = "/".join([part] * 20)
        path += "/" + "f" * (length - len(path) - 1)
        assert len(path) == length
        return [attempt(make_a_file, path, 0o644), attempt(lambda: os.stat(path).st_size),
                attempt(os.chmod, path, 0o600),
                attempt(os.setxattr, path, "user.a", b"1"), attempt(os.rename, path, path[:-1] + "g"),
                attempt(os.link, path[:-1] + "g", path), attempt(os.unlink, path)]

    # The trees cannot be walked by path from outside; what the calls answer is enough.
    def on_both(work):
        answers = [twins_module.observe(root, work, ROOT, 0o022) for root in (twins.native, twins.mounted.point)]
        assert answers[0] == answers[1]
        return answers[1]

    on_both(prepare)
    found = on_both(work)
    assert found[0] == (None if length <= 4095 else "ENAMETOOLONG")
    twins.mounted._run(["rm", "-rf", twins.mounted.path(part)])


def test_symlinks_of_every_length(twins):
    def work():
        found = []
        for length in (1, 59, 60, 255, 1023, 4094, 4095, 4096):
            target = "t" * length
            found.append([length, attempt(os.symlink, target, str(length)),
                          attempt(lambda: os.readlink(str(length)) == target),
                          attempt(lambda: os.lstat(str(length)).st_size)])
        return found

    found = twins.same(work)
    assert found[1] == [59, None, True, 59] and found[-1][1] == "ENAMETOOLONG"


# ---- Mounts of ordinary users ----

@pytest.mark.as_user
def test_on_a_users_own_mount_all_is_theirs(mount, a_user, disk_place):
    """The daemon is the user, so it gives away nothing and makes no devices: what the kernel lets it do."""
    mounted = mount(folder=disk_place, user=a_user)

    def work():
        os.chdir(mounted.point)
        os.umask(0o027)
        make_a_file("f", 0o666)
        os.mkdir("d", 0o777)
        found = [facts("f"), facts("d"), attempt(os.chown, "f", 0, -1),
                 attempt(os.chown, "f", os.getuid(), os.getgid()),
                 attempt(os.mknod, "c", stat.S_IFCHR | 0o666, os.makedev(1, 3)), attempt(os.chmod, "f", 0o400),
                 attempt(open_and_close, "f", os.O_WRONLY)]
        return found

    file, directory, *answers = harness.in_child(work, a_user if harness.IS_ROOT else None).value
    assert file["owner"] == directory["owner"] == [a_user.pw_uid, a_user.pw_gid]
    assert (file["mode"], directory["mode"]) == ("0o100640", "0o40750")
    assert answers == ["EPERM", None, "EPERM", None, "EACCES"]


@pytest.mark.as_user
def test_directories_that_may_only_be_read_or_only_be_searched(mount, a_user, disk_place):
    mounted = mount(folder=disk_place, user=a_user)

    def work():
        os.chdir(mounted.point)
        for name, bits in (("read", 0o400), ("search", 0o100), ("neither", 0o000)):
            os.mkdir(name)
            make_a_file(name + "/f", 0o600)
            os.chmod(name, bits)
        return [[attempt(os.listdir, name), attempt(open_and_close, name + "/f", os.O_RDONLY)]
                for name in ("read", "search", "neither")]

    found = harness.in_child(work, a_user if harness.IS_ROOT else None).value
    assert found == [[["f"], "EACCES"], ["EACCES", None], ["EACCES", "EACCES"]]


def test_a_users_own_mount_is_closed_to_everybody_else(mount, a_user):
    """FUSE refuses others, root among them, where allow_other was not asked for."""
    mounted = mount(user=a_user)
    with pytest.raises(PermissionError) as refused:
        os.listdir(mounted.point)
    assert refused.value.errno == errno.EACCES


def in_namespace(script, **environment):
    """Run a shell script in a mount namespace of its own."""
    done = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-e", "-c", script], text=True,
                          env={**os.environ, **environment}, capture_output=True, timeout=harness.PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_users_mount_for_everybody(place, a_user):
    """Where /etc/fuse.conf lets a user open the mount to others, the kernel checks them; what they make is the mounter's."""
    for name in ("source", "source/open", "mnt"):
        make_directory(os.path.join(place, name), 0o777, (a_user.pw_uid, a_user.pw_gid))
    make_file(place + "/source/readable", b"for all", 0o644, (a_user.pw_uid, a_user.pw_gid))
    make_file(place + "/source/secret", b"for one", 0o600, (a_user.pw_uid, a_user.pw_gid))
    make_file(place + "/fuse.conf", b"user_allow_other\n")
    os.chmod(place, 0o777)
    said = in_namespace("""
        cd "$PLACE"
        mount --bind fuse.conf /etc/fuse.conf
        user="setpriv --reuid=$USER_ID --regid=$USER_ID --clear-groups"
        other="setpriv --reuid=$OTHER_ID --regid=$OTHER_ID --clear-groups"
        $user "$MOUNT_HRFS" source mnt -o "allow_other,state=$PLACE/state,socket=$PLACE/socket"
        $other cat mnt/readable
        echo
        $other cat mnt/secret 2>/dev/null || echo refused
        $other sh -c 'echo more 2>/dev/null >> mnt/readable' 2>/dev/null || echo refused
        $other mkdir mnt/open/made
        $user "$HRFS" status mnt | grep -c "belongs to the user who mounted"
        umount mnt
    """, PLACE=place, USER_ID=str(a_user.pw_uid), OTHER_ID=str(STRANGER.uid), MOUNT_HRFS=harness.MOUNT_HRFS,
                        HRFS=harness.HRFS)
    assert said.split("\n") == ["for all", "refused", "refused", "1", ""]
    assert facts(place + "/source/open/made")["owner"] == [a_user.pw_uid, a_user.pw_gid]
    harness.wait_until(lambda: not os.path.exists(place + "/socket"), "the daemon's end")
