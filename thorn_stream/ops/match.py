"""Who would be called for an event, and who not and why."""

from typing import Any

from thorn_stream.adapters.files import FileSubscribers
from thorn_stream.config import Loaded
from thorn_stream.core.directory import Directory
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.errors import UsageError
from thorn_stream.core.records import Record
from thorn_stream.core.validators import Guard
from thorn_stream.ops.guarding import guard_for, inline, parser

__all__ = ["match", "read_directory", "table", "without_secrets"]


def read_directory(loaded: Loaded, guard: Guard | None = None) -> Directory:
    """Everybody who may be called: from the settings, and from files.

    `guard` is that of the settings unless another is given. Raises ConfigurationError with a line
    for each mistake, URLs that it refuses included.
    """
    settings = loaded.settings
    guard = guard_for(settings) if guard is None else guard
    files = FileSubscribers(settings.subscriber_files, loaded.secrets, parser(guard))
    place = f"{loaded.path}: subscribers" if loaded.path else "THORN_SUBSCRIBERS"
    return Directory([(place, inline(guard, place, settings.subscribers)), *files.sources()])


def match(directory: Directory, value: bytes) -> dict[str, Any]:
    """Explain an envelope: `{"event", "matched": [...], "unmatched": [...]}`."""
    envelope = decode(Record("", 0, 0, None, value, [], -1))
    if not isinstance(envelope, Envelope):
        raise UsageError("the event cannot be decoded")
    matched: list[dict[str, str]] = []
    unmatched: list[dict[str, str]] = []
    for subscriber, reason in directory.explain(envelope):
        who = {"id": subscriber.id, "url": without_secrets(subscriber.url)}
        if reason is None:
            matched.append({**who, "state": subscriber.state})
        else:
            unmatched.append({**who, "reason": reason})
    return {"event": envelope.event, "matched": matched, "unmatched": unmatched}


def without_secrets(url: str) -> str:
    """Without query and user part, which may hold tokens."""
    scheme, separator, rest = url.partition("://")
    rest = rest.partition("?")[0].partition("#")[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


_WHY = {
    "pattern": "no pattern matches",
    "user": "for another user",
    "filter": "its filter says no",
    "disabled": "disabled",
}


def table(found: dict[str, Any]) -> str:
    """The same for people."""
    rows = [("yes", one["id"], one["url"], _state(one["state"])) for one in found["matched"]]
    rows += [("no", one["id"], one["url"], _WHY[one["reason"]]) for one in found["unmatched"]]
    if not rows:
        return "there are no subscribers: write them into config/subscribers/*.yaml"
    head = ("called", "subscriber", "url", "why")
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(4)]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in (head, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def _state(state: str) -> str:
    return "matches, but paused: its deliveries wait" if state == "paused" else "matches"
