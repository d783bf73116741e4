"""Callbacks with Kafka: sent here, delivered by dispatchers, and told to who sent it."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Settings
from tests.e2e.rig import dispatcher, read_all, until
from tests.support.brokers import ROOT, Broker
from tests.support.receivers import Receiver, closed_port
from thorn_stream.adapters.kafka.tail import Tail
from thorn_stream.core.errors import EventNotSent, KafkaUnreachable, TopicMissing
from thorn_stream.core.records import Record
from thorn_stream.events import Request, RequestFailed, Thorn

pytestmark = pytest.mark.timeout(180)  # dispatchers as processes, on a busy machine


def producer(settings: dict[str, Any]) -> Thorn:
    """A program beside these dispatchers: the same group, topics and Kafka."""
    named = {name: settings[name] for name in ("kafka", "group", "topics")}
    return Thorn(**named, set_as_current=False)


def test_each_request_is_told_to_the_program_that_sent_the_event(
    broker: Broker, settings: Settings, receiver: Receiver, tmp_path: Path
) -> None:
    """One receiver takes it, one fails twice, one never answers; results of others are not asked.

    `results` is off: only the event with callbacks has some.
    """
    told: list[tuple[str, Request, Exception | None]] = []
    receivers = [
        {"id": "good", "event": "order.*", "url": receiver.url("/ok?token=secret")},
        {"id": "bad", "event": "order.*", "url": receiver.url("/status/500"), "retry_max": 1},
        {"id": "mute", "event": "order.*", "url": receiver.url("/silent")}
        | {"timeout": 1, "retry": False},
    ]
    broker.topic("in")
    made = settings(subscribers=receivers)
    with dispatcher(tmp_path, made) as one:
        one.ready(60)
        with producer(made) as thorn:
            thorn.Event("order.made").send({}).wait(60)
            handle = thorn.Event("order.paid").send(
                {"id": 7},
                sender=3,
                on_success=lambda request: told.append(("success", request, None)),
                on_error=lambda request, error: told.append(("error", request, error)),
                on_timeout=lambda request, error: told.append(("timeout", request, error)),
            )
            handle.wait(60)
            until(lambda: len(told) == 4, 60, "four requests are told")
            until(lambda: one.metric("thorn_attempts_total") == 8, 60, "all requests are made")
            thorn.close()
        until(
            lambda: one.metric("thorn_handover_total", kind="result", result="ok") == 4,
            60,
            "four results are written",
        )
        assert one.stop() == 0
    of = {
        request.subscriber.id: [each for each in told if each[1].subscriber == request.subscriber]
        for _, request, _ in told
    }
    ((kind, good, _),) = of["good"]
    assert (kind, good.status, good.attempt) == ("success", 200, 1)
    assert (good.event, good.sender, good.data) == ("order.paid", 3, {"id": 7})
    assert good.url == receiver.url("/ok")
    assert [(kind, each.status, each.attempt) for kind, each, _ in of["bad"]] == [
        ("error", 500, 1),
        ("error", 500, 2),
    ]
    assert all(isinstance(error, RequestFailed) for _, _, error in of["bad"])
    ((kind, mute, error),) = of["mute"]
    assert (kind, mute.status) == ("timeout", None)
    assert isinstance(error, TimeoutError)
    written = read_all(broker.real.bootstrap_servers, broker.name("results"))
    results = [json.loads(message.value() or b"") for message in written]
    assert {each["event_id"] for each in results} == {handle.id}
    assert sorted((each["subscriber"], each["settlement"]) for each in results) == [
        ("bad", "dead"),
        ("bad", "retry"),
        ("good", "delivered"),
        ("mute", "dead"),
    ]
    keys = [(message.key() or b"").decode() for message in written]
    assert keys == [each["subscriber"] for each in results]


def test_all_results_are_written_when_they_are_on(
    broker: Broker, settings: Settings, receiver: Receiver, tmp_path: Path
) -> None:
    """For events of any producer; in the topic that the settings name."""
    broker.topic("in")
    topic = broker.name("of-requests")
    made = settings(results={"enabled": True, "topic": topic}, keep_response=True)
    with dispatcher(tmp_path, made) as one:
        one.ready(60)
        broker.produce(broker.name("in"), [b'{"event": "order.made"}'] * 3)
        until(
            lambda: one.metric("thorn_handover_total", kind="result", result="ok") == 3,
            60,
            "three results are written",
        )
        assert one.stop() == 0
    written = read_all(broker.real.bootstrap_servers, topic)
    assert [message.headers() for message in written] == [[("thorn-result", b"1")]] * 3
    assert all("response" in json.loads(message.value() or b"") for message in written)
    assert receiver.count("/ok") == 3


@pytest.mark.kafka
def test_a_topic_that_is_missing_is_named(apache_broker: Broker) -> None:
    """Better refused than never called; what asks for no callbacks is sent."""
    topic = apache_broker.topic("in")
    thorn = Thorn(
        kafka=apache_broker.client,
        group=apache_broker.prefix,
        topics=[topic],
        set_as_current=False,
    )
    event = thorn.Event("order.paid")
    missing = apache_broker.name("results")
    for _ in range(2):
        with pytest.raises(EventNotSent, match=f"the topic {missing} does not exist"):
            event.send({}, on_success=print)
    event.send({}).wait(60)
    thorn.close()
    assert len(read_all(apache_broker.real.bootstrap_servers, topic)) == 1


def test_what_is_written_after_the_start_is_read(broker: Broker) -> None:
    """Nothing from before, all from then on; what the reader's owner raises costs one record."""
    topic = broker.topic("tail")
    broker.produce(topic, [b"before"] * 4)
    found: list[bytes] = []

    def take(record: Record) -> None:
        found.append(record.value or b"")
        if record.value == b"0":
            raise KeyError("mine")

    tail = Tail(broker.client, "tail", topic, take)
    tail.start(60)
    broker.produce(topic, [b"%d" % number for number in range(20)])
    until(lambda: len(found) == 20, 60, "all that came afterwards is read")
    tail.stop(10)
    assert sorted(found) == sorted(b"%d" % number for number in range(20))
    assert not tail.usable
    broker.produce(topic, [b"late"])
    assert len(found) == 20


@pytest.mark.kafka
def test_reading_needs_permission_for_the_topic_alone(apache_broker: Broker) -> None:
    """No group's; without it the topic is not even seen, and the error says so."""
    topic = apache_broker.topic("tail")
    client = apache_broker.login
    found: list[Record] = []
    with pytest.raises(TopicMissing, match="does not exist, or this user may not see it"):
        Tail(client, "tail", topic, found.append).start(60)
    apache_broker.allow("READ", topic=topic)
    tail = Tail(client, "tail", topic, found.append)
    tail.start(60)
    apache_broker.produce(topic, [b"1"])
    until(lambda: len(found) == 1, 60, "what is written is read")
    tail.stop(10)


def test_a_reader_that_nobody_answers_gives_up() -> None:
    """With a sentence that says what to look at; it cannot be used then."""
    tail = Tail({"bootstrap.servers": f"127.0.0.1:{closed_port()}"}, "g", "t", lambda _: None)
    with pytest.raises(KafkaUnreachable, match=r"did not say within 0.5 s .*bootstrap_servers"):
        tail.start(0.5)
    assert not tail.usable


def test_a_child_of_a_fork_has_a_reader_of_its_own(
    embedded_broker: Broker, receiver: Receiver, tmp_path: Path
) -> None:
    """What the parent waits for is told to the parent; both end when their programs do."""
    name = embedded_broker.name
    made = {
        "kafka": embedded_broker.client,
        "group": embedded_broker.prefix,
        "topics": [name("in")],
        "allowed_networks": ["127.0.0.0/8"],
        "recipient_validators": [["block_internal_ips"]],
        "event_timeout": 30,
        "subscriber_files": [],
        "subscribers": [{"id": "one", "event": "*", "url": receiver.url("/ok")}],
    }
    program = f"""
        import os, sys, threading
        from thorn_stream import Thorn
        thorn = Thorn(kafka={embedded_broker.client!r}, group={embedded_broker.prefix!r},
                      topics=[{name("in")!r}])
        event = thorn.Event("made")

        def call(who):
            heard = threading.Event()
            event.send(who, on_success=lambda request: (print(who, request.data), heard.set()))
            assert heard.wait(60), who

        call("parent")
        sys.stdout.flush()
        child = os.fork()
        call("child" if child == 0 else "parent-again")
        sys.stdout.flush()
        if child:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """
    with dispatcher(tmp_path, made) as one:
        one.ready(60)
        ended = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert one.stop() == 0
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.split("\n")) == [
        "",
        "child child",
        "parent parent",
        "parent-again parent-again",
    ]
