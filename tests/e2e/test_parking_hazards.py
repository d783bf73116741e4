"""Parked and ordered deliveries on Apache Kafka, where things go wrong that only it can do."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public; its stubs forget to say so
    AdminClient,
    NewPartitions,
)

from tests.e2e.conftest import Settings
from tests.e2e.rig import Dispatcher, committed, dispatcher, envelope, produce, read_all, until
from tests.support.brokers import Broker
from tests.support.ordering import OrderChecker, keyed
from tests.support.receivers import Receiver
from thorn_stream.adapters.kafka import delete_topics, describe

WITHIN = 90
"""Seconds: a busy machine is slow."""
SESSION = 6.0

pytestmark = [pytest.mark.long, pytest.mark.kafka, pytest.mark.timeout(300)]


def write_subscribers(folder: Path, *subscribers: dict[str, Any]) -> None:
    """Put them in place of those that a dispatcher in this folder knows, all at once."""
    place = folder / "own"
    place.mkdir(parents=True, exist_ok=True)
    new = place / "new"
    new.write_text(yaml.safe_dump({"subscribers": list(subscribers)}))
    new.rename(place / "own.yaml")


def park(one: Dispatcher, broker: Broker, count: int) -> None:
    """Events for a subscriber that is paused: all of them wait in the parked topic."""
    servers, parked = broker.client["bootstrap_servers"], f"{broker.prefix}.parked"
    produce(servers, broker.name("in"), [envelope("order.created", n=n) for n in range(count)])
    until(lambda: one.metric("thorn_parked_total", cause="paused") == count, WITHIN, "parked")
    until(lambda: committed(servers, parked, parked) == (count, count), WITHIN, "passed over")


def deliveries(receiver: Receiver, path: str, after: int = 0) -> set[str]:
    """Ids of those that have come to this path, after so many requests to it."""
    came = [one.headers["hook-delivery"] for one in list(receiver.requests) if one.path == path]
    return set(came[after:])


@pytest.mark.parametrize("broker", ["apache"], indirect=True)
def test_an_owner_that_stood_still_loses_nothing_of_the_next(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Stopped in a drain for longer than its session, it wakes up beside its successor."""
    broker.topic("in", 2)
    made = settings() | {"subscribers": [], "subscriber_files": ["own/*.yaml"]}
    made["kafka"] |= {"session_timeout_ms": int(SESSION * 1000), "heartbeat_interval_ms": 1000}
    count, path = 400, "/slow/0.05"
    own = {"id": "a", "event": "order.*", "url": receiver.url(path), "max_in_flight": 2}
    write_subscribers(tmp_path / "one", own | {"state": "paused"})
    with dispatcher(tmp_path / "one", made) as one:
        one.ready(WITHIN)
        park(one, broker, count)
        write_subscribers(tmp_path / "one", own)
        until(lambda: receiver.count(path) >= 50, WITHIN, "in full drain")
        one.process.send_signal(signal.SIGSTOP)
        time.sleep(SESSION + 2)  # beyond the session, whatever else happens
        write_subscribers(tmp_path / "two", own)
        with dispatcher(tmp_path / "two", made) as two:
            two.ready(WITHIN)
            until(lambda: two.metric("thorn_attempts_total", outcome="ok") >= 20, WITHIN, "on")
            one.process.send_signal(signal.SIGCONT)
            until(lambda: len(deliveries(receiver, path)) == count, WITHIN, "all are delivered")
            assert two.stop() == 0
        assert one.stop() == 0
    assert receiver.count(path) < 2 * count


@pytest.mark.parametrize("broker", ["apache"], indirect=True)
def test_what_retention_took_before_it_was_drained_is_counted(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """The cursor stands below what there is: so many are told as lost, the others are delivered."""
    broker.topic("in", 2)
    made = settings() | {"subscribers": [], "subscriber_files": ["own/*.yaml"]}
    own = {"id": "a", "event": "order.*", "url": receiver.url("/ok")}
    servers, parked = broker.client["bootstrap_servers"], f"{broker.prefix}.parked"
    write_subscribers(tmp_path / "one", own | {"state": "paused"})
    with dispatcher(tmp_path / "one", made) as one:
        one.ready(WITHIN)
        park(one, broker, 300)
        broker.delete_records(parked, partition_of(servers, parked, 300), 100)
        write_subscribers(tmp_path / "one", own)
        until(lambda: len(deliveries(receiver, "/ok")) == 200, WITHIN, "what was left")
        until(
            lambda: one.metric("thorn_records_lost_total", topic=parked) == 100, WITHIN, "counted"
        )
        assert one.stop() == 0
    assert receiver.count("/ok") == 200


@pytest.mark.parametrize("broker", ["apache"], indirect=True)
def test_a_parked_topic_made_anew_beyond_an_old_cursor_is_drained_whole(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """The same records stand in a new topic: the cursor in the midst of them is the old one's."""
    broker.topic("in", 2)
    made = settings() | {"subscribers": [], "subscriber_files": ["own/*.yaml"]}
    own = {"id": "a", "event": "order.*", "url": receiver.url("/ok")}
    servers, parked = broker.client["bootstrap_servers"], f"{broker.prefix}.parked"
    folder = tmp_path / "one"
    write_subscribers(folder, own | {"state": "paused"})
    with dispatcher(folder, made) as one:
        one.ready(WITHIN)
        park(one, broker, 30)
        write_subscribers(folder, own)
        until(lambda: len(deliveries(receiver, "/ok")) == 30, WITHIN, "drained")
        assert one.stop() == 0
    came = receiver.count("/ok")
    write_subscribers(folder, own | {"state": "paused"})
    with dispatcher(folder, made) as one:
        one.ready(WITHIN)
        more: list[bytes | None] = [envelope("order.created", n=n) for n in range(30, 50)]
        produce(servers, broker.name("in"), more)
        until(lambda: committed(servers, parked, parked) == (50, 50), WITHIN, "passed over")
        assert one.stop() == 0
    numbers = make_anew(broker, parked)
    assert committed(servers, parked, parked) == (0, 50)
    write_subscribers(folder, own)
    with dispatcher(folder, made) as one:
        one.ready(WITHIN)
        until(lambda: committed(servers, parked, parked) == (50, 50), WITHIN, "read again")
        until(lambda: receiver.count("/ok") >= came + 50, WITHIN, "whole")
        until(lambda: len(deliveries(receiver, "/ok", came)) == 50, WITHIN, "each of them")
        assert one.metric("thorn_records_lost_total", topic=parked) == 20  # of the old topic
        assert one.stop() == 0
    assert numbers == {partition_of(servers, parked, 50)}


def make_anew(broker: Broker, topic: str) -> set[int]:
    """Delete the topic, and write what it held to one of the same name; returns where it was."""
    kept = read_all(broker.client["bootstrap_servers"], topic)
    partitions = describe(broker.client, WITHIN).topics[topic]
    delete_topics(broker.client, [topic], WITHIN)
    until(lambda: topic not in describe(broker.client, WITHIN).topics, WITHIN, "deleted")
    broker.topic("parked", partitions)
    numbers = {message.partition() or 0 for message in kept}
    for message in sorted(kept, key=lambda message: message.offset() or 0):
        more = {"key": message.key(), "headers": message.headers()}
        broker.produce(topic, [message.value()], message.partition() or 0, **more)
    return numbers


def partition_of(servers: str, topic: str, count: int) -> int:
    """The partition that all of them are in: they have one key."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "looks"})
    try:
        numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        found: list[int] = [
            number
            for number in numbers
            if consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1] == count
        ]
        return found[0]
    finally:
        consumer.close()


def publish(broker: Broker, numbers: range, **more: Any) -> None:
    """These numbers of the key `k`."""
    values: list[bytes | None] = [keyed("k", number) for number in numbers]
    produce(broker.client["bootstrap_servers"], broker.name("in"), values, key=b"k", **more)


def ordered(receiver: Receiver) -> dict[str, Any]:
    made = {"id": "one", "event": "order.*", "url": receiver.url("/ordered"), "ordering": "key"}
    return made | {"on_exhausted": "block", "retry_delay": 0.2}


@pytest.mark.parametrize("broker", ["apache"], indirect=True)
def test_an_ordered_read_takes_up_partitions_that_were_added(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """From their first record; what is of one key in one partition stays in order."""
    topic = broker.topic("in", 2)
    checker = receiver.modes["ordered"] = OrderChecker(10)
    made = settings(subscribers=[ordered(receiver)])
    made["kafka"] |= {"topic_metadata_refresh_interval_ms": 1000}
    servers = broker.client["bootstrap_servers"]
    with dispatcher(tmp_path / "one", made) as one:
        one.ready(WITHIN)
        publish(broker, range(40), partition=1)
        until(lambda: checker.count == 40, WITHIN, "before")
        admin = AdminClient({"bootstrap.servers": servers})
        for future in admin.create_partitions([NewPartitions(topic, 4)]).values():
            future.result(timeout=20)

        def grown() -> bool:
            told = admin.list_topics(topic, timeout=10).topics[topic].partitions
            return len(told) == 4

        until(grown, WITHIN, "grown")
        publish(broker, range(40, 80), partition=3)
        until(lambda: checker.count == 80, WITHIN, "of the new partition")
        group = f"{broker.prefix}.o.one"
        until(lambda: committed(servers, group, topic) == (80, 80), WITHIN, "committed")
        assert one.stop() == 0
    assert checker.early == []
    assert checker.repeated == 0


@pytest.mark.parametrize("broker", ["apache"], indirect=True)
def test_a_roll_out_in_which_some_do_not_know_a_subscriber_yet(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Who knows an ordered one reads all of it; what is parked waits for an owner that knows."""
    topic = broker.topic("in", 2)
    checker = receiver.modes["ordered"] = OrderChecker(10)
    made = settings() | {"subscribers": [], "subscriber_files": ["own/*.yaml"]}
    other = {"id": "two", "event": "order.*", "url": receiver.url("/ok")}
    late = {"id": "late", "event": "order.*", "url": receiver.url("/no-content")}
    one_ordered, servers = ordered(receiver), broker.client["bootstrap_servers"]
    write_subscribers(tmp_path / "old", other)
    write_subscribers(tmp_path / "new", other, one_ordered, late | {"state": "paused"})
    with dispatcher(tmp_path / "new", made) as new:
        new.ready(WITHIN)
        publish(broker, range(30))
        until(lambda: new.metric("thorn_parked_total", cause="paused") == 30, WITHIN, "parked")
        with dispatcher(tmp_path / "old", made) as old:
            old.ready(WITHIN)
            publish(broker, range(30, 60))
            until(lambda: checker.count == 60, WITHIN, "whoever has the partition")
            assert new.stop() == 0
            publish(broker, range(60, 90))
            until(lambda: receiver.count("/ok") >= 90, WITHIN, "the other's go on")
            assert checker.count == 60
            assert receiver.count("/no-content") == 0
            write_subscribers(tmp_path / "old", other, one_ordered, late)
            until(lambda: checker.count == 90, WITHIN, "its own read goes on where it was")
            until(lambda: len(deliveries(receiver, "/no-content")) >= 30, WITHIN, "drained")
            group = f"{broker.prefix}.o.one"
            until(lambda: committed(servers, group, topic) == (90, 90), WITHIN, "committed")
            assert old.metric("thorn_dead_letters_total") == 0
            assert old.stop() == 0
    assert checker.early == []
