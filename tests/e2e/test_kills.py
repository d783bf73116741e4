"""kill -9: nothing is lost, and only what no commit had told of yet is repeated."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.e2e.conftest import Settings
from tests.e2e.rig import committed, dispatcher, read_all, until
from tests.e2e.test_crash import deliveries, produce_in_background
from tests.support.brokers import Broker
from tests.support.receivers import Call, Receiver
from thorn_stream.core import ids, offsets

EVENTS: Final = 3000
RECENT: Final = 2.0
"""Seconds before a kill in which at least one commit was accepted: they are sent every 0.2 s, and
answered within some tenths even on a busy machine."""
IN_FLIGHT: Final = 256


class Kept(NamedTuple):
    """Deliveries that a group's commits call done, by their offsets alone and in all.

    And those handed over to another topic: there they are done when its own commit says so.
    """

    below: set[str]
    all: set[str]
    elsewhere: set[str]

    def untold(self, seen: Iterable[str]) -> int:
        """How many of these no commit has told of."""
        return len(set(seen) - self.all - self.elsewhere)


def kept(broker: Broker, topic: str, subscriber: str) -> Kept:
    """Read the group's commits in a topic, and what its own topics hold, as they are now."""
    below, told = set(), set()
    places = positions(broker, topic)
    for message in read_all(broker.real.bootstrap_servers, topic):
        number, offset = message.partition() or 0, message.offset() or 0
        base, metadata = places[number]
        known = offsets.decode(metadata, base)
        assert known is not None
        event = ids.event_id(topic, number, offset, message.timestamp()[1])
        if offset < base:
            below.add(ids.delivery_id(event, subscriber))
        elif offset < known.end and offset not in known.incomplete:
            told.add(ids.delivery_id(event, subscriber))
    elsewhere = handed_over(broker)
    return Kept(below - elsewhere, (below | told) - elsewhere, elsewhere)


def handed_over(broker: Broker) -> set[str]:
    """The deliveries that lie in the group's own topics: to be tried again, or parked.

    A machine too busy to answer for some seconds parks what no receiver has failed at.
    """
    names: set[str] = set()
    for topic in ("parked", "retry.1s", "retry.2s"):
        for message in read_all(broker.real.bootstrap_servers, f"{broker.prefix}.{topic}"):
            delivery = dict(message.headers() or [])["thorn-delivery"]
            assert isinstance(delivery, bytes)
            names.add(delivery.decode())
    return names


def positions(broker: Broker, topic: str) -> dict[int, tuple[int, str]]:
    consumer = Consumer(group(broker))
    try:
        numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        found = consumer.committed([TopicPartition(topic, n) for n in numbers], timeout=10)
        return {place.partition: (max(0, place.offset), place.metadata or "") for place in found}
    finally:
        consumer.close()


def group(broker: Broker) -> dict[str, Any]:
    return {"bootstrap.servers": broker.real.bootstrap_servers, "group.id": broker.prefix}


def strip_metadata(broker: Broker, topic: str) -> None:
    """Commit the bare offsets, as a member of the group: others may not while one is there."""
    places = [TopicPartition(topic, n, at) for n, (at, _) in positions(broker, topic).items()]
    member = Consumer(
        group(broker)
        | {
            "partition.assignment.strategy": "cooperative-sticky",
            "enable.auto.commit": False,
            "session.timeout.ms": 3_000,
            "heartbeat.interval.ms": 500,
        }
    )
    try:
        member.subscribe([topic])

        def has_all() -> bool:
            member.poll(0.1)
            return len(member.assignment()) == len(places)

        until(has_all, 30, "all partitions")
        member.commit(offsets=places, asynchronous=False)
    finally:
        member.close()
    assert all(not metadata for _, metadata in positions(broker, topic).values())


class Arrivals:
    """A receiver's mode that notes when each delivery came; `slow` per cent take two seconds."""

    def __init__(self, slow: int = 0) -> None:
        self.slow = slow
        self.times: list[float] = []

    async def __call__(self, call: Call) -> None:
        self.times.append(time.monotonic())
        first = int(call.request.headers["hook-delivery"][:4], 16)
        if first % 100 < self.slow:
            await asyncio.sleep(2)
        await call.answer(200)

    def since(self, moment: float) -> int:
        return sum(at >= moment for at in self.times)


def repeats(final: Counter[str], names: Iterable[str], before: Counter[str]) -> int:
    """How often these came again. One that had not come was handed over, and may come once."""
    return sum(final[name] - max(before[name], 1) for name in names)


@pytest.mark.timeout(240)
def test_kill_9_loses_nothing(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Killed twice in full flow: all arrive, none again that a commit had told of."""
    topic = broker.topic("in")
    made = two_paths(receiver, settings)
    arrivals = receiver.modes["ok"] = Arrivals()
    kills: list[tuple[Kept, Counter[str], int]] = []
    for turn in range(2):
        with dispatcher(tmp_path / str(turn), made) as one:
            one.ready(60)
            if not turn:
                producer = produce_in_background(broker, topic, seconds=3)
            wanted = (turn + 1) * EVENTS // 3
            until(lambda wanted=wanted: receiver.count("/ok") > wanted, 60, "some calls")  # type: ignore[misc]  # a default binds the loop's value
            killed = time.monotonic()
            one.kill()
        until(lambda: not receiver.open, 10, "all that was sent read")
        seen = deliveries(receiver, "/ok")
        kills.append((kept(broker, topic, "one"), seen, arrivals.since(killed - RECENT)))
    with dispatcher(tmp_path / "last", made) as last:
        last.ready(60)
        producer.join()
        until(lambda: len(deliveries(receiver, "/ok")) == EVENTS, 60, "all at /ok")
        until(lambda: one_2xx_each(receiver) == EVENTS, 100, "all at /flaky")
        assert last.stop() == 0
    assert committed(broker.real.bootstrap_servers, broker.prefix, topic) == (EVENTS, EVENTS)
    final = deliveries(receiver, "/ok")
    may_repeat = [told.untold(seen) for told, seen, _ in kills]
    repeated = sum(final.values()) - EVENTS
    print(
        f"\nkill -9 twice: {EVENTS} sent, {EVENTS - len(final)} missing, {repeated} repeated; "
        f"not yet told of by a commit: {may_repeat}, of the last {RECENT} s before: "
        f"{[recent for _, _, recent in kills]}"
    )
    for told, seen, recent in kills:
        assert repeats(final, told.all, seen) == 0
        assert told.untold(seen) <= recent + IN_FLIGHT
    for name, count in final.items():
        assert count <= 1 + sum(name not in told.all for told, _, _ in kills)


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    "stripped",
    [
        pytest.param(False, id="with-metadata"),
        pytest.param(True, id="without-metadata", marks=pytest.mark.long),
    ],
)
def test_kill_9_behind_a_slow_receiver(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path, stripped: bool
) -> None:
    """One delivery in twenty takes two seconds: what is done above those is not repeated.

    Without the metadata it would be: thousands, at a thousand a second.
    """
    topic = broker.topic("in")
    made = settings("/crawls")
    arrivals = receiver.modes["crawls"] = Arrivals(slow=5)
    with dispatcher(tmp_path / "first", made) as one:
        one.ready(60)
        producer = produce_in_background(broker, topic, seconds=3)
        until(lambda: receiver.count("/crawls") > EVENTS * 2 // 3, 60, "some calls")
        killed = time.monotonic()
        one.kill()
    until(lambda: not receiver.open, 10, "all that was sent read")
    seen = deliveries(receiver, "/crawls")
    told, recent = kept(broker, topic, "one"), arrivals.since(killed - RECENT)
    if stripped:
        strip_metadata(broker, topic)
    with dispatcher(tmp_path / "second", made) as second:
        second.ready(60)
        producer.join()
        until(lambda: len(deliveries(receiver, "/crawls")) == EVENTS, 60, "all of them")
        assert second.stop() == 0
    final = deliveries(receiver, "/crawls")
    repeated = sum(final.values()) - EVENTS
    spared = len(told.all) - len(told.below)
    print(
        f"\nkill -9, 5 % take 2 s, metadata {'stripped' if stripped else 'kept'}: {EVENTS} sent, "
        f"{EVENTS - len(final)} missing, {repeated} repeated; not yet told of by a commit: "
        f"{told.untold(seen)}, done above the committed offsets: {spared}"
    )
    assert len(final) == EVENTS
    assert spared > EVENTS // 30
    if stripped:
        assert repeats(final, told.all - told.below, seen) == spared
    else:
        assert repeats(final, told.all, seen) == 0
        assert max(final.values()) <= 2
        assert told.untold(seen) <= recent + IN_FLIGHT


def two_paths(receiver: Receiver, settings: Settings) -> dict[str, Any]:
    """One receiver that answers at once, one that fails every third first attempt."""
    made = settings("/ok")

    async def flaky(call: Call) -> None:
        headers = call.request.headers
        first = headers["hook-attempt"] == "1"
        await call.answer(500 if first and int(headers["hook-delivery"][:4], 16) % 3 == 0 else 200)

    receiver.modes["flaky"] = flaky
    made["subscribers"].append({"id": "two", "event": "**", "url": receiver.url("/flaky")})
    return made


def one_2xx_each(receiver: Receiver) -> int:
    """Deliveries that /flaky has answered with 200 at least once."""
    return len(
        {
            request.headers["hook-delivery"]
            for request in receiver.requests
            if request.path == "/flaky"
            and (
                request.headers["hook-attempt"] != "1"
                or int(request.headers["hook-delivery"][:4], 16) % 3
            )
        }
    )
