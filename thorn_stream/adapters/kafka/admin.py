"""Looking at a cluster and making topics. All of it waits: call it in a thread, or before the loop.

The embedded broker answers no administration but metadata, so there a topic is made by asking
for it, which gives it 4 partitions.
"""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public; its stubs forget to say so
    AdminClient,
    ConfigResource,
    NewTopic,
)

from thorn_stream.adapters.kafka import codes
from thorn_stream.adapters.kafka.settings import common, make, redacted
from thorn_stream.adapters.kafka.trouble import Troubles, wording
from thorn_stream.core import errors

__all__ = [
    "Cluster",
    "TopicSpec",
    "create_topics",
    "delete_topics",
    "describe",
    "topic_configs",
]

_EMBEDDED: Final = "mockCluster"
_FIRST_PATIENCE: Final = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to be made; -1 stands for the broker's own default."""

    partitions: int = -1
    replication: int = -1
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a broker says of its cluster.

    Each topic with its number of partitions, and with the least number of replicas that one of
    its partitions has.
    """

    id: str
    topics: Mapping[str, int]
    replicas: Mapping[str, int] = field(default_factory=dict)

    @property
    def embedded(self) -> bool:
        return self.id.startswith(_EMBEDDED)


def describe(client: Mapping[str, Any], timeout: float) -> Cluster:
    """Log in and list the topics.

    Raises `KafkaUnreachable` or `KafkaRefused` (login, TLS) with the reason and a remedy, and
    `ConfigurationError` for settings that librdkafka does not take.
    """
    troubles = Troubles(client)
    admin = make(AdminClient, common(client), error_cb=troubles.connection)
    told = _metadata(client, admin, troubles, timeout)
    there = {name: len(topic.partitions) for name, topic in told.topics.items()}
    replicas = {
        name: min((len(one.replicas) for one in topic.partitions.values()), default=0)
        for name, topic in told.topics.items()
    }
    return Cluster(str(told.cluster_id), there, replicas)


def create_topics(
    client: Mapping[str, Any],
    topics: Mapping[str, TopicSpec],
    timeout: float,
    *,
    dry_run: bool = False,
) -> list[str]:
    """Make those that do not exist; returns the names of those made.

    One that exists stays as it is, whatever its shape. A `dry_run` only asks Kafka whether it
    would. Raises `KafkaRefused` (no permission) or `TopicMissing` (any other reason), which name
    every topic that was refused, and `KafkaUnreachable`.
    """
    cluster = describe(client, timeout)
    missing = {name: spec for name, spec in topics.items() if name not in cluster.topics}
    if not missing:
        return []
    if cluster.embedded:
        if not dry_run:
            _ask_for(client, missing, timeout)
        return list(missing)
    return _create(client, missing, timeout, dry_run=dry_run)


def delete_topics(client: Mapping[str, Any], topics: Iterable[str], timeout: float) -> list[str]:
    """Delete those that exist, with all they hold; returns the names of those deleted.

    The embedded broker deletes none. Raises `KafkaRefused` naming every topic that was refused,
    and `KafkaUnreachable`.
    """
    cluster = describe(client, timeout)
    there = [name for name in topics if name in cluster.topics]
    if not there or cluster.embedded:
        return []
    admin = make(AdminClient, common(client))
    asked = admin.delete_topics(there, operation_timeout=timeout)
    deleted, refused = _answers(asked, timeout, KafkaError.UNKNOWN_TOPIC_OR_PART)
    if refused:
        told = "; ".join(f"{name}: {wording(error, name)}" for name, error in refused.items())
        raise errors.KafkaRefused(f"topics not deleted: {told}")
    return deleted


def topic_configs(
    client: Mapping[str, Any], topics: Iterable[str], timeout: float
) -> dict[str, dict[str, str]]:
    """Each topic's settings as text, `max.message.bytes` among them.

    Empty where they cannot be told: on the embedded broker, of a topic that does not exist, and
    without the right to see them. Raises `KafkaUnreachable`.
    """
    names = list(topics)
    if not names or describe(client, timeout).embedded:
        return {name: {} for name in names}
    admin = make(AdminClient, common(client))
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for resource, future in admin.describe_configs(resources).items():
        try:
            told = future.result(timeout=timeout)
        except KafkaException:
            continue
        except NoAnswer:
            raise errors.KafkaUnreachable(_NO_ANSWER) from None
        found[resource.name] = {key: entry.value or "" for key, entry in told.items()}
    return found


def _metadata(
    client: Mapping[str, Any], admin: AdminClient, troubles: Troubles, timeout: float
) -> Any:
    """Ask for ever longer, so that a login refused at once need not be waited for to the end."""
    end, patience = time.monotonic() + timeout, _FIRST_PATIENCE
    while True:
        left = end - time.monotonic()
        try:
            return admin.list_topics(timeout=max(0.01, min(patience, left)))
        except KafkaException as error:
            admin.poll(0)  # the reason is told to the error callback only, and only here
            refused = troubles.reason is not None and troubles.reason.fatal_at_start
            if refused or left <= patience or error.args[0].code() not in codes.NO_ANSWER:
                raise _unreachable(client, troubles, error.args[0]) from None
        patience *= 2


_NO_ANSWER: Final = "Kafka did not answer in time: is the cluster well? Try again"


def _create(
    client: Mapping[str, Any], topics: Mapping[str, TopicSpec], timeout: float, *, dry_run: bool
) -> list[str]:
    admin = make(AdminClient, common(client))
    new = [
        NewTopic(name, spec.partitions, spec.replication, config=dict(spec.config))
        for name, spec in topics.items()
    ]
    asked = admin.create_topics(new, operation_timeout=timeout, validate_only=dry_run)
    made, refused = _answers(asked, timeout, KafkaError.TOPIC_ALREADY_EXISTS)
    if refused:
        alike: dict[str, list[str]] = {}
        for name, error in refused.items():
            alike.setdefault(wording(error), []).append(name)
        told = "; ".join(_refused(names, refused[names[0]]) for names in alike.values())
        forbidden = any(error.code() in codes.FORBIDDEN for error in refused.values())
        kind = errors.KafkaRefused if forbidden else errors.TopicMissing
        raise kind(f"topics not created: {told}")
    return made


def _refused(names: list[str], error: KafkaError) -> str:
    """Topics that were refused for one reason, which is told once."""
    together = ", ".join(names)
    text = wording(error, together)
    return text if error.code() in codes.FORBIDDEN else f"{together}: {text}"


def _answers(
    asked: Mapping[str, Any], timeout: float, harmless: int
) -> tuple[list[str], dict[str, KafkaError]]:
    """Wait for each; names of those done, and the error of each that was refused.

    One refused with the `harmless` code is neither: somebody else was quicker.
    """
    done, refused = [], {}
    for name, future in asked.items():
        try:
            future.result(timeout=timeout)
        except KafkaException as error:
            if error.args[0].code() in codes.NO_ANSWER:
                raise errors.KafkaUnreachable(_NO_ANSWER) from None
            if error.args[0].code() != harmless:
                refused[name] = error.args[0]
        except NoAnswer:
            raise errors.KafkaUnreachable(_NO_ANSWER) from None
        else:
            done.append(name)
    return done, refused


def _ask_for(client: Mapping[str, Any], topics: Iterable[str], timeout: float) -> None:
    producer = make(Producer, common(client))
    try:
        for name in topics:
            producer.list_topics(name, timeout=timeout)
    except KafkaException as error:
        raise _unreachable(client, Troubles(client), error.args[0]) from None


def _unreachable(
    client: Mapping[str, Any], troubles: Troubles, error: KafkaError
) -> errors.KafkaError:
    """Say the most telling of what was learnt: a refused login, else why nobody answers."""
    where = common(client).get("bootstrap.servers", "no bootstrap.servers at all")
    reason = troubles.reason
    if reason is None and error.code() not in codes.NO_ANSWER:
        return errors.KafkaRefused(redacted(f"{where}: {wording(error)}", client))
    if reason is None:
        return errors.KafkaUnreachable(
            f"no Kafka answers at {where}: are bootstrap_servers right and the brokers up? "
            "Is security.protocol right?"
        )
    kind = errors.KafkaRefused if reason.key == "login" else errors.KafkaUnreachable
    return kind(redacted(f"{where}: {reason.text}", client))
