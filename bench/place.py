"""Where work is done: scratch folders on tmpfs or ext4, and the mounts in them."""

import contextlib
import os
import shutil
import subprocess
import tempfile

PREFIX = f"hrfs-bench-{os.getpid()}-"
FUSE_CONTROL = "/sys/fs/fuse/connections"


class Unusable(Exception):
    """The folder is not on the file system that was asked for."""


def mounts_at(folder):
    """[(mount point, type, connection number)] of the mounts at or below @folder, innermost first. Looks at no mount."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields, _, rest = line.partition(" - ")
            device, path = fields.split()[2], fields.split()[4]
            if (path + "/").startswith(folder + "/"):
                found.append((path, rest.split()[0], int(device.split(":")[1])))
    return found[::-1]


def type_of(folder):
    """The type of the file system that @folder is on."""
    best, kind = "", ""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields, _, rest = line.partition(" - ")
            path = fields.split()[4].rstrip("/")
            if (os.path.realpath(folder) + "/").startswith(path + "/") and len(path) >= len(best):
                best, kind = path, rest.split()[0]
    return kind


def disk_folder():
    return os.environ.get("TMPDIR", "/var/tmp")


def parent_of(source):
    """The folder in which scratch folders for @source, tmpfs or ext4, are made."""
    parent = "/dev/shm" if source == "tmpfs" else disk_folder()
    if type_of(parent) != source:
        raise Unusable(f"{parent} is on {type_of(parent)}, not {source}" +
                       ("; name a folder on ext4 in TMPDIR" if source == "ext4" else ""))
    return parent


def let_go(folder):
    """Let go of every program that hangs on a FUSE mount at or below @folder, and unmount."""
    for path, kind, number in mounts_at(folder):
        if kind.startswith("fuse"):
            if not os.path.ismount(FUSE_CONTROL):
                subprocess.run(["mount", "-t", "fusectl", "none", FUSE_CONTROL], check=False)
            with contextlib.suppress(OSError), open(f"{FUSE_CONTROL}/{number}/abort", "w") as abort:
                abort.write("1")
        subprocess.run(["umount", "-l", path], check=False, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def scratch(parent):
    """A folder below @parent that goes away with all mounts in it."""
    folder = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
    os.chmod(folder, 0o755)
    try:
        yield folder
    finally:
        if mounts_at(folder):
            let_go(folder)
        shutil.rmtree(folder, ignore_errors=True)


def drop_caches():
    """Forget every clean page, name and inode. Programs that walk are read back: they are not what is to be cold."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as knob:
        knob.write("3")
    for program in ("find", "grep"):
        subprocess.run([program, "--version"], stdout=subprocess.DEVNULL, check=True)


class Place:
    """The folders of one sample: source, mnt, and a state folder that is always on a disk, as a log is."""

    def __init__(self, folder, disk):
        self.source = os.path.join(folder, "source")
        self.mnt = os.path.join(folder, "mnt")
        self.state = os.path.join(disk, "state")
        self.socket = os.path.join(disk, "socket")
        for path in (self.source, self.mnt, self.state):
            os.mkdir(path, 0o700 if path == self.state else 0o755)


@contextlib.contextmanager
def new_place(parent):
    with scratch(parent) as folder, scratch(disk_folder()) as disk:
        yield Place(folder, disk)
