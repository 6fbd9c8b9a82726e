"""
Programs that copy whole trees, with links, holes, ACLs and all, onto the mount, inside of it, and back.

Each copy is compared with the original, and with what the same program makes of it natively: names, types, modes, owners,
contents, hard links, attributes, times, and blocks where holes are kept.
"""

import os
import re

import pytest

import exhibits
from twins import NOTHING, ProgramTwins
from workloads import run


@pytest.fixture(params=["disk", "tmpfs"])
def folder(request):
    """On the same file system: the original, the mount's source, and the native twin."""
    return request.getfixturevalue("disk_place" if request.param == "disk" else "place")


@pytest.fixture
def original(folder):
    path = os.path.join(folder, "original")
    exhibits.make(path)
    return path


def make_twins(mount, mode, folder, unlike=NOTHING):
    return ProgramTwins(mount(folder=folder, options=mode.options), os.path.join(folder, "native"), unlike)


def check_round_trip(twins, original, folder, copy_back, without=()):
    """What is on the mount is the original, and what comes back from it."""
    back = os.path.join(folder, "back")
    copy_back(twins.mounted.path("there"), back)
    for copy in (twins.mounted.path("there"), back):
        twins.check_copy(copy, original, without)


def test_cp_of_a_tree(mount, far_mode, folder, original):
    twins = make_twins(mount, far_mode, folder)

    def work():
        run("cp", "-a", original, "there")
        run("cp", "-a", "there", "within")
        run("cp", "-a", "--reflink=never", "--sparse=always", "there", "sparser")
        run("cp", "-a", "-l", "sparser", "linked")

    twins.same(work)
    twins.check_copy(twins.mounted.path("within"), original)
    check_round_trip(twins, original, folder, lambda there, back: run("cp", "-a", there, back))


def test_rsync_there_and_back(mount, far_mode, folder, original):
    twins = make_twins(mount, far_mode, folder)

    def rsync(*arguments):
        return run("rsync", "-aHAX", "--checksum", "--delete", "--itemize-changes", *arguments)

    def work():
        seen = [rsync(original + "/", "there/"), rsync(original + "/", "there/")]
        os.unlink("there/linked/two")
        with open("there/plain/new", "w") as file:
            file.write("not in the original")
        with open("there/sparse/punched", "r+b") as file:
            file.write(b"changed")
        os.chmod("there/attributed/program", 0o700)
        os.removexattr("there/attributed/file", "trusted.hrfs-test")
        seen.append(rsync("--inplace", original + "/", "there/"))
        return seen

    seen = twins.same(work)
    assert seen[1] == "" and re.search(r"deleting +plain/new", seen[2])
    check_round_trip(twins, original, folder, lambda there, back: rsync(there + "/", back + "/"), without=["blocks"])
    assert rsync("--dry-run", twins.mounted.path("there/"), original + "/") == ""


def test_tar_there_and_back(mount, far_mode, folder, original):
    twins = make_twins(mount, far_mode, folder, unlike=r"\.tar$")
    attributes = ("--xattrs", "--xattrs-include=*", "--acls")

    def pack(tree, archive):
        run("tar", *attributes, "-S", "--format=posix", "--numeric-owner", "-c", "-f", archive, "-C", tree, ".")

    def unpack(archive, where):
        os.mkdir(where)
        run("tar", *attributes, "--numeric-owner", "-x", "-p", "-f", archive, "-C", where)

    def work():
        pack(original, "archive.tar")
        unpack("archive.tar", "there")
        pack("there", "again.tar")
        return run("tar", *attributes, "--compare", "-f", "archive.tar", "-C", "there")

    def by_archive(there, back):
        pack(there, os.path.join(folder, "back.tar"))
        unpack(os.path.join(folder, "back.tar"), back)

    assert twins.same(work) == ""
    check_round_trip(twins, original, folder, by_archive)
