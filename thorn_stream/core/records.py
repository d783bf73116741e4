"""What Kafka hands over: Records, and the partitions they stand in."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

__all__ = ["Headers", "Partition", "Position", "Record", "header"]

_AROUND: Final = 768
_HEADER: Final = 200
"""Bytes that a small record, and one of its headers, take beside their payload while they are held
(measured on CPython 3.11, a retry record: 3.0 KB in all for 230 B of value and nine headers)."""

Headers: TypeAlias = list[tuple[str, bytes | None]]


class Partition(NamedTuple):
    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


class Position(NamedTuple):
    """Where a partition is read from, or committed at.

    `offset` is the next one to read (Kafka's convention for commits); `metadata` is the text kept
    with a commit, at most 4,095 characters.
    """

    offset: int
    metadata: str = ""


@dataclass(slots=True, eq=False)
class Record:
    """One Kafka message as read. `timestamp` is in unix milliseconds, -1 where Kafka has none."""

    topic: str
    partition: int
    offset: int
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: Headers = field(repr=False)
    timestamp: int

    @property
    def origin(self) -> str:
        """`topic:partition:offset`: where it stands, as written into `thorn-origin`."""
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def size(self) -> int:
        """Bytes it holds in memory: key and value, and what is made around them."""
        return (
            (len(self.value) if self.value else 0)
            + (len(self.key) if self.key else 0)
            + _AROUND
            + _HEADER * len(self.headers)
        )


def header(headers: Headers, name: str) -> bytes | None:
    """Return the last value under this name, as Kafka's clients do; None where there is none."""
    for key, value in reversed(headers):
        if key == name:
            return value
    return None
