"""Cursors: where a receiver's parked deliveries begin, as records of a compacted topic.

One per partition of the parked topic, receiver, and epoch of the partition's owner. Its key is
text, `partition/epoch/subscriber`; its value JSON, or nothing when all has been delivered.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from thorn_stream.core import offsets

__all__ = [
    "Cursor",
    "CursorKey",
    "Found",
    "Ground",
    "epoch_in",
    "found",
    "known_at",
    "note_of",
    "read",
    "written",
]

_EPOCH: Final = "epoch="
_LARGEST: Final = 2**63 - 1
_NUMBER: Final = re.compile("[0-9]{1,18}")
"""Of a partition or an epoch, which a note can tell as well."""


class CursorKey(NamedTuple):
    """`partition` is that of the parked topic; `subscriber` the key of its records there."""

    partition: int
    epoch: int
    subscriber: str

    def encoded(self) -> bytes:
        return f"{self.partition}/{self.epoch}/{self.subscriber}".encode()


@dataclass(frozen=True, slots=True)
class Cursor:
    """What is left to deliver to one receiver of one partition.

    `next` is the lowest offset that is not done, `done` tells which above it are (as commit
    metadata does). `count` deliveries wait in the offsets below `through`; None where that is not
    known. `oldest` (unix milliseconds) is when the first of them was parked. `error` is the last
    one. `definition` is the receiver's own, when it came with an event; `unknown_since` (unix
    milliseconds) when it was first looked up in vain. `topic` is Kafka's id of the topic that the
    offsets are of; empty where that is not known.
    """

    next: int
    done: str = ""
    count: int | None = None
    through: int = 0
    oldest: int | None = None
    error: str = ""
    definition: str = ""
    unknown_since: int | None = None
    topic: str = ""


class Ground(NamedTuple):
    """The partition that cursors are of, as it is now.

    `reach` is its end (None: not asked for), `topic` Kafka's id of its topic (empty: not known).
    From `begun` on nothing has been read of it: all that stands there is yet to come.
    """

    reach: int | None = None
    topic: str = ""
    begun: int = 0


_ANY: Final = Ground()


@dataclass(slots=True)
class Found:
    """The cursors of one partition as its new owner finds them.

    `live` are those that hold, `stale` the keys of all that was written under earlier epochs, to
    be deleted when `live` stands anew under the owner's own: `epoch`. `gone` are those of a topic
    that was deleted with all they stand for.
    """

    epoch: int
    live: dict[str, Cursor] = field(default_factory=dict)
    stale: list[CursorKey] = field(default_factory=list)
    gone: dict[str, Cursor] = field(default_factory=dict)
    garbled: int = 0


def written(cursor: Cursor) -> bytes:
    told: dict[str, Any] = {"next": cursor.next}
    for name in ("done", "count", "oldest", "error", "definition", "unknown_since", "topic"):
        value = getattr(cursor, name)
        if value not in (None, ""):
            told[name] = value
    if cursor.count is not None:
        told["through"] = cursor.through
    return json.dumps(told, separators=(",", ":")).encode()


def read(key: bytes | None, value: bytes | None) -> tuple[CursorKey, Cursor | None] | None:
    """Read a record of the cursors topic; never raises: None for what is no such record.

    A key without a cursor is one that was deleted.
    """
    try:
        number, epoch, subscriber = (key or b"").decode().split("/", 2)
        if not (_NUMBER.fullmatch(number) and _NUMBER.fullmatch(epoch) and subscriber):
            return None
        place = CursorKey(int(number), int(epoch), subscriber)
        return place, None if value is None else _cursor(json.loads(value))
    except (ValueError, TypeError, RecursionError):
        return None


def _cursor(told: Any) -> Cursor:
    if not isinstance(told, dict):
        raise TypeError("no JSON object")
    count = _whole(told, "count")
    start = _whole(told, "next")
    if start is None:
        raise ValueError("no offset")
    return Cursor(
        next=start,
        done=_text(told, "done"),
        count=count,
        through=_whole(told, "through") or 0,
        oldest=_whole(told, "oldest"),
        error=_text(told, "error"),
        definition=_text(told, "definition"),
        unknown_since=_whole(told, "unknown_since"),
        topic=_text(told, "topic"),
    )


def _whole(told: Mapping[str, Any], name: str) -> int | None:
    value = told.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise ValueError(f"{name} is no whole number")
    return value


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name, "")
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


# --- epochs --------------------------------------------------------------------------------------
# Each owner of a partition has a number of its own, above those of all before it. An owner whose
# time is over cannot commit any more, but may still write: under its old number, which nobody reads
# once the next one has committed that it wrote everything anew.


def note_of(epoch: int) -> str:
    """What the commit of a parked partition tells of its owner's epoch."""
    return f"{_EPOCH}{epoch}"


def epoch_in(note: str) -> int:
    """The epoch told by a note; 0 for a note that tells none."""
    text = note.removeprefix(_EPOCH)
    return int(text) if note.startswith(_EPOCH) and _NUMBER.fullmatch(text) else 0


def found(
    records: Iterable[tuple[bytes | None, bytes | None]],
    partition: int,
    committed: int,
    ground: Ground = _ANY,
) -> Found:
    """Work out which cursors hold, from all records of a cursors partition in their order.

    `committed` is the epoch in the partition's committed note: its owner had written everything
    that was live under it, so older ones count for nothing. Of younger ones the youngest does.
    Cursors beyond the end of the partition stand for nothing that is there.
    """
    told: dict[CursorKey, Cursor | None] = {}
    result = Found(committed + 1)
    for key, value in records:
        one = read(key, value)
        if one is None:
            result.garbled += 1
        elif one[0].partition == partition:
            told[one[0]] = one[1]
    for place in sorted(told):
        cursor = told[place]
        result.epoch = max(result.epoch, place.epoch + 1)
        if cursor is None:
            continue
        result.stale.append(place)
        counts = place.epoch >= committed
        if _is_of_another(cursor, ground):
            if counts:
                _of_another(result, place.subscriber, cursor, ground)
        elif ground.reach is not None and cursor.next > ground.reach:
            result.garbled += 1
        elif counts:
            _holds(result, place.subscriber, cursor)
    return result


def _holds(result: Found, name: str, cursor: Cursor) -> None:
    """In the place of any older one: what waits is told by this one alone, so nothing is lost."""
    result.live[name] = cursor
    result.gone.pop(name, None)


def _is_of_another(cursor: Cursor, ground: Ground) -> bool:
    """Whether its topic is known to be another than the one that has the name now."""
    return bool(cursor.topic and ground.topic) and cursor.topic != ground.topic


def _of_another(result: Found, name: str, cursor: Cursor, ground: Ground) -> None:
    """Its offsets mean nothing now, and must hide nothing.

    A topic that Kafka made anew is read from its beginning, so all that is there comes without a
    cursor. Where it is not, the offsets were carried over with the group's (a copy of the cluster,
    a backup): then what was passed over is found from here, some of it for the second time.
    """
    if cursor.next < ground.begun:
        _holds(result, name, replace(cursor, done="", count=None))
    else:
        result.live.pop(name, None)
        result.gone[name] = cursor


def known_at(cursor: Cursor) -> offsets.Known | None:
    """The offsets from `next` on of which it is known whether they are done."""
    return offsets.decode(cursor.done, cursor.next)
