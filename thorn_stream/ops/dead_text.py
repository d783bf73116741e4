"""Dead letters as they are printed: a table of many, and one of them whole."""

import base64
import json
from collections.abc import Iterable
from typing import Any, Final

from thorn_stream.core.records import Record, header
from thorn_stream.ops.dead import Listing, row
from thorn_stream.ops.moments import shown
from thorn_stream.ops.text import printable, table

__all__ = ["as_json", "lines", "listed"]

_NO_JSON: Final = object()
_DEEPEST: Final = 100
_TIMES: Final = ("first", "dead_at")


def listed(listing: Listing) -> list[str]:
    """A line for each, the newest last; its first word is what `dead show` takes."""
    if not listing.rows:
        return ["no dead letters"]
    return table(
        ("dead letter", "at", "reason", "event", "subscriber", "attempts", "error"),
        [
            (
                _place(one),
                shown(one["dead_at"]),
                *(_text(one[name]) for name in ("reason", "event", "subscriber", "attempts")),
                _text(one["error"]),
            )
            for one in listing.rows
        ],
    )


def _place(one: dict[str, Any]) -> str:
    return f"{one['topic']}-{one['partition']}-{one['offset']}"


def _text(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)


def as_json(record: Record) -> dict[str, Any]:
    """The fields of a list's row, then key, headers, and the value: as JSON, else in base64."""
    value = _parsed(record.value)
    told: dict[str, Any] = {"value": None if value is _NO_JSON else value}
    if value is _NO_JSON and record.value is not None:
        told["value_base64"] = base64.b64encode(record.value).decode("ascii")
    return {
        **row(record),
        "key": _decoded(record.key),
        "headers": [[name, _decoded(value)] for name, value in record.headers],
        **told,
    }


def lines(record: Record) -> Iterable[str]:
    """All of one dead letter: what became of it, its headers, its value."""
    facts = row(record)
    yield _place(facts)
    for name in ("reason", "event", "subscriber", "delivery", "attempts", "error", *_TIMES):
        value = facts[name]
        yield f"  {name:<10}  {shown(value) if name in _TIMES else printable(_text(value))}"
    origin = header(record.headers, "thorn-origin")
    yield f"  {'origin':<10}  {_text(_bytes(origin))}"
    yield f"  {'key':<10}  {_text(_bytes(record.key))}"
    yield "headers"
    for name, content in record.headers:
        yield f"  {printable(name)}: {_text(_bytes(content))}"
    if record.value is None:
        yield "no value: it was left out, since Kafka would not take it"
        return
    yield f"value, {len(record.value)} bytes"
    parsed = _parsed(record.value)
    if parsed is _NO_JSON:
        yield f"  {_bytes(record.value)}"
        return
    for line in json.dumps(parsed, indent=2, ensure_ascii=False).split("\n"):
        yield f"  {printable(line)}"


def _decoded(value: bytes | None) -> str | None:
    """Text where it is UTF-8, the rest escaped."""
    return None if value is None else value.decode("utf-8", "backslashreplace")


def _bytes(value: bytes | None) -> str | None:
    """The same for a terminal."""
    return None if value is None else printable(value.decode("utf-8", "backslashreplace"))


def _parsed(value: bytes | None) -> Any:
    if value is None:
        return _NO_JSON
    try:
        parsed = json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _NO_JSON
    return _NO_JSON if _deeper(parsed, _DEEPEST) else parsed


def _deeper(value: Any, levels: int) -> bool:
    """Whether it is nested deeper than can be printed indented without using up the stack."""
    level = [value]
    for _ in range(levels):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _refuse(constant: str) -> Any:
    raise ValueError(constant)
