"""Receivers that misbehave, one table for both transports: verdicts, deadlines, what stays open.

The table is `tests/support/hostile.py`. How exactly deadlines are kept, and how much memory all of
it takes, is measured in test_hostile_limits.py.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from tests.contract.test_transport import LOOPBACK, Client, Names
from tests.support.hostile import DEADLINE, NOW, RETRY_AFTER, ROWS, Row, Stage, page
from tests.support.receivers import Call, Receiver
from thorn_stream.adapters.http import NativeTransport
from thorn_stream.adapters.http.httpx_transport import HttpxTransport
from thorn_stream.core.deliveries import Dead, Delivered, Kind, Outcome, Retry
from thorn_stream.core.schedule import RetryPolicy, Tiers, settlement
from thorn_stream.core.validators import Guard

TRANSPORTS: dict[str, Any] = {"native": NativeTransport, "httpx": HttpxTransport}
SECURITY = Path(__file__).parents[2] / "docs/security.md"
POLICY = RetryPolicy()
TIERS = Tiers((5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0))


@pytest.fixture(scope="module")
def stage(authority: trustme.CA) -> Iterator[Stage]:
    with Stage(authority) as stage:
        yield stage


async def _bad_then_good(transport: Any, stage: Stage, row: Row) -> Outcome:
    """What the row comes to; another receiver must be served beside it, and nothing stay open."""
    client = Client(transport)
    body = bytes(16 << 20) if row.large else b"{}"
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: errors.append(told))
    try:
        for _ in range(row.times):
            bad = client.start(stage.url(row), timeout=DEADLINE if row.late else 20.0, body=body)
            good = client.start(stage.servers["plain"].url("/ok"), timeout=20.0)
            async with asyncio.timeout(40):
                outcome = await bad
                assert (await good).kind is Kind.OK
    finally:
        await transport.stop()
    assert transport.open == transport.idle == 0
    assert errors == []
    return outcome


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))
@pytest.mark.parametrize("kind", TRANSPORTS)
def test_each_misbehaviour_has_its_verdict(stage: Stage, ca_file: str, kind: str, row: Row) -> None:
    """What it comes to, what follows from that, and that it ends; both transports, every row."""
    https = row.where not in {"plain", "deaf", "nobody"}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        transport = TRANSPORTS[kind](
            Guard.from_names(LOOPBACK, ["127.0.0.0/8"]),
            Names(good_example=["127.0.0.1"]),
            max_connections=10,
            ca_file=ca_file if https else None,
        )
        outcome = runner.run(_bad_then_good(transport, stage, row))
    detail = row.detail if kind == "native" or row.httpx is None else row.httpx
    assert (outcome.kind, outcome.status, outcome.detail) == (row.kind, row.status, detail)
    assert outcome.body is None
    if row.late:
        # Never early. How late is measured elsewhere: seconds here mean that it was not cut at all.
        assert DEADLINE <= outcome.duration < DEADLINE + 5
    assert _settled(outcome) == row.settled


def _settled(outcome: Outcome) -> str:
    settled = settlement(outcome, POLICY, 1, NOW, 0.5, TIERS)
    if isinstance(settled, Dead):
        return str(settled.reason)
    assert isinstance(settled, Delivered | Retry)
    return settled.name


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("kind", TRANSPORTS)
def test_each_form_of_retry_after_has_its_wait(kind: str, status: int) -> None:
    """Read off the wire: never before the schedule, at what was asked, and cut where absurd."""

    async def answer(call: Call) -> None:
        said = RETRY_AFTER[int(call.arguments[0])][0]
        await call.write(
            f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nRetry-After: {said}\r\n\r\n".encode()
        )

    async def waits(url: str) -> list[float]:
        transport = TRANSPORTS[kind](
            Guard.from_names(LOOPBACK, ["127.0.0.0/8"]), Names(), max_connections=10
        )
        client = Client(transport)
        found = []
        try:
            for at in range(len(RETRY_AFTER)):
                outcome = await client.post(f"{url}/{at}")
                assert outcome.status == status
                settled = settlement(outcome, POLICY, 1, NOW, 0.0, TIERS)
                assert isinstance(settled, Retry)
                found.append((settled.due - NOW) / 1000)
        finally:
            await transport.stop()
        return found

    with Receiver() as receiver:
        receiver.modes["asks"] = answer
        found = asyncio.run(waits(receiver.url("/asks")))
    assert found == [seconds for _, seconds in RETRY_AFTER]


def test_the_page_shows_the_table() -> None:
    """docs/security.md has a line for each row, as `python -m tests.support.hostile` prints it."""
    assert page() in SECURITY.read_text()
