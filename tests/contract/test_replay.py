"""The Replay port, held by KafkaReplay against both brokers."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.brokers import Broker, numbered
from thorn_stream.adapters.kafka import (
    KafkaReplay,
    KafkaSink,
    ReplaySettings,
    SinkSettings,
    delete_topics,
    describe,
)
from thorn_stream.core.records import Headers, Partition
from thorn_stream.ports import Ask, SendFailed, Slice


@asynccontextmanager
async def replaying(broker: Broker) -> AsyncIterator[KafkaReplay]:
    settings = ReplaySettings(broker.client, f"{broker.prefix}.parked", broker.embedded)
    replay = KafkaReplay(settings)
    try:
        yield replay
    finally:
        assert await replay.stop(30)


async def one_slice(replay: KafkaReplay, ask: Ask) -> Slice:
    answered: asyncio.Future[Slice] = asyncio.Future()
    replay.read(ask, lambda _, found: answered.set_result(found))
    return await asyncio.wait_for(answered, 60)


async def reach(replay: KafkaReplay, ask: Ask) -> list[bytes | None]:
    """Slice after slice up to the end of what is asked; a busy broker may take several."""
    values: list[bytes | None] = []
    async with asyncio.timeout(60):
        begin = ask.begin
        while True:
            found = await one_slice(replay, _from(ask, begin))
            assert found.error is None
            assert found.next >= begin
            begin = found.next
            values += [record.value for record in found.records]
            if begin >= (found.high if ask.end is None else min(ask.end, found.high)):
                return values


def _from(ask: Ask, begin: int) -> Ask:
    return Ask(ask.partition, begin, ask.end, ask.wanted, ask.records, ask.size)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def wanted(**first: int) -> Mapping[bytes | None, int]:
    return {key.encode(): offset for key, offset in first.items()}


def test_any_place_of_any_partition_can_be_read(broker: Broker) -> None:
    """Forward, back, elsewhere, and to the end of what there is."""
    topic = broker.topic("parked", 2)
    broker.produce(topic, numbered(300), 0)
    broker.produce(topic, numbered(50, 1000), 1)

    async def test() -> None:
        async with replaying(broker) as replay:
            one, two = Partition(topic, 0), Partition(topic, 1)
            assert await reach(replay, Ask(one, 100, 150)) == numbered(50, 100)
            assert await reach(replay, Ask(one, 150, 160)) == numbered(10, 150)
            assert await reach(replay, Ask(two, 40)) == numbered(10, 1040)
            assert await reach(replay, Ask(one, 0)) == numbered(300)
            at_end = await one_slice(replay, Ask(one, 300))
            assert (list(at_end.records), at_end.next, at_end.high) == ([], 300, 300)
            broker.produce(topic, numbered(3, 300), 0)
            assert await reach(replay, Ask(one, 300)) == numbered(3, 300)

    run(test())


def test_records_of_others_are_passed_over(broker: Broker) -> None:
    """Of each key that is wanted, those from its offset on; the others do not end a slice."""
    topic = broker.topic("parked", 1)
    for _ in range(20):
        for key in ("a", "b", "c"):
            broker_keys = {"key": key.encode()}
            broker.produce(topic, [key.encode()], 0, **broker_keys)

    async def test() -> None:
        async with replaying(broker) as replay:
            ask = Ask(Partition(topic, 0), 0, wanted=wanted(a=0, b=30), records=1000)
            found = await reach(replay, ask)
            assert (found.count(b"a"), found.count(b"b"), found.count(b"c")) == (20, 10, 0)

    run(test())


def test_a_slice_ends_after_so_many_records_or_bytes(broker: Broker) -> None:
    """And the next one goes on where it ended, with nothing left out."""
    topic = broker.topic("parked", 1)
    broker.produce(topic, numbered(2500), 0)

    async def test() -> None:
        async with replaying(broker) as replay:
            place = Partition(topic, 0)
            found = await one_slice(replay, Ask(place, 0, records=1000))
            assert 0 < len(found.records) <= 1000
            assert found.next == len(found.records)
            small = await one_slice(replay, Ask(place, found.next, size=1))
            assert len(small.records) <= 1
            assert await reach(replay, Ask(place, 0, records=700)) == numbered(2500)

    run(test())


def test_what_kafka_has_deleted_shows(broker: Broker) -> None:
    """The slice begins at the first record there is, and says which that is."""
    topic = broker.topic("parked", 1)
    broker.produce(topic, numbered(100), 0)
    broker.delete_records(topic, 0, 60)

    async def test() -> None:
        async with replaying(broker) as replay:
            found = await one_slice(replay, Ask(Partition(topic, 0), 10))
            assert (found.error, found.low, found.high) == (None, 60, 100)
            assert await reach(replay, Ask(Partition(topic, 0), 10)) == numbered(40, 60)

    run(test())


def test_a_partition_that_is_not_there_is_an_error(broker: Broker) -> None:
    """It is told in words, and the next slice of another one is read all the same."""
    topic = broker.topic("parked", 1)
    broker.produce(topic, numbered(2), 0)

    async def test() -> None:
        async with replaying(broker) as replay:
            missing = await one_slice(replay, Ask(Partition(topic, 77), 0))
            assert missing.error
            assert list(missing.records) == []
            assert await reach(replay, Ask(Partition(topic, 0), 0)) == numbered(2)

    run(test())


def test_a_partition_can_be_chosen_for_writing(broker: Broker) -> None:
    """Cursors stand in the partition of the same number, whatever their keys are."""
    topic = broker.topic("cursors", 3)
    answers: list[SendFailed | None] = []

    async def test() -> None:
        sink = KafkaSink(SinkSettings(broker.client))
        for number in (2, 0, 2):
            place = Partition(topic, number)
            record: tuple[bytes, bytes, Headers] = (b"same key", b"%d" % number, [])
            sink.send_to(place, record, lambda _, failed: answers.append(failed), None)
        assert await sink.stop(60) == 0
        assert answers == [None, None, None]
        async with replaying(broker) as replay:
            for number, values in enumerate(([b"0"], [], [b"2", b"2"])):
                assert await reach(replay, Ask(Partition(topic, number), 0)) == values

    run(test())


def test_a_topic_is_known_by_its_id_where_it_is_asked_for(broker: Broker) -> None:
    """Apache Kafka tells it, the same each time; the embedded broker has none, and holds nobody up.

    One that is made again under its name has another.
    """
    topic = broker.topic("parked", 2)

    async def ids() -> list[str]:
        async with replaying(broker) as replay:
            found = [
                await one_slice(replay, Ask(Partition(topic, number), 0, 0, identify=identify))
                for number, identify in ((0, True), (1, True), (0, False))
            ]
            assert [each.error for each in found] == [None] * 3
            return [each.topic for each in found]

    first = asyncio.run(ids())
    if broker.embedded:
        assert first == ["", "", ""]
        return
    assert first[0]
    assert first == [first[0], first[0], ""]
    delete_topics(broker.client, [topic], 20)
    until = time.monotonic() + 60
    while topic in describe(broker.client, 20).topics:  # brokers hear of it a moment later
        assert time.monotonic() < until
        time.sleep(0.05)
    broker.topic("parked", 2)
    second = asyncio.run(ids())
    assert second[0]
    assert second[0] != first[0]


@pytest.mark.kafka
def test_the_id_of_a_topic_that_is_not_there_is_an_error(apache_broker: Broker) -> None:
    """As any question about it: it is asked again later."""
    missing = Partition(apache_broker.name("no"), 0)

    async def test() -> None:
        async with replaying(apache_broker) as replay:
            found = await one_slice(replay, Ask(missing, 0, 0, identify=True))
            assert found.error
            assert missing.topic in found.error

    run(test())
