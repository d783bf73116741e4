"""Hand-overs: nothing is let go of before Kafka has it."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.support.dispatching import DEAD, ORDERS, Rig, World, status, subscriber, told, value
from thorn_stream.core.deliveries import Reason
from thorn_stream.core.records import Headers
from thorn_stream.ports import Lost, SendFailed, Sink
from thorn_stream.testing import MemorySink

Written = tuple[bytes | None, bytes | None, Headers]
Done = Callable[[Any, SendFailed | None], None]


class Watched:
    """A Sink that keeps when each record was sent, and takes none larger than `most` bytes."""

    def __init__(self, world: World, most: int = 1 << 20) -> None:
        self.world = world
        self.most = most
        self.at: list[float] = []
        self.inner = MemorySink()

    def around(self, inner: MemorySink) -> Sink:
        self.inner = inner
        return self

    def send(self, topic: str, record: Written, done: Done, token: Any) -> None:
        self.at.append(self.world.clock.now)
        key, body, headers = record
        size = len(key or b"") + len(body or b"")
        size += sum(len(name) + len(text or b"") for name, text in headers)
        if size > self.most:
            failed = SendFailed("Broker: Message size too large", too_large=True)
            asyncio.get_running_loop().call_soon(done, token, failed)
        else:
            self.inner.send(topic, record, done, token)

    async def stop(self, grace: float) -> int:
        return await self.inner.stop(grace)


def test_an_offset_waits_for_the_acknowledgement_of_its_hand_over() -> None:
    """Not committable while the retry record is on its way, however long that takes."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=status(500)).start()
        rig.sink.hold = True
        rig.publish()
        await rig.idle(20)
        assert rig.main.commits == []
        rig.sink.release()
        await rig.until(lambda: rig.committed == 1)

    world.live(life())


@pytest.mark.parametrize("answer", [status(500), status(410)])
def test_a_refused_hand_over_is_written_again_until_kafka_has_it(answer: Any) -> None:
    """With growing pauses; the offset waits, the reason is said, one record comes of it."""
    world = World()
    watched = Watched(world)

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=answer, wrap=watched.around).start()
        rig.sink.fail(9, "Broker: Not enough in-sync replicas")
        rig.publish()
        await rig.idle(10)
        assert rig.main.commits == []
        assert rig.worker.reasons() == [
            "1 hand-overs are refused: Broker: Not enough in-sync replicas"
        ]
        await rig.until(lambda: rig.committed == 1)
        assert rig.worker.reasons() == []
        assert (rig.settler.failing, rig.settler.last_error) == (0, None)
        assert sum(map(len, world.topics.values())) == 1

    world.live(life())
    pauses = [later - sooner for sooner, later in pairwise(watched.at[:10])]
    wanted = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert all(least <= pause < least + 0.05 for pause, least in zip(pauses, wanted, strict=True))


def test_many_refused_hand_overs_are_all_written_in_the_end() -> None:
    """None is lost or written twice, whichever fail in which round; the others are delivered."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=status(410)).start()
        rig.sink.fail(333)
        rig.publish(count=200)
        await rig.until(lambda: rig.committed == 200)
        assert rig.worker.reasons() == []
        results = [error is None for _, error in rig.observer.named("handed_over")]
        assert (results.count(False), results.count(True)) == (333, 200)
        assert len(rig.observer.named("dead")) == 200
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())
    assert sorted(told(record)["thorn-origin"] for record in world.dead) == sorted(
        f"orders:0:{offset}" for offset in range(200)
    )


@pytest.mark.parametrize("answer", [status(500), status(410)])
def test_what_is_too_large_is_a_dead_letter_without_its_body(answer: Any) -> None:
    """Reason `too_large`, key the subscriber, the origin says where the event stands."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=answer).start()
        rig.sink.limits = {DEAD: 10, "thorn.retry.5s": 10}
        rig.publish(headers=[("mine", b"1")])
        await rig.until(lambda: rig.committed == 1)
        assert rig.observer.named("dead") == [(Reason.TOO_LARGE,)]
        assert rig.worker.reasons() == []
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())
    assert list(world.topics) == [DEAD]
    (letter,) = world.dead
    assert (letter.key, letter.value) == (b"a", None)
    headers = told(letter)
    assert headers["thorn-reason"] == "too_large"
    assert headers["thorn-origin"] == "orders:0:0"
    assert headers["mine"] == "1"


def test_an_undecodable_record_that_is_too_large_says_that_its_bytes_are_left_out() -> None:
    """It stays `undecodable`, under its own key."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        rig.sink.limits = {DEAD: 10}
        rig.publish(b"no envelope at all", key=b"k")
        await rig.until(lambda: rig.committed == 1)
        assert rig.observer.named("dead") == [(Reason.UNDECODABLE,)]

    world.live(life())
    (letter,) = world.dead
    assert (letter.key, letter.value) == (b"k", None)
    assert told(letter)["thorn-reason"] == "undecodable"
    assert told(letter)["thorn-error"].startswith("larger than Kafka takes, left out here; not an")


@pytest.mark.parametrize("body", [value(), b"no envelope"])
def test_what_is_too_large_even_without_its_body_is_written_bare(body: bytes) -> None:
    """Key and headers that the event brought along go as well: the partition is not stuck."""
    world = World()
    watched = Watched(world, most=1000)

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=status(500), wrap=watched.around).start()
        long = b"x" * 2000
        rig.publish(body, key=long, headers=[("mine", long), ("thorn-http-X", long)])
        await rig.until(lambda: rig.committed == 1)

    world.live(life())
    (letter,) = world.dead
    assert letter.value is None
    assert told(letter)["thorn-origin"] == "orders:0:0"
    assert told(letter)["thorn-reason"] in ("too_large", "undecodable")
    assert not {"mine", "thorn-http-X", "thorn-key"} & told(letter).keys()
    assert len(watched.at) == 3


def test_nothing_is_written_for_a_partition_that_is_gone() -> None:
    """A refused hand-over of a lost partition is not written again; the next owner repeats it."""
    world = World()
    watched = Watched(world)

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=status(500), wrap=watched.around).start()
        rig.sink.fail(1000)
        rig.publish(count=3)
        await rig.idle(2)
        assert rig.settler.failing == 3
        rig.main.lose(ORDERS)
        await rig.idle(0.1)
        written = len(watched.at)
        await rig.idle(20)
        assert len(watched.at) == written
        assert rig.worker.reasons() == []
        assert rig.settler.failing == 0

    world.live(life())
    assert world.topics == {}


def test_an_acknowledgement_that_comes_after_the_partition_has_gone_changes_nothing() -> None:
    """The record stands in its tier, and the offset is the next owner's."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=status(500)).start()
        rig.sink.hold = True
        rig.publish()
        await rig.idle(1)
        rig.main.lose(ORDERS)
        await rig.idle(0.1)
        rig.sink.release()
        await rig.idle(1)
        assert rig.main.commits == []
        await rig.until(lambda: rig.main.credit_records == 10_000)

    world.live(life())
    assert len(world.tier(5)) == 1


def test_a_refusal_that_comes_after_the_partition_has_gone_is_the_end_of_it() -> None:
    """Even of a record that would be written smaller: no dead letter for the next owner's event."""
    world = World()
    watched = Watched(world, most=10)

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=None, wrap=watched.around).start()
        rig.publish()
        await rig.idle(1)
        rig.transport.end(rig.under_way[0], status(500))
        while not watched.at:
            await rig.idle(0)
        rig.worker.main.handle([Lost([ORDERS])])
        await rig.idle(1)
        assert len(watched.at) == 1
        assert rig.settler.failing == 0

    world.live(life())


def test_a_dead_letter_is_counted_when_it_is_in_its_topic() -> None:
    """Not when it was decided."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=status(410)).start()
        rig.sink.hold = True
        rig.publish()
        await rig.idle(1)
        assert rig.observer.named("dead") == []
        rig.sink.release()
        await rig.idle(1)
        assert rig.observer.named("dead") == [(Reason.GONE,)]
        assert rig.observer.named("handed_over") == [("dead", None)]

    world.live(life())
