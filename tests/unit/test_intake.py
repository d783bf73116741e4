"""Intake: partitions come and go, credit goes back, commits are asked for."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from tests.support.dispatching import ORDERS, LoopClock, World, value
from thorn_stream.core.flow import Limits
from thorn_stream.core.ledger import Entry
from thorn_stream.core.records import Partition, Position, Record
from thorn_stream.core.schedule import Tiers
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.intake import Intake
from thorn_stream.ports import Assigned, Committed, Lost, LostRecords, Records, Revoked, Trouble
from thorn_stream.testing import MemorySource, RecordingObserver

OTHER = Partition("orders", 1)


class Counting(MemorySource):
    """Counts what was handed over and what credit came back, in records and bytes."""

    def __init__(self, partitions: Sequence[Partition], clock: LoopClock, records: int) -> None:
        super().__init__(partitions, records=records, clock=clock)
        self.given = (0, 0)
        self.calls: list[tuple[str, list[Partition]]] = []

    def credit(self, records: int, size: int) -> None:
        self.given = (self.given[0] + records, self.given[1] + size)
        super().credit(records, size)

    def pause(self, partitions: Sequence[Partition]) -> None:
        self.calls.append(("pause", list(partitions)))
        super().pause(partitions)

    def resume(self, partitions: Sequence[Partition]) -> None:
        self.calls.append(("resume", list(partitions)))
        super().resume(partitions)


class Desk:
    """An Intake whose Records are taken by the test: `entries`, by partition and offset."""

    def __init__(
        self,
        world: World,
        *partitions: Partition,
        limits: Limits | None = None,
        records: int = 1_000_000,
        done: bool = False,
    ) -> None:
        self.clock = world.clock
        self.source = Counting(partitions or (ORDERS,), world.clock, records)
        self.observer = RecordingObserver()
        self.taken: list[Record] = []
        self.entries: dict[tuple[int, int], Entry] = {}
        self.take: Callable[[Record, Entry], int] = self._done if done else self._keep
        context = Context(
            limits or Limits(), Tiers((5.0,)), world.clock, self.observer, lambda: 0.5
        )
        self.intake = Intake("thorn", self.source, self._taken, context)
        self.intake.start()
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            self.intake.tick()
            await asyncio.sleep(0.02)

    def _taken(self, record: Record, entry: Entry) -> int:
        return self.take(record, entry)

    def _keep(self, record: Record, entry: Entry) -> int:
        self.taken.append(record)
        self.entries[record.partition, record.offset] = entry
        return 1

    def _done(self, record: Record, entry: Entry) -> int:
        self.taken.append(record)
        entry.release()
        return 1

    def write(self, count: int, partition: Partition = ORDERS) -> None:
        for _ in range(count):
            self.source.publish(partition.topic, value(), partition=partition.number)

    def settle(self, *offsets: int, partition: int = 0) -> None:
        for offset in offsets:
            self.entries.pop((partition, offset)).release()

    async def idle(self, seconds: float = 0.1) -> None:
        await asyncio.sleep(seconds)

    def offsets(self, partition: int = 0) -> list[int]:
        return [record.offset for record in self.taken if record.partition == partition]

    @property
    def commits(self) -> list[int]:
        return [positions[ORDERS].offset for positions in self.source.commits]

    @property
    def given_back_for(self) -> int:
        return self.source.given[0]


# --- pauses --------------------------------------------------------------------------------------


def test_a_full_window_pauses_its_partition_and_half_of_it_resumes_it() -> None:
    """Paused once at the window, resumed once at half, the other partition read all along."""
    world = World()

    async def life() -> None:
        desk = Desk(world, ORDERS, OTHER, limits=Limits(window=10), records=10)
        desk.write(40)
        await desk.idle()
        assert desk.source.calls == [("pause", [ORDERS])]
        desk.source.credit(100, 0)
        desk.write(1, OTHER)
        await desk.idle()
        assert desk.offsets(1) == [0]
        assert desk.offsets() == list(range(10))
        desk.settle(*range(4))
        await desk.idle()
        assert desk.source.calls == [("pause", [ORDERS])]
        desk.settle(4)
        await desk.idle()
        assert desk.source.calls[:2] == [("pause", [ORDERS]), ("resume", [ORDERS])]
        assert desk.offsets()[10:12] == [10, 11]

    world.live(life())


def test_one_open_offset_alone_fills_the_window() -> None:
    """Depth counts from the oldest open offset, not how many are open."""
    world = World()

    async def life() -> None:
        desk = Desk(world, limits=Limits(window=10), records=10)
        desk.write(30)
        await desk.idle()
        desk.settle(*range(1, 10))
        await desk.idle()
        assert desk.source.paused == {ORDERS}
        desk.settle(0)
        await desk.idle()
        assert len(desk.taken) > 10

    world.live(life())


def test_a_full_look_ahead_pauses_and_half_of_it_resumes() -> None:
    """What is held counts apart from the window."""
    world = World()

    async def life() -> None:
        desk = Desk(world, limits=Limits(lookahead=4), records=4)

        def hold(record: Record, entry: Entry) -> int:
            entry.ledger.held += 1
            return desk._keep(record, entry)

        desk.take = hold
        desk.write(20)
        await desk.idle()
        assert desk.source.calls == [("pause", [ORDERS])]
        desk.source.credit(100, 0)
        ledger = desk.intake.ledgers[ORDERS]
        ledger.held = 3
        await desk.idle()
        assert len(desk.taken) == 4
        ledger.held = 2
        await desk.idle()
        assert desk.source.calls[1] == ("resume", [ORDERS])
        assert len(desk.taken) > 4

    world.live(life())


def test_records_are_taken_in_slices_between_which_others_have_their_turn() -> None:
    """Not more than a slice in one round of the loop, whatever a batch holds."""
    world = World()

    async def life() -> None:
        desk = Desk(world, done=True)
        rounds: dict[int, int] = {}

        def take(record: Record, entry: Entry) -> int:
            rounds[desk.clock.rounds] = rounds.get(desk.clock.rounds, 0) + 1
            return desk._done(record, entry)

        desk.take = take
        desk.write(500)
        await desk.idle(1)
        assert len(desk.taken) == 500
        assert max(rounds.values()) <= 64

    world.live(life())


def test_held_back_nothing_is_taken_and_nothing_spins() -> None:
    """Looked at every few milliseconds; afterwards everything is taken, in order."""
    world = World()

    async def life() -> None:
        desk = Desk(world, done=True)
        asked = 0

        def hold_back() -> bool:
            nonlocal asked
            asked += 1
            return desk.clock.now < 1.0

        desk.intake.hold_back = hold_back
        desk.write(5)
        await desk.idle(0.99)
        assert desk.taken == []
        assert 300 < asked < 1000
        desk.write(5)
        await desk.idle(1)
        assert desk.offsets() == list(range(10))

    world.live(life())


def test_nothing_spins_when_there_is_nothing_to_do() -> None:
    """A full window costs the tick alone."""
    world = World()

    async def life() -> None:
        desk = Desk(world, limits=Limits(window=5), records=20)
        desk.write(100)
        await desk.idle(1)
        before = desk.clock.rounds
        await desk.idle(1)
        assert desk.clock.rounds - before < 120

    world.live(life())


# --- credit --------------------------------------------------------------------------------------


def test_credit_comes_back_once_for_every_record_whatever_became_of_it() -> None:
    """Settled, repeated, of unknown partitions, revoked, lost, or never begun: the sum adds up."""
    world = World()

    async def life() -> None:
        desk = Desk(world, ORDERS, OTHER)
        told = 0
        size = 0

        def tell(partition: Partition, offsets: Sequence[int]) -> None:
            nonlocal told, size
            made = [Record(*partition, each, None, value(), [], 0) for each in offsets]
            told, size = told + len(made), size + sum(each.size for each in made)
            desk.source.tell(Records(made))

        await desk.idle()
        tell(ORDERS, range(200))
        tell(ORDERS, [3, 4])  # once more
        tell(OTHER, range(10, 100, 3))  # with gaps
        tell(Partition("foreign", 0), range(5))
        await desk.idle()
        desk.settle(0, 2, 4, 6)  # out of order
        tell(ORDERS, range(200, 400))
        await asyncio.sleep(0)  # of these some are in the backlog still
        assert await desk.source.revoke(ORDERS)
        tell(ORDERS, [400])  # too late
        desk.source.assign(ORDERS)
        tell(ORDERS, range(300))
        await asyncio.sleep(0)
        desk.source.lose(ORDERS, OTHER)
        tell(OTHER, [1000])
        await desk.idle()
        assert desk.source.given == (told, size)
        assert desk.intake.open_bytes == 0
        for entry in list(desk.entries.values()):
            entry.release()  # late, of assignments that are over
        await desk.idle()
        assert desk.source.given == (told, size)

    world.live(life())


def test_what_is_open_is_what_credit_has_not_come_back_for() -> None:
    """`open_bytes` counts what was begun and has not settled."""
    world = World()

    async def life() -> None:
        desk = Desk(world)
        desk.write(3)
        await desk.idle()
        size = desk.taken[0].size
        assert desk.intake.open_bytes == 3 * size
        desk.settle(1)
        assert desk.intake.open_bytes == 2 * size
        await desk.idle()
        assert desk.source.given == (1, size)

    world.live(life())


# --- commits -------------------------------------------------------------------------------------


def test_one_commit_is_under_way_at_a_time() -> None:
    """What moves meanwhile is in the next one, which is sent after the answer."""
    world = World()

    async def life() -> None:
        desk = Desk(world)
        desk.source.hold_commits = True
        desk.write(10)
        await desk.idle()
        desk.settle(0)
        await desk.idle(1)
        desk.settle(1, 2)
        await desk.idle(1)
        assert desk.commits == [1]
        desk.source.answer_commits()
        await desk.idle(1)
        assert desk.commits == [1, 3]
        assert desk.observer.named("committed") == [("thorn", None)]

    world.live(life())


def test_a_commit_follows_after_its_interval_or_its_number() -> None:
    """Not before either; and none when nothing has moved."""
    world = World()

    async def life() -> None:
        limits = Limits(commit_interval=10.0, commit_count=100)
        desk = Desk(world, limits=limits)
        await desk.idle(10)  # the first interval is over, with nothing to say
        desk.write(1000)
        await desk.idle(1)
        desk.settle(*range(99))
        await desk.idle(1)
        assert desk.commits == []
        desk.settle(99)
        await desk.idle(0.1)
        assert desk.commits == [100]
        desk.settle(101)  # 100 is open
        await desk.idle(20)
        assert desk.commits == [100, 100]
        desk.settle(100)
        await desk.idle(10.1)
        assert desk.commits == [100, 100, 102]
        await desk.idle(60)
        assert desk.commits == [100, 100, 102]

    world.live(life())


def test_more_done_above_the_same_offset_is_committed_in_hundreds_or_each_second() -> None:
    """A head that stands long does not make each interval send what changes little."""
    world = World()

    async def life() -> None:
        desk = Desk(world)
        desk.write(1000)
        await desk.idle(2)
        desk.settle(1)
        await desk.idle(0.21)
        first = len(desk.commits)
        for number in range(2, 101):
            desk.settle(number)
            await desk.idle(0.001)
        await desk.idle(0.25)
        desk.settle(*range(101, 201))
        await desk.idle(0.25)
        many = len(desk.commits)
        assert many > first
        desk.settle(201)
        await desk.idle(1.25)
        assert len(desk.commits) == many + 1
        await desk.idle(5)
        assert len(desk.commits) == many + 1
        assert set(desk.commits) == {0}

    world.live(life())


def test_the_next_owner_is_given_only_what_was_not_done() -> None:
    """What the commit calls done is passed over and its credit given back, crash after crash."""
    world = World()
    committed: dict[Partition, Position] = {}
    given: list[list[int]] = []

    async def life(*settles: int) -> None:
        desk = Desk(world)
        desk.source.committed = committed
        desk.source.assign(ORDERS)
        desk.write(10)
        await desk.idle()
        given.append(desk.offsets())
        desk.settle(*settles)
        await desk.idle(2)
        assert desk.given_back_for == 10 - len(desk.entries)
        assert not desk.observer.named("ignored")

    world.live(life(0, 2, 3, 7))
    world.live(life(4, 9))
    world.live(life(1, 5))
    world.live(life(6, 8))
    assert given == [list(range(10)), [1, 4, 5, 6, 8, 9], [1, 5, 6, 8], [6, 8]]
    assert committed == {ORDERS: Position(10)}


@pytest.mark.parametrize("metadata", ["somebody else's", "v1:", "v1:AAAA", "v2:é", "{}"])
def test_metadata_of_somebody_else_is_ignored_and_counted(metadata: str) -> None:
    """Everything above the committed offset is delivered then."""
    world = World()

    async def life() -> None:
        desk = Desk(world)
        desk.source.committed[ORDERS] = Position(1, metadata)
        desk.source.assign(ORDERS)
        desk.write(5)
        await desk.idle()
        assert desk.offsets() == [1, 2, 3, 4]
        assert desk.observer.named("ignored") == [("metadata",)]

    world.live(life())


def test_metadata_that_kafka_finds_too_long_is_left_out_at_once() -> None:
    """The offset is committed without waiting; from then on the metadata is shorter."""
    world = World()

    async def life() -> None:
        desk = Desk(world, limits=Limits(commit_interval=10.0))
        source = desk.source
        source.hold_commits = True
        desk.write(2000)
        await desk.idle(10)
        desk.settle(0, *range(2, 2000, 2))
        await desk.idle(11)
        (asked,) = source.commits
        assert len(asked[ORDERS].metadata) > 300
        source.refuse = "OFFSET_METADATA_TOO_LARGE: Broker: Offset metadata string too large"
        source.answer_commits()
        await desk.idle(0.01)
        assert source.commits[1:] == [{ORDERS: Position(1)}]
        assert desk.observer.named("ignored") == [("metadata",)]
        source.refuse = None
        source.answer_commits()
        await desk.idle(11)
        assert source.committed[ORDERS] == Position(1)
        again = source.commits[2][ORDERS]
        assert again.offset == 1
        assert 0 < len(again.metadata) <= len(asked[ORDERS].metadata) * 3 / 4

    world.live(life())


def test_a_refused_commit_is_sent_again_until_it_is_accepted() -> None:
    """At the interval, and told each time."""
    world = World()

    async def life() -> None:
        desk = Desk(world, done=True)
        desk.source.refuse = "Broker: Group coordinator not available"
        desk.write(5)
        await desk.idle(2)
        refused = len(desk.commits)
        assert set(desk.commits) == {5}
        assert 5 <= refused <= 11
        waits = desk.intake.uncommitted
        assert waits
        desk.source.refuse = None
        await desk.idle(1)
        assert len(desk.commits) == refused + 1
        assert not desk.intake.uncommitted
        results = [error for _, error in desk.observer.named("committed")]
        assert results == ["Broker: Group coordinator not available"] * refused + [None]

    world.live(life())


def test_a_commit_that_is_answered_in_parts_is_under_way_until_the_last() -> None:
    """One partition refused at once, the other answered later."""
    world = World()

    async def life() -> None:
        desk = Desk(world, ORDERS, OTHER)
        desk.source.hold_commits = True
        desk.write(2)
        desk.write(2, OTHER)
        await desk.idle()
        desk.settle(0)
        desk.settle(0, partition=1)
        await desk.idle(1)
        desk.source.tell(Committed({OTHER: Position(1)}, {OTHER: "not assigned any more"}))
        await desk.idle(1)
        assert len(desk.source.commits) == 1
        desk.source.tell(Committed({ORDERS: Position(1)}, {ORDERS: None}))
        await desk.idle(1)
        assert desk.source.commits[1:] == [{OTHER: Position(1)}]

    world.live(life())


def test_a_commit_without_an_answer_is_sent_again_and_told() -> None:
    """After half a minute; the time without an answer is counted from the first."""
    world = World()

    async def life() -> None:
        desk = Desk(world, done=True)
        desk.source.hold_commits = True
        desk.write(1)
        await desk.idle(29)
        assert desk.commits == [1]
        assert 28 < desk.intake.commit_unanswered <= 29
        await desk.idle(2)
        assert desk.commits == [1, 1]
        assert desk.intake.commit_unanswered > 30
        desk.source.answer_commits()
        await desk.idle(1)
        assert desk.intake.commit_unanswered == 0.0
        assert desk.commits == [1, 1]

    world.live(life())


def test_an_answer_to_an_older_commit_is_no_answer_to_the_one_under_way() -> None:
    """What only the second asked for is not taken for committed."""
    world = World()

    async def life() -> None:
        desk = Desk(world)
        desk.source.hold_commits = True
        desk.write(5)
        await desk.idle()
        desk.settle(0)
        await desk.idle(5)
        desk.settle(1)
        await desk.idle(30)
        assert desk.commits == [1, 2]
        desk.source.tell(Committed({ORDERS: Position(1)}, {ORDERS: None}))
        await desk.idle(1)
        assert desk.intake.uncommitted
        assert desk.commits == [1, 2]  # it is under way
        desk.source.tell(Committed({ORDERS: Position(2)}, {ORDERS: "Broker: not now"}))
        await desk.idle(1)
        assert desk.commits == [1, 2, 2]

    world.live(life())


def test_no_commit_is_missed_when_its_partition_has_gone() -> None:
    """A commit whose partitions are all lost is waited for no longer."""
    world = World()

    async def life() -> None:
        desk = Desk(world, done=True)
        desk.source.hold_commits = True
        desk.write(1)
        await desk.idle(1)
        desk.source.lose(ORDERS)
        await desk.idle(100)
        assert desk.intake.commit_unanswered == 0.0

    world.live(life())


# --- partitions that go --------------------------------------------------------------------------


def test_a_revocation_waits_for_what_is_under_way_and_begins_nothing_new() -> None:
    """The answer says where the next owner begins, after all that has ended by then."""
    world = World()

    async def life() -> None:
        desk = Desk(world)
        desk.write(3)
        await desk.idle()
        ledger = desk.intake.ledgers[ORDERS]
        ledger.busy = 2
        revoked = asyncio.ensure_future(desk.source.revoke(ORDERS))
        await desk.idle()
        desk.source.tell(Records([Record("orders", 0, 3, None, value(), [], 0)]))
        await desk.idle()
        assert not revoked.done()
        assert len(desk.taken) == 3
        desk.settle(0, 1)
        ledger.busy = 0
        await desk.idle()
        assert await revoked
        assert desk.source.committed == {ORDERS: Position(2)}
        assert desk.clock.now < 1
        assert desk.intake.ledgers == {}
        assert desk.observer.named("unassigned") == [("thorn", (ORDERS,), False)]

    world.live(life())


def test_a_revocation_is_answered_in_time_though_something_hangs() -> None:
    """After 1.8 s, before the source gives up at 2 s; what hangs comes late and changes nothing."""
    world = World()

    async def life() -> None:
        desk = Desk(world)
        desk.write(2)
        await desk.idle()
        desk.intake.ledgers[ORDERS].busy = 1
        desk.settle(0)
        before = desk.clock.now
        assert await desk.source.revoke(ORDERS)
        assert 1.8 <= desk.clock.now - before < 1.9
        assert desk.source.committed == {ORDERS: Position(1)}
        desk.settle(1)
        await desk.idle(1)
        assert desk.source.committed == {ORDERS: Position(1)}

    world.live(life())


def test_a_partition_that_is_about_to_go_is_not_resumed() -> None:
    """Paused with a full window, and emptied while its revocation waits."""
    world = World()

    async def life() -> None:
        desk = Desk(world, limits=Limits(window=10), records=10)
        desk.write(10)
        await desk.idle()
        desk.intake.ledgers[ORDERS].busy = 1
        revoked = asyncio.ensure_future(desk.source.revoke(ORDERS))
        await desk.idle()
        desk.settle(*range(10))
        assert await revoked
        assert desk.source.calls == [("pause", [ORDERS])]

    world.live(life())


def test_revoked_partitions_leave_the_others_alone() -> None:
    """Of two, one goes; the other is read, settled and committed on."""
    world = World()

    async def life() -> None:
        desk = Desk(world, ORDERS, OTHER)
        desk.write(2)
        desk.write(2, OTHER)
        await desk.idle()
        assert await desk.source.revoke(OTHER)
        desk.settle(0, 1)
        desk.settle(0, partition=1)
        await desk.idle(1)
        assert desk.source.committed == {ORDERS: Position(2)}

    world.live(life())


def test_a_lost_partition_is_never_committed() -> None:
    """Neither what had settled before nor what settles afterwards."""
    world = World()

    async def life() -> None:
        desk = Desk(world, limits=Limits(commit_interval=5.0))
        await desk.idle(5)
        desk.write(2)
        await desk.idle(0.5)
        desk.settle(0)
        desk.source.lose(ORDERS)
        await desk.idle()
        desk.settle(1)
        await desk.idle(20)
        assert desk.source.commits == []
        assert desk.observer.named("unassigned") == [("thorn", (ORDERS,), True)]

    world.live(life())


@pytest.mark.parametrize("told", ["lost", "revoked", "assigned anew"])
def test_records_of_one_assignment_never_enter_the_next(told: str) -> None:
    """What was in the backlog when a partition went does not make the earlier ones look done."""
    world = World()

    async def life() -> None:
        desk = Desk(world, limits=Limits(commit_interval=0.01))
        desk.write(300)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert 0 < len(desk.taken) < 300
        if told == "lost":
            desk.source.lose(ORDERS)
        elif told == "revoked":
            assert await desk.source.revoke(ORDERS)
        desk.source.assign(ORDERS)
        first = len(desk.taken)
        for entry in list(desk.entries.values()):
            entry.release()
        await desk.idle()
        assert desk.source.committed == {}
        assert desk.offsets()[-300:] == list(range(300))
        assert len(desk.taken) <= first + 64 + 300
        desk.settle(*range(300))
        await desk.idle()
        assert desk.source.committed == {ORDERS: Position(300)}

    world.live(life())


def test_a_revocation_that_waits_does_not_end_the_assignment_after_it() -> None:
    """Revoked and assigned again before the answer: the new Ledger stays, and is committed."""
    world = World()

    async def life() -> None:
        desk = Desk(world)
        desk.write(4)
        await desk.idle()
        desk.intake.ledgers[ORDERS].busy = 1
        desk.settle(0)
        answers: list[Mapping[Partition, Position]] = []
        desk.source.tell(Revoked([ORDERS], answers.append))
        await desk.idle()
        desk.source.assign(ORDERS)
        await desk.idle()
        assert answers == [{}]  # at once: nothing of that assignment is waited for any more
        await desk.idle(5)
        assert desk.offsets() == [0, 1, 2, 3] * 2
        desk.settle(*range(4))
        await desk.idle(1)
        assert desk.commits[-1] == 4
        assert not desk.intake.uncommitted

    world.live(life())


def test_an_answer_to_the_commit_of_an_earlier_assignment_counts_for_that_alone() -> None:
    """The new assignment begins clean: it commits what it has, whatever was asked before."""
    world = World()

    async def life() -> None:
        desk = Desk(world)
        desk.source.hold_commits = True
        desk.write(10)
        await desk.idle()
        desk.settle(*range(8))
        await desk.idle(1)
        assert desk.commits == [8]
        desk.source.lose(ORDERS)
        desk.source.assign(ORDERS)
        await desk.idle()
        desk.source.tell(Committed({ORDERS: Position(8)}, {ORDERS: None}))
        desk.source.hold_commits = False
        desk.settle(*range(5))
        await desk.idle(2)
        assert desk.commits == [8, 5]
        assert not desk.intake.uncommitted

    world.live(life())


def test_records_of_unknown_partitions_are_passed_over() -> None:
    """Never taken, never committed, credit returned."""
    world = World()

    async def life() -> None:
        desk = Desk(world)
        await desk.idle()
        desk.source.tell(Records([Record("else", 0, 0, None, value(), [], 0)]))
        await desk.idle(1)
        assert desk.taken == []
        assert desk.source.commits == []
        assert desk.given_back_for == 1

    world.live(life())


def test_gaps_between_offsets_are_not_waited_for() -> None:
    """Compacted or transactional topics: what does not come is done."""
    world = World()

    async def life() -> None:
        desk = Desk(world, done=True)
        desk.source.feed([Record("orders", 0, each, None, value(), [], 0) for each in (7, 9, 20)])
        await desk.idle(1)
        assert desk.source.committed == {ORDERS: Position(21)}

    world.live(life())


def test_what_has_gone_is_told_to_whoever_holds_something_of_it() -> None:
    """`forgot` comes after the Ledgers are closed, for revoked, lost and newly assigned ones."""
    world = World()

    async def life() -> None:
        desk = Desk(world)
        forgotten: list[Mapping[Partition, object]] = []
        desk.intake.forgot = lambda: forgotten.append(dict(desk.intake.ledgers))
        await desk.idle()
        assert await desk.source.revoke(ORDERS)
        assert forgotten == [{}]
        desk.source.assign(ORDERS)
        await desk.idle()
        desk.source.lose(ORDERS)
        await desk.idle()
        assert forgotten[-1] == {}
        assert len(forgotten) == 2

    world.live(life())


# --- the rest ------------------------------------------------------------------------------------


def test_stopped_it_takes_nothing_more_and_goes_on_committing() -> None:
    """Paused, backlog forgotten; what is assigned later is paused at once."""
    world = World()

    async def life() -> None:
        limits = Limits(commit_interval=60.0)
        desk = Desk(world, limits=limits)
        desk.write(300)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        desk.intake.stop_taking()
        begun = len(desk.taken)
        assert 0 < begun < 300
        await desk.idle(1)
        desk.source.assign(OTHER)
        desk.write(5, OTHER)
        await desk.idle(1)
        assert len(desk.taken) == begun
        assert desk.source.paused == {ORDERS, OTHER}
        desk.settle(0, 1)
        await desk.idle(0.5)
        assert desk.source.committed == {ORDERS: Position(2)}

    world.live(life())


def test_a_fault_while_a_record_is_taken_stops_neither_the_others_nor_loses_it() -> None:
    """The others are taken and settled; the offset stays uncommitted; the fault is said."""
    world = World()

    async def life() -> None:
        desk = Desk(world)

        def take(record: Record, entry: Entry) -> int:
            if record.offset == 2:
                raise ZeroDivisionError("secret")
            return desk._done(record, entry)

        desk.take = take
        desk.write(200)
        await desk.idle(1)
        assert len(desk.taken) == 199
        assert desk.source.committed[ORDERS].offset == 2
        (trouble,) = desk.intake.troubles.values()
        assert trouble.text is not None
        assert trouble.text.startswith("orders:0:2: ZeroDivisionError")
        assert "secret" not in trouble.text
        assert len(world.faults) == 1
        world.faults.clear()

    world.live(life())


def test_troubles_are_kept_until_they_are_over() -> None:
    """By key; each is told to the observer, its end as well."""
    world = World()

    async def life() -> None:
        desk = Desk(world)
        first, second = Trouble("login", "refused"), Trouble("topic:a", "missing")
        over = Trouble("login", None)
        desk.source.tell(first)
        desk.source.tell(second)
        desk.source.tell(over)
        desk.source.tell(Trouble("never:there", None))
        await desk.idle()
        assert desk.intake.troubles == {"topic:a": second}
        assert len(desk.observer.named("trouble")) == 4

    world.live(life())


def test_joined_lost_records_and_counts_are_told() -> None:
    """Joined with the first assignment, even an empty one; counts by topic."""
    world = World()

    async def life() -> None:
        desk = Desk(world)
        before = desk.intake.joined
        assert not before
        desk.source.tell(Assigned({}))
        desk.source.tell(Lost([OTHER]))
        desk.source.tell(LostRecords(ORDERS, 7))
        desk.write(3)
        await desk.idle()
        assert desk.intake.joined
        assert desk.observer.named("lost_records") == [("thorn", ORDERS, 7)]
        assert desk.observer.named("consumed") == [("thorn", "orders", 3)]

    world.live(life())
