"""The one thread that owns a Consumer: polls, obeys commands, hands over what it learns.

librdkafka's consumer admits one caller at a time, so nobody else ever calls it. No call here
waits for long while a broker stalls, but `close`, which is the last one. No callback raises: an
exception would throw away the records of that poll while their offsets count as read.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from queue import Empty, SimpleQueue
from typing import Any, Concatenate, Final, ParamSpec, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from thorn_stream.adapters.kafka import codes
from thorn_stream.adapters.kafka.assignment import Assignment
from thorn_stream.adapters.kafka.handover import Credit, Outbox
from thorn_stream.adapters.kafka.intake import Intake, partition_of
from thorn_stream.adapters.kafka.positions import Positions, Topics, places
from thorn_stream.adapters.kafka.settings import SourceSettings, consumer_settings, make
from thorn_stream.adapters.kafka.stuck import Stuck
from thorn_stream.adapters.kafka.trouble import Troubles, forbidden, wording
from thorn_stream.adapters.kafka.watch import Watch
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.records import Partition, Position
from thorn_stream.ports import NOT_ASSIGNED, Committed, Lost, Revoked

__all__ = ["Reader"]

_POLL: Final = 0.05
_ANSWER: Final = 2.0  # seconds the loop has to say what to commit for revoked partitions
_CHORE: Final = 1.0  # seconds between tries of what Kafka has not answered yet
_PROBE: Final = 0.5  # seconds for the question whether a broker is there again
_REBUILD: Final = 1.0  # seconds before a Consumer that broke for good is replaced, then doubled
_REBUILD_MAX: Final = 300.0
_REBUILD_FORBIDDEN: Final = 10.0  # the most when it lacks a permission
_TOTAL: Final = 10.0  # seconds between looks at how many partitions there are
_ENDS: Final = 2.0  # seconds between looks at how far the partitions reach

_log: Final = logging.getLogger(__name__)

P = ParamSpec("P")


def _never_raises(
    method: Callable[Concatenate["Reader", P], None],
) -> Callable[Concatenate["Reader", P], None]:
    @wraps(method)
    def guarded(self: "Reader", /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:  # noqa: BLE001 - see the top of this file
            _log.exception("%s of group %s failed", method.__name__, self.group)

    return guarded


class Reader:
    """State of the owner thread. All but `commands`, `ends`, `ids` and `total` is that thread's.

    `commands` are called between polls.
    """

    def __init__(self, settings: SourceSettings, credit: Credit, outbox: Outbox) -> None:
        self.group = settings.group
        self.commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._settings = settings
        self._outbox = outbox
        excluded = Topics(settings.exclude)
        self._positions = Positions(settings, excluded)
        self._assignment = Assignment(self._positions, excluded, outbox)
        self._watch = Watch(settings)
        self._stuck = Stuck(settings)
        self._troubles = Troubles(settings.client)
        self._intake = Intake(
            credit, self._assignment, outbox, self._failed, self._troubles.works, self._obey
        )
        self.total = 0
        self._leaving = False
        self._broken_since: float | None = None
        self._patience = _REBUILD
        self._chores: dict[str, float] = {}
        self._consumer = self._make()

    @property
    def ends(self) -> Mapping[Partition, int]:
        return self._watch.ends

    @property
    def ids(self) -> Mapping[str, str]:
        return self._watch.ids

    def subscribe(self) -> None:
        """Join the group. Raises `ConfigurationError` for a pattern that cannot be used."""
        topics = [self._topic(name) for name in self._settings.topics]
        try:
            self._consumer.subscribe(
                topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
        except KafkaException as error:
            told = ", ".join(self._settings.topics)
            raise ConfigurationError(
                f"topics: librdkafka does not take {told} ({error.args[0].name()}): "
                "a pattern begins with ^ and is a POSIX extended regular expression"
            ) from None

    # --- the thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Poll until told to leave, then close: that may never end when Kafka does not answer."""
        while not self._leaving:
            try:
                self._round()
            except KafkaException as error:
                self._raised(error.args[0])
            except Exception:  # noqa: BLE001 - a thread that ends would stop the group unseen
                _log.exception("reading for group %s failed and is begun again", self.group)
                self._begin_again()
        self._obey()
        self._flush()
        if self._broken_since is None:  # one that broke has left, and would never be closed
            self._consumer.close()
        self._flush()

    def leave(self) -> None:
        """Command: no more polling."""
        self._leaving = True

    def _round(self) -> None:
        self._obey()
        if self._broken_since is not None:
            self._replace(self._broken_since)
        else:
            self._intake.read(self._consumer)
        self._do_chores()
        self._flush()

    def _obey(self, wait: float = 0.0) -> None:
        with contextlib.suppress(Empty):
            if wait:
                self.commands.get(timeout=wait)()
            while True:
                self.commands.get_nowait()()

    def _flush(self) -> None:
        self._outbox.add(*self._troubles.news())
        if not self._outbox.flush():
            self._leaving = True

    def _failed(self, message: Message, error: KafkaError) -> None:
        topic = message.topic()
        if error.code() == codes.OFFSET_RESET and topic is not None:
            unread = self._watch.unread(self._assignment.next)
            self._assignment.missed(partition_of(message), cast("int", message.offset()), unread)
        elif error.code() == codes.MAX_POLL_EXCEEDED:
            _log.error("group %s: %s", self.group, error.str())
        else:
            self._watch.doubt()
            self._troubles.message(error, topic, self.group)
            if codes.is_fatal(error):
                self._broke(error)

    def _broke(self, error: KafkaError) -> None:
        """The Consumer is of no use any more; how long the next may be waited for."""
        self._broken_since = time.monotonic()
        if forbidden(error):
            self._patience = min(self._patience, _REBUILD_FORBIDDEN)

    # --- commands -----------------------------------------------------------------------------

    def commit(self, positions: Mapping[Partition, Position], seen: int) -> None:
        """Command: commit what is ours still, as the loop had seen it."""
        ours = self._assignment.current(positions, seen)
        others = {p: at for p, at in positions.items() if p not in ours}
        if others:
            self._refused(others, NOT_ASSIGNED)
        if ours:
            self._commit(ours)

    def pause(self, partitions: Sequence[Partition], seen: int) -> None:
        ours = self._assignment.current(dict.fromkeys(partitions), seen)
        self._assignment.pause(self._consumer, ours)

    def resume(self, partitions: Sequence[Partition], seen: int) -> None:
        ours = self._assignment.current(dict.fromkeys(partitions), seen)
        self._assignment.resume(self._consumer, ours)

    def _commit(self, positions: Mapping[Partition, Position]) -> None:
        for partition in positions:
            self._positions.first.pop(partition, None)
        try:
            self._consumer.commit(offsets=places(positions), asynchronous=True)
        except KafkaException as error:
            self._refused(positions, wording(error.args[0]))

    def _refused(self, positions: Mapping[Partition, Position], why: str) -> None:
        self._outbox.add(Committed(positions, dict.fromkeys(positions, why)))

    # --- what librdkafka calls, inside poll, consume and close --------------------------------

    @_never_raises
    def _on_commit(self, error: KafkaError | None, told: list[TopicPartition]) -> None:
        positions: dict[Partition, Position] = {}
        errors: dict[Partition, str | None] = {}
        first = self._positions.first
        for place in told:
            partition, wrong = Partition(place.topic, place.partition), place.error or error
            if partition in first and first[partition].offset == place.offset:
                if wrong is None:
                    del first[partition]
                continue  # what `start` chose: the loop did not ask for it
            positions[partition] = Position(place.offset, place.metadata or "")
            errors[partition] = None if wrong is None else wording(wrong, place.topic)
        if positions:
            self._outbox.add(Committed(positions, errors))
        if error is None:
            self._troubles.joined()
            self._troubles.works()
        self._flush()  # the poll around this goes on waiting for a record

    @_never_raises
    def _on_error(self, error: KafkaError) -> None:
        self._troubles.connection(error)

    @_never_raises
    def _on_assign(self, consumer: Consumer, told: list[TopicPartition]) -> None:
        partitions = _partitions(told)
        self._assignment.assign(consumer, partitions)
        self._patience = _REBUILD
        self._chores.pop("total", None)
        self._troubles.joined()
        self._troubles.works({p.topic for p in partitions})
        self._flush()

    @_never_raises
    def _on_revoke(self, _: Consumer, told: list[TopicPartition]) -> None:
        gone = self._assignment.drop(_partitions(told))
        if not gone:
            return
        answer: SimpleQueue[Mapping[Partition, Position]] = SimpleQueue()
        self._outbox.add(Revoked(gone, answer.put))
        self._flush()
        try:
            last = answer.get(timeout=_ANSWER)
        except Empty:
            _log.warning("group %s: no last positions within %s s", self.group, _ANSWER)
            return
        if ours := {p: at for p, at in last.items() if p in gone}:
            # Not tried again if it is refused: from here on they may be the next owner's, whose
            # commits would be overwritten. Kafka takes it for as long as we have not joined again.
            self._commit(ours)

    @_never_raises
    def _on_lost(self, _: Consumer, told: list[TopicPartition]) -> None:
        if gone := self._assignment.drop(_partitions(told)):
            self._outbox.add(Lost(gone))
            self._flush()

    # --- between polls ------------------------------------------------------------------------

    def _do_chores(self) -> None:
        if self._assignment.waits_for_kafka and self._is_due("place", _CHORE):
            self._assignment.place(self._consumer)
        if self._positions.first and self._is_due("first", _CHORE):
            self._commit_first()
        if self._troubles.unreachable and self._is_due("probe", _CHORE):
            self._probe()
        following = self._assignment.next
        if following and self._is_due("ends", _ENDS):
            self._watch.look_at_ends(self._consumer, following)
        if following and self._is_due("total", _TOTAL):
            self._count_partitions()
        if self._is_due("stuck", _CHORE):
            self._look_for_stuck()
        if following and self._is_due("topics", self._settings.topic_check):
            self._assignment.begin_anew(self._watch.made_anew(following))
            if self._troubles and self._watch.readable:
                self._troubles.works(self._watch.readable)

    def _is_due(self, chore: str, every: float) -> bool:
        now = time.monotonic()
        if now - self._chores.get(chore, -every) < every:
            return False
        self._chores[chore] = now
        return True

    def _commit_first(self) -> None:
        """Commit what `start: latest` chose until it is accepted."""
        with contextlib.suppress(KafkaException):
            self._consumer.commit(offsets=places(self._positions.first), asynchronous=True)

    def _count_partitions(self) -> None:
        with contextlib.suppress(KafkaException):
            ours = self._assignment.next
            self.total = len(self._positions.all_partitions(self._consumer, ours, _PROBE))

    def _look_for_stuck(self) -> None:
        reading = self._assignment.reading
        stuck, found = self._stuck.look(self._consumer, reading, self._intake.emptied)
        self._troubles.stuck(stuck, self._settings.stuck_after)
        for partition in found:
            self._assignment.move(self._consumer, partition, reading[partition])

    def _probe(self) -> None:
        with contextlib.suppress(KafkaException):
            self._consumer.list_topics(timeout=_PROBE)
            self._troubles.works()

    # --- making and mending -------------------------------------------------------------------

    def _make(self) -> Consumer:
        callbacks: dict[str, Any] = {"error_cb": self._on_error, "on_commit": self._on_commit}
        return make(Consumer, consumer_settings(self._settings), **callbacks)

    def _topic(self, name: str) -> str:
        """With the newer protocol the broker matches, and whole names (KIP-848)."""
        if name.startswith("^") and self._settings.protocol == "consumer":
            return f"^({name[1:]}).*"
        return name

    def _raised(self, error: KafkaError) -> None:
        """A poll raised: a fatal error is told like this, and nowhere else."""
        _log.error("reading for group %s failed: %s", self.group, wording(error))
        if codes.is_fatal(error):
            self._troubles.message(error, None, self.group)
            self._broke(error)
        else:
            self._begin_again()

    def _begin_again(self) -> None:
        """After an exception out of a poll: read everything from where the loop has it."""
        try:
            self._assignment.read_again(self._consumer)
        except Exception:  # noqa: BLE001 - the last means against any failure
            _log.exception("group %s joins again", self.group)
            self._broken_since = time.monotonic()
        self._obey(_POLL)

    def _replace(self, broken_since: float) -> None:
        """A Consumer that failed for good: another one, after a while."""
        if gone := self._assignment.drop_all():
            self._outbox.add(Lost(gone))
        if time.monotonic() - broken_since < self._patience:
            self._obey(_POLL)
            return
        # the last reference ends it without a close, which would wait (and spin) for its group
        broken, self._consumer = [self._consumer], self._make()
        threading.Thread(target=broken.clear, name="kafka-discard", daemon=True).start()
        self._broken_since = None
        self._patience = min(2 * self._patience, _REBUILD_MAX)
        self.subscribe()


def _partitions(told: list[TopicPartition]) -> list[Partition]:
    return [Partition(place.topic, place.partition) for place in told]
