"""Who may be called, as `subscribers list` shows it: no secret is in it."""

import re
from typing import Any, Final

from thorn_stream.core.directory import Directory
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.ops import text
from thorn_stream.ops.match import without_secrets

__all__ = ["rows", "source", "table"]

_SECRET: Final = re.compile(r"auth|cookie|key|secret|token|password|signature", re.IGNORECASE)
"""Names of headers whose values are nobody's business."""


def rows(directory: Directory) -> list[dict[str, Any]]:
    """Each subscriber with all its fields, and `source`: `file:PATH` or `settings`."""
    return [_row(directory, one) for one in directory]


def source(directory: Directory, subscriber: str) -> str:
    told = directory.source(subscriber) or ""
    return told if told.startswith("file:") else "settings"


def _row(directory: Directory, one: Subscriber) -> dict[str, Any]:
    shown: dict[str, Any] = one.model_dump(mode="json")
    shown["url"] = without_secrets(one.url)
    shown["hmac_secret"] = "set" if one.hmac_secret else None
    shown["headers"] = {
        name: "set" if _SECRET.search(name) else value for name, value in one.headers.items()
    }
    shown["dead_on"] = sorted(one.dead_on)
    return {**shown, "source": source(directory, one.id)}


def table(directory: Directory) -> list[str]:
    """The same for people, a line each."""
    found = [
        (one.id, one.state, one.ordering, ",".join(one.event), without_secrets(one.url))
        for one in directory
    ]
    if not found:
        return ["there are no subscribers: write them into config/subscribers/*.yaml"]
    head = ("subscriber", "state", "ordering", "event", "url")
    return text.table(head, found)
