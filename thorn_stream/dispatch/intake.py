"""Intake: what one Source reads, with a Ledger for each partition that is ours.

Takes Records a few at a time, so that answers are read in between; pauses and resumes partitions;
commits; and follows the group as partitions come and go.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final

from thorn_stream.core import notes, offsets
from thorn_stream.core.flow import (
    STALL,
    Hold,
    should_pause,
    should_resume,
    stalled,
)
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Partition, Position, Record
from thorn_stream.dispatch.commits import Commits
from thorn_stream.dispatch.context import Context
from thorn_stream.ports import (
    Assigned,
    Committed,
    Lost,
    LostRecords,
    Records,
    Revoked,
    Source,
    SourceEvent,
    Trouble,
)

__all__ = ["Intake"]

_SLICE: Final = 64
"""Deliveries begun before the loop looks at sockets again. Receivers that are as fast as we are
answer in the meantime, so their Lanes never fill because of us."""
_PAUSE: Final = 0.002
"""Seconds until intake that was held back looks again."""
_REVOKE_WITHIN: Final = 1.8
_HELD: Final = (
    "no sign of life between this process and Kafka for more than {:.3g} s: "
    "nothing new is delivered until Kafka takes a commit"
)


class Intake:
    """One consumer group handle.

    `take(record, entry)` begins a Record's work and returns how many Deliveries that was.
    `hold_back` says that nothing more should be taken just now, `forgot` that partitions are gone;
    `look` is called before anything is begun: whoever it is looks for a stall. `assigned` is told
    of each new Ledger before anything enters it: its `note` is what the last commit told. `leaving`
    is called when Ledgers have begun to drain: what is queued for them can still be parked.
    `under_way(ledger, left)` says whether more than the Ledger knows is to end before a partition
    is given away, `left` seconds before it is in any case.
    """

    def __init__(
        self,
        group: str,
        source: Source,
        take: Callable[[Record, Entry], int],
        context: Context,
    ) -> None:
        self.group = group
        self.ledgers: dict[Partition, Ledger] = {}
        self.troubles: dict[str, Trouble] = {}
        self.joined = False
        self.taking = True
        self.hold_back: Callable[[], bool] = lambda: False
        self.forgot: Callable[[], None] = lambda: None
        self.look: Callable[[], None] = lambda: None
        self.leaving: Callable[[], None] = lambda: None
        self.assigned: Callable[[Ledger], None] = lambda _: None
        self.under_way: Callable[[Ledger, float], bool] = lambda _, __: False
        self._source = source
        self._take = take
        self._context = context
        self._limits = context.limits
        self._observer = context.observer
        self._backlog: deque[Record] = deque()
        self._scheduled = False
        self._entered: dict[Ledger, None] = {}  # of the present slice
        self._entered_bytes = 0
        self._tally = Tally()
        self._given_back = Tally()
        self._paused: dict[Partition, None] = {}  # in the order of pausing
        self._withheld: set[Partition] = set()
        self._revoking: list[tuple[Revoked, list[Ledger], float]] = []
        self._commits = Commits(source, self.ledgers, self._tally, context)
        self._commits.accepted = self._commit_accepted

    def start(self) -> None:
        self._source.start(self.handle)

    # --- what the Source says ------------------------------------------------------------------

    def handle(self, events: Sequence[SourceEvent]) -> None:
        """Take in one batch of what the Source has learnt, in its order."""
        self.look()
        for event in events:
            match event:
                case Records():
                    self._received(event.records)
                case Assigned():
                    self._assigned(event.positions)
                case Revoked():
                    self._revoked(event)
                case Lost():
                    self._lost(event.partitions)
                case Committed():
                    self._answered(event)
                case LostRecords():
                    self._observer.lost_records(self.group, event.partition, event.count)
                case Trouble():
                    self._trouble(event)
        if not self._scheduled:
            self._pump()

    def _received(self, records: Sequence[Record]) -> None:
        self._backlog.extend(records)
        for topic, count in Counter([record.topic for record in records]).items():
            self._observer.consumed(self.group, topic, count)

    def _pump(self) -> None:
        """Take one slice of Records, and come back for the rest when sockets have had a turn."""
        self._scheduled = False
        self.look()
        backlog = self._backlog
        room = _SLICE
        while backlog and room > 0 and self.taking and not self.hold.on:
            if self.hold_back():
                self._scheduled = True
                asyncio.get_running_loop().call_later(_PAUSE, self._pump)
                break
            room -= 1 + self._enter(backlog.popleft())
        self._pause_what_is_full()
        if self._scheduled:
            return
        self.give_back()
        if backlog and self.taking and not self.hold.on:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _enter(self, record: Record) -> int:
        """Into its Ledger, and to work; nothing of an assignment that is over, nothing twice."""
        size = record.size
        self._entered_bytes += size
        # a plain tuple is found like the Partition it equals, and made in a third of the time
        place: Any = (record.topic, record.partition)
        ledger = self.ledgers.get(place)
        entry = None
        if ledger is not None and not ledger.draining:
            entry = ledger.enter(record.offset, size)
        if entry is None or ledger is None:
            self._tally.records += 1
            self._tally.size += size
            return 0
        try:
            begun = self._take(record, entry)
        except Exception as error:  # noqa: BLE001 - others go on; this one is never committed
            self._broken(record, error)
            begun = 0
        self._entered[ledger] = None
        return begun

    def _pause_what_is_full(self) -> None:
        """Looked at once for each slice: what a slice is too much, the spare room is for."""
        for ledger in self._entered:
            full = should_pause(
                ledger.depth, ledger.open, ledger.held, self._limits, len(ledger.note)
            )
            if full or self._takes_too_much(ledger):
                self._pause(ledger.partition)
        self._entered.clear()

    def _broken(self, record: Record, error: Exception) -> None:
        """A fault of ours: the Record stays open, so nothing is lost; and it is said."""
        what = type(error).__name__
        text = f"{record.origin}: {what}, a fault in thorn_stream: see the log, report it, restart"
        self._trouble(Trouble("fault", text))
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": f"taking {record.origin}", "exception": error})

    # --- whose partitions ----------------------------------------------------------------------

    def _assigned(self, positions: Mapping[Partition, Position]) -> None:
        self.joined = True
        self._drop_from_backlog(positions)
        for partition, position in positions.items():
            self._forget(self.ledgers.get(partition))
            text, note = notes.split(position.metadata)
            known = offsets.decode(text, position.offset)
            if known is None:
                self._observer.ignored("metadata")
                note = ""
            self.ledgers[partition] = ledger = Ledger(
                partition, position.offset, self._limits.window, self._tally, known, note
            )
            self.assigned(ledger)
        if not self.taking:
            self._paused.update(dict.fromkeys(positions))
            self._source.pause(list(positions))
        self._observer.assigned(self.group, list(positions))

    def _revoked(self, event: Revoked) -> None:
        """Begin nothing new for these; answer when what is under way has ended, or time is up."""
        ours = [self.ledgers[p] for p in event.partitions if p in self.ledgers]
        for ledger in ours:
            ledger.drain()
        deadline = self._context.clock.monotonic() + _REVOKE_WITHIN
        self.leaving()
        self._revoking.append((event, ours, deadline))
        self._answer_revocations()

    def _answer_revocations(self) -> None:
        """Speaks of the Ledgers that were ours then: the partition may be ours again already."""
        now = self._context.clock.monotonic()
        waiting = []
        for event, ours, deadline in self._revoking:
            if now < deadline and any(self._is_busy(ledger, deadline - now) for ledger in ours):
                waiting.append((event, ours, deadline))
                continue
            last = {ledger.partition: at for ledger in ours if (at := self._commits.last(ledger))}
            for ledger in ours:
                self._forget(ledger)
            self.forgot()  # what goes on in them ends before the next owner can begin
            event.answer(last)
            self._observer.unassigned(self.group, event.partitions, lost=False)
        self._revoking = waiting

    def _is_busy(self, ledger: Ledger, left: float) -> bool:
        return not ledger.closed and (ledger.busy > 0 or self.under_way(ledger, left))

    def _lost(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            self._forget(self.ledgers.get(partition))
        self.forgot()
        self._observer.unassigned(self.group, partitions, lost=True)

    def _forget(self, ledger: Ledger | None) -> None:
        if ledger is None or ledger.closed:
            return
        ledger.close()
        partition = ledger.partition
        if self.ledgers.get(partition) is ledger:
            del self.ledgers[partition]
            self._paused.pop(partition, None)
            self._withheld.discard(partition)
            if not self.ledgers:
                self._end_hold()
        self._commits.forget(ledger)

    def _drop_from_backlog(self, partitions: Container[Partition]) -> None:
        """What was read in one assignment must never enter the Ledger of the next.

        It would look as if the offsets before it, which are read again, had been skipped.
        """
        kept: deque[Record] = deque()
        for record in self._backlog:
            if Partition(record.topic, record.partition) in partitions:
                self._entered_bytes += record.size
                self._tally.records += 1
                self._tally.size += record.size
            else:
                kept.append(record)
        self._backlog = kept

    # --- pauses --------------------------------------------------------------------------------

    def _pause(self, partition: Partition) -> None:
        if partition not in self._paused:
            self._paused[partition] = None
            self._source.pause([partition])

    def withhold(self, partition: Partition) -> None:
        """Read this partition no further, until `let_read`."""
        self._withheld.add(partition)
        self._pause(partition)

    def let_read(self, partition: Partition) -> None:
        self._withheld.discard(partition)

    def _resume_what_has_room(self) -> None:
        if not self._paused or not self.taking:
            return
        free = [
            p
            for p in self._paused
            if p not in self._withheld
            and not (ledger := self.ledgers[p]).draining
            and should_resume(
                ledger.depth, ledger.open, ledger.held, self._limits, len(ledger.note)
            )
            and not self._takes_too_much(ledger, 2)
        ]
        if free:
            for partition in free:
                del self._paused[partition]
            self._source.resume(free)

    def _takes_too_much(self, _: Ledger, __: int = 1) -> bool:
        """Whether records that are held are in the way of other partitions'; here none are held.

        A partition that was paused is read again when it would not even be at twice that.
        """
        return False

    # --- commits -------------------------------------------------------------------------------

    def commit(self, *, force: bool = False) -> None:
        """Commit what has changed, when it is time to."""
        self._commits.send(force=force, stopping=not self.taking)

    def _answered(self, event: Committed) -> None:
        self._observer.committed(self.group, self._commits.answered(event))

    def _commit_accepted(self) -> None:
        if self.hold.answered():
            self._end_hold()

    @property
    def uncommitted(self) -> bool:
        """Something has settled that Kafka has not yet confirmed."""
        return self._commits.pending

    @property
    def commit_unanswered(self) -> float:
        """Seconds that the oldest unanswered commit has waited; 0 when none does."""
        return self._commits.unanswered

    # --- stalls --------------------------------------------------------------------------------

    @property
    def hold(self) -> Hold:
        return self._tally.hold

    def begin_hold(self, after: float = STALL) -> None:
        """After a stall: begin nothing new until a commit proves that the partitions are ours."""
        if self.ledgers and self.taking:
            self.hold.begin()
            if "stall" not in self.troubles:
                self._trouble(Trouble("stall", _HELD.format(after)))

    def _end_hold(self) -> None:
        self.hold.end()
        if "stall" in self.troubles:
            self._trouble(Trouble("stall", None))

    # --- as time goes by -----------------------------------------------------------------------

    def tick(self) -> None:
        patience = self._limits.commit_patience
        if not self.hold.on and stalled(self.commit_unanswered, patience):
            self.begin_hold(patience)
        if self._revoking:
            self._answer_revocations()
        self._resume_what_has_room()
        self.give_back()
        self.commit()
        if self._backlog and not self._scheduled:  # after a hold
            self._pump()

    def give_back(self) -> None:
        """Return credit for what is done with, in strides: a Source is told few times."""
        records = self._tally.records - self._given_back.records
        size = max(0, self._returned() - self._given_back.size)
        if records or size:
            self._given_back.records += records
            self._given_back.size += size
            self._source.credit(records, size)

    def _returned(self) -> int:
        """Bytes of credit that are the Source's again, since the beginning."""
        return self._tally.size

    def stop_taking(self) -> None:
        """Read no further: what is in the backlog was never begun and is the next owner's."""
        self.taking = False
        self._backlog.clear()
        self._paused.update(dict.fromkeys(self.ledgers))
        self._source.pause(list(self.ledgers))

    async def stop(self, grace: float) -> bool:
        """Leave the group; what ends afterwards changes nothing, for it is the next owner's."""
        left = await self._source.stop(grace)
        for ledger in list(self.ledgers.values()):
            self._forget(ledger)
        self.forgot()
        return left

    def _trouble(self, trouble: Trouble) -> None:
        if trouble.text is None:
            self.troubles.pop(trouble.key, None)
        else:
            self.troubles[trouble.key] = trouble
        self._observer.trouble(self.group, trouble)

    @property
    def busy(self) -> int:
        """Requests and hand-overs under way."""
        return sum(ledger.busy for ledger in self.ledgers.values())

    @property
    def total(self) -> int:
        """Partitions of the group, whoever has them; 0 while that is not known."""
        return self._source.total

    @property
    def open_bytes(self) -> int:
        """Payload of all that was begun and has not settled."""
        return self._entered_bytes - self._tally.size
