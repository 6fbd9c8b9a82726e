"""hrfs tail follows the events of a mount."""

import contextlib
import json
import os
import pty
import signal
import subprocess

import harness


@contextlib.contextmanager
def tail(mounted, *arguments, **options):
    process = subprocess.Popen([harness.HRFS, "tail", mounted.point, *arguments], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def events_of(lines):
    """The events among the lines of tail --json, which are the server's: hello, caught_up and bye, too."""
    return [message for message in map(json.loads, lines) if "seq" in message]


def read_event(process):
    while not (events := events_of([process.stdout.readline()])):
        pass
    return events[0]


def wait_for_subscriber(mounted):
    harness.wait_until(lambda: mounted.status()["subscribers"], "tail to subscribe")


def test_until_caught_up_prints_the_log_and_ends(mount):
    mounted = mount()
    for number in range(100):
        os.mkdir(mounted.path(f"d{number}"))
    done = subprocess.run([harness.HRFS, "tail", mounted.point, "--since", "oldest", "--json", "--until-caught-up"],
                          check=True, capture_output=True)
    assert events_of(done.stdout.splitlines()) == mounted.events()


def test_new_events_come_as_they_happen(mount):
    mounted = mount()
    os.mkdir(mounted.path("before"))
    with tail(mounted, "--json") as process:
        wait_for_subscriber(mounted)
        for number in range(10):
            os.mkdir(mounted.path(f"d{number}"))
            event = read_event(process)
            assert (event["op"], event["path"]) == ("mkdir", f"d{number}")


def test_since_a_number(mount):
    mounted = mount()
    for number in range(10):
        os.mkdir(mounted.path(f"d{number}"))
    last = mounted.sync()
    done = subprocess.run([harness.HRFS, "tail", mounted.point, "--since", str(last - 3), "--json", "--until-caught-up"],
                          check=True, capture_output=True)
    assert [event["seq"] for event in events_of(done.stdout.splitlines())] == [last - 2, last - 1, last]


def test_interrupt_ends_it_quietly(mount):
    mounted = mount()
    for number in (signal.SIGINT, signal.SIGTERM):
        with tail(mounted) as process:
            wait_for_subscriber(mounted)
            process.send_signal(number)
            process.wait(harness.PATIENCE_S)
            assert process.stderr.read() == b""
        harness.wait_until(lambda: not mounted.status()["subscribers"], "the subscriber to go")


def test_interrupt_ends_it_when_the_mount_does_not_answer(mount):
    mounted = mount()
    worker = mounted.status()["worker_pid"]
    os.kill(worker, signal.SIGSTOP)
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            with tail(mounted) as process:
                harness.wait_until(lambda: "request_wait_answer" in open(f"/proc/{process.pid}/stack").read(), "it to wait")
                process.send_signal(number)
                assert process.wait(harness.PATIENCE_S) == -number
    finally:
        os.kill(worker, signal.SIGCONT)


def test_it_connects_again_by_itself_and_goes_on_from_the_last_event(mount):
    mounted = mount()
    mounted.expect_stderr = True
    with tail(mounted, "--since", "oldest", "--json") as process:
        wait_for_subscriber(mounted)
        seen = []
        for round in range(3):
            os.mkdir(mounted.path(f"d{round}"))
            while not seen or seen[-1]["path"] != f"d{round}":
                seen.append(read_event(process))
            mounted.kill_all()
            mounted.start()
        os.mkdir(mounted.path("end"))
        while seen[-1]["path"] != "end":
            seen.append(read_event(process))
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))


def read_terminal(mounted, environment):
    """What tail writes to a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen([harness.HRFS, "tail", mounted.point, "--since", "oldest", "--until-caught-up"],
                               stdout=slave, stdin=slave, env={**os.environ, "TERM": "xterm", **environment})
    os.close(slave)
    text = b""
    with contextlib.suppress(OSError):
        while data := os.read(master, 65536):
            text += data
    os.close(master)
    assert process.wait(harness.PATIENCE_S) == 0
    return text


def test_a_closed_standard_output_is_an_error_when_there_is_something_to_print(mount):
    mounted = mount()
    for command in (["tail", "--until-caught-up"], ["tail", "--since", "oldest"], ["log"], ["status"], ["sync"], ["--help"]):
        path = [] if command == ["--help"] else [mounted.point]
        done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", harness.HRFS, *command, *path], stderr=subprocess.PIPE, text=True,
                              timeout=harness.PATIENCE_S)
        assert (done.returncode, done.stderr) == (1, "hrfs: cannot write: Bad file descriptor\n"), command


def test_colours_on_a_terminal_only_and_not_with_no_color(mount):
    mounted = mount()
    os.mkdir(mounted.path("d"))
    assert b"\x1b[" in read_terminal(mounted, {})
    assert b"\x1b" not in read_terminal(mounted, {"NO_COLOR": "1"})
    done = subprocess.run([harness.HRFS, "tail", mounted.point, "--since", "oldest", "--until-caught-up"], check=True,
                          capture_output=True)
    assert b"\x1b" not in done.stdout and b"mkdir" in done.stdout


def test_a_path_outside_of_any_mount_is_an_error(place):
    done = subprocess.run([harness.HRFS, "tail", place], capture_output=True, text=True)
    assert done.returncode == 1
    assert place in done.stderr and done.stderr.count("\n") == 1
