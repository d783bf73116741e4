"""Ordered subscribers whose receiver refuses an event for good, or asks everybody to wait."""

import json
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Settings
from tests.e2e.rig import committed, dispatcher, produce, read_all, until
from tests.support.brokers import Broker
from tests.support.ordering import keyed
from tests.support.receivers import Call, Receiver

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize("broker", ["embedded"], indirect=True),
]

WAIT = 2  # seconds, of Retry-After
LONG = 600


class Log:
    """What one subscriber was asked for: (key, number, attempt), and when."""

    def __init__(self, answer: Callable[[Call, str, int], Awaitable[None]]) -> None:
        self.told: list[tuple[str, int, int]] = []
        self.at: list[float] = []
        self._answer = answer

    async def __call__(self, call: Call) -> None:
        data = json.loads(call.request.body)["data"]
        self.at.append(time.monotonic())
        self.told.append((data["key"], data["number"], int(call.request.headers["hook-attempt"])))
        await self._answer(call, data["key"], data["number"])

    def of(self, key: str) -> list[tuple[str, int, int]]:
        return [each for each in self.told if each[0] == key]

    def has(self, key: str, count: int) -> bool:
        return len(self.of(key)) == count


def ordered(receiver: Receiver, name: str, log: Log, **more: Any) -> dict[str, Any]:
    receiver.modes[name] = log
    usual = {"event": "order.*", "ordering": "key", "retry_delay": 0.2, "retry_max": 2}
    return {"id": name, "url": receiver.url(f"/{name}"), **usual, **more}


def write(broker: Broker, topic: str, *events: tuple[str, int]) -> None:
    for key, number in events:
        values: list[bytes | None] = [keyed(key, number)]
        produce(broker.real.bootstrap_servers, topic, values, key=key.encode(), partition=0)


def all_committed(broker: Broker, name: str, topic: str) -> bool:
    done, ends = committed(broker.real.bootstrap_servers, f"{broker.prefix}.o.{name}", topic)
    return done == ends


def headers(message: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers()}


def test_an_exhausted_delivery_is_skipped_or_stands_as_its_subscriber_says(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """`skip`: a dead letter, then the next. `block`: tried on until taken, and nothing after it."""
    mended: list[bool] = []

    async def refuses_first(call: Call, key: str, number: int) -> None:
        await call.answer(500 if (key, number) == ("x", 0) and not mended else 200)

    skips, blocks = Log(refuses_first), Log(refuses_first)
    topic = broker.topic("in")
    both = [
        ordered(receiver, "skips", skips),  # `skip` is what holds when nothing is said
        ordered(receiver, "blocks", blocks, on_exhausted="block"),
    ]
    no_circuit = {"failures": 10_000, "open_for": 1, "open_for_max": 1}
    with dispatcher(tmp_path, settings(subscribers=both, circuit=no_circuit)) as running:
        running.ready(60)
        write(broker, topic, ("x", 0), ("y", 0), ("x", 1), ("y", 1))
        until(lambda: all_committed(broker, "skips", topic), 60, "skipped")
        assert skips.of("x") == [("x", 0, 1), ("x", 0, 2), ("x", 0, 3), ("x", 1, 1)]
        until(lambda: len(blocks.of("x")) >= 6, 60, "tried on")
        until(
            lambda: running.metric("thorn_ordered_blocked", subscriber="blocks") == 1, 60, "shown"
        )
        assert {number for _, number, _ in blocks.of("x")} == {0}
        for log in (skips, blocks):
            until(partial(log.has, "y", 2), 60, "other keys go on")
            assert log.of("y") == [("y", 0, 1), ("y", 1, 1)]
        mended.append(True)
        until(lambda: all_committed(broker, "blocks", topic), 60, "taken at last")
        assert blocks.told[-1] == ("x", 1, 1)
        until(lambda: running.metric("thorn_ordered_blocked") == 0, 60, "blocks no more")
        assert running.stop() == 0
    [dead] = read_all(broker.real.bootstrap_servers, broker.name("dead"))
    told = headers(dead)
    assert (told["thorn-subscriber"], told["thorn-reason"]) == ("skips", "exhausted")
    assert told["thorn-attempt"] == "3"
    assert dead.value() == keyed("x", 0)


def test_retry_after_of_429_and_503_holds_the_whole_ordered_read(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Other keys wait as well, none is parked; of any other status only its own key waits."""

    def asks(status: int, seconds: int = WAIT) -> Log:
        asked: list[bool] = []

        async def answer(call: Call, _: str, __: int) -> None:
            if asked:
                await call.answer(200)
            else:
                asked.append(True)
                await call.answer(status, b"", f"Retry-After: {seconds}")

        return Log(answer)

    held = {"s429": asks(429), "s503": asks(503)}
    other = asks(500, LONG)
    topic = broker.topic("in")
    them = [ordered(receiver, name, log) for name, log in {**held, "s500": other}.items()]
    with dispatcher(tmp_path, settings(subscribers=them)) as running:
        running.ready(60)
        write(broker, topic, ("x", 0))
        until(lambda: running.metric("thorn_attempts_total", outcome="status") == 3, 60, "refused")
        write(broker, topic, ("y", 0), ("x", 1), ("z", 0))
        for name in held:
            until(partial(all_committed, broker, name, topic), 60, name)
        until(lambda: len(other.told) == 3, 60, "the other keys")
        assert sorted(other.told) == [("x", 0, 1), ("y", 0, 1), ("z", 0, 1)]
        assert running.metric("thorn_parked_total") == 0
        assert running.stop() == 0
    for log in held.values():
        assert min(log.at[1:]) - log.at[0] >= WAIT, "somebody was before the time"
        assert log.of("x") == [("x", 0, 1), ("x", 0, 2), ("x", 1, 1)]
        assert sorted(log.told)[3:] == [("y", 0, 1), ("z", 0, 1)]
