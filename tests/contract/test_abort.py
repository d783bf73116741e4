"""Requests that must not go on: ended from outside, and never begun after their time."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.test_transport import LOOPBACK, Client, Names
from tests.support.receivers import Receiver
from thorn_stream.adapters.http import NativeTransport
from thorn_stream.adapters.http.httpx_transport import HttpxTransport
from thorn_stream.core.deliveries import Kind
from thorn_stream.core.validators import Guard

GUARD = Guard.from_names(LOOPBACK, ["127.0.0.0/8"])


@pytest.fixture(params=[NativeTransport, HttpxTransport])
def make(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return lambda: request.param(GUARD, Names(), max_connections=1)


def test_abort_ends_what_it_picks_and_closes_the_connection(make: Callable[[], Any]) -> None:
    """Both one that waits for its answer and one that waits for a connection; no other."""

    async def run(receiver: Receiver) -> None:
        client = Client(make())
        silent = client.start(receiver.url("/silent"), timeout=60)
        while not receiver.count("/silent"):  # noqa: ASYNC110 -- another thread counts
            await asyncio.sleep(0.01)
        waiting = client.start(receiver.url("/status/503"), timeout=60)
        other = client.start(receiver.url("/ok"), timeout=60)
        await asyncio.sleep(0)
        client.transport.abort(lambda attempt: attempt.delivery.subscriber.url.endswith("ok"))
        assert (await other).error == "connect:aborted"
        assert not silent.done()
        client.transport.abort(lambda attempt: "silent" in attempt.delivery.subscriber.url)
        async with asyncio.timeout(30):
            ended = await silent
            assert (ended.kind, ended.detail) == (Kind.CONNECT, "aborted")
            assert (await waiting).status == 503  # the only connection there may be is free
        await client.transport.stop()
        assert len(client.ended) == 3

    with Receiver() as receiver:
        asyncio.run(run(receiver))
        assert receiver.count("/ok") == 0


def test_a_connection_made_after_the_deadline_sends_nothing(make: Callable[[], Any]) -> None:
    """A process that stood still in the middle of a dial may have lost its turn by then."""

    async def run(receiver: Receiver) -> None:
        client = Client(make())
        late = client.start(receiver.url("/ok"), timeout=0.2)
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 -- that the loop stands still is what this is about
        async with asyncio.timeout(30):
            assert (await late).kind is Kind.TIMEOUT
            assert (await client.start(receiver.url("/no-content"), timeout=60)).status == 204
        await client.transport.stop()

    with Receiver() as receiver:
        asyncio.run(run(receiver))
        assert receiver.count("/ok") == 0
