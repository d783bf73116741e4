"""Looking through a topic as it stands now: no group is joined, nothing is committed.

It waits: for commands, in a thread of their own. However much the topic holds, no more than some
8 MiB of it are in memory, beside what the caller keeps.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from thorn_stream.adapters.kafka import codes
from thorn_stream.adapters.kafka.admin import Cluster, describe
from thorn_stream.adapters.kafka.intake import partition_of, record_of
from thorn_stream.adapters.kafka.settings import common, make
from thorn_stream.adapters.kafka.trouble import of_message, wording
from thorn_stream.core import errors
from thorn_stream.core.records import Partition, Record

__all__ = ["browse", "record_at", "records_at"]

_POLL: Final = 0.1
_HARMLESS: Final = frozenset({codes.GROUP_FORBIDDEN, *codes.NO_ANSWER, *codes.PASSING})
"""No group is needed, and what may pass is waited for."""
_READING: Final[dict[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",  # of what retention takes away meanwhile
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "fetch.wait.max.ms": 10,
    "queued.max.messages.kbytes": 8_192,
    "fetch.max.bytes": 8_388_608,
}


def browse(
    client: Mapping[str, Any], group: str, topic: str, timeout: float, since: int | None = None
) -> Iterator[Record]:
    """Each record that the topic holds now, in the order of each partition.

    `since` (unix milliseconds) passes over what is older. `group` is only a name that Kafka's
    client wants. Raises `TopicMissing`, `KafkaRefused`, and `KafkaUnreachable` when nothing has
    come for `timeout` seconds.
    """
    cluster = _cluster(client, topic, timeout)
    with _consumer(client, group, timeout) as consumer:
        spans = {p: _span(consumer, p, timeout) for p in _partitions(cluster, topic)}
        if since is not None and not cluster.embedded:  # it does not look up times
            spans = _from(consumer, spans, since, timeout)
        for record in _read(consumer, spans, timeout):
            if since is None or record.timestamp >= since:
                yield record


def record_at(
    client: Mapping[str, Any], group: str, place: tuple[Partition, int], timeout: float
) -> Record | None:
    """The record of one offset; None when there is none (any more). Raises as `browse`."""
    partition, offset = place
    cluster = _cluster(client, partition.topic, timeout)
    if partition not in _partitions(cluster, partition.topic):
        return None
    with _consumer(client, group, timeout) as consumer:
        low, high = _span(consumer, partition, timeout)
        if not low <= offset < high:
            return None
        for record in _read(consumer, {partition: (offset, offset + 1)}, timeout):
            return record
    return None


def records_at(
    client: Mapping[str, Any], group: str, places: Mapping[Partition, int], timeout: float
) -> dict[Partition, Record]:
    """The first record of each partition from this offset on; none where there is none.

    Raises as `browse`.
    """
    found: dict[Partition, Record] = {}
    with _consumer(client, group, timeout) as consumer:
        spans = {p: _span(consumer, p, timeout) for p in places}
        wanted = {p: (max(places[p], low), high) for p, (low, high) in spans.items()}
        for partition, (begin, high) in wanted.items():
            for record in _read(consumer, {partition: (begin, high)}, timeout):
                found[partition] = record
                break
    return found


def _cluster(client: Mapping[str, Any], topic: str, timeout: float) -> Cluster:
    cluster = describe(client, timeout)
    if topic not in cluster.topics:
        raise errors.TopicMissing(
            f"the topic {topic} does not exist, or this user may not see it: is `group` right? "
            "`thorn-stream topics create` makes it"
        )
    return cluster


def _partitions(cluster: Cluster, topic: str) -> list[Partition]:
    return [Partition(topic, number) for number in range(cluster.topics[topic])]


@contextmanager
def _consumer(client: Mapping[str, Any], group: str, timeout: float) -> Iterator[Consumer]:
    consumer = make(Consumer, common(client) | _READING | {"group.id": group})
    try:
        yield consumer
    except KafkaException as error:
        if error.args[0].code() in codes.NO_ANSWER:
            raise _no_answer(timeout) from None
        raise errors.KafkaRefused(wording(error.args[0])) from None
    finally:
        consumer.close()


def _span(consumer: Consumer, partition: Partition, timeout: float) -> tuple[int, int]:
    """First offset there is, and the one after the last."""
    until = time.monotonic() + timeout
    while True:
        try:
            found = consumer.get_watermark_offsets(TopicPartition(*partition), timeout=timeout)
        except KafkaException as error:
            if error.args[0].code() not in codes.PASSING or time.monotonic() > until:
                raise
            consumer.poll(_POLL)  # nothing is assigned yet: it waits, and lets the client learn
            continue
        if found is None:
            raise _no_answer(timeout)
        low, high = found
        return low, high


def _from(
    consumer: Consumer,
    spans: Mapping[Partition, tuple[int, int]],
    since: int,
    timeout: float,
) -> dict[Partition, tuple[int, int]]:
    """The spans without what is older; a partition with nothing younger is left out."""
    asked = [TopicPartition(p.topic, p.number, since) for p in spans]
    found = {}
    for told in consumer.offsets_for_times(asked, timeout=timeout):
        if told.error is not None:
            raise KafkaException(told.error)
        partition = Partition(told.topic, told.partition)
        if told.offset >= 0:
            found[partition] = (told.offset, spans[partition][1])
    return found


def _read(
    consumer: Consumer, spans: Mapping[Partition, tuple[int, int]], timeout: float
) -> Iterator[Record]:
    left = {partition: high for partition, (low, high) in spans.items() if low < high}
    consumer.assign([TopicPartition(p.topic, p.number, spans[p][0]) for p in left])
    quiet_since = time.monotonic()
    while left:
        message = consumer.poll(_POLL)
        if message is None:
            if time.monotonic() - quiet_since > timeout:
                raise _no_answer(timeout)
            continue
        error = message.error()
        if error is not None and error.code() in _HARMLESS:
            continue
        if error is not None and error.code() != codes.PARTITION_EOF:
            text = of_message(error, message.topic(), "").text
            raise errors.KafkaRefused(text)
        quiet_since = time.monotonic()
        partition = partition_of(message)
        high = left.get(partition)
        if high is None:
            continue
        offset = message.offset()
        assert offset is not None
        if error is not None or offset + 1 >= high:
            del left[partition]
        if error is None and offset < high:
            yield record_of(message)


def _no_answer(timeout: float) -> errors.KafkaUnreachable:
    return errors.KafkaUnreachable(
        f"nothing came from Kafka for {timeout:g} s: is the cluster well? Try again"
    )
