"""CloudEvents in: a Record that holds one, to what an Envelope needs of it.

CloudEvents 1.0.2 with its JSON event format and its Kafka protocol binding. Structured mode: the
value is the whole event. Binary mode: attributes stand in `ce_` headers, the value is the data,
and `content-type` says of what type it is. Which mode a Record is in is told by its headers, and
without a word there by the value.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from thorn_stream.core.records import Headers, header

__all__ = ["BINARY", "CONTENT_TYPE", "CloudEvent", "binary", "is_structured", "structured"]

CONTENT_TYPE: Final = "content-type"
BINARY: Final = frozenset({"ce_specversion", "ce_type"})
"""Headers that a Record in binary mode has, and no other one does."""

_STRUCTURED: Final = b"application/cloudevents+json"
_PREFIX: Final = "ce_"
_NO_DATA: Final = msgspec.Raw(b"{}")
_NULL: Final = msgspec.Raw(b"null")
_NOT_ATTRIBUTES: Final = frozenset({"data", "data_base64", "datacontenttype"})


class _Structured(msgspec.Struct):
    """The attributes that mean something here; `event` is there in an Envelope only."""

    specversion: str
    type: str
    source: str
    id: str
    subject: str | None = None
    sender: msgspec.Raw = _NULL
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data_base64: str | None = None
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_structured = msgspec.json.Decoder(_Structured).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode


@dataclass(slots=True, eq=False)
class CloudEvent:
    """One CloudEvent.

    `type` is the event's name, `ref` its subject or else its source, `identity` what its event id
    is derived from. `data` and `sender` (an extension attribute) are JSON as it was written.
    """

    type: str
    ref: str
    identity: str
    sender: msgspec.Raw
    data: msgspec.Raw
    _value: bytes | None = None
    _attributes: Mapping[str, str] = field(default_factory=dict)
    _data_name: str = "data"
    _envelope: bytes | None = None

    def envelope(self) -> bytes:
        """The JSON of an Envelope that says the same; made once."""
        if self._envelope is None:
            self._envelope = msgspec.json.encode(
                {"event": self.type, "ref": self.ref, "sender": self.sender, "data": self.data}
            )
        return self._envelope

    def structured(self) -> bytes:
        """The CloudEvent in structured mode: the value's own bytes, where it came so."""
        if self._value is None:
            event: dict[str, Any] = dict(self._attributes)
            event[self._data_name] = self.data
            self._value = msgspec.json.encode(event)
        return self._value


def is_structured(content_type: bytes | None) -> bool:
    """Whether this `content-type` header says that the value is a CloudEvent in JSON."""
    if content_type is None or b"cloudevents" not in content_type.lower():  # as nearly always
        return False
    return _media_type(content_type) == _STRUCTURED


def structured(value: bytes, *, told: bool) -> CloudEvent | None:
    """Read structured mode. `told`: a header said so; else the value itself has to look like it.

    None: an object that is none, when nobody has said so. Raises `msgspec.DecodeError`,
    RecursionError, ValueError.
    """
    try:
        read = _decode_structured(value)
    except msgspec.ValidationError:
        if told:
            raise
        return None
    if not told and read.event is not msgspec.UNSET:
        return None
    _check(read.specversion, {"source": read.source, "id": read.id})
    data = read.data
    if data is msgspec.UNSET:
        data = _NO_DATA if read.data_base64 is None else _raw(read.data_base64)
    return CloudEvent(
        type=read.type,
        ref=read.subject or read.source,
        identity=f"{read.source}/{read.id}",
        sender=read.sender,
        data=data,
        _value=value,
    )


def binary(value: bytes, headers: Headers) -> CloudEvent:
    """Read binary mode. Raises `msgspec.DecodeError`, RecursionError, ValueError."""
    given = {
        name[len(_PREFIX) :]: _text(name, value)
        for name, value in headers
        if name.startswith(_PREFIX) and value is not None
    }
    for name in ("specversion", "type", "source", "id"):
        if name not in given:
            raise ValueError(f"the header ce_{name} is missing")
    _check(given["specversion"], {"source": given["source"], "id": given["id"]})
    attributes = {name: text for name, text in given.items() if name not in _NOT_ATTRIBUTES}
    content_type = header(headers, CONTENT_TYPE)
    if content_type:
        attributes["datacontenttype"] = _text(CONTENT_TYPE, content_type)
    data, data_name = _data(value, _media_type(content_type))
    sender = given.get("sender")
    return CloudEvent(
        type=given["type"],
        ref=given.get("subject") or given["source"],
        identity=f"{given['source']}/{given['id']}",
        sender=_NULL if sender is None else _raw(sender),
        data=data,
        _attributes=attributes,
        _data_name=data_name,
    )


def _check(specversion: str, needed: Mapping[str, str]) -> None:
    if not specversion.startswith("1."):
        raise ValueError(f"specversion is {specversion[:20]!r}, 1.0 is read")
    for name, value in needed.items():
        if not value:
            raise ValueError(f"{name} is empty")


def _media_type(content_type: bytes | None) -> bytes:
    """Without its parameters; nothing said means JSON, as in structured mode."""
    if not content_type:
        return b"application/json"
    return content_type.partition(b";")[0].strip().lower()


def _data(value: bytes, media_type: bytes) -> tuple[msgspec.Raw, str]:
    """The data as JSON, and the name it has in a structured CloudEvent."""
    if not value:
        return _NO_DATA, "data"
    if media_type.endswith((b"/json", b"+json")):
        value.decode("utf-8")
        return _decode_raw(value), "data"
    try:
        return _raw(value.decode("utf-8")), "data"
    except UnicodeDecodeError:
        return _raw(base64.b64encode(value).decode("ascii")), "data_base64"


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(text))


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"the header {name[:50]!r} is not UTF-8") from None
