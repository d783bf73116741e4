"""`config check --connect`: log in, and name everything that Kafka would refuse a dispatcher."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from thorn_stream.adapters.embedded import find
from thorn_stream.adapters.kafka import (
    Cluster,
    create_topics,
    describe,
    group_access,
    topic_access,
    topic_configs,
)
from thorn_stream.adapters.kafka.access import Operations
from thorn_stream.config import Settings
from thorn_stream.core.errors import KafkaRefused, TopicMissing
from thorn_stream.ops.plan import plan
from thorn_stream.ops.topics import KINDS, inputs, needs, own_topics

__all__ = ["Checked", "check"]

_PATIENCE: Final = 10.0
_FIRST_PATIENCE: Final = 5.0
_ACL: Final = "allow it for this user; `thorn-stream topics plan --acl` prints the rules"
_CREATE: Final = "create it (`thorn-stream topics create`)"


@dataclass(slots=True)
class Checked:
    """A connection that works: one line of what was seen, and warnings."""

    line: str
    warnings: list[str] = field(default_factory=list)


def check(settings: Settings) -> Checked:
    """Ask Kafka everything that `run` will need of it, and change nothing.

    Raises `KafkaUnreachable`, and `KafkaRefused` (password, TLS, permissions, missing topics)
    with a line for each thing that is wrong.
    """
    servers = find() if settings.embedded else None
    if settings.embedded and servers is None:
        return Checked("the embedded broker: none runs in this directory, `run` starts its own")
    client = settings.librdkafka(servers)
    cluster = describe(client, _FIRST_PATIENCE)
    where = client["bootstrap.servers"]
    if cluster.embedded:
        return Checked(f"the embedded broker at {where}: it refuses nobody, and makes topics")
    problems = [
        *_inputs(settings, client, cluster),
        *_own(settings, client, cluster),
        *_groups(settings, client),
    ]
    if problems:
        raise KafkaRefused("\n".join(problems))
    there = [one.topic for one in plan(settings, cluster, {}) if one.exists]
    configs = topic_configs(client, there, _PATIENCE)
    differs = [line for one in plan(settings, cluster, configs) for line in one.lines]
    return Checked(f"Kafka at {where}: logged in, nothing is refused", differs)


def _inputs(settings: Settings, client: Mapping[str, str], cluster: Cluster) -> Iterator[str]:
    named = [topic for topic in settings.topics if not topic.startswith("^")]
    there = inputs(settings, cluster)
    wanted = dict.fromkeys([*named, *there])
    for topic, operations in topic_access(client, wanted, _PATIENCE).items():
        if operations is None:
            yield f"the topic {topic} does not exist: {_CREATE}, or mend `topics`"
        else:
            yield from _lacking(topic, operations, ("READ",))
    if not there and len(named) < len(settings.topics):
        patterns = ", ".join(topic for topic in settings.topics if topic.startswith("^"))
        yield f"no topic that may be seen matches {patterns}: create one, or mend `topics`"


def _own(settings: Settings, client: Mapping[str, str], cluster: Cluster) -> Iterator[str]:
    needed = (kind for kind in KINDS if kind.needed(settings))
    access = {topic: kind.access for kind in needed for topic in kind.topics(settings)}
    told = topic_access(client, access, _PATIENCE)
    for topic, operations in told.items():
        if operations is not None:
            yield from _lacking(topic, operations, access[topic])
    missing = [topic for topic, operations in told.items() if operations is None]
    if not missing:
        return
    if not settings.create_topics:
        for topic in missing:
            yield f"the topic {topic} does not exist, and `create_topics` is off: {_CREATE}"
        return
    specs = own_topics(settings, needs(settings, cluster, {}))
    try:
        create_topics(client, {topic: specs[topic] for topic in missing}, _PATIENCE, dry_run=True)
    except (KafkaRefused, TopicMissing) as error:
        yield f"own topics cannot be made: {error}"


def _lacking(topic: str, operations: Operations, wanted: tuple[str, ...]) -> Iterator[str]:
    if not operations:
        needed = " and ".join(wanted)
        yield f"the topic {topic} may not be seen, if it exists: no {needed} on it: {_ACL}"
        return
    for operation in wanted:
        if operation not in operations:
            yield f"no permission to {operation} the topic {topic}: {_ACL}"


def _groups(settings: Settings, client: Mapping[str, str]) -> Iterator[str]:
    groups = (settings.group, f"{settings.group}.retry", f"{settings.group}.parked")
    for group, operations in group_access(client, groups, _PATIENCE).items():
        if "READ" not in operations:
            yield f"no permission to READ the consumer group {group}: {_ACL}"
