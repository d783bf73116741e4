"""What receivers answered, in dead letters and in the log, when `keep_response` asks for it."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from tests.e2e.conftest import Settings
from tests.e2e.rig import dispatcher, envelope, produce, read_all, until
from tests.support.brokers import Broker
from tests.support.receivers import Call, Receiver
from thorn_stream.core.records import Headers

ANSWER = b"no such order: \xf0\x9f\x8d\x8b " + b"x" * 2000


@pytest.fixture
def broker(embedded_broker: Broker) -> Broker:
    return embedded_broker


def dead(
    receiver: Receiver, broker: Broker, settings: dict[str, Any], folder: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Let one delivery be answered 410: headers of its dead letter, and the attempt's lines."""

    async def says(call: Call) -> None:
        await call.answer(410, ANSWER)

    receiver.modes["says"] = says
    topic, servers = broker.topic("in"), broker.real.bootstrap_servers
    with dispatcher(folder, settings) as one:
        one.ready(60)
        produce(servers, topic, [envelope("order.paid")])
        until(lambda: one.metric("thorn_dead_letters_total") == 1, 60, "a dead letter")
        (letter,) = read_all(servers, broker.name("dead"))
        assert one.stop() == 0
    told = [json.loads(line) for line in one.said().splitlines() if line.startswith("{")]
    return dict(cast("Headers", letter.headers())), [
        line for line in told if line["event"] == "attempt"
    ]


@pytest.mark.parametrize("transport", ["native", "httpx"])
def test_an_answer_is_kept_when_it_is_asked_for(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path, transport: str
) -> None:
    """1 KiB of it in the dead letter and in the log line of the attempt."""
    letter, lines = dead(
        receiver, broker, settings("/says", transport=transport, keep_response=True), tmp_path
    )
    assert letter["thorn-response"] == ANSWER[:1024]
    assert [line["response"] for line in lines] == [ANSWER[:1024].decode()]


def test_no_answer_is_kept_by_default(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Neither in the dead letter nor in the log."""
    letter, lines = dead(receiver, broker, settings("/says"), tmp_path)
    assert letter["thorn-reason"] == b"gone"
    assert "thorn-response" not in letter
    assert len(lines) == 1
    assert "no such order" not in json.dumps(lines)
