"""How exactly deadlines are kept, and how much memory it takes, against receivers that misbehave.

    python -m tests.support.hostile_limits native|httpx [ROUNDS]

One process for the client alone, so that what it takes is its own, and one for the receivers.
Prints a line of JSON: of the deadlines count, p50, p99 and max of what they were late by, and the
worst that the loop itself was late in that time, in milliseconds; of the memory its resident size
before, at most and afterwards, in MiB, for each thing that could grow without end.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import trustme
import uvloop

from tests.support.hostile import DEADLINE, ROWS, Row, Stage
from thorn_stream.adapters.http import NativeTransport
from thorn_stream.adapters.http.httpx_transport import HttpxTransport
from thorn_stream.adapters.resolver import Resolver
from thorn_stream.core.deliveries import Attempt, Outcome
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.validators import Guard

__all__ = ["ENDLESS", "UNREAD", "measured"]

ENDLESS: Final = tuple(
    row
    for row in ROWS
    if "endless" in row.name or row.name in {"1xx flood", "gzip bomb", "never reads a large body"}
)
_LATE: Final = tuple(row for row in ROWS if row.late)
_AT_ONCE: Final = 20
_WARM_UP: Final = 2
_LARGE: Final = 1 << 20
UNREAD: Final = _AT_ONCE * _LARGE / (1 << 20)
"""MiB of request bodies under way at once, where nobody reads them."""
_TRANSPORTS: Final[dict[str, Any]] = {"native": NativeTransport, "httpx": HttpxTransport}


def measured(kind: str, rounds: int) -> dict[str, Any]:
    """What the program says, run in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.hostile_limits", kind, str(rounds)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def _receivers(folder: str) -> None:
    """Run the stage; say where each row is, and stay until standard input is closed."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(f"{folder}/ca.pem")
    with Stage(authority) as stage:
        print(json.dumps({row.name: stage.url(row) for row in ROWS}), flush=True)
        sys.stdin.read()


@contextmanager
def _stage() -> Iterator[tuple[dict[str, str], str]]:
    with TemporaryDirectory() as folder:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.support.hostile_limits", "receivers", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            yield json.loads(child.stdout.readline()), f"{folder}/ca.pem"
        finally:
            child.stdin.close()
            child.wait(20)
            child.stdout.close()


class _Client:
    def __init__(self, transport: Any, urls: dict[str, str]) -> None:
        self._transport = transport
        self._targets = {
            row.name: transport.target(Subscriber(id="a", event=("*",), url=urls[row.name]))
            for row in ROWS
        }

    async def post(self, row: Row) -> Outcome:
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        delivery: Any = None  # a transport has no use for it
        body = bytes(_LARGE) if row.large else b"{}"
        target = self._targets[row.name]
        attempt = Attempt(
            delivery, target, b"", body, DEADLINE, True, lambda _, told: done.set_result(told)
        )
        self._transport.send(attempt)
        return await done


async def _heart(worst: list[float]) -> None:
    """How late the loop is, whoever keeps it: other work here, or other processes."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.002)
        worst[0] = max(worst[0], time.monotonic() - before - 0.002)


async def _deadlines(client: _Client, rounds: int) -> dict[str, float]:
    worst = [0.0]
    heart = asyncio.create_task(_heart(worst))
    late: list[float] = []
    for _ in range(rounds):
        wanted = [row for row in _LATE for _ in range(2 if row.large else _AT_ONCE)]
        outcomes = await asyncio.gather(*(client.post(row) for row in wanted))
        late += [(outcome.duration - DEADLINE) * 1000 for outcome in outcomes]
    heart.cancel()
    with suppress(asyncio.CancelledError):
        await heart
    percentiles = statistics.quantiles(late, n=100)
    return {
        "count": len(late),
        "min": round(min(late), 1),
        "p50": round(percentiles[49], 1),
        "p99": round(percentiles[98], 1),
        "max": round(max(late), 1),
        "lag": round(worst[0] * 1000, 1),
    }


async def _memory(client: _Client, rounds: int) -> dict[str, list[float]]:
    told = {}
    for row in ENDLESS * _WARM_UP:
        await asyncio.gather(*(client.post(row) for _ in range(_AT_ONCE)))
    for row in ENDLESS:
        before = _resident("VmRSS")
        _forget_peak()
        for _ in range(rounds):
            await asyncio.gather(*(client.post(row) for _ in range(_AT_ONCE)))
        told[row.name] = [before, _resident("VmHWM"), _resident("VmRSS")]
    return told


def _forget_peak() -> None:
    """VmHWM counts from here."""
    Path("/proc/self/clear_refs").write_text("5")


def _resident(name: str) -> float:
    """MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise LookupError(name)


async def _measure(kind: str, rounds: int, urls: dict[str, str], ca_file: str) -> dict[str, Any]:
    transport = _TRANSPORTS[kind](
        Guard.from_names([["block_internal_ips"]], ["127.0.0.0/8"]),
        Resolver(),
        max_connections=1000,
        ca_file=ca_file,
    )
    client = _Client(transport, urls)
    try:
        return {
            "deadlines": await _deadlines(client, rounds),
            "memory": await _memory(client, rounds),
        }
    finally:
        await transport.stop()


def main() -> None:
    """Measure, or be the receivers of who measures."""
    kind, more = sys.argv[1], sys.argv[2:]
    if kind == "receivers":
        _receivers(more[0])
        return
    with _stage() as (urls, ca_file):
        rounds = int(more[0]) if more else 10
        with suppress(OSError):
            os.nice(-10)  # it is we who are measured, not who else is on this machine
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(_measure(kind, rounds, urls, ca_file))))


if __name__ == "__main__":
    main()
