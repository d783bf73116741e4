"""Which partitions are ours, where each is read next, and which are paused.

Owned by the reader's thread. Whatever is true of librdkafka's own pause flag (it outlives an
assignment, cannot be read, and does nothing when set before the assignment), pause or resume is
set explicitly for each partition, after it was assigned.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from confluent_kafka import OFFSET_END, Consumer, KafkaException

from thorn_stream.adapters.kafka.handover import Outbox
from thorn_stream.adapters.kafka.positions import Positions, Topics, places, watermarks
from thorn_stream.adapters.kafka.trouble import wording
from thorn_stream.core.records import Partition, Position
from thorn_stream.ports import Assigned, Lost, LostRecords

__all__ = ["Assignment"]

_AT_ONCE: Final = 2.0  # seconds for one question to Kafka when partitions are assigned
_AGAIN: Final = 0.5  # the same, when it is asked again between polls

_log: Final = logging.getLogger(__name__)

_BEYOND: Final = 2**63  # greater than any offset

V = TypeVar("V")


class _Gap(NamedTuple):
    """The offset that is next is not there; `unread` were after it when last heard of."""

    wanted: int
    unread: int


class Assignment:
    """State of the owner thread.

    `next` maps each partition that the loop knows to be ours to the next offset to hand over.
    `reassigned` maps those assigned since it was last cleared to where they begin.
    """

    def __init__(self, positions: Positions, excluded: Topics, outbox: Outbox) -> None:
        self.next: dict[Partition, int] = {}
        self.reassigned: dict[Partition, int] = {}
        self._positions = positions
        self._excluded = excluded
        self._outbox = outbox
        self._since: dict[Partition, int] = {}  # batch that told of the assignment
        self._unplaced: dict[Partition, _Gap | None] = {}  # where to go on is to be asked
        self._paused: set[Partition] = set()  # as the loop wants it
        self._starved = False

    # --- coming and going ---------------------------------------------------------------------

    def assign(self, consumer: Consumer, assigned: Sequence[Partition]) -> None:
        """Take partitions from where their group left off; without an answer, read later."""
        foreign = [p for p in assigned if p.topic in self._excluded]
        if foreign:  # assigned by a broker that knows of no exclusion: kept, never read
            _assign_paused(consumer, foreign)
        ours = [p for p in assigned if p.topic not in self._excluded]
        try:
            begin = self._positions.begin(consumer, ours, _AT_ONCE)
        except (KafkaException, TimeoutError) as error:
            why = wording(error.args[0]) if isinstance(error, KafkaException) else error
            _log.warning("Kafka does not say yet where to begin, it is asked again: %s", why)
            _assign_paused(consumer, ours)
            self._unplaced.update(dict.fromkeys(ours))
        else:
            consumer.incremental_assign(places(begin))
            self._begun(consumer, begin)

    def drop(self, gone: Iterable[Partition]) -> list[Partition]:
        """Forget them; returns those that the loop knows of."""
        told = []
        for partition in gone:
            if self.next.pop(partition, None) is not None:
                told.append(partition)
            self._since.pop(partition, None)
            self._unplaced.pop(partition, None)
            self.reassigned.pop(partition, None)
            self._paused.discard(partition)
        return told

    def drop_all(self) -> list[Partition]:
        return self.drop({**self.next, **self._unplaced})

    def current(self, about: Mapping[Partition, V], seen: int) -> dict[Partition, V]:
        """Keep what is about ours of now.

        What the loop decided before it had seen the batch that told of an assignment is about an
        earlier assignment of the same partition.
        """
        since = self._since
        return {p: value for p, value in about.items() if p in since and since[p] <= seen}

    def _begun(self, consumer: Consumer, begin: Mapping[Partition, Position]) -> None:
        for partition, position in begin.items():
            self.next[partition] = self.reassigned[partition] = position.offset
            self._since[partition] = self._outbox.number
        self._set_flags(consumer, begin)
        self._outbox.add(Assigned(begin))

    # --- pausing ------------------------------------------------------------------------------

    def pause(self, consumer: Consumer, partitions: Iterable[Partition]) -> None:
        changed = [p for p in partitions if p in self.next]
        self._paused.update(changed)
        self._set_flags(consumer, changed)

    def resume(self, consumer: Consumer, partitions: Iterable[Partition]) -> None:
        changed = [p for p in partitions if p in self.next]
        self._paused.difference_update(changed)
        self._set_flags(consumer, changed)

    def starve(self, consumer: Consumer, starved: bool) -> None:
        """Pause everything, or bring back what the loop wants."""
        self._starved = starved
        self._set_flags(consumer, self.next)

    def _set_flags(self, consumer: Consumer, partitions: Iterable[Partition]) -> None:
        reading: list[Partition] = []
        waiting: list[Partition] = []
        for p in partitions:
            stays = self._starved or p in self._paused or p in self._unplaced
            (waiting if stays else reading).append(p)
        if reading:
            consumer.resume(places(reading))
        if waiting:
            consumer.pause(places(waiting))

    @property
    def reading(self) -> dict[Partition, int]:
        """Those of which records should come, and the next offset of each."""
        if self._starved:
            return {}
        waiting = self._paused | self._unplaced.keys()
        return {p: offset for p, offset in self.next.items() if p not in waiting}

    # --- moving -------------------------------------------------------------------------------

    def move(self, consumer: Consumer, partition: Partition, offset: int) -> None:
        """Read it from there. A seek is refused while librdkafka does not fetch the partition."""
        where = places({partition: Position(offset)})
        consumer.incremental_unassign(where)
        consumer.incremental_assign(where)
        self._set_flags(consumer, [partition])
        if partition in self.next:
            self.next[partition] = offset

    def read_again(self, consumer: Consumer) -> None:
        """Read everything from where the loop has it."""
        for partition, offset in self.next.items():
            self.move(consumer, partition, offset)

    def missed(self, partition: Partition, offset: int, unread: Mapping[Partition, int]) -> None:
        """Kafka does not have this offset, which is next (never before what was handed over).

        `unread`: how many records there were after what was handed over, as far as is known.
        """
        if partition in self.next:
            wanted = max(offset, self.next[partition])
            self._unplaced[partition] = _Gap(wanted, unread.get(partition, 0))

    def begin_anew(self, unread: Mapping[Partition, int]) -> None:
        """The topics of these are others now, under the same names."""
        for partition, count in unread.items():
            self._unplaced[partition] = _Gap(_BEYOND, count)

    @property
    def waits_for_kafka(self) -> bool:
        return bool(self._unplaced)

    def place(self, consumer: Consumer) -> None:
        """Find where to begin for those of which it is not known; without an answer, later."""
        try:
            for partition, gap in list(self._unplaced.items()):
                if gap is not None:
                    self._begin_after(consumer, partition, gap)
            new = list(self._unplaced)
            begin = self._positions.begin(consumer, new, _AGAIN) if new else {}
        except (KafkaException, TimeoutError):
            return
        for partition, position in begin.items():
            del self._unplaced[partition]
            self.move(consumer, partition, position.offset)
        if begin:
            self._begun(consumer, begin)

    def _begin_after(self, consumer: Consumer, partition: Partition, gap: _Gap) -> None:
        """Count what Kafka deleted before it was read, and go on at the first there is.

        When the partition ends before the wanted offset, the topic was made anew (or cut):
        nothing that is known of it holds, so it is given up and begun like a new assignment.
        """
        low, high = watermarks(consumer, partition, _AGAIN)
        del self._unplaced[partition]
        if gap.wanted <= high:
            self.move(consumer, partition, max(low, gap.wanted))
            if low > gap.wanted:
                self._outbox.add(LostRecords(partition, low - gap.wanted))
        else:
            self.move(consumer, partition, low)
            self._outbox.add(Lost([partition]), LostRecords(partition, gap.unread))
            self._begun(consumer, {partition: Position(low)})


def _assign_paused(consumer: Consumer, partitions: Sequence[Partition]) -> None:
    where = places({p: Position(OFFSET_END) for p in partitions})
    consumer.incremental_assign(where)
    consumer.pause(where)
