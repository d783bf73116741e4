"""Dead letters: the newest of them listed, one of them shown. No group is touched."""

import heapq
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from thorn_stream.adapters.kafka import browse, record_at
from thorn_stream.config import Settings
from thorn_stream.core.deliveries import Reason
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.errors import TopicMissing, UsageError
from thorn_stream.core.patterns import Pattern, compile_pattern
from thorn_stream.core.records import Partition, Record, header
from thorn_stream.ops.moments import moment

__all__ = ["Listing", "Wanted", "find", "letters", "row", "wanted"]

_PATIENCE: Final = 10.0
_DELIVERY: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PLACE: Final = re.compile(r"(?P<topic>.+)[-:](?P<partition>\d{1,9})[-:](?P<offset>\d{1,18})")
_NUMBER: Final = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters; None: any. `since` in unix milliseconds; at most `limit`, the newest."""

    reason: Reason | None = None
    event: Pattern | None = None
    subscriber: str | None = None
    since: int | None = None
    limit: int = 1000

    def admits(self, record: Record) -> bool:
        """Cheap questions first: most records are passed over by a filter."""
        return (
            (self.reason is None or _header(record, "thorn-reason") == self.reason)
            and (self.subscriber is None or _header(record, "thorn-subscriber") == self.subscriber)
            and (self.event is None or _matches(self.event, _event(record)))
        )


def wanted(
    *,
    reason: str | None,
    event: str | None,
    subscriber: str | None,
    since: tuple[str | None, int],
    limit: int,
) -> Wanted:
    """The options of a command; `since` with the present time. Raises UsageError."""
    if reason is not None and reason not in set(Reason):
        raise UsageError(f"--reason {reason}: there is {', '.join(Reason)}")
    try:
        pattern = None if event is None else compile_pattern(event)
    except ValueError as error:
        raise UsageError(f"--event: {error}") from None
    text, now = since
    return Wanted(
        None if reason is None else Reason(reason),
        pattern,
        subscriber,
        None if text is None else moment(text, "--since", now),
        limit,
    )


@dataclass(slots=True)
class Listing:
    """Rows with the newest last, and how many were found in all."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    found: int = 0

    @property
    def left_out(self) -> int:
        return self.found - len(self.rows)


def letters(
    settings: Settings,
    client: Mapping[str, str],
    asked: Wanted,
    heard: Callable[[], None] = lambda: None,
) -> Listing:
    """Read the whole topic, keep the newest that were asked for. Raises `KafkaError`.

    `heard` is called as soon as something has come from Kafka.
    """
    newest: list[tuple[int, int, int, dict[str, Any]]] = []
    listing = Listing()
    for record in browse(client, settings.group, settings.dead, _PATIENCE, asked.since):
        heard()
        if not asked.admits(record):
            continue
        listing.found += 1
        order = (record.timestamp, record.partition, record.offset)
        if len(newest) < asked.limit:
            heapq.heappush(newest, (*order, row(record)))
        elif newest and order > newest[0][:3]:
            heapq.heapreplace(newest, (*order, row(record)))
    listing.rows = [item[3] for item in sorted(newest, key=lambda item: item[:3])]
    return listing


def find(settings: Settings, client: Mapping[str, str], name: str) -> Record:
    """The dead letter at TOPIC-PARTITION-OFFSET, or the newest of a delivery.

    Raises UsageError for a name that is neither, `TopicMissing` when there is no such letter.
    """
    if _DELIVERY.fullmatch(name):
        return _of_delivery(settings, client, name.lower())
    place = _PLACE.fullmatch(name)
    if place is None:
        raise UsageError(
            f"{name} is neither TOPIC-PARTITION-OFFSET nor a delivery id: `thorn-stream dead list` "
            "shows both"
        )
    if place["topic"] != settings.dead:
        raise UsageError(
            f"{place['topic']} is not the topic of dead letters: it is {settings.dead}"
        )
    partition = Partition(settings.dead, int(place["partition"]))
    found = record_at(client, settings.group, (partition, int(place["offset"])), _PATIENCE)
    if found is None:
        raise TopicMissing(f"there is no dead letter {name}, or Kafka has deleted it since")
    return found


def _of_delivery(settings: Settings, client: Mapping[str, str], delivery: str) -> Record:
    newest: Record | None = None
    for record in browse(client, settings.group, settings.dead, _PATIENCE):
        if _header(record, "thorn-delivery") == delivery and (
            newest is None or record.timestamp >= newest.timestamp
        ):
            newest = record
    if newest is None:
        raise TopicMissing(
            f"there is no dead letter of delivery {delivery} in {settings.dead}, or Kafka has "
            "deleted it since"
        )
    return newest


def row(record: Record) -> dict[str, Any]:
    """What a dead letter says of itself; None where it does not say."""
    return {
        "reason": _header(record, "thorn-reason"),
        "event": _event(record),
        "subscriber": _header(record, "thorn-subscriber"),
        "delivery": _header(record, "thorn-delivery"),
        "attempts": _number(record, "thorn-attempt"),
        "error": _header(record, "thorn-error"),
        "first": _number(record, "thorn-first"),
        "dead_at": record.timestamp if record.timestamp >= 0 else None,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
    }


def _header(record: Record, name: str) -> str | None:
    value = header(record.headers, name)
    return None if value is None else value.decode("utf-8", "backslashreplace")


def _number(record: Record, name: str) -> int | None:
    text = _header(record, name)
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def _event(record: Record) -> str | None:
    """The event's name; None of what cannot be decoded, or was left out since it was too large."""
    decoded = decode(record)
    return decoded.event if isinstance(decoded, Envelope) else None


def _matches(pattern: Pattern, name: str | None) -> bool:
    return name is not None and pattern.matches(name)
