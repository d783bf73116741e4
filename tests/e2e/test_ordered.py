"""`ordering: key`: an order checker at the receiver, through failures, crashes and rebalances."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer

from tests.e2e.conftest import Settings
from tests.e2e.rig import Dispatcher, committed, dispatcher, produce, until
from tests.support.brokers import Broker
from tests.support.ordering import OrderChecker, keyed
from tests.support.receivers import Receiver

KEYS = 40
SESSION = 6.0


def ordered(settings: Settings, receiver: Receiver, **more: Any) -> dict[str, Any]:
    """One ordered subscriber that never gives up, and one that is not, for comparison."""
    own: dict[str, Any] = {
        "id": "one",
        "event": "order.*",
        "url": receiver.url("/ordered"),
        "ordering": "key",
    }
    own |= {"on_exhausted": "block", "retry_delay": 0.2, "retry_max": 3}
    other = {"id": "two", "event": "order.*", "url": receiver.url("/ok")}
    circuit = {"failures": 1000, "open_for": 1, "open_for_max": 1}
    return settings(subscribers=[own | more, other], circuit=circuit)


def publish(broker: Broker, topic: str, count: int, seconds: float) -> threading.Thread:
    """Each key's numbers from 0 on, `count` in all, spread over some seconds."""

    def run() -> None:
        producer = Producer({"bootstrap.servers": broker.real.bootstrap_servers, "linger.ms": 5})
        for number in range(count):
            key = f"k{number % KEYS}"
            producer.produce(topic, keyed(key, number // KEYS), key=key.encode())
            if number % KEYS == 0:
                producer.poll(0)
                time.sleep(seconds / count * KEYS)
        assert producer.flush(60) == 0

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def all_committed(broker: Broker, topic: str) -> bool:
    done, ends = committed(broker.real.bootstrap_servers, f"{broker.prefix}.o.one", topic)
    return done == ends


@pytest.mark.timeout(180)
def test_the_order_of_each_key_survives_a_kill(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """One in 30 fails, one dispatcher dies in full flow, another takes over: all in order."""
    topic = broker.topic("in")
    checker = receiver.modes["ordered"] = OrderChecker(30)
    made = ordered(settings, receiver)
    count = 1600
    with dispatcher(tmp_path / "a", made) as first:
        first.ready(60)
        producer = publish(broker, topic, count, 3)
        until(lambda: checker.count > count // 4, 60, "in full flow")
        first.kill()
        with dispatcher(tmp_path / "b", made) as second:
            second.ready(60)
            producer.join()
            until(lambda: checker.count == count, 90, "all of them")
            until(lambda: receiver.count("/ok") >= count, 60, "the other's")
            until(lambda: all_committed(broker, topic), 60, "committed")
            assert second.stop() == 0
    assert checker.early == []
    print(f"killed once: {count} in order, {checker.repeated} repeated")
    assert checker.repeated <= 256 + KEYS


@pytest.mark.parametrize(
    "broker",
    ["embedded", pytest.param("apache", marks=[pytest.mark.kafka, pytest.mark.long])],
    indirect=True,
)
@pytest.mark.timeout(180)
def test_ordered_subscribers_come_and_go_while_it_runs(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """One that comes begins where the others stand; back after a while, it goes on where it was."""
    topic = broker.topic("in")
    checker = receiver.modes["ordered"] = OrderChecker(10**9)
    made = ordered(settings, receiver)
    own, other = made["subscribers"]
    made |= {"subscribers": [other], "subscriber_files": ["own/*.yaml"], "start": "latest"}
    folder = tmp_path / "a" / "own"
    folder.mkdir(parents=True)

    def is_now(*subscribers: dict[str, Any]) -> None:
        new = folder / "new"
        new.write_text(yaml.safe_dump({"subscribers": list(subscribers)}))
        new.rename(folder / "own.yaml")

    def written(first: int) -> None:
        numbers = [b"%d" % n for n in range(first, first + 10)]
        values: list[bytes | None] = [keyed("k", int(n)) for n in numbers]
        produce(broker.real.bootstrap_servers, topic, values, key=b"k")
        until(lambda: receiver.count("/ok") == first + 10, 60, f"up to {first + 10}")

    with dispatcher(tmp_path / "a", made) as one:
        one.ready(60)
        written(0)
        until(
            lambda: sum(committed(broker.real.bootstrap_servers, broker.prefix, topic)) == 20,
            60,
            "committed",
        )
        checker.delivered["k"].add(9)  # what was before it came is not its
        is_now(own)
        until(lambda: "ordered subscriber begins" in one.said(), 60, "seen")
        written(10)
        until(lambda: len(checker.delivered["k"]) == 11, 60, "its first ten")
        until(lambda: all_committed(broker, topic), 60, "committed")
        is_now({**own, "ordering": "none"})
        until(lambda: "give it a new id" in one.said(), 60, "refused")
        is_now()
        lag = f'thorn_consumer_lag{{group="{broker.prefix}.o.one"'
        until(lambda: lag not in one.get("/metrics")[1], 60, "gone")
        written(20)
        assert len(checker.delivered["k"]) == 11
        is_now(own)
        until(lambda: len(checker.delivered["k"]) == 21, 60, "what came meanwhile, too")
        assert one.stop() == 0
    assert checker.early == []
    assert checker.repeated == 0
    assert [number for _, number, _ in checker.attempts] == list(range(10, 30))


@pytest.mark.long
@pytest.mark.kafka
@pytest.mark.timeout(400)
@pytest.mark.parametrize("broker", ["apache"], indirect=True)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_the_order_of_each_key_survives_everything(
    broker: Broker,
    receiver: Receiver,
    settings: Settings,
    tmp_path: Path,
    protocol: str,
) -> None:
    """Kills, a stall beyond the session, a rolling restart and members that come and go."""
    topic = broker.topic("in")
    checker = receiver.modes["ordered"] = OrderChecker(50, wait=0.05)
    made = ordered(settings, receiver) | {"group_protocol": protocol}
    made["kafka"] |= {"session_timeout_ms": int(SESSION * 1000), "heartbeat_interval_ms": 1000}
    if protocol == "consumer":
        del made["kafka"]["session_timeout_ms"], made["kafka"]["heartbeat_interval_ms"]
    count = 16_000
    started: list[Any] = []

    def start() -> Dispatcher:
        cm = dispatcher(tmp_path / str(len(started)), made)
        started.append(cm)
        one: Dispatcher = cm.__enter__()
        return one.ready(60)

    def goes_on(more: int) -> None:
        now = checker.count
        until(lambda: checker.count >= min(count, now + more), 90, f"{more} more")

    try:
        members = [start(), start()]
        producer = publish(broker, topic, count, 60)
        goes_on(1000)
        members.append(start())
        goes_on(1000)
        members.pop(0).kill()
        members.append(start())
        goes_on(1000)
        stopped = members[0]
        stopped.process.send_signal(signal.SIGSTOP)
        time.sleep(SESSION + 3)  # beyond the session, whatever else happens
        stopped.process.send_signal(signal.SIGCONT)
        goes_on(1000)
        for _ in range(len(members)):  # a rolling restart
            assert members.pop(0).stop() == 0
            members.append(start())
            goes_on(300)
        members.pop(0).kill()
        producer.join()
        until(lambda: checker.count == count, 120, "all of them")
        until(lambda: all_committed(broker, topic), 60, "committed")
        for one in members:
            assert one.stop() == 0
    finally:
        for cm in started:
            cm.__exit__(None, None, None)
    print(f"{protocol}: {count} in order, {checker.repeated} repeated, {len(checker.early)} early")
    assert checker.early == []
    assert checker.repeated < count // 20
