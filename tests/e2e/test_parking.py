"""A receiver refuses for a while: what is for it is parked once, and drained when it is back."""

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Settings
from tests.e2e.rig import Dispatcher, committed, dispatcher, envelope, produce, read_all, until
from tests.support.brokers import Broker
from tests.support.receivers import Receiver

WITHIN = 60
"""Seconds: a busy machine is slow."""
COUNT = 200


class Moody:
    """A receiver that answers 503 until it is told to be well; counts deliveries of either."""

    def __init__(self) -> None:
        self.well = False
        self.taken: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.attempts: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                well, delivery = outer.well, self.headers["Hook-Delivery"]
                (outer.taken if well else outer.refused)[delivery] += 1
                if well:
                    outer.attempts.append(self.headers["Hook-Attempt"])
                self.send_response(200 if well else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/moody"

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()


@pytest.fixture
def moody() -> Iterator[Moody]:
    one = Moody()
    yield one
    one.stop()


@pytest.fixture
def parking(settings: Settings, receiver: Receiver, moody: Moody) -> dict[str, Any]:
    """Two subscribers, of which one is `moody`; circuits that look again soon."""
    return settings(
        subscribers=[
            {"id": "moody", "event": "order.*", "url": moody.url, "max_in_flight": 8},
            {"id": "well", "event": "order.*", "url": receiver.url("/ok")},
        ],
        circuit={"failures": 3, "open_for": 0.5, "open_for_max": 1},
    )


def outage(one: Dispatcher, broker: Broker, receiver: Receiver, moody: Moody) -> None:
    """Events come while one receiver refuses: they are parked, and nobody waits for it."""
    servers, group, topic = broker.client["bootstrap_servers"], broker.prefix, broker.name("in")
    produce(servers, topic, [envelope("order.created", n=n) for n in range(COUNT)])
    until(lambda: receiver.count("/ok") == COUNT, WITHIN, "the other receiver has all")
    until(lambda: committed(servers, group, topic) == (COUNT, COUNT), WITHIN, "no lag")
    until(lambda: one.metric("thorn_circuit_open", subscriber="moody") == 1, WITHIN, "open")
    parked = f"{group}.parked"

    def passed_over() -> bool:
        done, end = committed(servers, parked, parked)
        return done == end > COUNT // 2

    until(passed_over, WITHIN, "the parked group waits for nobody")
    assert not moody.taken


def test_a_receiver_that_comes_back_gets_all_that_was_parked(
    broker: Broker, receiver: Receiver, moody: Moody, parking: dict[str, Any], tmp_path: Path
) -> None:
    """Each parked once; tried in vain were the failures that opened the circuit, and probes."""
    servers, group = broker.client["bootstrap_servers"], broker.prefix
    broker.topic("in", 2)
    with dispatcher(tmp_path / "one", parking) as one:
        one.ready(WITHIN)
        outage(one, broker, receiver, moody)
        moody.well = True
        until(lambda: len(moody.taken) == COUNT, WITHIN, "all are delivered")
        assert one.metric("thorn_dead_letters_total") == 0
        until(lambda: not _cursors(servers, group), WITHIN, "no cursor is left")
        assert one.stop() == 0, one.said()
    assert set(moody.taken.values()) == {1}
    once = Counter(
        dict(m.headers() or [])["thorn-delivery"] for m in read_all(servers, f"{group}.parked")
    )
    assert set(once.values()) == {1}
    assert {m.key() for m in read_all(servers, f"{group}.parked")} == {b"moody"}
    # what was in flight when the circuit opened, and later ones tried one at a time
    assert sum(attempt != "1" for attempt in moody.attempts) <= 3 + 8


@pytest.mark.long
def test_another_dispatcher_drains_what_the_first_has_parked(
    broker: Broker, receiver: Receiver, moody: Moody, parking: dict[str, Any], tmp_path: Path
) -> None:
    """Killed or stopped, it leaves cursors from which the next one goes on; nothing is lost."""
    servers, group = broker.client["bootstrap_servers"], broker.prefix
    broker.topic("in", 2)
    with dispatcher(tmp_path / "one", parking) as one:
        one.ready(WITHIN)
        outage(one, broker, receiver, moody)
        one.kill()
    with dispatcher(tmp_path / "two", parking) as two:
        two.ready(WITHIN)
        moody.well = True
        until(lambda: len(moody.taken) == COUNT, WITHIN, "all are delivered")
        until(lambda: not _cursors(servers, group), WITHIN, "no cursor is left")
        assert two.metric("thorn_records_lost_total") == 0
        assert two.stop() == 0, two.said()


def _cursors(servers: str, group: str) -> dict[bytes, bytes]:
    """The cursors that stand, by key."""
    last = {m.key() or b"": m.value() for m in read_all(servers, f"{group}.cursors")}
    return {key: value for key, value in last.items() if value}
