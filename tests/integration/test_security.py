"""What hrfs defends, and against whom: see docs/security.md."""

import os

import pytest

import harness

# Bits of CAP_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETGID, SETUID, LINUX_IMMUTABLE, SYS_ADMIN, SYS_RESOURCE, MKNOD, SETFCAP.
WORKER_CAPABILITIES = sum(1 << bit for bit in (0, 1, 2, 3, 4, 6, 7, 9, 21, 24, 27, 31))
SETPCAP = 1 << 8
SYS_CHROOT = 1 << 18


# ---- Privileges ----

def process_status(pid):
    with open(f"/proc/{pid}/status") as lines:
        return dict(line.rstrip("\n").split(":\t", 1) for line in lines if ":\t" in line)


def capabilities(pid, which):
    return int(process_status(pid)[which], 16)


def check_capabilities(pid, expected):
    for which in ("CapPrm", "CapEff", "CapBnd"):
        assert capabilities(pid, which) & ~expected == 0, f"{which} of {pid} has more"
        assert capabilities(pid, which) == expected & capabilities(os.getpid(), "CapPrm")
    assert capabilities(pid, "CapInh") == capabilities(pid, "CapAmb") == 0


def check_privileges_of_root(mounted):
    status = mounted.status()
    check_capabilities(status["supervisor_pid"], WORKER_CAPABILITIES | SETPCAP)
    check_capabilities(status["worker_pid"], WORKER_CAPABILITIES)
    for thread in os.listdir(f"/proc/{status['worker_pid']}/task"):
        assert capabilities(f"{status['worker_pid']}/task/{thread}", "CapPrm") & ~WORKER_CAPABILITIES == 0
    for pid in (status["supervisor_pid"], status["worker_pid"]):
        assert process_status(pid)["NoNewPrivs"] == "1"


def test_supervisor_and_worker_of_root_have_only_the_capabilities_they_need(mount, mode):
    mounted = mount(options=mode.options)
    check_privileges_of_root(mounted)
    mounted.kill_worker()
    mounted.expect_stderr = True
    check_privileges_of_root(mounted)


def test_a_restart_neither_gains_nor_loses_a_capability(mount):
    mounted = mount(options="transport=classic")
    for _ in range(2):
        with mounted.connect() as connection:
            assert connection.ask({"restart": {}}) == {"restart": {}}
        harness.wait_until(lambda: not is_on_trial(mounted), "the end of the trial")
        check_privileges_of_root(mounted)


def is_on_trial(mounted):
    try:
        return mounted.status()["on_trial"]
    except (AssertionError, KeyError, OSError):
        return True


@pytest.mark.as_user
def test_the_worker_of_a_user_gains_nothing_by_executing(mount, a_user):
    mounted = mount(user=a_user)
    status = mounted.status()
    assert process_status(status["worker_pid"])["NoNewPrivs"] == "1"
    # Unmounting is fusermount3's, which is set-user-id.
    assert process_status(status["supervisor_pid"])["NoNewPrivs"] == "0"
    for pid in (status["supervisor_pid"], status["worker_pid"]):
        assert capabilities(pid, "CapPrm") == capabilities(pid, "CapEff") == 0
