"""Programs that publish: what they send arrives on Kafka, from every process, and at exit."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from tests.support.brokers import ROOT, Broker
from tests.support.receivers import Receiver, closed_port
from thorn_stream.core.addresses import IPAddress
from thorn_stream.core.errors import ConfigurationError, EventNotSent, SecurityError
from thorn_stream.events import Event, Handle, Request, RequestFailed, Thorn
from thorn_stream.events.outgoing import Outgoing
from thorn_stream.validators import Validator, ensure_port

pytestmark = pytest.mark.timeout(180)  # programs that start others, on a busy machine


def read(broker: Broker, topic: str, count: int) -> list[Any]:
    """The messages of a topic, once there are so many."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.real.bootstrap_servers,
            "group.id": f"{topic}.reading",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
        }
    )
    consumer.subscribe([topic])
    found: list[Any] = []
    until = time.monotonic() + 60
    try:
        while len(found) < count:
            assert time.monotonic() < until, f"{len(found)} of {count} are there"
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                found.append(message)
        return found
    finally:
        consumer.close()


def data_of(messages: list[Any]) -> list[Any]:
    return sorted(json.loads(message.value())["data"] for message in messages)


def run(program: str, broker: Broker, topic: str, cwd: Path) -> str:
    """Run a program of a user's; returns what it printed."""
    environ = {
        **os.environ,
        "THORN_KAFKA__BOOTSTRAP_SERVERS": broker.real.bootstrap_servers,
        "THORN_TOPICS": json.dumps([topic]),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "default",
    }
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environ,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def thorn_for(broker: Broker, topic: str, **settings: Any) -> Thorn:
    return Thorn(
        bootstrap_servers=broker.real.bootstrap_servers,
        topics=[topic],
        set_as_current=False,
        **settings,
    )


def test_an_event_is_acknowledged_by_kafka(broker: Broker) -> None:
    """Key, headers and value as they were given, on both brokers."""
    topic = broker.topic("events")
    thorn = thorn_for(broker, topic)
    handle = thorn.Event("order.paid", timeout=5).send({"id": 7}, sender=42, key="order-7")
    handle.wait(30)
    (message,) = read(broker, topic, 1)
    assert message.key() == b"order-7"
    assert json.loads(message.value()) == {
        "event": "order.paid",
        "ref": None,
        "sender": 42,
        "data": {"id": 7},
    }
    assert dict(message.headers()) == {"thorn-id": handle.id.encode(), "thorn-timeout": b"5"}
    thorn.close()


def test_threads_may_send_at_once(embedded_broker: Broker) -> None:
    """Nothing lost, nothing twice, and each thread's events in its order."""
    topic = embedded_broker.topic("events", 1)
    thorn = thorn_for(embedded_broker, topic)
    event = thorn.Event("a.b", key="k")

    def send(thread: int) -> None:
        for number in range(200):
            event.send([thread, number])

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert thorn.flush(30) == 0
    found = [json.loads(one.value())["data"] for one in read(embedded_broker, topic, 800)]
    for thread_number in range(4):
        own = [number for thread, number in found if thread == thread_number]
        assert own == list(range(200))
    thorn.close()


def test_a_program_that_ends_sends_what_is_queued_and_held(
    embedded_broker: Broker, tmp_path: Path
) -> None:
    """Nobody waits for anything in it: exit does, also for a buffer that was never flushed."""
    topic = embedded_broker.topic("events")
    run(
        """
        from thorn_stream import Event, Thorn
        event = Event("a.b")
        for number in range(100):
            event.send(number)
        event.app.enable_buffer()
        event.send(100)
        """,
        embedded_broker,
        topic,
        tmp_path,
    )
    assert data_of(read(embedded_broker, topic, 101)) == list(range(101))


def test_children_of_a_fork_send_too(embedded_broker: Broker, tmp_path: Path) -> None:
    """The parent has sent, and holds, events before; each child makes a client of its own.

    What the parent held at the fork is sent once, by the parent. A child that ends by os._exit, as
    of a server with workers, flushes when it is told to.
    """
    topic = embedded_broker.topic("events")
    printed = run(
        """
        import multiprocessing, os, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads is the subject
        from thorn_stream import Event, Thorn, buffer_events
        thorn = Thorn()
        event = thorn.Event("a.b")
        event.send("parent-before").wait(30)

        def work(name):
            event.send(name).wait(30)
            event.send(name + "-at-exit")

        with buffer_events():
            event.send("parent-held")
            children = []
            for number in range(3):
                pid = os.fork()
                if pid == 0:
                    event.send(f"child-{number}").wait(30)
                    event.send(f"child-{number}-flushed")
                    assert thorn.flush(30) == 0
                    os._exit(0)
                children.append(pid)
            assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
        workers = [
            multiprocessing.get_context("fork").Process(target=work, args=(f"worker-{n}",))
            for n in range(2)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        pid = os.fork()
        if pid == 0:
            event.send("exited")
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        event.send("parent-after").wait(30)
        print("done")
        """,
        embedded_broker,
        topic,
        tmp_path,
    )
    assert printed == "done\n"
    expected = ["parent-before", "parent-held", "parent-after", "exited"]
    expected += [f"child-{n}{end}" for n in range(3) for end in ("", "-flushed")]
    expected += [f"worker-{n}{end}" for n in range(2) for end in ("", "-at-exit")]
    assert data_of(read(embedded_broker, topic, len(expected))) == sorted(expected)


def test_a_kafka_that_is_away_is_told_on_the_handle_and_bounds_the_exit(tmp_path: Path) -> None:
    """`send` does not wait for it, and the end of the program not longer than it may."""
    thorn = Thorn(
        bootstrap_servers=f"127.0.0.1:{closed_port()}", flush_timeout=0.2, set_as_current=False
    )
    with thorn:
        handle = thorn.Event("a.b").send({})
        with pytest.raises(EventNotSent, match=r"a\.b is not acknowledged after 0\.05 s"):
            handle.wait(0.05)
    thorn.close()
    with pytest.raises(EventNotSent, match=r"a\.b was not sent"):
        handle.wait(30)


def test_a_full_queue_raises_drops_or_blocks(embedded_broker: Broker) -> None:
    """As `on_full` says; whatever is decided is decided on the handle as well."""
    away = f"127.0.0.1:{closed_port()}"
    small = {"queue.buffering.max.messages": 2}
    raising = Thorn(bootstrap_servers=away, kafka=small, flush_timeout=0, set_as_current=False)
    event = raising.Event("a.b")
    event.send(1)
    event.send(2)
    with pytest.raises(EventNotSent, match="the queue is full"):
        event.send(3)
    dropping = Thorn(
        bootstrap_servers=away, kafka=small, on_full="drop", flush_timeout=0, set_as_current=False
    )
    event = dropping.Event("a.b")
    handles = [event.send(number) for number in range(3)]
    assert [handle.done for handle in handles] == [False, False, True]
    with pytest.raises(EventNotSent, match="the queue is full"):
        handles[2].wait()
    topic = embedded_broker.topic("events")
    blocking = thorn_for(embedded_broker, topic, kafka=small, on_full="block")
    event = blocking.Event("a.b")
    for number in range(20):
        event.send(number)
    assert blocking.flush(30) == 0
    assert data_of(read(embedded_broker, topic, 20)) == list(range(20))
    for thorn in (raising, dropping, blocking):
        thorn.close()


def test_only_patterns_as_topics_name_the_remedy() -> None:
    """A producer writes to one topic; it must be told which."""
    thorn = Thorn(bootstrap_servers="127.0.0.1:1", topics=["^all.*"], set_as_current=False)
    with pytest.raises(Exception, match="patterns only: name a topic"):
        thorn.Event("a.b").send({})


# --- inline -------------------------------------------------------------------------------------


def inline(**settings: Any) -> Thorn:
    return Thorn(
        dispatcher="inline",
        allowed_networks=["127.0.0.0/8"],
        recipient_validators=[["block_internal_ips"], ["ensure_protocol", ["http"]]],
        set_as_current=False,
        **settings,
    )


def test_inline_calls_receivers_at_once() -> None:
    """Those of the settings that match, and the event's own; each answer is told by callback."""
    with Receiver() as receiver:
        thorn = inline(
            subscribers=[
                {
                    "id": "orders",
                    "event": "order.*",
                    "url": receiver.url("/ok"),
                    "hmac_secret": "s",
                },
                {"id": "others", "event": "other.*", "url": receiver.url("/ok/never")},
            ],
        )
        told: list[tuple[str, Any, Any]] = []
        event = thorn.Event(
            "order.paid", subscribers=[receiver.url("/status/503"), receiver.url("/silent")]
        )
        handle = event.send(
            {"id": 7},
            sender=3,
            timeout=0.5,
            on_success=lambda request: told.append(("ok", request, None)),
            on_error=lambda request, exc: told.append(("error", request, exc)),
            on_timeout=lambda request, exc: told.append(("timeout", request, exc)),
        )
        by_kind = {kind: (request, exc) for kind, request, exc in told}
        thorn.close()
    assert handle.wait().done
    assert set(by_kind) == {"ok", "error", "timeout"}
    good, _ = by_kind["ok"]
    assert isinstance(good, Request)
    assert (good.event, good.sender, good.data) == ("order.paid", 3, {"id": 7})
    assert (good.status, good.attempt, good.subscriber.id) == (200, 1, "orders")
    assert by_kind["error"][0].status == 503
    assert isinstance(by_kind["error"][1], RequestFailed)
    assert str(by_kind["error"][1]) == "status:503"
    assert isinstance(by_kind["timeout"][1], TimeoutError)
    assert len(handle.requests) == 3


def test_inline_runs_validators_that_are_functions() -> None:
    """Beside those of the settings; a refused receiver is not called."""

    def not_this(url: str) -> None:
        raise SecurityError("never")

    with Receiver() as receiver:
        thorn = inline(subscribers=[{"id": "a", "event": "*", "url": receiver.url("/ok")}])
        refused: list[Exception] = []
        event = thorn.Event("a.b", recipient_validators=[not_this])
        event.send({}, on_error=lambda _, exc: refused.append(exc))
        named = thorn.Event("a.b", recipient_validators=[ensure_port(443)])
        named.send({}, on_error=lambda _, exc: refused.append(exc))
        assert receiver.count("/ok") == 0
        thorn.close()
    assert [type(one) for one in refused] == [SecurityError, SecurityError]


class NotHere(Validator):
    """A rule of the user's own, which judges addresses alone."""

    def address(self, address: IPAddress) -> str | None:
        return "not here"


def test_inline_asks_a_validator_of_ones_own() -> None:
    """It sees the address before it is dialled; named by nobody, it is no less a rule."""
    with Receiver() as receiver:
        url = receiver.url("/ok").replace("127.0.0.1", "localhost")
        thorn = inline(subscribers=[{"id": "a", "event": "*", "url": url}])
        refused: list[Exception] = []
        event = thorn.Event("a.b", recipient_validators=[NotHere()])
        event.send({}, on_error=lambda _, exc: refused.append(exc))
        assert receiver.count("/ok") == 0
        thorn.close()
    assert [(type(one), str(one)) for one in refused] == [(SecurityError, "NotHere")]


def test_inline_sends_nothing_where_the_validators_cannot_be_read() -> None:
    """Whoever made the event: what may have been a rule lets nothing out."""
    envelope = {"event": "a.b", "data": {}}
    with Receiver() as receiver:
        thorn = inline(subscribers=[{"id": "a", "event": "*", "url": receiver.url("/ok")}])
        outgoing = Outgoing(
            Handle("a.b", "1"),
            envelope,
            json.dumps(envelope).encode(),
            headers=[("thorn-validators", b'[["ensure_prot", [443]]]')],
        )
        with pytest.raises(ValueError, match="recipient_validators: these cannot be read"):
            thorn.named("inline").publish(outgoing)
        assert receiver.count("/ok") == 0
        thorn.close()


def test_inline_says_what_it_cannot_do() -> None:
    """A transport of the settings that it does not have is refused, not passed over."""
    thorn = inline(transport="httpx")
    with pytest.raises(ConfigurationError, match="is not available with dispatcher='inline'"):
        Event("a.b", app=thorn).send({})
