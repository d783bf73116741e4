"""What waits long in one retry tier keeps no other tier from being read."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.e2e.conftest import Settings
from tests.e2e.rig import dispatcher, envelope, produce, until
from tests.support.brokers import Broker
from tests.support.receivers import Call, Receiver
from thorn_stream.core import handover
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.handover import Held
from thorn_stream.core.records import Record

LONG = 3600  # seconds: nothing of that tier is due while a test lasts
SHORT = 1
MEMORY = 16 << 20


async def second_time(call: Call) -> None:
    await call.answer(200 if call.request.headers["hook-attempt"] != "1" else 500)


def has_come(receiver: Receiver, count: int) -> bool:
    return receiver.count("/second") == count


def wait_long(broker: Broker, topic: str, count: int, size: int) -> None:
    """Write retries of about `size` bytes each that are due in an hour."""
    now = time.time_ns() // 1_000_000
    value = envelope("other.one", text="x" * size)
    event = decode(Record(broker.name("in"), 0, 0, None, value, [], now))
    assert isinstance(event, Envelope)
    servers = broker.real.bootstrap_servers
    producer = Producer({"bootstrap.servers": servers, "message.max.bytes": 2_000_000})
    for number in range(count):
        held = Held(event, f"d{number}", "other", 1, now + 1000 * LONG, now, "timeout")
        headers: list[Any] = handover.headers(held)
        while True:
            try:
                producer.produce(topic, value, key=held.delivery, headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0


@pytest.mark.parametrize(
    "broker",
    ["embedded", pytest.param("apache", marks=[pytest.mark.kafka, pytest.mark.long])],
    indirect=True,
)
@pytest.mark.parametrize(
    ("count", "size"),
    [
        pytest.param(3000, 2_000, id="many"),
        pytest.param(24, 800_000, id="large", marks=pytest.mark.long),
    ],
)
def test_a_tier_that_is_full_leaves_the_others_room(
    count: int, size: int, broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """More waits an hour than may be held at all: what is due in a second is tried all the same."""
    receiver.modes["second"] = second_time
    topic = broker.topic("in")
    long, _ = (broker.topic(f"retry.{tier}s") for tier in (LONG, SHORT))
    wait_long(broker, long, count, size)
    made = settings("/second", retry_tiers=[SHORT, LONG], memory_limit=MEMORY)
    with dispatcher(tmp_path, made) as running:
        running.ready(60)
        until(lambda: running.metric("thorn_memory_bytes", use="retry") > 1 << 20, 60, "held")
        servers = broker.real.bootstrap_servers
        for number in range(1, 4):
            produce(servers, topic, [envelope("order.paid", number=number)])
            until(partial(has_come, receiver, 2 * number), 60, f"retry {number}")
            # a record of each partition may come on top: it is stopped after it
            assert running.metric("thorn_memory_bytes", use="retry") < MEMORY // 4 + 8 * size
        assert running.stop() == 0
