"""What a cluster's topics are, compared with what is needed: what differs, and what to do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from thorn_stream.adapters.kafka import Cluster, TopicSpec
from thorn_stream.config import Settings
from thorn_stream.ops.topics import inputs, needs, tiers_read, uses

__all__ = ["Difference", "Planned", "plan"]

_EMBEDDED_PARTITIONS: Final = 4


class Difference(NamedTuple):
    """What of a topic is not as needed, and how to mend it; `what` is a setting, or a property."""

    what: str
    now: str
    needed: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Planned:
    """One topic, as it is and as it is needed.

    `use` is `input`, `retry`, `dead`, or `retired` (a tier that is no longer set). `partitions`
    is the number it has, or will be made with; None: the broker's default. `seen` says whether
    its settings could be looked at. `exists` is None where Kafka does not tell this user.
    """

    topic: str
    use: str
    exists: bool | None
    spec: TopicSpec
    partitions: int | None
    differs: tuple[Difference, ...] = ()
    seen: bool = True

    @property
    def lines(self) -> list[str]:
        """Each difference in one line, with what to do."""
        return [
            f"{self.topic}: {one.what} is {one.now}, needed is {one.needed}: {one.remedy}"
            for one in self.differs
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "topic": self.topic,
            "use": self.use,
            "exists": self.exists,
            "partitions": self.partitions,
            "config": dict(self.spec.config),
            "differs": [
                {"what": one.what, "is": one.now, "needed": one.needed, "remedy": one.remedy}
                for one in self.differs
            ],
        }


def plan(
    settings: Settings,
    cluster: Cluster,
    configs: Mapping[str, Mapping[str, str]],
    partitions: int | None = None,
) -> list[Planned]:
    """Every topic of these settings: inputs, its own, and tiers that are left from before.

    `partitions` is what missing inputs are to be made with.
    """
    width = -1 if partitions is None else partitions
    named = [topic for topic in settings.topics if not topic.startswith("^")]
    matched = sorted(set(inputs(settings, cluster)) - set(named))
    wanted = [("input", topic, TopicSpec(width)) for topic in [*named, *matched]]
    wanted += uses(settings, needs(settings, cluster, configs, width))
    known = {topic for _, topic, _ in wanted}
    read = tiers_read(settings, cluster.topics)
    left = sorted((topic for topic in read if topic not in known), key=lambda topic: read[topic])
    wanted += [("retired", topic, TopicSpec()) for topic in left]
    return [_planned(use, topic, spec, cluster, configs) for use, topic, spec in wanted]


def _planned(
    use: str,
    topic: str,
    spec: TopicSpec,
    cluster: Cluster,
    configs: Mapping[str, Mapping[str, str]],
) -> Planned:
    exists = topic in cluster.topics
    made_with = _EMBEDDED_PARTITIONS if cluster.embedded else spec.partitions
    count = cluster.topics[topic] if exists else made_with
    differs = list(_confused(topic, cluster))
    config = configs.get(topic, {})
    if exists and use not in {"input", "retired"} and not cluster.embedded:
        differs += _shape(topic, spec, cluster)
        differs += _config(topic, spec.config, config)
    seen = not exists or bool(config)
    return Planned(topic, use, exists, spec, count if count > 0 else None, tuple(differs), seen)


def _confused(topic: str, cluster: Cluster) -> Iterator[Difference]:
    """Names that differ in `.` and `_` alone are one to Kafka's metrics: it refuses the second."""
    for other in cluster.topics:
        if other != topic and other.replace("_", ".") == topic.replace("_", "."):
            remedy = "Kafka takes . and _ for one in names: delete one, or choose another name"
            yield Difference("its name", f"like that of {other}", "one of its own", remedy)


def _shape(topic: str, spec: TopicSpec, cluster: Cluster) -> Iterator[Difference]:
    partitions, replicas = cluster.topics[topic], cluster.replicas.get(topic, spec.replication)
    if partitions < spec.partitions:
        remedy = f"kafka-topics.sh --alter --topic {topic} --partitions {spec.partitions}"
        yield Difference("partitions", str(partitions), str(spec.partitions), remedy)
    if replicas < spec.replication:
        remedy = "kafka-reassign-partitions.sh adds replicas"
        yield Difference("replicas", str(replicas), str(spec.replication), remedy)


_AT_LEAST: Final = frozenset(
    {"retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas"}
)
"""More than is needed does no harm; -1 is without end."""


def _config(
    topic: str, needed: Mapping[str, str], config: Mapping[str, str]
) -> Iterator[Difference]:
    for name, value in needed.items():
        now = config.get(name)
        if now is None or _enough(name, now, value):
            continue
        remedy = (
            f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} "
            f"--add-config {name}={value}"
        )
        yield Difference(name, now, value, remedy)


def _enough(name: str, now: str, needed: str) -> bool:
    if name not in _AT_LEAST:
        return now == needed
    return now == "-1" or (needed != "-1" and int(now) >= int(needed))
