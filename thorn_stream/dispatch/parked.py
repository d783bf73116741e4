"""Parked deliveries: written once, read on without waiting for any receiver, drained from cursors.

The group of the parked topic reads each partition forward once. A record of a receiver that takes
is delivered; the first that cannot be becomes the receiver's cursor, and those after it are passed
over. Before anything is taken from a partition, the cursors that its last owner left are read and
written anew under an epoch of our own (core/cursors).
"""

from collections import deque
from collections.abc import Mapping
from typing import Final

from thorn_stream.core import cursors
from thorn_stream.core.cursors import Cursor, CursorKey, Found, Ground
from thorn_stream.core.deliveries import Delivery
from thorn_stream.core.envelope import Undecodable
from thorn_stream.core.handover import restore
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Partition, Record
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.cursors import CursorWriter, LiveCursor, ParkedEntry
from thorn_stream.dispatch.dispatcher import Dispatcher
from thorn_stream.dispatch.drain import Drain
from thorn_stream.dispatch.intake import Intake
from thorn_stream.ports import Ask, PlacedSink, Replay, Slice, Source

__all__ = ["Parked", "ParkedTopics"]

_WRITE_EVERY: Final = 1.0
_WRITE_COUNT: Final = 1000
_COUNT_EVERY: Final = 10.0
"""Seconds after which a cursor of which nothing but the count has changed is written."""
_LOOK_EVERY: Final = 0.2
_FOR_WRITING: Final = 0.8
"""Seconds kept of the time for an answer to a revocation, to write cursors."""
_ASK_AGAIN: Final = 1.0


class ParkedTopics:
    """Names of the topic of parked deliveries, and of the one of their cursors."""

    __slots__ = ("cursors", "parked")

    def __init__(self, parked: str, cursors: str) -> None:
        self.parked = parked
        self.cursors = cursors


class _Part:
    """One partition of the parked topic, in one assignment."""

    __slots__ = (
        "again_at",
        "begun",
        "cursors",
        "early",
        "epoch",
        "ledger",
        "note",
        "raw",
        "ready",
        "stale",
        "topic",
    )

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.begun = ledger.end  # below it nothing comes any more, from it on everything
        self.cursors: dict[bytes, LiveCursor] = {}
        self.early: deque[tuple[Record, Entry]] = deque()  # came before the cursors were known
        self.raw: dict[bytes | None, bytes | None] = {}
        self.epoch = 0
        self.note: str | None = None  # once it is to be committed
        self.stale: list[CursorKey] = []
        self.ready = False
        self.topic = ""  # Kafka's id of it, where that is known
        self.again_at = 0.0  # when the cursors topic is asked again; 0: it was not refused

    @property
    def number(self) -> int:
        return self.ledger.partition.number

    @property
    def seen(self) -> int:
        """The offset below which everything is in the counts of the cursors."""
        return self.early[0][0].offset if self.early else self.ledger.next


class Parked:
    """The third intake: parked records, their cursors, and the drain."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        source: tuple[str, Source],
        ways: tuple[Replay, PlacedSink],
        topics: ParkedTopics,
        context: Context,
    ) -> None:
        self.intake = Intake(*source, self.consume, context)
        self.intake.assigned = self._assigned
        self.intake.under_way = self._under_way
        self.intake.forgot = self.purge
        self._dispatcher = dispatcher
        self._replay, sink = ways
        self._topics = topics
        self._clock = context.clock
        self._observer = context.observer
        self._writer = CursorWriter(sink, topics.cursors, context)
        self._tally = Tally(hold=self.intake.hold)
        self._drain = Drain(
            dispatcher, self._replay, context, self._tally, self._put_back, self._lost
        )
        self._parts: dict[Ledger, _Part] = {}
        self._changed: dict[LiveCursor, None] = {}  # in the order of changing
        self._counted: dict[LiveCursor, None] = {}
        self._looked_at = 0.0
        self._error: str | None = None

    # --- whose partitions ----------------------------------------------------------------------

    def _assigned(self, ledger: Ledger) -> None:
        """A partition is ours: nothing is taken from it until its cursors are known."""
        self.purge()
        part = self._parts[ledger] = _Part(ledger)
        self.intake.withhold(ledger.partition)
        self._read_cursors(part, 0)

    def _read_cursors(self, part: _Part, begin: int) -> None:
        def arrived(_: Ask, found: Slice) -> None:
            if part.ledger.closed:
                return
            self._error = found.error
            if found.error is not None:
                part.again_at = self._clock.monotonic() + _ASK_AGAIN
                part.raw.clear()
                return
            part.raw.update({record.key: record.value for record in found.records})
            if found.next < found.high:
                self._read_cursors(part, found.next)
            else:
                self._judge_cursors(part)

        self._replay.read(Ask(Partition(self._topics.cursors, part.number), begin), arrived)

    def _judge_cursors(self, part: _Part) -> None:
        """They hold for the topic as it is now: it may have been deleted and made anew."""

        def arrived(_: Ask, reach: Slice) -> None:
            if part.ledger.closed:
                return
            self._error = reach.error
            if reach.error is not None:
                part.again_at = self._clock.monotonic() + _ASK_AGAIN
                return
            part.topic = reach.topic
            ground = Ground(reach.high, reach.topic, part.begun)
            epoch = cursors.epoch_in(part.ledger.note)
            self._take_over(part, cursors.found(part.raw.items(), part.number, epoch, ground))

        self._replay.read(Ask(part.ledger.partition, 0, 0, identify=True), arrived)

    def _take_over(self, part: _Part, found: Found) -> None:
        """Write all that is live anew; when Kafka has it, the epoch is told with the commit."""
        part.raw.clear()
        for _ in range(found.garbled):
            self._observer.ignored("cursor")
        part.epoch, part.stale = found.epoch, found.stale
        if found.gone:  # how many waited, as far as their cursors knew: for each there was one
            count = sum(cursor.count or 1 for cursor in found.gone.values())
            self._observer.lost_records(self.intake.group, part.ledger.partition, count)
        for name, cursor in found.live.items():
            if cursors.known_at(cursor) is None:
                self._observer.ignored("cursor")
            one = LiveCursor(part.ledger.partition, name, cursor, self._tally, self._has_changed)
            end = part.ledger.end  # what was passed over below it does not come again
            if one.counted < end:
                one.count = None
            one.newest = max(one.newest, end - 1)
            one.topic = part.topic or one.topic
            part.cursors[one.key] = one
            self._stand(part, one)
        self._look_whether_ready(part)

    def _look_whether_ready(self, part: _Part) -> None:
        if part.ready or part.epoch == 0:
            return
        if part.note is None:
            if all(cursor.durable for cursor in part.cursors.values()):
                part.ledger.note = part.note = cursors.note_of(part.epoch)
        elif part.ledger.noted == part.note:
            part.ready = True
            for key in part.stale:
                self._writer.write(key, None)
            for cursor in part.cursors.values():
                self._drain.add(cursor)
            while part.early:
                self.consume(*part.early.popleft())
            self.intake.let_read(part.ledger.partition)

    def purge(self) -> None:
        """Let go of all that belongs to assignments that are over."""
        for ledger in [ledger for ledger in self._parts if ledger.closed]:
            part = self._parts.pop(ledger)
            self._writer.forget(part.number, part.epoch)
            for cursor in list(part.cursors.values()):
                cursor.ledger.close()
                self._forget(part, cursor)

    def _under_way(self, ledger: Ledger, left: float) -> bool:
        """Before a partition is given away, its cursors are written as they are then."""
        part = self._parts.get(ledger)
        if part is None:
            return False
        for cursor in part.cursors.values():
            cursor.ledger.drain()
        if not part.ready:
            return False
        if left > _FOR_WRITING and any(one.ledger.busy for one in part.cursors.values()):
            return True
        for cursor in part.cursors.values():
            if cursor in self._changed or cursor in self._counted:
                self._write(part, cursor)
        return self._writer.busy(part.number, part.epoch)

    # --- the straight way ----------------------------------------------------------------------

    def consume(self, record: Record, entry: Entry) -> int:
        """Deliver a parked record, or leave it to the drain; returns how many were begun."""
        part = self._parts[entry.ledger]
        if not part.ready:
            part.early.append((record, entry))
            return 0
        key = record.key or b""
        cursor = part.cursors.get(key)
        if cursor is not None and cursor.stands and (cursor.unread or cursor.buffer):
            self._pass_over(cursor, record, entry)
            return 0
        if cursor is None:
            held = restore(record)
            if isinstance(held, Undecodable) or held.subscriber.encode() != key:
                why = held.why if isinstance(held, Undecodable) else "its key is not its subscriber"
                self._dispatcher.undecodable(record, why, entry)
                return 0
            oldest = max(0, record.timestamp)
            begin = Cursor(record.offset, count=0, oldest=oldest, topic=part.topic)
            cursor = LiveCursor(
                entry.ledger.partition, held.subscriber, begin, self._tally, self._has_changed
            )
            cursor.definition = held.definition
            part.cursors[key] = cursor
        return self._offer(part, cursor, record, entry)

    def _offer(self, part: _Part, cursor: LiveCursor, record: Record, origin: Entry) -> int:
        """All before it has been begun: begin this one, too, if its receiver takes."""
        if record.offset < cursor.ledger.next:  # read again: it was settled, or stands there
            origin.release()
            return 0
        # with a cursor that Kafka has, nothing here waits for it: its bytes are the drain's
        size = record.size if cursor.durable else 0
        takes = self._drain.allowance(cursor) > 0 and (not size or self._drain.room > 0)
        if not takes and not self._drain.is_expired(record.timestamp):
            if not cursor.stands:
                cursor.ledger.pass_over(record.offset)
                cursor.read = record.offset
            self._pass_over(cursor, record, origin)
            if not cursor.stands:
                self._stand(part, cursor)
            return 0
        cursor.more(record.offset)
        entry = cursor.enter(record, None if cursor.durable else origin, size)
        if entry is None:
            origin.release()
            return 0
        self._drain.begun += size
        cursor.newest = record.offset
        cursor.read = record.offset + 1
        if cursor.durable:
            origin.release()
        self._drain.deliver(record, entry)
        return 1

    def _pass_over(self, cursor: LiveCursor, record: Record, origin: Entry) -> None:
        cursor.pass_over(record, origin)
        self._counted[cursor] = None

    def _stand(self, part: _Part, cursor: LiveCursor) -> None:
        """From here on it is a cursor, which Kafka has to have before anything else moves."""
        cursor.stands = True
        if part.ready:
            self._drain.add(cursor)
        self._write(part, cursor)

    def _put_back(self, delivery: Delivery, cause: str) -> None:
        """It cannot be tried now, and stands where it stands: nothing is written of it again."""
        del cause  # the receiver's last error tells more
        entry = delivery.entry
        assert isinstance(entry, ParkedEntry)
        part = self._part(entry.cursor)
        if part is None or entry.ledger.draining:
            return  # not begun: the next owner's
        cursor = entry.cursor
        self._drain.rest(cursor)
        cursor.put_back(entry, delivery.error)
        if cursor.stands:
            self._changed[cursor] = None
        else:
            self._stand(part, cursor)

    # --- cursors that move ---------------------------------------------------------------------

    def _part(self, cursor: LiveCursor) -> _Part | None:
        ledger = self.intake.ledgers.get(cursor.partition)
        part = None if ledger is None else self._parts.get(ledger)
        return part if part is not None and part.cursors.get(cursor.key) is cursor else None

    def _has_changed(self, cursor: LiveCursor) -> None:
        part = self._part(cursor)
        if part is None:
            return
        if cursor.caught_up and part.ledger.next >= cursor.ledger.next:
            self._caught_up(part, cursor)
        elif cursor.stands:
            self._changed[cursor] = None
            if cursor.buffer:
                self._drain.wake()
            if cursor.settled_since >= _WRITE_COUNT:
                self._write(part, cursor)

    def _caught_up(self, part: _Part, cursor: LiveCursor) -> None:
        if cursor.stands:
            if cursor.gap and cursor.count:
                self._observer.lost_records(self.intake.group, cursor.partition, cursor.count)
            key = CursorKey(part.number, part.epoch, cursor.name)
            self._writer.write(key, None, cursor.acknowledged)
        self._forget(part, cursor)

    def _forget(self, part: _Part, cursor: LiveCursor) -> None:
        part.cursors.pop(cursor.key, None)
        self._drain.forget(cursor)
        cursor.stands = False
        self._changed.pop(cursor, None)
        self._counted.pop(cursor, None)

    def _write(self, part: _Part, cursor: LiveCursor) -> None:
        self._changed.pop(cursor, None)
        self._counted.pop(cursor, None)
        cursor.settled_since = 0
        cursor.written_at = self._clock.monotonic()
        # most were never tried here: what is wrong with their receiver is known to its circuit
        lanes = self._dispatcher.lanes
        cursor.error = lanes.why_open(cursor.definition or cursor.name) or cursor.error
        key = CursorKey(part.number, part.epoch, cursor.name)
        value = cursors.written(cursor.told(part.seen))

        def done() -> None:
            cursor.acknowledged()
            self._look_whether_ready(part)

        self._writer.write(key, value, done)

    def _lost(self, cursor: LiveCursor, count: int) -> None:
        """Kafka deleted what had not been read: exactly how much shows at the end, if ever."""
        if cursor.count is None:
            self._observer.lost_records(self.intake.group, cursor.partition, count)
        else:
            cursor.gap = True

    # --- as time goes by -----------------------------------------------------------------------

    def tick(self) -> None:
        self._writer.tick()
        now = self._clock.monotonic()
        for part in list(self._parts.values()):
            if not part.ready:
                if part.again_at and now >= part.again_at:
                    part.again_at = 0.0
                    self._read_cursors(part, 0)
                self._look_whether_ready(part)
        if now >= self._looked_at + _LOOK_EVERY:
            self._looked_at = now
            self._write_what_is_due(now)
        if self._drain.taking:
            self._drain.pump()

    def _write_what_is_due(self, now: float) -> None:
        due = [one for one in self._changed if now >= one.written_at + _WRITE_EVERY]
        due += [one for one in self._counted if now >= one.written_at + _COUNT_EVERY]
        for cursor in due:
            if (part := self._part(cursor)) is not None:
                self._write(part, cursor)

    # --- how it is, and how it ends --------------------------------------------------------------

    def stop_taking(self) -> None:
        """Begin nothing more; what was begun may end."""
        self._drain.taking = False

    def finish(self) -> bool:
        """Write all cursors as they are; True when Kafka has them."""
        for cursor in [*self._changed, *self._counted]:
            if (part := self._part(cursor)) is not None:
                self._write(part, cursor)
        return self._writer.idle

    @property
    def busy(self) -> bool:
        """Requests and hand-overs under way."""
        return any(
            cursor.ledger.busy for part in self._parts.values() for cursor in part.cursors.values()
        )

    @property
    def held_bytes(self) -> int:
        """Payload of parked records held in memory."""
        return self.intake.open_bytes + self._drain.open_bytes + self._drain.held

    @property
    def reasons(self) -> list[str]:
        """Why parked deliveries are not read, a line each."""
        errors = {
            f"the topic {self._topics.cursors}": self._error or self._writer.error,
            f"the topic {self._topics.parked}": self._drain.error,
        }
        return [f"{what}: {error}" for what, error in errors.items() if error]

    @property
    def waiting(self) -> Mapping[str, tuple[int, int | None]]:
        """Of each subscriber with cursors here: when its oldest was parked (unix milliseconds).

        And how many wait; None where one of its cursors does not know.
        """
        found: dict[str, tuple[int, int | None]] = {}
        for part in self._parts.values():
            for cursor in part.cursors.values():
                if not cursor.stands:
                    continue
                oldest, count = found.get(cursor.name, (cursor.oldest, 0))
                known = count is not None and cursor.count is not None
                total = (count or 0) + (cursor.count or 0) if known else None
                found[cursor.name] = (min(oldest, cursor.oldest), total)
        return found
