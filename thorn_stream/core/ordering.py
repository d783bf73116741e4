"""What keeps one subscriber's deliveries of one key in order.

A chain is what waits under one key: its head is tried, again and again where it stands; the others
follow when the head is over. Heads that have failed before are told of in commits, so that whoever
owns the partition next counts on instead of beginning anew.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from heapq import nlargest
from typing import Final, Generic, NamedTuple, TypeVar

__all__ = ["MOST_STUCK", "Chains", "Stuck", "note", "read_note"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

MOST_STUCK: Final = 64
"""Heads told of in one commit: some 1,400 characters of the 4,000 at most."""

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_LONGEST: Final = 13  # digits of the largest 64-bit number


class Chains(Generic[K, T]):
    """What waits, by key. An item is a head from when `add` or `done` has said so."""

    __slots__ = ("_behind",)

    def __init__(self) -> None:
        # most chains are a head alone: they have no queue
        self._behind: dict[K, deque[T] | None] = {}

    def __len__(self) -> int:
        """How many chains there are: as many as heads."""
        return len(self._behind)

    def add(self, key: K, item: T) -> bool:
        """Put it at the end of its chain; True when it is the head."""
        if key not in self._behind:
            self._behind[key] = None
            return True
        behind = self._behind[key]
        if behind is None:
            behind = self._behind[key] = deque()
        behind.append(item)
        return False

    def done(self, key: K) -> T | None:
        """The head is over; returns the one that is the head now, None when the chain has ended."""
        behind = self._behind[key]
        if not behind:
            del self._behind[key]
            return None
        return behind.popleft()

    def drop(self, which: Callable[[K], bool]) -> None:
        """Forget the chains whose keys `which` picks."""
        for key in [key for key in self._behind if which(key)]:
            del self._behind[key]


class Stuck(NamedTuple):
    """A head that was tried: how often, when first, and when it is due again (unix ms)."""

    offset: int
    attempts: int
    first: int
    due: int


def note(heads: Iterable[Stuck], matched_to: int | None = None) -> str:
    """Text for a commit's metadata: those with the most attempts, at most `MOST_STUCK` of them.

    `matched_to`: of a subscriber that is disabled, the offset from which on nothing was matched.
    Empty when there is nothing to tell.
    """
    told = sorted(nlargest(MOST_STUCK, heads, key=lambda head: head.attempts))
    parts = [
        ".".join(
            (
                _written(head.offset),
                _written(head.attempts),
                _written(head.first),
                _written(max(0, head.due - head.first)),
            )
        )
        for head in told
    ]
    if matched_to is not None:
        parts.insert(0, _written(matched_to))
    return ",".join(parts)


def read_note(text: str) -> tuple[dict[int, Stuck], int | None]:
    """What `note` was given. Never raises: what was not written by it tells nothing."""
    heads: dict[int, Stuck] = {}
    matched_to = None
    for place, part in enumerate(text.split(",")) if text else ():
        numbers = [_read(number) for number in part.split(".")]
        if None in numbers:
            return {}, None
        known = [number for number in numbers if number is not None]
        if len(known) == 1 and place == 0:
            matched_to = known[0]
        elif len(known) == 4 and known[1] > 0:
            offset, attempts, first, after = known
            heads[offset] = Stuck(offset, attempts, first, first + after)
        else:
            return {}, None
    return heads, matched_to


def _written(number: int) -> str:
    """To the base of 36."""
    text = ""
    while True:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
        if not number:
            return text


def _read(text: str) -> int | None:
    if not 0 < len(text) <= _LONGEST or not text.isascii() or not text.isalnum():
        return None
    return int(text, 36)
