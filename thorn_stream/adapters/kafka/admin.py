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

__all__ = ["Cluster", "TopicSpec", "create_topics", "describe", "topic_configs"]

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
    """What a broker says of its cluster: each topic with its number of partitions."""

    id: str
    topics: Mapping[str, int]

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
    return Cluster(str(told.cluster_id), there)


def create_topics(
    client: Mapping[str, Any], topics: Mapping[str, TopicSpec], timeout: float
) -> list[str]:
    """Make those that do not exist; returns the names of those made.

    One that exists stays as it is, whatever its shape. Raises `KafkaRefused` naming every topic
    that was refused, and `KafkaUnreachable`.
    """
    cluster = describe(client, timeout)
    missing = {name: spec for name, spec in topics.items() if name not in cluster.topics}
    if not missing:
        return []
    if cluster.embedded:
        _ask_for(client, missing, timeout)
        return list(missing)
    return _create(client, missing, timeout)


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
    client: Mapping[str, Any], topics: Mapping[str, TopicSpec], timeout: float
) -> list[str]:
    admin = make(AdminClient, common(client))
    new = [
        NewTopic(name, spec.partitions, spec.replication, config=dict(spec.config))
        for name, spec in topics.items()
    ]
    made, refused = [], []
    for name, future in admin.create_topics(new, operation_timeout=timeout).items():
        try:
            future.result(timeout=timeout)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                refused.append(f"{name}: {wording(error.args[0], name)}")
        except NoAnswer:
            raise errors.KafkaUnreachable(_NO_ANSWER) from None
        else:
            made.append(name)
    if refused:
        raise errors.KafkaRefused(f"topics not created: {'; '.join(refused)}")
    return made


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
