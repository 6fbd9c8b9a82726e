"""What a developer starts does what it says."""

import os
import shutil
import subprocess

import pytest

import harness

CHECK = os.path.join(harness.TOP, "tools/check-includes")
TRY = os.path.join(harness.TOP, "tools/try")


def write_tree(root, files):
    for path, text in files.items():
        path = os.path.join(root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)


GOOD_TREE = {
    "base/log.h": "", "base/log.c": '#include "base/log.h"\n#include <stdio.h>\n',
    "eventlog/eventlog.h": "", "eventlog/store.h": "", "eventlog/store.c": '#include "eventlog/store.h"\n#include <sqlite3.h>\n',
    "fusefs/fs.h": "", "fusefs/fs.c": '#include "fusefs/fs.h"\n#include "eventlog/eventlog.h"\n#include <fuse_lowlevel.h>\n',
    "client/hrfs.h": "", "client/connection.h": "", "cli/main.c": '#include "client/hrfs.h"\n',
    "cli/cmd_log.c": '#include "eventlog/eventlog.h"\n',
}


@pytest.mark.as_user
def test_check_includes_takes_a_good_tree(place):
    write_tree(place, GOOD_TREE)
    done = subprocess.run([CHECK, place], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.as_user
@pytest.mark.parametrize("path, line", [
    ("base/log.c", '#include "eventlog/eventlog.h"'),
    ("base/log.c", '#include "log.h"'),
    ("base/log.c", '#include "../base/log.h"'),
    ("base/log.c", "#  include <sqlite3.h>"),
    ("base/log.c", "#include <fuse_lowlevel.h>"),
    ("base/log.c", "#include <fuse3/fuse.h>"),
    ("eventlog/eventlog.c", "#include <sqlite3.h>"),
    ("fusefs/fs.c", '#include "eventlog/store.h"'),
    ("cli/main.c", '#include "client/connection.h"'),
    ("cli/main.c", '#include "eventlog/eventlog.h"'),
    ("eventlog/eventlog.c", '#include "fusefs/fs.h"'),
], ids=lambda value: value.replace("#include ", ""))
def test_check_includes_prints_a_wrong_edge(place, path, line):
    write_tree(place, GOOD_TREE)
    write_tree(place, {path: "\n\n" + line + "\n"})
    done = subprocess.run([CHECK, place], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{path}:3: ") and done.stdout.count("\n") == 1


def test_try_shows_the_events_of_a_scratch_project_and_leaves_nothing(place):
    environment = {**os.environ, "HRFS_TRY_SECONDS": "15", "TMPDIR": place}
    done = subprocess.run([TRY], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    for words in (("mkdir", "src"), ("create", "src/main.c"), ("write", "src/main.c"), ("rename", "README.md"),
                  ("chmod", "README.md"), ("symlink", "entry"), ("unlink", "entry")):
        assert any(all(word in line for word in words) for line in done.stdout.splitlines()), words
    assert os.listdir(place) == []


def test_try_mounts_what_it_is_given_and_unmounts_it(place):
    source, point = os.path.join(place, "source"), os.path.join(place, "mnt")
    os.mkdir(source)
    os.mkdir(point)
    environment = {**os.environ, "HRFS_TRY_SECONDS": "100"}
    process = subprocess.Popen([TRY, source, point], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        harness.wait_until(lambda: os.path.ismount(point), "the mount")
        state = os.getxattr(point, "user.hrfs.log").decode()
        socket = os.getxattr(point, "user.hrfs.socket").decode()
        assert "mounted" in process.stdout.readline()
        open(os.path.join(point, "new"), "w").close()
        harness.wait_until(lambda: "new" in process.stdout.readline(), "the event")
    finally:
        process.terminate()
        process.stdout.close()
    assert process.wait(harness.PATIENCE_S) == 0
    assert not os.path.ismount(point) and os.listdir(source) == ["new"]
    # The log of one's own project stays.
    assert os.path.exists(os.path.join(state, "events.db"))
    harness.wait_until(lambda: not os.path.exists(socket), "the daemon's end")
    shutil.rmtree(state)


@pytest.mark.as_user
@pytest.mark.parametrize("arguments", [["one"], ["one", "two", "three"]])
def test_try_says_how_to_use_it(arguments):
    done = subprocess.run([TRY, *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and "usage" in done.stderr
