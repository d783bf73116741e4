"""What the demo is played with: its receivers, and the dispatcher process it starts."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from thorn_stream.config import load_settings
from thorn_stream.core.errors import LocalError
from thorn_stream.core.signing import Signer
from thorn_stream.ops.demo.account import Books
from thorn_stream.ops.demo.cast import Behaviour, Part, cast
from thorn_stream.ops.demo.dispatcher import (
    DispatcherProcess,
    new_secret,
    settings_for,
    write_configuration,
)
from thorn_stream.ops.demo.receivers import Receivers

HEALTHY = Part("healthy", "**", "answers at once", Behaviour())
GONE = Part("gone", "user.profile.*", "answers 410", Behaviour(status=410))
SECRET = new_secret()
BODY = b'{"event": "order.paid", "data": {"number": 3, "sent": 0}}'


# --- receivers ----------------------------------------------------------------------------------


@asynccontextmanager
async def receiving(*parts: Part) -> AsyncIterator[tuple[Receivers, Books]]:
    books = Books(parts)
    keys = dict.fromkeys((part.id for part in parts), SECRET)
    receivers = Receivers(list(books.accounts.values()), keys, lambda: None)
    await receivers.start()
    try:
        yield receivers, books
    finally:
        await receivers.stop()


async def post(url: str, delivery: str, attempt: int = 1, secret: str = SECRET) -> int:
    """One request as a dispatcher makes it; returns the status."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    signer, now = Signer([secret]), int(time.time())
    head = [
        f"POST /{path} HTTP/1.1",
        f"Host: {host}",
        f"Content-Length: {len(BODY)}",
        f"Hook-Delivery: {delivery}",
        f"Hook-Attempt: {attempt}",
        f"Hook-HMAC: {signer.hook_hmac(BODY).decode()}",
        f"webhook-id: {delivery}",
        f"webhook-timestamp: {now}",
        f"webhook-signature: {signer.standard(delivery, now, BODY).decode()}",
        "Connection: close",
    ]
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write("\r\n".join([*head, "", ""]).encode() + BODY)
    status = int((await reader.read()).split(b" ")[1])
    writer.close()
    await writer.wait_closed()
    return status


def test_receivers_answer_as_their_parts_say() -> None:
    """A healthy one answers 200, one that is gone 410; what is answered 2xx is counted."""

    async def go() -> None:
        async with receiving(HEALTHY, GONE) as (receivers, books):
            healthy = books.accounts["healthy"]
            assert await post(receivers.urls["healthy"], "a", attempt=2) == 200
            assert await post(receivers.urls["healthy"], "a", attempt=2) == 200
            assert await post(receivers.urls["gone"], "b") == 410
            assert (healthy.delivered, healthy.deliveries) == ({3}, {"a"})
            assert (healthy.duplicates, healthy.retried, healthy.forged) == (1, {"a"}, 0)
            assert books.accounts["gone"].delivered == set()

    asyncio.run(go())


def test_a_wrong_signature_is_noticed() -> None:
    """A request signed with another secret is counted as forged."""

    async def go() -> None:
        async with receiving(HEALTHY) as (receivers, books):
            await post(receivers.urls["healthy"], "a", secret=new_secret())
            assert books.accounts["healthy"].forged == 1

    asyncio.run(go())


def test_a_flaky_receiver_dooms_no_delivery() -> None:
    """Each request is a throw of its own: a delivery that fails gets through in the end."""
    flaky = Part("flaky", "**", "fails", Behaviour(failing=0.3))

    async def go() -> None:
        async with receiving(flaky) as (receivers, _):
            statuses = [await post(receivers.urls["flaky"], f"d{number}") for number in range(60)]
            assert set(statuses) == {200, 503}
            assert 6 <= statuses.count(503) <= 30
            for _ in range(20):
                if await post(receivers.urls["flaky"], "again") == 200:
                    return
            raise AssertionError("a delivery was refused 20 times")

    asyncio.run(go())


def test_an_outage_refuses_connections_until_it_is_over() -> None:
    """Nobody listens at first, then the receiver is there as if nothing had been."""
    late = Part("late", "**", "dead", Behaviour(outage=0.2))

    async def go() -> None:
        async with receiving(late) as (receivers, _):
            url = receivers.urls["late"]
            with pytest.raises(ConnectionRefusedError):
                await post(url, "a")
            assert receivers.down_for("late") == 0.2
            receivers.first_event()
            status = 0
            while status == 0:
                with suppress(ConnectionRefusedError):
                    status = await post(url, "a")
                await asyncio.sleep(0.01)
            assert (status, receivers.down_for("late")) == (200, 0.0)

    asyncio.run(go())


# --- the dispatcher process ---------------------------------------------------------------------


def test_the_configuration_is_one_that_a_dispatcher_takes(tmp_path: Path) -> None:
    """What the demo writes are settings without a mistake, and retries outlast the outage."""
    parts = cast(10)
    urls = {part.id: f"http://127.0.0.1:1/{part.id}" for part in parts}
    keys = {part.id: new_secret() for part in parts}
    given = settings_for("127.0.0.1:9", "thorn-demo-0", 9464)
    settings = load_settings(write_configuration(tmp_path, given, parts, urls, keys), {}).settings
    waits = [
        min(settings.retry_delay * settings.retry_backoff**number, settings.retry_delay_max)
        for number in range(settings.retry_max)
    ]
    assert sum(waits) * (1 - settings.retry_jitter) > 2 * 10
    assert max(waits) <= max(settings.retry_tiers)


def test_a_dispatcher_that_ends_early_is_reported_with_its_last_words(tmp_path: Path) -> None:
    """One that does not start says why, in one line without a traceback."""
    config = tmp_path / "thorn.yaml"
    config.write_text("nonsense: 1\n", "utf-8")
    process = DispatcherProcess(config, 1)
    process.start()
    with pytest.raises(LocalError, match=r"the dispatcher process ended with status 2: .*nonsense"):
        asyncio.run(process.ready())
    assert process.kill() == 2


CHILD = """
import os, sys
from thorn_stream.ops.demo.child import tie_to_parent
tie_to_parent(sys.stdin.fileno(), grace={grace})
import signal, time
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("stubborn", "status"), [(False, -signal.SIGTERM), (True, 1)])
def test_a_child_ends_when_its_parent_is_gone(stubborn: bool, status: int) -> None:
    """The pipe ends with whoever holds it: the child stops, and is ended if it does not."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD.format(grace=0.1, stubborn=stubborn)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        os.close(os.dup(child.stdin.fileno()))  # a copy that is closed changes nothing
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(10) == status
