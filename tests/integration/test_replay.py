"""The replay that every other test relies on tells a whole log from one with a lost, repeated or swapped event."""

import itertools
import os

import pytest

import replay

pytestmark = pytest.mark.as_user

EVENTS = [
    {"op": "mkdir", "path": "d", "ino": 2, "mode": 0o755},
    {"op": "create", "path": "d/a", "ino": 3, "mode": 0o644},
    {"op": "write", "path": "d/a", "ino": 3, "offset": 0, "length": 5, "size": 5},
    {"op": "link", "path": "d/a", "to": "b", "ino": 3},
    {"op": "rename", "path": "d", "to": "e", "ino": 2},
    {"op": "symlink", "path": "s", "target": "e/a", "ino": 4},
    {"op": "unlink", "path": "e/a", "ino": 3},
    {"op": "chmod", "path": "b", "ino": 3, "mode": 0o600},
    {"op": "rmdir", "path": "e", "ino": 2},
]


def make_tree(folder):
    with open(os.path.join(folder, "b"), "w") as file:
        file.write("hello")
    os.chmod(os.path.join(folder, "b"), 0o600)
    os.symlink("e/a", os.path.join(folder, "s"))


def is_explained(place, events):
    base = replay.walk(place)
    root = base[""]
    try:
        found = replay.replay({"": root}, events)
    except replay.Impossible:
        return False
    return replay.differences(found, base) == []


def test_a_whole_log_explains_the_tree(place):
    make_tree(place)
    assert is_explained(place, EVENTS)


@pytest.mark.parametrize("index", range(len(EVENTS)))
def test_a_lost_event_is_found(place, index):
    make_tree(place)
    assert not is_explained(place, EVENTS[:index] + EVENTS[index + 1:])


@pytest.mark.parametrize("index", [i for i, event in enumerate(EVENTS) if event["op"] not in ("write", "chmod")])
def test_a_repeated_event_is_found(place, index):
    make_tree(place)
    assert not is_explained(place, EVENTS[:index + 1] + EVENTS[index:])


@pytest.mark.parametrize("pair", [(0, 1), (1, 3), (3, 6), (4, 6), (6, 8)])
def test_swapped_events_are_found(place, pair):
    make_tree(place)
    events = list(EVENTS)
    one, other = pair
    events[one], events[other] = events[other], events[one]
    assert not is_explained(place, events)


@pytest.mark.parametrize("change", ["content", "mode", "target", "more", "link"])
def test_a_tree_that_is_otherwise_is_found(place, change):
    make_tree(place)
    if change == "content":
        os.truncate(os.path.join(place, "b"), 4)
    elif change == "mode":
        os.chmod(os.path.join(place, "b"), 0o644)
    elif change == "target":
        os.unlink(os.path.join(place, "s"))
        os.symlink("elsewhere", os.path.join(place, "s"))
    elif change == "more":
        os.mkdir(os.path.join(place, "more"))
    else:
        os.unlink(os.path.join(place, "s"))
        os.link(os.path.join(place, "b"), os.path.join(place, "s"))
    assert not is_explained(place, EVENTS)


def test_hard_links_that_are_copies_are_found(place):
    with open(os.path.join(place, "a"), "w") as file:
        file.write("hello")
    os.chmod(os.path.join(place, "a"), 0o644)
    os.link(os.path.join(place, "a"), os.path.join(place, "b"))
    linked = [{"op": "create", "path": "a", "ino": 3, "mode": 0o644}, {"op": "write", "path": "a", "ino": 3, "size": 5},
              {"op": "link", "path": "a", "to": "b", "ino": 3}]
    assert is_explained(place, linked)
    os.unlink(os.path.join(place, "b"))
    with open(os.path.join(place, "b"), "w") as file:
        file.write("hello")
    os.chmod(os.path.join(place, "b"), 0o644)
    assert not is_explained(place, linked)


def test_a_directory_that_moves_takes_everything_below_with_it():
    names = [f"d/{one}/{two}" for one, two in itertools.product("abc", "xyz")]
    events = [{"op": "mkdir", "path": path, "ino": number} for number, path in
              enumerate(["d", "d/a", "d/b", "d/c"], 10)]
    events += [{"op": "create", "path": path, "ino": number} for number, path in enumerate(names, 20)]
    events += [{"op": "rename", "path": "d", "to": "n", "ino": 10}]
    found = replay.replay({"": replay.Node(1, 0o040000, 0o755)}, events)
    assert sorted(path for path in found if path.count("/") == 2) == sorted("n" + path[1:] for path in names)
