"""The drain: parked deliveries, read from their cursors as their receivers take them.

Receivers have turns. One slice of the topic is read at a time; it serves the receiver whose turn it
is and every other one whose cursor stands where it is read. What is read is begun as far as the
receiver's Lane allows, and what cannot be tried stays where it stands.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from thorn_stream.core.deliveries import Delivery, Reason
from thorn_stream.core.envelope import Undecodable
from thorn_stream.core.extra import recipient_from
from thorn_stream.core.handover import restore
from thorn_stream.core.ledger import Tally
from thorn_stream.core.records import Record
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.cursors import LiveCursor, ParkedEntry
from thorn_stream.dispatch.dispatcher import Dispatcher
from thorn_stream.ports import Ask, Replay, Slice

__all__ = ["Drain"]

_AT_ONCE: Final = 64
"""Deliveries begun, and receivers looked at, before the loop looks at sockets again."""
_LOW: Final = 250
"""Records in a receiver's buffer below which more of them are read."""
_DEAD_AT_ONCE: Final = 100
"""Dead letters under way at once, of what is too old or whose receiver is gone."""
_REST: Final = 0.5
"""Seconds for which a receiver is left alone after something of it was put back."""
_IDLE: Final = 2.0
"""Seconds after which a buffer of which nothing could be begun is given up."""
_REFUSED: Final = 1.0
"""Seconds until Kafka is asked again after it has refused a slice."""


class Drain:
    """Begins what stands between cursors and what has been read of their partitions.

    `tally` is that of the cursors' Ledgers: how much of what was begun is done with.
    `put_back` takes Deliveries that cannot be tried now. `lost(cursor, offsets)` is told of what
    Kafka has deleted before it was read.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        replay: Replay,
        context: Context,
        tally: Tally,
        put_back: Callable[[Delivery, str], None],
        lost: Callable[[LiveCursor, int], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._replay = replay
        self._limits = context.limits
        self._rules = context.rules
        self._clock = context.clock
        self._tally = tally
        self._put_back = put_back
        self._lost = lost
        self._turns: deque[LiveCursor] = deque()
        self._reading: dict[LiveCursor, int] | None = None  # whom the slice is for, from where on
        self._not_before = 0.0
        self._woken = False
        self.taking = True
        self.error: str | None = None
        self.held = 0  # bytes that were read and not begun
        self.begun = 0  # bytes that were ever begun

    @property
    def open_bytes(self) -> int:
        """Payload of what was begun here and has neither settled nor been put back."""
        return self.begun - self._tally.size

    @property
    def room(self) -> int:
        """Bytes that may still be read: those under way count like those that were not begun."""
        return self._limits.memory // 16 - self.held - self.open_bytes

    def add(self, cursor: LiveCursor) -> None:
        self._turns.append(cursor)

    def forget(self, cursor: LiveCursor) -> None:
        """It has caught up, or its partition is gone."""
        self.held -= cursor.forget_buffer()
        if self._reading is not None:
            self._reading.pop(cursor, None)

    # --- who takes -----------------------------------------------------------------------------

    def subscriber(self, name: str, definition: str) -> Subscriber | None:
        """Whom these deliveries are for, as it is now; None for one that is not known.

        Nor is one known whose cursor has garbled its definition: each of its records has its own.
        """
        if definition:
            try:
                return recipient_from(definition, name, self._rules)
            except ValueError:
                return None
        return self._dispatcher.directory.get(name)

    def allowance(self, cursor: LiveCursor) -> int:
        """How many of its deliveries may be begun now."""
        ledger = cursor.ledger
        if ledger.tally.hold.on or self._clock.monotonic() < cursor.rests_until:
            return 0
        subscriber = self.subscriber(cursor.name, cursor.definition)
        if subscriber is not None:
            cursor.unknown_since = None
            return self._dispatcher.lanes.may_drain(subscriber, cursor.definition)
        now = self._clock.wall()
        if cursor.unknown_since is None:
            cursor.unknown_since = now
            if cursor.stands:
                cursor.changed(cursor)
        gone = now >= cursor.unknown_since + int(1000 * self._limits.unknown_grace)
        return max(0, _DEAD_AT_ONCE - ledger.open) if gone else 0

    def is_expired(self, parked_at: int) -> bool:
        return 0 <= parked_at < self._clock.wall() - int(1000 * self._limits.park_max)

    # --- turns ---------------------------------------------------------------------------------

    def pump(self) -> None:
        """Begin what may be begun, and see that there is more when it will be needed."""
        turns = self._turns
        room = _AT_ONCE
        wants: LiveCursor | None = None
        for _ in range(min(_AT_ONCE, len(turns))):
            cursor = turns.popleft()
            if cursor.ledger.draining or not cursor.stands:
                continue  # forgotten: it has no turn any more
            turns.append(cursor)
            allowed = self.allowance(cursor)
            if room > 0:
                room -= self._begin_some(cursor, min(allowed, room))
            if wants is None and self._wants(cursor, allowed):
                wants = cursor
        if wants is not None and self._reading is None:
            self._ask(wants)
        if room <= 0:
            self.wake()

    def wake(self) -> None:
        """Some of a buffer may be begun, when sockets have had a turn."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._woken_up)

    def _woken_up(self) -> None:
        self._woken = False
        if self.taking:
            self.pump()

    def _begin_some(self, cursor: LiveCursor, allowed: int) -> int:
        begun = 0
        buffer = cursor.buffer
        while buffer and not cursor.ledger.draining:
            late = begun < _DEAD_AT_ONCE and self.is_expired(buffer[0].timestamp)
            if begun >= allowed and not late:
                break
            record = buffer.popleft()
            self.held -= record.size
            begun += self._begin(cursor, record)
            if self._clock.monotonic() < cursor.rests_until:  # put back already
                allowed = 0
        now = self._clock.monotonic()
        if begun or not buffer:
            cursor.began_at = now
        elif now > cursor.began_at + _IDLE:
            self.held -= cursor.forget_buffer()
        if not buffer and not cursor.ledger.closed:
            self._passed(cursor)
        return begun

    def _passed(self, cursor: LiveCursor) -> None:
        """All that was read has been begun: what lies between is others'."""
        before = cursor.ledger.next
        cursor.ledger.pass_over(cursor.read)
        if cursor.ledger.next != before or cursor.caught_up:
            cursor.changed(cursor)

    def _begin(self, cursor: LiveCursor, record: Record) -> int:
        """Begin one record; returns how many Deliveries that was."""
        entry = cursor.again.pop(record.offset, None)
        if entry is None:
            entry = cursor.enter(record, None, record.size)
            if entry is None:
                return 0
        entry.size = record.size
        self.begun += record.size
        self.deliver(record, entry)
        return 1

    def deliver(self, record: Record, entry: ParkedEntry) -> None:
        """To its receiver, or, too old or with its receiver gone, to the dead letters."""
        held = restore(record)
        if isinstance(held, Undecodable):
            self._dispatcher.undecodable(record, held.why, entry)
        elif held.subscriber.encode() != record.key:
            why = "its key is not the subscriber that its headers name"
            self._dispatcher.undecodable(record, why, entry)
        elif self.is_expired(record.timestamp):
            self._dispatcher.give_up(held, Reason.EXPIRED, entry)
        elif self.subscriber(held.subscriber, held.definition) is None:
            self._dispatcher.give_up(held, Reason.UNSUBSCRIBED, entry)
        else:
            self._dispatcher.resume(held, entry, self._put_back)

    def rest(self, cursor: LiveCursor) -> None:
        """Something of it is put back: what was read after that is read again."""
        self.held -= cursor.forget_buffer()
        cursor.rests_until = self._clock.monotonic() + _REST

    # --- slices --------------------------------------------------------------------------------

    def _wants(self, cursor: LiveCursor, allowed: int) -> bool:
        if not cursor.unread or len(cursor.buffer) >= _LOW:
            return False
        return allowed > 0 or self.is_expired(cursor.oldest)

    def _ask(self, first: LiveCursor) -> None:
        room = self.room
        if room <= 0 or self._clock.monotonic() < self._not_before:
            return
        sharing = {first: first.read}
        for cursor in self._turns:
            near = cursor.partition == first.partition and cursor.read >= first.read
            here = near and cursor is not first and cursor.stands and not cursor.ledger.draining
            if here and self._wants(cursor, self.allowance(cursor)):
                sharing[cursor] = cursor.read
        self._reading = sharing
        ask = Ask(
            first.partition,
            first.read,
            max(cursor.newest for cursor in sharing) + 1,
            {cursor.key: at for cursor, at in sharing.items()},
            size=room,
        )
        self._replay.read(ask, self._arrived)

    def _arrived(self, _: Ask, found: Slice) -> None:
        sharing, self._reading = self._reading or {}, None
        self.error = found.error
        stands_still = not found.records and found.next <= min(sharing.values(), default=0)
        if found.error is not None or stands_still:
            self._not_before = self._clock.monotonic() + _REFUSED
        if found.error is not None:
            return
        records: dict[bytes | None, list[Record]] = {}
        for record in found.records:
            records.setdefault(record.key, []).append(record)
        for cursor, at in sharing.items():
            # what was put back meanwhile is read again from there
            if cursor.read == at and not cursor.ledger.draining:
                self._take(cursor, records.get(cursor.key, []), found)
        self.wake()

    def _take(self, cursor: LiveCursor, records: list[Record], found: Slice) -> None:
        if found.low > cursor.read:
            self._lost(cursor, cursor.lose(found.low))
        if not cursor.buffer:
            cursor.began_at = self._clock.monotonic()
        cursor.buffer.extend(records)
        self.held += sum(record.size for record in records)
        cursor.read = max(cursor.read, found.next)
        if not cursor.buffer:
            self._passed(cursor)

    @property
    def reading(self) -> bool:
        return self._reading is not None
