"""Real programs do on a mount what they do natively, and the log tells all of it."""

import os
import sys

import pytest

import harness
import workloads
from twins import ProgramTwins

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


# ---- More of git ----

# What git writes down of times and inodes, which are not the same twice.
GIT_UNLIKE = r"(^|/)index$|/FETCH_HEAD$"


def git_life():
    """What a repository goes through in a day; returns what git says of it."""
    def in_clone(*arguments):
        return workloads.git("clone", *arguments)

    def commit(where, name, text):
        with open(os.path.join(where, name), "a") as file:
            file.write(text)
        workloads.git(where, "add", "-A")
        workloads.git(where, "commit", "-q", "-m", text)

    workloads.git(".", "clone", "-q", "origin", "clone")
    workloads.git(".", "clone", "-q", "--no-local", "origin", "by-pack")
    # The other clone has its objects from the origin by hard links, as long as they are loose.
    shared = os.stat("clone/.git/HEAD").st_nlink, any(entry.stat().st_nlink > 1 for entry in os.scandir(
        next(entry.path for entry in os.scandir("clone/.git/objects") if len(entry.name) == 2)))
    in_clone("worktree", "add", "-q", "-b", "topic", "../tree")
    in_clone("worktree", "add", "-q", "--detach", "../tree2")
    for number in range(4):
        commit("tree", f"topic{number}", f"topic {number}\n")
        commit("clone", f"main{number}", f"main {number}\n")
    commit("tree", "d1/e1/shared", "of the topic\n")
    workloads.git("tree", "rebase", "-q", "main")
    in_clone("merge", "-q", "--no-ff", "-m", "merge", "topic")
    in_clone("mv", "d2", "moved")
    in_clone("stash", "-q")
    in_clone("stash", "pop", "-q", "--index")
    in_clone("commit", "-q", "-a", "--amend", "-m", "moved")
    in_clone("worktree", "move", "../tree2", "../tree3")
    in_clone("worktree", "remove", "../tree3")
    in_clone("tag", "-a", "-m", "tag", "tagged")
    in_clone("push", "-q", "origin", "topic", "tagged")
    in_clone("gc", "-q", "--prune=now")
    workloads.git("by-pack", "fetch", "-q", "--all")
    workloads.git("by-pack", "repack", "-q", "-a", "-d")
    workloads.git("by-pack", "reset", "-q", "--hard", "origin/topic")
    workloads.git("tree", "clean", "-q", "-f", "-d", "-x")
    said = [shared]
    for where in ("origin", "clone", "tree", "by-pack"):
        workloads.git(where, "fsck", "--no-dangling")
        said.append([workloads.git(where, "status", "--porcelain"), workloads.git(where, "for-each-ref"),
                     sorted(workloads.git(where, "rev-list", "--all", "--objects").split("\n"))])
    return said


def test_git_clones_worktrees_rebase_and_gc(mount, far_mode, disk_place):
    tarball = os.path.join(disk_place, "small.tar")
    workloads.make_tarball(tarball, 300)
    twins = ProgramTwins(mount(folder=disk_place, options=far_mode.options), os.path.join(disk_place, "native"), GIT_UNLIKE)

    def make_origin():
        os.mkdir("origin")
        workloads.untar(tarball, "origin")
        workloads.git("origin", "init", "-q", "-b", "main")
        workloads.git("origin", "add", "-A")
        workloads.git("origin", "commit", "-q", "-m", "all")

    twins.same(make_origin)
    said = twins.same(git_life)
    assert said[0] == [1, True]
    assert [status for status, *_ in said[1:]] == [""] * 4


# ---- Python ----

def python_life():
    """A virtual environment with a package in it that is compiled, imported, and replaced while it is in use."""
    workloads.run(sys.executable, "-m", "venv", "--without-pip", "env")
    python = os.path.abspath("env/bin/python")
    package = f"env/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages/package"
    os.mkdir(package)
    for number in range(20):
        with open(f"{package}/m{number}.py", "w") as module:
            module.write(f"NUMBER = {number}\n")
    workloads.run(python, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", package)
    program = "import sys, package.m7 as m; print(m.NUMBER, sys.prefix != sys.base_prefix)"
    said = [workloads.run(python, "-c", program)]
    with open(f"{package}/m7.py.new", "w") as module:
        module.write("NUMBER = 'other'\n")
    os.rename(f"{package}/m7.py.new", f"{package}/m7.py")
    return [*said, workloads.run(python, "-c", program)]


def test_python_runs_in_a_virtual_environment(mount, far_mode, disk_place):
    twins = ProgramTwins(mount(folder=disk_place, options=far_mode.options), os.path.join(disk_place, "native"))
    assert twins.same(python_life) == ["7 True\n", "other True\n"]
