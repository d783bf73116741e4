"""Bounds of the drain: rests, cursors by count, bytes of a slice, idle buffers, old counts."""

import asyncio

from tests.support.dispatching import CURSORS, OK, PARKING, Rig, World, subscriber, value
from tests.unit.test_parked import offsets, park, write_cursor
from thorn_stream.core import cursors
from thorn_stream.core.cursors import Cursor, CursorKey
from thorn_stream.core.deliveries import Attempt, Outcome
from thorn_stream.core.flow import Limits
from thorn_stream.dispatch.cursor_writes import CursorWriter

REST = 0.5
"""Seconds, of the drain."""
IDLE = 2.0
"""Seconds, of the drain."""
COUNT = 1000
"""Settled deliveries after which a cursor is written."""


def next_of(world: World, key: bytes) -> list[int]:
    """What each record of this cursor said, in the order of writing."""
    told = [cursors.read(record.key, record.value) for record in world.topics[CURSORS]]
    return [one[1].next for one in told if one and one[1] and one[0].encoded() == key]


# --- time ---


def test_a_receiver_rests_when_something_of_it_was_put_back() -> None:
    """Though it takes again at once: else what cannot be tried would go round and round."""
    world = World()
    park(world, 200, "a")

    async def life() -> None:
        limited = subscriber("a", rate_limit=50.0)
        rig = Rig(world, limited).start()
        await rig.until(lambda: len(rig.transport.attempts) >= 20)
        lanes = rig.dispatcher.lanes
        await rig.until(lambda: any(lane.depth for lane in lanes.queued))
        rig.change(subscriber("a", rate_limit=50.0, state="paused"))
        await rig.until(lambda: not any(lane.depth for lane in lanes.queued))
        put_back = rig.clock.now
        begun = len(rig.transport.attempts)
        rig.change(subscriber("a"))  # with no rate, all of it would be tried at once
        await rig.idle(REST - 0.1)
        assert len(rig.transport.attempts) == begun
        await rig.until(lambda: len(rig.transport.attempts) > begun, REST)
        assert rig.clock.now - put_back >= REST - 0.01  # of the look before
        await rig.until(lambda: not world.cursors)
        assert offsets(rig.transport.attempts) == list(range(200))

    world.live(life())


def test_a_buffer_of_which_nothing_can_be_begun_is_let_go_of() -> None:
    """Its bytes serve others; what was in it is read again when its receiver goes on."""
    world = World()
    park(world, 100, "a")

    async def life() -> None:
        limits = Limits(max_in_flight=2)
        rig = Rig(world, subscriber("a"), answers=None, limits=limits).start()
        await rig.until(lambda: len(rig.under_way) == 1)
        (size,) = {record.size for record in world.parked[:10]}
        await rig.until(lambda: rig.parking.held_bytes > 50 * size)
        await rig.idle(IDLE - 0.5)
        assert rig.parking.held_bytes > 50 * size
        await rig.until(lambda: rig.parking.held_bytes == size, 1.0)
        rig.transport.answers = OK
        rig.transport.end(rig.under_way[0], OK)
        await rig.until(lambda: not world.cursors)
        assert offsets(rig.transport.attempts) == list(range(100))
        assert rig.parking.held_bytes == 0

    world.live(life())


# --- counts ---


def test_a_cursor_is_written_after_a_thousand_deliveries_within_its_second() -> None:
    """At a high rate a second is many: so much a crash would repeat."""
    world = World()
    park(world, 2 * COUNT + 500, "a")
    stop = 2 * COUNT + 200

    async def answer(_: Attempt) -> Outcome:
        if len(rigs[0].transport.attempts) > stop:
            await asyncio.Event().wait()
        return OK

    rigs: list[Rig] = []

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=answer)
        rigs.append(rig)
        rig.start()
        await rig.until(lambda: len(rig.transport.attempts) >= stop)
        begun = rig.clock.now
        await rig.until(lambda: len(next_of(world, b"0/2/a")) >= 3, 0.5)
        assert rig.clock.now - begun < 0.5
        first, second, third = next_of(world, b"0/2/a")
        assert first == 0  # of the take-over
        assert COUNT - 256 <= second <= COUNT + 256  # less what is in flight
        assert 2 * COUNT - 256 <= third <= 2 * COUNT + 256

    world.live(life())


def test_a_count_that_ends_below_what_was_passed_over_is_not_believed() -> None:
    """A former owner passed over more and did not live to write how many: nobody counts them now.

    Else the receiver would be said to have less than there is, and what retention takes before it
    is drained would be counted short.
    """
    world = World()
    park(world, 10, "a")
    write_cursor(world, CursorKey(0, 9, "a"), Cursor(0, count=3, through=3))

    async def life() -> None:
        rig = Rig(world, subscriber("a", state="paused")).start()
        await rig.until(lambda: "0/10/a" in world.cursors)
        assert rig.parking.waiting["a"][1] is None
        assert "count" not in world.cursors["0/10/a"]
        await rig.until(lambda: list(world.cursors) == ["0/10/a"])
        rig.publish(count=2)
        await rig.until(lambda: rig.parked_committed == 12)
        assert rig.parking.waiting["a"][1] is None

    world.live(life())

    async def after() -> None:
        rig = Rig(world, subscriber("a"))
        rig.replay.low[PARKING] = 4
        rig.start()
        await rig.until(lambda: not world.cursors)
        assert rig.observer.named("lost_records") == [("thorn.parked", PARKING, 4)]
        assert len(rig.transport.attempts) == 8

    world.live(after())


def test_a_count_of_all_that_was_passed_over_is_believed() -> None:
    """Whoever takes over from an owner that wrote it last knows how many wait."""
    world = World()
    park(world, 10, "a")
    write_cursor(world, CursorKey(0, 9, "a"), Cursor(0, count=10, through=10))

    async def life() -> None:
        rig = Rig(world, subscriber("a", state="paused")).start()
        await rig.until(lambda: list(world.cursors) == ["0/10/a"])
        assert rig.parking.waiting["a"][1] == 10
        assert world.cursors["0/10/a"]["count"] == 10

    world.live(life())


# --- bytes ---


def test_what_is_read_to_be_drained_is_bounded_in_bytes() -> None:
    """Of all receivers together, what is in flight included: a sixteenth of the memory."""
    world = World()
    bound = 64 * 1024
    large = value(0)[:-2] + b',"text":"' + b"x" * 4000 + b'"}}'
    names = ["a", "b"]

    async def parking() -> None:
        rig = Rig(world, *(subscriber(name, state="paused") for name in names)).start()
        rig.publish(large, count=200)
        await rig.until(lambda: rig.parked_committed == 400)
        assert await rig.worker.drain(5.0)

    world.live(parking())
    size = max(record.size for record in world.parked)
    most = 0

    async def life() -> None:
        nonlocal most
        limits = Limits(memory=16 * bound)
        rig = Rig(world, *map(subscriber, names), limits=limits)

        async def slowly(_: Attempt) -> Outcome:
            nonlocal most
            await asyncio.sleep(0.01)
            most = max(most, rig.parking.held_bytes)
            return OK

        rig.transport.answers = slowly
        rig.start()
        await rig.until(lambda: not world.cursors, 600)
        slices = [ask for ask in rig.replay.asked if ask.partition == PARKING and ask.end]
        asked = [ask.size for ask in slices]
        assert max(asked) <= bound
        assert min(asked) > 0
        for name in names:
            assert offsets(rig.sent_to(f"http://{name}")) == list(range(200))

    world.live(life())
    assert bound // 2 < most <= bound + size  # a slice ends with the record that makes it full


# --- what Kafka refuses ---


def test_a_cursor_that_kafka_refused_is_written_again() -> None:
    """Until Kafka has it nothing is let go of; the drain and the commits go on afterwards."""
    world = World()
    park(world, 5, "a")
    world.topics[CURSORS].clear()  # as if nobody had read the parked ones yet
    world.parked_committed.clear()

    async def life() -> None:
        rig = Rig(world, subscriber("a", state="paused"))
        rig.sink.fail(3)
        rig.start()
        await rig.until(lambda: bool(rig.parking.reasons))
        assert rig.parked_committed == 0
        await rig.until(lambda: list(world.cursors) == ["0/1/a"])
        await rig.until(lambda: rig.parked_committed == 5)
        assert rig.parking.reasons == []
        refused = [call for call in rig.observer.named("handed_over") if call[1] is not None]
        assert len(refused) == 3

    world.live(life())


def test_what_follows_a_refused_cursor_is_written_after_it() -> None:
    """The later one must be the last; who waits for the refused one is told when it is there."""
    world = World()

    async def life() -> None:
        rig = Rig(world)
        writer, key = CursorWriter(rig.sink, CURSORS, rig.context), CursorKey(0, 1, "a")
        done: list[int] = []
        rig.sink.fail(2)
        writer.write(key, b"1", lambda: done.append(1))
        await rig.until(lambda: writer.error is not None)
        writer.write(key, b"2", lambda: done.append(2))
        writer.tick()
        assert rig.sink.under_way == 0  # not before its time

        def written() -> bool:
            writer.tick()
            return writer.idle

        await rig.until(written, 3.0)
        assert [record.value for record in world.topics[CURSORS]] == [b"1", b"2"]
        assert done == [1, 2]
        assert writer.error is None

    world.live(life())
