"""Kafka's errors in words an operator can act on, and which of them hold just now.

Missing topics and permissions are told by librdkafka once; a refused login only to its error
callback, many times a second. So both are kept as state, and only a change of it is news.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from confluent_kafka import KafkaError

from thorn_stream.adapters.kafka import codes
from thorn_stream.adapters.kafka.settings import connection_is_told, redacted
from thorn_stream.core.records import Partition
from thorn_stream.ports import Trouble

__all__ = ["Troubles", "forbidden", "of_connection", "of_message", "wording"]

BROKER: Final = "broker"
GROUP: Final = "group"
LOGIN: Final = "login"
_STUCK: Final = "stuck:"

_ACL: Final = "`thorn-stream topics plan --acl` prints the rules"


_GROUP_FORBIDDEN: Final = "Broker: Group authorization failed"
_TOPIC_FORBIDDEN: Final = "Broker: Topic authorization failed"
"""What a fatal error, as `group_protocol: consumer` makes one of these, still says of itself."""


def forbidden(error: KafkaError) -> bool:
    """Whether it is for a permission, which may be given at any time."""
    said = error.str()
    return error.code() in codes.FORBIDDEN or _GROUP_FORBIDDEN in said or _TOPIC_FORBIDDEN in said


def of_message(error: KafkaError, topic: str | None, group: str) -> Trouble:
    """Turn an error that came in place of a record into a Trouble."""
    code = error.code()
    topic = topic or _topic_in(error.str())
    if code == KafkaError.GROUP_AUTHORIZATION_FAILED or _GROUP_FORBIDDEN in error.str():
        text = f"no permission for the consumer group {group}: allow READ on it; {_ACL}"
        return Trouble(GROUP, text, fatal_at_start=True)
    if code in codes.MISSING_TOPIC:
        text = (
            f"the topic {topic} does not exist: create it (`thorn-stream topics create`), "
            "or mend `topics`; reading begins by itself when it is there"
        )
        return Trouble(f"topic:{topic}", text)
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED and topic:
        text = f"no permission to read the topic {topic}: allow READ and DESCRIBE on it; {_ACL}"
        return Trouble(f"topic:{topic}", text, fatal_at_start=True)
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED or _TOPIC_FORBIDDEN in error.str():
        text = f"no permission to read a topic ({error.str()}): allow READ and DESCRIBE; {_ACL}"
        return Trouble(GROUP, text, fatal_at_start=True)
    if code == codes.FATAL and "not supported" in error.str():
        text = (
            "the broker does not offer `group_protocol: consumer`: set `group_protocol: classic`, "
            "or raise the broker's group.version"
        )
        return Trouble(GROUP, text, fatal_at_start=True)
    where = f"topic:{topic}" if topic else GROUP
    return Trouble(where, f"Kafka says {error.name()}: {error.str()}")


def of_connection(error: KafkaError) -> Trouble:
    """Turn what the error callback was told into a Trouble, under `login` or `broker`."""
    code, said = error.code(), error.str()
    if code == codes.AUTHENTICATION:
        text = (
            f"Kafka refused the login: check sasl.mechanism, sasl.username, sasl.password ({said})"
        )
        return Trouble(LOGIN, text, fatal_at_start=True)
    if code == codes.TLS:
        text = f"TLS with Kafka failed: check ssl.ca.location and security.protocol ({said})"
        return Trouble(LOGIN, text, fatal_at_start="verify failed" in said)
    if "SSL handshake failed" in said:
        text = f"no TLS connection to Kafka: are security.protocol and the port right? ({said})"
        return Trouble(BROKER, text)
    if code == codes.RESOLVE:
        return Trouble(BROKER, f"no such Kafka host: check bootstrap_servers ({said})")
    if code == codes.ALL_BROKERS_DOWN:
        text = (
            "no Kafka broker answers: are bootstrap_servers right and the brokers up? "
            "Is security.protocol right?"
        )
        return Trouble(BROKER, text)
    return Trouble(BROKER, f"no connection to Kafka: check bootstrap_servers and network ({said})")


def wording(error: KafkaError, topic: str | None = None) -> str:
    """One line for an error of a request (a write, a commit, a look at a topic)."""
    code = error.code()
    if code in codes.FORBIDDEN:
        about = f" ({topic})" if topic else ""
        return f"{error.name()}{about}: allow it for this user; {_ACL}"
    if code in codes.MISSING_TOPIC:
        return f"the topic {topic} does not exist: create it (`thorn-stream topics create`)"
    return f"{error.name()}: {error.str()}"


class Troubles:
    """The troubles that hold, and the changes nobody was told of yet."""

    def __init__(self, client: Mapping[str, Any]) -> None:
        self._client = client
        self._holding: dict[str, Trouble] = {}
        self._news: list[Trouble] = []
        self._last_reason: Trouble | None = None

    def __bool__(self) -> bool:
        return bool(self._holding)

    @property
    def unreachable(self) -> bool:
        return BROKER in self._holding or LOGIN in self._holding

    @property
    def reason(self) -> Trouble | None:
        """Why there is no connection, the most telling first."""
        for key in (LOGIN, BROKER):
            if key in self._holding:
                return self._holding[key]
        return self._last_reason

    def message(self, error: KafkaError, topic: str | None, group: str) -> None:
        self._hold(of_message(error, topic, group))

    def connection(self, error: KafkaError) -> None:
        """Note what the error callback says.

        One broker of several that is away is no trouble; that none is left is told apart, and
        the reason is then the last error before it.
        """
        trouble = of_connection(error)
        if error.code() == codes.ALL_BROKERS_DOWN:
            if LOGIN not in self._holding:
                self._hold(self._last_reason or trouble)
        elif trouble.key == LOGIN:
            self._hold(trouble)
        else:
            self._last_reason = trouble

    def works(self, topics: Collection[str] = ()) -> None:
        """Something was answered: the way to Kafka is open, and so are these topics."""
        self._last_reason = None
        self._clear(BROKER)
        self._clear(LOGIN)
        for key in tuple(self._holding):
            named = key.removeprefix("topic:")
            if named != key and any(_meant(named, topic) for topic in topics):
                self._clear(key)

    def joined(self) -> None:
        self._clear(GROUP)

    def stuck(self, partitions: Collection[Partition], seconds: float) -> None:
        """These stand still, and no others."""
        for key in tuple(self._holding):
            if key.startswith(_STUCK) and key.removeprefix(_STUCK) not in map(str, partitions):
                self._clear(key)
        for partition in partitions:
            text = (
                f"{partition} stands still: Kafka has records, and its client has handed over "
                f"none for {seconds:.0f} s; it is read anew. If it stays, restart this process"
            )
            self._hold(Trouble(f"{_STUCK}{partition}", text))

    def news(self) -> list[Trouble]:
        """Take the changes since the last time."""
        news, self._news = self._news, []
        return news

    def _hold(self, trouble: Trouble) -> None:
        assert trouble.text is not None
        trouble.text = redacted(trouble.text, self._client)
        # the first wording stays: the same trouble is told with other ports and times
        if trouble.key not in self._holding:
            self._holding[trouble.key] = trouble
            self._news.append(trouble)
            connection_is_told(self, told=self.unreachable)

    def _clear(self, key: str) -> None:
        if self._holding.pop(key, None) is not None:
            self._news.append(Trouble(key, None))
            connection_is_told(self, told=self.unreachable)


def _topic_in(said: str) -> str | None:
    """Find the topic in "Subscribed topic not available: orders: Broker: ..."."""
    _, found, rest = said.partition("topic not available: ")
    return rest.partition(":")[0].strip() or None if found else None


def _meant(named: str, topic: str) -> bool:
    """Whether a trouble with `named`, a topic or a `^regex` without any, is over by `topic`."""
    return re.search(named, topic) is not None if named.startswith("^") else named == topic
