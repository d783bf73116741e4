"""`rate_limit` is for the whole group: what all dispatchers send together, as they come and go."""

import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Self

import pytest
from confluent_kafka import Producer

from tests.e2e.conftest import Settings
from tests.e2e.rig import Dispatcher, dispatcher, envelope, until
from tests.support.brokers import Broker
from tests.support.receivers import Receiver

RATE = 60
PARTITIONS = 4
MEMBERS = 2
PHASE = 3 * RATE // 2  # requests: the worth of more than a second


class Feed:
    """Publishes half as much again as the rate, evenly over the partitions, while it is open."""

    def __init__(self, servers: str, topic: str) -> None:
        self.count = 0
        self._topic = topic
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.2):
            for _ in range(RATE * 3 // 10):
                value = envelope("order.paid", number=self.count)
                self._producer.produce(self._topic, value, partition=self.count % PARTITIONS)
                self.count += 1
            self._producer.poll(0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._producer.flush(30)


def in_each_second(receiver: Receiver) -> Counter[str]:
    """Requests by the second in which they were begun.

    Not by when they came: a machine that stands still for a moment hands over together what was
    begun in turn.
    """
    calls = list(receiver.requests)
    return Counter(call.headers["webhook-timestamp"] for call in calls)


def has_come(receiver: Receiver, count: int) -> bool:
    return receiver.count("/ok") >= count


def goes_on(receiver: Receiver, what: str) -> None:
    until(partial(has_come, receiver, receiver.count("/ok") + PHASE), 60, what)


def partitions_of(one: Dispatcher, topic: str) -> int:
    """How many of the topic are this one's, by the lag that it tells of."""
    lines = one.get("/metrics")[1].splitlines()
    return sum(line.startswith("thorn_consumer_lag{") and f'"{topic}"' in line for line in lines)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "broker",
    ["embedded", pytest.param("apache", marks=[pytest.mark.kafka, pytest.mark.long])],
    indirect=True,
)
def test_two_dispatchers_keep_one_rate(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """No second sees more than the rate: alone, while one joins, with both, while one leaves."""
    topic = broker.topic("in", PARTITIONS)
    made = settings()
    made["subscribers"][0] |= {"rate_limit": RATE}
    feed = Feed(broker.real.bootstrap_servers, topic)
    with dispatcher(tmp_path / "a", made) as first, feed:
        first.ready(60)
        goes_on(receiver, "one alone")
        with dispatcher(tmp_path / "b", made) as second:
            until(
                lambda: partitions_of(second, topic) == PARTITIONS // 2,
                60,
                "the other has its half",
            )
            goes_on(receiver, "both")
            assert first.stop() == 0
            until(lambda: partitions_of(second, topic) == PARTITIONS, 60, "all are the other's")
            goes_on(receiver, "the other alone")
            second.kill()
    seconds = in_each_second(receiver)
    print(f"{broker.real.__class__.__name__}: {sorted(seconds.items())}")
    # whose part is below 25 per second may have saved up one request
    assert max(seconds.values()) <= RATE + MEMBERS
    assert receiver.count("/ok") < feed.count, "there was always more to send"
