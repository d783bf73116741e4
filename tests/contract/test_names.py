"""Names, by way of a real DNS server: what it answers is judged whole, once for each connect.

Loopback stands for both sides, since tests call nobody outside: 127.0.0.1 is let through as a
public address would be, the rest of 127.0.0.0/8 and ::1 is what must not be reached.
"""

import asyncio
import select
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from tests.contract.test_transport import LOOPBACK, Client
from tests.support.canary import Canary
from tests.support.dns import NameServer
from tests.support.receivers import Receiver
from thorn_stream.adapters.http import NativeTransport
from thorn_stream.adapters.http.httpx_transport import HttpxTransport
from thorn_stream.adapters.resolver import Resolver
from thorn_stream.core.deliveries import Kind
from thorn_stream.core.validators import Guard

OUTSIDE = "127.0.0.1"
INSIDE = "127.0.0.2"
GUARD = Guard.from_names(LOOPBACK, [f"{OUTSIDE}/32"])
WITHIN = 60.0


@pytest.fixture(params=[NativeTransport, HttpxTransport], ids=["native", "httpx"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@contextmanager
def guarded(address: str, port: int) -> Iterator[Callable[[], bool]]:
    """Listen where nobody may call; the function says whether anybody did."""
    with socket.socket() as listener:
        listener.bind((address, port))
        listener.listen(8)
        yield lambda: bool(select.select([listener], [], [], 0)[0])


def run(kind: Any, resolver: Resolver, scenario: Callable[[Client], Awaitable[None]]) -> list[str]:
    """A scenario on the standard loop, whose dials the hook sees; the addresses dialled."""

    async def main() -> None:
        transport = kind(GUARD, resolver, max_connections=50)
        try:
            async with asyncio.timeout(WITHIN):
                await scenario(Client(transport))
        finally:
            await transport.stop()

    with Canary() as canary:
        asyncio.run(main())
        return list(canary.dialled)


def test_a_name_that_turns_inward_between_two_connects_is_never_dialled(kind: Any) -> None:
    """DNS rebinding: the first answer is delivered to, the second one refused, by its rule."""
    with (
        NameServer({"turns.example": [[OUTSIDE], [INSIDE]]}) as server,
        Receiver() as receiver,
        guarded(INSIDE, receiver.port) as called,
    ):

        async def scenario(client: Client) -> None:
            url = receiver.url("/ok", host="turns.example")
            first = await client.start(url, timeout=WITHIN, keep_alive=False)
            assert (first.kind, first.address) == (Kind.OK, OUTSIDE)
            assert server.asked["turns.example"] == 1
            for _ in range(3):
                later = await client.start(url, timeout=WITHIN, keep_alive=False)
                assert (later.error, later.address) == ("blocked:block_internal_ips", INSIDE)

        dialled = run(kind, Resolver(look_up=server.look_up, keep=0), scenario)
        assert dialled == [OUTSIDE]
        assert not called()
        assert receiver.connections == 1


def test_what_is_answered_between_check_and_connect_changes_nothing(kind: Any) -> None:
    """One look-up serves the check and the connect: a second one would have led inward."""
    with (
        NameServer({"flips.example": [[OUTSIDE], [INSIDE], [OUTSIDE], [INSIDE]]}) as server,
        Receiver() as receiver,
        guarded(INSIDE, receiver.port) as called,
    ):

        async def scenario(client: Client) -> None:
            url = receiver.url("/ok", host="flips.example")
            kinds = [
                (await client.start(url, timeout=WITHIN, keep_alive=False)).kind for _ in range(4)
            ]
            assert kinds == [Kind.OK, Kind.BLOCKED, Kind.OK, Kind.BLOCKED]
            assert server.asked["flips.example"] == 4

        dialled = run(kind, Resolver(look_up=server.look_up, keep=0), scenario)
        assert dialled == [OUTSIDE, OUTSIDE]
        assert not called()


class Shifty(list[Any]):
    """What is read of it first, to be judged, is not what is read of it next, to be dialled."""

    read = 0

    def __iter__(self) -> Iterator[Any]:
        self.read += 1
        return iter([ip_address(OUTSIDE if self.read == 1 else INSIDE)])


class ShiftyResolver(Resolver):
    async def resolve(self, name: str, seconds: float) -> Any:
        return Shifty([None])


def test_an_address_is_judged_again_where_it_is_dialled(kind: Any) -> None:
    """The last gate: whatever hands it the address, a refused one is given to no socket."""
    with Receiver() as receiver, guarded(INSIDE, receiver.port) as called:

        async def scenario(client: Client) -> None:
            url = receiver.url("/ok", host="shifty.example")
            outcome = await client.start(url, timeout=WITHIN)
            assert (outcome.error, outcome.address) == ("blocked:block_internal_ips", INSIDE)

        assert run(kind, ShiftyResolver(), scenario) == []
        assert not called()


@pytest.mark.parametrize(
    "answer",
    [
        [OUTSIDE, INSIDE],
        [INSIDE, OUTSIDE],
        [OUTSIDE, "::1"],
        [OUTSIDE, "10.0.0.1"],
        [OUTSIDE, "169.254.169.254"],
        [OUTSIDE, f"::ffff:{INSIDE}"],
        [OUTSIDE, "64:ff9b::7f00:2"],
        [OUTSIDE, "2002:7f00:2::"],
        [OUTSIDE, "8.8.8.8", "fe80::1"],
        ["=internal.corp.example", INSIDE],
        ["=internal.corp.example", OUTSIDE, INSIDE],
    ],
)
def test_one_refused_answer_refuses_the_name(kind: Any, answer: list[str]) -> None:
    """Mixed A and AAAA, aliases into the inner network: nothing of such a name is dialled."""
    with NameServer({"mixed.example": [answer]}) as server, Receiver() as receiver:

        async def scenario(client: Client) -> None:
            url = receiver.url("/ok", host="mixed.example")
            outcome = await client.start(url, timeout=WITHIN)
            assert outcome.error == "blocked:block_internal_ips"

        assert run(kind, Resolver(look_up=server.look_up), scenario) == []
        assert receiver.connections == 0


def test_an_alias_that_leads_outside_is_delivered_to(kind: Any) -> None:
    """What is judged is the address, not how the name came to it."""
    with (
        NameServer({"alias.example": [["=real.example", OUTSIDE]]}) as server,
        Receiver() as receiver,
    ):

        async def scenario(client: Client) -> None:
            url = receiver.url("/ok", host="alias.example")
            assert (await client.start(url, timeout=WITHIN)).kind is Kind.OK

        assert run(kind, Resolver(look_up=server.look_up), scenario) == [OUTSIDE]


def test_names_that_are_never_answered_starve_nobody(kind: Any) -> None:
    """With many more silent names than threads, another name is found; they end at their time."""
    with NameServer({"good.example": [[OUTSIDE]]}) as server, Receiver() as receiver:
        server.silent = {f"silent{number}.example" for number in range(10)}

        async def scenario(client: Client) -> None:
            stuck = [client.start(f"http://{name}/", timeout=WITHIN) for name in server.silent]
            brief = client.start("http://silent0.example/", timeout=1.0)
            await asyncio.to_thread(_wait_for, lambda: len(server.asked) >= 4)
            url = receiver.url("/ok", host="good.example")
            assert (await client.start(url, timeout=WITHIN / 2)).kind is Kind.OK
            assert (await brief).error == "timeout:look-up"
            assert not any(future.done() for future in stuck)
            await client.transport.stop()
            assert {(await future).error for future in stuck} == {"connect:stopped"}

        run(kind, Resolver(look_up=server.look_up, threads=4), scenario)


def _wait_for(condition: Callable[[], bool]) -> None:
    come = threading.Event()
    while not condition():
        come.wait(0.01)


def test_answers_and_failures_are_kept_so_that_nobody_asks_for_each_request(kind: Any) -> None:
    """Ten connects to one name and ten to one that does not exist are one look-up each."""
    with NameServer({"good.example": [[OUTSIDE]]}) as server, Receiver() as receiver:

        async def scenario(client: Client) -> None:
            url = receiver.url("/ok", host="good.example")
            for _ in range(10):
                assert (await client.start(url, timeout=WITHIN, keep_alive=False)).kind is Kind.OK
                missing = await client.start("http://missing.example/", timeout=WITHIN)
                assert missing.error == "dns:not found"

        resolver = Resolver(look_up=server.look_up, keep=WITHIN, keep_failed=WITHIN)
        run(kind, resolver, scenario)
        assert server.asked == {"good.example": 1, "missing.example": 1}


def test_the_running_transport_refuses_before_any_packet(kind: Any) -> None:
    """The self-test asks for loopback and metadata; no socket is told to connect to any of it."""
    told: list[bool] = []

    async def scenario(client: Client) -> None:
        await client.transport.self_test()
        told.append(True)

    with NameServer() as server:
        resolver = Resolver(look_up=server.look_up)
        assert run(kind, resolver, scenario) == []
        assert told == [True]
        assert not server.asked
