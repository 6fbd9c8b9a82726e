"""hrfs log reads the history, mounted or not."""

import json
import os
import subprocess

import pytest

import disk_image
import harness


def log(mounted, *arguments, path=None):
    done = subprocess.run([harness.HRFS, "log", path or mounted.point, "--json", *arguments], check=True,
                          capture_output=True)
    assert done.stderr == b""
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def mounted(mount):
    """A mount with some history: mkdir a, b, a/in; a/in/f with a write by sh; a chmod; all of it by one process each."""
    made = mount()
    for name in ("a", "b", "ab", "a/in"):
        os.mkdir(made.path(name))
    subprocess.run(["sh", "-c", "echo hello > a/in/f"], cwd=made.point, check=True)
    os.chmod(made.path("b"), 0o700)
    os.rename(made.path("a/in/f"), made.path("b/f"))
    # The kernel does not wait for the daemon when a file is closed.
    made.wait_for(1, op="close")
    made.sync()
    return made


def test_log_gives_what_the_socket_gives(mounted):
    mounted.settle()
    mounted.sync()
    events = log(mounted)
    assert events == mounted.events()[:len(events)]
    assert len(events) >= 9


def test_any_path_inside_names_the_mount(mounted):
    everything = log(mounted)
    assert log(mounted, path=mounted.path("a/in")) == log(mounted, path=mounted.path("b/f")) == everything


def test_the_current_directory_is_the_default(mounted):
    done = subprocess.run([harness.HRFS, "log", "--json"], cwd=mounted.path("a"), check=True, capture_output=True)
    assert len(done.stdout.splitlines()) == len(log(mounted))


def test_log_works_when_nothing_is_mounted(mounted):
    before = log(mounted)
    mounted.stop()
    after = log(mounted, path=mounted.state)
    assert after[:len(before)] == before
    assert after[-1]["op"] == "unmounted"
    mounted.check()


def test_log_reads_what_a_killed_daemon_left(mount):
    mounted = mount()
    mounted.expect_stderr = True
    for number in range(1000):
        os.mkdir(mounted.path(f"d{number}"))
    mounted.kill_all()
    events = log(mounted, path=mounted.state)
    assert [event["path"] for event in events if event["op"] == "mkdir"] == [f"d{n}" for n in range(1000)]
    mounted.start()


def test_since_and_until_take_a_number(mounted):
    everything = log(mounted)
    # As everywhere: what comes after the one that is known.
    assert log(mounted, "--since", "3") == everything[3:]
    assert log(mounted, "--since", "0") == log(mounted, "--since", "oldest") == everything
    assert log(mounted, "--until", "4") == everything[:4]
    assert log(mounted, "--until", "0") == []
    assert log(mounted, "--since", "3", "--until", "4") == everything[3:4]


def test_since_and_until_take_a_time(mounted):
    everything = log(mounted)
    time = everything[3]["time"]
    assert log(mounted, "--since", time) == [event for event in everything if event["time"] >= time]
    assert log(mounted, "--until", time) == [event for event in everything if event["time"] <= time]
    assert log(mounted, "--since", "1h ago") == everything
    assert log(mounted, "--until", "1h ago") == []


def test_op(mounted):
    assert [e["path"] for e in log(mounted, "--op", "mkdir")] == ["a", "b", "ab", "a/in"]
    assert {e["op"] for e in log(mounted, "--op", "mkdir,chmod")} == {"mkdir", "chmod"}
    assert {e["op"] for e in log(mounted, "--op", "mkdir", "--op", "chmod")} == {"mkdir", "chmod"}


def test_under_is_a_directory_and_not_a_prefix(mounted):
    events = log(mounted, "--under", "a")
    assert {e["path"] for e in events} == {"a", "a/in", "a/in/f"}
    assert events[-1]["op"] in ("rename", "close"), "what leaves the directory belongs to it"
    assert log(mounted, "--under", mounted.path("a")) == events


def test_under_shows_what_was_renamed_into_it(mounted):
    assert any(e["op"] == "rename" and e["to"] == "b/f" for e in log(mounted, "--under", "b"))


def test_pid_and_comm(mounted):
    by_us = log(mounted, "--pid", str(os.getpid()))
    assert {e["pid"] for e in by_us} == {os.getpid()} and len(by_us) == 6
    by_sh = log(mounted, "--comm", "sh")
    assert {e["comm"] for e in by_sh} == {"sh"} and {e["op"] for e in by_sh} >= {"create", "write"}


def test_text_has_a_line_an_event(mounted):
    done = subprocess.run([harness.HRFS, "log", mounted.point], check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(log(mounted))
    assert any("mkdir" in line and "a/in" in line for line in lines)
    assert "\x1b" not in done.stdout, "colours where there is no terminal"


def test_a_reader_that_goes_away_is_no_error(mounted):
    command = f'"{harness.HRFS}" log "{mounted.point}" --json | head -n 1; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0" and done.stderr == ""


@pytest.mark.parametrize("arguments", [
    ["--op", "nothing"], ["--since", "whenever"], ["--until", ""], ["--pid", "x"], ["--pid", "-1"], ["--nothing"], ["a", "b"],
], ids=" ".join)
def test_bad_arguments_get_one_line_and_status_2(mounted, arguments):
    done = subprocess.run([harness.HRFS, "log", *arguments], cwd=mounted.point, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("hrfs: log: ") and done.stderr.count("\n") == 1 and done.stdout == ""


@pytest.mark.as_user
@pytest.mark.parametrize("command", ["tail", "log", "status", "sync", "manual", "restart"])
def test_an_unknown_letter_is_called_so(command):
    """Whatever letters the program itself has for its long options."""
    for letter in "abcdefgijklmnopqrstuvwxyzVN":
        done = subprocess.run([harness.HRFS, command, f"-{letter}"], capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr == f"hrfs: {command}: unknown option -{letter} (see: hrfs {command} --help)\n"
    done = subprocess.run([harness.HRFS, command, "--help=x"], capture_output=True, text=True)
    assert done.returncode == 2 and "option --help takes no value" in done.stderr


def test_a_link_that_leads_to_the_tree_names_it(mounted, place):
    os.symlink(mounted.point, place + "/link")
    os.symlink("b/f", mounted.path("inside"))
    everything = log(mounted)
    assert log(mounted, path=place + "/link") == log(mounted, path=place + "/link/") == log(mounted, path=mounted.path("inside")) \
        == everything
    # Of --under, and for a mark, the link itself is meant.
    assert [e["op"] for e in log(mounted, "--under", mounted.path("inside"))] == ["symlink"]
    mounted.stop()
    os.symlink(mounted.state, place + "/state")
    assert log(mounted, path=place + "/state")[:len(everything)] == everything
    mounted.check()


def test_a_link_that_leads_to_what_was_mounted_names_it(place, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", place)
    for name in ("source", "mnt"):
        os.mkdir(os.path.join(place, name))
    subprocess.run([harness.MOUNT_HRFS, place + "/source", place + "/mnt", "-o", f"socket={place}/socket"], check=True,
                   stdin=subprocess.DEVNULL)
    os.mkdir(place + "/mnt/d")
    subprocess.run(["umount", place + "/mnt"], check=True)
    os.symlink("source", place + "/link")
    os.symlink("source/d", place + "/inside")
    harness.wait_until(lambda: not os.path.exists(place + "/socket"), "the end of the daemon")
    everything = log(None, path=place + "/source")
    assert [event["op"] for event in everything] == ["mounted", "mkdir", "unmounted"]
    assert log(None, path=place + "/link") == log(None, path=place + "/inside") == everything


@pytest.mark.as_user
def test_a_path_without_a_log_is_an_error_that_names_it(place):
    done = subprocess.run([harness.HRFS, "log", place], capture_output=True, text=True)
    assert done.returncode == 1
    assert place in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.as_user
def test_what_is_no_file_in_place_of_the_log_is_said_to_be_damaged(place):
    os.mkfifo(os.path.join(place, "events.db"))
    done = subprocess.run([harness.HRFS, "log", place], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and f"the log in {place} is damaged" in done.stderr


def test_sync_prints_the_number(mounted):
    since = mounted.sync()
    os.mkdir(mounted.path("one more"))
    done = subprocess.run([harness.HRFS, "sync", mounted.path("a")], check=True, capture_output=True, text=True)
    assert done.stdout == f"{since + 1}\n"


def test_status_as_json_is_the_servers_and_for_people_says_the_same(mounted):
    done = subprocess.run([harness.HRFS, "status", mounted.point, "--json"], check=True, capture_output=True)
    said, status = json.loads(done.stdout), mounted.status()
    assert set(said) == set(status)
    for key in ("log_id", "next", "transport", "passthrough", "supervisor_pid", "worker_pid"):
        assert said[key] == status[key]
    done = subprocess.run([harness.HRFS, "status", mounted.point], check=True, capture_output=True, text=True)
    for word in (status["log_id"], status["transport"], mounted.state, str(status["worker_pid"])):
        assert word in done.stdout


def test_status_escapes_names_once(mount, place):
    name = "a\x1b[31m\\x41\\b\n"
    os.mkdir(os.path.join(place, name))
    mounted = mount(source=os.path.join(place, name))
    done = subprocess.run([harness.HRFS, "status", mounted.point], check=True, capture_output=True, text=True)
    assert place + r"/a\x1b[31m\\x41\\b\n" in [line.split(maxsplit=1)[-1] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("command", ["status", "sync", "restart"])
def test_who_stands_below_the_mount_is_told_so(mount, command):
    mounted = mount(start=False, in_place=True)
    os.mkdir(mounted.source + "/d")
    entered = [os.open(path, os.O_PATH) for path in (mounted.source, mounted.source + "/d")]
    mounted.start()
    for fd in entered:
        done = subprocess.run([harness.HRFS, command], capture_output=True, text=True, preexec_fn=lambda: os.fchdir(fd),
                              timeout=harness.PATIENCE_S)
        os.close(fd)
        assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
        assert 'a mount lies over this directory' in done.stderr and 'cd "$PWD"' in done.stderr
    done = subprocess.run([harness.HRFS, command, mounted.folder], capture_output=True, text=True)
    assert "not inside an hrfs mount" in done.stderr


@pytest.mark.as_user
@pytest.mark.parametrize("command", ["tail", "log", "status", "sync"])
def test_help_and_a_wrong_option(command):
    done = subprocess.run([harness.HRFS, command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and f"hrfs {command}" in done.stdout
    done = subprocess.run([harness.HRFS, command, "--wrong"], capture_output=True, text=True)
    assert done.returncode == 2 and "--wrong" in done.stderr


def test_a_big_log_comes_out_whole(mount):
    mounted = mount()
    for number in range(3000):
        os.mkdir(mounted.path(f"d{number}"))
        os.rmdir(mounted.path(f"d{number}"))
    mounted.sync()
    events = log(mounted)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1)) and len(events) > 6000


def test_a_folder_that_may_not_be_looked_into_is_not_said_to_have_no_log(mount, a_user):
    if not harness.IS_ROOT:
        pytest.skip("it takes two users")
    mounted = mount()
    # Nor is it another folder, of root's, that may not be looked into.
    done = subprocess.run([harness.HRFS, "log", mounted.state], capture_output=True, text=True, env={"HOME": "/nonexistent"},
                          preexec_fn=lambda: harness.become(a_user))
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "permission denied" in done.stderr


@pytest.fixture
def state_on_a_disk(place, mount):
    """A mount whose state is on a disk of its own, in a folder with a name that means something in an URI, and the disk."""
    with disk_image.small_disk(os.path.join(place, "disk"), 20 << 20) as point:
        mounted = mount(start=False, options="journal_size=1M")
        mounted.state = os.path.join(point, "100% of it?#")
        mounted.start()
        for number in range(10):
            os.mkdir(mounted.path(f"d{number}"))
        yield mounted, point
        mounted.destroy()
        mounted.destroy = mounted.check = lambda: None


def test_a_log_on_a_read_only_disk_is_read(state_on_a_disk):
    mounted, disk = state_on_a_disk
    mounted.stop()
    # Before anybody has read it: a reader that may make files leaves them.
    disk_image.run("mount", "-o", "remount,ro", disk)
    done = subprocess.run([harness.HRFS, "log", mounted.state, "--json"], capture_output=True, text=True)
    disk_image.run("mount", "-o", "remount,rw", disk)
    assert done.returncode == 0 and done.stderr == ""
    assert [json.loads(line) for line in done.stdout.splitlines()] == log(mounted, path=mounted.state)
    assert done.stdout.count("\n") >= 12


@pytest.mark.parametrize("has_shm", [True, False])
def test_a_log_on_a_read_only_disk_that_was_not_closed_is_read_or_it_is_said_what_to_do(state_on_a_disk, has_shm):
    mounted, disk = state_on_a_disk
    mounted.sync()
    mounted.kill_all()
    harness.abort_mounts(mounted.folder)
    if not has_shm:
        os.unlink(f"{mounted.state}/events.db-shm")
    disk_image.run("mount", "-o", "remount,ro", disk)
    done = subprocess.run([harness.HRFS, "log", mounted.state, "--json"], capture_output=True, text=True)
    disk_image.run("mount", "-o", "remount,rw", disk)
    if has_shm:
        assert done.returncode == 0 and done.stdout.count("\n") >= 11
    else:
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.count("\n") == 1 and "was not closed" in done.stderr and "copy the folder" in done.stderr
    assert len(log(mounted, path=mounted.state)) >= 11
