"""The native dialect of the socket, as hrfs-protocol(7) has it."""

import contextlib
import json
import os
import uuid

import pytest

import harness


def make_events(mounted, count, prefix="d"):
    for number in range(count):
        os.mkdir(mounted.path(f"{prefix}{number}"))


def test_hello_tells_the_log_and_its_ends(mount):
    mounted = mount()
    make_events(mounted, 5)
    status = mounted.status()
    with mounted.subscribe("oldest") as subscription:
        hello = subscription.hello
    assert hello == {"protocol": 1, "log_id": status["log_id"], "oldest": 1, "next": status["next"]}
    assert str(uuid.UUID(hello["log_id"])) == hello["log_id"]


def test_the_log_keeps_its_id_over_mounts(mount):
    mounted = mount()
    first = mounted.status()["log_id"]
    mounted.stop()
    mounted.start()
    assert mounted.status()["log_id"] == first


def test_oldest_gets_everything_then_caught_up_then_what_is_new(mount):
    mounted = mount()
    make_events(mounted, 5)
    with mounted.subscribe("oldest") as subscription:
        seqs = []
        while "seq" in (message := subscription.receive()):
            seqs.append(message["seq"])
        assert message == {"caught_up": seqs[-1]}
        assert seqs == list(range(1, len(seqs) + 1))
        make_events(mounted, 1, "new")
        event = subscription.receive()
        assert (event["seq"], event["op"], event["path"]) == (seqs[-1] + 1, "mkdir", "new0")


def test_now_gets_nothing_old(mount):
    mounted = mount()
    make_events(mounted, 5)
    last = mounted.sync()
    with mounted.subscribe("now") as subscription:
        assert subscription.receive() == {"caught_up": last}
        make_events(mounted, 1, "new")
        assert subscription.receive()["seq"] == last + 1


def test_a_number_gets_what_comes_after_it(mount):
    mounted = mount()
    make_events(mounted, 5)
    last = mounted.sync()
    with mounted.subscribe(last - 2) as subscription:
        assert [subscription.receive()["seq"] for _ in range(2)] == [last - 1, last]
        assert subscription.receive() == {"caught_up": last}


def test_without_follow_the_stream_ends_when_it_has_caught_up(mount):
    mounted = mount()
    make_events(mounted, 5)
    with mounted.subscribe("oldest", follow=False) as subscription:
        assert [event["seq"] for event in subscription.events()] == list(range(1, subscription.caught_up + 1))


def test_a_position_that_has_not_been_reached_is_an_error(mount):
    mounted = mount()
    with mounted.connect() as connection:
        answer = connection.ask({"subscribe": {"since": 10**9, "follow": True}})
        assert answer["error"]["code"] and answer["error"]["message"]


def test_from_the_log_to_live_without_a_hole_or_a_repeat(mount):
    mounted = mount()
    make_events(mounted, 2000, "before")
    subscriptions = []
    for number in range(300):
        os.mkdir(mounted.path(f"while{number}"))
        if number % 10 == 0:
            subscriptions.append(mounted.subscribe("oldest"))
    last = mounted.sync()
    for subscription in subscriptions:
        with subscription:
            seqs = [event["seq"] for event in subscription.until(lambda event: event["seq"] == last)]
        assert seqs == list(range(1, last + 1))


def test_sync_names_the_last_change_before_it(mount):
    mounted = mount()
    first = mounted.sync()
    make_events(mounted, 7)
    assert mounted.sync() == first + 7
    assert int(os.getxattr(mounted.point, "user.hrfs.seq")) == first + 7


def test_status_says_how_things_are(mount):
    mounted = mount()
    make_events(mounted, 3)
    with mounted.subscribe("oldest") as subscription:
        subscription.until(lambda event: event["path"] == "d2")
        status = mounted.status()
    assert status["next"] == mounted.sync() + 1 and status["oldest"] == 1
    assert status["transport"] in ("classic", "io_uring")
    assert isinstance(status["passthrough"], bool)
    assert len(status["subscribers"]) == 1
    assert status["subscribers"][0]["pid"] == os.getpid()
    assert status["subscribers"][0]["position"] == status["next"] - 1
    assert status["drain_lag"] >= 0 and status["log_size"] > 0
    assert 0 <= status["journal"]["used"] <= status["journal"]["size"]
    for pid in (status["supervisor_pid"], status["worker_pid"]):
        os.kill(pid, 0)


def test_several_requests_on_one_connection_are_answered_in_order(mount):
    mounted = mount()
    with mounted.connect() as connection:
        connection.send_raw(b'{"status":{}}\n{"sync":{}}\n{"status":{}}\n')
        assert [list(connection.receive()) for _ in range(3)] == [["status"], ["sync"], ["status"]]


def test_a_request_may_come_in_pieces(mount):
    mounted = mount()
    with mounted.connect() as connection:
        connection.send_raw(b'{"sy')
        assert not connection.has_input(0.05)
        connection.send_raw(b'nc":{}}\n')
        assert "sync" in connection.receive()


@pytest.mark.parametrize("line", [
    b"{", b"{}", b"{\"sync\":{}", b"{\"nothing\":{}}", b"{\"subscribe\":{\"since\":-1}}",
    b"{\"subscribe\":{\"since\":\"later\"}}", b"{\"subscribe\":{\"since\":1,\"follow\":3}}", b"{\"subscribe\":7}",
    b"{\"sync\":" + b"[" * 100 + b"]" * 100 + b"}", b"{\"sync\":{}} rest", b"{\"\xff\":{}}",
], ids=["half", "empty", "open", "unknown", "negative", "word", "follow", "number", "deep", "rest", "bytes"])
def test_a_bad_request_gets_an_error_and_closes_only_its_connection(mount, line):
    mounted = mount()
    with mounted.subscribe("now") as other, mounted.connect() as connection:
        connection.send_raw(line + b"\n")
        error = connection.receive()["error"]
        assert set(error) == {"code", "message"} and error["code"] and error["message"]
        assert connection.is_at_end()
        assert "caught_up" in other.receive()
        make_events(mounted, 1)
        assert other.receive()["path"] == "d0"


def test_a_line_over_the_limit_gets_an_error(mount):
    mounted = mount()
    with mounted.connect() as connection:
        connection.send_raw(b'{"sync":{"' + b"x" * 70000)
        assert "error" in connection.receive()
        assert connection.is_at_end()
    assert mounted.sync()


def test_an_end_in_the_middle_of_a_line_harms_nobody(mount):
    mounted = mount()
    for _ in range(50):
        with mounted.connect() as connection:
            connection.send_raw(b'{"subscribe":{"si')
    assert mounted.sync()


def test_subscribers_are_told_good_bye_after_the_last_event(mount):
    mounted = mount()
    with mounted.subscribe("now") as subscription:
        assert "caught_up" in subscription.receive()
        make_events(mounted, 3)
        mounted.stop()
        messages = [json.loads(line) for line in iter(subscription.read_line, None)]
    mounted.check()
    assert [message.get("path") for message in messages[:3]] == ["d0", "d1", "d2"]
    assert "bye" in messages[-1]
    assert all("seq" in message for message in messages[:-1])


def test_only_the_owner_and_root_may_connect(mount, a_user):
    mounted = mount()

    def connect():
        try:
            with harness.Connection(mounted.socket) as connection:
                connection.send({"status": {}})
                answer = connection.read_line()
                return bool(answer) and "status" in json.loads(answer)
        except OSError:
            return False

    assert harness.in_child(connect).value is True
    assert harness.in_child(connect, a_user).value is False


@pytest.mark.as_user
def test_a_user_may_connect_to_their_own_mount(mount, a_user):
    mounted = mount(user=a_user)

    def connect():
        with harness.Connection(mounted.socket) as connection:
            return connection.ask({"status": {}})["status"]["next"]

    assert harness.in_child(connect, a_user if harness.IS_ROOT else None).value >= 1


def test_a_user_may_connect_to_their_own_mount_of_what_belongs_to_another(mount, a_user):
    if not harness.IS_ROOT:
        pytest.skip("it takes two users")
    mounted = mount(start=False, user=a_user)
    os.chown(mounted.source, 0, 0)
    mounted.start()

    def connect():
        with harness.Connection(mounted.socket) as connection:
            return connection.ask({"status": {}})["status"]["next"]
    assert harness.in_child(connect, a_user).value >= 1

    def restart():
        with harness.Connection(mounted.socket) as connection:
            return connection.ask({"restart": {}})
    assert harness.in_child(restart, a_user).value == {"restart": {}}

    def is_over():
        with contextlib.suppress(OSError, AssertionError, KeyError):
            status = mounted.status()
            return status["restarts"] == 1 and not status["on_trial"]
        return False
    harness.wait_until(is_over, "the end of the restart")
    assert harness.in_child(connect, a_user).value >= 1


def test_who_is_not_allowed_is_told_who_is(mount, a_user):
    mounted = mount()
    os.chmod(mounted.socket, 0o666)

    def ask():
        with harness.Connection(mounted.socket) as connection:
            return connection.receive()["error"]["message"]
    assert harness.in_child(ask, a_user).value == \
        "Only root, the owner of the mount and the group of its subscribers may connect."
