"""Header block and body of a request.

In three layers, so that nothing is made more often than it changes: what a Subscriber's requests
have in common, what those of one event have, and what one Attempt has alone.

What is not ASCII stands in a header percent-encoded as UTF-8. Values that could end a line are
refused where they enter (a Subscriber) or left out (an event).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from thorn_stream.core.envelope import Envelope
from thorn_stream.core.signing import Signer
from thorn_stream.core.subscribers import (
    FORBIDDEN_HEADERS,
    LONGEST_NAME,
    LONGEST_VALUE,
    TOKEN,
    Subscriber,
)

__all__ = ["EventParts", "RequestFactory", "event_parts"]

_PREFIX: Final = "thorn-http-"
_PASSED_ON: Final = ("traceparent", "tracestate")
_NEVER: Final = FORBIDDEN_HEADERS | {"authorization", "cookie"}
_OURS: Final = ("hook-", "webhook-")
_LONGEST_BLOCK: Final = 16_384  # of one event's header lines: many servers take no more in all
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NULL: Final = msgspec.Raw(b"null")


@dataclass(slots=True, eq=False)
class EventParts:
    """What the requests of one event share.

    `lines` are its header lines by lower-case name, `block` all of them; `ignored` counts
    `thorn-http-` (and trace) headers that were left out. `bodies` are other renderings of the
    value, by what they were made for.
    """

    block: bytes
    lines: Mapping[str, bytes]
    ignored: int = 0
    bodies: dict[tuple[str, str], bytes] | None = None


def event_parts(envelope: Envelope) -> EventParts:
    """Made on first use, and kept with the Envelope."""
    parts = envelope.shared
    if isinstance(parts, EventParts):
        return parts
    parts = envelope.shared = _event_parts(envelope)
    return parts


@lru_cache(maxsize=10_000)
def _hook_event(name: str) -> tuple[bytes, Mapping[str, bytes]]:
    line = _line("Hook-Event", _ascii(name.encode()))
    return line, {"hook-event": line}


def _event_parts(envelope: Envelope) -> EventParts:
    line, lines = _hook_event(envelope.event)
    if not envelope.record.headers:
        return EventParts(line, lines)
    lines, ignored, room = dict(lines), 0, _LONGEST_BLOCK
    for key, given in envelope.record.headers:
        if key.startswith(_PREFIX):
            name = key.removeprefix(_PREFIX)
        elif key in _PASSED_ON:
            name = key
        else:
            continue
        value = given or b""
        if len(value) > LONGEST_VALUE or _CONTROL.search(value) or not _allowed(name):
            ignored += 1
            continue
        line = _line(name, _ascii(value.strip(b" \t")))
        room -= len(line)
        if room < 0:
            ignored += 1
            continue
        lines[name.lower()] = line
    return EventParts(b"".join(lines.values()), lines, ignored)


class RequestFactory:
    """Renders the requests to one Subscriber; made anew when the Subscriber changes.

    `secrets` are those it signs with, newest first; none: not signed. `source` is what its
    CloudEvents come from when an event has no `ref`.
    """

    __slots__ = ("_content_type", "_own", "_signer", "_source", "_static", "_user_agent")

    def __init__(
        self, subscriber: Subscriber, secrets: Sequence[str], *, user_agent: str, source: str
    ) -> None:
        own = {
            name.lower(): _line(name, _ascii(value.strip().encode()))
            for name, value in subscriber.headers.items()
        }
        self._content_type = subscriber.content_type
        self._source = source
        self._signer = Signer(secrets, subscriber.hmac_digest) if secrets else None
        self._own = frozenset(own)
        self._user_agent = b""
        if "user-agent" not in own:
            self._user_agent = _line("User-Agent", _ascii(user_agent.encode()))
        self._static = b"".join(
            [
                _line("Content-Type", subscriber.content_type.encode()),
                _line("Hook-Subscription", subscriber.id.encode()),
                *own.values(),
            ]
        )

    def build(
        self, envelope: Envelope, delivery_id: str, attempt: int, now: int
    ) -> tuple[bytes, bytes]:
        """Header lines (each ended by CRLF) and body of one Attempt, made at `now` (unix seconds).

        `attempt` is its number, from 1. Host, Content-Length and what else belongs to the
        connection is the Transport's to add.
        """
        parts = event_parts(envelope)
        body = envelope.value
        if self._content_type != "application/json":
            body = self._rendered(envelope, parts)
        common = self._static + self._event_block(parts)
        signer, webhook_id = self._signer, delivery_id.encode()
        if signer is None:
            return (
                b"%bHook-Delivery: %b\r\nwebhook-id: %b\r\nHook-Attempt: %d\r\n"
                b"webhook-timestamp: %d\r\n" % (common, webhook_id, webhook_id, attempt, now)
            ), body
        return (
            b"%bHook-Delivery: %b\r\nwebhook-id: %b\r\nHook-Attempt: %d\r\n"
            b"webhook-timestamp: %d\r\nwebhook-signature: %b\r\nHook-HMAC: %b\r\n"
            % (
                common,
                webhook_id,
                webhook_id,
                attempt,
                now,
                signer.standard(delivery_id, now, body),
                signer.hook_hmac(body),
            )
        ), body

    def _event_block(self, parts: EventParts) -> bytes:
        """A subscriber's own header wins over the event's, and that over our User-Agent."""
        lines = parts.lines
        if len(lines) == 1:  # Hook-Event alone, as nearly always
            return self._user_agent + parts.block
        block = parts.block
        if not self._own.isdisjoint(lines):
            block = b"".join(line for name, line in lines.items() if name not in self._own)
        return block if "user-agent" in lines else self._user_agent + block

    def _rendered(self, envelope: Envelope, parts: EventParts) -> bytes:
        made_for = (self._content_type, self._source)
        if parts.bodies is None:
            parts.bodies = {}
        body = parts.bodies.get(made_for)
        if body is None:
            if self._content_type == "application/cloudevents+json":
                body = _cloud_event(envelope, self._source)
            else:
                body = _form(envelope)
            parts.bodies[made_for] = body
        return body


# --- headers -----------------------------------------------------------------------------------


def _line(name: str, value: bytes) -> bytes:
    return b"%b: %b\r\n" % (name.encode("ascii"), value)


def _percent(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found[0][0]


def _ascii(value: bytes) -> bytes:
    return value if value.isascii() else _NOT_ASCII.sub(_percent, value)


def _allowed(name: str) -> bool:
    if len(name) > LONGEST_NAME or not TOKEN.fullmatch(name):
        return False
    lower = name.lower()
    return lower not in _NEVER and not lower.startswith(_OURS)


# --- bodies ------------------------------------------------------------------------------------


class _Rest(msgspec.Struct):
    """The value's fields as they stand in it, so that no number is rounded on its way."""

    ref: msgspec.Raw = _NULL
    sender: msgspec.Raw = _NULL
    data: msgspec.Raw = msgspec.Raw(b"{}")


_decode_rest = msgspec.json.Decoder(_Rest).decode


def _text(raw: msgspec.Raw) -> str | None:
    """A JSON string's content, any other value as it stands; None for null."""
    written = bytes(raw)
    if written == b"null":
        return None
    if written.startswith(b'"'):
        text: str = json.loads(written)
        return text.encode("utf-8", "replace").decode()
    return written.decode()


def _form(envelope: Envelope) -> bytes:
    rest = _decode_rest(envelope.value)
    fields: Mapping[str, str | bytes] = {
        "event": envelope.event,
        "ref": _text(rest.ref) or "",
        "sender": _text(rest.sender) or "",
        "data": bytes(rest.data),
    }
    return urlencode(fields).encode("ascii")


def _cloud_event(envelope: Envelope, source: str) -> bytes:
    """Structured mode of CloudEvents 1.0.2 (JSON event format); one that came as such goes on."""
    if envelope.cloud is not None:
        return envelope.cloud.structured()
    rest = _decode_rest(envelope.value)
    ref = _text(rest.ref) or None
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": envelope.id,
        "type": envelope.event,
        "source": ref or source,
    }
    if ref is not None:
        event["subject"] = ref
    moment = _rfc3339(envelope.record.timestamp)
    if moment is not None:
        event["time"] = moment
    event["datacontenttype"] = "application/json"
    event["data"] = rest.data
    return msgspec.json.encode(event)


def _rfc3339(timestamp: int) -> str | None:
    """None where Kafka has no timestamp, or one beyond the calendar."""
    if timestamp < 0:
        return None
    try:
        moment = _EPOCH + timedelta(milliseconds=timestamp)
    except OverflowError:
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
