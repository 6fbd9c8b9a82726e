"""
How editors save a file: in its place, by renaming a new one over it, or by renaming the old one away.

Each is done natively as well, as several people, on files that have something to lose: an owner, a second name, an ACL.
"""

import os
import shutil

import pytest

import calls
from twins import MEMBER, OWNER, ROOT, TEAM, ProgramTwins, make_directory, make_file
from workloads import run

VIM = shutil.which("vim") or shutil.which("vim.tiny") or "vim"

NAMES = ["plain", "linked", "with-acl", "set-id", "symlink"]


def make_desk():
    """Files of one text; the directory is open to the team, as a shared project is."""
    make_directory("desk", 0o2775, (OWNER.uid, TEAM))
    for name in NAMES[:4]:
        make_file(f"desk/{name}", b"one old line\nand another old one\n", 0o664, (OWNER.uid, TEAM))
    os.link("desk/linked", "desk/other-name")
    os.setxattr("desk/with-acl", "system.posix_acl_access", calls.acl(6, 6, 4, 6, {MEMBER.uid: 6}))
    os.setxattr("desk/with-acl", "user.note", b"kept by whom it is kept")
    os.chmod("desk/set-id", 0o6775)
    os.symlink("other-name", "desk/symlink")


def vim(*settings):
    def edit(name):
        commands = [*settings, "set backupskip= directory=. updatecount=1", "%s/old/new/e", "write", "$ normal ofrom vim", "wq"]
        run(VIM, "-e", "-s", "-N", "-u", "NONE", "-i", "NONE",
            *[word for command in commands for word in ("-c", command)], name)
    return edit


def sed(name):
    run("sed", "-i", "s/old/new/", name)
    run("sed", "-i.orig", "2d", name)


def save_atomically(name):
    """As editors and libraries do it that want the old contents or the new, whatever happens."""
    temporary = f"{name}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, b"a new line\n")
    os.fchmod(fd, os.stat(name).st_mode & 0o777)
    os.fsync(fd)
    os.close(fd)
    os.rename(temporary, name)
    folder = os.open(os.path.dirname(name), os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)


def save_as_emacs(name):
    """The old file becomes the backup; a new one takes its name. An old backup is replaced."""
    for text in (b"first save\n", b"second save\n"):
        mode = os.stat(name).st_mode & 0o777
        os.symlink("somebody@somewhere.1", os.path.join(os.path.dirname(name), ".#lock"))
        os.rename(name, name + "~")
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        os.write(fd, text)
        os.fsync(fd)
        os.fchmod(fd, mode)
        os.close(fd)
        os.unlink(os.path.join(os.path.dirname(name), ".#lock"))


EDITORS = [
    pytest.param(vim("set backup backupcopy=auto"), id="vim_backupcopy_auto"),
    pytest.param(vim("set backup backupcopy=yes"), id="vim_backupcopy_yes"),
    pytest.param(vim("set backup backupcopy=no"), id="vim_backupcopy_no"),
    pytest.param(sed, id="sed_in_place"),
    pytest.param(save_atomically, id="atomic_save"),
    pytest.param(save_as_emacs, id="emacs"),
]


@pytest.mark.parametrize("edit", EDITORS)
def test_saving_a_file(mount, far_mode, disk_place, edit):
    mounted = mount(folder=disk_place, options=far_mode.options)
    twins = ProgramTwins(mounted, os.path.join(disk_place, "native"))

    def work():
        for name in NAMES:
            edit(f"desk/{name}")
        return {name: open(f"desk/{name}").read() for name in NAMES}

    for who in (ROOT, OWNER, MEMBER):
        twins.same(make_desk)
        seen = twins.same(work, who, 0o002)
        assert all("new" in text or "save" in text for text in seen.values())
        twins.same(lambda: shutil.rmtree("desk"))
