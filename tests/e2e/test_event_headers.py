"""CloudEvents and an event's own headers, end to end on every broker."""

import json
from pathlib import Path

from tests.e2e.conftest import Settings
from tests.e2e.rig import committed, dispatcher, envelope, produce, read_all, until
from tests.support.brokers import Broker
from tests.support.receivers import Call, Receiver

CLOUD = {
    "specversion": "1.0",
    "type": "order.created",
    "source": "/shop",
    "id": "7",
    "data": {"n": 1},
}
BINARY = {
    "ce_specversion": b"1.0",
    "ce_type": b"order.created",
    "ce_source": b"/shop",
    "ce_id": b"7",
    "content-type": b"application/json",
}


def test_a_cloud_event_is_one_event_in_either_mode(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """The same envelope under the same delivery id; a dead letter keeps it as it came."""
    topic = broker.topic("in")
    servers = broker.real.bootstrap_servers
    with dispatcher(tmp_path, settings("/status/410")) as one:
        one.ready()
        produce(servers, topic, [json.dumps(CLOUD).encode()])
        until(lambda: receiver.count("/status/410") == 1, 20, "one call")
        produce(servers, topic, [b'{"n": 1}'], headers=BINARY)
        until(lambda: receiver.count("/status/410") == 2, 20, "two calls")
        until(lambda: committed(servers, broker.prefix, topic) == (2, 2), 10, "offsets committed")
        assert one.stop() == 0
    first, second = receiver.requests
    assert json.loads(first.body) == json.loads(second.body)
    assert json.loads(first.body)["ref"] == "/shop"
    assert first.headers["hook-event"] == "order.created"
    assert first.headers["hook-delivery"] == second.headers["hook-delivery"]
    letters = read_all(servers, f"{broker.prefix}.dead")
    assert {letter.value() for letter in letters} == {json.dumps(CLOUD).encode(), b'{"n": 1}'}


def test_an_event_brings_its_recipients_and_settings_along(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """An extra recipient is called unsigned, tried again from its own definition, within rules."""

    async def second_time(call: Call) -> None:
        await call.answer(200 if call.request.headers["hook-attempt"] == "2" else 503)

    receiver.modes["extra"] = second_time
    topic = broker.topic("in")
    servers = broker.real.bootstrap_servers
    more = {"allow_event_subscribers": True, "hmac_secret": "master"}
    with dispatcher(tmp_path, settings(**more)) as one:
        one.ready()
        extra = [receiver.url("/extra"), "http://169.254.169.254/latest"]
        headers = {
            "thorn-subscribers": json.dumps(extra).encode(),
            "thorn-retry-delay": b"1",
            "thorn-retry-max": b"1000",
        }
        produce(servers, topic, [envelope("order.created")], headers=headers)
        until(lambda: receiver.count("/extra") == 2, 30, "two calls")
        until(lambda: one.metric("thorn_dead_letters_total", reason="blocked") == 1, 20, "blocked")
        assert receiver.count("/ok") == 1
        assert one.metric("thorn_clamped_total", header="thorn-retry-max") == 1
        calls = [each for each in receiver.requests if each.path == "/extra"]
        assert calls[0].headers["hook-subscription"].startswith("url:")
        assert calls[0].headers["hook-delivery"] == calls[1].headers["hook-delivery"]
        assert not {"hook-hmac", "webhook-signature"} & calls[0].headers.keys()
        assert one.stop() == 0
