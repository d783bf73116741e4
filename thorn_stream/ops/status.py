"""What waits for each subscriber, read from Kafka: it holds from whatever machine it is asked.

Of parked deliveries the cursors tell, of an ordered subscriber what its group has committed. What
is in flight or queued is known to each dispatcher alone: its `/metrics` tells.
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from thorn_stream.adapters.kafka import SourceSettings, browse, committed_by, ends_of, records_at
from thorn_stream.config import Settings
from thorn_stream.core import cursors, notes, offsets
from thorn_stream.core.cursors import Cursor
from thorn_stream.core.directory import Directory
from thorn_stream.core.errors import TopicMissing, UsageError
from thorn_stream.core.ordering import Stuck, read_note
from thorn_stream.core.records import Partition, Position
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.ops import text
from thorn_stream.ops.ordering import group_of
from thorn_stream.ops.topics import never_input

__all__ = ["Waiting", "as_json", "status", "table"]

_PATIENCE: Final = 10.0


@dataclass(slots=True)
class Waiting:
    """What waits for one receiver; `state` is None of one that no file or setting names.

    `waiting` counts deliveries: parked ones, or, of an ordered subscriber, events it has not
    settled; None where that is not known. `oldest` is the moment (unix milliseconds) the first was
    parked, or written. `stuck` counts the keys of an ordered one whose head has failed (64 are
    told of per partition at most), `attempts` is the most that one of them has had.
    """

    id: str
    state: str | None
    ordering: str
    waiting: int | None = 0
    oldest: int | None = None
    error: str | None = None
    stuck: int = 0
    attempts: int = 0


def status(
    settings: Settings, client: Mapping[str, str], directory: Directory, only: str | None
) -> list[Waiting]:
    """All subscribers, and whoever else has parked deliveries; or only the one of this id.

    Raises `KafkaError`; UsageError for an id that nobody has.
    """
    parked = _parked(settings, client)
    names = [one.id for one in directory]
    names += sorted(name for name in parked if name not in directory)
    if only is not None:
        if only not in names:
            raise UsageError(f"there is no subscriber {only}, and nothing is parked for it")
        names = [only]
    found = []
    for name in names:
        one = directory.get(name)
        if one is not None and one.ordering == "key":
            found.append(_ordered(settings, client, one))
        else:
            found.append(_unordered(name, one, parked.get(name, [])))
    return found


# --- parked -------------------------------------------------------------------------------------


def _parked(settings: Settings, client: Mapping[str, str]) -> dict[str, list[Cursor]]:
    """The live cursors of each receiver."""
    own = SourceSettings(client, f"{settings.group}.parked", (settings.parked,))
    epochs = {
        partition.number: cursors.epoch_in(notes.split(at.metadata)[1])
        for partition, at in committed_by(own, _PATIENCE).items()
    }
    written: dict[int, list[tuple[bytes | None, bytes | None]]] = defaultdict(list)
    try:
        for record in browse(client, settings.group, settings.cursors, _PATIENCE):
            written[record.partition].append((record.key, record.value))
    except TopicMissing:
        return {}  # nothing was ever parked
    live: dict[str, list[Cursor]] = defaultdict(list)
    for number, records in written.items():
        for name, cursor in cursors.found(records, number, epochs.get(number, 0)).live.items():
            live[name].append(cursor)
    return live


def _unordered(name: str, one: Subscriber | None, live: list[Cursor]) -> Waiting:
    counts = [cursor.count for cursor in live]
    known = [count for count in counts if count is not None]
    moments = [cursor.oldest for cursor in live if cursor.oldest]
    return Waiting(
        name,
        None if one is None else one.state,
        "none",
        sum(known) if len(known) == len(counts) else None,
        min(moments, default=None),
        next((cursor.error for cursor in live if cursor.error), None),
    )


# --- ordered ------------------------------------------------------------------------------------


def _ordered(settings: Settings, client: Mapping[str, str], one: Subscriber) -> Waiting:
    """By what its group has committed: its backlog is plain lag."""
    own = SourceSettings(client, group_of(settings, one.id), settings.topics, never_input(settings))
    committed = committed_by(own, _PATIENCE)
    if not committed:
        return Waiting(one.id, one.state, "key", None)  # nobody has begun it
    ends = ends_of(own, list(committed), _PATIENCE)
    behind = {
        partition: at.offset for partition, at in committed.items() if ends[partition] > at.offset
    }
    stuck = [head for at in committed.values() for head in _stuck(at)]
    heads = records_at(client, own.group, behind, _PATIENCE)
    moments = [record.timestamp for record in heads.values() if record.timestamp >= 0]
    return Waiting(
        one.id,
        one.state,
        "key",
        sum(_left(partition, committed[partition], ends) for partition in behind),
        min(moments, default=None),
        None,
        len(stuck),
        max((head.attempts for head in stuck), default=0),
    )


def _stuck(at: Position) -> list[Stuck]:
    heads, _ = read_note(notes.split(at.metadata)[1])
    return [head for head in heads.values() if head.offset >= at.offset]


def _left(partition: Partition, at: Position, ends: Mapping[Partition, int]) -> int:
    """How many offsets are not done: between the committed one and the end, less those told of."""
    known = offsets.decode(notes.split(at.metadata)[0], at.offset)
    behind = ends[partition] - at.offset
    if known is None:
        return behind
    return behind - (known.end - at.offset - len(known.incomplete))


# --- how it is shown ----------------------------------------------------------------------------


def as_json(found: list[Waiting]) -> list[dict[str, Any]]:
    return [
        {
            "id": one.id,
            "state": one.state,
            "ordering": one.ordering,
            "parked": one.waiting if one.ordering == "none" else 0,
            "lag": one.waiting if one.ordering == "key" else 0,
            "oldest": one.oldest,
            "error": one.error,
            "stuck": one.stuck,
            "attempts": one.attempts,
        }
        for one in found
    ]


def table(found: list[Waiting], now: int | None = None) -> list[str]:
    """The same for people, a line each; `now` in unix milliseconds."""
    if not found:
        return ["there are no subscribers: write them into config/subscribers/*.yaml"]
    now = time.time_ns() // 1_000_000 if now is None else now
    head = ("subscriber", "state", "waiting", "oldest", "last error")
    return text.table(head, [(one.id, one.state or "unknown", *_told(one, now)) for one in found])


def _told(one: Waiting, now: int) -> tuple[str, str, str]:
    waiting = "?" if one.waiting is None else str(one.waiting)
    if one.ordering == "key":
        waiting += " (in order)"
    error = one.error or "-"
    if one.stuck:
        error = f"{one.stuck} keys wait behind a head tried {one.attempts} times at most"
    return waiting, _age(one.oldest, now), error


def _age(moment: int | None, now: int) -> str:
    if moment is None:
        return "-"
    seconds = max(0, now - moment) // 1000
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
