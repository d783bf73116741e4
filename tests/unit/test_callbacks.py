"""Events that wait for the results of their requests: which are told, how often, for how long."""

import json
import logging
from typing import Any

import pytest

from thorn_stream.core.errors import SecurityError
from thorn_stream.core.records import Record
from thorn_stream.events import Request, RequestFailed
from thorn_stream.events.callbacks import Callbacks
from thorn_stream.events.handle import Handle
from thorn_stream.events.outgoing import Outgoing
from thorn_stream.events.results import Waiting

WALL = 1_700_000_000_000


class Desk:
    """A `Waiting` in a time that is moved, and what it was told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[tuple[str, Request, Exception | None]] = []
        self.waiting = Waiting(lambda: self.now, lambda: WALL + self.now * 1000)
        self.all = Callbacks(
            lambda request: self.told.append(("success", request, None)),
            lambda request, error: self.told.append(("error", request, error)),
            lambda request, error: self.told.append(("timeout", request, error)),
        )

    def send(self, event_id: str, callbacks: Callbacks | None = None, size: int = 0) -> None:
        envelope = {"event": "order.paid", "sender": 3, "data": {"id": 7, "x": "x" * size}}
        value = json.dumps(envelope).encode()
        outgoing = Outgoing(Handle("order.paid", event_id), envelope, value)
        self.waiting.add(outgoing, callbacks or self.all)

    def result(self, event_id: str, **more: Any) -> None:
        fields = {
            "delivery": "d-1",
            "event_id": event_id,
            "event_name": "order.paid",
            "subscriber": "billing",
            "attempt": 1,
            "outcome": "ok",
            "status": 200,
            "duration_ms": 12.5,
            "at": WALL,
            "settlement": "delivered",
            "next_due": None,
            "error": None,
            "address": "192.0.2.1",
            "url": "http://a/hook",
            **more,
        }
        self.waiting.take(record(json.dumps(fields).encode()))


def record(value: bytes | None) -> Record:
    return Record("thorn.results", 0, 0, b"billing", value, [("thorn-result", b"1")], WALL)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_each_request_is_told_once_by_the_callback_that_fits(desk: Desk) -> None:
    """What is known of it, and of the event; of a failure the error."""
    desk.send("e-1")
    desk.result("e-1")
    failed = {"outcome": "status", "status": 503, "error": "status:503", "attempt": 2}
    desk.result("e-1", **failed)
    desk.result("e-1", outcome="timeout", status=None, error="timeout", duration_ms=3000)
    desk.result("e-1", outcome="blocked", status=None, error="blocked:ensure_port not 443")
    assert [kind for kind, _, _ in desk.told] == ["success", "error", "timeout", "error"]
    request = desk.told[0][1]
    assert (request.event, request.sender, request.data) == (
        "order.paid",
        3,
        {"id": 7, "x": ""},
    )
    assert (request.id, request.status, request.attempt, request.duration) == (
        "d-1",
        200,
        1,
        0.0125,
    )
    assert (request.url, request.subscriber.id) == ("http://a/hook", "billing")
    assert desk.told[1][1].attempt == 2
    errors = [error for _, _, error in desk.told]
    assert [type(error) for error in errors[1:]] == [RequestFailed, TimeoutError, SecurityError]
    assert str(errors[1]) == "status:503"
    assert str(errors[3]) == "ensure_port not 443"


def test_what_others_sent_is_not_told(desk: Desk) -> None:
    """Another program's events, those nobody waits for, and what is no result."""
    desk.send("e-1")
    desk.send("e-2")
    desk.waiting.forget("e-2")
    desk.waiting.forget("e-2")
    desk.result("e-2")
    desk.result("e-3")
    desk.waiting.take(record(None))
    desk.waiting.take(record(b"{}"))
    assert desk.told == []
    assert len(desk.waiting) == 1


def test_callbacks_that_are_not_given_are_not_called(desk: Desk) -> None:
    """One of three is enough to wait."""
    desk.send("e-1", Callbacks(on_timeout=desk.all.on_timeout))
    desk.result("e-1")
    desk.result("e-1", outcome="status", status=500, error="status:500")
    desk.result("e-1", outcome="timeout", status=None, error="timeout")
    assert [kind for kind, _, _ in desk.told] == ["timeout"]


def test_a_callback_that_fails_is_logged_and_the_next_one_called(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is there to catch it."""

    def fails(_: Request) -> None:
        raise KeyError("mine")

    desk.send("e-1", Callbacks(on_success=fails))
    desk.send("e-2")
    with caplog.at_level(logging.ERROR, "thorn_stream.events"):
        desk.result("e-1")
        desk.result("e-2")
    assert "a callback of event order.paid failed" in caplog.text
    assert len(desk.told) == 1


def test_an_event_is_waited_for_while_something_may_come(desk: Desk) -> None:
    """Ten minutes after the last that was heard, or is announced; then it is forgotten."""
    desk.send("quiet")
    desk.send("retried")
    desk.now = 590
    desk.result(
        "retried", outcome="status", error="status:500", next_due=WALL + 590_000 + 7_200_000
    )
    desk.now = 661
    desk.send("later")
    assert len(desk.waiting) == 2
    desk.result("quiet")
    assert len(desk.told) == 1
    desk.now = 590 + 7200 + 599
    desk.result("retried", attempt=2)
    assert [request.attempt for _, request, _ in desk.told] == [1, 2]
    desk.now += 700
    desk.send("last")
    assert len(desk.waiting) == 1


def test_the_oldest_are_given_up_when_there_are_too_many(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """So many in number, and in bytes; a line says so, not one for each."""
    with caplog.at_level(logging.WARNING, "thorn_stream.events"):
        for number in range(10_002):
            desk.send(str(number))
        assert len(desk.waiting) == 10_000
        desk.result("1")
        desk.result("2")
        assert len(desk.told) == 1
        for number in range(5):
            desk.send(f"large-{number}", size=10_000_000)
        desk.send("enormous", size=40_000_000)
        assert len(desk.waiting) == 1
        desk.result("enormous")
    assert len(desk.told) == 2
    assert caplog.text.count("callbacks of") == 1
