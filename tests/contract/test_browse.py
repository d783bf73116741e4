"""Looking through a topic on both brokers, without a group."""

import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.support.brokers import Broker, EmbeddedProcess, numbered
from tests.support.receivers import closed_port
from thorn_stream.adapters.kafka import browse, record_at
from thorn_stream.core.errors import KafkaRefused, KafkaUnreachable, TopicMissing
from thorn_stream.core.records import Partition


def test_all_records_are_read_to_the_present_end(broker: Broker) -> None:
    """Every partition from its first record to its last, each in order, empty ones as well."""
    topic = broker.topic("t", 4)
    broker.produce(topic, numbered(300), partition=0)
    broker.produce(topic, numbered(40, 300), partition=3)
    found = list(browse(broker.client, "g", topic, 20))
    assert [r.value for r in found if r.partition == 0] == numbered(300)
    assert [r.value for r in found if r.partition == 3] == numbered(40, 300)
    assert len(found) == 340


def test_records_written_meanwhile_do_not_prolong_it(broker: Broker) -> None:
    """The end is that of the beginning, so that a busy topic comes to one."""
    topic = broker.topic("t", 1)
    broker.produce(topic, numbered(10))
    reading = browse(broker.client, "g", topic, 20)
    first = next(reading)
    broker.produce(topic, numbered(10, 10))
    assert [first.value, *(r.value for r in reading)] == numbered(10)


def test_what_is_deleted_is_passed_over(broker: Broker) -> None:
    """Reading begins at the first record that is still there."""
    topic = broker.topic("t", 1)
    broker.produce(topic, numbered(10))
    broker.delete_records(topic, 0, 4)
    assert [r.value for r in browse(broker.client, "g", topic, 20)] == numbered(6, 4)


def test_what_is_older_is_passed_over(broker: Broker) -> None:
    """`since` counts by the records' timestamps, on the broker that looks them up and without."""
    topic = broker.topic("t", 2)
    now = int(time.time() * 1000)
    for age in (7200, 3600, 60):
        broker.produce(topic, [b"%d" % age], timestamp=now - age * 1000)
    broker.produce(topic, [b"old"], partition=1, timestamp=now - 7_200_000)
    found = browse(broker.client, "g", topic, 20, since=now - 3_600_000)
    assert [r.value for r in found] == [b"3600", b"60"]


def test_nothing_is_committed(broker: Broker) -> None:
    """The group whose name is borrowed has no offsets afterwards."""
    topic = broker.topic("t", 1)
    broker.produce(topic, numbered(5))
    group = broker.name("g")
    assert len(list(browse(broker.client, group, topic, 20))) == 5
    consumer = Consumer({"bootstrap.servers": broker.real.bootstrap_servers, "group.id": group})
    try:
        (place,) = consumer.committed([TopicPartition(topic, 0)], timeout=20)
    finally:
        consumer.close()
    assert place.offset < 0


@pytest.mark.kafka
def test_the_end_is_found_behind_a_transaction(apache_broker: Broker) -> None:
    """A topic whose last offset is a marker, and one that has nothing but a marker, end as well."""
    topic = apache_broker.topic("t", 2)
    producer = Producer(
        {
            "bootstrap.servers": apache_broker.real.bootstrap_servers,
            "transactional.id": apache_broker.name("tx"),
        }
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topic, b"kept", partition=0)
    producer.flush(20)
    producer.commit_transaction(20)
    producer.begin_transaction()
    producer.produce(topic, b"gone", partition=1)
    producer.flush(20)
    producer.abort_transaction(20)
    assert [r.value for r in browse(apache_broker.client, "g", topic, 20)] == [b"kept"]


def test_one_record_is_found_by_its_place(broker: Broker) -> None:
    """With headers and key; None for an offset that is not there, or not any more."""
    topic = broker.topic("t", 2)
    broker.produce(topic, numbered(10), partition=1, key=b"k", headers=[("a", b"1")])
    broker.delete_records(topic, 1, 3)
    found = record_at(broker.client, "g", (Partition(topic, 1), 7), 20)
    assert found is not None
    assert (found.value, found.key, found.headers, found.offset) == (b"7", b"k", [("a", b"1")], 7)
    for partition, offset in ((1, 2), (1, 10), (0, 0), (2, 0)):
        assert record_at(broker.client, "g", (Partition(topic, partition), offset), 20) is None


def test_a_topic_that_is_not_there_is_said_and_not_made(broker: Broker) -> None:
    """The error names it; looking makes no topic, on the embedded broker neither."""
    for _ in range(2):
        with pytest.raises(TopicMissing, match=broker.name("no")):
            list(browse(broker.client, "g", broker.name("no"), 20))


@pytest.mark.kafka
def test_a_missing_permission_is_said(apache_broker: Broker) -> None:
    """Who may see the topic and not read it is told so; a right on the group is not needed."""
    topic = apache_broker.topic("t", 1)
    apache_broker.produce(topic, numbered(3))
    apache_broker.allow("DESCRIBE", topic=topic)
    with pytest.raises(KafkaRefused, match=f"no permission to read the topic {topic}"):
        list(browse(apache_broker.login, "g", topic, 20))
    apache_broker.allow("READ", topic=topic)
    found = browse(apache_broker.login, "g", topic, 20)
    assert [r.value for r in found] == numbered(3)


def test_a_broker_that_goes_away_is_said(embedded_broker: Broker) -> None:
    """When nothing has come for as long as was allowed, with what to do; it never hangs."""
    topic = embedded_broker.topic("t", 4)
    for partition in range(4):  # more in all than is read ahead
        embedded_broker.produce(topic, [b"x" * 10_000] * 400, partition)
    reading = browse(embedded_broker.client, "g", topic, 1.0)
    assert len(next(reading).value or b"") == 10_000
    assert isinstance(embedded_broker.real, EmbeddedProcess)
    embedded_broker.real.go_down()
    try:
        with pytest.raises(KafkaUnreachable, match="nothing came from Kafka for 1 s"):
            list(reading)
    finally:
        embedded_broker.real.come_up()


def test_a_broker_that_is_not_there_is_said() -> None:
    """Before anything is read."""
    with pytest.raises(KafkaUnreachable, match="bootstrap_servers"):
        next(browse({"bootstrap_servers": f"127.0.0.1:{closed_port()}"}, "g", "t", 1.0))
