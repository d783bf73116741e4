"""Publish events from the command line: checked first, then written, then acknowledged."""

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from thorn_stream.adapters.embedded import find
from thorn_stream.adapters.kafka import describe
from thorn_stream.adapters.kafka.publisher import Publisher
from thorn_stream.config.settings import Settings
from thorn_stream.core.envelope import Undecodable, decode, invalid_name
from thorn_stream.core.errors import EventNotSent, KafkaUnreachable, LocalError, UsageError
from thorn_stream.core.records import Headers, Record
from thorn_stream.ports import SendFailed

__all__ = [
    "Event",
    "check_file",
    "client_settings",
    "envelope",
    "events",
    "input_topic",
    "parse_headers",
    "parse_json",
    "publish",
    "read_file",
]

_UNDER_WAY: Final = 5_000
_PROGRESS: Final = 0.2
_TIMEOUT: Final = 10.0
_LEAVE: Final = 0.1
_ASK: Final = 3.0
_TIMED_OUT: Final = "MSG_TIMED_OUT"

# What goes wrong is told by the error that is raised, once.
logging.getLogger("thorn_stream").addHandler(logging.NullHandler())


class Event(NamedTuple):
    """What is written: a Kafka key, an envelope's bytes, record headers."""

    key: bytes | None
    value: bytes
    headers: Headers


def client_settings(settings: Settings, *, chosen: bool = True) -> dict[str, str]:
    """What a Kafka client is made with; of the embedded broker, the one that runs here.

    Unless a broker was `chosen` (a settings file named, or the variable set), one that
    `thorn-stream broker` runs in this directory comes first. Raises LocalError when the embedded
    one is meant and does not run.
    """
    servers = find() if settings.embedded or not chosen else None
    if not settings.embedded and servers is None:
        return settings.librdkafka()
    if servers is None:
        raise LocalError(
            "the embedded broker is not running in this directory: start `thorn-stream broker` in "
            "another terminal first, or set kafka.bootstrap_servers to a real one"
        )
    return settings.librdkafka(servers)


def input_topic(settings: Settings, asked: str | None) -> str:
    """The topic to write to: the one asked for, else the first input topic that is a name."""
    if asked is not None:
        if settings.is_own(asked):
            raise UsageError(f"--topic {asked}: only thorn_stream itself writes there")
        return asked
    names = [topic for topic in settings.topics if not topic.startswith("^")]
    if not names:
        raise UsageError("`topics` in the settings has patterns only: name a topic with --topic")
    return names[0]


def parse_json(text: str, option: str) -> Any:
    """The value of a command's option that is JSON. Raises UsageError."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{option} is not JSON ({error}): quote it for the shell, "
            f"as in {option} '{{\"id\": 1}}'"
        ) from None


def envelope(name: str, data: Any, ref: str | None, sender: str | None) -> bytes:
    """The bytes of an envelope. Raises UsageError for what no dispatcher could decode.

    A `sender` of digits alone is written as a number, as a primary key is.
    """
    if why := invalid_name(name):
        raise UsageError(f"{name!r} cannot be sent: {why}")
    number = sender is not None and sender.isascii() and sender.isdecimal()
    fields = {
        "event": name,
        "ref": ref,
        "sender": int(sender) if number and sender is not None else sender,
        "data": data,
    }
    try:
        value = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise UsageError("the event has characters that are not Unicode text") from None
    if why := _undecodable(value):
        raise UsageError(f"{name} cannot be sent: {why}")
    return value


def _undecodable(value: bytes) -> str | None:
    decoded = decode(Record("", 0, 0, None, value, [], -1))
    return decoded.why if isinstance(decoded, Undecodable) else None


def events(
    name: str | None, data: str | None, ref: str | None, sender: str | None, file: Path | None
) -> Iterator[bytes]:
    """The envelopes that a command asks for: one made of its options, or those of a file.

    Everything is checked before the first is handed out. Raises UsageError, LocalError.
    """
    if file is not None:
        if name is not None or any(one is not None for one in (data, ref, sender)):
            raise UsageError("give either NAME, --data, --ref and --sender, or --file")
        check_file(file)
        return read_file(file)
    if name is None:
        raise UsageError("name an event, as in `thorn-stream emit article.created`, or a --file")
    return iter([envelope(name, parse_json(data or "{}", "--data"), ref, sender)])


def check_file(path: Path) -> int:
    """Count the events of a file of envelopes, one per line, so that none is sent from a bad one.

    Raises UsageError (`file:line: reason`) at the first bad line, LocalError if unreadable.
    """
    return sum(1 for _ in read_file(path))


def read_file(path: Path) -> Iterator[bytes]:
    """Each line's bytes; empty lines are passed over. Raises as `check_file`."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                value = line.strip()
                if not value:
                    continue
                if why := _undecodable(value):
                    raise UsageError(
                        f"{path}:{number}: {why}; each line is an envelope, as in "
                        '{"event": "article.created", "data": {}}'
                    )
                yield value
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise LocalError(f"{path} cannot be read: {why}") from None


def parse_headers(given: Sequence[str]) -> Headers:
    """`K=V` to record headers. Raises UsageError."""
    headers: Headers = []
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--header {text}: write NAME=VALUE, as in --header thorn-retry=false")
        headers.append((name, value.encode("utf-8", "surrogateescape")))
    return headers


def publish(
    client: Mapping[str, str],
    topic: str,
    events: Iterable[Event],
    on_progress: Callable[[int], None] = lambda _: None,
    timeout: float = _TIMEOUT,
) -> int:
    """Write all of them, and wait until every replica has them; returns how many.

    `on_progress` is told how many are acknowledged, a few times a second. Raises EventNotSent for
    the first one that Kafka did not take within `timeout` seconds; those before it are sent.
    Raises KafkaRefused when that is for a login or TLS: to a producer these are time that passes.
    """
    publisher = Publisher(client, timeout=timeout)
    writing = _Writing(on_progress)
    try:
        for event in events:
            record = (event.key, event.value, event.headers)
            publisher.publish(topic, record, writing.done, wait=timeout + _ASK)
            writing.sent += 1
            if writing.sent - writing.acknowledged >= _UNDER_WAY:
                writing.at_most(_UNDER_WAY // 2)
        writing.at_most(0)
    except _Refused as refused:
        before = f"; {writing.acknowledged} sent before" if writing.acknowledged else ""
        why = _why(refused.failed, client["bootstrap.servers"], timeout)
        if _TIMED_OUT in refused.failed.error:
            with contextlib.suppress(KafkaUnreachable):
                describe(client, _ASK)
        raise EventNotSent(f"{why}{before}") from None
    finally:
        publisher.close(_LEAVE)
    on_progress(writing.acknowledged)
    return writing.acknowledged


def _why(failed: SendFailed, servers: str, timeout: float) -> str:
    if _TIMED_OUT in failed.error:
        return (
            f"Kafka at {servers} did not take the event within {timeout:g} s: is it running, and "
            "is kafka.bootstrap_servers right?"
        )
    return f"Kafka refused the event: {failed.error}"


class _Refused(Exception):
    def __init__(self, failed: SendFailed) -> None:
        super().__init__(failed.error)
        self.failed = failed


class _Writing:
    """How far it has come. `done` is called on the publisher's thread, the rest on the caller's."""

    def __init__(self, on_progress: Callable[[int], None]) -> None:
        self.sent = 0
        self.acknowledged = 0
        self._failed: SendFailed | None = None
        self._news = threading.Event()
        self._on_progress = on_progress
        self._told = time.monotonic()

    def done(self, failed: SendFailed | None) -> None:
        if failed is None:
            self.acknowledged += 1
        else:
            self._failed = self._failed or failed
        self._news.set()

    def at_most(self, count: int) -> None:
        """Wait until so few are under way. Raises _Refused when one has failed."""
        while self._failed is None and self.sent - self.acknowledged > count:
            self._news.wait()
            self._news.clear()
            now = time.monotonic()
            if now - self._told >= _PROGRESS:
                self._told = now
                self._on_progress(self.acknowledged)
        if self._failed is not None:
            raise _Refused(self._failed)
