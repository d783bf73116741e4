"""An event to bytes and headers: the other side of `core.envelope` and `core.overrides`.

What cannot be sent is refused here, by the name of the argument, before it is queued: a dispatcher
could only put it among the dead letters.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from thorn_stream.core.envelope import Undecodable, decode, invalid_name
from thorn_stream.core.records import Headers, Record
from thorn_stream.core.subscribers import FORBIDDEN_HEADERS, TOKEN

__all__ = [
    "check_name",
    "encode_envelope",
    "encode_header",
    "http_headers",
    "key_bytes",
    "option_headers",
    "sender_key",
]

_NESTED: Final = 200
_MOST_SECONDS: Final = 999_999_999
_NEVER: Final = FORBIDDEN_HEADERS | {"authorization", "cookie"}
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LONGEST_VALUE: Final = 8192


def check_name(name: str) -> str:
    """The name as it is. Raises ValueError for what no subscriber could match."""
    if not isinstance(name, str):
        raise ValueError(f"name: {name!r} is no text; write it like order.paid")  # noqa: TRY004
    if why := invalid_name(name):
        raise ValueError(f"name {name!r}: {why}; write it like order.paid")
    return name


def sender_key(sender: Any) -> Any:
    """A sender as it is written: its `pk`, else its `id`, else itself; a UUID as text.

    Raises ValueError for what has neither and is no number or text.
    """
    if sender is None or isinstance(sender, str | int):
        return sender
    if isinstance(sender, UUID):
        return str(sender)
    for attribute in ("pk", "id"):
        found = getattr(sender, attribute, None)
        if found is not None:
            return str(found) if isinstance(found, UUID) else found
    raise ValueError(
        f"sender: {type(sender).__name__} has neither pk nor id; give a saved user, or its key"
    )


def key_bytes(key: str | bytes | int | UUID | None) -> bytes | None:
    """A record's key as bytes. Raises ValueError for what is neither text, number nor bytes."""
    if key is None or isinstance(key, bytes):
        return key
    if isinstance(key, str | int | UUID):
        return str(key).encode("utf-8", "replace")
    raise ValueError(f"key: {type(key).__name__} is no key; give a text or bytes")


def encode_envelope(fields: Mapping[str, Any]) -> bytes:
    """The JSON of an envelope. Raises ValueError naming what in it is no JSON, and the remedy.

    Beside JSON's own types, dates and times (ISO 8601), durations (seconds), decimals and UUIDs
    (text), enumerations (their value), sets, dataclasses and lazy texts are written.
    """
    try:
        value = _encode(fields).encode()
    except UnicodeEncodeError:
        raise ValueError("data: has characters that are not Unicode text") from None
    except RecursionError:
        raise ValueError("data: is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"data: cannot be written as JSON: {error}") from None
    if value.count(b"[") + value.count(b"{") > _NESTED:
        decoded = decode(Record("", 0, 0, None, value, [], -1))
        if isinstance(decoded, Undecodable):
            raise ValueError(f"data: no dispatcher could read it: {decoded.why}")
    return value


def _plain(value: Any) -> Any:
    """What JSON has no type for, as one that it has."""
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal() | UUID():
            return str(value)
        case Enum():
            return value.value
        case set() | frozenset():
            return list(value)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        case _ if any(kind.__name__ == "Promise" for kind in type(value).__mro__):
            return str(value)  # a lazy text of Django's
    raise TypeError(
        f"{type(value).__name__} is no JSON type: give a text, a number, a list or a dictionary"
    )


_encode: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
).encode


def encode_header(value: Any) -> bytes:
    """JSON in ASCII, as a header carries it. Raises ValueError."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, RecursionError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None


# --- headers -----------------------------------------------------------------------------------


def option_headers(options: Mapping[str, Any]) -> Headers:
    """An event's own `timeout`, `retry`, `retry_max`, `retry_delay`, `allow_keepalive` as headers.

    None means not said. Raises ValueError naming the option.
    """
    headers: Headers = []
    for option, value in options.items():
        if value is None:
            continue
        if option in ("retry", "allow_keepalive"):
            if not isinstance(value, bool):
                raise ValueError(f"{option}: must be True or False, not {value!r}")
            text = "true" if value else "false"
        elif option == "retry_max":
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"retry_max: must be a whole number from 0, not {value!r}")
            text = str(value)
        else:
            text = _seconds(option, value)
        headers.append((f"thorn-{option.replace('_', '-')}", text.encode()))
    return headers


def _seconds(option: str, value: Any) -> str:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    least = "more than 0" if option == "timeout" else "0 or more"
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < 0 or value > _MOST_SECONDS or (option == "timeout" and value == 0):
        raise ValueError(f"{option}: must be seconds, {least}, not {value!r}")
    return f"{value:.6f}".rstrip("0").rstrip(".") or "0"


def http_headers(headers: Mapping[str, Any] | Sequence[tuple[str, Any]] | None) -> Headers:
    """Extra HTTP headers of the requests, as `thorn-http-NAME`. Raises ValueError naming one."""
    if not headers:
        return []
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [_http_header(name, value) for name, value in pairs]


def _http_header(name: str, value: Any) -> tuple[str, bytes]:
    lower = str(name).lower()
    if not TOKEN.fullmatch(str(name)):
        raise ValueError(f"headers: {name!r} is no header name")
    if lower in _NEVER or lower.startswith(("hook-", "webhook-")):
        raise ValueError(
            f"headers: {name} may not travel with an event; write it into the subscriber's own "
            "headers"
        )
    text = str(value)
    if _CONTROL.search(text) or len(text.encode("utf-8", "replace")) > _LONGEST_VALUE:
        raise ValueError(f"headers: the value of {name} has a line end, or is too long")
    return f"thorn-http-{name}", text.encode("utf-8", "replace")
