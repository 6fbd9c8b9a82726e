"""A damaged log is set aside: said aloud, never deleted, and another log begins so that the mount goes on."""

import contextlib
import json
import os
import sqlite3
import subprocess

import pytest

import harness

STATUS_LOG = 7


def truncate_journal(state):
    os.truncate(f"{state}/journal", os.path.getsize(f"{state}/journal") // 2)


def empty_journal(state):
    os.truncate(f"{state}/journal", 0)


def scribble_over(name):
    def scribble(state):
        with open(f"{state}/{name}", "r+b") as file:
            file.write(b"\xa5" * 4096)
    return scribble


def scribble_over_table(state):
    """In the middle of the database, where its first page does not tell."""
    with open(f"{state}/events.db", "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))


def contents(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            found[name] = file.read()
    return found


def end_mount(mounted, end):
    """One hundred events and the end of the daemon: in good order, or not."""
    for number in range(100):
        os.mkdir(mounted.path(str(number)))
    mounted.sync()
    old = mounted.status()["log_id"]
    if end == "unmounted":
        mounted.stop()
        mounted.check()
    else:
        mounted.kill_all()
        harness.abort_mounts(mounted.folder)
    # The next log begins with the tree as it is.
    mounted.base = None
    mounted.expect_stderr = True
    return old


# After a kill the pages of the database are in its WAL as well, and damage to them does no harm.
DAMAGES = [
    pytest.param("unmounted", truncate_journal, id="journal cut in half"),
    pytest.param("killed", truncate_journal, id="journal of a killed daemon cut in half"),
    pytest.param("killed", empty_journal, id="journal of a killed daemon emptied"),
    pytest.param("unmounted", scribble_over("journal"), id="journal's header scribbled over"),
    pytest.param("killed", scribble_over("journal"), id="header of a killed daemon's journal scribbled over"),
    pytest.param("unmounted", scribble_over("events.db"), id="database's header scribbled over"),
    pytest.param("unmounted", scribble_over_table, id="database's pages scribbled over"),
]


@pytest.mark.parametrize("end, damage", DAMAGES)
def test_a_damaged_log_is_set_aside_aloud_and_another_begins(mount, end, damage):
    mounted = mount(options="journal_size=1M")
    old = end_mount(mounted, end)
    damage(mounted.state)
    damaged = contents(mounted.state)

    mounted.start()
    aside = [name for name in os.listdir(mounted.state) if ".damaged-" in name]
    assert {name.split(".damaged-")[0] for name in aside} >= {"events.db", "journal"}
    assert len({name.split(".damaged-")[1] for name in aside}) == 1
    for name in aside:
        whole = name.split(".damaged-")[0]
        if whole in ("events.db", "journal"):
            with open(f"{mounted.state}/{name}", "rb") as file:
                assert file.read() == damaged[whole], f"{whole} was changed"
    said = [line for line in mounted.stderr().splitlines() if "damaged" in line]
    assert len(said) == 1 and mounted.state in said[0]
    status = mounted.status()
    assert status["set_aside"] is True and status["log_id"] != old
    shown = subprocess.run([harness.HRFS, "status", mounted.point], capture_output=True, text=True, check=True,
                           timeout=harness.PATIENCE_S)
    assert "damaged log set aside" in shown.stdout
    os.mkdir(mounted.path("after"))
    assert [event["seq"] for event in mounted.events()] == [1, 2]


def empty_database(state):
    os.truncate(f"{state}/events.db", 0)


def remove_database(state):
    for name in ("events.db", "events.db-wal", "events.db-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{state}/{name}")


@pytest.mark.parametrize("damage", [empty_database, remove_database])
@pytest.mark.parametrize("end", ["unmounted", "killed"])
def test_a_database_that_is_gone_is_made_anew_aloud_and_numbers_go_on(mount, end, damage):
    mounted = mount(options="journal_size=1M")
    old = end_mount(mounted, end)
    last = json.loads(subprocess.run([harness.HRFS, "log", mounted.state, "--json"], check=True, capture_output=True,
                                     text=True).stdout.splitlines()[-1])["seq"]
    damage(mounted.state)
    mounted.start()
    said = [line for line in mounted.stderr().splitlines() if "events.db" in line]
    assert said == [f"mount.hrfs: events.db in {mounted.state} is missing or empty, and made anew: events up to {last} are gone"]
    assert mounted.status()["log_id"] == old
    assert mounted.events()[0]["seq"] == last + 1
    mounted.stop()
    assert mounted.exit_status == 0
    # The log begins in the middle: there is nothing to compare the tree with.
    mounted.check = lambda: None


def test_a_database_without_an_event_is_made_anew_without_a_word(mount):
    mounted = mount(start=False, options="journal_size=1M")
    os.mkdir(mounted.state, 0o700)
    empty = os.open(f"{mounted.state}/events.db", os.O_CREAT | os.O_WRONLY, 0o600)
    os.close(empty)
    mounted.start()


def test_a_ring_and_intents_scribbled_over_do_no_harm_once_all_is_in_the_database(mount):
    mounted = mount(options="journal_size=1M")
    old = end_mount(mounted, "killed")
    with open(f"{mounted.state}/journal", "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    mounted.start()
    assert mounted.status()["log_id"] == old and mounted.status()["set_aside"] is None
    os.mkdir(mounted.path("after"))
    events = mounted.events()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    mounted.expect_replay = False


@pytest.mark.parametrize("size", [0, 5000])
def test_a_journal_cut_under_the_mount_ends_the_worker_and_the_next_begins_another_log(mount, size):
    mounted = mount(options="journal_size=1M")
    os.mkdir(mounted.path("before"))
    mounted.sync()
    status = mounted.status()
    mounted.expect_stderr = True
    mounted.expect_replay = False
    os.truncate(f"{mounted.state}/journal", size)
    os.mkdir(mounted.path("after"))
    assert os.path.isdir(mounted.path("before")) and os.path.isdir(mounted.path("after"))
    assert mounted.status()["log_id"] != status["log_id"]
    assert mounted.status()["worker_pid"] != status["worker_pid"]


def test_the_files_of_two_damages_are_kept_both(mount):
    mounted = mount(options="journal_size=1M")
    for _ in range(2):
        mounted.stop()
        empty_journal(mounted.state)
        mounted.base = None
        mounted.expect_stderr = True
        mounted.start()
    assert len([name for name in os.listdir(mounted.state) if name.startswith("journal.damaged-")]) == 2


def test_a_log_of_another_version_is_refused_and_left_alone(mount):
    mounted = mount()
    mounted.stop()
    database = sqlite3.connect(f"{mounted.state}/events.db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    empty_journal(mounted.state)
    before = contents(mounted.state)
    failed = subprocess.run(mounted.command(), capture_output=True, text=True, timeout=harness.PATIENCE_S)
    assert failed.returncode == STATUS_LOG
    assert "another version" in failed.stderr
    after = contents(mounted.state)
    assert after["events.db"] == before["events.db"] and after["journal"] == before["journal"]
    mounted.exit_status, mounted.process = 0, None
    mounted.check = lambda: None


def test_a_database_deleted_under_the_mount_is_said_and_what_follows_is_in_the_next_log(mount):
    mounted = mount(options="journal_size=1M")
    os.mkdir(mounted.path("before"))
    last = mounted.sync()
    for name in ("events.db", "events.db-wal", "events.db-shm"):
        os.unlink(f"{mounted.state}/{name}")
    os.mkdir(mounted.path("after"))
    harness.wait_until(lambda: mounted.status()["log_error"] == "ENOENT", "the daemon to notice", timeout=60)
    harness.wait_until(lambda: "cannot write to the log" in mounted.stderr(), "the message")
    mounted.kill_all()
    harness.abort_mounts(mounted.folder)
    mounted.start()
    events = mounted.events(last)
    assert [event["seq"] for event in events] == list(range(last + 1, last + 1 + len(events)))
    assert "after" in [event["path"] for event in events]
    mounted.stop()
    assert mounted.exit_status == 0
    # The log begins in the middle: there is nothing to compare the tree with.
    mounted.check = lambda: None
