"""
The worker gives way to programs where that costs it nothing, and only there: in a scheduling group of its own.
"""

import contextlib
import itertools
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

import harness

AUTOGROUP = "/proc/sys/kernel/sched_autogroup_enabled"
FILES = 4000
QUESTIONS = 2000
ATTEMPTS = 5            # where other programs may be in the way
BEFORE_A_REST_S = 0.05  # a rest, which lets threads go as well, is 0.1 s after the last answer at the earliest
AFTER_A_REST_S = 0.6    # and 0.2 s at the latest, where the machine has time for it


def groups_by_session():
    """Whether a process that leads a session has a scheduling group of its own here."""
    with open("/proc/self/cgroup") as lines:
        rows = [line.strip().split(":", 2) for line in lines]
    return (os.path.exists(AUTOGROUP) and os.readlink("/proc/self/ns/cgroup") == "cgroup:[4026531835]"
            and any("cpu" in controllers.split(",") and path == "/" for _, controllers, path in rows))


@pytest.fixture
def autogroup():
    """Sets what makes sessions groups; afterwards it is as before."""
    if not groups_by_session():
        pytest.skip("a cgroup has put this process in a scheduling group already, or the kernel makes none of sessions")
    with open(AUTOGROUP) as file:
        before = file.read()

    def switch(value):
        with open(AUTOGROUP, "w") as file:
            file.write(value)
    yield switch
    switch(before)


def threads(pid):
    return [int(name) for name in os.listdir(f"/proc/{pid}/task")]


def policies(pid):
    found = set()
    for thread in threads(pid):
        with contextlib.suppress(ProcessLookupError):
            found.add(os.sched_getscheduler(thread))
    return found


def io_classes(pid):
    done = [subprocess.run(["ionice", "-p", str(thread)], stdout=subprocess.PIPE, text=True) for thread in threads(pid)]
    return {one.stdout.split(":")[0].strip() for one in done if one.returncode == 0}


def test_the_worker_gives_way_to_programs(mount, mode, autogroup):
    autogroup("1")
    mounted = mount(options=mode.options)
    status = mounted.status()
    assert status["scheduling"] == "idle"
    assert policies(status["worker_pid"]) == {os.SCHED_IDLE}
    assert io_classes(status["worker_pid"]) == {"best-effort"}
    assert policies(status["supervisor_pid"]) == {os.SCHED_OTHER}
    if mode.transport == "classic":
        mounted.expect_stderr = True
        mounted.kill_worker()
        assert policies(mounted.status()["worker_pid"]) == {os.SCHED_IDLE}


def test_it_does_not_when_told(mount, autogroup):
    autogroup("1")
    status = mount(options="scheduling=normal").status()
    assert status["scheduling"] == "normal"
    assert policies(status["worker_pid"]) == {os.SCHED_OTHER}


def test_it_does_not_in_a_group_with_others(mount, autogroup):
    autogroup("0")
    status = mount().status()
    assert status["scheduling"] == "normal"
    assert policies(status["worker_pid"]) == {os.SCHED_OTHER}


def run(function, *arguments):
    """In a process of its own."""
    program = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    program.start()
    program.join()
    assert program.exitcode == 0


def times_asleep(pid):
    """How often the threads that answer over io_uring went to sleep of their own accord (proc_pid_status(5))."""
    total = 0
    for thread in threads(pid):
        with open(f"/proc/{pid}/task/{thread}/status") as lines:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in lines)
        if fields["Name"].startswith("fuse-ring-"):
            total += int(fields["voluntary_ctxt_switches"])
    return total


def processors_of_answers(pid):
    """Where the threads that answer on /dev/fuse may run: the sets of processors there are among them."""
    found = set()
    for thread in threads(pid):
        with contextlib.suppress(ProcessLookupError), open(f"/proc/{pid}/task/{thread}/comm") as name:
            if name.read() == "hrfs-fs\n":
                found.add(frozenset(os.sched_getaffinity(thread)))
    return found


def ask_on(processor, path, times):
    os.sched_setaffinity(0, {processor})
    for _ in times:
        with contextlib.suppress(OSError):
            os.getxattr(path, "user.none")


@contextlib.contextmanager
def asking_on(processor, path):
    """A program that asks all the time."""
    program = multiprocessing.get_context("fork").Process(target=ask_on, args=(processor, path, itertools.repeat(None)))
    program.start()
    try:
        yield
    finally:
        program.kill()
        program.join()


MANY_PROCESSORS = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor only")
EVERYWHERE = {frozenset(os.sched_getaffinity(0))}


def follow(mounted, worker, processor):
    """The threads are bound to @processor afterwards, and nobody asks any more."""
    with asking_on(processor, mounted.path(".")):
        harness.wait_until(lambda: processors_of_answers(worker) == {frozenset({processor})}, "the threads to go there")


def lets_go_of_another(mounted, worker, processor):
    """Whether the threads that are bound to @processor are let go when another program asks."""
    follow(mounted, worker, processor)
    assert not os.path.lexists(mounted.path("nothing"))
    with contextlib.suppress(harness.TimeIsUp):
        return harness.wait_until(lambda: processors_of_answers(worker) == EVERYWHERE, "the threads to be let go", timeout=BEFORE_A_REST_S)
    return False


def lets_go_when_nobody_asks(mounted, worker, processor):
    follow(mounted, worker, processor)
    start = time.monotonic()
    harness.wait_until(lambda: processors_of_answers(worker) == EVERYWHERE, "the threads to be let go")
    return time.monotonic() - start


@MANY_PROCESSORS
def test_answers_come_from_the_processor_of_who_asks(mount, autogroup):
    autogroup("1")
    mounted = mount()
    worker = mounted.status()["worker_pid"]
    for processor in sorted(os.sched_getaffinity(0)):
        follow(mounted, worker, processor)
    assert any(lets_go_of_another(mounted, worker, min(os.sched_getaffinity(0))) for _ in range(ATTEMPTS))


@MANY_PROCESSORS
def test_answers_come_from_anywhere_when_nobody_asks(mount, autogroup):
    autogroup("1")
    mounted = mount()
    worker = mounted.status()["worker_pid"]
    assert min(lets_go_when_nobody_asks(mounted, worker, min(os.sched_getaffinity(0))) for _ in range(ATTEMPTS)) < AFTER_A_REST_S


@MANY_PROCESSORS
def test_answers_come_from_anywhere_when_told(mount, autogroup):
    """A program that does not run first would be moved away by each answer."""
    autogroup("1")
    mounted = mount(options="scheduling=normal")
    run(ask_on, min(os.sched_getaffinity(0)), mounted.path("."), range(QUESTIONS))
    assert processors_of_answers(mounted.status()["worker_pid"]) == EVERYWHERE


def ask(path, times):
    """In real time, so that no other program has the processor when an answer comes."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    for _ in range(times):
        with contextlib.suppress(OSError):
            os.getxattr(path, "user.none")


def test_a_program_that_asks_again_finds_the_ring_awake(mount, with_uring, autogroup):
    """What answers gives the processor away before it sleeps, so the next request need not wake it."""
    autogroup("1")
    mounted = mount(options="transport=io_uring")
    assert mounted.status()["transport"] == "io_uring"
    if "libfuse3" in subprocess.run(["ldd", harness.MOUNT_HRFS], stdout=subprocess.PIPE, text=True, check=True).stdout:
        pytest.skip("libfuse is a shared library here, whose calls the linker does not lead to fusefs/ring.c")
    worker = mounted.status()["worker_pid"]
    before = times_asleep(worker)
    run(ask, mounted.path("."), QUESTIONS)
    assert times_asleep(worker) - before < QUESTIONS / 2


def test_requests_are_answered_while_programs_compute(mount, mode):
    """In one group with those programs, a worker that gave way would be at it until the watchdog comes."""
    mounted = mount(options=mode.options)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4 * os.cpu_count())]
    try:
        for number in range(FILES):
            with open(mounted.path(f"file{number}"), "w") as file:
                file.write("text")
    finally:
        for process in busy:
            process.kill()
            process.wait()
    mounted.settle()
    created = [event["path"] for event in mounted.events() if event["op"] == "create"]
    assert created[:FILES] == [f"file{number}" for number in range(FILES)]
