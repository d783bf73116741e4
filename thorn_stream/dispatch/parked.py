"""Parked deliveries: written once, read on without waiting for any receiver, drained from cursors.

The group of the parked topic reads each partition forward once. A record of a receiver that takes
is delivered; the first that cannot be becomes the receiver's cursor, and those after it are passed
over. Before anything is taken from a partition, its cursors are taken over (dispatch/takeover).
"""

from collections.abc import Iterable, Mapping
from typing import Final

from thorn_stream.core.cursors import Cursor
from thorn_stream.core.deliveries import Delivery
from thorn_stream.core.envelope import Undecodable
from thorn_stream.core.handover import restore
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Record
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.cursor_writes import CursorWriter, Moved
from thorn_stream.dispatch.cursors import LiveCursor, ParkedEntry
from thorn_stream.dispatch.dispatcher import Dispatcher
from thorn_stream.dispatch.drain import Drain
from thorn_stream.dispatch.intake import Intake
from thorn_stream.dispatch.takeover import ParkedTopics, Part, Takeover, waiting_in
from thorn_stream.ports import PlacedSink, Replay, Source

__all__ = ["Parked", "ParkedTopics"]

_LOOK_EVERY: Final = 0.2
_FOR_WRITING: Final = 0.8
"""Seconds kept of the time for an answer to a revocation, to write cursors."""


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
        replay, sink = ways
        self._topics = topics
        self._clock = context.clock
        self._observer = context.observer
        self._writer = CursorWriter(sink, topics.cursors, context)
        self._takeover = Takeover(replay, topics, source[0], context)
        self._takeover.adopt, self._takeover.ready = self._adopt, self._ready
        why_open = dispatcher.lanes.why_open
        self._moved = Moved(self._writer, context.clock, why_open, self._takeover.go_on)
        self._tally = Tally(hold=self.intake.hold)
        self._drain = Drain(dispatcher, replay, context, self._tally, self._put_back, self._lost)
        self._parts: dict[Ledger, Part] = {}
        self._looked_at = 0.0

    # --- whose partitions ----------------------------------------------------------------------

    def _assigned(self, ledger: Ledger) -> None:
        """A partition is ours: nothing is taken from it until its cursors are known."""
        self.purge()
        part = self._parts[ledger] = Part(ledger)
        self.intake.withhold(ledger.partition)
        self._takeover.begin(part)

    def _adopt(self, part: Part, name: str, cursor: Cursor) -> None:
        """Write what is live anew."""
        one = LiveCursor(part.ledger.partition, name, cursor, self._tally, self._has_changed)
        end = part.ledger.end  # what was passed over below it does not come again
        if one.counted < end:
            one.count = None
        one.newest = max(one.newest, end - 1)
        one.topic = part.topic or one.topic
        part.cursors[one.key] = one
        self._stand(part, one)

    def _ready(self, part: Part) -> None:
        """The cursors of others count no more: ours stand, and all goes on from them."""
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
            if cursor in self._moved:
                self._moved.write(part, cursor)
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

    def _offer(self, part: Part, cursor: LiveCursor, record: Record, origin: Entry) -> int:
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
        self._moved.counted(cursor)

    def _stand(self, part: Part, cursor: LiveCursor) -> None:
        """From here on it is a cursor, which Kafka has to have before anything else moves."""
        cursor.stands = True
        if part.ready:
            self._drain.add(cursor)
        self._moved.write(part, cursor)

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
            self._moved.changed(cursor)
        else:
            self._stand(part, cursor)

    # --- cursors that move ---------------------------------------------------------------------

    def _part(self, cursor: LiveCursor) -> Part | None:
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
            self._moved.changed(cursor)
            if cursor.buffer:
                self._drain.wake()
            if self._moved.has_settled_much(cursor):
                self._moved.write(part, cursor)

    def _caught_up(self, part: Part, cursor: LiveCursor) -> None:
        if cursor.stands:
            if cursor.gap and cursor.count:
                self._observer.lost_records(self.intake.group, cursor.partition, cursor.count)
            self._writer.write(part.key(cursor), None, cursor.acknowledged)
        self._forget(part, cursor)

    def _forget(self, part: Part, cursor: LiveCursor) -> None:
        part.cursors.pop(cursor.key, None)
        self._drain.forget(cursor)
        cursor.stands = False
        self._moved.forget(cursor)

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
                self._takeover.tick(part)
        if now >= self._looked_at + _LOOK_EVERY:
            self._looked_at = now
            self._write(self._moved.due(now))
        if self._drain.taking:
            self._drain.pump()

    def _write(self, which: Iterable[LiveCursor]) -> None:
        for cursor in which:
            if (part := self._part(cursor)) is not None:
                self._moved.write(part, cursor)

    # --- how it is, and how it ends --------------------------------------------------------------

    def stop_taking(self) -> None:
        """Begin nothing more; what was begun may end."""
        self._drain.taking = False

    def finish(self) -> bool:
        """Write all cursors as they are; True when Kafka has them."""
        self._write(self._moved)
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
            f"the topic {self._topics.cursors}": self._takeover.error or self._writer.error,
            f"the topic {self._topics.parked}": self._drain.error,
        }
        return [f"{what}: {error}" for what, error in errors.items() if error]

    @property
    def waiting(self) -> Mapping[str, tuple[int, int | None]]:
        """Of each subscriber with cursors here: when its oldest was parked (unix milliseconds).

        And how many wait; None where one of its cursors does not know.
        """
        return waiting_in(self._parts.values())
