"""The Sink port, held by KafkaSink against both brokers."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.brokers import Broker, EmbeddedProcess, numbered
from tests.support.reading import reading, until
from thorn_stream.adapters.embedded import PRODUCE
from thorn_stream.adapters.kafka import KafkaSink, SinkSettings
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.records import Headers
from thorn_stream.ports import SendFailed


class Sent:
    """What a Sink answered, by token."""

    def __init__(self, sink: KafkaSink) -> None:
        self.sink = sink
        self.answers: list[tuple[Any, SendFailed | None]] = []

    def send(
        self, topic: str, value: bytes | None, token: Any, headers: Headers | None = None
    ) -> None:
        self.sink.send(topic, (b"k", value, headers or []), self._done, token)

    def _done(self, token: Any, failed: SendFailed | None) -> None:
        self.answers.append((token, failed))

    @property
    def failed(self) -> dict[Any, SendFailed]:
        return {token: failed for token, failed in self.answers if failed is not None}


@asynccontextmanager
async def sending(broker: Broker, **settings: Any) -> AsyncIterator[Sent]:
    client = broker.client | settings.pop("client", {})
    sink = KafkaSink(SinkSettings(client, **settings))
    try:
        yield Sent(sink)
    finally:
        await sink.stop(0)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_records_are_acknowledged_and_there(broker: Broker) -> None:
    """Each send is answered once; key, value and headers arrive as they were given, in order."""
    topic = broker.topic("out", 1)
    headers: Headers = [("h", b"\xff"), ("h", None)]

    async def test() -> None:
        async with sending(broker) as sent:
            for i in range(200):
                sent.send(topic, b"%d" % i, i, headers)
            sent.send(topic, None, "tombstone")
            assert await sent.sink.stop(20) == 0
            assert [token for token, _ in sent.answers] == [*range(200), "tombstone"]
            assert not sent.failed
        async with reading(broker, topic) as one:
            await until(lambda: len(one.records) == 201)
            assert one.values() == [*numbered(200), None]
            assert (one.records[0].key, one.records[0].headers) == (b"k", headers)

    run(test())


@pytest.mark.kafka
def test_a_record_too_large_fails_alone(apache_broker: Broker) -> None:
    """A batch above the topic's limit is taken apart: only what is too large alone fails."""
    topic = apache_broker.topic("small", 1, {"max.message.bytes": "100000"})

    async def test() -> None:
        async with sending(apache_broker) as sent:
            for i in range(300):
                sent.send(topic, os.urandom(1_000), i)
            sent.send(topic, os.urandom(150_000), "large")
            await until(lambda: len(sent.answers) == 301)
            assert set(sent.failed) == {"large"}
            assert sent.failed["large"].too_large
        async with reading(apache_broker, topic) as one:
            await until(lambda: len(one.records) == 300)

    run(test())


def test_a_refused_batch_is_sent_again_record_by_record(embedded_broker: Broker) -> None:
    """MSG_SIZE_TOO_LARGE for a batch says nothing of its records."""
    topic = embedded_broker.topic("out", 1)
    real = embedded_broker.real
    assert isinstance(real, EmbeddedProcess)

    async def test() -> None:
        async with sending(embedded_broker) as sent:
            real.fail_next(PRODUCE, [10])
            for i in range(5):
                sent.send(topic, b"x", i)
            await until(lambda: len(sent.answers) == 5)
            assert not sent.failed

    run(test())


def test_a_record_above_the_clients_own_limit_is_too_large(broker: Broker) -> None:
    """What librdkafka refuses at once is answered like any other failure: later, on the loop."""
    topic = broker.topic("out", 1)

    async def test() -> None:
        async with sending(broker) as sent:
            sent.send(topic, os.urandom(2_000_000), "large")
            assert not sent.answers
            sent.send(topic, b"x", "small")
            await until(lambda: len(sent.answers) == 2)
            assert set(sent.failed) == {"large"}
            assert sent.failed["large"].too_large

    run(test())


def test_more_than_the_queue_holds_is_kept_in_order(broker: Broker) -> None:
    """A full queue of librdkafka is no error: all is written as room comes."""
    topic = broker.topic("out", 1)

    async def test() -> None:
        small = {"queue.buffering.max.messages": 10}
        async with sending(broker, client=small) as sent:
            for i in range(300):
                sent.send(topic, b"%d" % i, i)
            assert await sent.sink.stop(20) == 0
            assert not sent.failed
        async with reading(broker, topic) as one:
            await until(lambda: len(one.records) == 300)
            assert one.values() == numbered(300)

    run(test())


def test_a_broker_that_is_away_fails_the_record_in_time(embedded_broker: Broker) -> None:
    """After `timeout` the failure is told, not as too large; then writing works again."""
    topic = embedded_broker.topic("out", 1)
    real = embedded_broker.real
    assert isinstance(real, EmbeddedProcess)

    async def test() -> None:
        quick = {"reconnect.backoff.max.ms": 100}
        async with sending(embedded_broker, timeout=1.0, client=quick) as sent:
            sent.send(topic, b"x", "before")
            await until(lambda: sent.answers)
            real.go_down()
            try:
                sent.send(topic, b"x", "away")
                await until(lambda: len(sent.answers) == 2)
                assert not sent.failed["away"].too_large
                assert "timed out" in sent.failed["away"].error
            finally:
                real.come_up()
            await _acknowledged_at_last(sent, topic)

    run(test())


async def _acknowledged_at_last(sent: Sent, topic: str) -> None:
    """Send again until it is taken, as the callers of a Sink do."""
    async with asyncio.timeout(20):
        while True:
            before = len(sent.answers)
            sent.send(topic, b"x", "again")
            await until(lambda: len(sent.answers) > before)  # noqa: B023 - awaited at once
            if sent.answers[-1] == ("again", None):
                return


@pytest.mark.kafka
def test_a_missing_topic_fails_with_its_name(apache_broker: Broker) -> None:
    """A topic that does not exist is an answer, not an exception."""
    topic = apache_broker.name("nowhere")

    async def test() -> None:
        async with sending(apache_broker, timeout=1.0) as sent:
            sent.send(topic, b"x", "lost")
            await until(lambda: sent.answers)
            assert not sent.failed["lost"].too_large

    run(test())


def test_a_producer_that_broke_for_good_is_replaced(embedded_broker: Broker) -> None:
    """A fatal error fails what was under way, and the next record goes through a new producer."""
    topic = embedded_broker.topic("out", 1)
    real = embedded_broker.real
    assert isinstance(real, EmbeddedProcess)

    async def test() -> None:
        async with sending(embedded_broker) as sent:
            real.fail_next(PRODUCE, [45])  # OUT_OF_ORDER_SEQUENCE_NUMBER
            sent.send(topic, b"x", "broken")
            await until(lambda: sent.answers)
            assert not sent.failed["broken"].too_large
            sent.send(topic, b"x", "after")
            await until(lambda: len(sent.answers) == 2)
            assert set(sent.failed) == {"broken"}

    run(test())


def test_a_caller_that_fails_costs_nobody_else_his_report(embedded_broker: Broker) -> None:
    """An exception out of `done` is told to the loop, and the other records are reported."""
    topic = embedded_broker.topic("out", 1)
    told: list[dict[str, Any]] = []

    def fails(_: Any, __: SendFailed | None) -> None:
        raise ArithmeticError("a fault of the caller")

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with sending(embedded_broker, client={"linger.ms": 50}) as sent:
            sent.send(topic, b"x", "before")
            sent.sink.send(topic, (b"k", b"x", []), fails, "fails")
            sent.send(topic, b"x", "after")
            assert await sent.sink.stop(20) == 0
        assert sent.answers == [("before", None), ("after", None)]
        (context,) = told
        assert isinstance(context["exception"], ArithmeticError)
        assert topic in context["message"]

    run(test())


def _threads(name: str = "kafka-sink") -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == name}


def test_a_second_producer_that_broke_for_good_is_closed(embedded_broker: Broker) -> None:
    """The one that sends records again alone is replaced like the first; no thread is left."""
    topic = embedded_broker.topic("out", 1)
    real = embedded_broker.real
    assert isinstance(real, EmbeddedProcess)
    before = _threads()

    async def test() -> None:
        async with sending(embedded_broker) as sent:
            real.fail_next(PRODUCE, [10, 45])  # too large together, then alone: out of sequence
            sent.send(topic, b"x", "broken")
            await until(lambda: sent.answers)
            assert not sent.failed["broken"].too_large
            real.fail_next(PRODUCE, [10])
            sent.send(topic, b"x", "after")
            await until(lambda: len(sent.answers) == 2)
            assert set(sent.failed) == {"broken"}
            await until(lambda: len(_threads() - before) == 2)
        await until(lambda: not _threads() - before)

    run(test())


def test_stop_counts_what_a_stalled_broker_has_not_acknowledged(embedded_broker: Broker) -> None:
    """Stopping keeps its grace, whatever the broker does."""
    topic = embedded_broker.topic("out", 1)
    real = embedded_broker.real
    assert isinstance(real, EmbeddedProcess)

    async def test() -> None:
        async with sending(embedded_broker) as sent:
            sent.send(topic, b"x", "before")
            await until(lambda: sent.answers)
            real.signal(signal.SIGSTOP)
            try:
                for i in range(3):
                    sent.send(topic, b"x", i)
                begin = time.monotonic()
                assert await sent.sink.stop(0.3) == 3
                assert time.monotonic() - begin < 2
            finally:
                real.signal(signal.SIGCONT)

    run(test())


def test_what_cannot_be_a_record_is_answered_too(embedded_broker: Broker) -> None:
    """`send` never raises, not even for a topic name that Kafka cannot know."""

    async def test() -> None:
        async with sending(embedded_broker, timeout=1.0) as sent:
            sent.send("a\0b", b"x", "a topic with NUL")
            assert not sent.answers
            await until(lambda: sent.answers)
            assert not sent.failed["a topic with NUL"].too_large

    run(test())


def test_settings_that_make_no_producer_are_refused_at_once(embedded_broker: Broker) -> None:
    """librdkafka's refusal is a configuration error."""

    async def test() -> None:
        with pytest.raises(ConfigurationError, match="kafka: "):
            KafkaSink(SinkSettings(embedded_broker.client | {"bogus": 1}))

    run(test())


@pytest.mark.parametrize("ahead", [0, 60, -60])
def test_the_clock_of_kafka_is_known_where_kafka_times_the_records(
    apache_broker: Broker, ahead: int
) -> None:
    """By as much as ours is set back, and not before a record was timed by Kafka."""
    theirs = apache_broker.topic("theirs", 1, {"message.timestamp.type": "LogAppendTime"})
    ours = apache_broker.topic("ours", 1)

    async def test() -> None:
        sink = KafkaSink(
            SinkSettings(apache_broker.client), lambda: time.time_ns() // 1_000_000 - ahead * 1000
        )
        sent = Sent(sink)
        sent.send(ours, b"x", 1)
        await until(lambda: len(sent.answers) == 1)
        told = [sink.skew]
        await asyncio.sleep(1)  # one record a second is looked at
        sent.send(theirs, b"x", 2)
        await until(lambda: len(sent.answers) == 2)
        told.append(sink.skew)
        before, after = told
        assert before is None
        assert after is not None
        assert abs(after - ahead) < 5
        assert (after > 0) == (ahead > 0)
        await sink.stop(5)

    run(test())


def test_the_embedded_broker_has_no_clock(embedded_broker: Broker) -> None:
    """It says the same moment of 1970 of each record, which tells nothing of ours."""
    topic = embedded_broker.topic("timed", 1)

    async def test() -> None:
        sink = KafkaSink(SinkSettings(embedded_broker.client))
        sent = Sent(sink)
        sent.send(topic, b"x", 1)
        await until(lambda: len(sent.answers) == 1)
        told = sink.skew
        assert told is None
        await sink.stop(5)

    run(test())
