"""Which requests may share a connection: of one scheme, host, port, address and TLS identity."""

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.contract.test_transport import LOOPBACK, Client, Names, Scenario, T
from tests.support.receivers import Receiver, closed_port
from thorn_stream.adapters.http import NativeTransport
from thorn_stream.adapters.http.httpx_transport import HttpxTransport
from thorn_stream.core.deliveries import Kind
from thorn_stream.core.subscribers import Subscriber, Tls
from thorn_stream.core.validators import Guard

KINDS: dict[str, Any] = {"native": NativeTransport, "httpx": HttpxTransport}


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest) -> Any:
    def runner(scenario: Scenario[T], names: Names | None = None, **options: Any) -> T:
        async def main() -> T:
            guard = Guard.from_names(LOOPBACK, ["127.0.0.0/8"])
            transport = KINDS[request.param](guard, names or Names(), max_connections=20, **options)
            try:
                return await scenario(Client(transport))
            finally:
                await transport.stop()
                assert transport.open == transport.idle == 0

        return asyncio.run(main())

    return runner


def mortal(transport: Any) -> list[Any]:
    """What has a moment from which on it takes no more requests: connections, or pools of one."""
    if isinstance(transport, HttpxTransport):
        return list(transport._pools._pools.values())
    return list(transport._idle)


def grow_old(transport: Any) -> None:
    """As when a minute has gone by."""
    for one in mortal(transport):
        one.expires = 0.0


def test_http_and_https_share_no_connection(run: Any) -> None:
    """Of one host and port: what is meant for TLS never goes out without it."""

    async def scenario(client: Client) -> None:
        origins = [
            client.transport.target(
                Subscriber(id="a", event=("*",), url=f"{scheme}://127.0.0.1:8443/")
            ).origin
            for scheme in ("http", "https", "http")
        ]
        assert origins[0] is origins[2] is not origins[1]
        assert [origin.context is None for origin in origins] == [True, False, True]

    run(scenario)


def test_a_kept_connection_ends_a_minute_after_it_was_made(run: Any) -> None:
    """Not after it was used: the moment stays the same, however often it is."""

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            began = time.monotonic()
            assert (await client.post(receiver.url("/ok"))).kind is Kind.OK
            [kept] = mortal(client.transport)
            ends = kept.expires
            assert began + 60.0 <= ends <= time.monotonic() + 60.0
            assert (await client.post(receiver.url("/ok"))).kind is Kind.OK
            assert mortal(client.transport) == [kept]
            assert kept.expires == ends

    run(scenario)


def test_hosts_and_ports_share_no_connection(run: Any) -> None:
    """Though two names have one address, and two ports one name."""
    names = Names(a_example=["127.0.0.1"], b_example=["127.0.0.1"])

    async def scenario(client: Client) -> None:
        with Receiver() as first, Receiver() as second:
            for _ in range(2):
                for receiver in (first, second):
                    for host in ("a.example", "b.example", "127.0.0.1"):
                        outcome = await client.post(receiver.url("/ok", host))
                        assert outcome.kind is Kind.OK
            assert (first.connections, second.connections) == (3, 3)

    run(scenario, names)


def test_tls_identities_share_no_connection(
    run: Any, authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    """No certificate, one's own, the same name with other files behind it: each by itself."""
    client_authority = trustme.CA()
    for name in ("one", "two"):
        issued = client_authority.issue_cert(f"{name}.example")
        issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    one = Tls(ca_file=ca_file, cert_file=str(tmp_path / "one.pem"))
    identities = [
        None,
        Tls(ca_file=ca_file),
        one,
        one.stamped("its files were replaced"),
        Tls(ca_file=ca_file, cert_file=str(tmp_path / "two.pem")),
    ]

    async def scenario(client: Client) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        client_authority.configure_trust(context)
        context.verify_mode = ssl.CERT_OPTIONAL
        with Receiver(tls=context) as receiver:
            for _ in range(2):
                for tls in identities:
                    outcome = await client.post(receiver.url("/ok"), tls=tls)
                    assert outcome.kind is Kind.OK
            assert receiver.connections == len(identities)

    run(scenario, ca_file=ca_file)


def test_a_connection_is_kept_for_a_minute_at_most(run: Any) -> None:
    """Then the name is looked up and judged anew, and the new address is dialled."""
    names = Names(turns_example=["127.0.0.1"])

    async def scenario(client: Client) -> None:
        with Receiver() as receiver:
            url = receiver.url("/ok", "turns.example")
            for _ in range(3):
                assert (await client.post(url)).address == "127.0.0.1"
            names.names["turns.example"] = ["10.0.0.1"]
            assert (await client.post(url)).address == "127.0.0.1"  # one that was judged then
            grow_old(client.transport)
            outcome = await client.post(url)
            assert (outcome.error, outcome.address) == ("blocked:block_internal_ips", "10.0.0.1")
            assert receiver.connections == 1
            assert len(names.asked) == 2

    run(scenario, names)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_proxy_of_the_environment_is_used(
    run: Any,
    authority: trustme.CA,
    ca_file: str,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    """Whichever variable names it, in capitals or not."""
    nobody = f"http://127.0.0.1:{closed_port()}"
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, nobody)
        monkeypatch.setenv(name.upper(), nobody)
    context = None
    if scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)

    async def scenario(client: Client) -> None:
        with Receiver(tls=context) as receiver:
            assert (await client.post(receiver.url("/ok"))).kind is Kind.OK

    run(scenario, ca_file=ca_file)
