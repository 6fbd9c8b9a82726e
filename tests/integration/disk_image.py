"""A disk of our own: an ext4 image on a loop device, which can lose power, and small tmpfs disks."""

import contextlib
import fcntl
import os
import struct
import subprocess

import harness

# Linux' FS_IOC_SHUTDOWN, _IOR('X', 125, __u32). Without a flush of the journal it is what a power cut leaves:
# whatever had not reached the disk by then never will.
FS_IOC_SHUTDOWN = 0x8004587D
SHUTDOWN_NOLOGFLUSH = 2


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=harness.PATIENCE_S).stdout


def unmount_disk(point):
    """What was just killed may hold files for a moment longer."""
    def is_unmounted():
        return subprocess.run(["umount", point], stderr=subprocess.DEVNULL).returncode == 0
    harness.wait_until(is_unmounted, f"{point} to be let go of")


class Image:
    """
    An ext4 file system in @folder/image, mounted at @folder/disk, with @reserved percent of it kept for root. A context manager: it leaves no
    loop device.
    """

    def __init__(self, folder, size, options="defaults", reserved=0):
        self.path = os.path.join(folder, "image")
        self.point = os.path.join(folder, "disk")
        self.options = options
        self.reserved = reserved
        self.loop = None
        os.makedirs(self.point, exist_ok=True)
        with open(self.path, "wb") as file:
            file.truncate(size)

    def __enter__(self):
        run("mkfs.ext4", "-q", "-F", "-m", str(self.reserved), self.path)
        self.loop = run("losetup", "--find", "--show", self.path).strip()
        try:
            self.mount()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            if os.path.ismount(self.point):
                unmount_disk(self.point)
        if os.path.ismount(self.point):
            run("umount", "-l", self.point)
        run("losetup", "--detach", self.loop)
        os.unlink(self.path)

    def mount(self):
        run("mount", "-o", self.options, self.loop, self.point)

    def unmount(self):
        unmount_disk(self.point)

    def cut(self):
        """The power goes: nothing reaches the disk from now on."""
        fd = os.open(self.point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, FS_IOC_SHUTDOWN, struct.pack("I", SHUTDOWN_NOLOGFLUSH))
        finally:
            os.close(fd)

    def fail(self):
        """The kernel finds the file system damaged: with errors=remount-ro it becomes read-only on the spot."""
        with open(f"/sys/fs/ext4/{os.path.basename(self.loop)}/trigger_fs_error", "w") as trigger:
            trigger.write("1")


@contextlib.contextmanager
def small_disk(point, size):
    """A tmpfs of @size bytes at @point."""
    os.makedirs(point, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "hrfs-test", point)
    try:
        yield point
    finally:
        try:
            unmount_disk(point)
        except harness.TimeIsUp:
            run("umount", "-l", point)
            raise


def free_bytes(point):
    facts = os.statvfs(point)
    return facts.f_bavail * facts.f_bsize


def fill(path, leave):
    """Make @path so large that @leave bytes are free on its disk."""
    with open(path, "wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, free_bytes(os.path.dirname(path)) - leave)
