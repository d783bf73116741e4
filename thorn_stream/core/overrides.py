"""What an event asks for by its headers: its own timeout, retries, validators, recipients.

Read only when a Record has `thorn-` headers. A value beyond a ceiling is cut to it, one that
cannot be read is left out; both are named, so that they can be counted. Validators are the
exception: where they cannot be read, nothing may be sent.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec

from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.records import Headers
from thorn_stream.core.validators import Guard

__all__ = [
    "MEANT",
    "UNKNOWN",
    "UNREAD",
    "EventRules",
    "Overrides",
    "read_overrides",
    "timeout_with",
]

MEANT: Final = frozenset(
    {
        "thorn-timeout",
        "thorn-retry",
        "thorn-retry-max",
        "thorn-retry-delay",
        "thorn-allow-keepalive",
        "thorn-validators",
        "thorn-subscribers",
        "thorn-results",
    }
)
"""Headers of an event that mean something beside `thorn-id` and `thorn-http-*`; they are kept."""
UNKNOWN: Final = "thorn-*"
"""What all other `thorn-` headers are counted under: their names are the producers' to choose."""

_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_COUNT: Final = re.compile(r"[0-9]{1,9}")
_TRUTH: Final = {"true": True, "false": False}
_LONGEST: Final = 8192
_MOST_RULES: Final = 50


@dataclass(frozen=True, slots=True)
class EventRules:
    """What the settings let an event ask for; times in seconds.

    `subscribers`: whether it may bring recipients along. `allowed_networks` is what its own
    `block_internal_ips` lets through, as the dispatcher's does.
    """

    timeout_max: float = 30.0
    retry_max: int = 20
    retry_delay_max: float = 7200.0
    max_in_flight: int = 256
    subscribers: bool = False
    allowed_networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Overrides:
    """An event's own values, None where it has none; within the ceilings.

    `guard` judges its recipients beside the dispatcher's own validators; `sealed`: its validators
    are not known, so nothing may be sent. `recipients` is the text of `thorn-subscribers`.
    `results`: result events are written for it, even if the settings say nothing of them.
    `clamped` and `ignored` name headers, once for each time.
    """

    timeout: float | None = None
    retry: bool | None = None
    retry_max: int | None = None
    retry_delay: float | None = None
    keep_alive: bool | None = None
    guard: Guard | None = None
    sealed: bool = False
    recipients: bytes | None = None
    results: bool = False
    clamped: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


UNREAD: Final = Overrides(sealed=True)
"""Not read yet: until it is, nothing may be sent."""


class _Reader:
    """Reads one header after another, and notes what had to be cut or left out."""

    def __init__(self, headers: Headers) -> None:
        self.ignored = [
            UNKNOWN
            for name, _ in headers
            if name.startswith("thorn-")
            and name != "thorn-id"
            and name not in MEANT
            and not name.startswith("thorn-http-")
        ]
        self.clamped: list[str] = []
        self._values = {name: value or b"" for name, value in headers if name in MEANT}

    def raw(self, name: str) -> bytes | None:
        return self._values.get(name)

    def truth(self, name: str) -> bool | None:
        text = self._text(name)
        if text is None:
            return None
        if text.lower() not in _TRUTH:
            self.ignored.append(name)
        return _TRUTH.get(text.lower())

    def number(self, name: str, form: re.Pattern[str], ceiling: float) -> float | None:
        text = self._text(name)
        if text is None:
            return None
        if form.fullmatch(text) is None:
            self.ignored.append(name)
            return None
        number = float(text)
        if number > ceiling:
            self.clamped.append(name)
            return ceiling
        return number

    def _text(self, name: str) -> str | None:
        value = self._values.get(name)
        return None if value is None else value.decode("ascii", "replace").strip()


def read_overrides(headers: Headers, rules: EventRules) -> Overrides:
    """Read what an event's headers ask for. Never raises; the last header of a name counts."""
    reader = _Reader(headers)
    timeout = reader.number("thorn-timeout", _SECONDS, rules.timeout_max)
    if timeout == 0:
        reader.ignored.append("thorn-timeout")
        timeout = None
    retry_max = reader.number("thorn-retry-max", _COUNT, rules.retry_max)
    validators = reader.raw("thorn-validators")
    guard = None if validators is None else _guard(validators, rules.allowed_networks)
    return Overrides(
        timeout=timeout,
        retry=reader.truth("thorn-retry"),
        retry_max=None if retry_max is None else int(retry_max),
        retry_delay=reader.number("thorn-retry-delay", _SECONDS, rules.retry_delay_max),
        keep_alive=reader.truth("thorn-allow-keepalive"),
        guard=guard,
        sealed=validators is not None and guard is None,
        recipients=reader.raw("thorn-subscribers"),
        results=bool(reader.truth("thorn-results")),
        clamped=tuple(reader.clamped),
        ignored=tuple(reader.ignored),
    )


@lru_cache(maxsize=256)
def _guard(text: bytes, allowed_networks: tuple[str, ...]) -> Guard | None:
    """The validators that an event asks for; None when they cannot be read.

    By our four names alone: JSON holds no callables, and references are looked up nowhere.
    """
    if len(text) > _LONGEST:
        return None
    try:
        rules = msgspec.json.decode(text, type=list)
        if len(rules) > _MOST_RULES:
            return None
        return Guard.from_names(rules, allowed_networks, "thorn-validators")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ConfigurationError):
        return None


def timeout_with(own: Overrides, asked: float | None, timeout: float) -> float:
    """Seconds for an exchange: the smaller of what the Subscriber and the event ask for.

    `asked` is the Subscriber's own value, if it has one; `timeout` what holds without the event.
    """
    if own.timeout is None:
        return timeout
    return own.timeout if asked is None else min(own.timeout, timeout)
