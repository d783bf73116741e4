"""The group's own topics, from the outside: made to fit, missed, differing."""

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.e2e.conftest import Settings
from tests.e2e.rig import dispatcher, envelope, produce, until
from tests.support.brokers import Broker
from tests.support.receivers import Call, Receiver
from thorn_stream.adapters.kafka import create_topics, describe, topic_configs
from thorn_stream.config.settings import Settings as Model
from thorn_stream.ops.topics import Needs, own_topics

pytestmark = pytest.mark.kafka


@pytest.fixture
def broker(apache_broker: Broker) -> Broker:
    """Apache Kafka alone: the embedded broker keeps no settings of topics and no permissions."""
    return apache_broker


async def second_time(call: Call) -> None:
    await call.answer(200 if call.request.headers["hook-attempt"] != "1" else 503)


def test_the_largest_record_of_the_input_fits_its_retry(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Own topics take the input's size and room for headers, and so does the producer."""
    receiver.modes["second"] = second_time
    most = 3_000_000
    topic = broker.topic("in", 2, {"max.message.bytes": str(most)})
    value = envelope("order.paid", text="x" * (most - 1000))
    with dispatcher(tmp_path, settings("/second")) as one:
        one.ready()
        servers = broker.real.bootstrap_servers
        producer = Producer({"bootstrap.servers": servers, "message.max.bytes": 2 * most})
        producer.produce(topic, value)
        assert producer.flush(30) == 0
        until(lambda: receiver.count("/second") == 2, 30, "it is tried again")
        assert one.stop() == 0
    assert receiver.requests[1].body == value
    tier, dead = broker.name("retry.1s"), broker.name("dead")
    told = topic_configs(broker.client, [tier, dead], 20)
    for name in (tier, dead):
        assert told[name]["max.message.bytes"] == str(most + 65_536)
    assert describe(broker.client, 20).topics[tier] == 2


def test_a_missing_own_topic_is_named_until_it_is_there(
    broker: Broker, settings: Settings, tmp_path: Path
) -> None:
    """With `create_topics` off `run` goes on and says so in /readyz; no restart is needed."""
    broker.topic("in")
    given = settings("/ok", create_topics=False)
    dead = broker.name("dead")
    with dispatcher(tmp_path, given) as one:
        until(lambda: dead in one.get("/readyz")[1], 30, "the topic is named in /readyz")
        assert one.get("/readyz")[0] == 503
        model = Model(group=given["group"], retry_tiers=tuple(given["retry_tiers"]))
        create_topics(broker.client, own_topics(model, Needs(partitions=2)), 20)
        one.ready()
        assert one.stop() == 0
    assert "thorn-stream topics create" in one.said()


def test_a_refused_permission_to_make_topics_ends_the_start(
    broker: Broker, settings: Settings, tmp_path: Path
) -> None:
    """Exit status 1, with the topics and the rule that is missing."""
    broker.allow("READ", topic=broker.topic("in"))
    with dispatcher(tmp_path, settings("/ok", kafka=broker.login)) as one:
        assert one.process.wait(40) == 1
    last = one.said().strip().splitlines()[-1]
    assert last.startswith("thorn-stream: topics not created: ")
    assert broker.name("dead") in last
    assert last.count("topics plan --acl") == 1


def test_what_differs_is_a_warning_and_no_more(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """One line for each difference, with what to do; events are delivered all the same."""
    topic = broker.topic("in")
    dead = broker.topic("dead", 1, {"retention.ms": "3600000", "cleanup.policy": "compact"})
    with dispatcher(tmp_path, settings("/ok")) as one:
        one.ready()
        produce(broker.real.bootstrap_servers, topic, [envelope("order.paid")])
        until(lambda: receiver.count("/ok") == 1, 20, "one call")
        assert one.stop() == 0
    said: list[dict[str, Any]] = [json.loads(line) for line in one.said().splitlines()]
    warnings = [
        line["event"]
        for line in said
        if line["level"] == "warning" and line["event"].startswith("topic ")
    ]
    for what in ("partitions", "retention.ms", "cleanup.policy", "max.message.bytes"):
        (line,) = [one for one in warnings if f"{dead}: {what} is " in one]
        assert "needed is" in line
        assert "--alter" in line
    assert len(warnings) == 4
