"""Commits of one Source: when they are sent, what they say, and what their answers change."""

from collections.abc import Callable, Mapping
from typing import Final

from thorn_stream.core import notes, offsets
from thorn_stream.core.ledger import Ledger, Tally
from thorn_stream.core.records import Partition, Position
from thorn_stream.dispatch.context import Context
from thorn_stream.ports import Committed, Source

__all__ = ["Commits"]

_ANSWER_WITHIN: Final = 30.0
_WHEN_STOPPING: Final = 0.2
_THOROUGH: Final = 1.0
_MANY: Final = 100
"""A commit that only tells of more done above the same offset is sent for so many of them, or
after `_THOROUGH` seconds for any: up to 4,000 characters that spare a crash a handful of repeats
are not worth sending five times a second."""
_TOO_LARGE: Final = "OFFSET_METADATA_TOO_LARGE"


class Commits:
    """One commit is under way at a time. `ledgers` are those of the partitions that are ours.

    `accepted` is called when Kafka has taken a commit.
    """

    def __init__(
        self,
        source: Source,
        ledgers: Mapping[Partition, Ledger],
        tally: Tally,
        context: Context,
    ) -> None:
        self.accepted: Callable[[], None] = lambda: None
        self._source = source
        self._ledgers = ledgers
        self._tally = tally
        self._limits = context.limits
        self._clock = context.clock
        self._observer = context.observer
        self._asked: dict[Partition, tuple[Ledger, Position]] = {}  # of the commit under way
        self._sent: float | None = None
        self._unanswered_since: float | None = None
        self._considered_at = self._thorough_at = 0.0
        self._considered_records = 0
        self._longest = offsets.LIMIT

    def send(self, *, force: bool, stopping: bool) -> None:
        """Commit what has changed, by time or by count."""
        now = self._clock.monotonic()
        if self._sent is not None and now < self._sent + _ANSWER_WITHIN:
            return
        settled = self._tally.records - self._considered_records
        interval = self._limits.commit_interval
        held = self._tally.hold.on
        if held or stopping:  # nobody is to wait longer than for an answer
            interval = min(interval, _WHEN_STOPPING)
        by_time = now >= self._considered_at + interval
        if not (force or by_time or settled >= self._limits.commit_count):
            return
        self._considered_at = now
        self._considered_records = self._tally.records
        thorough = force or stopping or now >= self._thorough_at + _THOROUGH
        if thorough:
            self._thorough_at = now
        self._ask(forced=held, least=1 if thorough else _MANY)

    def _ask(self, *, forced: bool, least: int) -> None:
        asked = {
            partition: (ledger, position)
            for partition, ledger in self._ledgers.items()
            if (position := ledger.to_commit(force=forced, least=least, limit=self._longest))
        }
        if asked:
            self._tally.hold.asked()
            if self._unanswered_since is None:
                self._unanswered_since = self._clock.monotonic()
            self._asked = asked
            self._commit({partition: position for partition, (_, position) in asked.items()})

    def _commit(self, positions: Mapping[Partition, Position]) -> None:
        self._sent = self._clock.monotonic()
        self._source.commit(positions)

    def last(self, ledger: Ledger) -> Position | None:
        """What to commit for a partition that is about to go; None for nothing new."""
        return ledger.to_commit(limit=self._longest)

    # --- answers -------------------------------------------------------------------------------

    def answered(self, event: Committed) -> str | None:
        """Take in an answer; returns why a partition was refused, if one was.

        One commit may be answered in several parts, or after another has replaced it.
        """
        refused: str | None = None
        too_large: dict[Partition, tuple[Ledger, Position]] = {}
        for partition, position in event.positions.items():
            error = event.errors.get(partition)
            refused = refused or error
            ledger, asked = self._asked.get(partition, (None, None))
            if ledger is None or asked is None or asked.offset != position.offset:
                continue
            del self._asked[partition]
            if error is None:
                ledger.answered(asked)
                self.accepted()
            elif _TOO_LARGE in error and asked.metadata:
                too_large[partition] = (ledger, asked)
        if too_large:
            self._without_metadata(too_large)
        self._is_over()
        return refused

    def _without_metadata(self, asked: Mapping[Partition, tuple[Ledger, Position]]) -> None:
        """Commit offsets with their note at most at once, and keep to shorter metadata from now on.

        A broker may allow less than Kafka does by default. The error is shown for each partition
        of the commit, though only some were refused: the longest of them was.
        """
        self._observer.ignored("metadata")
        longest = max(len(position.metadata) for _, position in asked.values())
        self._longest = min(self._longest, longest * 3 // 4)
        bare = {p: (ledger, Position(at.offset, _note(at))) for p, (ledger, at) in asked.items()}
        self._asked |= bare
        self._commit({partition: position for partition, (_, position) in bare.items()})

    def forget(self, ledger: Ledger) -> None:
        """Its partition is not ours any more: no answer is waited for."""
        if ledger.partition in self._asked and self._asked[ledger.partition][0] is ledger:
            del self._asked[ledger.partition]
            self._is_over()

    def _is_over(self) -> None:
        if not self._asked:
            self._sent = self._unanswered_since = None

    # --- how it is -----------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Something has settled that Kafka has not yet confirmed."""
        return any(ledger.is_news() for ledger in self._ledgers.values())

    @property
    def unanswered(self) -> float:
        """Seconds that the oldest unanswered commit has waited; 0 when none does."""
        if self._unanswered_since is None:
            return 0.0
        return self._clock.monotonic() - self._unanswered_since


def _note(at: Position) -> str:
    """The note alone, of metadata that was too large; nothing when it was no more than that."""
    text, note = notes.split(at.metadata)
    return notes.joined("", note) if text else ""
