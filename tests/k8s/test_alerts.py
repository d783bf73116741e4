"""Each alert fires in a situation really made for it, and no other does; all is well: none.

The rules are the chart's, with `for` of some seconds. Each situation has a broker of its own, since
some are made by its errors.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Producer

from tests.e2e.conftest import Settings
from tests.e2e.rig import Dispatcher, dispatcher, envelope, produce, until
from tests.k8s.prometheus import Prometheus, alerts
from tests.support.brokers import Broker, EmbeddedProcess
from tests.support.receivers import Call, Receiver

pytestmark = [pytest.mark.k8s, pytest.mark.long, pytest.mark.timeout(600)]

PATIENCE: Final = 120.0
WAITS: Final = 15  # seconds that each alert waits; no stall of a busy machine lasts so long
READ: Final = "sum(rate(thorn_records_consumed_total[5m])) > 0"
PRODUCE, OFFSET_COMMIT = 0, 8  # requests of Kafka's protocol
REFUSED: Final = 29  # TOPIC_AUTHORIZATION_FAILED


@pytest.fixture
def broker() -> Iterator[Broker]:
    """One of this test's own."""
    real = EmbeddedProcess()
    yield Broker(real)
    real.stop()


@contextmanager
def traffic(broker: Broker, topic: str) -> Iterator[Callable[[], None]]:
    """Two events a second to all partitions, until the end or until what is given is called."""
    ended = threading.Event()
    partitions = 4

    def send() -> None:
        producer = Producer({"bootstrap.servers": broker.real.bootstrap_servers})
        number = 0
        while not ended.wait(0.5):
            producer.produce(topic, envelope("order.paid"), partition=number % partitions)
            producer.poll(0)
            number += 1
        producer.flush(10)

    def end() -> None:
        ended.set()
        thread.join(30)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield end
    finally:
        end()


@contextmanager
def watched(tools: Path, folder: Path, *ones: Dispatcher) -> Iterator[Prometheus]:
    """A Prometheus that has seen these dispatchers."""
    targets = [f"127.0.0.1:{one.port}" for one in ones]
    with Prometheus(tools, folder / "prometheus", targets, alerts(WAITS)) as prometheus:
        until(
            lambda: len(prometheus.ask("thorn_build_info")) == len(ones), PATIENCE, "all are seen"
        )
        yield prometheus


def fires(prometheus: Prometheus, *names: str) -> None:
    """These come to fire, and no other has until then."""
    expected = {f"Thorn{name}" for name in names}
    until(lambda: prometheus.firing() >= expected, PATIENCE, f"{expected} fire")
    assert prometheus.fired() == expected


class Moody:
    """A mode of the receiver whose status can be changed while it runs; 0: no answer at all."""

    def __init__(self, receiver: Receiver) -> None:
        self.status = 200
        receiver.modes["moody"] = self._answer

    async def _answer(self, call: Call) -> None:
        if self.status:
            await call.answer(self.status)
        else:
            await call.gone()


class Parts:
    """What every situation is made from."""

    def __init__(self, made: tuple[Broker, Receiver, Settings, Path, Path]) -> None:
        self.broker, self.receiver, self.settings, self.tools, self.folder = made
        self.mood = Moody(self.receiver)
        self.topic = self.broker.topic("in")
        self.servers = self.broker.real.bootstrap_servers

    @contextmanager
    def run(self, dispatchers: int = 1, **more: Any) -> Iterator[tuple[Prometheus, Any]]:
        """Dispatchers that deliver two events a second, and a Prometheus that sees it."""
        with ExitStack() as stack:
            ones = [
                stack.enter_context(
                    dispatcher(self.folder / f"d{number}", self.settings("/moody", **more))
                )
                for number in range(dispatchers)
            ]
            for one in ones:
                one.ready(PATIENCE)
            prometheus = stack.enter_context(watched(self.tools, self.folder, *ones))
            end = stack.enter_context(traffic(self.broker, self.topic))
            until(lambda: bool(prometheus.ask(READ)), PATIENCE, "records are read")
            yield prometheus, (ones, end)

    def refuse(self, request: int) -> None:
        """From now on the broker takes no request of this kind."""
        assert isinstance(self.broker.real, EmbeddedProcess)
        self.broker.real.fail_next(request, [REFUSED] * 2000)


@pytest.fixture
def parts(
    broker: Broker,
    receiver: Receiver,
    settings: Settings,
    tools: Path,
    tmp_path: Path,
) -> Parts:
    return Parts((broker, receiver, settings, tools, tmp_path))


def test_silent_while_all_is_well_and_down_once_nobody_runs(parts: Parts) -> None:
    """Two dispatchers deliver for three times as long as an alert waits; then both end."""
    with parts.run(2) as (prometheus, (ones, _)):
        long = f"min(count_over_time(thorn_build_info[5m]) >= {3 * WAITS // 2})"
        until(lambda: bool(prometheus.ask(long)), PATIENCE, "scraped for long enough")
        assert prometheus.fired() == set()
        assert all(one.metric("thorn_deliveries_total", settlement="delivered") for one in ones)
        assert [one.stop() for one in ones] == [0, 0]
        fires(prometheus, "Down")


def test_a_dead_receiver(parts: Parts) -> None:
    """ThornReceiverDead and, where that lasts, ThornCircuitOpen; over when it answers again."""
    quick = {"circuit": {"failures": 3, "open_for": 1, "open_for_max": 2}, "retry_max": 20}
    with parts.run(2, **quick) as (prometheus, (ones, _)):
        until(
            lambda: all(
                'thorn_circuit_open{subscriber="one"} 0.0' in each.get("/metrics")[1]
                for each in ones
            ),
            PATIENCE,
            "both have sent it something",
        )
        parts.mood.status = 503
        fires(prometheus, "ReceiverDead", "CircuitOpen")
        parts.mood.status = 200
        until(lambda: prometheus.firing() == set(), PATIENCE, "over")


def test_events_that_wait_for_long(parts: Parts) -> None:
    """ThornBacklogAge: one written twenty minutes ago is not answered."""
    with parts.run(event_timeout=600, event_timeout_max=600) as (prometheus, _):
        parts.mood.status = 0
        ago = int((time.time() - 20 * 60) * 1000)
        produce(parts.servers, parts.topic, [envelope("order.old")], timestamp=ago)
        fires(prometheus, "BacklogAge")


def test_dead_letters(parts: Parts) -> None:
    """ThornDeadLetters, at the very first one of its reason."""
    with parts.run() as (prometheus, (ones, _)):
        parts.mood.status = 410
        until(lambda: ones[0].metric("thorn_dead_letters_total") > 0, PATIENCE, "dead letters")
        fires(prometheus, "DeadLetters")


def test_commits_that_are_refused(parts: Parts) -> None:
    """ThornCommitsFailing, of the main group alone."""
    with parts.run() as (prometheus, _):
        parts.refuse(OFFSET_COMMIT)
        fires(prometheus, "CommitsFailing")


def test_hand_overs_that_are_refused(parts: Parts) -> None:
    """ThornHandOverFailing: retries cannot be written."""
    with parts.run(circuit={"failures": 1000}) as (prometheus, (ones, end)):
        parts.mood.status = 503
        until(lambda: ones[0].metric("thorn_retries_total") > 0, PATIENCE, "retries")
        end()  # what sends has a producer as well
        parts.refuse(PRODUCE)
        fires(prometheus, "HandOverFailing")


def test_a_full_memory_that_stops_reading(parts: Parts) -> None:
    """ThornMemoryHigh, and ThornConsumerStuck once nothing is read for all of what is looked at."""
    parts.mood.status = 0
    limit = 4 << 20
    given = parts.settings("/moody", event_timeout=600, event_timeout_max=600, memory_limit=limit)
    with dispatcher(parts.folder / "d0", given) as one:
        one.ready(PATIENCE)
        large = envelope("order.large", text="x" * 100_000)
        for partition in range(4):
            produce(parts.servers, parts.topic, [large] * 20, partition=partition)
        held = 0.45 * limit
        until(lambda: one.metric("thorn_memory_bytes", use="live") > held, PATIENCE, "held")
        with watched(parts.tools, parts.folder, one) as prometheus:
            fires(prometheus, "MemoryHigh", "ConsumerStuck")
