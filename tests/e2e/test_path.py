"""The main path, end to end: a plain producer, Kafka, a dispatcher process, a real receiver."""

import json
import subprocess
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.e2e.conftest import Settings
from tests.e2e.rig import SECRET, committed, dispatcher, envelope, produce, read_all, until
from tests.support.brokers import Broker
from tests.support.java_tools import console_producer
from tests.support.receivers import Call, Receiver
from thorn_stream import verify


def headers(message: object) -> dict[str, str]:
    return {key: value.decode() for key, value in message.headers() or []}  # type: ignore[attr-defined]  # a confluent_kafka Message


def test_an_event_is_delivered_signed_and_its_offset_committed(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """The value's own bytes arrive once, both signatures hold, and then the offset is committed."""
    topic = broker.topic("in")
    value = b'{ "event": "order.created",  "data": {"price": 1.50} }'
    with dispatcher(tmp_path, settings()) as one:
        one.ready()
        produce(broker.real.bootstrap_servers, topic, [value, envelope("user.created")])
        until(lambda: receiver.count("/ok") == 1, 20, "one call")
        until(
            lambda: committed(broker.real.bootstrap_servers, broker.prefix, topic) == (2, 2),
            10,
            "both offsets committed",
        )
        call = receiver.requests[0]
        assert call.body == value
        assert call.headers["hook-event"] == "order.created"
        assert call.headers["hook-subscription"] == "one"
        assert call.headers["hook-attempt"] == "1"
        assert call.headers["hook-delivery"] == call.headers["webhook-id"]
        verify(SECRET, call.headers, call.body)
        Webhook(SECRET).verify(call.body, call.headers)
        assert one.metric("thorn_attempts_total", outcome="ok") == 1
        assert one.metric("thorn_events_unmatched_total") == 1
        assert one.get("/livez")[0] == 200
        assert one.stop() == 0
    assert receiver.count("/ok") == 1


def test_a_failure_is_tried_again_after_its_delay_under_the_same_id(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Two failures, then a success: attempts 1, 2, 3, one id, never earlier than the delay."""

    async def third_time(call: Call) -> None:
        number = int(call.request.headers["hook-attempt"])
        await call.answer(200 if number == 3 else 503)

    receiver.modes["third"] = third_time
    topic = broker.topic("in")
    with dispatcher(tmp_path, settings("/third", retry_jitter=0)) as one:
        one.ready()
        produce(broker.real.bootstrap_servers, topic, [envelope("order.paid")])
        until(lambda: receiver.count("/third") == 3, 30, "three calls")
        calls = receiver.requests
        assert [call.headers["hook-attempt"] for call in calls] == ["1", "2", "3"]
        assert len({call.headers["hook-delivery"] for call in calls}) == 1
        moments = [int(call.headers["webhook-timestamp"]) for call in calls]
        assert moments[2] - moments[0] >= 1  # two delays of a second, told in whole seconds
        until(lambda: one.metric("thorn_deliveries_total", settlement="delivered") == 1, 5, "2xx")
        assert one.stop() == 0
    assert read_all(broker.real.bootstrap_servers, broker.name("dead")) == []


@pytest.mark.parametrize(
    ("path", "more", "reason", "error", "attempts"),
    [
        ("/status/410", {}, "gone", "status:410", 1),
        ("/status/500", {"retry_max": 1}, "exhausted", "status:500", 2),
        ("/status/500", {"retry": False}, "exhausted", "status:500", 1),
        ("/status/422", {"dead_on": [422]}, "rejected", "status:422", 1),
        ("/ok", {"allowed_networks": []}, "blocked", "blocked:block_internal_ips", 1),
    ],
)
def test_what_is_given_up_on_is_a_dead_letter(  # noqa: PLR0917 - one for each column
    broker: Broker,
    receiver: Receiver,
    settings: Settings,
    tmp_path: Path,
    path: str,
    more: dict[str, object],
    reason: str,
    error: str,
    attempts: int,
) -> None:
    """It keeps the event's bytes and headers, and says who, why, how often and from where."""
    topic = broker.topic("in")
    value = envelope("order.paid", id=7)
    asked = settings(path, **more)
    if reason == "blocked":
        # an address would be refused where it is read; a name is judged when it is dialled
        asked["subscribers"][0]["url"] = receiver.url(path, host="localhost")
    with dispatcher(tmp_path, asked) as one:
        one.ready()
        produce(broker.real.bootstrap_servers, topic, [value], key=b"k", headers={"x": b"y"})
        until(lambda: one.metric("thorn_dead_letters_total", reason=reason) == 1, 30, "dead letter")
        blocked = one.metric("thorn_blocked_total", validator="block_internal_ips")
        assert blocked == (1 if reason == "blocked" else 0)
        assert one.stop() == 0
    (dead,) = read_all(broker.real.bootstrap_servers, broker.name("dead"))
    said = headers(dead)
    assert dead.value() == value
    assert dead.key() == b"one"
    assert said["x"] == "y"
    assert said["thorn-reason"] == reason
    assert said["thorn-error"].startswith(error)
    assert said["thorn-attempt"] == str(attempts)
    assert said["thorn-subscriber"] == "one"
    assert said["thorn-key"] == "k"
    assert said["thorn-origin"].startswith(f"{topic}:")
    assert receiver.connections == (0 if reason == "blocked" else 1)


def test_what_cannot_be_decoded_is_a_dead_letter_and_the_partition_goes_on(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Its bytes whole, under its own key; a tombstone is passed over."""
    topic = broker.topic("in", partitions=1)
    bad = b"\xff\xfe not JSON"
    with dispatcher(tmp_path, settings()) as one:
        one.ready()
        values = [bad, None, envelope("order.paid")]
        produce(broker.real.bootstrap_servers, topic, values, key=b"own")
        until(lambda: receiver.count("/ok") == 1, 20, "the good one")
        until(lambda: one.metric("thorn_dead_letters_total", reason="undecodable") == 1, 5, "dead")
        assert one.metric("thorn_undecodable_total") == 1
        assert one.stop() == 0
    assert committed(broker.real.bootstrap_servers, broker.prefix, topic) == (3, 3)
    (dead,) = read_all(broker.real.bootstrap_servers, broker.name("dead"))
    assert dead.value() == bad
    assert dead.key() == b"own"
    assert headers(dead)["thorn-reason"] == "undecodable"
    assert "thorn-subscriber" not in headers(dead)


def test_an_event_from_kcat_needs_no_header(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path, kcat: str
) -> None:
    """What another client writes, with nothing but a value, is delivered."""
    topic = broker.topic("in")
    with dispatcher(tmp_path, settings()) as one:
        one.ready()
        subprocess.run(
            [kcat, "-P", "-b", broker.real.bootstrap_servers, "-t", topic],
            input=envelope("order.paid"),
            check=True,
            timeout=30,
        )
        until(lambda: receiver.count("/ok") == 1, 20, "one call")
        assert one.stop() == 0


@pytest.mark.kafka
@pytest.mark.parametrize("broker", ["apache"], indirect=True)
def test_an_event_from_the_java_producer_needs_no_header(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Kafka's own console producer, which the embedded broker does not understand."""
    topic = broker.topic("in")
    with dispatcher(tmp_path, settings()) as one:
        one.ready()
        console_producer(broker.real.bootstrap_servers, topic, envelope("order.paid"))
        until(lambda: receiver.count("/ok") == 1, 20, "one call")
        assert one.stop() == 0
    assert json.loads(receiver.requests[0].body)["event"] == "order.paid"
