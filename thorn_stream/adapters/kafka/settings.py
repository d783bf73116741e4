"""What librdkafka is told: our defaults, the user's `kafka:`, and what the guarantees rest on.

Later ones win, so a user can tune everything but the last. Names of keys:
https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
"""

import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar
from weakref import WeakSet

from confluent_kafka import KafkaException, Producer

from thorn_stream.core.errors import ConfigurationError

__all__ = [
    "SourceSettings",
    "check_client",
    "common",
    "connection_is_told",
    "consumer_settings",
    "make",
    "producer_settings",
    "session",
]

_SECRETS: Final = frozenset(
    {
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
    }
)

_COMMON: Final[dict[str, Any]] = {
    "client.id": "thorn-stream",
    "enable.metrics.push": False,  # nothing is told to anybody unasked (KIP-714)
    "topic.metadata.refresh.interval.ms": 10_000,  # new topics and partitions within seconds
    "reconnect.backoff.max.ms": 2_000,
    "log.connection.close": False,
}

_READING: Final[dict[str, Any]] = {
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 1_000,  # with one a member learns of each step of a rebalance
    "fetch.queue.backoff.ms": 5,  # a full second by default, in which a full queue runs dry
    "queued.max.messages.kbytes": 8_192,
    "queued.min.messages": 5_000,
    "fetch.max.bytes": 8_388_608,
    "partition.assignment.strategy": "cooperative-sticky",
}
_NOT_IN_CONSUMER_PROTOCOL: Final = (
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
)
_READING_EMBEDDED: Final[dict[str, Any]] = {
    "fetch.wait.max.ms": 10,  # an empty fetch always waits all of it there
    "session.timeout.ms": 3_000,  # a rebalance there lasts a second less than this
    "heartbeat.interval.ms": 500,
}

_WRITING: Final[dict[str, Any]] = {
    "linger.ms": 5,
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 32_768,  # copies: what is more waits as it is
}


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """How a `KafkaSource` reads.

    `client` is the user's `kafka:` section; `topics` are names or `^regex`, of which `exclude`
    (names or `^regex`) is never read; `start` counts for the first start of the group only;
    `records` and `size` (bytes) are the credit a source begins with, `enough` those bytes of it
    with which one that ran out reads on (by default half); `embedded` says that the broker is the
    embedded one; each `topic_check` seconds it is asked whether the topics are
    still the same; a partition of which nothing has come for `stuck_after` seconds is looked at.
    """

    client: Mapping[str, Any]
    group: str
    topics: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    start: Literal["earliest", "latest"] = "earliest"
    protocol: Literal["classic", "consumer"] = "classic"
    embedded: bool = False
    records: int = 10_000
    size: int = 67_108_864
    enough: int | None = None
    topic_check: float = 5.0
    stuck_after: float = 60.0


def common(client: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for any client: `_` and `.` are the same in a user's keys."""
    return _COMMON | {key.replace("_", "."): value for key, value in client.items()}


def consumer_settings(settings: SourceSettings) -> dict[str, Any]:
    defaults = _READING | (_READING_EMBEDDED if settings.embedded else {})
    merged = defaults | common(settings.client)
    if settings.protocol == "consumer":
        # the broker decides these; librdkafka refuses to be told them (KIP-848)
        merged = {k: v for k, v in merged.items() if k not in _NOT_IN_CONSUMER_PROTOCOL}
    else:
        merged["partition.assignment.strategy"] = "cooperative-sticky"
    excluded = ",".join(_as_regex(name) for name in settings.exclude)
    return (
        merged
        | ({"topic.blacklist": excluded} if excluded else {})
        | {
            "group.id": settings.group,
            "group.protocol": settings.protocol,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",  # anything else skips lost records without a word
            "enable.partition.eof": False,
            "isolation.level": "read_committed",
        }
    )


def session(settings: SourceSettings) -> tuple[float, float] | None:
    """How long a silent member is kept, and how often ours is heard of (seconds).

    None with the newer group protocol: only the broker knows.
    """
    told = consumer_settings(settings)
    if settings.protocol == "consumer":
        return None
    return float(told["session.timeout.ms"]) / 1000, float(told["heartbeat.interval.ms"]) / 1000


def producer_settings(
    client: Mapping[str, Any], batch_size: int, message_timeout: float
) -> dict[str, Any]:
    """Settings for a producer; `batch_size` in bytes, `message_timeout` in seconds."""
    given = common(client)
    longest = int(given.get("message.max.bytes", 0)) >> 10
    room = max(_WRITING["queue.buffering.max.kbytes"], 2 * longest)  # one must fit in any case
    return (
        _WRITING
        | {"queue.buffering.max.kbytes": room}
        | given
        | {
            "acks": "all",
            "enable.idempotence": True,
            "batch.size": batch_size,
            "message.timeout.ms": int(message_timeout * 1000),
        }
    )


def _as_regex(name: str) -> str:
    return name if name.startswith("^") else f"^{name.replace('.', '[.]')}$"


T = TypeVar("T")


def make(kind: type[T], settings: Mapping[str, Any], **callbacks: Any) -> T:
    """Make a client. Raises `ConfigurationError` naming what librdkafka does not take."""
    try:
        return kind({**settings, **callbacks}, logger=_logger)  # type: ignore[call-arg]  # T is a client
    except KafkaException as error:
        text = redacted(error.args[0].str(), settings)
        raise ConfigurationError(f"kafka: {text}") from None
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"kafka: {redacted(str(error), settings)}") from None


_KEY_TOLD: Final = re.compile(r'[Cc]onfiguration property:? "([^"]+)"')


def check_client(client: Mapping[str, Any]) -> None:
    """Let librdkafka read the user's `kafka:` section, without a broker to talk to.

    Raises `ConfigurationError` with a line for each mistake. librdkafka names one at a time, so
    what it named is left out and the rest read again.
    """
    left = common(client)
    left.pop("bootstrap.servers", None)
    wrong: list[str] = []
    while True:
        try:
            make(Producer, left)
        except ConfigurationError as error:
            wrong.append(str(error))
            named = _KEY_TOLD.search(wrong[-1])
            if named is not None and left.pop(named[1], None) is not None:
                continue
        break
    if wrong:
        raise ConfigurationError("\n".join(wrong))


def redacted(text: str, settings: Mapping[str, Any]) -> str:
    """The text without any secret of these settings, should librdkafka quote one."""
    for key, secret in settings.items():
        if secret and key.replace("_", ".") in _SECRETS:
            text = text.replace(str(secret), "***")
    return text


class _Calm(logging.Filter):
    """One line per facility and half minute: while brokers are down there are 20 a second.

    `told` are those who tell just now that no broker can be reached; it needs no saying twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.told: WeakSet[object] = WeakSet()
        self._last: dict[str, float] = {}
        self.lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        facility = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
        if facility == "CONFWARN":  # one section of settings serves consumers and producers
            return False
        now = time.monotonic()
        with self.lock:
            if facility in _OF_CONNECTIONS and self.told:
                return False
            if now - self._last.get(facility, -30.0) < 30.0:
                return False
            self._last[facility] = now
        return True


_OF_CONNECTIONS: Final = ("FAIL", "ERROR")


def connection_is_told(teller: object, *, told: bool) -> None:
    """Note whether `teller` tells the user that no broker can be reached.

    Meanwhile librdkafka's own lines about its connections are left out of the log.
    """
    with _calm.lock:
        (_calm.told.add if told else _calm.told.discard)(teller)


_calm: Final = _Calm()
_logger: Final = logging.getLogger("thorn_stream.librdkafka")
_logger.addFilter(_calm)
_logger.addHandler(logging.NullHandler())
