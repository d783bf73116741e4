"""Bytes and headers of a Record to an Envelope, or to an Undecodable.

Only what matching needs is parsed: the event's name, and the sender when a Subscriber asks for
it. The value's own bytes are what is sent.
"""

import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeAlias

import msgspec

from thorn_stream.core import ids
from thorn_stream.core.records import Record, header

__all__ = ["Decoded", "Envelope", "Tombstone", "Undecodable", "decode", "invalid_name"]

_NAME: Final = re.compile(r"[^.\s\x00-\x1f\x7f-\x9f]+(?:\.[^.\s\x00-\x1f\x7f-\x9f]+)*")
_LONGEST_NAME: Final = 255
_EVENT_ID: Final = re.compile(rb"[\x20-\x7e]{1,128}")


class _Head(msgspec.Struct):
    event: str


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_any = msgspec.json.Decoder().decode
_SHALLOW: Final = 200
_MARGIN: Final = 150


def _decode_deep(value: bytes, margin: int = _MARGIN) -> _Head:
    """Decode with less of the stack than there is.

    A value nested so deeply that it just fits is read again later, from deeper calls; this leaves
    them room, so that it is undecodable here or never.
    """
    return _decode_deep(value, margin - 1) if margin else _decode_head(value)


def _whole(digits: str) -> int | float:
    """A number with more digits than `int` reads is beyond a double as well: infinite."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)


@dataclass(slots=True, eq=False)
class Envelope:
    """The decoded value of a Record.

    `event` is its name, `id` the event id, `record` the Record it was read from (of a retry: the
    Record of the event itself, as it stood in its input topic). `ignored_id` says that a
    `thorn-id` header was there but could not be used. `fields` parses the rest, once. `shared` is
    what the requests of all its Deliveries have in common, kept by `core.request`.
    """

    event: str
    id: str
    record: Record
    ignored_id: bool = False
    shared: object = field(default=None, repr=False)
    _fields: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def value(self) -> bytes:
        return self.record.value or b""

    def fields(self) -> dict[str, Any]:
        """`event`, `ref`, `sender`, `data` and whatever else stands at the top level."""
        if self._fields is None:
            fields: dict[str, Any] = {"ref": None, "sender": None, "data": {}}
            try:
                fields.update(_decode_any(self.value))
            except msgspec.DecodeError:  # a number beyond a double, which the head's reader skips
                fields.update(json.loads(self.value, parse_int=_whole))
            self._fields = fields
        return self._fields

    @property
    def sender(self) -> Any:
        return self.fields()["sender"]


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A value that is no Envelope; `why` in one line, fit for a header and a log."""

    why: str


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A null value."""


Decoded: TypeAlias = Envelope | Undecodable | Tombstone
_TOMBSTONE: Final = Tombstone()


@lru_cache(maxsize=10_000)
def invalid_name(name: str) -> str | None:
    """Say what is wrong with an event's name; None when nothing is."""
    if not name:
        return "the event name is empty"
    if len(name) > _LONGEST_NAME:
        return f"the event name has {len(name)} characters, {_LONGEST_NAME} are allowed"
    if _NAME.fullmatch(name) is None:
        return "the event name has an empty part, white space or control characters"
    return None


def decode(record: Record) -> Decoded:
    """Never raises: what cannot be read comes back as `Undecodable`."""
    value = record.value
    if value is None:
        return _TOMBSTONE
    try:
        if not value.isascii():
            value.decode("utf-8")
        nested = value.count(b"[") + value.count(b"{") > _SHALLOW
        name = (_decode_deep(value) if nested else _decode_head(value)).event
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Undecodable(f"not an envelope: {error}"[:200])
    why = invalid_name(name)
    if why is not None:
        return Undecodable(why)
    given = header(record.headers, "thorn-id") if record.headers else None
    if given is not None and _EVENT_ID.fullmatch(given):
        return Envelope(name, given.decode("ascii"), record)
    derived = ids.event_id(record.topic, record.partition, record.offset, record.timestamp)
    return Envelope(name, derived, record, ignored_id=given is not None)
