"""Stops: nothing is lost, and nothing is repeated."""

import asyncio
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Settings
from tests.e2e.rig import dispatcher, envelope, produce, until
from tests.support.brokers import Broker
from tests.support.receivers import Call, Receiver

EVENTS = 3000


def deliveries(receiver: Receiver, path: str) -> Counter[str]:
    """How often each delivery arrived at a path."""
    return Counter(
        request.headers["hook-delivery"] for request in receiver.requests if request.path == path
    )


def produce_in_background(broker: Broker, topic: str, seconds: float) -> threading.Thread:
    """Spread the events over some seconds, in slices."""

    def run() -> None:
        slices = 20
        for number in range(slices):
            first = number * EVENTS // slices
            values: list[bytes | None] = [
                envelope("order.paid", number=i) for i in range(first, first + EVENTS // slices)
            ]
            produce(broker.real.bootstrap_servers, topic, values)
            time.sleep(seconds / slices)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_stop_repeats_nothing(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """SIGTERM in full flow: it drains, commits, ends with 0, and the next one goes on there."""
    topic = broker.topic("in")
    made = settings("/ok")
    producer = produce_in_background(broker, topic, seconds=2)
    with dispatcher(tmp_path / "first", made) as first:
        first.ready()
        until(lambda: receiver.count("/ok") > EVENTS // 4, 30, "some calls")
        assert first.stop() == 0
    with dispatcher(tmp_path / "second", made) as second:
        second.ready(60)
        producer.join()
        until(lambda: len(deliveries(receiver, "/ok")) == EVENTS, 60, "all of them")
        assert second.stop() == 0
    assert set(deliveries(receiver, "/ok").values()) == {1}


def test_two_share_the_work_and_one_takes_over(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """A second dispatcher joins in full flow and the first stops: nothing is missing.

    On Apache Kafka nothing comes twice either. The embedded broker refuses commits for as long as
    it rebalances, so what settled meanwhile may be repeated there.
    """
    made = settings("/ok", max_in_flight=32)
    share_and_take_over(broker, receiver, made, tmp_path)
    if not broker.embedded:
        assert set(deliveries(receiver, "/ok").values()) == {1}


def test_who_shares_a_record_with_a_slow_one_has_it_once(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """One receiver's queue is never empty; partitions that move repeat nothing to the other.

    What waits in the queue is parked before they go. (On the embedded broker as above.)
    """
    made = settings("/ok", max_in_flight=32, lane_size=100)
    made["subscribers"].append(
        {"id": "slow", "event": "**", "url": receiver.url("/slow"), "max_in_flight": 2}
    )

    async def slow(call: Call) -> None:
        await asyncio.sleep(0.3)
        await call.answer(200)

    receiver.modes["slow"] = slow
    share_and_take_over(broker, receiver, made, tmp_path)
    assert receiver.count("/slow") > 0
    if not broker.embedded:
        assert set(deliveries(receiver, "/ok").values()) == {1}


def share_and_take_over(
    broker: Broker, receiver: Receiver, made: dict[str, Any], folder: Path
) -> None:
    """One dispatcher, then two, then the other: twice as many events, all of which arrive.

    A partition that moves waits two seconds for what is in flight, and what is not answered by
    then is repeated: `made` has to keep that little.
    """
    topic = broker.topic("in")
    with dispatcher(folder / "first", made) as first:
        first.ready()
        producer = produce_in_background(broker, topic, seconds=3)
        with dispatcher(folder / "second", made) as second:
            second.ready()
            until(lambda: f"{topic}[" in second.said(), 40, "it has partitions")
            producer.join()
            producer = produce_in_background(broker, topic, seconds=3)
            until(lambda: second.metric("thorn_attempts_total", outcome="ok") > 0, 30, "shared")
            assert first.stop() == 0
            producer.join()
            until(lambda: len(deliveries(receiver, "/ok")) == 2 * EVENTS, 60, "all of them")
            assert second.stop() == 0


def test_a_stop_ends_although_kafka_does_not_answer(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """With the broker stalled, SIGTERM still ends the process, with status 1."""
    topic = broker.topic("in")
    with dispatcher(tmp_path, settings("/ok", drain_timeout=2)) as one:
        one.ready()
        produce(broker.real.bootstrap_servers, topic, [envelope("order.paid")])
        until(lambda: receiver.count("/ok") == 1, 20, "one call")
        broker.real.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert one.stop(20) == 1
            assert time.monotonic() - began < 15
        finally:
            broker.real.signal(signal.SIGCONT)
