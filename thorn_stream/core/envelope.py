"""Bytes and headers of a Record to an Envelope, or to an Undecodable.

Only what matching needs is parsed: the event's name, and the sender when a Subscriber asks for
it. The value's own bytes are what is sent. A CloudEvent is an Envelope in other words
(`core.cloudevents`); what else an event's headers ask for is read in `core.overrides`.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from thorn_stream.core import cloudevents, ids
from thorn_stream.core.cloudevents import BINARY, CONTENT_TYPE, CloudEvent, is_structured
from thorn_stream.core.overrides import UNREAD, Overrides
from thorn_stream.core.records import Headers, Record

__all__ = ["Decoded", "Envelope", "Tombstone", "Undecodable", "decode", "invalid_name"]

_NAME: Final = re.compile(r"[^.\s\x00-\x1f\x7f-\x9f]+(?:\.[^.\s\x00-\x1f\x7f-\x9f]+)*")
_LONGEST_NAME: Final = 255
_EVENT_ID: Final = re.compile(rb"[\x20-\x7e]{1,128}")


class _Head(msgspec.Struct):
    event: str


T = TypeVar("T")

_decode_head = msgspec.json.Decoder(_Head).decode
_decode_any = msgspec.json.Decoder().decode
_SHALLOW: Final = 200
_MARGIN: Final = 150


def _with_margin(read: Callable[[], T], margin: int = _MARGIN) -> T:
    """Read with less of the stack than there is.

    A value nested so deeply that it just fits is read again later, from deeper calls; this leaves
    them room, so that it is undecodable here or never.
    """
    return _with_margin(read, margin - 1) if margin else read()


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
    what the requests of all its Deliveries have in common, kept by `core.request`. `own` is what
    its headers ask for beside that: None when there is nothing, else `UNREAD` until dispatch, which
    knows the ceilings, has read it. `cloud` is there when the Record holds a CloudEvent.
    """

    event: str
    id: str
    record: Record
    ignored_id: bool = False
    shared: object = field(default=None, repr=False)
    own: Overrides | None = field(default=None, repr=False)
    cloud: CloudEvent | None = field(default=None, repr=False)
    _fields: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def value(self) -> bytes:
        """The Envelope's JSON: the Record's own bytes, unless it holds a CloudEvent."""
        if self.cloud is not None:
            return self.cloud.envelope()
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


_Mode: TypeAlias = Literal["structured", "binary"]
_Told: TypeAlias = tuple[bytes | None, Overrides | None, _Mode | None]
"""What headers say of a Record: the id given, whether more is asked for, how it is a CloudEvent."""
_CLOUD: Final = BINARY | {CONTENT_TYPE}


def decode(record: Record) -> Decoded:
    """Never raises: what cannot be read comes back as `Undecodable`."""
    value = record.value
    if value is None:
        return _TOMBSTONE
    given = own = mode = None
    if record.headers:
        given, own, mode = _read_headers(record.headers)
        if mode is not None:
            return _decode_cloud(record, value, (given, own, mode))
    try:
        if not value.isascii():
            value.decode("utf-8")
        nested = value.count(b"[") + value.count(b"{") > _SHALLOW
        name = (_with_margin(lambda: _decode_head(value)) if nested else _decode_head(value)).event
    except msgspec.ValidationError as error:  # it is JSON, with no event's name in it
        return _decode_cloud(record, value, (given, own, None), f"not an envelope: {error}"[:200])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Undecodable(f"not an envelope: {error}"[:200])
    why = invalid_name(name)
    if why is not None:
        return Undecodable(why)
    if given is not None and _EVENT_ID.fullmatch(given):
        return Envelope(name, given.decode("ascii"), record, False, None, own)
    derived = ids.event_id(record.topic, record.partition, record.offset, record.timestamp)
    return Envelope(name, derived, record, given is not None, None, own)


def _read_headers(headers: Headers) -> _Told:
    given: bytes | None = None
    own: Overrides | None = None
    mode: _Mode | None = None
    for name, value in headers:
        if name.startswith("thorn-"):
            if name == "thorn-id":
                given = value or b""
            elif not name.startswith("thorn-http-"):
                own = UNREAD
        elif name in _CLOUD:
            if name != CONTENT_TYPE:
                mode = mode or "binary"
            elif is_structured(value):
                mode = "structured"
    return given, own, mode


def _decode_cloud(record: Record, value: bytes, told: _Told, otherwise: str = "") -> Decoded:
    """A Record whose headers call it a CloudEvent; or a value that may be one, `otherwise` not."""
    given, own, mode = told
    try:
        if mode == "binary":
            cloud: CloudEvent | None = _with_margin(
                lambda: cloudevents.binary(value, record.headers)
            )
        else:
            value.decode("utf-8")
            cloud = _with_margin(lambda: cloudevents.structured(value, told=not otherwise))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return Undecodable(f"not a CloudEvent: {error}"[:200])
    if cloud is None:
        return Undecodable(otherwise)
    why = invalid_name(cloud.type)
    if why is not None:
        return Undecodable(f"not a CloudEvent: {why}")
    if given is not None and _EVENT_ID.fullmatch(given):
        return Envelope(cloud.type, given.decode("ascii"), record, False, None, own, cloud)
    derived = ids.derived(cloud.identity)
    return Envelope(cloud.type, derived, record, given is not None, None, own, cloud)
