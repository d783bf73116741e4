"""The parked topic deleted and made anew: cursors of the old one hide nothing of the new one."""

import asyncio

from tests.support.dispatching import CURSORS, PARKED, PARKING, Rig, World, subscriber
from tests.unit.test_parked import offsets, park, write_cursor
from thorn_stream.core.cursors import Cursor, CursorKey


def made_anew(world: World) -> None:
    """Kafka forgets what groups have committed of a topic that is deleted."""
    world.topics[CURSORS].clear()
    world.parked_committed.clear()


def test_a_topic_that_has_grown_beyond_an_old_cursor_is_drained_from_its_beginning() -> None:
    """Offsets below it are others now; what the old topic still held is counted as lost."""
    world = World()
    park(world, 7, "a", "b")
    made_anew(world)
    write_cursor(world, CursorKey(0, 9, "a"), Cursor(5, count=4, through=9, topic="one"))
    write_cursor(world, CursorKey(0, 9, "b"), Cursor(2, topic="one"))  # knows no count

    async def life() -> None:
        rig = Rig(world, subscriber("a"), subscriber("b"))
        rig.replay.ids[PARKED] = "two"
        rig.start()
        await rig.until(lambda: len(rig.transport.attempts) >= 14)
        await rig.until(lambda: not world.cursors)
        for name in ("a", "b"):
            assert offsets(rig.sent_to(f"http://{name}")) == list(range(7))
        assert rig.observer.named("lost_records") == [("thorn.parked", PARKING, 4 + 1)]
        await rig.until(lambda: rig.parked_committed == 14)

    world.live(life())
    assert world.dead == []


def test_what_is_gone_is_counted_once_though_a_takeover_was_cut_short() -> None:
    """It ended before Kafka had taken its epoch: the next one finds the same, and tells of it."""
    world = World()
    park(world, 3, "a")
    made_anew(world)
    write_cursor(world, CursorKey(0, 9, "a"), Cursor(5, count=4, through=9, topic="one"))

    def begin() -> Rig:
        rig = Rig(world, subscriber("a"))
        rig.replay.ids[PARKED] = "two"
        return rig

    async def cut_short() -> None:
        rig = begin()
        rig.parked.hold_commits = True
        rig.start()
        await rig.until(lambda: any("epoch=10" in text for text in notes_of(rig)))
        assert rig.observer.named("lost_records") == []
        assert rig.transport.attempts == []

    async def whole() -> None:
        rig = begin().start()
        await rig.until(lambda: rig.parked_committed == 3)
        assert rig.observer.named("lost_records") == [("thorn.parked", PARKING, 4)]
        assert offsets(rig.transport.attempts) == [0, 1, 2]

    world.live(cut_short())
    world.live(whole())


def notes_of(rig: Rig) -> list[str]:
    """What was told with each commit of the parked partition that was asked for."""
    return [commit[PARKING].metadata for commit in rig.parked.commits if PARKING in commit]


def test_a_topic_that_is_made_anew_under_a_running_dispatcher_is_asked_again() -> None:
    """What it knew of the old one is over with the assignment."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("b", state="paused"), subscriber("a", state="paused"))
        rig.replay.ids[PARKED] = "one"
        rig.start()
        rig.publish(count=5)
        await rig.until(lambda: rig.parked_committed == 10)
        await rig.until(lambda: [told["count"] for told in world.cursors.values()] == [5, 5])
        assert [told["topic"] for told in world.cursors.values()] == ["one", "one"]
        kept = world.parked[:]
        rig.parked.lose(PARKING)
        world.parked_committed.clear()
        world.parked.clear()
        world.parked.extend(kept)  # as many as there were: no cursor stands beyond the end
        rig.replay.ids[PARKED] = "two"
        rig.parked.assign(PARKING)
        await rig.until(lambda: set(world.cursors) == {"0/2/a", "0/2/b"})
        await rig.until(lambda: rig.parked_committed == 10)
        assert [told["topic"] for told in world.cursors.values()] == ["two", "two"]
        assert rig.observer.named("lost_records") == [("thorn.parked", PARKING, 10)]
        assert rig.parking.waiting["a"][1] == 5

    world.live(life())


def test_a_cursor_of_the_topic_as_it_is_holds() -> None:
    """Its next owner goes on from there, and says of which topic it is."""
    world = World()
    park(world, 7, "a", "b")
    for name in ("a", "b"):
        write_cursor(world, CursorKey(0, 9, name), Cursor(4, topic="one" if name == "a" else ""))

    async def life() -> None:
        rig = Rig(world, subscriber("a"), subscriber("b", state="paused"))
        rig.replay.ids[PARKED] = "one"
        rig.start()
        await rig.until(lambda: list(world.cursors) == ["0/10/b"])
        assert world.cursors["0/10/b"]["topic"] == "one"  # an older version had not said so
        assert [each.delivery.entry.offset for each in rig.sent_to("http://a")] == [4, 6, 8, 10, 12]
        assert rig.observer.named("lost_records") == []

    world.live(life())


def test_where_kafka_tells_no_id_a_cursor_keeps_the_one_it_had() -> None:
    """A broker may tell it again later."""
    world = World()
    park(world, 7, "a")
    write_cursor(world, CursorKey(0, 9, "a"), Cursor(4, topic="one"))

    async def life() -> None:
        rig = Rig(world, subscriber("a", state="paused")).start()
        await rig.until(lambda: list(world.cursors) == ["0/10/a"])
        assert world.cursors["0/10/a"]["topic"] == "one"

    world.live(life())


def test_a_topic_that_was_copied_with_its_offsets_is_drained_from_its_cursors() -> None:
    """Its id is another, its commits say that what was passed over does not come again."""
    world = World()
    park(world, 7, "a")
    write_cursor(world, CursorKey(0, 9, "a"), Cursor(4, count=3, through=7, topic="one"))

    async def life() -> None:
        rig = Rig(world, subscriber("a"))
        rig.replay.ids[PARKED] = "two"
        rig.start()
        await rig.until(lambda: not world.cursors)
        assert offsets(rig.transport.attempts) == [4, 5, 6]
        assert rig.observer.named("lost_records") == []

    world.live(life())


def test_nothing_is_taken_before_the_topic_is_known_for_the_one_it_is() -> None:
    """While Kafka does not answer that is said, and it is asked again."""
    world = World()
    park(world, 7, "a")
    write_cursor(world, CursorKey(0, 9, "a"), Cursor(4, topic="one"))

    async def life() -> None:
        rig = Rig(world, subscriber("a"))
        rig.replay.ids[PARKED] = "one"
        rig.replay.hold = True
        rig.start()
        await rig.until(lambda: len(rig.replay.asked) == 1)
        rig.replay.release()
        await asyncio.sleep(0)  # the cursors are read
        assert [ask.identify for ask in rig.replay.asked] == [False, True]
        rig.replay.refuse = "no answer"
        await rig.idle(5.0)
        assert rig.transport.attempts == []
        assert any("no answer" in reason for reason in rig.worker.reasons())
        rig.replay.refuse = None
        await rig.until(lambda: not world.cursors)
        assert offsets(rig.transport.attempts) == [4, 5, 6]
        assert rig.worker.reasons() == []

    world.live(life())
