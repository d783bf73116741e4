"""Everyone who may be called, as one snapshot; and how they are written in files."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pydantic import SecretStr, ValidationError

from thorn_stream.core.envelope import Envelope
from thorn_stream.core.errors import ConfigurationError, InvalidSubscriber
from thorn_stream.core.filters import Q, subscriber_filter
from thorn_stream.core.pattern_index import PatternIndex
from thorn_stream.core.subscribers import Subscriber, Tls

__all__ = ["Directory", "Judge", "LookAtTls", "from_map", "parse_subscribers", "sender_text"]

_NAMES_KEPT: Final = 10_000


class _Matched(NamedTuple):
    """Who wants events of a name; `narrowed` when some of them ask for more than the name.

    `ordered` are the ids of those that are served by a read of their own.
    """

    subscribers: tuple[Subscriber, ...]
    narrowed: bool
    ordered: frozenset[str] = frozenset()


class Directory:
    """All subscribers at one moment: made once, replaced whole by the next one.

    `sources` are pairs of a name (`file:billing.yaml`, `settings`) and what it knows. Raises
    `InvalidSubscriber` for an id that two of them (or one of them twice) lay claim to.
    """

    def __init__(self, sources: Sequence[tuple[str, Sequence[Subscriber]]] = ()) -> None:
        self._by_id: dict[str, Subscriber] = {}
        self._ordered: dict[str, Subscriber] = {}
        self._sources: dict[str, str] = {}
        self._filters: dict[str, Q] = {}
        self._index: PatternIndex[Subscriber] = PatternIndex()
        self._cache: dict[str, _Matched] = {}
        mistakes = [
            mistake
            for source, subscribers in sources
            for subscriber in subscribers
            if (mistake := self._enter(source, subscriber)) is not None
        ]
        if mistakes:
            raise InvalidSubscriber("\n".join(mistakes))

    def _enter(self, source: str, subscriber: Subscriber) -> str | None:
        known = self._sources.setdefault(subscriber.id, source)
        if subscriber.id in self._by_id:
            where = f"twice in {source}" if known == source else f"in {known} and in {source}"
            return f"subscriber {subscriber.id!r} stands {where}: rename or remove one"
        self._by_id[subscriber.id] = subscriber
        if subscriber.ordering == "key":
            self._ordered[subscriber.id] = subscriber
        if subscriber.filter:
            self._filters[subscriber.id] = subscriber_filter(subscriber.filter)
        for pattern in subscriber.event:
            self._index.add(pattern, subscriber)
        return None

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._by_id.values())

    def __contains__(self, subscriber_id: object) -> bool:
        return subscriber_id in self._by_id

    def get(self, subscriber_id: str) -> Subscriber | None:
        return self._by_id.get(subscriber_id)

    def source(self, subscriber_id: str) -> str | None:
        """Name of the source it came from."""
        return self._sources.get(subscriber_id)

    def lookup(self, event_name: str) -> tuple[Subscriber, ...]:
        """Those with a pattern that matches, disabled and ordered ones left out."""
        return self._matched(event_name).subscribers

    def recipients(self, envelope: Envelope) -> Sequence[Subscriber]:
        """Who is to be called for this event (paused ones too: theirs wait), but ordered ones."""
        matched, narrowed, _ = self._cache.get(envelope.event) or self._matched(envelope.event)
        if not narrowed:
            return matched
        return [one for one in matched if self._refusal(one, envelope) is None]

    def wants(self, subscriber: Subscriber, envelope: Envelope) -> bool:
        """Whether this ordered Subscriber, in whatever state, is to be called for this event."""
        matched = self._cache.get(envelope.event) or self._matched(envelope.event)
        return subscriber.id in matched.ordered and self._refusal(subscriber, envelope) is None

    @property
    def ordered(self) -> dict[str, Subscriber]:
        """Those with `ordering: key`, by id."""
        return self._ordered

    def explain(self, envelope: Envelope) -> list[tuple[Subscriber, str | None]]:
        """Every subscriber, with why it is not called: pattern, disabled, user, filter; or None."""
        meant = {one.id for one in self._index.lookup(envelope.event)}
        explained: list[tuple[Subscriber, str | None]] = []
        for subscriber in self:
            if subscriber.id not in meant:
                reason: str | None = "pattern"
            elif subscriber.state == "disabled":
                reason = "disabled"
            else:
                reason = self._refusal(subscriber, envelope)
            explained.append((subscriber, reason))
        return explained

    def _matched(self, event_name: str) -> _Matched:
        matched = self._cache.get(event_name)
        if matched is None:
            found = self._index.lookup(event_name)
            ordered = frozenset([one.id for one in found if one.ordering == "key"])
            live = tuple(
                [one for one in found if one.state != "disabled" and one.id not in ordered]
            )
            narrowed = any(one.user is not None or one.filter for one in live)
            matched = _Matched(live, narrowed, ordered)
            if len(self._cache) >= _NAMES_KEPT:
                del self._cache[next(iter(self._cache))]
            self._cache[event_name] = matched
        return matched

    def _refusal(self, subscriber: Subscriber, envelope: Envelope) -> str | None:
        if subscriber.user is not None and sender_text(envelope.sender) != subscriber.user:
            return "user"
        if subscriber.filter and not self._filters[subscriber.id].matches(envelope.fields()):
            return "filter"
        return None


def sender_text(sender: Any) -> str | None:
    """A sender as a Subscriber's `user` is compared with it; None when there is no such text."""
    if isinstance(sender, str):
        return sender
    if isinstance(sender, int | float) and not isinstance(sender, bool):
        return str(sender)
    return None


# --- how they are written ----------------------------------------------------------------------

ResolveSecret = Callable[[str], str]
Judge = Callable[[str], str | None]
"""Why a recipient's URL is refused, before any name is looked up; None when it is not."""
LookAtTls = Callable[[Tls], Mapping[str, str]]
"""What is wrong with the files that a `tls` names, by field; empty when they can be used."""


def _passes(url: str) -> str | None:  # noqa: ARG001 -- nobody judges it here
    return None


def _unseen(tls: Tls) -> Mapping[str, str]:  # noqa: ARG001 -- nobody looks at files here
    return {}


def from_map(mapping: Mapping[str, Any]) -> list[Subscriber]:
    """Subscribers from Thorn's form: a map from a pattern to URLs or objects with a `url`.

    Raises `InvalidSubscriber` naming every mistake.
    """
    return _Reader("subscribers", str).read_all(mapping)


def parse_subscribers(
    data: Any,
    place: str,
    resolve_secret: ResolveSecret,
    judge: Judge = _passes,
    look_at_tls: LookAtTls = _unseen,
) -> list[Subscriber]:
    """Subscribers from what a file held: `{"subscribers": [...]}`, or Thorn's map.

    `resolve_secret` turns `env:NAME` and `file:PATH` into the secret, returns any other text as
    it is, and raises `ConfigurationError` when there is nothing to be found. `judge` refuses URLs,
    `look_at_tls` TLS files. Raises `InvalidSubscriber` with every mistake, one per line, each
    beginning with `place`.
    """
    return _Reader(place, resolve_secret, judge, look_at_tls).read_all(data)


class _Reader:
    """Reads on after a mistake, so that all of them are named at once."""

    def __init__(
        self,
        place: str,
        resolve_secret: ResolveSecret,
        judge: Judge = _passes,
        look_at_tls: LookAtTls = _unseen,
    ) -> None:
        self._place = place
        self._resolve = resolve_secret
        self._judge = judge
        self._look_at_tls = look_at_tls
        self._seen_tls: dict[Tls, Mapping[str, str]] = {}  # many may name the same files
        self._mistakes: list[str] = []
        self._seen: dict[str, str] = {}

    def read_all(self, data: Any) -> list[Subscriber]:
        read = [one for one in self._entries(data) if one is not None]
        if self._mistakes:
            raise InvalidSubscriber("\n".join(self._mistakes))
        return read

    def _entries(self, data: Any) -> Iterator[Subscriber | None]:
        """None for each that could not be read."""
        if isinstance(data, Mapping) and "subscribers" in data:
            for other in data:
                if other != "subscribers":
                    self._mistake(str(other), "nothing may stand beside `subscribers`")
            data = data["subscribers"]
        if data is None:
            return
        if isinstance(data, list):
            for number, entry in enumerate(data):
                yield self._listed(f"subscribers[{number}]", entry)
        elif isinstance(data, Mapping):
            for pattern, entries in data.items():
                yield from self._mapped(str(pattern), entries)
        else:
            self._mistake("", "expected `subscribers:` with a list, or a map of patterns to URLs")

    def _listed(self, where: str, entry: Any) -> Subscriber | None:
        if not isinstance(entry, Mapping):
            self._mistake(where, "expected an object with id, event and url")
            return None
        return self._subscriber(where, dict(entry))

    def _mapped(self, pattern: str, entries: Any) -> Iterator[Subscriber | None]:
        listed = entries if isinstance(entries, list) else [entries]
        for number, entry in enumerate(listed):
            where = f"{pattern}[{number}]" if isinstance(entries, list) else pattern
            if isinstance(entry, str):
                fields: dict[str, Any] = {"url": entry}
            elif isinstance(entry, Mapping):
                fields = dict(entry)
            else:
                self._mistake(where, "expected a URL, or an object with a url")
                continue
            if "event" in fields:
                self._mistake(f"{where}.event", "the pattern stands before the colon already")
                continue
            fields["event"] = pattern
            fields.setdefault("id", _map_id(pattern, fields.get("url"), fields.get("user")))
            yield self._subscriber(where, fields)

    def _subscriber(self, where: str, fields: dict[str, Any]) -> Subscriber | None:
        if fields.get("hmac_secret") is not None:
            fields["hmac_secret"] = self._secrets(where, fields["hmac_secret"])
        else:
            fields.pop("hmac_secret", None)
        try:
            subscriber = Subscriber.model_validate(fields)
        except ValidationError as invalid:
            for error in invalid.errors(include_input=False, include_url=False):
                self._mistake(where + _path(error["loc"]), _reason(error))
            return None
        if refused := self._judge(subscriber.url):
            self._mistake(f"{where}.url", refused)
            return None
        if unusable := self._unusable(subscriber.tls):
            for field, why in unusable.items():
                self._mistake(f"{where}.tls.{field}", why)
            return None
        other = self._seen.setdefault(subscriber.id, where)
        if other != where:
            self._mistake(f"{where}.id", f"{subscriber.id!r} is the id of {other} already")
            return None
        return subscriber

    def _unusable(self, tls: Tls | None) -> Mapping[str, str]:
        if tls is None:
            return {}
        if tls not in self._seen_tls:
            self._seen_tls[tls] = self._look_at_tls(tls)
        return self._seen_tls[tls]

    def _secrets(self, where: str, given: Any) -> Any:
        if isinstance(given, str):
            given = [given]
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            return given
        found: list[SecretStr] = []
        for one in given:
            try:
                found.append(SecretStr(self._resolve(one)))
            except ConfigurationError as error:
                self._mistake(f"{where}.hmac_secret", str(error))
        return found

    def _mistake(self, where: str, reason: str) -> None:
        place = f"{self._place}: {where}" if where else self._place
        self._mistakes.append(f"{place}: {reason}".replace("\n", " "))


def _map_id(pattern: str, url: Any, user: Any) -> str:
    text = f"{pattern}\n{url}\n{'' if user is None else user}\n"
    return f"map:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _path(loc: tuple[int | str, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc)


_PLAIN: Final = {
    "extra_forbidden": "there is no such field",
    "missing": "is missing",
    "string_pattern_mismatch": "1 to 128 of the characters A-Z a-z 0-9 . _ : - are allowed",
    "string_type": "must be text: put it in quotes",
    "tuple_type": "must be a list",
    "frozen_set_type": "must be a list",
    "dict_type": "must be a map",
    "model_type": "must be a map",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}


def _reason(error: Mapping[str, Any]) -> str:
    """Pydantic's words, where ours are not plainer."""
    message: str = _PLAIN.get(error["type"], error["msg"])
    return message.removeprefix("Value error, ")
