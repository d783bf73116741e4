"""The topics of a group: which it reads and writes, and how its own are to be kept."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from thorn_stream.adapters.kafka import Cluster, TopicSpec
from thorn_stream.config import Settings

__all__ = [
    "KAFKA_DEFAULT_BYTES",
    "KINDS",
    "Kind",
    "Needs",
    "inputs",
    "needs",
    "never_input",
    "own_topics",
    "required",
    "tiers_read",
    "uses",
]

_DAY: Final = 86_400
_MOST_PARTITIONS: Final = 12
_HEADERS_ROOM: Final = 65_536
_CURSORS_SEGMENT: Final = 16_777_216
KAFKA_DEFAULT_BYTES: Final = 1_048_588
"""`max.message.bytes` of a topic that sets none."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What the input topics ask of the group's own: a retry record is its event, with headers.

    `partitions` and `replicas` of the input that has most, -1 where the broker's default will do;
    `max_message_bytes` of the widest; `min_insync` the strictest `min.insync.replicas`, None
    where it is not known. `parked` is how many partitions the topic of parked deliveries has, or
    that of their cursors: both have the same; -1 where there is neither.
    """

    partitions: int = -1
    replicas: int = -1
    max_message_bytes: int = KAFKA_DEFAULT_BYTES
    min_insync: int | None = None
    parked: int = -1


class Kind(NamedTuple):
    """One sort of own topics.

    `config` adds to what all of them have in common, `access` is what a dispatcher does with one,
    `prefix` what the names of all of them, of earlier settings too, begin with, if there may be
    such. One that is not `needed` is made where that is allowed, and not missed where it is not.
    """

    use: str
    topics: Callable[[Settings], Iterable[str]]
    config: Callable[[Settings], Mapping[str, str]]
    access: tuple[str, ...]
    prefix: Callable[[Settings], str | None] = lambda _: None
    needed: Callable[[Settings], bool] = lambda _: True


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))


def _of_tiers(settings: Settings) -> Mapping[str, str]:
    """Kept longer than any wait and a long outage; stamped by the broker, so that skew shows."""
    kept = max(7 * _DAY, 2 * max(settings.retry_tiers) + 2 * _DAY)
    return {"retention.ms": _ms(kept), "message.timestamp.type": "LogAppendTime"}


KINDS: Final = (
    Kind(
        "retry",
        topics=lambda settings: settings.retry_topics,
        config=_of_tiers,
        access=("READ", "WRITE"),
        prefix=lambda settings: f"{settings.retry_prefix}.",
    ),
    Kind(
        "parked",
        topics=lambda settings: [settings.parked],
        config=lambda settings: {"retention.ms": _ms(settings.park_max + _DAY)},
        access=("READ", "WRITE"),
    ),
    Kind(
        "cursors",
        topics=lambda settings: [settings.cursors],
        # read whole at each assignment, so it is compacted often
        config=lambda _: {"cleanup.policy": "compact", "segment.bytes": str(_CURSORS_SEGMENT)},
        access=("READ", "WRITE"),
    ),
    Kind(
        "dead",
        topics=lambda settings: [settings.dead],
        config=lambda _: {"retention.ms": _ms(30 * _DAY)},
        access=("WRITE",),
    ),
    Kind(
        "results",
        topics=lambda settings: [settings.results_topic],
        config=lambda _: {"retention.ms": _ms(7 * _DAY)},
        access=("WRITE",),
        needed=lambda settings: settings.results.enabled,  # else for events that ask for theirs
    ),
)
"""What this version writes. A row more is a topic more: planned, made, checked and granted."""


_PAIR: Final = frozenset({"parked", "cursors"})
"""A partition of the one has its cursors in the partition of the other that has its number."""


def own_topics(settings: Settings, needs: Needs) -> dict[str, TopicSpec]:
    """Each topic of the group's own, in the order of `KINDS`."""
    return {topic: spec for _, topic, spec in uses(settings, needs)}


def required(settings: Settings) -> frozenset[str]:
    """The own topics without which a dispatcher is not ready."""
    return frozenset(
        topic for kind in KINDS if kind.needed(settings) for topic in kind.topics(settings)
    )


def uses(settings: Settings, needs: Needs) -> Iterator[tuple[str, str, TopicSpec]]:
    """What each own topic is for, its name, and how it is to be made."""
    common = {
        "cleanup.policy": "delete",
        "retention.bytes": "-1",
        "max.message.bytes": str(needs.max_message_bytes + _HEADERS_ROOM),
    }
    if needs.min_insync is not None:
        common["min.insync.replicas"] = str(needs.min_insync)
    width = min(needs.partitions, _MOST_PARTITIONS)
    for kind in KINDS:
        spec = TopicSpec(width, needs.replicas, {**common, **kind.config(settings)})
        if kind.use in _PAIR:
            spec = replace(spec, partitions=max(width, needs.parked))
        for topic in kind.topics(settings):
            yield kind.use, topic, spec


def tiers_read(settings: Settings, topics: Iterable[str]) -> dict[str, float]:
    """Retry topics to read, each with its wait in seconds: of the settings, and what is left.

    A tier that is in the settings no more and still exists is read until it is empty.
    """
    there = {topic: settings.tier_wait(topic) for topic in topics}
    left = {topic: wait for topic, wait in there.items() if wait is not None}
    return {**left, **settings.retry_topics}


def never_input(settings: Settings) -> tuple[str, ...]:
    """Names, and a `^regex` for tiers of any wait, that a pattern of `topics` may match by chance.

    The expression is read by Python and by POSIX engines, and holds no comma.
    """
    prefix = re.sub(r"([^A-Za-z0-9_-])", r"[\1]", settings.retry_prefix)
    return (*sorted(settings.own_topics), rf"^{prefix}[.][0-9]+([.][0-9]+)?s$")


def inputs(settings: Settings, cluster: Cluster) -> list[str]:
    """The input topics that exist, patterns applied."""
    return [
        topic
        for topic in cluster.topics
        if not topic.startswith("__")
        and not settings.is_own(topic)
        and any(_names(wanted, topic) for wanted in settings.topics)
    ]


def _names(wanted: str, topic: str) -> bool:
    return re.search(wanted, topic) is not None if wanted.startswith("^") else wanted == topic


def needs(
    settings: Settings,
    cluster: Cluster,
    configs: Mapping[str, Mapping[str, str]],
    partitions: int = -1,
) -> Needs:
    """What the inputs that exist ask for; `partitions` of those that do not, where it is known.

    `configs` are the topics' settings as far as they can be seen.
    """
    there = inputs(settings, cluster)
    missing = any(not t.startswith("^") and t not in cluster.topics for t in settings.topics)
    widths = [cluster.topics[topic] for topic in there] + ([partitions] if missing else [])
    replicas = max((cluster.replicas.get(topic, 1) for topic in there), default=1)
    return Needs(
        partitions=max(widths, default=-1),
        replicas=replicas if replicas > 1 else -1,
        max_message_bytes=max(
            _told(configs, there, "max.message.bytes"), default=KAFKA_DEFAULT_BYTES
        ),
        min_insync=max(_told(configs, there, "min.insync.replicas"), default=None),
        parked=max(cluster.topics.get(topic, -1) for topic in (settings.parked, settings.cursors)),
    )


def _told(
    configs: Mapping[str, Mapping[str, str]], topics: Iterable[str], name: str
) -> Iterator[int]:
    for topic in topics:
        value = configs.get(topic, {}).get(name)
        if value:
            yield int(value)
