"""What Kafka's errors are called, and which of them hold."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from thorn_stream.adapters.kafka import codes
from thorn_stream.adapters.kafka.assignment import Assignment
from thorn_stream.adapters.kafka.handover import Credit, Outbox
from thorn_stream.adapters.kafka.intake import Intake
from thorn_stream.adapters.kafka.positions import Positions, Topics
from thorn_stream.adapters.kafka.settings import (
    SourceSettings,
    consumer_settings,
    make,
    producer_settings,
    redacted,
    session,
)
from thorn_stream.adapters.kafka.trouble import (
    Troubles,
    forbidden,
    of_connection,
    of_message,
    wording,
)
from thorn_stream.core.records import Partition
from thorn_stream.ports import Trouble


def _error(code: int, text: str = "said so") -> KafkaError:
    return KafkaError(code, text)


@pytest.mark.parametrize(
    ("said", "about"),
    [
        ("Broker: Group authorization failed", "the consumer group g"),
        ("Broker: Topic authorization failed", "to read a topic"),
    ],
)
def test_a_permission_that_ends_a_consumer_is_named_as_one(said: str, about: str) -> None:
    """The newer protocol makes a missing permission a fatal error: it still reads as one."""
    error = _error(codes.FATAL, f"Fatal error: {said}: ConsumerGroupHeartbeat fatal error: {said}")
    trouble = of_message(error, None, "g")
    assert trouble.text is not None
    assert about in trouble.text
    assert "allow READ" in trouble.text
    assert trouble.fatal_at_start
    assert forbidden(error)
    assert not forbidden(_error(codes.FATAL, "Fatal error: anything else"))


@pytest.mark.parametrize(
    ("code", "topic", "key", "remedy", "fatal"),
    [
        (KafkaError.GROUP_AUTHORIZATION_FAILED, None, "group", "allow READ", True),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "t", "topic:t", "allow READ and DESCRIBE", True),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, None, "group", "allow READ and DESCRIBE", True),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "t", "topic:t", "create it", False),
        (codes.UNKNOWN_TOPIC, "t", "topic:t", "create it", False),
        (KafkaError.INVALID_MSG, "t", "topic:t", "said so", False),
        (codes.FATAL, None, "group", "said so", False),
    ],
)
def test_an_error_in_place_of_a_record_is_named(
    code: int, topic: str | None, key: str, remedy: str, fatal: bool
) -> None:
    """Its key says what is in trouble, its text what to do, and whether a start ends by it."""
    trouble = of_message(_error(code), topic, "g")
    assert trouble.key == key
    assert remedy in str(trouble.text)
    assert trouble.fatal_at_start is fatal


def test_a_topic_is_found_in_the_text_when_the_message_has_none() -> None:
    """librdkafka names it there when a subscription fails."""
    said = "Subscribed topic not available: orders: Broker: Unknown topic or partition"
    trouble = of_message(_error(KafkaError.UNKNOWN_TOPIC_OR_PART, said), None, "g")
    assert trouble.key == "topic:orders"


def test_a_broker_without_the_newer_protocol_is_named() -> None:
    """The remedy is the setting, not librdkafka's words."""
    trouble = of_message(_error(codes.FATAL, "API version not supported"), None, "g")
    assert trouble.fatal_at_start
    assert "group_protocol: classic" in str(trouble.text)


@pytest.mark.parametrize(
    ("code", "said", "key", "remedy", "fatal"),
    [
        (codes.AUTHENTICATION, "", "login", "sasl.password", True),
        (codes.TLS, "certificate verify failed", "login", "ssl.ca.location", True),
        (codes.TLS, "handshake", "login", "security.protocol", False),
        (codes.RESOLVE, "", "broker", "bootstrap_servers", False),
        (codes.TRANSPORT, "", "broker", "bootstrap_servers", False),
        (codes.ALL_BROKERS_DOWN, "", "broker", "security.protocol", False),
    ],
)
def test_an_error_of_the_connection_is_named(
    code: int, said: str, key: str, remedy: str, fatal: bool
) -> None:
    """A refused login ends a start; a broker that is away does not."""
    trouble = of_connection(_error(code, said))
    assert trouble.key == key
    assert remedy in str(trouble.text)
    assert trouble.fatal_at_start is fatal


def test_requests_are_worded_with_their_topic() -> None:
    """A refusal names the topic and where to find the rule."""
    assert "(t)" in wording(_error(KafkaError.TOPIC_AUTHORIZATION_FAILED), "t")
    assert "topics plan --acl" in wording(_error(KafkaError.GROUP_AUTHORIZATION_FAILED))
    assert "t does not exist" in wording(_error(codes.UNKNOWN_TOPIC), "t")
    assert wording(_error(KafkaError.REQUEST_TIMED_OUT)) == "REQUEST_TIMED_OUT: said so"


def _texts(news: Sequence[Trouble]) -> list[tuple[str, bool]]:
    return [(trouble.key, trouble.text is not None) for trouble in news]


def test_one_broker_of_several_is_no_trouble_and_all_of_them_are_one() -> None:
    """A storm of errors is news once, with the reason that came before; then it is over once."""
    troubles = Troubles({})
    troubles.connection(_error(codes.TRANSPORT, "connection refused"))
    assert troubles.news() == []
    for _ in range(20):
        troubles.connection(_error(codes.ALL_BROKERS_DOWN))
        troubles.connection(_error(codes.TRANSPORT, "connection refused"))
    (news,) = troubles.news()
    assert "connection refused" in str(news.text)
    assert troubles.unreachable
    troubles.works()
    troubles.works()
    assert _texts(troubles.news()) == [("broker", False)]
    assert not troubles


def test_a_refused_login_is_not_hidden_by_what_follows() -> None:
    """That no broker is left after it is no second trouble."""
    troubles = Troubles({"sasl_password": "hunter2"})
    troubles.connection(_error(codes.AUTHENTICATION, "hunter2 is wrong"))
    troubles.connection(_error(codes.ALL_BROKERS_DOWN))
    (news,) = troubles.news()
    assert news.key == "login"
    assert "hunter2" not in str(news.text)
    assert troubles.reason is not None
    assert troubles.reason.key == "login"


def test_a_topic_is_well_again_when_it_is_read() -> None:
    """Only what was read clears, and the group when it was joined."""
    troubles = Troubles({})
    for topic in ("a", "b"):
        troubles.message(_error(KafkaError.UNKNOWN_TOPIC_OR_PART), topic, "g")
    troubles.message(_error(KafkaError.GROUP_AUTHORIZATION_FAILED), None, "g")
    assert len(troubles.news()) == 3
    troubles.works({"a"})
    assert _texts(troubles.news()) == [("topic:a", False)]
    troubles.joined()
    assert _texts(troubles.news()) == [("group", False)]
    assert troubles


def test_secrets_are_taken_out_whatever_their_key_looks_like() -> None:
    """`_` and `.` are the same in a user's keys."""
    assert redacted("x s3cret y", {"sasl_password": "s3cret"}) == "x *** y"
    assert redacted("x s3cret y", {"ssl.key.password": "s3cret"}) == "x *** y"
    assert redacted("x y", {"sasl.password": ""}) == "x y"


def test_what_the_guarantees_rest_on_beats_the_users_settings() -> None:
    """Everything else is the user's, over our defaults."""
    client = {
        "enable_auto_commit": True,
        "auto.offset.reset": "latest",
        "partition.assignment.strategy": "range",
        "fetch.queue.backoff.ms": 7,
        "acks": 0,
    }
    reading = consumer_settings(SourceSettings(client, "g", ("t",)))
    assert reading["enable.auto.commit"] is False
    assert reading["auto.offset.reset"] == "error"
    assert reading["partition.assignment.strategy"] == "cooperative-sticky"
    assert reading["fetch.queue.backoff.ms"] == 7
    assert reading["session.timeout.ms"] == 10_000
    writing = producer_settings(client, 1_000, 2.5)
    assert writing["acks"] == "all"
    assert writing["enable.idempotence"] is True
    assert writing["message.timeout.ms"] == 2_500


def test_the_newer_protocol_is_not_told_what_the_broker_decides() -> None:
    """librdkafka refuses these keys with `group.protocol=consumer`, the user's own included."""
    client = {"session_timeout_ms": 6_000}
    told = consumer_settings(SourceSettings(client, "g", ("t",), protocol="consumer"))
    assert (
        not {
            "session.timeout.ms",
            "heartbeat.interval.ms",
            "partition.assignment.strategy",
        }
        & told.keys()
    )


def test_credit_counts_both_records_and_bytes() -> None:
    """Either can run out; half of both has to be back; less than nothing is a debt."""
    credit = Credit(10, 1_000)
    assert (credit.used_up, credit.enough_back) == (False, True)
    credit.taken_records = 10
    assert (credit.used_up, credit.enough_back) == (True, False)
    credit.given_records += 5
    assert (credit.used_up, credit.enough_back) == (False, True)
    credit.taken_size = 1_300
    assert credit.left == (5, -300)
    assert (credit.used_up, credit.enough_back) == (True, False)


@pytest.mark.parametrize(("enough", "reads"), [(None, False), (1, True)])
def test_after_a_shortage_a_source_reads_on_with_what_is_enough_for_it(
    enough: int | None, reads: bool
) -> None:
    """The retry tiers go on with a little, for more may not come while much is held."""
    credit = Credit(10, 1_000, enough)
    topics = Topics(())
    outbox = Outbox(lambda _, __: True)
    settings = SourceSettings({"bootstrap_servers": "127.0.0.1:9"}, "g", ("t",))
    assignment = Assignment(Positions(settings, topics), topics, outbox)
    assignment.next[Partition("t", 0)] = 0
    intake = Intake(credit, assignment, outbox, lambda *_: None, lambda _: None, time.sleep)
    consumer = make(Consumer, consumer_settings(settings))
    consumer.assign([TopicPartition("t", 0, 0)])
    began = time.monotonic()
    credit.taken_size = 1_000
    while assignment.reading:
        intake.read(consumer)
    credit.given_size += 250
    intake.read(consumer)
    # after five seconds of shortage anything is enough for all
    assert bool(assignment.reading) == reads or time.monotonic() - began > 5
    consumer.close()


def test_where_to_begin_is_asked_again_in_plain_words(caplog: pytest.LogCaptureFixture) -> None:
    """Kafka that does not answer at an assignment is a line for people, with no object in it."""
    client = {"bootstrap_servers": "127.0.0.1:9", "session.timeout.ms": 6000}
    settings = SourceSettings(client, "g", ("t",), start="latest")
    topics = Topics(())
    outbox = Outbox(lambda _, __: True)
    assignment = Assignment(Positions(settings, topics), topics, outbox)
    consumer = make(Consumer, consumer_settings(settings))
    with caplog.at_level(logging.WARNING, "thorn_stream.adapters"):
        assignment.assign(consumer, [Partition("t", 0)])
    consumer.close()
    (line,) = [each.getMessage() for each in caplog.records if "asked again" in each.getMessage()]
    assert "KafkaError" not in line
    assert "_TRANSPORT: " in line or "_TIMED_OUT: " in line
    assert assignment.waits_for_kafka


def test_connections_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """While a trouble says that no broker answers, librdkafka's own lines about it are left out."""
    log = logging.getLogger("thorn_stream.librdkafka")
    down = KafkaError(codes.ALL_BROKERS_DOWN, "1/1 brokers are down")
    troubles = Troubles({})
    troubles.connection(down)
    with caplog.at_level(logging.DEBUG):
        log.error("%s [%s] %s", "ERROR", "client", "1/1 brokers are down")
        log.error("%s [%s] %s", "OTHER", "client", "is told all the same")
        troubles.works()
        log.error("%s [%s] %s", "ERROR", "client", "one of three brokers is down")
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "OTHER [client] is told all the same",
        "ERROR [client] one of three brokers is down",
    ]


def test_one_line_of_librdkafka_per_facility_and_half_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A storm is one line; a setting that is meant for the other kind of client is none."""
    log = logging.getLogger("thorn_stream.librdkafka")
    with caplog.at_level(logging.DEBUG):
        for _ in range(20):
            log.error("%s [%s] %s", "STORM", "client", "down")
            log.warning("%s [%s] %s", "CONFWARN", "client", "is a producer property")
    assert [record.getMessage() for record in caplog.records] == ["STORM [client] down"]


@pytest.mark.parametrize(
    ("client", "more", "expected"),
    [
        ({}, {}, (10, 1)),
        ({"session_timeout_ms": "6000", "heartbeat.interval.ms": 2000}, {}, (6, 2)),
        ({}, {"embedded": True}, (3, 0.5)),
        ({"session.timeout.ms": 6000}, {"protocol": "consumer"}, None),
    ],
)
def test_the_session_is_known_where_we_set_it(
    client: dict[str, Any], more: dict[str, Any], expected: tuple[float, float] | None
) -> None:
    """Ours or the user's, in seconds; with the newer protocol the broker has its own."""
    assert session(SourceSettings(client, "g", ("t",), **more)) == expected
