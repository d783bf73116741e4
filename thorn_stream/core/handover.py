"""Headers of retry, parked and dead-letter records: written here, read back here.

The value is the event's own. Its headers are kept, except `thorn-*` ones that have no meaning;
ours are replaced at each round, never piled up (spelling: docs/reference, "Record headers").
"""

from dataclasses import dataclass
from typing import Final

from thorn_stream.core.deliveries import Delivery, Reason
from thorn_stream.core.envelope import Envelope, Undecodable, decode
from thorn_stream.core.records import Headers, Record

__all__ = ["Held", "dead_letter_headers", "headers", "restore", "undecodable_headers"]

_MEANT: Final = frozenset(
    {
        "thorn-timeout",
        "thorn-retry",
        "thorn-retry-max",
        "thorn-retry-delay",
        "thorn-allow-keepalive",
        "thorn-validators",
        "thorn-subscribers",
        "thorn-results",
    }
)
_LONGEST_ERROR: Final = 200


@dataclass(slots=True, eq=False)
class Held:
    """A Delivery as a retry record tells it: the event's own Record, and how far it has come.

    `due` and `first` in unix milliseconds. `partition` and `offset` of the retry record itself are
    with its Ledger entry.
    """

    envelope: Envelope
    delivery: str
    subscriber: str
    attempts: int
    due: int
    first: int | None
    error: str


def _kept(given: Headers) -> Headers:
    """The event's own headers, without `thorn-*` ones that mean nothing on an input topic."""
    return [
        pair
        for pair in given
        if not pair[0].startswith("thorn-")
        or pair[0] in _MEANT
        or pair[0].startswith("thorn-http-")
    ]


def _text(value: str) -> bytes:
    """ASCII; what is not is written as `?`."""
    return value.encode("ascii", "replace")


def headers(delivery: Delivery, *, due: int, first: int) -> Headers:
    """Headers of the retry (or parked) record that carries this Delivery on."""
    envelope, record = delivery.envelope, delivery.envelope.record
    made = _kept(record.headers)
    made += [
        ("thorn-id", _text(envelope.id)),
        ("thorn-delivery", _text(delivery.id)),
        ("thorn-subscriber", _text(delivery.subscriber.id)),
        ("thorn-attempt", b"%d" % delivery.attempts),
        ("thorn-due", b"%d" % due),
        ("thorn-first", b"%d" % first),
        ("thorn-error", _text(delivery.error[:_LONGEST_ERROR])),
        ("thorn-origin", _text(record.origin)),
        ("thorn-timestamp", b"%d" % record.timestamp),
    ]
    if record.key is not None:
        made.append(("thorn-key", record.key))
    return made


def dead_letter_headers(delivery: Delivery, reason: Reason, *, now: int) -> Headers:
    """Headers of the dead letter of a Delivery."""
    first = delivery.first if delivery.first is not None else now
    made = headers(delivery, due=now, first=first)
    made.append(("thorn-reason", _text(reason)))
    return made


def undecodable_headers(record: Record, why: str) -> Headers:
    """Headers of the dead letter of a Record that is no Envelope: no delivery, no subscriber."""
    return [
        *_kept(record.headers),
        ("thorn-error", _text(why[:_LONGEST_ERROR])),
        ("thorn-origin", _text(record.origin)),
        ("thorn-timestamp", b"%d" % record.timestamp),
        ("thorn-reason", _text(Reason.UNDECODABLE)),
    ]


def restore(record: Record) -> Held | Undecodable:
    """Read a retry record back. Never raises: garbled or missing headers are `Undecodable`."""
    ours = {name: value or b"" for name, value in record.headers if name.startswith("thorn-")}
    try:
        topic, partition, offset = ours["thorn-origin"].decode("ascii").rsplit(":", 2)
        original = Record(
            topic=topic,
            partition=int(partition),
            offset=int(offset),
            key=ours.get("thorn-key"),
            value=record.value,
            headers=[*_kept(record.headers), ("thorn-id", ours["thorn-id"])],
            timestamp=int(ours["thorn-timestamp"]),
        )
        envelope = decode(original)
        if not isinstance(envelope, Envelope):
            return envelope if isinstance(envelope, Undecodable) else Undecodable("no value")
        first = int(ours["thorn-first"])
        held = Held(
            envelope,
            delivery=ours["thorn-delivery"].decode("ascii"),
            subscriber=ours["thorn-subscriber"].decode("ascii"),
            attempts=int(ours["thorn-attempt"]),
            due=int(ours["thorn-due"]),
            first=first,
            error=ours.get("thorn-error", b"").decode("ascii"),
        )
    except KeyError as error:
        return Undecodable(f"the header {error.args[0]} is missing")
    except ValueError as error:
        return Undecodable(f"a thorn- header is garbled: {error}"[:_LONGEST_ERROR])
    if held.attempts < 0 or held.due < 0 or not held.delivery or not held.subscriber:
        return Undecodable("a thorn- header is garbled")
    return held
