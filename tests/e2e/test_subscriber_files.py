"""Subscriber files that are edited while a dispatcher runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Settings
from tests.e2e.rig import Dispatcher, dispatcher, envelope, produce, until
from tests.support.brokers import Broker
from tests.support.receivers import Call, Receiver

pytestmark = pytest.mark.parametrize("broker", ["embedded"], indirect=True)

RELOADED = "thorn_reload_total"


def write(path: Path, *subscribers: dict[str, Any]) -> None:
    """As an editor does: written beside, and put in place."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({"subscribers": subscribers}))
    beside.replace(path)


def one(name: str, url: str) -> dict[str, Any]:
    return {"id": name, "event": "order.*", "url": url}


def reloads(running: Dispatcher) -> float:
    return running.metric(RELOADED, source="file")


def test_files_are_edited_while_it_runs(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Added: called. Changed: the new URL. Broken: the old one, and it is said. Mended: taken."""
    topic = broker.topic("in")
    path = tmp_path / "subscribers" / "a.json"
    path.parent.mkdir()
    made = settings(subscribers=[], subscriber_files=["subscribers/*.json"])
    with dispatcher(tmp_path, made) as running:
        running.ready()

        def after_reload(count: int) -> None:
            until(lambda: reloads(running) == count, 20, f"{count} reloads")
            produce(broker.real.bootstrap_servers, topic, [envelope("order.paid")])

        write(path, one("a", receiver.url("/ok/first")))
        after_reload(1)
        until(lambda: receiver.count("/ok/first") == 1, 20, "a new subscriber is called")

        write(path, one("a", receiver.url("/ok/second")))
        after_reload(2)
        until(lambda: receiver.count("/ok/second") == 1, 20, "its new URL is called")

        path.write_text('{"subscribers": [\n  {"id": "a"},\n]}')
        after_reload(3)
        until(lambda: receiver.count("/ok/second") == 2, 20, "the last good one is called")
        assert running.metric(RELOADED, source="file", result="error") == 1
        assert "subscribers not taken" in running.said()
        assert "subscribers/a.json:3: is not JSON" in running.said()

        write(path, one("a", receiver.url("/ok/third")))
        after_reload(4)
        until(lambda: receiver.count("/ok/third") == 1, 20, "mended, it is taken")
        assert running.metric(RELOADED, source="file", result="error") == 1
        assert receiver.count("/ok/first") == 1
        assert running.stop() == 0


def test_what_waits_for_a_removed_subscriber_waits_on(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Its file is gone while a retry waits: it is not called, and not dead; back, it is."""
    topic = broker.topic("in")
    path = tmp_path / "subscribers" / "a.json"
    path.parent.mkdir()

    async def fails_once(call: Call) -> None:
        await call.answer(503 if call.request.headers["hook-attempt"] == "1" else 200)

    receiver.modes["fails-once"] = fails_once
    write(path, one("a", receiver.url("/fails-once")))
    more = {"unknown_subscriber_grace": 60, "subscriber_files": ["subscribers/*.json"]}
    with dispatcher(tmp_path, settings(subscribers=[], **more)) as running:
        running.ready()
        produce(broker.real.bootstrap_servers, topic, [envelope("order.paid")])
        until(lambda: receiver.count("/fails-once") == 1, 20, "the first attempt")
        path.unlink()
        until(lambda: reloads(running) == 1, 20, "removed")
        waits_on = "thorn_handover_total"
        until(
            lambda: running.metric(waits_on, kind="retry", result="ok") >= 2,
            20,
            "due, and handed on for a subscriber that is not known",
        )
        assert receiver.count("/fails-once") == 1
        write(path, one("a", receiver.url("/fails-once")))
        until(lambda: receiver.count("/fails-once") == 2, 30, "back, and delivered")
        assert receiver.requests[-1].headers["hook-attempt"] == "2"
        assert running.metric("thorn_dead_letters_total") == 0
        assert running.stop() == 0


def test_a_removed_subscriber_is_dead_after_its_grace(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Nobody brought it back in time: a dead letter says that it is unsubscribed."""
    topic = broker.topic("in")
    path = tmp_path / "subscribers" / "a.json"
    path.parent.mkdir()
    write(path, one("a", receiver.url("/status/503")))
    more = {"unknown_subscriber_grace": 2, "subscriber_files": ["subscribers/*.json"]}
    with dispatcher(tmp_path, settings(subscribers=[], **more)) as running:
        running.ready()
        produce(broker.real.bootstrap_servers, topic, [envelope("order.paid")])
        until(lambda: receiver.count("/status/503") == 1, 20, "the first attempt")
        path.unlink()
        dead = "thorn_dead_letters_total"
        until(lambda: running.metric(dead, reason="unsubscribed") == 1, 30, "a dead letter")
        assert running.stop() == 0
