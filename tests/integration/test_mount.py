"""mount.hrfs: how it starts, how it ends, and what it says when it cannot."""

import contextlib
import errno
import fcntl
import grp
import json
import os
import resource
import shlex
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time

import pytest

import harness

# As mount.hrfs(8) lists them.
STATUS = {
    "usage": 1, "source": 3, "mountpoint": 4, "busy": 5, "state": 6, "log": 7, "fuse": 8, "permission": 9,
}

CAP_SYS_RESOURCE = 24


def mount_hrfs(*arguments, user=None, wrapper=(), **options):
    preexec = (lambda: harness.become(user)) if user and harness.IS_ROOT else None
    return subprocess.run([*wrapper, harness.MOUNT_HRFS, *arguments], capture_output=True, text=True, preexec_fn=preexec,
                          timeout=harness.PATIENCE_S, stdin=subprocess.DEVNULL, **options)


def complains(done, status, *words):
    """It ended with @status and said why in one line, which has all of @words."""
    assert done.returncode == STATUS[status], done
    assert done.stdout == ""
    assert done.stderr.startswith("mount.hrfs: ") and done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture
def folders(place):
    """A source, a mount point and the options for a state folder and socket in this test's folder."""
    source, point = os.path.join(place, "source"), os.path.join(place, "mnt")
    os.mkdir(source)
    os.mkdir(point)
    return source, point, f"state={place}/state,socket={place}/socket"


# ---- The beginning ----

def test_it_returns_when_the_mount_is_live_and_goes_to_the_background(folders):
    source, point, options = folders
    done = mount_hrfs(source, point, "-o", options)
    try:
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert int(os.getxattr(point, "user.hrfs.seq")) >= 1
        os.mkdir(os.path.join(point, "d"))
    finally:
        subprocess.run(["umount", point], check=True)
    assert os.listdir(source) == ["d"]


@pytest.mark.parametrize("closed", [">&- 2>&-", "<&- >&- 2>&-"])
def test_it_works_with_standard_descriptors_closed(folders, closed):
    """What is opened first gets their numbers, which a daemon then takes for its standard output."""
    source, point, options = folders
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", harness.MOUNT_HRFS, source, point, "-o", options],
                          timeout=harness.PATIENCE_S)
    try:
        assert done.returncode == 0
        with open(os.path.join(point, "f"), "w") as file:
            file.write("x")
        done = subprocess.run([harness.HRFS, "sync", point], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        subprocess.run(["umount", "-l", point], check=True)
    assert os.listdir(source) == ["f"]


def test_every_path_in_the_mount_leads_to_socket_and_log(mount):
    mounted = mount()
    os.makedirs(mounted.path("a/b"))
    for path in (mounted.point, mounted.path("a"), mounted.path("a/b")):
        assert os.getxattr(path, "user.hrfs.socket").decode() == mounted.socket
        assert os.getxattr(path, "user.hrfs.log").decode() == mounted.state
        assert os.listxattr(path) == []


@pytest.mark.parametrize("name", ["n" * 70, "n" * 82, "n" * 255, "\u017e" * 127], ids=["70", "82", "255", "utf-8"])
@pytest.mark.parametrize("of_user", [False, True])
def test_any_program_can_connect_whatever_the_source_is_called(place, a_user, name, of_user):
    """An address of a socket has room for 107 bytes."""
    user = a_user if of_user else None
    own = place + "/own"
    # As short as /run/user/1000.
    runtime_dir = tempfile.mkdtemp(dir="/tmp")
    for path in (own, own + "/" + name, own + "/mnt", runtime_dir):
        os.makedirs(path, exist_ok=True)
        os.chown(path, user.pw_uid if user else os.geteuid(), -1)
    done = mount_hrfs(own + "/" + name, own + "/mnt", "-o", f"state={own}/state", user=user,
                      env={**os.environ, "XDG_RUNTIME_DIR": runtime_dir})
    assert (done.returncode, done.stderr) == (0, "")

    def ask():
        path = os.getxattr(own + "/mnt", "user.hrfs.socket").decode()
        with harness.Connection(path) as connection:
            return [path, connection.ask({"sync": {}})["sync"]["seq"]]
    try:
        path, seq = harness.in_child(ask, user).value
        assert seq >= 1 and path.startswith(f"{runtime_dir if of_user else '/run'}/hrfs/{name[:20]}")
        path.encode("utf-8", errors="strict")
    finally:
        harness.abort_mounts(place)
        shutil.rmtree(runtime_dir)


def test_a_socket_with_a_name_that_is_too_long(folders, place):
    source, point, _ = folders
    for name in ("n" * 120, "n" * 255, "n" * 5000):
        complains(mount_hrfs(source, point, "-o", f"state={place}/state,socket={place}/{name}"), "state",
                  "too long", "a shorter one", "-o socket=PATH")


def test_state_folder_and_socket_are_private(mount):
    mounted = mount()
    assert stat.S_IMODE(os.stat(mounted.state).st_mode) == 0o700
    for name in os.listdir(mounted.state):
        assert stat.S_IMODE(os.stat(os.path.join(mounted.state, name)).st_mode) == 0o600, name


def test_the_state_folder_belongs_to_the_owner_of_the_source(mount):
    mounted = mount(start=False)
    os.chown(mounted.source, harness.USER.pw_uid, harness.USER.pw_gid)
    mounted.start()
    for path in (mounted.state, *(os.path.join(mounted.state, name) for name in os.listdir(mounted.state))):
        assert os.stat(path).st_uid == harness.USER.pw_uid, path


def test_in_place_mounts_over_the_source(mount):
    mounted = mount(start=False, in_place=True)
    with open(os.path.join(mounted.source, "before"), "w") as file:
        file.write("before")
    mounted.start()
    with open(mounted.path("before")) as file:
        assert file.read() == "before"
    with open(mounted.path("new"), "w") as file:
        file.write("new")
    event, _ = mounted.wait_for("oldest", op="close", path="new")
    assert event["size"] == 3
    mounted.stop()
    assert sorted(os.listdir(mounted.source)) == ["before", "new"]
    mounted.check()


@pytest.mark.parametrize("kind", ["hrfs", "fuse.hrfs"])
def test_mount_8_mounts_it(folders, kind):
    source, point, options = folders
    with harness.installed():
        subprocess.run(["mount", "-t", kind, source, point, "-o", options], check=True, timeout=harness.PATIENCE_S)
        try:
            with open("/proc/self/mounts") as mounts:
                assert f"{source} {point} fuse.hrfs rw," in mounts.read()
            os.mkdir(os.path.join(point, "d"))
        finally:
            subprocess.run(["umount", point], check=True)
    assert os.listdir(source) == ["d"]


@pytest.mark.parametrize("options", [
    "defaults", "users,noauto,nofail,_netdev,comment=x,x-systemd.automount", "ro", "nosuid,nodev,noexec,noatime", "sync",
    "dirsync", "fsname=thing,subtype=hrfs", "max_read=65536", "default_permissions,allow_other",
])
def test_options_of_mount_8_are_taken(mount, options):
    mounted = mount(options=options)
    if options == "ro":
        with pytest.raises(OSError):
            os.mkdir(mounted.path("d"))
    else:
        os.mkdir(mounted.path("d"))
    with open("/proc/self/mounts") as mounts:
        line = next(line for line in mounts if line.split()[1] == mounted.point)
    for word in ("ro", "nosuid", "nodev", "noexec", "noatime", "dirsync", "sync"):
        if word in options.split(","):
            assert word in line.split()[3].split(","), line


@pytest.mark.parametrize("options, moved", [
    ("noatime", ""), ("ro,noatime", ""), ("nodiratime", "file"), ("strictatime", "file folder"), ("relatime", "file folder"),
])
@pytest.mark.parametrize("passthrough", ["on", "off"])
def test_times_of_access_move_as_the_options_say(mount, options, moved, passthrough):
    mounted = mount(start=False, options=f"{options},passthrough={passthrough}")
    file, folder = (os.path.join(mounted.source, name) for name in ("file", "folder"))
    with open(file, "w") as out:
        out.write("x")
    os.mkdir(folder)
    mounted.start()
    harness.wait_until(lambda: mounted.status()["scan"]["state"] == "done", "the scan")
    for path in (file, folder):
        os.utime(path, (0, 0))
    with open(mounted.path("file")) as reader:
        reader.read()
    os.listdir(mounted.path("folder"))
    assert [name for name in ("file", "folder") if os.stat(os.path.join(mounted.source, name)).st_atime > 0] == moved.split()


def test_times_of_access_move_with_each_read_where_they_shall(mount):
    """Without the option they move when they are older than the last change, or than a day."""
    mounted = mount(options="strictatime")
    with open(mounted.path("file"), "w") as out:
        out.write("x")
    os.utime(mounted.path("file"))
    before = os.stat(os.path.join(mounted.source, "file")).st_atime_ns
    time.sleep(0.05)
    with open(mounted.path("file")) as reader:
        reader.read()
    assert os.stat(os.path.join(mounted.source, "file")).st_atime_ns > before


@pytest.mark.parametrize("option", ["noatime", "nodiratime", "strictatime"])
def test_times_of_access_are_for_root_to_choose(mount, a_user, option):
    mounted = mount(start=False, user=a_user)
    complains(mount_hrfs(mounted.source, mounted.point, "-o", option, user=a_user), "permission", option, "only for root")


@pytest.mark.parametrize("option", ["-V", "--help"])
def test_what_cannot_be_printed_is_said(option):
    with open("/dev/full", "w") as full:
        done = subprocess.run([harness.MOUNT_HRFS, option], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "mount.hrfs: cannot write: No space left on device\n")


def test_version_and_help():
    assert mount_hrfs("-V").stdout.startswith("mount.hrfs ")
    done = mount_hrfs("-h")
    assert done.returncode == 0 and "mount.hrfs" in done.stdout and "state=" in done.stdout


# ---- While it is mounted ----

def remount(mounted, options):
    """As mount(8) calls its helper: with the options that the table of mounts has."""
    return mount_hrfs(mounted.source, mounted.point, "-o", f"rw,relatime,user_id=0,group_id=0,allow_other,remount,{options}")


def flags_of(mounted):
    with open("/proc/self/mounts") as mounts:
        return next(line for line in mounts if line.split()[1] == mounted.point).split()[3].split(",")


def test_remount_makes_it_read_only_and_back(mount):
    mounted = mount()
    assert remount(mounted, "ro,nosuid").returncode == 0
    assert {"ro", "nosuid"} <= set(flags_of(mounted))
    with pytest.raises(OSError) as caught:
        os.mkdir(mounted.path("d"))
    assert caught.value.errno == errno.EROFS
    assert remount(mounted, "rw,suid").returncode == 0
    os.mkdir(mounted.path("d"))
    assert not {"ro", "nosuid"} & set(flags_of(mounted))


@pytest.mark.parametrize("before, change", [
    ("rw", "sync"), ("rw", "dirsync"), ("rw", "noatime"), ("rw", "strictatime"), ("sync", "async"), ("noatime", "relatime"),
])
def test_remount_refuses_what_the_daemon_would_have_to_know(mount, before, change):
    mounted = mount(options=before)
    flags = flags_of(mounted)
    option = before if before != "rw" else change
    complains(remount(mounted, change), "usage", f"option {option}", "unmount it first")
    assert flags_of(mounted) == flags


@pytest.mark.parametrize("before", ["noatime", "sync", "dirsync", "strictatime,nodev", "nodiratime"])
def test_what_a_remount_does_not_say_stays(mount, before):
    mounted = mount(options=before)
    flags = set(flags_of(mounted))
    assert mount_hrfs(mounted.source, mounted.point, "-o", "remount,ro").returncode == 0
    assert set(flags_of(mounted)) == flags - {"rw"} | {"ro"}
    assert mount_hrfs(mounted.source, mounted.point, "-o", "remount,rw").returncode == 0
    assert set(flags_of(mounted)) == flags


def test_a_remount_of_something_else_is_refused(mount, place):
    mounted = mount(options="subtype=other")
    complains(mount_hrfs(mounted.source, mounted.point, "-o", "remount,ro"), "mountpoint", mounted.point, "not mounted there")
    assert mount_hrfs(mounted.source, mounted.point, "-o", "remount,ro,subtype=other").returncode == 0
    assert "ro" in flags_of(mounted)


def test_a_remount_is_made_in_the_namespace_that_is_asked_for(mount):
    """There something else is mounted at that place; ours is not touched."""
    mounted = mount()
    other = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c",
                              f"mount -t tmpfs other {shlex.quote(mounted.point)} && echo && exec sleep 100"], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        done = mount_hrfs(mounted.source, mounted.point, "-N", str(other.pid), "-o", "remount,ro")
        complains(done, "mountpoint", mounted.point, "not mounted there")
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert "rw" in flags_of(mounted)


def test_remount_says_why_it_cannot(mount, a_user, folders):
    mounted = mount()
    source, point, _ = folders
    complains(mount_hrfs(source, point, "-o", "remount,ro"), "mountpoint", point)
    complains(mount_hrfs(source, "-o", "remount,ro"), "usage", "remount")
    complains(mount_hrfs(source, point, "-o", "user_id=0"), "usage", "user_id", "remount")
    complains(mount_hrfs(mounted.source, mounted.point, "-o", "remount,ro", user=a_user), "permission", mounted.point)
    with open(mounted.path("f"), "w"):
        done = remount(mounted, "ro")
        assert done.returncode == 32 and "open for writing" in done.stderr, done
    assert "rw" in flags_of(mounted)


def test_what_was_made_read_only_stays_so_when_it_is_mounted_afresh(mount, with_uring):
    mounted = mount(options="transport=io_uring")
    assert remount(mounted, "ro,noexec").returncode == 0
    mounted.expect_stderr = True
    mounted.kill_worker()
    harness.wait_until(lambda: {"ro", "noexec"} <= set(flags_of(mounted)) and os.path.isdir(mounted.point), "the mount")
    with pytest.raises(OSError) as caught:
        os.mkdir(mounted.path("d"))
    assert caught.value.errno == errno.EROFS


# ---- The end ----

def end_by_umount(mounted):
    subprocess.run(["umount", mounted.point], check=True)


def end_by_fusermount(mounted):
    subprocess.run(["fusermount3", "-u", mounted.point], check=True)


def end_by_sigterm(mounted):
    mounted.process.send_signal(signal.SIGTERM)


def end_by_sigint(mounted):
    mounted.process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("end", [end_by_umount, end_by_fusermount, end_by_sigterm, end_by_sigint])
def test_every_way_to_end_it_is_clean(mount, mode, end):
    mounted = mount(options=mode.options)
    for number in range(500):
        with open(mounted.path(f"f{number}"), "w") as file:
            file.write("x" * number)
    with mounted.subscribe("now") as subscription:
        end(mounted)
        mounted.exit_status = mounted.process.wait(harness.PATIENCE_S)
        mounted.process = None
        last = [line for line in iter(subscription.read_line, None)][-1]
    assert last.startswith(b'{"bye":')
    mounted.check()
    assert not os.path.exists(mounted.socket)
    assert mounted.logged()[-1]["op"] == "unmounted"


@pytest.mark.as_user
def test_a_user_mounts_and_unmounts(mount, a_user):
    mounted = mount(user=a_user)

    def work():
        with open(mounted.path("f"), "w") as file:
            file.write("by a user")
        return True

    assert harness.in_child(work, a_user if harness.IS_ROOT else None).value
    mounted.stop()
    mounted.check()
    event = [event for event in mounted.logged() if event["op"] == "write"][0]
    assert (event["path"], event["uid"], event["length"]) == ("f", a_user.pw_uid, 9)


def status_for_people(mounted, user):
    done = subprocess.run([harness.HRFS, "status", mounted.point], capture_output=True, text=True, check=True,
                          preexec_fn=(lambda: harness.become(user)) if user and harness.IS_ROOT else None)
    return done.stdout


@pytest.mark.as_user
def test_status_says_what_a_mount_of_a_user_misses(mount, a_user):
    mounted = mount(user=a_user)
    said = status_for_people(mounted, a_user)
    missing = said[said.index("What this mount cannot do"):said.index("Requests of the kernel")]
    for words in ("there is no passthrough", "found by their names", "made to the source directly are not logged",
                  "Set-user-id programs and device nodes have no effect", "cannot be given to another owner",
                  "Nobody else may use the mount"):
        assert words in missing, said
    assert "CAP_SYS_ADMIN" in said


def test_status_of_a_mount_that_misses_nothing_says_nothing(mount, disk_place):
    mounted = mount(folder=disk_place, in_place=True, options="transport=classic")
    status = mounted.status()
    if not (status["passthrough"] and status["handles"]):
        pytest.skip("this kernel, or the file system, lacks something by itself")
    assert status["missing"] == []
    assert "What this mount cannot do" not in status_for_people(mounted, None)


def test_sigterm_ends_it_while_a_file_is_open(mount):
    mounted = mount()
    mounted.expect_exit = 0
    file = open(mounted.path("f"), "w")
    file.write("x")
    file.flush()
    mounted.process.send_signal(signal.SIGTERM)
    mounted.exit_status = mounted.process.wait(harness.PATIENCE_S)
    mounted.process = None
    with contextlib.suppress(OSError):
        file.close()
    mounted.check()


# ---- What it is started with ----

def with_signals(*command, ignored=(), blocked=()):
    """The command, as a program starts it that ignores and blocks these signals."""
    program = ("import os, signal, sys\n"
               f"for number in {[int(number) for number in ignored]}: signal.signal(number, signal.SIG_IGN)\n"
               f"signal.pthread_sigmask(signal.SIG_BLOCK, {[int(number) for number in blocked]})\n"
               "os.execv(sys.argv[1], sys.argv[1:])")
    return [sys.executable, "-c", program, *command]


STARTED_WITH = {
    "ignored": {"ignored": set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}},
    "blocked": {"blocked": set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}},
}


@pytest.mark.parametrize("how", STARTED_WITH)
def test_signals_that_the_caller_ignores_or_blocks_do_not_keep_the_supervisor_from_its_work(mount, how):
    mounted = mount(start=False, wrapper=with_signals(**STARTED_WITH[how]))
    mounted.expect_stderr = True
    mounted.start()
    os.mkdir(mounted.path("before"))
    mounted.kill_worker()
    os.mkdir(mounted.path("after"))
    mounted.stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        mounted.start()
        mounted.process.send_signal(number)
        mounted.process.wait(harness.PATIENCE_S)
        mounted.stop()


# ---- What it refuses ----

def test_a_missing_source(folders, place):
    _, point, options = folders
    complains(mount_hrfs(place + "/missing", point, "-o", options), "source", place + "/missing")


def test_a_source_that_is_no_directory(folders, place):
    _, point, options = folders
    open(place + "/file", "w").close()
    complains(mount_hrfs(place + "/file", point, "-o", options), "source", place + "/file")


def test_a_missing_mount_point(folders, place):
    source, _, options = folders
    complains(mount_hrfs(source, place + "/missing", "-o", options), "mountpoint", place + "/missing")


def test_a_mount_point_that_is_no_directory(folders, place):
    source, _, options = folders
    open(place + "/file", "w").close()
    complains(mount_hrfs(source, place + "/file", "-o", options), "mountpoint", place + "/file")


def test_an_empty_name(folders):
    source, point, options = folders
    complains(mount_hrfs("", point, "-o", options), "usage", "source", "empty")
    complains(mount_hrfs(source, "", "-o", options), "usage", "directory", "empty")


def test_a_state_that_another_mount_uses(mount, place):
    mounted = mount()
    point = place + "/other"
    os.mkdir(point)
    done = mount_hrfs(mounted.source, point, "-o", f"state={mounted.state},socket={place}/other-socket")
    complains(done, "busy", mounted.state, f"mounted at {mounted.point}", f"umount {mounted.point}", "-o state=DIR")
    # Of which another source knows nothing.
    other = place + "/other-source"
    os.mkdir(other)
    done = mount_hrfs(other, point, "-o", f"state={mounted.state},socket={place}/other-socket")
    complains(done, "busy", mounted.state, "unmount that", "-o state=DIR")
    assert mounted.sync()


def test_a_source_with_blanks_that_is_mounted_already(mount, place):
    os.mkdir(place + "/a b")
    mounted = mount(folder=place + "/a b", in_place=True)
    complains(mount_hrfs(mounted.source, "-o", f"state={mounted.state},socket={place}/other-socket"), "busy",
              f"{mounted.source} is mounted at {mounted.source};")


def test_a_mount_waits_for_one_that_says_it_is_ending(folders, mount, place):
    """However long that takes to bring its log to rest."""
    mounted = mount()
    mounted.stop()
    lock = os.open(os.path.join(mounted.state, "lock"), os.O_RDWR)
    try:
        assert os.read(lock, 100) == b"ending\n"
        fcntl.flock(lock, fcntl.LOCK_EX)
        point = os.path.join(place, "mnt")
        begun = subprocess.Popen([harness.MOUNT_HRFS, mounted.source, point, "-o", f"state={mounted.state},socket={place}/socket"],
                                 stderr=subprocess.PIPE, text=True)
        assert "waiting" in begun.stderr.readline()
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert begun.wait(harness.PATIENCE_S) == 0
        begun.stderr.close()
        try:
            assert os.fstat(lock).st_size == 0
        finally:
            subprocess.run(["umount", point], check=True)
    finally:
        os.close(lock)


def test_a_state_folder_that_cannot_be_written(folders, place):
    source, point, _ = folders
    open(place + "/file", "w").close()
    complains(mount_hrfs(source, point, "-o", f"state={place}/file/state,socket={place}/socket"), "state", place + "/file")


@pytest.mark.parametrize("where", ["state", "deep/er/state", ""])
def test_a_state_folder_inside_the_source(folders, place, where):
    source, point, _ = folders
    state = os.path.join(source, where)
    complains(mount_hrfs(source, point, "-o", f"state={state},socket={place}/socket"), "state", "inside")
    assert os.listdir(source) == []


def test_a_log_of_another_version(mount):
    mounted = mount()
    mounted.stop()
    mounted.check()
    with contextlib.closing(sqlite3.connect(mounted.state + "/events.db")) as database:
        database.execute("PRAGMA user_version = 999")
    done = mount_hrfs(mounted.source, mounted.point, "-o", f"state={mounted.state},socket={mounted.socket}")
    complains(done, "log", mounted.state)


@pytest.mark.parametrize("option", ["nonsense", "transport=pigeon", "passthrough=maybe", "max_read=x", "max_read=0", "max_read=4095",
                                    "state="])
def test_an_unknown_option_or_value(folders, option):
    source, point, options = folders
    complains(mount_hrfs(source, point, "-o", f"{options},{option}"), "usage", option.split("=")[0])


def test_a_group_of_subscribers_that_the_user_is_not_in(folders, place, a_user):
    source, point, _ = folders
    for path in (place, source, point):
        os.chown(path, a_user.pw_uid, a_user.pw_gid)
    group = grp.getgrgid(0).gr_name
    done = mount_hrfs(source, point, "-o", f"state={place}/state,socket={place}/socket,subscribers={group}", user=a_user)
    complains(done, "permission", f"subscribers={group}", "not in that group")


@pytest.mark.parametrize("arguments", [[], ["--nonsense"], ["a", "b", "c"]], ids=["none", "option", "three"])
def test_wrong_arguments(arguments):
    done = mount_hrfs(*arguments)
    assert done.returncode == STATUS["usage"] and done.stderr


def test_no_dev_fuse(disk_place):
    source, point = os.path.join(disk_place, "source"), os.path.join(disk_place, "mnt")
    os.mkdir(source)
    os.mkdir(point)
    program = shutil.copy(harness.MOUNT_HRFS, disk_place)
    options = f"state={disk_place}/state,socket={disk_place}/socket"
    # A namespace of its own, in which /dev has nothing in it.
    done = subprocess.run(["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh", program, source,
                           point, "-o", options], capture_output=True, text=True, timeout=harness.PATIENCE_S,
                          stdin=subprocess.PIPE)
    complains(done, "fuse", "/dev/fuse")


@pytest.mark.parametrize("option", ["allow_other", "allow_root"])
def test_a_mount_for_others_that_fuse_conf_does_not_let_users_make(folders, a_user, option):
    source, point, options = folders
    with contextlib.suppress(FileNotFoundError), open("/etc/fuse.conf") as conf:
        if any(line.strip() == "user_allow_other" for line in conf):
            pytest.skip("it does here")
    complains(mount_hrfs(source, point, "-o", f"{options},{option}", user=a_user), "permission", option, "/etc/fuse.conf")


def can_raise_hard_limits():
    with open("/proc/self/status") as lines:
        capabilities = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return bool(capabilities & 1 << CAP_SYS_RESOURCE)


@pytest.mark.parametrize("is_hard", [False, True], ids=["soft", "hard"])
@pytest.mark.parametrize("ours", [200 << 20, 64 << 30])
def test_no_limit_of_roots_own_bounds_the_size_of_files(mount, far_mode, ours, is_hard):
    if is_hard and not can_raise_hard_limits():
        pytest.skip("needs CAP_SYS_RESOURCE")
    hard = ours if is_hard else resource.RLIM_INFINITY
    mounted = mount(start=False, options=far_mode.options,
                    preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (ours, hard)))
    mounted.start()
    with open(mounted.path("f"), "wb", buffering=0) as file:
        file.truncate(1 << 40)
        os.pwrite(file.fileno(), b"x", ours)
    os.truncate(mounted.path("f"), 0)


def test_a_user_is_told_that_its_limit_on_the_size_of_files_is_too_low(folders, a_user):
    source, point, options = folders
    done = mount_hrfs(source, point, "-o", options, user=a_user, wrapper=["prlimit", f"--fsize={200 << 20}"])
    complains(done, "permission", "ulimit -f", str(200 << 10))


def test_a_file_larger_than_a_users_daemon_may_make_is_refused(mount, a_user):
    limit = 64 << 30
    mounted = mount(start=False, user=a_user, preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit)))
    mounted.start()

    def grow():
        fd = os.open(mounted.path("f"), os.O_WRONLY | os.O_CREAT)
        os.truncate(fd, limit)
        for change in (lambda: os.truncate(fd, limit + 1), lambda: os.pwrite(fd, b"x", limit)):
            with pytest.raises(OSError) as caught:
                change()
            assert caught.value.errno == errno.EFBIG
        os.truncate(fd, 0)

    harness.in_child(grow, a_user)


def test_no_permission_for_the_mount_point(folders, place, a_user):
    source, point, _ = folders
    state = place + "/theirs"
    os.mkdir(state)
    for path in (state, source):
        os.chown(path, a_user.pw_uid, a_user.pw_gid)
    done = mount_hrfs(source, point, "-o", f"state={state}/state,socket={state}/socket", user=a_user)
    complains(done, "permission", point)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_mount_can_follow_at_once_on_one_that_was_unmounted(folders, in_place):
    """umount(8) returns before the daemon has brought its log to rest."""
    source, point, options = folders
    where = [source] if in_place else [source, point]
    for number in range(10):
        done = mount_hrfs(*where, "-o", options)
        assert (done.returncode, done.stderr) == (0, "")
        os.mkdir(os.path.join(where[-1], f"d{number}"))
        subprocess.run(["umount", where[-1]], check=True, timeout=harness.PATIENCE_S)
    state = dict(option.split("=", 1) for option in options.split(","))["state"]
    done = subprocess.run([harness.HRFS, "log", state, "--json"], check=True, capture_output=True, text=True)
    assert [event["path"] for event in map(json.loads, done.stdout.splitlines()) if event["op"] == "mkdir"] == \
        [f"d{number}" for number in range(10)]


def test_io_uring_that_cannot_be_had(folders):
    if not os.path.exists(harness.URING_SWITCH):
        pytest.skip("this kernel has no FUSE over io_uring")
    with open(harness.URING_SWITCH) as switch:
        if switch.read().strip() != "N":
            pytest.skip("it is switched on here")
    source, point, options = folders
    complains(mount_hrfs(source, point, "-o", options + ",transport=io_uring"), "fuse", "enable_uring")


def test_passthrough_that_cannot_be_had(mount, a_user):
    """Passthrough needs CAP_SYS_ADMIN, so a user who insists is refused."""
    mounted = mount(start=False, user=a_user)
    options = f"state={mounted.state},socket={mounted.socket},passthrough=on"
    complains(mount_hrfs(mounted.source, mounted.point, "-o", options, user=a_user), "fuse", "passthrough")
