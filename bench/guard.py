"""What the guard costs: per delivery on a kept-alive connection, and per connect.

    python -m bench.guard [--rounds 100] [--deliveries 500] [--connects 50]

On loopback, one process, one event loop for both sides of a comparison, by turns of a few
milliseconds each; medians of rounds. "Without" is the same transport whose guard has no rules at
all. The receiver is the smallest that answers HTTP, on a thread of its own, so its share is in both
numbers alike; what counts is the difference. The judgement of a connect is also measured by itself.
"""

import argparse
import asyncio
import socket
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

import uvloop

from thorn_stream.adapters.http import NativeTransport
from thorn_stream.adapters.resolver import Resolver
from thorn_stream.core.deliveries import Attempt, Delivery, Kind, Outcome
from thorn_stream.core.envelope import Envelope
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Partition, Record
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.validators import Guard

RULES: Sequence[Any] = [["block_internal_ips"], ["ensure_protocol", ["http", "https"]]]
GUARDED = Guard.from_names(RULES, ["127.0.0.1/32"])
UNGUARDED = Guard([])
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
TIMEOUT = 600.0
_PUBLIC = ip_address("8.8.8.8")
_PUBLIC_V6 = ip_address("2606:4700::1111")


class Receiver:
    """Answers each request it has read whole; requests here have bodies of two bytes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        asyncio.Runner(loop_factory=uvloop.new_event_loop).run(self._forever())

    async def _forever(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(2)
                    writer.write(ANSWER)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        server = await asyncio.start_server(serve, sock=self._listener)
        await server.serve_forever()


def transport(guard: Guard) -> NativeTransport:
    return NativeTransport(guard, Resolver(look_up=lambda _: ["127.0.0.1"]), max_connections=64)


def subscriber(port: int) -> Subscriber:
    return Subscriber(id="one", event=("*",), url=f"http://hooks.example:{port}/")


async def deliver(one: NativeTransport, port: int, count: int, *, keep: bool) -> float:
    """Microseconds of this process's main thread for each of `count`, one after the other."""
    target = one.target(subscriber(port))
    record = Record("orders", 0, 0, None, b"{}", [], 0)
    entry = Entry(Ledger(Partition("orders", 0), 0, 100, Tally()), 0, 1)
    delivery = Delivery(Envelope("a.b", "1", record), subscriber(port), "d", entry)
    done = asyncio.get_running_loop().create_future()
    left = count

    def ended(attempt: Attempt, outcome: Outcome) -> None:
        nonlocal left
        assert outcome.kind is Kind.OK, outcome
        left -= 1
        if left:
            one.send(attempt)
        else:
            done.set_result(None)

    attempt = Attempt(delivery, target, b"", b"{}", TIMEOUT, keep, ended, None)
    begun = time.thread_time()
    one.send(attempt)
    await done
    return (time.thread_time() - begun) / count * 1e6


async def compared(rounds: int, port: int, count: int, *, keep: bool) -> tuple[float, float]:
    """Medians with and without, by turns, so that what else the machine does hits both."""
    pair = (transport(GUARDED), transport(UNGUARDED))
    for one in pair:
        await deliver(one, port, max(1, count // 10), keep=keep)
    told: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds * 2):
        at = (turn + turn // 2) % 2
        told[at].append(await deliver(pair[at], port, count, keep=keep))
    for one in pair:
        await one.stop()
    return statistics.median(told[0]), statistics.median(told[1])


def judged(judge: Callable[[], object], count: int = 20_000) -> float:
    """Microseconds of one judgement, median of nine rounds."""
    told = []
    for _ in range(9):
        begun = time.thread_time()
        for _ in range(count):
            judge()
        told.append((time.thread_time() - begun) / count * 1e6)
    return statistics.median(told)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.guard", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--deliveries", type=int, default=500)
    parser.add_argument("--connects", type=int, default=50)
    asked = parser.parse_args()
    receiver = Receiver()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(f"us of CPU of the dispatcher's thread, medians of {asked.rounds} rounds")
        print("                          with    without   difference   ratio   allowed")
        for what, count, keep, allowed in (
            ("delivery, kept alive", asked.deliveries, True, 0.3),
            ("delivery, new connection", asked.connects, False, 100.0),
        ):
            guarded, bare = runner.run(compared(asked.rounds, receiver.port, count, keep=keep))
            print(
                f"{what:<24}{guarded:7.2f}{bare:11.2f}{guarded - bare:13.2f}"
                f"{guarded / bare:8.3f}{allowed:10.1f}"
            )
    strict = Guard.from_names(RULES)
    target = transport(GUARDED).target(subscriber(80))
    alone: dict[str, Callable[[], object]] = {
        "what a kept-alive delivery asks": lambda: target.refused,
        "an IPv4 address, twice a connect": lambda: strict.address(_PUBLIC),
        "an IPv6 address, twice a connect": lambda: strict.address(_PUBLIC_V6),
        "a URL, when it is read": lambda: strict.url("https://hooks.example.com/a/b?c=d"),
    }
    print(f"by itself, the call of a function ({judged(lambda: None):.2f}) taken off:")
    for what, judge in alone.items():
        print(f"  {what:<36}{judged(judge) - judged(lambda: None):7.2f}")


if __name__ == "__main__":
    main()
