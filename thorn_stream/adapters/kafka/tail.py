"""`Tail`: reads what comes into a topic from now on, without a group, on a thread of its own.

For programs that publish: what is written from the moment `start` returns is handed over, in the
order of each partition.
"""

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from thorn_stream.adapters.kafka import codes
from thorn_stream.adapters.kafka.admin import TopicSpec, create_topics, describe
from thorn_stream.adapters.kafka.forks import keep_in_children
from thorn_stream.adapters.kafka.intake import record_of
from thorn_stream.adapters.kafka.positions import watermarks
from thorn_stream.adapters.kafka.settings import common, make
from thorn_stream.adapters.kafka.trouble import wording
from thorn_stream.core.errors import KafkaError, KafkaRefused, KafkaUnreachable, TopicMissing
from thorn_stream.core.records import Partition, Record

__all__ = ["Tail"]

_POLL: Final = 0.1
_ANSWER: Final = 2.0  # seconds for one question
_BATCH: Final = 500
_LOOK: Final = 30.0  # seconds between looks for partitions that were added
_LEAVE: Final = 2.0
_READING: Final[dict[str, Any]] = {
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 100,
    "queued.max.messages.kbytes": 4_096,
}
_FIXED: Final[dict[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",  # of what is gone, or made anew: whatever is still there
    "enable.partition.eof": False,
    "isolation.level": "read_committed",
}

_HARMLESS: Final = frozenset({codes.GROUP_FORBIDDEN, *codes.PASSING, *codes.NO_ANSWER})
"""No group is needed, and what may pass is waited for."""
_PASSING: Final = frozenset({*codes.PASSING, *codes.NO_ANSWER, *codes.MISSING_TOPIC})

_log: Final = logging.getLogger(__name__)


class Tail:
    """One reader. `take` is called on its thread; what it raises is logged.

    `client` is a `kafka:` section, `group` only a name that Kafka's client wants. Works in the
    process that made it alone: after a fork `usable` is False.
    """

    def __init__(
        self, client: Mapping[str, Any], group: str, topic: str, take: Callable[[Record], None]
    ) -> None:
        self._client = dict(client)
        self._topic = topic
        self._take = take
        self._pid = os.getpid()
        self._stopping = threading.Event()
        self._begun = threading.Event()
        self._refused: KafkaError | None = None
        self._partitions = 0
        settings = _READING | common(client) | {"group.id": group, **_FIXED}
        self._consumer: Consumer = make(Consumer, settings)
        self._thread = threading.Thread(target=self._run, name="thorn-results", daemon=True)
        _living.add(self)

    @property
    def usable(self) -> bool:
        return self._pid == os.getpid() and not self._stopping.is_set()

    def start(self, timeout: float) -> None:
        """Begin at the end of each partition, as it is now; returns when all are known.

        Raises `TopicMissing`, `KafkaRefused`, and `KafkaUnreachable` after `timeout` seconds; it
        cannot be used then.
        """
        self._thread.start()
        self._begun.wait(timeout)
        if self._begun.is_set() and self._refused is None:
            return
        self.stop(0)
        raise self._refused or KafkaUnreachable(
            f"Kafka did not say within {timeout:g} s where the topic {self._topic} ends: is it "
            "running, and is kafka.bootstrap_servers right?"
        )

    def stop(self, grace: float = _LEAVE) -> None:
        """Read no more; gives the thread so many seconds to end."""
        self._stopping.set()
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join(grace)

    # --- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._begin()
            self._read()
        except KafkaError as error:
            self._refused = error
        except KafkaException as error:
            _log.error("%s is read no more: %s", self._topic, wording(error.args[0]))
        finally:
            self._begun.set()
            self._stopping.set()
            self._consumer.close()

    def _begin(self) -> None:
        while not self._stopping.is_set():
            try:
                self._assign_ends()
            except KafkaException as error:
                if error.args[0].code() not in _PASSING:
                    raise KafkaRefused(wording(error.args[0], self._topic)) from None
            except (KafkaUnreachable, TimeoutError):
                pass  # who waits for us knows for how long
            else:
                self._begun.set()
                return
            self._stopping.wait(_POLL)

    def _assign_ends(self) -> None:
        cluster = describe(self._client, _ANSWER)
        count = cluster.topics.get(self._topic)
        if count is None and cluster.embedded:
            create_topics(self._client, {self._topic: TopicSpec()}, _ANSWER)
            raise TimeoutError  # it will be there when it is asked again
        if count is None:
            raise TopicMissing(
                f"the topic {self._topic} does not exist, or this user may not see it: are "
                "`group` and `results.topic` those of the dispatchers? "
                "`thorn-stream topics create` makes it"
            )
        ends = [
            watermarks(self._consumer, Partition(self._topic, number), _ANSWER)[1]
            for number in range(count)
        ]
        self._consumer.assign(
            [TopicPartition(self._topic, number, end) for number, end in enumerate(ends)]
        )
        self._partitions = count

    def _read(self) -> None:
        looked, told = time.monotonic(), -_LOOK
        while not self._stopping.is_set():
            for message in self._consumer.consume(_BATCH, _POLL):
                if self._stopping.is_set():
                    return
                error = message.error()
                if error is None:
                    self._hand_over(record_of(message))
                elif error.code() not in _HARMLESS and time.monotonic() - told >= _LOOK:
                    told = time.monotonic()
                    _log.warning("%s cannot be read: %s", self._topic, wording(error, self._topic))
            if time.monotonic() - looked >= _LOOK:
                looked = time.monotonic()
                self._look_for_more()

    def _hand_over(self, record: Record) -> None:
        try:
            self._take(record)
        except Exception:  # noqa: BLE001 - the next record is taken all the same
            _log.exception("a record of %s could not be taken", self._topic)

    def _look_for_more(self) -> None:
        """Partitions that were added are read from their beginning."""
        try:
            told = self._consumer.list_topics(timeout=_ANSWER).topics.get(self._topic)
        except KafkaException:
            return  # away just now: it is looked again
        count = len(told.partitions) if told is not None and told.error is None else 0
        if count > self._partitions:
            added = range(self._partitions, count)
            self._consumer.incremental_assign(
                [TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in added]
            )
            self._partitions = count


_living: Final["weakref.WeakSet[Tail]"] = weakref.WeakSet()


@atexit.register
def _at_exit() -> None:
    """No thread may be inside the client while the interpreter is taken down."""
    for tail in list(_living):
        if tail.usable:
            tail.stop()


keep_in_children(_living)
