"""Recipients that come with an event: the header `thorn-subscribers`.

A JSON list of URLs, or of objects with the fields of a subscriber that an event may choose. Who
writes events is not who writes settings: such a recipient is given no secret, file or look-up, and
no id of anybody else's. One that cannot be used is a dead letter of its own, so that it is seen.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from thorn_stream.core.overrides import EventRules
from thorn_stream.core.subscribers import Subscriber

__all__ = ["EventSubscriber", "Extra", "extra_recipients", "recipient_from"]

_MAY_SAY: Final = frozenset(
    {
        "content_type",
        "dead_on",
        "description",
        "event",
        "headers",
        "id",
        "max_in_flight",
        "retry",
        "retry_backoff",
        "retry_delay",
        "retry_max",
        "retry_schedule",
        "timeout",
        "url",
    }
)
_SECRET_HEADERS: Final = frozenset({"authorization", "cookie"})
_LONGEST: Final = 65_536
_LONGEST_DEFINITION: Final = 8192
_MOST: Final = 100
_HEX_DIGITS: Final = 16


class EventSubscriber(Subscriber):
    """A recipient that came with an event: never signed for with the master secret."""


class Extra:
    """One entry of the list.

    `id` is its subscriber id: its own, or derived from its URL, or from its text when it cannot be
    used; then `subscriber` is None and `why` says why. `definition` is its JSON, as retry records
    carry it.
    """

    __slots__ = ("definition", "id", "subscriber", "why")

    def __init__(
        self, name: str, subscriber: EventSubscriber | None, definition: str = "", why: str = ""
    ) -> None:
        self.id = name
        self.subscriber = subscriber
        self.definition = definition
        self.why = why

    def refused(self, why: str) -> "Extra":
        """The same as one that cannot be used: under an id that is nobody else's."""
        return _unusable(self.definition.encode(), why)


@lru_cache(maxsize=32)
def extra_recipients(text: bytes, rules: EventRules) -> Sequence[Extra]:
    """Read the header; never raises. A header that is no list is one entry that cannot be used.

    The same entry twice is one recipient.
    """
    if len(text) > _LONGEST:
        return [_unusable(text, f"longer than {_LONGEST} bytes")]
    try:
        entries = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return [_unusable(text, "not a JSON list")]
    if len(entries) > _MOST:
        return [_unusable(text, f"more than {_MOST} entries")]
    return list(_each(entries, rules))


def _each(entries: Sequence[msgspec.Raw], rules: EventRules) -> Iterator[Extra]:
    seen: dict[str, str] = {}
    for entry in entries:
        extra = _read(bytes(entry), rules)
        if seen.get(extra.id, extra.definition) != extra.definition:
            extra = _unusable(bytes(entry), "its id stands there twice")
        if extra.id not in seen:
            seen[extra.id] = extra.definition
            yield extra


def recipient_from(definition: str, subscriber_id: str, rules: EventRules) -> EventSubscriber:
    """Read a definition back. ValueError when it is not one, or not this subscriber's."""
    try:
        subscriber = _subscriber(msgspec.json.decode(definition), rules)
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("it is not JSON") from None
    if subscriber.id != subscriber_id:
        raise ValueError("it is the definition of another subscriber")
    return subscriber


def _read(text: bytes, rules: EventRules) -> Extra:
    try:
        entry = msgspec.json.decode(text)
        subscriber = _subscriber({"url": entry} if isinstance(entry, str) else entry, rules)
    except ValidationError as invalid:
        return _unusable(text, _reason(invalid))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return _unusable(text, str(error))
    definition = _definition(subscriber)
    if len(definition) > _LONGEST_DEFINITION:
        return _unusable(text, f"longer than {_LONGEST_DEFINITION} characters")
    return Extra(subscriber.id, subscriber, definition)


def _definition(subscriber: EventSubscriber) -> str:
    """In ASCII, as a header is written; the same for the same subscriber."""
    fields = subscriber.model_dump(mode="json", exclude_defaults=True)
    if "dead_on" in fields:
        fields["dead_on"] = sorted(fields["dead_on"])
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def _subscriber(entry: Any, rules: EventRules) -> EventSubscriber:
    if not isinstance(entry, Mapping):
        raise ValueError("neither a URL nor an object")  # noqa: TRY004 -- one kind for all
    fields = dict(entry)
    for name in fields:
        if name not in _MAY_SAY:
            raise ValueError(f"{str(name)[:30]!r} may not come with an event")
    if not isinstance(fields.get("url"), str):
        raise ValueError("url is missing")  # noqa: TRY004 -- one kind for all
    fields.setdefault("id", f"url:{_digest(fields['url'].encode())}")
    fields.setdefault("event", "**")
    subscriber = EventSubscriber.model_validate(fields)
    for name in subscriber.headers:
        if name.lower() in _SECRET_HEADERS:
            raise ValueError(f"the header {name} may not come with an event")
    return _within(subscriber, rules)


def _within(subscriber: EventSubscriber, rules: EventRules) -> EventSubscriber:
    """What is not cut where a subscriber's values meet the settings' ceilings."""
    cut: dict[str, Any] = {}
    if subscriber.retry_schedule is not None:
        longest = rules.retry_delay_max
        cut["retry_schedule"] = tuple(min(wait, longest) for wait in subscriber.retry_schedule)
    if subscriber.max_in_flight is not None:
        cut["max_in_flight"] = min(subscriber.max_in_flight, rules.max_in_flight)
    return subscriber.model_copy(update=cut) if cut else subscriber


def _unusable(text: bytes, why: str) -> Extra:
    return Extra(f"url:{_digest(text)}", None, why=why)


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:_HEX_DIGITS]


def _reason(invalid: ValidationError) -> str:
    """The first mistake, without what was given."""
    first = invalid.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))[:50]
    return f"{place}: {first['msg']}".replace("\n", " ")
