"""At boot: lines of /etc/fstab, as mount(8) and systemd read them, and the unit hrfs@.service."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess

import pytest

import harness

UNIT = os.path.join(harness.BUILD, "daemon/hrfs@.service")


def unmount_all(folder):
    for path, _ in harness.mounts_below(folder):
        subprocess.run(["umount", path], check=True, timeout=harness.PATIENCE_S)


@pytest.fixture
def boot(place):
    """A folder for sources and mount points; what is mounted in it is unmounted, and its log looked at."""
    with harness.installed():
        yield place
        unmount_all(place)
        # A daemon removes its socket when it is done with all else.
        harness.wait_until(lambda: not any(name.startswith("socket") for name in os.listdir(place)), "the daemons' end")


def write_fstab(place, *lines):
    """Each line is a source, a mount point and options, below @place; a state folder and socket of its own is added."""
    path = os.path.join(place, "fstab")
    with open(path, "w") as fstab:
        for number, (source, point, options) in enumerate(lines):
            for name in (source, point):
                os.makedirs(os.path.join(place, name), exist_ok=True)
            options += f",state={place}/state{number},socket={place}/socket{number}"
            fstab.write(f"{place}/{source}\t{place}/{point}  hrfs {options} 0 0\n")
    return path


def mount_8(*arguments, prefix=()):
    return subprocess.run([*prefix, "mount", *arguments], capture_output=True, text=True, timeout=harness.PATIENCE_S)


def mounted_options(path):
    """What the table of mounts says of @path: [options of each mount there]."""
    with open("/proc/self/mountinfo") as table:
        return [line.split()[5].split(",") for line in table if line.split()[4] == path]


def check_live(point):
    assert int(os.getxattr(point, "user.hrfs.seq")) >= 1
    os.mkdir(os.path.join(point, "made"))


def test_mount_a_mounts_what_fstab_says(boot):
    """What mount(8) and systemd understand by themselves does not get in the way; a second mount -a changes nothing."""
    fstab = write_fstab(
        boot,
        ("a", "mnt-a", "defaults,nofail,_netdev,x-systemd.requires-mounts-for=/var/lib/hrfs,x-systemd.device-timeout=5"),
        ("b", "b", "rw,noatime,nodev,comment=in-place,durability=always"),
        ("c", "mnt-c", "ro,auto,owner,group,X-mount.mkdir,x-gvfs-hide"),
        ("d", "mnt-d", "noauto,x-systemd.automount"))
    for _ in range(2):
        done = mount_8("-a", "-T", fstab)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert [len(mounted_options(f"{boot}/{name}")) for name in ("mnt-a", "b", "mnt-c", "mnt-d")] == [1, 1, 1, 0]
    check_live(f"{boot}/mnt-a")
    check_live(f"{boot}/b")
    assert {"nodev", "noatime"} <= set(mounted_options(f"{boot}/b")[0])
    assert {"ro", "nosuid"} <= set(mounted_options(f"{boot}/mnt-c")[0])
    done = mount_8("-T", fstab, f"{boot}/mnt-d")
    assert (done.returncode, done.stderr) == (0, ""), done
    check_live(f"{boot}/mnt-d")


def test_a_wrong_option_in_fstab_is_named_and_nothing_is_mounted(boot):
    fstab = write_fstab(boot, ("a", "mnt", "defaults,durabillity=always"))
    done = mount_8("-a", "-T", fstab)
    assert done.returncode != 0
    assert "durabillity" in done.stderr and "durability" in done.stderr
    assert mounted_options(f"{boot}/mnt") == []


def test_a_missing_source_in_fstab_fails(boot):
    fstab = write_fstab(boot, ("a", "mnt", "defaults"))
    os.rmdir(f"{boot}/a")
    done = mount_8("-a", "-T", fstab)
    assert done.returncode != 0 and f"{boot}/a" in done.stderr


def test_the_daemon_of_an_fstab_line_stays_when_mount_8_has_returned(boot):
    """It has let go of its terminal, session and standard files, and goes with the mount."""
    fstab = write_fstab(boot, ("a", "mnt", "defaults"))
    # A pipe: it is at its end only when nobody holds it.
    assert mount_8("-a", "-T", fstab).returncode == 0
    with harness.Connection(f"{boot}/socket0") as connection:
        status = connection.ask({"status": {}})["status"]
    supervisor = status["supervisor_pid"]
    assert os.getsid(supervisor) == supervisor
    assert os.readlink(f"/proc/{supervisor}/cwd") == "/"
    assert os.readlink(f"/proc/{supervisor}/fd/0") == "/dev/null"
    subprocess.run(["umount", f"{boot}/mnt"], check=True, timeout=harness.PATIENCE_S)
    harness.wait_until(lambda: not os.path.exists(f"/proc/{supervisor}"), "the daemon's end")


def test_a_user_mounts_a_line_of_fstab_that_allows_it(boot, a_user):
    """mount(8) is set-user-id and starts mount.hrfs as the user, with the options user= and users= among its own."""
    fstab = write_fstab(boot, ("a", "mnt", "noauto,user"))
    for name in ("a", "mnt"):
        os.chown(f"{boot}/{name}", a_user.pw_uid, a_user.pw_gid)
    os.makedirs(f"{boot}/home")
    os.chown(f"{boot}/home", a_user.pw_uid, a_user.pw_gid)
    with open(fstab) as file:
        text = file.read().replace(f"{boot}/state0", f"{boot}/home/state").replace(f"{boot}/socket0", f"{boot}/home/socket")
    with open(fstab, "w") as file:
        file.write(text)
    script = (f'mount --bind "{fstab}" /etc/fstab\n'
              f'as_user="setpriv --reuid={a_user.pw_uid} --regid={a_user.pw_gid} --clear-groups"\n'
              f'$as_user mount "{boot}/mnt"\n'
              f'$as_user mkdir "{boot}/mnt/made"\n'
              f'$as_user grep " {boot}/mnt fuse.hrfs " /proc/self/mounts\n'
              f'$as_user umount "{boot}/mnt" || $as_user fusermount3 -u "{boot}/mnt"\n')
    done = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-e", "-c", script], capture_output=True,
                          text=True, timeout=harness.PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert {"nosuid", "nodev", "noexec"} <= set(done.stdout.split()[3].split(","))
    assert os.stat(f"{boot}/a/made").st_uid == a_user.pw_uid


# ---- The unit ----

def unit_lines(place):
    """The unit as it is installed, but with the programs of this build."""
    with open(UNIT) as unit:
        text = unit.read()
    text = re.sub(r"=\S*/mount\.hrfs ", f"={harness.MOUNT_HRFS} ", text)
    return re.sub(r"=\S*/hrfs restart", f"={harness.HRFS} restart", text)


def setting(unit, name):
    return re.search(rf"^{name}=(.*)$", unit, re.MULTILINE).group(1)


def command_of(unit, name, folder, options):
    """The command line of ExecStart and its like, as systemd makes it: %f is the instance's path, a word of its own."""
    return [word.replace("%f", folder).replace("${OPTIONS}", options) for word in shlex.split(setting(unit, name))]


def test_systemd_finds_nothing_wrong_with_the_unit(place):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not there")
    # Its folder is what systemd looks at, and the file's name what it is called.
    path = os.path.join(place, "hrfs@srv-project.service")
    with open(path, "w") as unit:
        unit.write(unit_lines(place))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path], capture_output=True,
                          text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


class ServiceManager:
    """A socket as systemd gives it to a service of Type=notify."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(harness.PATIENCE_S)
        self.socket.bind(path)

    def heard(self):
        """The next message, as a dictionary."""
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().split("\n"))


def test_the_unit_starts_reloads_and_stops(place):
    """READY=1 says that the mount is live, and again that a reload is over; the main process stays the same one."""
    unit = unit_lines(place)
    assert setting(unit, "Type") == "notify"
    folder = os.path.join(place, "a project")
    os.mkdir(folder)
    manager = ServiceManager(os.path.join(place, "notify"))
    start = command_of(unit, "ExecStart", folder, f"state={place}/state,socket={place}/socket")
    service = subprocess.Popen(start, env={**os.environ, "NOTIFY_SOCKET": manager.path}, stdin=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, cwd="/")
    try:
        assert manager.heard() == {"READY": "1"}
        check_live(folder)
        with open(os.path.join(folder, "held"), "w") as held:
            subprocess.run(command_of(unit, "ExecReload", folder, ""), check=True, timeout=harness.PATIENCE_S)
            reloading = manager.heard()
            assert reloading["RELOADING"] == "1" and int(reloading["MONOTONIC_USEC"]) > 0
            assert manager.heard() == {"READY": "1"}
            held.write("goes on")
        assert service.poll() is None
        # KillMode=mixed: only the main process is told.
        service.send_signal(signal.SIGTERM)
        assert manager.heard() == {"STOPPING": "1"}
        assert service.wait(harness.PATIENCE_S) == 0 and service.stderr.read() == ""
    finally:
        unmount_all(place)
    assert sorted(os.listdir(folder)) == ["held", "made"]


def test_a_unit_whose_mount_is_unmounted_by_hand_ends_well(place):
    unit, folder = unit_lines(place), os.path.join(place, "project")
    os.mkdir(folder)
    manager = ServiceManager(os.path.join(place, "notify"))
    start = command_of(unit, "ExecStart", folder, f"state={place}/state,socket={place}/socket")
    service = subprocess.Popen(start, env={**os.environ, "NOTIFY_SOCKET": manager.path}, stdin=subprocess.DEVNULL)
    assert manager.heard() == {"READY": "1"}
    subprocess.run(["umount", folder], check=True, timeout=harness.PATIENCE_S)
    assert service.wait(harness.PATIENCE_S) == 0
