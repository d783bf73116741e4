"""How far the partitions reach, and whether each topic is still the one it was.

A topic that is deleted and made again under its name has offsets from 0 again. Kafka says so to a
consumer only when the offset it wants does not exist; when the new topic has grown beyond it, the
records before it would be passed over without a word. So the topics' ids are compared.
"""

import contextlib
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public; its stubs forget to say so
    AclOperation,
    AdminClient,
)

from thorn_stream.adapters.kafka.settings import SourceSettings, common, make
from thorn_stream.core.records import Partition

__all__ = ["Watch"]

_PATIENCE: Final = 10.0  # seconds for an answer about topics; nobody waits for it
_DOUBTS: Final = 2  # rounds of answers that are not believed after a trouble


class Watch:
    """Part of the owner thread; none of it waits.

    `ends` maps partitions to the offset after their last record, and `ids` topics to what Kafka
    knows them by, as last heard of. `readable` are topics that are there and may be read.
    """

    def __init__(self, settings: SourceSettings) -> None:
        self.ends: Mapping[Partition, int] = {}
        self._settings = settings
        self._admin: AdminClient | None = None
        self.ids: dict[str, str] = {}
        self.readable: set[str] = set()
        self._doubts = 0
        self._asked: dict[str, Future[Any]] = {}
        self._unread_then: Mapping[Partition, int] = {}  # when it was asked
        self._unread: Mapping[Partition, int] = {}  # when the topics were last seen unchanged

    def look_at_ends(self, consumer: Consumer, partitions: Collection[Partition]) -> None:
        ends = {}
        for partition in partitions:
            told = consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
            if told is not None and told[1] >= 0:
                ends[partition] = told[1]
        self.ends = ends  # replaced as a whole: the loop reads it

    def unread(self, following: Mapping[Partition, int]) -> dict[Partition, int]:
        """How many records each partition holds that were not handed over."""
        return {p: max(0, self.ends.get(p, offset) - offset) for p, offset in following.items()}

    def doubt(self) -> None:
        """A topic is in trouble: what was asked before, or of a broker that is behind, is void.

        The client tells of a trouble once, so one that is taken for over too early would never
        be told again; and of a quiet topic nothing else shows that it is over.
        """
        self._doubts = _DOUBTS
        self.readable = set()

    def made_anew(self, following: Mapping[Partition, int]) -> dict[Partition, int]:
        """Partitions whose topic is another than at an earlier look, and what was unread then.

        `following` maps ours to the next offset to hand over. The count is of the last time the
        topic was seen to be the same: what else was lost, Kafka does not tell any more.
        """
        changed = self._changed()
        found = {p: self._unread.get(p, 0) for p in following if p.topic in changed}
        if not self._asked:
            self._doubts = max(0, self._doubts - 1)
            self._unread = {} if changed else self._unread_then
            self._unread_then = self.unread(following)
            self._ask({p.topic for p in following})
        return found

    def _changed(self) -> set[str]:
        changed, self.readable = set(), set()
        for topic, answer in list(self._asked.items()):
            if not answer.done():
                continue
            del self._asked[topic]
            if answer.exception() is not None:
                continue  # it is away just now, or may not be described: the consumer says so
            may = answer.result().authorized_operations
            if not self._doubts and (may is None or AclOperation.READ in may):
                self.readable.add(topic)
            told = str(answer.result().topic_id)
            if self.ids.setdefault(topic, told) != told:
                self.ids[topic] = told
                changed.add(topic)
        return changed

    def _ask(self, topics: Collection[str]) -> None:
        if self._settings.embedded or not topics:
            return  # the embedded broker deletes no topics and describes none
        if self._admin is None:
            self._admin = make(AdminClient, common(self._settings.client))
        with contextlib.suppress(KafkaException):
            self._asked = self._admin.describe_topics(
                TopicCollection(list(topics)),
                include_authorized_operations=True,
                request_timeout=_PATIENCE,
            )
