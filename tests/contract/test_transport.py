"""The Transport port against real servers on loopback: both transports, on both event loops."""

import asyncio
import gc
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest
import trustme
import uvloop

from tests.support.receivers import Call, Receiver, closed_port, wait_until
from thorn_stream.adapters.http import NativeTransport
from thorn_stream.adapters.http.httpx_transport import HttpxTransport
from thorn_stream.adapters.resolver import Resolver
from thorn_stream.core.addresses import IPAddress
from thorn_stream.core.deliveries import Attempt, Delivery, Kind, Outcome
from thorn_stream.core.envelope import Envelope
from thorn_stream.core.errors import ConfigurationError, SecurityError
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Partition, Record
from thorn_stream.core.subscribers import Subscriber, Tls
from thorn_stream.core.validators import Guard
from thorn_stream.ports import Transport

T = TypeVar("T")
_PORTS: list[type[Transport]] = [NativeTransport, HttpxTransport]  # held to it by mypy

LOOPBACK: list[Any] = [["block_internal_ips"], ["ensure_protocol", ["http", "https"]]]
BODY = b'{"event": "order.created"}'
HEADERS = b"Content-Type: application/json\r\nHook-Event: order.created\r\n"


class Client:
    """A transport under test, and a way to await one request."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport  # Any: some tests look into one of the two
        self.ended: list[Outcome] = []

    def start(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        keep_alive: bool = True,
        tls: Tls | None = None,
        own: Guard | None = None,
        body: bytes = BODY,
        ended: Callable[[], None] = lambda: None,
    ) -> asyncio.Future[Outcome]:
        subscriber = Subscriber(id="billing", event=("*",), url=url, tls=tls)
        record = Record("orders", 0, 0, None, BODY, [], 0)
        entry = Entry(Ledger(Partition("orders", 0), 0, 100, Tally()), 0, 1)
        delivery = Delivery(Envelope("order.created", "1", record), subscriber, "d", entry)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def settle(_: Attempt, outcome: Outcome) -> None:
            self.ended.append(outcome)
            future.set_result(outcome)  # raises when it is called twice
            ended()

        target = self.transport.target(subscriber)
        attempt = Attempt(delivery, target, HEADERS, body, timeout, keep_alive, settle, own)
        self.transport.send(attempt)
        assert not future.done(), "`ended` was called from inside `send`"
        return future

    async def post(self, url: str, **options: Any) -> Outcome:
        async with asyncio.timeout(60):
            return await self.start(url, **options)


Scenario: TypeAlias = Callable[[Client], Awaitable[T]]


class Names:
    """A resolver in memory."""

    def __init__(self, **names: Sequence[str]) -> None:
        self.names = {name.replace("_", "."): found for name, found in names.items()}
        self.asked: list[str] = []
        self.forgotten: list[str] = []

    async def resolve(self, name: str, seconds: float) -> list[IPAddress]:
        self.asked.append(name)
        if name == "stuck.example":
            await asyncio.sleep(60)
        if name not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [ip_address(text) for text in self.names[name]]

    def forget(self, name: str) -> None:
        self.forgotten.append(name)

    def stop(self) -> None:
        """Nothing to let go of."""


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    factory: Callable[[], asyncio.AbstractEventLoop] = request.param
    return factory


@pytest.fixture(params=["native", "httpx"])
def chosen(request: pytest.FixtureRequest) -> str:
    """Which transport a test is about."""
    name: str = request.param
    return name


@pytest.fixture
def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], chosen: str) -> Callable[..., Any]:
    """Run a scenario with a transport that may call 127.0.0.0/8; it must leave nothing open."""

    def runner(
        scenario: Scenario[T],
        *,
        guard: Guard | None = None,
        names: Names | None = None,
        max_connections: int = 100,
        **options: Any,
    ) -> T:
        async def main() -> T:
            transport = (NativeTransport if chosen == "native" else HttpxTransport)(
                guard or Guard.from_names(LOOPBACK, ["127.0.0.0/8"]),
                names or Names(),
                max_connections=max_connections,
                **options,
            )
            try:
                return await scenario(Client(transport))
            finally:
                await transport.stop()
                assert transport.open == transport.idle == 0

        errors: list[dict[str, Any]] = []
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: errors.append(context))
            result = runner.run(main())
        assert errors == []
        return result

    return runner


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@contextmanager
def secure_receiver(certificate: trustme.LeafCert, **options: Any) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    for name, value in options.items():
        setattr(context, name, value)
    with Receiver(tls=context) as receiver:
        yield receiver


# --- answers -------------------------------------------------------------------------------------


def test_the_request_arrives_as_it_was_meant(run: Any, receiver: Receiver) -> None:
    """Method, target, Host, length, the caller's headers and the body arrive unchanged."""
    outcome = run(lambda client: client.post(receiver.url("/ok/a?b=%20c#d")))
    assert (outcome.kind, outcome.status, outcome.address) == (Kind.OK, 200, "127.0.0.1")
    assert 0 < outcome.duration < 5
    request = receiver.requests[-1]
    assert (request.method, request.path, request.body) == ("POST", "/ok/a?b=%20c", BODY)
    headers = dict(request.headers)
    del headers["x-on-connection"]
    assert headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "hook-event": "order.created",
        "content-length": str(len(BODY)),
    }


@pytest.mark.parametrize(
    ("path", "kind", "status", "detail"),
    [
        ("/ok", Kind.OK, 200, ""),
        ("/no-content", Kind.OK, 204, ""),
        ("/status/299", Kind.OK, 299, ""),
        ("/status/300", Kind.STATUS, 300, ""),
        ("/status/410", Kind.STATUS, 410, ""),
        ("/status/503", Kind.STATUS, 503, ""),
        ("/status/999", Kind.STATUS, 999, ""),
        ("/redirect/301", Kind.STATUS, 301, ""),
        ("/redirect/307", Kind.STATUS, 307, ""),
        ("/chunked", Kind.OK, 200, ""),
        ("/until-close", Kind.OK, 200, ""),
        ("/informational", Kind.OK, 200, ""),
        ("/informational-flood", Kind.PROTOCOL, None, "too many 1xx"),
        ("/switching", Kind.PROTOCOL, None, "switches protocols unasked"),
        ("/close", Kind.CONNECT, None, "closed"),
        ("/reset", Kind.CONNECT, None, "reset"),
        ("/garbage", Kind.PROTOCOL, None, "not HTTP/1.1"),
        ("/old", Kind.PROTOCOL, None, "not HTTP/1.1"),
        ("/status/099", Kind.PROTOCOL, None, "not a status"),
        ("/half-head", Kind.PROTOCOL, None, "head cut short"),
        ("/header-flood", Kind.PROTOCOL, None, "head too long"),
        ("/endless-body/200", Kind.OK, 200, ""),
        ("/endless-body/500", Kind.STATUS, 500, ""),
        ("/short-body/200", Kind.OK, 200, ""),
        ("/short-body/500", Kind.STATUS, 500, ""),
        ("/bad-chunk/200", Kind.OK, 200, ""),
        ("/bad-chunk/410", Kind.STATUS, 410, ""),
        ("/pipelined", Kind.STATUS, 500, ""),
        ("/surplus", Kind.OK, 204, ""),
    ],
)
def test_each_answer_has_its_outcome(  # noqa: PLR0917 -- one for each column
    run: Any,
    receiver: Receiver,
    chosen: str,
    path: str,
    kind: Kind,
    status: int | None,
    detail: str,
) -> None:
    """Each way to answer, and to misbehave, comes out as the Outcome it is."""
    if chosen == "httpx" and detail == "too many 1xx":
        detail = "head too long"  # httpx tells nobody of a 1xx; they end as bytes do
    before = len(receiver.requests)
    outcome = run(lambda client: client.post(receiver.url(path)))
    assert (outcome.kind, outcome.status, outcome.detail) == (kind, status, detail)
    assert outcome.address == "127.0.0.1"
    assert outcome.body is None
    assert len(receiver.requests) == before + 1  # a redirect is not followed, nothing is repeated


@pytest.mark.parametrize(
    ("path", "kind", "status", "detail"),
    [
        ("/silent", Kind.TIMEOUT, None, ""),
        ("/slow-head", Kind.TIMEOUT, None, ""),
        ("/slow-body/500", Kind.TIMEOUT, 500, "body"),
        ("/slow-body/200", Kind.OK, 200, ""),
    ],
)
def test_a_deadline_is_kept_to_the_last_body_byte(
    run: Any, receiver: Receiver, path: str, kind: Kind, status: int | None, detail: str
) -> None:
    """What is slow ends at its deadline; a 2xx whose head was complete is delivered."""
    outcome = run(lambda client: client.post(receiver.url(path), timeout=0.2))
    assert (outcome.kind, outcome.status, outcome.detail) == (kind, status, detail)
    assert 0.2 <= outcome.duration < 0.4  # the sweep adds 20 ms; the rest is a busy machine


def test_a_receiver_that_reads_nothing_ends_at_the_deadline(run: Any) -> None:
    """A body that nobody takes is no reason to wait longer."""
    with Receiver(reads=False) as deaf:
        outcome = run(lambda client: client.post(deaf.url("/ok"), timeout=0.1))
    assert (outcome.kind, outcome.detail) == (Kind.TIMEOUT, "")


def test_nobody_listening_is_refused(run: Any) -> None:
    """A closed port is told apart from everything else."""
    outcome = run(lambda client: client.post(f"http://127.0.0.1:{closed_port()}/"))
    assert (outcome.kind, outcome.detail, outcome.address) == (Kind.CONNECT, "refused", "127.0.0.1")
    assert outcome.error == "connect:refused"


def test_retry_after_is_handed_on_as_received(run: Any, receiver: Receiver) -> None:
    """The header's text comes with any status, cut to a length, and not from an earlier answer."""

    async def scenario(client: Client) -> None:
        outcome = await client.post(receiver.url("/retry-after/503/120"))
        assert (outcome.status, outcome.retry_after) == (503, "120")
        outcome = await client.post(receiver.url(f"/retry-after/429/{'9' * 500}"))
        assert outcome.retry_after == "9" * 128
        outcome = await client.post(receiver.url("/drip/503/17"))
        assert (outcome.status, outcome.retry_after) == (503, "17")
        outcome = await client.post(receiver.url("/status/503"))
        assert outcome.retry_after is None
        assert client.transport.connects == 1

    run(scenario)


def test_a_response_body_is_kept_only_when_asked_for(run: Any, receiver: Receiver) -> None:
    """`keep_response` keeps the first KiB of each body, and nothing where there is none."""

    async def scenario(client: Client) -> None:
        assert (await client.post(receiver.url("/ok"))).body == b"ok"
        assert (await client.post(receiver.url("/chunked"))).body == b"hello world"
        assert (await client.post(receiver.url("/no-content"))).body is None
        assert (await client.post(receiver.url("/endless-body/500"))).body == b"x" * 1024
        assert (await client.post(receiver.url("/close"))).body is None

    run(scenario, keep_response=True)


def test_a_large_body_goes_out_whole(run: Any, receiver: Receiver) -> None:
    """A body larger than any socket buffer arrives unchanged."""

    async def scenario(client: Client) -> None:
        body = os.urandom(3_000_000)
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        target = client.transport.target(
            Subscriber(id="a", event=("*",), url=receiver.url("/ok/large"))
        )
        delivery: Any = None  # a transport has no use for it
        client.transport.send(
            Attempt(delivery, target, b"", body, 5.0, True, lambda _, got: done.set_result(got))
        )
        assert (await done).kind is Kind.OK
        assert receiver.requests[-1].body == body

    run(scenario)


# --- connections ---------------------------------------------------------------------------------


def test_a_connection_is_used_again(run: Any) -> None:
    """Requests one after the other share a connection; its counters say so."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            for _ in range(5):
                assert (await client.post(receiver.url("/ok"))).kind is Kind.OK
                assert (client.transport.open, client.transport.idle) == (1, 1)
            assert client.transport.connects == receiver.connections == 1
            assert receiver.count("/ok") == 5

    run(scenario)


def test_without_keep_alive_each_request_has_its_connection(run: Any) -> None:
    """`keep_alive=False` says `Connection: close`, uses no idle connection and leaves none."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            await client.post(receiver.url("/ok"))
            for _ in range(2):
                assert (await client.post(receiver.url("/ok"), keep_alive=False)).kind is Kind.OK
                assert receiver.requests[-1].headers["connection"] == "close"
            assert receiver.connections == 3
            assert client.transport.idle == 1

    run(scenario)


@pytest.mark.parametrize("path", ["/once", "/closes-after"])
def test_a_connection_that_died_of_age_is_replaced_unseen(run: Any, path: str) -> None:
    """A reused connection that ends before any answer costs one replay, no failed attempt."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            for _ in range(4):
                outcome = await client.post(receiver.url(path))
                assert (outcome.kind, outcome.status) == (Kind.OK, 200)
            assert client.transport.connects == 4

    run(scenario)


def test_a_replay_happens_once(run: Any) -> None:
    """When the fresh connection dies as well, the attempt has failed."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            assert (await client.post(receiver.url("/ok"))).kind is Kind.OK
            outcome = await client.post(receiver.url("/close"))
            assert (outcome.kind, outcome.detail) == (Kind.CONNECT, "closed")
            assert receiver.count("/close") == 2
            assert receiver.connections == 2

    run(scenario)


@pytest.mark.parametrize("path", ["/unsolicited", "/closes-after"])
def test_an_idle_connection_that_speaks_or_closes_is_gone(run: Any, path: str) -> None:
    """Bytes nobody asked for kill an idle connection and never count as an answer."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            assert (await client.post(receiver.url(path))).kind is Kind.OK
            await client_until(lambda: client.transport.open == 0)
            outcome = await client.post(receiver.url("/status/500"))
            assert outcome.status == 500
            assert receiver.connections == 2

    run(scenario)


def test_an_answer_as_long_as_may_be_ends_its_connection(run: Any) -> None:
    """It counts, and that the receiver closes afterwards is nobody's fault."""

    async def longest(call: Call) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 65000\r\nX-Filler: %b\r\n\r\n"
        filler = b"x" * (65536 - 65000 - len(head) + len(b"%b"))
        await call.write(head % filler + b"x" * 65000)
        call.close()

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            receiver.modes["longest"] = longest
            assert (await client.post(receiver.url("/longest"))).kind is Kind.OK
            await client_until(lambda: client.transport.open == 0)

    run(scenario)


def test_a_receiver_that_speaks_first_is_no_http(run: Any) -> None:
    """A banner before the request, however it is timed, never becomes an answer."""

    async def scenario(client: Client) -> None:
        async def banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example ESMTP\r\n")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(banner, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        outcome = await client.post(f"http://127.0.0.1:{port}/")
        assert outcome.kind is Kind.PROTOCOL
        await client_until(lambda: client.transport.open == 0)
        server.close()
        await asyncio.sleep(0.01)

    run(scenario)


async def client_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110 -- counters, not events, are what is public
            await asyncio.sleep(0.002)


def test_many_requests_at_once_each_get_one_outcome(run: Any) -> None:
    """Three hundred at once: every one answered once, on at most as many connections as allowed."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            futures = [client.start(receiver.url("/ok")) for _ in range(300)]
            outcomes = await asyncio.gather(*futures)
            assert {outcome.kind for outcome in outcomes} == {Kind.OK}
            assert receiver.count("/ok") == 300
            assert receiver.connections == client.transport.connects <= 10

    run(scenario, max_connections=10)


def note(notes: list[str], name: str, _: object) -> None:
    notes.append(name)


def test_a_deadline_at_any_moment_leaves_nothing_open(run: Any) -> None:
    """While it dials, writes, reads, or hands the connection back: none is lost sight of."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            for number in range(40):
                path = ("/ok", "/until-close", "/slow-body/200", "/endless-body/500")[number % 4]
                url = receiver.url(path)
                timeouts = [0.0005 * (1 + i) for i in range(20)]
                await asyncio.gather(*(client.post(url, timeout=each) for each in timeouts))
            await client_until(lambda: client.transport.open == client.transport.idle)
            assert len(client.ended) == 800

    run(scenario)


def test_requests_beyond_the_limit_wait_in_line_inside_their_deadline(run: Any) -> None:
    """With one connection, requests are served in the order they came; a late one times out."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            order: list[str] = []
            first = client.start(receiver.url("/slow/1"))
            late = client.start(receiver.url("/ok"), timeout=0.04)
            others = [client.start(receiver.url(f"/ok/{n}")) for n in range(3)]
            for n, future in enumerate([first, late, *others]):
                future.add_done_callback(partial(note, order, str(n)))
            assert (await late).error == "timeout:queue"
            assert (await late).address is None
            outcomes = await asyncio.gather(first, *others)
            assert {outcome.kind for outcome in outcomes} == {Kind.OK}
            await asyncio.sleep(0)
            assert order == ["1", "0", "2", "3", "4"]
            assert receiver.connections == 1

    run(scenario, max_connections=1)


def test_an_idle_connection_makes_room_for_another_receiver(run: Any) -> None:
    """At the limit the connection idle for longest is closed; a busy one is passed on or ends."""

    async def scenario(client: Client) -> None:
        with Receiver() as one, Receiver() as two:
            for receiver in (one, two, one, two):
                assert (await client.post(receiver.url("/ok"))).kind is Kind.OK
                assert client.transport.open == 1
            assert (one.connections, two.connections) == (2, 2)
            both = [client.start(each.url("/slow/0.02")) for each in (one, two, one)]
            assert {outcome.kind for outcome in await asyncio.gather(*both)} == {Kind.OK}

    run(scenario, max_connections=1)


def test_subscribers_of_one_receiver_share_connections(run: Any) -> None:
    """Two targets of one scheme, host and port use one connection; another host name does not."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            for url in (
                receiver.url("/ok/a"),
                receiver.url("/ok/b"),
                receiver.url("/ok", host="one.example"),
            ):
                assert (await client.post(url)).kind is Kind.OK
            assert receiver.connections == 2

    run(scenario, names=Names(one_example=["127.0.0.1"]))


def test_an_origin_is_forgotten_with_its_last_target(run: Any, receiver: Receiver) -> None:
    """Targets made for one event leave nothing behind when they are gone."""

    async def scenario(client: Client) -> None:
        kept = client.transport.target(
            Subscriber(id="a", event=("*",), url="http://127.0.0.1:1/kept")
        )
        for port in range(2, 50):
            client.transport.target(
                Subscriber(id="a", event=("*",), url=f"http://127.0.0.1:{port}/")
            )
        gc.collect()
        again = client.transport.target(
            Subscriber(id="b", event=("*",), url="http://127.0.0.1:1/again")
        )
        assert again.origin is kept.origin
        assert len(client.transport._targets._origins) == 1

    run(scenario)


def test_stopping_ends_what_is_under_way(run: Any) -> None:
    """After `stop` every request has ended as `connect`, and a later one ends at once."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            idle = await client.post(receiver.url("/ok"))
            assert idle.kind is Kind.OK
            under_way = [client.start(receiver.url("/silent")) for _ in range(2)]
            under_way.append(client.start("http://stuck.example/"))
            under_way.append(client.start(receiver.url("/ok")))  # waits: no connection is free
            await asyncio.to_thread(wait_until, lambda: receiver.count("/silent") == 2)
            begun = time.monotonic()
            await client.transport.stop()
            assert time.monotonic() - begun < 1
            for future in [*under_way, client.start(receiver.url("/ok"))]:
                assert (await future).error == "connect:stopped"
            await asyncio.to_thread(wait_until, lambda: receiver.open == 0)
        await client.transport.stop()  # twice does no harm

    run(scenario, max_connections=3)


# --- names and the guard -------------------------------------------------------------------------


def test_a_name_is_looked_up_once_for_each_connect(run: Any, receiver: Receiver) -> None:
    """A warm connection costs no look-up; Host and outcome name what was called."""
    names = Names(good_example=["127.0.0.1"])

    async def scenario(client: Client) -> None:
        for _ in range(3):
            outcome = await client.post(receiver.url("/ok", host="Good.Example."))
            assert (outcome.kind, outcome.address) == (Kind.OK, "127.0.0.1")
        assert receiver.requests[-1].headers["host"] == f"good.example:{receiver.port}"
        assert names.asked == ["good.example"]

    run(scenario, names=names)


def test_the_next_address_is_tried_when_one_does_not_answer(run: Any, receiver: Receiver) -> None:
    """Addresses are tried in order; only when all have failed is the name asked anew next time."""
    names = Names(two_example=["127.0.0.2", "127.0.0.1"], none_example=["127.0.0.2", "127.0.0.3"])

    async def scenario(client: Client) -> None:
        outcome = await client.post(receiver.url("/ok", host="two.example"))
        assert (outcome.kind, outcome.address) == (Kind.OK, "127.0.0.1")
        assert names.forgotten == []
        outcome = await client.post(receiver.url("/ok", host="none.example"))
        assert (outcome.error, outcome.address) == ("connect:refused", "127.0.0.3")
        assert names.forgotten == ["none.example"]

    run(scenario, names=names)


def test_a_name_that_is_not_found_is_a_dns_failure(run: Any) -> None:
    """No address, no answer in time: each has its own word, and nothing is dialled."""

    async def scenario(client: Client) -> None:
        assert (await client.post("http://missing.example/")).error == "dns:not found"
        assert (await client.post("http://empty.example/")).error == "dns:no address"
        outcome = await client.post("http://stuck.example/", timeout=0.1)
        assert outcome.error == "timeout:look-up"
        assert outcome.duration < 0.4
        assert client.transport.connects == 0

    run(scenario, names=Names(empty_example=[]))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://127.1:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://0.0.0.0:{port}/",
        "http://localhost:{port}/",
        "http://inner.example:{port}/",
        "http://mixed.example:{port}/",
        "http://mapped.example:{port}/",
        "http://user@127.0.0.1:{port}/",
    ],
)
def test_a_refused_address_is_never_dialled(run: Any, url: str) -> None:
    """A canary on loopback sees no connection, however its address is spelt or resolved."""
    names = Names(
        localhost=["::1", "127.0.0.1"],
        inner_example=["127.0.0.1"],
        mixed_example=["8.8.8.8", "127.0.0.1"],
        mapped_example=["::ffff:127.0.0.1"],
    )

    async def scenario(client: Client) -> None:
        with Receiver() as canary:
            outcome = await client.post(url.format(port=canary.port))
            assert outcome.kind is Kind.BLOCKED
            assert outcome.detail in {"block_internal_ips", "url"}
            assert client.transport.connects == canary.connections == 0

    run(scenario, guard=Guard.from_names(LOOPBACK), names=names)


def test_a_refused_url_is_blocked_under_its_validators_name(run: Any) -> None:
    """`target` does not raise; each attempt ends as `blocked`, by the rule that refused."""

    async def scenario(client: Client) -> None:
        for url, rule in (
            ("http://127.0.0.1:81/", "ensure_port"),
            ("ftp://example.com/", "ensure_protocol"),
            ("https://example.com:443/", "ensure_protocol"),
            ("http://metadata.google.internal/", "block_internal_ips"),
            ("nonsense", "url"),
        ):
            for _ in range(2):
                assert (await client.post(url)).error == f"blocked:{rule}"

    rules: list[Any] = [
        ["block_internal_ips"],
        ["ensure_protocol", ["http"]],
        ["ensure_port", [80]],
    ]
    run(scenario, guard=Guard.from_names(rules, ["127.0.0.0/8"]))


def test_a_name_that_turns_inward_is_blocked_at_the_next_connect(run: Any) -> None:
    """Rebinding: the address that was checked is the one dialled, at every connect."""
    names = Names(turns_example=["127.0.0.1"])
    guard = Guard.from_names(LOOPBACK, ["127.0.0.1/32"])

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            url = receiver.url("/ok", host="turns.example")
            assert (await client.post(url, keep_alive=False)).kind is Kind.OK
            names.names["turns.example"] = ["127.0.0.2", "127.0.0.1"]
            outcome = await client.post(url, keep_alive=False)
            assert (outcome.error, outcome.address) == ("blocked:block_internal_ips", "127.0.0.2")
            assert receiver.connections == 1

    run(scenario, guard=guard, names=names)


@pytest.mark.parametrize(
    ("rule", "url", "address"),
    [
        (["ensure_protocol", ["https"]], "http://127.0.0.1:{port}/ok", None),
        (["ensure_port", [443]], "http://127.0.0.1:{port}/ok", None),
        (["block_cidr_network", ["127.0.0.0/8"]], "http://127.0.0.1:{port}/ok", None),
        (["block_cidr_network", ["127.0.0.2/32"]], "http://two.example:{port}/ok", "127.0.0.2"),
    ],
)
def test_a_request_may_bring_rules_of_its_own(
    run: Any, rule: list[Any], url: str, address: str | None
) -> None:
    """They refuse by URL and by each address; nothing is dialled; others are not concerned."""
    names = Names(two_example=["127.0.0.1", "127.0.0.2"])
    own = Guard.from_names([rule])

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            there = url.format(port=receiver.port)
            outcome = await client.post(there, own=own)
            assert (outcome.error, outcome.address) == (f"blocked:{rule[0]}", address)
            assert receiver.connections == 0
            assert (await client.post(there)).kind is Kind.OK

    run(scenario, names=names)


def test_rules_of_its_own_let_nothing_through(run: Any) -> None:
    """What the transport's own rules refuse stays refused, whatever a request brings along."""
    generous = Guard.from_names([["block_internal_ips"]], ["127.0.0.0/8"])

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            outcome = await client.post(receiver.url("/ok"), own=generous)
            assert outcome.error == "blocked:block_internal_ips"
            assert receiver.connections == 0

    run(scenario, guard=Guard.from_names(LOOPBACK))


def test_a_kept_connection_is_judged_by_its_address_again(run: Any) -> None:
    """A request with rules that refuse it does not use it; it stays good for the others."""
    names = Names(one_example=["127.0.0.1"])
    strict = Guard.from_names([["block_cidr_network", ["127.0.0.1/32"]]])
    lenient = Guard.from_names([["block_cidr_network", ["127.0.0.2/32"]]])

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            url = receiver.url("/ok", host="one.example")
            assert (await client.post(url)).kind is Kind.OK
            names.names["one.example"] = ["127.0.0.3"]
            if isinstance(client.transport, NativeTransport):
                kept = await client.post(url, own=strict)
                assert kept.error == "blocked:block_cidr_network"
            names.names["one.example"] = ["127.0.0.1"]
            assert (await client.post(url, own=strict)).error == "blocked:block_cidr_network"
            assert receiver.count("/ok") == 1
            assert (await client.post(url, own=lenient)).kind is Kind.OK
            assert (await client.post(url)).kind is Kind.OK
            assert receiver.count("/ok") == 3

    run(scenario, names=names)


def test_a_connection_that_is_passed_on_is_judged_again(run: Any) -> None:
    """Of those that wait in line, one with rules that refuse it is passed over, and told so."""
    names = Names(one_example=["127.0.0.1"])
    strict = Guard.from_names([["block_cidr_network", ["127.0.0.1/32"]]])

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            url = receiver.url("/slow/0.1", host="one.example")
            first = client.start(url)
            refused = [client.start(url, own=strict) for _ in range(3)]
            last = client.start(url)
            outcomes = await asyncio.gather(*refused)
            assert {outcome.error for outcome in outcomes} == {"blocked:block_cidr_network"}
            assert {outcome.address for outcome in outcomes} == {"127.0.0.1"}
            assert (await first).kind is (await last).kind is Kind.OK
            assert receiver.count("/slow/0.1") == 2

    run(scenario, names=names, max_connections=1)


def test_the_environments_proxy_is_not_used(
    run: Any, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY and its kin change nothing."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    assert run(lambda client: client.post(receiver.url("/ok"))).kind is Kind.OK


def test_the_self_test_passes_where_the_guard_holds(run: Any) -> None:
    """Nothing is dialled by it, and what is allowed on purpose is left out of it."""

    async def scenario(client: Client) -> None:
        await client.transport.self_test()
        assert client.transport.connects == 0

    run(scenario)
    run(scenario, guard=Guard.from_names(LOOPBACK))
    run(scenario, guard=Guard.from_names(LOOPBACK, ["0.0.0.0/0", "::/0"]))


class Broken(Guard):
    """A guard whose judgement of addresses does not work."""

    def address(self, address: IPAddress) -> None:
        return None


def test_the_self_test_fails_where_the_guard_does_not_hold(run: Any) -> None:
    """A transport that would dial loopback is not put to work."""

    async def scenario(client: Client) -> None:
        with pytest.raises(SecurityError, match=r"127\.0\.0\.1 would be dialled"):
            await client.transport.self_test()

    run(scenario, guard=Broken(Guard.from_names(LOOPBACK).validators))


def test_the_systems_resolver_serves_the_transport(run: Any, receiver: Receiver) -> None:
    """`localhost`, looked up for real, is delivered to where its addresses are allowed."""

    async def scenario(client: Client) -> None:
        outcome = await client.post(receiver.url("/ok", host="localhost"))
        assert (outcome.kind, outcome.address) == (Kind.OK, "127.0.0.1")

    guard = Guard.from_names(LOOPBACK, ["127.0.0.0/8", "::1/128"])
    run(scenario, guard=guard, names=Resolver())


# --- TLS -----------------------------------------------------------------------------------------


def test_tls_is_checked_by_name_and_kept_alive(
    run: Any, authority: trustme.CA, ca_file: str
) -> None:
    """A certificate of a known authority for this name or address passes, also on reuse."""

    async def scenario(client: Client) -> None:
        certificate = authority.issue_cert("good.example", "127.0.0.1")
        with secure_receiver(certificate) as receiver:
            for host in ("good.example", "127.0.0.1"):
                for _ in range(3):
                    outcome = await client.post(receiver.url("/ok", host=host))
                    assert outcome.kind is Kind.OK, outcome
            assert receiver.connections == 2
            outcome = await client.post(receiver.url("/slow-body/500"), timeout=0.2)
            assert outcome.error == "timeout:body" or outcome.status == 500
            assert (await client.post(receiver.url("/endless-body/200"))).kind is Kind.OK

    run(scenario, names=Names(good_example=["127.0.0.1"]), ca_file=ca_file)


def test_a_certificate_that_does_not_hold_is_a_tls_failure(
    run: Any, authority: trustme.CA, ca_file: str
) -> None:
    """Wrong name, unknown authority and an expired certificate each have their own word."""
    stranger = trustme.CA()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    expired = authority.issue_cert("127.0.0.1", not_after=yesterday)

    async def scenario(client: Client) -> None:
        for certificate, detail in (
            (authority.issue_cert("other.example"), "wrong address"),
            (stranger.issue_cert("127.0.0.1"), "unknown authority"),
            (expired, "certificate expired"),
        ):
            with secure_receiver(certificate) as receiver:
                outcome = await client.post(receiver.url("/ok"))
                assert (outcome.kind, outcome.detail) == (Kind.TLS, detail)
                named = await client.post(receiver.url("/ok", host="good.example"))
                assert named.kind is Kind.TLS
                assert receiver.requests == []

    run(scenario, names=Names(good_example=["127.0.0.1"]), ca_file=ca_file)


def test_old_tls_is_refused(run: Any, authority: trustme.CA, ca_file: str) -> None:
    """A receiver that speaks nothing newer than TLS 1.1 is not delivered to."""
    certificate = authority.issue_cert("127.0.0.1")

    async def scenario(client: Client) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with Receiver(tls=context) as receiver:
            outcome = await client.post(receiver.url("/ok"))
            assert (outcome.kind, outcome.detail) == (Kind.TLS, "closed in the handshake")
            assert receiver.requests == []

    run(scenario, ca_file=ca_file)


def test_a_handshake_without_an_answer_ends_at_the_deadline(run: Any, ca_file: str) -> None:
    """A peer that accepts and stays silent in the handshake costs the deadline, no more."""

    async def scenario(client: Client) -> None:
        with Receiver(reads=False) as silent:
            outcome = await client.post(f"https://127.0.0.1:{silent.port}/", timeout=0.15)
            assert outcome.error == "timeout:handshake"
            assert outcome.duration < 0.4

    run(scenario, ca_file=ca_file)


def test_plain_http_behind_https_is_a_tls_failure(
    run: Any, receiver: Receiver, ca_file: str
) -> None:
    """A receiver that answers a handshake with something else never gets a request."""

    async def scenario(client: Client) -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        outcome = await client.post(f"https://127.0.0.1:{port}/")
        assert outcome.kind is Kind.TLS
        server.close()

    run(scenario, ca_file=ca_file)


def test_a_subscriber_may_bring_its_own_authority_and_certificate(
    run: Any, authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    """`tls` of one subscriber opens its receiver for it alone, and is not shared."""
    client_authority = trustme.CA()
    own = client_authority.issue_cert("client.example")
    own.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    tls = Tls(ca_file=ca_file, cert_file=str(tmp_path / "client.pem"))

    async def scenario(client: Client) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        client_authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        with Receiver(tls=context) as receiver:
            for _ in range(2):
                assert (await client.post(receiver.url("/ok"), tls=tls)).kind is Kind.OK
            assert receiver.connections == 1
            outcome = await client.post(receiver.url("/ok"))
            assert (outcome.kind, outcome.detail) == (Kind.TLS, "unknown authority")
            outcome = await client.post(receiver.url("/ok"), tls=Tls(ca_file=ca_file))
            assert outcome.kind in {Kind.TLS, Kind.CONNECT}
            assert receiver.count("/ok") == 2

    run(scenario)


@pytest.mark.parametrize("broken", ["missing.pem", "empty.pem", "encrypted.pem"])
def test_tls_files_that_cannot_be_used_fail_that_subscriber_alone(
    run: Any, receiver: Receiver, tmp_path: Path, broken: str
) -> None:
    """Each attempt ends as `tls`, saying why; others are delivered; no pass phrase is asked."""
    (tmp_path / "empty.pem").write_text("nothing\n")
    (tmp_path / "encrypted.pem").write_text(
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,"
        "00000000000000000000000000000000\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
    )
    path = str(tmp_path / broken)

    async def scenario(client: Client) -> None:
        for tls in (Tls(ca_file=path), Tls(cert_file=path)):
            outcome = await client.post("https://127.0.0.1:1/", tls=tls)
            assert outcome.kind is Kind.TLS
            assert outcome.detail.startswith("tls files cannot be used: ")
        assert (await client.post(receiver.url("/ok"))).kind is Kind.OK
        with pytest.raises(ConfigurationError, match=r"tls\.ca_file"):
            type(client.transport)(Guard([]), Names(), max_connections=1, ca_file=path)

    run(scenario)


# --- when the machine is slow --------------------------------------------------------------------


def test_an_answer_that_came_in_time_is_read_before_its_deadline_is_judged(
    run: Any, receiver: Receiver
) -> None:
    """A loop that was held up beyond the deadline finds the answer that had arrived."""

    async def scenario(client: Client) -> None:
        held_up = client.start(receiver.url("/slow/0.02"), ended=lambda: time.sleep(0.35))
        future = client.start(receiver.url("/slow/0.1"), timeout=0.2)
        assert (await held_up).kind is Kind.OK
        outcome = await future
        assert outcome.kind is Kind.OK
        assert outcome.duration > 0.2

    run(scenario)


def test_a_loop_that_is_always_late_still_ends_what_is_overdue(
    run: Any, receiver: Receiver
) -> None:
    """Only one sweep in a row is passed over for being late."""

    async def scenario(client: Client) -> None:
        future = client.start(receiver.url("/silent"), timeout=0.1)
        for _ in range(20):
            time.sleep(0.12)  # noqa: ASYNC251 -- this is the hold-up
            await asyncio.sleep(0)
            if future.done():
                break
        assert (await future).kind is Kind.TIMEOUT

    run(scenario)


def test_every_attempt_that_is_called_ends_once(run: Any) -> None:
    """A mixture of everything at once: as many outcomes as attempts, none twice."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            paths = ["/ok", "/silent", "/close", "/reset", "/once", "/closes-after", "/pipelined"]
            urls = [receiver.url(path) for path in paths]
            urls += [f"http://127.0.0.1:{closed_port()}/", "http://missing.example/", "nonsense"]
            futures = [client.start(url, timeout=0.3) for url in urls * 20]
            await asyncio.gather(*futures)
            assert len(client.ended) == len(futures)

    run(scenario, max_connections=20)


def test_modes_may_be_added(run: Any) -> None:
    """The receivers of these tests take a mode of the test's own."""

    async def teapot(call: Call) -> None:
        await call.answer(418, b"short and stout", "Retry-After: 3")

    with Receiver() as receiver:
        receiver.modes["orders"] = teapot
        outcome = run(lambda client: client.post(receiver.url("/orders/1")))
    assert (outcome.status, outcome.retry_after) == (418, "3")
