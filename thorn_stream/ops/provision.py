"""`topics plan` and `topics create`: the plan of a cluster as it is, and what it lacks made."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from thorn_stream.adapters.kafka import (
    Cluster,
    TopicSpec,
    create_topics,
    describe,
    topic_access,
    topic_configs,
)
from thorn_stream.config import Settings
from thorn_stream.ops.plan import Planned, plan
from thorn_stream.ops.text import table
from thorn_stream.ops.topics import needs, own_topics

__all__ = ["Created", "Survey", "create", "created_lines", "lines", "survey"]

_PATIENCE: Final = 10.0
_ASK_EVERY: Final = 0.1
_EXISTS: Final = {True: "yes", False: "no", None: "unknown"}


@dataclass(frozen=True, slots=True)
class Survey:
    """What is there and what is needed."""

    embedded: bool
    topics: list[Planned]

    def as_json(self) -> list[dict[str, Any]]:
        return [one.as_json() for one in self.topics]


@dataclass(frozen=True, slots=True)
class Created:
    """Names of the topics that were made, and how everything is now."""

    made: list[str]
    survey: Survey

    def as_json(self) -> dict[str, Any]:
        return {"created": self.made, "topics": self.survey.as_json()}


def survey(settings: Settings, client: Mapping[str, str], partitions: int | None = None) -> Survey:
    """Compare what is there with what is needed; waits for Kafka.

    `partitions` is what missing inputs would be made with. Raises `KafkaError`.
    """
    cluster = describe(client, _PATIENCE)
    configs = _configs(settings, client, cluster)
    planned = plan(settings, cluster, configs, partitions)
    hidden = _hidden(client, cluster, [one.topic for one in planned if not one.exists])
    return Survey(cluster.embedded, [_told(one, hidden) for one in planned])


def _hidden(client: Mapping[str, str], cluster: Cluster, unseen: list[str]) -> frozenset[str]:
    """Those of which Kafka does not even tell this user whether they exist."""
    if cluster.embedded:
        return frozenset()
    access = topic_access(client, unseen, _PATIENCE)
    return frozenset(topic for topic, may in access.items() if may is not None and not may)


def _told(one: Planned, hidden: frozenset[str]) -> Planned:
    return replace(one, exists=None, partitions=None) if one.topic in hidden else one


def create(settings: Settings, client: Mapping[str, str], partitions: int | None = None) -> Created:
    """Make the inputs that are missing, by name, then what is missing of the group's own.

    May be repeated. Raises `KafkaRefused` and `TopicMissing` naming each topic that Kafka did
    not take, with its reason, and `KafkaUnreachable`.
    """
    named = [topic for topic in settings.topics if not topic.startswith("^")]
    spec = TopicSpec(-1 if partitions is None else partitions)
    made = create_topics(client, dict.fromkeys(named, spec), _PATIENCE)
    cluster = _shown(client, named)
    configs = _configs(settings, client, cluster)
    own = own_topics(settings, needs(settings, cluster, configs))
    made += create_topics(client, own, _PATIENCE)
    _shown(client, own)
    return Created(made, survey(settings, client))


def _shown(client: Mapping[str, str], topics: Collection[str]) -> Cluster:
    """The cluster, once it shows these: a broker may hear of a new topic a moment later."""
    until = time.monotonic() + _PATIENCE
    while True:
        cluster = describe(client, _PATIENCE)
        if all(topic in cluster.topics for topic in topics) or time.monotonic() > until:
            return cluster
        time.sleep(_ASK_EVERY)


def _configs(
    settings: Settings, client: Mapping[str, str], cluster: Cluster
) -> Mapping[str, Mapping[str, str]]:
    there = [one.topic for one in plan(settings, cluster, {}) if one.exists]
    return topic_configs(client, there, _PATIENCE)


# --- for people ----------------------------------------------------------------------------------


def lines(found: Survey) -> list[str]:
    """The plan: a table, what each use asks for, then what there is to do."""
    told = table(
        ("topic", "use", "exists", "partitions"),
        [(one.topic, one.use, _EXISTS[one.exists], _count(one)) for one in found.topics],
    )
    configs = {one.use: one.spec.config for one in found.topics if one.spec.config}
    told += [
        f"{use}: {', '.join(f'{name}={value}' for name, value in config.items())}"
        for use, config in configs.items()
    ]
    told += remarks(found)
    missing = sum(one.exists is False for one in found.topics)
    hidden = [one.topic for one in found.topics if one.exists is None]
    if hidden:
        told.append(
            f"not to be seen by this user, if they exist: {', '.join(hidden)}: allow DESCRIBE; "
            "`thorn-stream topics plan --acl` prints the rules"
        )
    if missing:
        told.append(f"{missing} missing: `thorn-stream topics create` makes them")
    elif not hidden and not any(one.differs or one.use == "retired" for one in found.topics):
        told.append("nothing is to be done")
    return told


def created_lines(done: Created) -> list[str]:
    told = [f"created {name}" for name in done.made]
    return (told or ["nothing to create: all topics exist"]) + remarks(done.survey)


def remarks(found: Survey) -> list[str]:
    """What differs, and what could not be compared, a line each."""
    told = [f"differs: {line}" for one in found.topics for line in one.lines]
    told += [
        f"{one.topic}: no longer in retry_tiers: read until it is empty, then delete it"
        for one in found.topics
        if one.use == "retired"
    ]
    if found.embedded:
        told.append(
            "the embedded broker makes every topic with 4 partitions and keeps no settings of "
            "topics, so only names are compared"
        )
    elif unseen := [one.topic for one in found.topics if not one.seen]:
        told.append(
            f"settings cannot be seen of {', '.join(unseen)}: allow DESCRIBE_CONFIGS there to "
            "have them compared"
        )
    return told


def _count(one: Planned) -> str:
    if one.exists is None:
        return "unknown"
    return "broker's default" if one.partitions is None else str(one.partitions)
