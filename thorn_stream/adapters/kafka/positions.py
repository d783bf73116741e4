"""Where a partition is read from when it is assigned, and how many records were lost."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from thorn_stream.adapters.kafka.settings import SourceSettings, common, make
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.records import Partition, Position

__all__ = ["Positions", "Topics", "committed", "places", "watermarks"]


def places(where: Mapping[Partition, Position] | Iterable[Partition]) -> list[TopicPartition]:
    """Make librdkafka's objects for partitions, with offset and metadata where they are given."""
    if not isinstance(where, Mapping):
        return [TopicPartition(p.topic, p.number) for p in where]
    return [
        TopicPartition(p.topic, p.number, at.offset, at.metadata)
        if at.metadata
        else TopicPartition(p.topic, p.number, at.offset)
        for p, at in where.items()
    ]


class Topics:
    """Topics by name or `^regex`. Raises `ConfigurationError` for a pattern that is none."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = {name for name in names if not name.startswith("^")}
        self._patterns = [_compiled(name) for name in names if name.startswith("^")]

    def __contains__(self, topic: str) -> bool:
        return topic in self._names or any(p.search(topic) for p in self._patterns)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigurationError(f"topics: {pattern} is no regular expression: {error}") from None


class Positions:
    """Answers for one group. What asks Kafka waits, and raises `KafkaException`.

    `first` is what `start: latest` chose and no commit was answered for yet.
    """

    def __init__(self, settings: SourceSettings, excluded: Topics) -> None:
        self._settings = settings
        self._wanted = Topics(settings.topics)
        self._excluded = excluded
        self._group_is_old = settings.start == "earliest"
        self.first: dict[Partition, Position] = {}

    def begin(
        self, consumer: Consumer, partitions: Sequence[Partition], timeout: float
    ) -> dict[Partition, Position]:
        """Positions for partitions just assigned: committed ones, else by the rule of `start`.

        `timeout` in seconds, for each question. Partitions without a commit begin at their first
        record, but in the very first start of a group with `start: latest`: then the end of
        *every* partition of its topics is chosen, also of those that other members were given at
        the same moment, or they would take the group for an old one.
        """
        found = {p: self.first[p] for p in partitions if p in self.first}
        found |= committed(consumer, partitions, timeout)
        missing = [p for p in partitions if p not in found]
        if missing and not found and not self._group_is_old:
            if self._is_fresh(consumer, missing, timeout):
                self.first = self._ends(consumer, missing, timeout)
                return {p: self.first[p] for p in missing}
            # between our questions another member may have chosen for all of us
            found = committed(consumer, missing, timeout)
            missing = [p for p in missing if p not in found]
        for partition in missing:
            low, _ = watermarks(consumer, partition, timeout)
            found[partition] = Position(low)
        return found

    def _is_fresh(
        self, consumer: Consumer, partitions: Sequence[Partition], timeout: float
    ) -> bool:
        """Whether the group has never committed anything, for any topic."""
        everywhere = self.all_partitions(consumer, partitions, timeout)
        if committed(consumer, everywhere, timeout) or self._committed_elsewhere(timeout):
            self._group_is_old = True
            return False
        return True

    def _ends(
        self, consumer: Consumer, partitions: Sequence[Partition], timeout: float
    ) -> dict[Partition, Position]:
        return {
            p: Position(watermarks(consumer, p, timeout)[1])
            for p in self.all_partitions(consumer, partitions, timeout)
        }

    def all_partitions(
        self, consumer: Consumer, ours: Collection[Partition], timeout: float
    ) -> list[Partition]:
        """Those of every topic of the group, `ours` included. Raises `KafkaException`."""
        there = consumer.list_topics(timeout=timeout).topics
        return list(
            {
                Partition(topic, number)
                for topic, told in there.items()
                if topic in self._wanted and topic not in self._excluded
                for number in told.partitions
            }.union(ours)
        )

    def _committed_elsewhere(self, timeout: float) -> bool:
        """Whether there are commits for topics that are not read any more."""
        if self._settings.embedded:
            return False  # it cannot tell, and does not outlive its topics
        group = self._settings.group
        admin = make(AdminClient, common(self._settings.client))
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        told: Any = asked[group].result(timeout=timeout)
        return any(tp.offset >= 0 for tp in told.topic_partitions)


def watermarks(consumer: Consumer, partition: Partition, timeout: float) -> tuple[int, int]:
    """First offset there is, and the one after the last."""
    found = consumer.get_watermark_offsets(TopicPartition(*partition), timeout=timeout)
    if found is None:
        raise TimeoutError(f"no answer about {partition}")
    low, high = found
    return low, high


def committed(
    consumer: Consumer, partitions: Sequence[Partition], timeout: float
) -> dict[Partition, Position]:
    """What the group of this client has committed of these. Raises `KafkaException`."""
    found = {}
    asked = places(partitions)
    for told in consumer.committed(asked, timeout=timeout) if asked else ():
        if told.error is not None:
            raise KafkaException(told.error)
        if told.offset >= 0:
            partition = Partition(told.topic, told.partition)
            found[partition] = Position(told.offset, told.metadata or "")
    return found
