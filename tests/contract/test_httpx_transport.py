"""What only the httpx transport can do: a proxy, HTTP/2, a transport of the user's own.

Everything it has in common with the native one is in test_transport.py, which runs over both.
"""

import asyncio
import logging
import ssl
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest
import trustme

from tests.contract.test_transport import (
    LOOPBACK,
    Client,
    Names,
    Scenario,
    T,
    client_until,
    secure_receiver,
)
from tests.support.http2 import Http2Receiver
from tests.support.own_transports import READY, Recording
from tests.support.proxies import Proxy
from tests.support.receivers import Receiver, closed_port
from thorn_stream.adapters.http.httpx_transport import HttpxTransport
from thorn_stream.adapters.http.httpx_ways import Way, own_transport
from thorn_stream.core.addresses import IPAddress
from thorn_stream.core.deliveries import Attempt, Kind, Outcome
from thorn_stream.core.errors import ConfigurationError, SecurityError
from thorn_stream.core.subscribers import Subscriber, Tls
from thorn_stream.core.validators import Guard

ALLOWED = ["127.0.0.0/8"]


@pytest.fixture
def errors() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def run(errors: list[dict[str, Any]]) -> Callable[..., Any]:
    """Run a scenario; nothing may be left open, and the loop must have had nothing to complain."""

    def runner(
        scenario: Scenario[T],
        *,
        guard: Guard | None = None,
        names: Names | None = None,
        max_connections: int = 10,
        **options: Any,
    ) -> T:
        async def main() -> T:
            asyncio.get_running_loop().set_exception_handler(lambda _, told: errors.append(told))
            transport = HttpxTransport(
                guard or Guard.from_names(LOOPBACK, ALLOWED),
                names or Names(),
                max_connections=max_connections,
                **options,
            )
            try:
                return await scenario(Client(transport))
            finally:
                await transport.stop()
                assert transport.open == transport.idle == 0

        result = asyncio.run(main())
        assert errors == []
        return result

    return runner


async def through(client: Client, proxy: Proxy, url: str, **options: Any) -> Outcome:
    """One request by a transport that uses this proxy, with the first client's guard."""
    transport = HttpxTransport(
        client.transport._guard,
        client.transport._resolver,
        max_connections=5,
        way=Way(proxy=proxy.url),
        **options,
    )
    try:
        return await Client(transport).post(url)
    finally:
        await transport.stop()
        assert transport.open == 0


# --- pinning -----------------------------------------------------------------------------------


class Turning(Names):
    """Answers each look-up of `turns.example` with the next of these."""

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self.answers = list(answers)

    async def resolve(self, name: str, seconds: float) -> list[IPAddress]:
        self.names["turns.example"] = [self.answers.pop(0)]
        return await super().resolve(name, seconds)


def test_the_address_that_was_checked_is_dialled(run: Any) -> None:
    """One look-up for a connect, none behind our back; the next answer is judged anew."""
    names = Turning("127.0.0.1", "169.254.169.254")

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            url = receiver.url("/ok", host="turns.example")
            assert (await client.post(url, keep_alive=False)).kind is Kind.OK
            assert names.asked == ["turns.example"]
            outcome = await client.post(url, keep_alive=False)
            assert outcome.error == "blocked:block_internal_ips"
            assert outcome.address == "169.254.169.254"
            assert client.transport.connects == receiver.connections == 1

    run(scenario, names=names)


NOTHING: Any = None  # a transport has no use for the Delivery


def guard_of(rule: list[Any]) -> Guard:
    return Guard.from_names([rule])


def _told(done: asyncio.Future[Outcome], _: Attempt, outcome: Outcome) -> None:
    done.set_result(outcome)


def test_a_requests_own_guard_judges_each_of_its_addresses(run: Any) -> None:
    """Rules that came with one event add to the transport's, also where a connection is kept."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            url = receiver.url("/ok")
            assert (await client.post(url)).kind is Kind.OK
            target = client.transport.target(Subscriber(id="a", event=("*",), url=url))
            for rule, error in (
                (["block_cidr_network", ["127.0.0.1/32"]], "blocked:block_cidr_network"),
                (["ensure_port", [443]], "blocked:ensure_port"),
                (["ensure_port", [receiver.port]], "ok"),
            ):
                done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
                attempt = Attempt(
                    NOTHING, target, b"", b"{}", 5.0, True, partial(_told, done), guard_of(rule)
                )
                client.transport.send(attempt)
                assert (await done).error == error
            assert receiver.count("/ok") == 2

    run(scenario)


# --- connections -------------------------------------------------------------------------------


def test_no_request_starves_where_many_are_under_way(run: Any) -> None:
    """Sixty-four at a time, each followed by another: all are answered, on as many connections."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:

            async def one_after_another() -> set[str]:
                url = receiver.url("/ok")
                return {(await client.post(url, timeout=3.0)).error for _ in range(20)}

            told = await asyncio.gather(*(one_after_another() for _ in range(64)))
            assert set().union(*told) == {"ok"}
            assert receiver.count("/ok") == 64 * 20
            assert receiver.connections == client.transport.connects <= 64

    run(scenario, max_connections=64)


def test_an_old_pool_takes_no_more_requests(run: Any) -> None:
    """After its lifetime a kept connection is closed, and the name is looked up anew."""
    names = Names(good_example=["127.0.0.1"])

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            url = receiver.url("/ok", host="good.example")
            for _ in range(2):
                assert (await client.post(url)).kind is Kind.OK
            assert names.asked == ["good.example"]
            for pool in client.transport._pools._pools.values():
                pool.expires = 0.0  # as when a minute has gone by
            assert (await client.post(url)).kind is Kind.OK
            assert names.asked == ["good.example"] * 2
            await client_until(lambda: client.transport.open == 1)

    run(scenario, names=names)


def test_a_pool_that_is_not_used_is_closed(run: Any) -> None:
    """Connections to a receiver that nobody calls any more do not stay open."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            assert (await client.post(receiver.url("/ok"))).kind is Kind.OK
            assert client.transport.open == client.transport.idle == 1
            for pool in client.transport._pools._pools.values():
                pool.used = 0.0  # as when it was long ago
            await client_until(lambda: client.transport.open == 0)
            assert client.transport.idle == 0

    run(scenario)


# --- a proxy -----------------------------------------------------------------------------------


def test_a_proxy_forwards_http(run: Any) -> None:
    """It is asked in absolute form, with user and password; the receiver never sees those."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            async with Proxy(user="thorn:hunter2") as proxy:
                outcome = await through(client, proxy, receiver.url("/retry-after/503/12"))
                assert (outcome.error, outcome.retry_after) == ("status:503", "12")
                assert outcome.address is None
                assert proxy.seen == [f"POST {receiver.url('/retry-after/503/12')} HTTP/1.1"]
            request = receiver.requests[-1]
            assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
            assert "proxy-authorization" not in request.headers

    run(scenario)


def test_a_proxy_tunnels_https(run: Any, authority: trustme.CA, ca_file: str) -> None:
    """TLS is with the receiver, proved by its name; the proxy sees a name and a port only."""

    async def scenario(client: Client) -> None:
        with secure_receiver(authority.issue_cert("good.example")) as receiver:
            async with Proxy(user="thorn:hunter2") as proxy:
                proxy.names["good.example"] = "127.0.0.1"
                url = receiver.url("/ok", host="good.example")
                assert (await through(client, proxy, url, ca_file=ca_file)).kind is Kind.OK
                assert proxy.seen == [f"CONNECT good.example:{receiver.port} HTTP/1.1"]
                untrusted = await through(client, proxy, url)
                assert untrusted.error == "tls:unknown authority"

    run(scenario, names=Names(good_example=["127.0.0.1"]))


def test_a_proxy_may_be_spoken_to_by_https(run: Any, authority: trustme.CA, ca_file: str) -> None:
    """Its certificate is checked like a receiver's; both kinds of receivers are reached by it."""

    async def scenario(client: Client) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate = authority.issue_cert("127.0.0.1")
        certificate.configure_cert(context)
        with secure_receiver(certificate) as secure, Receiver() as plain:
            async with Proxy(user="thorn:hunter2", tls=context) as proxy:
                for receiver in (plain, secure):
                    outcome = await through(client, proxy, receiver.url("/ok"), ca_file=ca_file)
                    assert outcome.kind is Kind.OK
                assert [first.split(" ")[0] for first in proxy.seen] == ["POST", "CONNECT"]
                untrusted = await through(client, proxy, plain.url("/ok"))
                assert untrusted.error == "tls:unknown authority"
                assert plain.count("/ok") == 1

    run(scenario)


def test_a_proxy_that_refuses_is_a_failed_connect(run: Any) -> None:
    """No proxy there, a wrong password: told apart from the receiver's doing, without secrets."""

    async def scenario(client: Client) -> None:
        async with Proxy(refuses=407) as proxy:
            outcome = await through(client, proxy, "https://127.0.0.1:9/")
            assert outcome.error == "connect:proxy answered 407"
        gone = Proxy(user="thorn:hunter2")
        gone.port = closed_port()
        outcome = await through(client, gone, "https://127.0.0.1:9/")
        assert (outcome.error, outcome.address) == ("connect:proxy refused", None)

    run(scenario)


def test_what_a_proxy_would_dial_is_judged_by_our_own_look_up(run: Any) -> None:
    """A URL or a name that leads inward never reaches the proxy, nor does an unknown name."""

    async def scenario(client: Client) -> None:
        async with Proxy() as proxy:
            for url, error in (
                ("http://10.0.0.1/", "blocked:block_internal_ips"),
                ("http://inner.example/", "blocked:block_internal_ips"),
                ("ftp://inner.example/", "blocked:ensure_protocol"),
                ("http://missing.example/", "dns:not found"),
            ):
                assert (await through(client, proxy, url)).error == error
            assert proxy.seen == []

    run(scenario, names=Names(inner_example=["127.0.0.1", "192.168.0.1"]))


@pytest.mark.parametrize(
    "url", ["", "hunter2", "ftp://u:hunter2@host:1", "http://", "http://u:hunter2@h:99999999999"]
)
def test_a_proxy_that_is_none_is_refused_without_telling_its_secrets(url: str) -> None:
    """One line that says what to write, and nothing of what was written."""
    with pytest.raises(ConfigurationError, match=r"^proxy: is not the URL of a proxy") as raised:
        HttpxTransport(Guard([]), Names(), max_connections=1, way=Way(proxy=url))
    assert "hunter2" not in str(raised.value) + repr(Way(proxy=url))


# --- HTTP/2 ------------------------------------------------------------------------------------


def http2_receiver(authority: trustme.CA) -> Http2Receiver:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return Http2Receiver(context)


def test_http2_is_spoken_where_it_is_offered(run: Any, authority: trustme.CA, ca_file: str) -> None:
    """Requests share a connection; statuses, Retry-After and the body's own bytes are the same."""

    async def scenario(client: Client) -> None:
        async with http2_receiver(authority) as receiver:
            assert (await client.post(receiver.url("/ok"))).kind is Kind.OK
            futures = [client.start(receiver.url("/ok")) for _ in range(9)]
            assert {each.kind for each in await asyncio.gather(*futures)} == {Kind.OK}
            outcome = await client.post(receiver.url("/status/503"))
            assert (outcome.error, outcome.retry_after) == ("status:503", "7")
            assert (outcome.address, outcome.body) == ("127.0.0.1", b"ok")
            assert receiver.connections == 1
            headers, body = receiver.requests[0]
            assert headers[":method"] == "POST"
            assert headers["hook-event"] == "order.created"
            assert body == b'{"event": "order.created"}'

    run(scenario, ca_file=ca_file, keep_response=True, way=Way(http2=True))


def test_http2_without_keep_alive_has_a_connection_for_each_request(
    run: Any, authority: trustme.CA, ca_file: str
) -> None:
    """`Connection` is no header of HTTP/2: the connection just ends."""

    async def scenario(client: Client) -> None:
        async with http2_receiver(authority) as receiver:
            for _ in range(2):
                assert (await client.post(receiver.url("/ok"), keep_alive=False)).kind is Kind.OK
            assert receiver.connections == 2
            assert all("connection" not in headers for headers, _ in receiver.requests)

    run(scenario, ca_file=ca_file, way=Way(http2=True))


def test_limits_hold_over_http2(run: Any, authority: trustme.CA, ca_file: str) -> None:
    """Deadlines and the longest answer are kept; a connection with leftovers is not used again."""

    async def scenario(client: Client) -> None:
        async with http2_receiver(authority) as receiver:
            outcome = await client.post(receiver.url("/silent"), timeout=0.2)
            assert (outcome.error, outcome.status) == ("timeout", None)
            assert (await client.post(receiver.url("/endless"))).kind is Kind.OK
            assert (await client.post(receiver.url("/ok"))).kind is Kind.OK
            assert receiver.connections == 3
            outcome = await client.post(receiver.url("/goes"))
            assert outcome.kind is Kind.CONNECT

    run(scenario, ca_file=ca_file, way=Way(http2=True))


def test_an_aged_http2_connection_is_replaced_unseen(
    run: Any, authority: trustme.CA, ca_file: str
) -> None:
    """A kept connection that ends before any answer costs one replay, no failed attempt."""

    async def scenario(client: Client) -> None:
        async with http2_receiver(authority) as receiver:
            for _ in range(3):
                assert (await client.post(receiver.url("/once"))).kind is Kind.OK

    run(scenario, ca_file=ca_file, way=Way(http2=True))


def test_http2_falls_back_to_http1(run: Any, authority: trustme.CA, ca_file: str) -> None:
    """A receiver that speaks HTTP/1.1 only is delivered to by that, with and without TLS."""

    async def scenario(client: Client) -> None:
        with secure_receiver(authority.issue_cert("127.0.0.1")) as secure, Receiver() as plain:
            for receiver in (secure, plain):
                futures = [client.start(receiver.url("/ok")) for _ in range(3)]
                assert {each.kind for each in await asyncio.gather(*futures)} == {Kind.OK}

    run(scenario, ca_file=ca_file, way=Way(http2=True))


def test_http2_without_its_package_is_a_configuration_error() -> None:
    """One line that says what to install, before anything is sent."""
    program = (
        "import sys; sys.modules['h2'] = None\n"
        "from thorn_stream.adapters.http.httpx_ways import Way\n"
        "Way(http2=True).check(None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "ConfigurationError: http2: the package h2 is not installed" in last
    assert "pip install 'thorn-stream[http2]'" in last


# --- a transport of the user's own ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["Recording", "make", "READY"])
def test_a_transport_is_named_as_a_class_a_function_or_itself(name: str) -> None:
    """All three come to an `httpx.AsyncBaseTransport`."""
    made = own_transport(f"!tests.support.own_transports:{name}")
    assert isinstance(made, Recording)
    assert (made is READY) == (name == "READY")


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("!no_such_module:name", "cannot be loaded (ModuleNotFoundError: No module named"),
        ("!tests.support.own_transports:missing", "cannot be loaded (AttributeError: "),
        ("!tests.support.own_transports:breaks", "cannot be loaded (RuntimeError: not today)"),
        ("!tests.support.own_transports:NOT_ONE", "is a int; it must be an httpx.AsyncBase"),
        ("!collections:OrderedDict", "is a OrderedDict; it must be an httpx.AsyncBase"),
    ],
)
def test_a_reference_that_leads_to_no_transport_is_a_configuration_error(
    reference: str, why: str
) -> None:
    """One line that names the setting, the reference and what is wrong with it."""
    with pytest.raises(ConfigurationError) as raised:
        own_transport(reference)
    text = str(raised.value)
    assert text.startswith(f"transport: {reference} {why}")
    assert "\n" not in text


def test_a_transport_of_ones_own_makes_the_requests(run: Any) -> None:
    """It gets complete requests, its answers and errors become Outcomes, and it is closed."""
    own = Recording()

    async def scenario(client: Client) -> None:
        for path, error in (
            ("/ok", "ok"),
            ("/status/410", "status:410"),
            ("/fails", "connect:closed"),
            ("/late", "timeout"),
            ("/breaks", "connect:KeyError"),
            ("/nothing", "protocol:no answer that can be read"),
        ):
            assert (await client.post(f"http://good.example{path}")).error == error
        outcome = await client.post("http://good.example/status/503?a=b%20c")
        assert (outcome.retry_after, outcome.address) == ("9", None)
        request = own.requests[-1]
        assert (request.method, request.content) == ("POST", b'{"event": "order.created"}')
        assert request.url.raw_path == b"/status/503?a=b%20c"
        assert request.headers["host"] == "good.example"
        assert request.headers["content-length"] == "26"
        assert request.extensions["timeout"]["read"] == 30.0
        assert (await client.post("http://10.0.0.1/")).error == "blocked:block_internal_ips"
        assert (await client.post("http://inner.example/")).error == "blocked:block_internal_ips"
        tls = await client.post("https://good.example/", tls=Tls(ca_file="x"))
        assert tls.kind is Kind.TLS
        assert len(own.requests) == 7

    names = Names(good_example=["127.0.0.1"], inner_example=["10.0.0.1"])
    run(scenario, names=names, way=Way(own=own))
    assert own.closed


def test_httpxs_own_transport_is_one(run: Any) -> None:
    """The transport that httpx ships, given as one's own, reaches a real receiver."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            assert (await client.post(receiver.url("/ok"))).kind is Kind.OK
            assert (await client.post(receiver.url("/close"))).error == "connect:closed"
            outcome = await client.post(receiver.url("/slow-body/200"), timeout=0.2)
            assert outcome.kind is Kind.OK
            assert (await client.post(receiver.url("/silent"), timeout=0.2)).error == "timeout"
            port = closed_port()
            assert (await client.post(f"http://127.0.0.1:{port}/")).error == "connect:refused"

    run(scenario, way=Way(own=httpx.AsyncHTTPTransport(trust_env=False)))


class Stubborn(httpx.AsyncBaseTransport):
    """Does not let itself be cancelled, and does not close."""

    ended = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.3)
        self.ended = True
        return httpx.Response(200)

    async def aclose(self) -> None:
        raise RuntimeError("will not")


def test_a_stubborn_transport_delays_no_outcome(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The deadline is ours to keep, whatever the transport does; stop ends, and says so."""
    own = Stubborn()

    async def scenario(client: Client) -> None:
        outcome = await client.post("http://127.0.0.1/", timeout=0.1)
        assert outcome.error == "timeout"
        assert not own.ended

    run(scenario, way=Way(own=own))
    assert "the transport did not close: RuntimeError" in caplog.text


def test_an_authority_that_would_be_ignored_is_refused(ca_file: str) -> None:
    """`tls.ca_file` beside a transport of the user's own is an error, not a false promise."""
    with pytest.raises(ConfigurationError, match=r"^tls\.ca_file: does not reach"):
        HttpxTransport(
            Guard([]), Names(), max_connections=1, ca_file=ca_file, way=Way(own=Recording())
        )


# --- the self-test -----------------------------------------------------------------------------


class Broken(Guard):
    """A guard whose judgement of addresses does not work."""

    def address(self, address: IPAddress) -> None:
        return None


@pytest.mark.parametrize(
    ("way", "who"),
    [(Way(proxy="http://127.0.0.1:1"), "the proxy"), (Way(own=Recording()), "the transport")],
)
def test_a_warning_says_when_the_guard_covers_less(
    run: Any, caplog: pytest.LogCaptureFixture, way: Way, who: str
) -> None:
    """With others dialling, our own look-up is tested, and a warning names who dials."""

    async def passes(client: Client) -> None:
        await client.transport.self_test()

    async def fails(client: Client) -> None:
        with pytest.raises(SecurityError, match=r"127\.0\.0\.1 would be dialled"):
            await client.transport.self_test()

    with caplog.at_level(logging.WARNING):
        run(passes, guard=Guard.from_names(LOOPBACK), way=way)
    assert f"what is dialled is up to {who}" in caplog.text
    run(fails, guard=Broken(Guard.from_names(LOOPBACK).validators), way=way)


def test_nothing_is_warned_of_where_the_guard_covers_all(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """httpx on its own is guarded at every connect, so there is nothing to warn of."""

    async def scenario(client: Client) -> None:
        await client.transport.self_test()

    run(scenario, guard=Guard.from_names(LOOPBACK), way=Way(http2=True))
    assert caplog.text == ""
