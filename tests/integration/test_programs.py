"""Real programs do on a mount what they do natively, and the log tells all of it."""

import os

import pytest

import harness
import workloads

LUA_TARBALL = os.path.join(harness.TOP, ".cache/lua.tar")
NPM_CACHE = os.path.join(harness.TOP, ".cache/npm")


@pytest.fixture(scope="session")
def tarball(tmpfs_folder):
    path = os.path.join(tmpfs_folder, "tree.tar")
    workloads.make_tarball(path, 5000)
    return path


@pytest.fixture(scope="session")
def natively(tmpfs_folder):
    """Do a piece of work once without a mount; the folder in which it was done."""
    done = {}

    def work(name, function):
        if name not in done:
            folder = os.path.join(tmpfs_folder, "native-" + name)
            os.mkdir(folder)
            function(folder)
            done[name] = folder
        return done[name]
    return work


def check_mode(mounted, mode):
    status = mounted.status()
    assert status["transport"] == mode.transport
    assert status["passthrough"] is (mode.passthrough == "on")


def test_tar_unpacks_5000_files(mount, mode, tarball, natively):
    mounted = mount(options=mode.options)
    check_mode(mounted, mode)
    workloads.untar(tarball, mounted.point)
    native = natively("tar", lambda where: workloads.untar(tarball, where))
    assert workloads.tree_differences(mounted.point, native) == []


def test_git_commits_and_changes_branches(mount, mode, tarball, natively):
    def prepare_and_work(where):
        workloads.untar(tarball, where)
        workloads.git_work(where)

    mounted = mount(start=False, options=mode.options)
    workloads.untar(tarball, mounted.source)
    mounted.start()
    workloads.git_work(mounted.point)

    native = natively("git", prepare_and_work)
    assert workloads.git(mounted.point, "rev-parse", "main", "other") == \
        workloads.git(native, "rev-parse", "main", "other")
    assert workloads.git(mounted.point, "status", "--porcelain") == ""
    workloads.git(mounted.point, "fsck", "--strict", "--no-dangling")
    assert workloads.tree_differences(mounted.point, native, without=[".git"]) == []


def test_npm_installs_a_package(mount, mode, natively):
    try:
        native = natively("npm", lambda where: workloads.npm_install(NPM_CACHE, where))
    except AssertionError as error:
        pytest.skip(f"npm cannot install here, without hrfs: {error}")
    mounted = mount(options=mode.options)
    workloads.npm_install(NPM_CACHE, mounted.point)
    assert workloads.tree_differences(mounted.point, native) == []
    workloads.run("node", "-e", "require('express')()", cwd=mounted.point)


def test_make_builds_a_c_project(mount, mode, natively):
    if not os.path.exists(LUA_TARBALL):
        pytest.skip("tools/setup could not fetch the source of lua5.4")
    mounted = mount(options=mode.options)
    workloads.make_lua(LUA_TARBALL, mounted.point)
    native = natively("lua", lambda where: workloads.make_lua(LUA_TARBALL, where))
    assert workloads.tree_differences(mounted.point, native) == []
