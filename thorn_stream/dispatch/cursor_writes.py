"""Cursors on their way to Kafka: when each is written, and that none overtakes another.

A cursor that has moved is written each second, or after 1,000 settled deliveries: so much a crash
repeats.
"""

from collections.abc import Callable, Iterator
from typing import Final

from thorn_stream.core import cursors
from thorn_stream.core.cursors import CursorKey
from thorn_stream.core.records import Partition
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.cursors import LiveCursor
from thorn_stream.dispatch.takeover import Part
from thorn_stream.ports import Clock, PlacedSink, SendFailed

__all__ = ["CursorWriter", "Moved"]

_WRITE_EVERY: Final = 1.0
_WRITE_COUNT: Final = 1000
_COUNT_EVERY: Final = 10.0
"""Seconds after which a cursor of which nothing but the count has changed is written."""
_AGAIN: Final = 0.5
"""Seconds until a cursor that Kafka refused is written again."""


class _Write:
    """What is under way for one key, and what is to follow."""

    __slots__ = ("called", "following", "next", "value")

    def __init__(self, value: bytes | None, called: list[Callable[[], None]]) -> None:
        self.value = value
        self.called = called
        self.next: bytes | None = None
        self.following: list[Callable[[], None]] | None = None


class CursorWriter:
    """Writes cursors, one record of a key at a time: a later one must never be overtaken."""

    def __init__(self, sink: PlacedSink, topic: str, context: Context) -> None:
        self._sink = sink
        self._topic = topic
        self._clock = context.clock
        self._observer = context.observer
        self._writes: dict[CursorKey, _Write] = {}
        self._refused: list[tuple[float, CursorKey, _Write]] = []
        self.error: str | None = None

    def write(
        self, key: CursorKey, value: bytes | None, done: Callable[[], None] = lambda: None
    ) -> None:
        """Write a cursor, or (None) delete it. `done` is called when Kafka has this, or a later."""
        write = self._writes.get(key)
        if write is not None:
            write.next = value
            write.following = [*(write.following or []), done]
            return
        self._writes[key] = write = _Write(value, [done])
        self._send(key, write)

    def busy(self, partition: int, epoch: int) -> bool:
        return any(key.partition == partition and key.epoch == epoch for key in self._writes)

    @property
    def idle(self) -> bool:
        return not self._writes

    def forget(self, partition: int, epoch: int) -> None:
        """That assignment is over: what was refused is not written again."""
        for key in [k for k in self._writes if k.partition == partition and k.epoch <= epoch]:
            del self._writes[key]

    def tick(self) -> None:
        if not self._refused:
            return
        now = self._clock.monotonic()
        due = [(key, write) for at, key, write in self._refused if at <= now]
        self._refused = [each for each in self._refused if each[0] > now]
        for key, write in due:
            if self._writes.get(key) is write:
                self._send(key, write)

    def _send(self, key: CursorKey, write: _Write) -> None:
        place = Partition(self._topic, key.partition)
        self._sink.send_to(place, (key.encoded(), write.value, []), self._answered, (key, write))

    def _answered(self, token: tuple[CursorKey, _Write], failed: SendFailed | None) -> None:
        key, write = token
        self._observer.handed_over("cursor", failed.error if failed else None)
        if self._writes.get(key) is not write:
            return  # of an assignment that is over
        self.error = failed.error if failed else None
        if failed is not None:
            self._refused.append((self._clock.monotonic() + _AGAIN, key, write))
            return
        del self._writes[key]
        for done in write.called:
            done()
        if write.following is not None:
            self.write(key, write.next, lambda: None)
            self._writes[key].called = write.following


class Moved:
    """Cursors that are no longer as they were last written.

    `why_open` says what is wrong with a receiver whose circuit is open, `acknowledged` is called
    when Kafka has a cursor of a partition.
    """

    def __init__(
        self,
        writer: CursorWriter,
        clock: Clock,
        why_open: Callable[[str], str],
        acknowledged: Callable[[Part], None],
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._why_open = why_open
        self._acknowledged = acknowledged
        self._changed: dict[LiveCursor, None] = {}  # in the order of changing
        self._counted: dict[LiveCursor, None] = {}

    def changed(self, cursor: LiveCursor) -> None:
        self._changed[cursor] = None

    def counted(self, cursor: LiveCursor) -> None:
        """Nothing but the count has changed, as far as this goes."""
        self._counted[cursor] = None

    def forget(self, cursor: LiveCursor) -> None:
        self._changed.pop(cursor, None)
        self._counted.pop(cursor, None)

    def __contains__(self, cursor: LiveCursor) -> bool:
        return cursor in self._changed or cursor in self._counted

    def __iter__(self) -> Iterator[LiveCursor]:
        return iter([*self._changed, *self._counted])

    def due(self, now: float) -> list[LiveCursor]:
        due = [one for one in self._changed if now >= one.written_at + _WRITE_EVERY]
        return due + [one for one in self._counted if now >= one.written_at + _COUNT_EVERY]

    def write(self, part: Part, cursor: LiveCursor) -> None:
        """Write it as it is now."""
        self.forget(cursor)
        cursor.settled_since = 0
        cursor.written_at = self._clock.monotonic()
        # most were never tried here: what is wrong with their receiver is known to its circuit
        cursor.error = self._why_open(cursor.definition or cursor.name) or cursor.error

        def done() -> None:
            cursor.acknowledged()
            self._acknowledged(part)

        value = cursors.written(cursor.told(part.seen))
        self._writer.write(part.key(cursor), value, done)

    @staticmethod
    def has_settled_much(cursor: LiveCursor) -> bool:
        return cursor.settled_since >= _WRITE_COUNT
