"""Roll-outs and scale-outs under load on Apache Kafka, by SIGTERM as the chart does them.

The numbers are printed (`pytest -s`). On an idle machine: lag is gone within ten seconds of a
roll-out, and no pause of deliveries is longer than three; the limits here leave room for a machine
that is busy with other things.
"""

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Producer

from tests.e2e.rig import Dispatcher, committed, dispatcher, envelope, until
from tests.support.brokers import Broker
from tests.support.receivers import Call, Receiver

pytestmark = [pytest.mark.k8s, pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(400)]

PATIENCE: Final = 120.0
RATE: Final = 100  # events a second


class Stamps:
    """When each request came, by the delivery's id."""

    def __init__(self, wait: float = 0) -> None:
        self._wait = wait
        self.times: list[float] = []
        self.ids: Counter[str] = Counter()

    async def mode(self, call: Call) -> None:
        self.times.append(time.monotonic())
        self.ids[call.request.headers["webhook-id"]] += 1
        await asyncio.sleep(self._wait)
        await call.answer(200)

    def longest_pause(self, begin: float) -> float:
        after = [begin, *(at for at in self.times if at >= begin)]
        return max(later - sooner for sooner, later in itertools.pairwise(after))


def settings(broker: Broker, receiver: Receiver, **more: Any) -> dict[str, Any]:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    url = receiver.url("/stamped")
    subscriber = {"id": "one", "event": "order.*", "url": url, "hmac_secret": secret}
    return {
        "kafka": broker.client,
        "group": broker.prefix,
        "topics": [broker.name("in")],
        "allowed_networks": ["127.0.0.0/8"],
        "recipient_validators": [["block_internal_ips"], ["ensure_protocol", ["http"]]],
        "event_timeout": 30,  # a busy machine must not turn one call into two
        "subscriber_files": [],
        "subscribers": [subscriber],
        **more,
    }


@contextmanager
def load(broker: Broker, topic: str) -> Iterator[list[int]]:
    """Events at a steady rate until it is left; the list has how many were sent then."""
    sent: list[int] = []
    stop = threading.Event()

    def run() -> None:
        producer = Producer({"bootstrap.servers": broker.real.bootstrap_servers, "linger.ms": 5})
        number = 0
        while not stop.wait(1 / RATE):
            producer.produce(topic, envelope("order.paid", n=number), key=str(number))
            producer.poll(0)
            number += 1
        assert producer.flush(60) == 0
        sent.append(number)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join(90)


def test_a_roll_out_loses_and_repeats_nothing(apache_broker: Broker, tmp_path: Path) -> None:
    """Three dispatchers are replaced one by one, the new one first: each event comes once."""
    topic = apache_broker.topic("in", 6)
    stamps = Stamps()
    with Receiver() as receiver, ExitStack() as stack:
        receiver.modes["stamped"] = stamps.mode
        made = settings(apache_broker, receiver)

        def start(name: str) -> Dispatcher:
            return stack.enter_context(dispatcher(tmp_path / name, made)).ready(PATIENCE)

        old = [start(f"old-{number}") for number in range(3)]
        with load(apache_broker, topic) as sent:
            until(lambda: len(stamps.times) > RATE, PATIENCE, "load")
            for number, one in enumerate(old):
                start(f"new-{number}")
                assert one.stop() == 0, one.said()
            rolled = time.monotonic()
        servers, group = apache_broker.real.bootstrap_servers, apache_broker.prefix

        def settled() -> bool:
            done, end = committed(servers, group, topic)
            return done == end == sent[0]

        until(settled, PATIENCE, "no lag")
        print(f"{sent[0]} events, lag gone {time.monotonic() - rolled:.1f} s after the last stop")
    assert len(stamps.ids) == sent[0]
    assert set(stamps.ids.values()) == {1}


def test_a_scale_out_does_not_stop_deliveries(apache_broker: Broker, tmp_path: Path) -> None:
    """From one dispatcher to four with a backlog: all is delivered, and joins stop nobody."""
    topic = apache_broker.topic("in", 8)
    count = 5_000
    stamps = Stamps(wait=0.03)
    producer = Producer({"bootstrap.servers": apache_broker.real.bootstrap_servers})
    for number in range(count):
        producer.produce(topic, envelope("order.paid", n=number), key=str(number))
    assert producer.flush(60) == 0
    with Receiver() as receiver, ExitStack() as stack:
        receiver.modes["stamped"] = stamps.mode
        made = settings(apache_broker, receiver, max_in_flight=8)
        stack.enter_context(dispatcher(tmp_path / "first", made)).ready(PATIENCE)
        until(lambda: len(stamps.times) > 100, PATIENCE, "the first delivers")
        begin = time.monotonic()
        more = [stack.enter_context(dispatcher(tmp_path / f"{n}", made)) for n in range(3)]
        for one in more:
            one.ready(PATIENCE)
        joined = time.monotonic() - begin
        left = count - len(stamps.ids)
        until(lambda: len(stamps.ids) == count, PATIENCE, "all delivered")
        pause = stamps.longest_pause(begin)
        print(f"joined after {joined:.1f} s, {left} left then, longest pause {pause:.2f} s")
    assert left > 0, "the backlog was gone before all had joined"
    assert pause < 10
