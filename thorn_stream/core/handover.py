"""Headers of retry, parked and dead-letter records: written here, read back here.

The value is the event's own. Its headers are kept, except `thorn-*` ones that have no meaning;
ours are replaced at each round, never piled up (spelling: docs/reference, "Record headers").
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from thorn_stream.core.deliveries import Delivery, Reason
from thorn_stream.core.envelope import Envelope, Undecodable, decode
from thorn_stream.core.extra import recipient_from
from thorn_stream.core.overrides import MEANT, EventRules
from thorn_stream.core.records import Headers, Record

__all__ = ["Held", "dead_letter_headers", "headers", "held", "restore", "undecodable_headers"]

_LONGEST_ERROR: Final = 200
_DEFINITION: Final = "thorn-subscriber-definition"
_NEEDED: Final = (
    "thorn-delivery",
    "thorn-subscriber",
    "thorn-attempt",
    "thorn-due",
    "thorn-first",
)
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")


@dataclass(slots=True, eq=False)
class Held:
    """A Delivery as a record of our own topics tells it.

    `due` (not before) and `first` (first attempt, or first parked) in unix milliseconds;
    `unknown_since` when its subscriber was first looked up in vain, None when it was found;
    `definition` is the JSON of one that came with the event, and is looked up nowhere; `parked` the
    cause, of what is parked now.
    """

    envelope: Envelope
    delivery: str
    subscriber: str
    attempts: int
    due: int
    first: int
    error: str = ""
    unknown_since: int | None = None
    definition: str = ""
    response: bytes | None = field(default=None, repr=False)
    parked: str = ""


def held(delivery: Delivery, *, due: int, now: int) -> Held:
    """What is written of a Delivery when it is handed over at `now`."""
    return Held(
        delivery.envelope,
        delivery=delivery.id,
        subscriber=delivery.subscriber.id,
        attempts=delivery.attempts,
        due=due,
        first=now if delivery.first is None else delivery.first,
        error=delivery.error,
        definition=delivery.definition,
        response=delivery.response,
    )


def _kept(given: Headers) -> Headers:
    """The event's own headers, without `thorn-*` ones that mean nothing on an input topic."""
    return [
        pair
        for pair in given
        if not pair[0].startswith("thorn-") or pair[0] in MEANT or pair[0].startswith("thorn-http-")
    ]


def _text(value: str) -> bytes:
    """ASCII; what is not is written as `?`."""
    return value.encode("ascii", "replace")


def headers(of: Held) -> Headers:
    """Headers of the retry (or parked) record that carries a Delivery on."""
    record = of.envelope.record
    made = _kept(record.headers)
    made += [
        ("thorn-id", _text(of.envelope.id)),
        ("thorn-delivery", _text(of.delivery)),
        ("thorn-subscriber", _text(of.subscriber)),
        ("thorn-attempt", b"%d" % of.attempts),
        ("thorn-due", b"%d" % of.due),
        ("thorn-first", b"%d" % of.first),
        ("thorn-error", _text(of.error[:_LONGEST_ERROR])),
        ("thorn-origin", _text(record.origin)),
        ("thorn-timestamp", b"%d" % record.timestamp),
    ]
    if record.key is not None:
        made.append(("thorn-key", record.key))
    if of.unknown_since is not None:
        made.append(("thorn-unknown", b"%d" % of.unknown_since))
    if of.parked:
        made.append(("thorn-parked", _text(of.parked)))
    if of.definition:
        made.append((_DEFINITION, _text(of.definition)))
    return made


def dead_letter_headers(of: Held, reason: Reason) -> Headers:
    """Headers of the dead letter of a Delivery, with its receiver's last answer if that is kept."""
    kept = [pair for pair in headers(of) if pair[0] != "thorn-parked"]
    answer = [] if of.response is None else [("thorn-response", of.response)]
    return [*kept, *answer, ("thorn-reason", _text(reason))]


def undecodable_headers(record: Record, why: str) -> Headers:
    """Headers of the dead letter of a Record that is no Envelope: no delivery, no subscriber."""
    return [
        *_kept(record.headers),
        ("thorn-error", _text(why[:_LONGEST_ERROR])),
        ("thorn-origin", _text(record.origin)),
        ("thorn-timestamp", b"%d" % record.timestamp),
        ("thorn-reason", _text(Reason.UNDECODABLE)),
    ]


def _whole(text: str) -> int:
    """A whole number, of no more digits than a time can have: larger ones break sums later."""
    if _WHOLE.fullmatch(text) is None:
        raise ValueError(f"{text[:30]!r} is no whole number")
    return int(text)


def _original(record: Record, ours: Mapping[str, bytes]) -> Record:
    """The event's own Record, as it stood in its input topic."""
    topic, partition, offset = ours["thorn-origin"].decode("ascii").rsplit(":", 2)
    return Record(
        topic=topic,
        partition=_whole(partition),
        offset=_whole(offset),
        key=ours.get("thorn-key"),
        value=record.value,
        headers=[*_kept(record.headers), ("thorn-id", ours["thorn-id"])],
        timestamp=_whole(ours["thorn-timestamp"].decode("ascii")),
    )


def restore(record: Record) -> Held | Undecodable:
    """Read a retry record back. Never raises: garbled or missing headers are `Undecodable`."""
    ours = {name: value or b"" for name, value in record.headers if name.startswith("thorn-")}
    try:
        envelope = decode(_original(record, ours))
        if not isinstance(envelope, Envelope):
            return envelope if isinstance(envelope, Undecodable) else Undecodable("no value")
        text = {name: ours[name].decode("ascii") for name in _NEEDED}
        unknown = ours.get("thorn-unknown")
        found = Held(
            envelope,
            delivery=text["thorn-delivery"],
            subscriber=text["thorn-subscriber"],
            attempts=_whole(text["thorn-attempt"]),
            due=_whole(text["thorn-due"]),
            first=_whole(text["thorn-first"]),
            error=ours.get("thorn-error", b"").decode("ascii"),
            unknown_since=None if unknown is None else _whole(unknown.decode("ascii")),
            definition=ours.get(_DEFINITION, b"").decode("ascii"),
        )
        if found.definition:
            recipient_from(found.definition, found.subscriber, EventRules())
    except KeyError as error:
        return Undecodable(f"the header {error.args[0]} is missing")
    except ValueError as error:
        why = " ".join(str(error).split())
        return Undecodable(f"a thorn- header is garbled: {why}"[:_LONGEST_ERROR])
    if envelope.ignored_id:
        return Undecodable("the header thorn-id is garbled")
    if found.attempts < 0 or found.due < 0 or not found.delivery or not found.subscriber:
        return Undecodable("a thorn- header is garbled")
    return found
