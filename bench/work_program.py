"""Workloads that are real programs: git, npm, make."""

import json
import os
import shutil
import subprocess

import peers
from workload import GIT_ENVIRONMENT, Workload, execute, use_tree
from work_tree import EVERYWHERE, HP

# What `npm ci` installs, and how often `git status` is run to be long enough for a clock.
PACKAGE = {"name": "bench", "version": "1.0.0", "dependencies": {"express": "4.21.2"}}
STATUSES = 10

NPM_FOLDER = os.path.join(peers.CACHE, "npm")
LUA = os.path.join(peers.TOP, ".cache", "lua.tar")


def git(where, *arguments):
    execute("git", "-C", where, *arguments, env=GIT_ENVIRONMENT)


def commit(work, point):
    where = os.path.join(point, "project")
    git(where, "init", "-q", "-b", "main")
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", "all")


def use_repository(work, place):
    use_tree(work, place)
    commit(work, place.source)


def status(work, point):
    git(os.path.join(point, "project"), "status", "--porcelain")


def statuses(work, point):
    for _ in range(STATUSES):
        status(work, point)


# ---- git status with the hook, where hrfs has one ----

def need_hook():
    if subprocess.run([peers.HRFS, "fsmonitor", "--help"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
        raise peers.Missing("hrfs has no command fsmonitor")


def warm_with_hook(work, point):
    where = os.path.join(point, "project")
    try:
        os.getxattr(point, "user.hrfs.seq")
        git(where, "config", "core.fsmonitor", f"{peers.HRFS} fsmonitor")
    except OSError:
        pass
    status(work, point)


# ---- npm ----

def npm(where, *arguments):
    execute("npm", *arguments, "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error", "--ignore-scripts",
            "--cache", os.path.join(NPM_FOLDER, "cache"), cwd=where)


def need_npm():
    """The lock file and the cache that `npm ci` starts from; from the registry, once."""
    peers.install("npm", "npm")
    if os.path.exists(os.path.join(NPM_FOLDER, "package-lock.json")):
        return
    scratch = NPM_FOLDER + ".new"
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)
    os.makedirs(NPM_FOLDER, exist_ok=True)
    with open(os.path.join(scratch, "package.json"), "w") as package:
        json.dump(PACKAGE, package)
    try:
        npm(scratch, "install")
    except Exception as error:
        raise peers.Missing(f"npm cannot reach its registry: {error}") from None
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(scratch, name), NPM_FOLDER)
    shutil.rmtree(scratch)


def use_package(work, place):
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(NPM_FOLDER, name), place.source)


# ---- make ----

def need_lua():
    if not os.path.exists(LUA):
        raise peers.Missing("the source of lua5.4 could not be had (tools/setup fetches it)")


def use_lua(work, place):
    execute("tar", "-x", "-f", LUA, "-C", place.source, "--strip-components=1", "--no-same-owner")


ALL = [
    Workload("git-commit", commit, prepare=use_tree, changes=True, limits={HP: 0.75, **EVERYWHERE}),
    Workload("git-status-warm", statuses, prepare=use_repository, warm=status, limits={"native": 1.3, **EVERYWHERE}),
    Workload("git-status-hook", statuses, prepare=use_repository, warm=warm_with_hook, set_up=need_hook,
             against=("native", "hrfs"), limits={}),
    Workload("npm-ci", lambda work, point: npm(point, "ci", "--prefer-offline"), prepare=use_package, set_up=need_npm,
             changes=True, limits={HP: 0.75, **EVERYWHERE}),
    Workload("make", lambda work, point: execute("make", "-j2", "generic", cwd=point), prepare=use_lua, set_up=need_lua,
             changes=True, against=("native", "hrfs", "hrfs-nolog", HP), limits={"native": 1.1, **EVERYWHERE}),
]
