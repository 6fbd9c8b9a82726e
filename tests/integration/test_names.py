"""Names are bytes. Whatever a file is called comes back from every reader as it was."""

import json
import os
import subprocess

import pytest

import harness

NAMES = [b"plain", b"with blank", b"\xc3\xa9t\xc3\xa9", b"latin1-\xe9", b"\xff\xfe", b"quote\"back\\slash", b"new\nline",
         b"tab\there", b"\x01\x1f\x7f", b"\xf0\x9f\x98\x80", b"\xed\xb2\x80", b"\xc0\xaf", b"half\xe2\x82", b"-rf", b"'$(x)`",
         b"\xe2\x80\xa8", b"n" * 255, b"\xff" * 255]


@pytest.fixture
def named(mount):
    """A mount in which each name was made, written, renamed and linked to."""
    mounted = mount()
    for name in NAMES:
        path = os.fsencode(mounted.point) + b"/" + name
        os.mkdir(path)
        os.rename(path, path[:-1] + b"~")
        os.rename(path[:-1] + b"~", path)
        os.symlink(name, path + b"/link")
    return mounted


def check(events):
    """@events are of a named mount; JSON's surrogates stand for bytes, as os.fsencode() has it."""
    assert [os.fsencode(e["path"]) for e in events if e["op"] == "mkdir"] == NAMES
    assert [os.fsencode(e["to"]) for e in events if e["op"] == "rename"][1::2] == NAMES
    assert [os.fsencode(e["target"]) for e in events if e["op"] == "symlink"] == NAMES
    assert [os.fsencode(e["path"]) for e in events if e["op"] == "symlink"] == [name + b"/link" for name in NAMES]


def test_names_on_the_socket_live_and_from_the_log(named):
    check(named.events())


def test_names_in_hrfs_log(named):
    named.sync()
    check(named.logged())


def test_names_in_hrfs_tail(named):
    done = subprocess.run([harness.HRFS, "tail", named.point, "--since", "oldest", "--json", "--until-caught-up"],
                          check=True, capture_output=True)
    check([message for message in map(json.loads, done.stdout.splitlines()) if "seq" in message])


def test_output_for_people_has_one_line_an_event_whatever_the_name(named):
    for command in (["log", named.point], ["tail", named.point, "--since", "oldest", "--until-caught-up"]):
        done = subprocess.run([harness.HRFS, *command], check=True, capture_output=True)
        assert not any(byte in done.stdout for byte in b"\x01\x1b\x7f"), "a name can control the terminal"
        assert sum(b"mkdir" in line for line in done.stdout.splitlines()) == len(NAMES)


def test_a_deep_path_is_logged_whole(mount):
    mounted = mount()
    depth, name = 40, "n" * 200
    fd = os.open(mounted.point, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    deepest = [event["path"] for event in mounted.events() if event["op"] == "mkdir"][-1]
    assert deepest == "/".join([name] * depth) and len(deepest) > 4096
    # The walk at the end goes by path; what it cannot reach is taken away first.
    subprocess.run(["rm", "-rf", mounted.path(name)], check=True)
