"""The `kafka:` map: passed through to librdkafka, but for what a guarantee rests on.

Keys are librdkafka's own (its CONFIGURATION.md); `_` and `.` are the same.
"""

import re
from typing import Annotated, Any, Final, TypeAlias

from pydantic import AfterValidator, BeforeValidator, SecretStr, WithJsonSchema

__all__ = ["EMBEDDED", "REFUSED", "Kafka", "is_secret", "librdkafka", "normal"]

EMBEDDED: Final = "embedded"
_DEFAULT_SERVERS: Final = "localhost:9092"

_OURS: Final = "offsets are committed by thorn_stream alone, once every delivery is settled"
_WHOLE: Final = "a hand-over counts only when every in-sync replica has it"
REFUSED: Final = {
    "group.id": "the group is the setting `group`",
    "group.instance.id": "a member that died could not come back before its session ends",
    "group.protocol": "it is the setting `group_protocol`",
    "enable.auto.commit": _OURS,
    "auto.commit.enable": _OURS,
    "enable.auto.offset.store": _OURS,
    "auto.offset.reset": "a reset would skip records; where to begin is the setting `start`",
    "enable.idempotence": "it is always on, so that a retried write is not written twice",
    "acks": _WHOLE,
    "request.required.acks": _WHOLE,
    "transactional.id": "no transactions are used, HTTP would be outside of them",
    "isolation.level": "what is read must be committed by its producer",
    "partition.assignment.strategy": "all members of a group must use the same one",
    "message.timeout.ms": "a hand-over is tried until Kafka has it",
    "delivery.timeout.ms": "a hand-over is tried until Kafka has it",
    "enable.partition.eof": "the reader takes every event of the client for a record or an error",
    "metadata.broker.list": "it is an old name: write bootstrap.servers",
    "test.mock.num.brokers": "each client would have a cluster of its own: write "
    "`bootstrap_servers: embedded`",
}
"""Key to the reason why it is refused; librdkafka's aliases of a refused key included."""

_SECRET: Final = ("password", "passphrase", "secret", "key.pem", "oauthbearer.config")
_SERVER: Final = re.compile(
    r"(?:(?:PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)://)?"
    r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/,\[\]]+)(?::(?P<port>\d{1,5}))?",
    re.IGNORECASE,
)


def normal(key: str) -> str:
    """The key as librdkafka spells it."""
    return key.strip().replace("_", ".")


def is_secret(key: str) -> bool:
    """Whether the value of this key (spelt with dots) is never to be printed."""
    return any(part in key for part in _SECRET)


def _key(key: str) -> str:
    key = normal(key)
    if reason := REFUSED.get(key):
        msg = f"is refused: {reason}; remove it"
        raise ValueError(msg)
    return key


def _value(value: Any) -> Any:
    if value is None:
        msg = "has no value: give it one, or remove the line"
        raise ValueError(msg)
    if isinstance(value, list | tuple):
        msg = "must be one text: write the items with commas between, in quotes"
        raise ValueError(msg)  # noqa: TRY004 - pydantic collects ValueErrors, not TypeErrors
    if not isinstance(value, str | int | float | bool | SecretStr):
        msg = "must be a text, a number, true or false (write a key in one: ssl.ca.location)"
        raise ValueError(msg)  # noqa: TRY004 - as above
    return value


def _map(value: Any) -> Any:
    return {} if value is None else value


def _finish(config: dict[str, Any]) -> dict[str, Any]:
    servers = config.setdefault("bootstrap.servers", _DEFAULT_SERVERS)
    wrong = _wrong_server(str(servers))
    if wrong is not None:
        shown = wrong.rpartition("@")[2]  # a password may stand before it
        msg = f"bootstrap.servers must be host:port (or several, with commas), not {shown!r}"
        raise ValueError(msg)
    return {
        key: SecretStr(str(value)) if is_secret(key) and not isinstance(value, SecretStr) else value
        for key, value in config.items()
    }


def _wrong_server(servers: str) -> str | None:
    for server in servers.split(","):
        found = _SERVER.fullmatch(server.strip())
        if found is None or int(found["port"] or 9092) not in range(1, 65536):
            return server
    return None


Kafka: TypeAlias = Annotated[
    dict[
        Annotated[str, AfterValidator(_key)],
        Annotated[
            Any,
            AfterValidator(_value),
            WithJsonSchema({"type": ["string", "number", "boolean"]}),
        ],
    ],
    BeforeValidator(_map),
    AfterValidator(_finish),
]


def librdkafka(config: dict[str, Any], servers: str | None = None) -> dict[str, str]:
    """What a client is made with: every value as librdkafka reads it, secrets in the clear.

    `servers` takes the place of `bootstrap.servers`: of the embedded broker, once it is found.
    """
    plain = {key: _text(value) for key, value in config.items()}
    if servers is not None:
        plain["bootstrap.servers"] = servers
    return plain


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
