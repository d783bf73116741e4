"""What `helm test` runs: emits an event, and waits until each delivery of it is done.

usage: delivery.py SETTINGS EVENT SECONDS

A delivery is done when Kafka holds the commit that covers the event, of every group that reads it,
and neither a retry, nor the parked, nor the dead-letter topic got a copy on the way. What is set
aside, or dead, fails the test with the receiver's error. Runs with the settings, subscribers and
login of the dispatchers; it joins no group.
"""
# ruff: noqa: INP001, T201 - a program that the chart brings along; what it prints is read

import os
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from thorn_stream.config import load_settings
from thorn_stream.config.settings import Settings
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.errors import ThornError
from thorn_stream.core.records import Record
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.ops.match import read_directory
from thorn_stream.ops.publish import client_settings, envelope, input_topic

_ASK: Final = 10.0


class NotDelivered(Exception):
    """What went wrong, in one line."""


def main() -> int:
    """Status 0 when every delivery is done, 1 with the reason when one is not."""
    path, event, seconds = sys.argv[1:]
    try:
        loaded = load_settings(Path(path), os.environ)
        value = envelope(event, {"from": "helm test"}, None, None)
        found = decode(Record("", 0, 0, None, value, [], -1))
        assert isinstance(found, Envelope), "it was made by this program"
        called = [one for one, why in read_directory(loaded).explain(found) if why is None]
        _deliver(loaded.settings, called, value, float(seconds))
    except (ThornError, KafkaException, NotDelivered) as error:
        print(f"helm test: {error}", file=sys.stderr)
        return 1
    names = ", ".join(one.id for one in called)
    print(f"{event} was delivered to {names}" if called else _nobody(event))
    return 0


def _nobody(event: str) -> str:
    return (
        f"{event} was read and committed, and nobody subscribed to it: set test.url, or test.event "
        "to a name that a subscriber gets, to see a delivery"
    )


def _deliver(settings: Settings, called: Sequence[Subscriber], value: bytes, limit: float) -> None:
    client = client_settings(settings)
    groups = [settings.group]
    groups += [f"{settings.group}.o.{one.id}" for one in called if one.ordering == "key"]
    aside = _consumer(client, settings.group)
    try:
        _from_the_end(aside, settings)
        name = str(uuid.uuid4())
        sent = _send(client, input_topic(settings, None), value, name)
        print(f"sent as {sent.topic} [{sent.partition}] at offset {sent.offset}, id {name}")
        until = time.monotonic() + limit
        for group in groups:
            while not _passed(client, group, sent):
                _look_aside(aside, name, 0.5)
                if time.monotonic() > until:
                    raise NotDelivered(
                        f"after {limit:.0f} s the group {group} has not committed it: is a "
                        "dispatcher ready (`/readyz` says why not), is its backlog long?"
                    )
        _look_aside(aside, name, 2.0)
    finally:
        aside.close()


def _consumer(client: dict[str, str], group: str) -> Consumer:
    """One that never joins: it is given its partitions, and asks for commits."""
    own = {"group.id": group, "enable.auto.commit": False, "allow.auto.create.topics": False}
    return Consumer({**client, **own})


def _from_the_end(consumer: Consumer, settings: Settings) -> None:
    """Read the topics for what was not delivered, from here on."""
    topics = consumer.list_topics(timeout=_ASK).topics
    wanted = {settings.parked, settings.dead, *settings.retry_topics}
    ends = []
    for topic in wanted & topics.keys():
        for number in topics[topic].partitions:
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_ASK)
            ends.append(TopicPartition(topic, number, end))
    consumer.assign(ends)


def _send(client: dict[str, str], topic: str, value: bytes, name: str) -> TopicPartition:
    """Where Kafka has put the event."""
    done: list[TopicPartition] = []
    wrong: list[str] = []

    def on_delivery(error: object, message: Message) -> None:
        if error is not None:
            wrong.append(str(error))
        else:
            place = TopicPartition(message.topic() or "", message.partition() or 0)
            place.offset = message.offset() or 0
            done.append(place)

    producer = Producer({**client, "acks": "all", "message.timeout.ms": "10000"})
    producer.produce(topic, value, headers={"thorn-id": name}, on_delivery=on_delivery)
    producer.flush(15)
    if not done:
        raise NotDelivered(f"Kafka did not take it: {', '.join(wrong) or 'no answer'}")
    return done[0]


def _passed(client: dict[str, str], group: str, sent: TopicPartition) -> bool:
    consumer = _consumer(client, group)
    try:
        (found,) = consumer.committed([TopicPartition(sent.topic, sent.partition)], timeout=_ASK)
    finally:
        consumer.close()
    return bool(found.offset > sent.offset)


def _look_aside(consumer: Consumer, name: str, seconds: float) -> None:
    """Raise NotDelivered when a copy of the event turns up within so many seconds."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        message = consumer.poll(left)
        if message is None or message.error() is not None:
            continue
        headers = dict(message.headers() or [])
        if _text(headers.get("thorn-id")) == name:
            raise NotDelivered(
                f"it was not delivered to {_text(headers.get('thorn-subscriber'))}: "
                f"{_text(headers.get('thorn-error')) or 'set aside untried'}; it is in "
                f"{message.topic()} now"
            )


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


if __name__ == "__main__":
    sys.exit(main())
