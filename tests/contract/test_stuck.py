"""A partition of which nothing comes although Kafka has more is told, and read again."""

import asyncio
from typing import Final

import pytest

from tests.support.brokers import Broker, EmbeddedProcess, numbered
from tests.support.reading import Reading, reading, stays, until
from thorn_stream.core.records import Partition

_FETCH: Final = 1
_NOT_LEADER: Final = 6
_SILENT: Final = 15.0  # seconds in which the client does not fetch after an error


async def _stand_still(one: Reading, broker: Broker, topic: str) -> int:
    """Write until nothing of it comes any more; returns how many were written."""
    assert isinstance(broker.real, EmbeddedProcess)
    broker.real.fail_next(_FETCH, [_NOT_LEADER])
    written = 0
    while len(one.records) == written:
        broker.produce(topic, numbered(1, written))
        written += 1
        try:
            await until(lambda: len(one.records) == written, 1)  # noqa: B023 - awaited at once
        except TimeoutError:
            break
    return written


@pytest.mark.timeout(120)
def test_a_partition_that_stands_still_is_told_until_it_goes_on(embedded_broker: Broker) -> None:
    """What another client can read and ours does not hand over is a trouble of that partition."""
    topic = embedded_broker.topic("in", 1)

    async def test() -> None:
        silent = {"fetch.error.backoff.ms": int(_SILENT * 1000)}
        async with reading(embedded_broker, topic, stuck_after=1.0, client=silent) as one:
            await until(lambda: one.owned)
            written = await _stand_still(one, embedded_broker, topic)
            await until(lambda: one.troubles, 60)
            (key,) = one.troubles
            assert key == f"stuck:{topic}[0]"
            assert f"{topic}[0] stands still" in str(one.troubles[key].text)
            await until(lambda: len(one.records) == written, 60)
            await until(lambda: not one.troubles, 60)
            assert one.values() == numbered(written)

    asyncio.run(test())


def test_a_paused_partition_does_not_stand_still(embedded_broker: Broker) -> None:
    """What waits because the loop wants it to is no trouble."""
    topic = embedded_broker.topic("in", 2)
    held = Partition(topic, 0)

    async def test() -> None:
        async with reading(embedded_broker, topic, stuck_after=0.1) as one:
            await until(lambda: len(one.owned) == 2)
            one.source.pause([held])
            embedded_broker.produce(topic, numbered(3), partition=0)
            for i in range(4):  # each look comes a second after the one before
                embedded_broker.produce(topic, numbered(1, i), partition=1)
                await until(lambda: len(one.values(1)) == i + 1)  # noqa: B023 - awaited at once
                await stays(lambda: not one.troubles, 1)
            one.source.resume([held])
            await until(lambda: len(one.values(0)) == 3)

    asyncio.run(test())
