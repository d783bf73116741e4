"""URLs of strangers: whatever is written, nothing refused is dialled, by either transport."""

import asyncio
import socket
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.property.url_grammar import resolved, urls
from tests.support.canary import LOOPBACK_FORMS, Canary
from tests.support.receivers import wait_until
from thorn_stream.adapters.http import NativeTransport
from thorn_stream.adapters.http.httpx_transport import HttpxTransport
from thorn_stream.core.addresses import GLOBAL_UNICAST, REFUSED_NETWORKS, IPAddress
from thorn_stream.core.deliveries import Attempt, Delivery, Kind, Outcome
from thorn_stream.core.envelope import Envelope
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Partition, Record
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.urls import RecipientUrl, Refusal, parse_url
from thorn_stream.core.validators import Guard

RULES: Final[list[Any]] = [["block_internal_ips"], ["ensure_protocol", ["http", "https"]]]
GUARD: Final = Guard.from_names(RULES)
QUICK: Final = 8
KEPT_SEEDS: Final = range(20)
EXAMPLES_EACH: Final = 600
URLS_EACH: Final = 50_000
AT_ONCE: Final = 500


class Names:
    """Every name leads inward."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def resolve(self, name: str, seconds: float) -> Sequence[IPAddress]:
        self.asked[name] += 1
        return [ip_address(text) for text in resolved(name)]

    def forget(self, name: str) -> None:
        """Nothing is kept."""

    def stop(self) -> None:
        """Nothing to let go of."""


def numeric(host: str) -> str | None:
    """What the C library makes of a host without asking anybody: its address, if it is one."""
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except OSError:
        return None
    return str(found[0][4][0])


def leads_inward(address: IPAddress) -> bool:
    """The table read the slow way, as a witness."""
    rows = [row.network for row in REFUSED_NETWORKS if row.network.version == address.version]
    outside = address.version == 6 and address not in GLOBAL_UNICAST
    return outside or any(address in network for network in rows)


def hold_the_parse_to_account(text: str) -> RecipientUrl | Refusal:
    """A URL is refused, or read as two more parsers read it, and no number hides in its host."""
    url = GUARD.url(text)
    if isinstance(url, Refusal):
        assert url.reason
        assert url.reason.isprintable()
        return url
    assert url.host.isascii()
    assert url.host == url.host.lower()
    assert 0 < url.port < 65536
    assert url.target.startswith("/")
    assert not set(url.target) & set(" \t\r\n\\#")
    normal = f"{url.scheme}://{url.authority}{url.target}"
    again = parse_url(normal)
    assert isinstance(again, RecipientUrl)
    assert (again.host, again.port, again.target) == (url.host, url.port, url.target)
    for other in (urlsplit(text), urlsplit(normal)):
        assert other.username is other.password is None
        assert (other.port or (443 if url.scheme == "https" else 80)) == url.port
    try:
        third = httpx.URL(normal)
    except httpx.InvalidURL:
        third = None  # refused by the transport that uses it
    assert third is None or third.raw_host.decode("ascii") == url.host
    found = numeric(url.host)
    if url.address is None:
        assert found is None, f"{url.host} is {found} to the C library"
    else:
        assert found == str(url.address)
        assert not leads_inward(url.address)
    return url


def attempt(transport: Any, text: str, ended: "asyncio.Future[Outcome]") -> Attempt:
    record = Record("orders", 0, 0, None, b"{}", [], 0)
    # built past its own checks: the guard must hold whoever makes one
    subscriber = Subscriber.model_construct(id="one", event=("*",), url=text, tls=None)
    entry = Entry(Ledger(Partition("orders", 0), 0, 100, Tally()), 0, 1)
    delivery = Delivery(Envelope("order.created", "1", record), subscriber, "d", entry)
    target = transport.target(subscriber)
    return Attempt(
        delivery,
        target,
        b"",
        b"{}",
        60.0,
        False,
        lambda _, outcome: ended.set_result(outcome),
        None,
    )


async def send(transport: Any, text: str) -> Outcome:
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    transport.send(attempt(transport, text, ended))
    return await ended


async def send_all(kind: Any, texts: Sequence[str]) -> Counter[str]:
    """Ask a running transport for each; every one must be refused, by a validator or the parse."""
    transport = kind(GUARD, Names(), max_connections=100)
    await transport.self_test()
    told: Counter[str] = Counter()
    try:
        for start in range(0, len(texts), AT_ONCE):
            some = texts[start : start + AT_ONCE]
            outcomes = await asyncio.gather(*(send(transport, text) for text in some))
            for text, outcome in zip(some, outcomes, strict=True):
                assert outcome.kind is Kind.BLOCKED, (text, outcome)
                told[outcome.detail] += 1
        assert transport.connects == 0
    finally:
        await transport.stop()
    return told


def dial(texts: Sequence[str]) -> tuple[int, int]:
    """Both transports are asked for every URL; connections and dials that the canary saw."""
    with Canary() as canary:
        here = [text.replace("PORT", str(canary.port)) for text in texts]
        for kind in (NativeTransport, HttpxTransport):
            told = asyncio.run(send_all(kind, here))
            assert told.total() == len(texts)
        canary.settle()
        # what the canary itself dialled to settle is not told: it is in no transport's name
        return canary.connections, len(canary.dialled) - 1


class Tried:
    """URLs that were made, and those that are to be asked for."""

    def __init__(self) -> None:
        self.total = 0  # URLs, each of which had another text
        self.refused = 0
        self.public = 0
        self.texts: dict[str, None] = {}
        self._seen: set[str] = set()

    def __call__(self, text: str) -> None:
        if text in self._seen:
            return
        self._seen.add(text)
        self.total += 1
        url = hold_the_parse_to_account(text.replace("PORT", "8081"))
        if isinstance(url, Refusal):
            self.refused += 1
            if len(self.texts) < 2_000:
                self.texts[text] = None
        elif url.address is not None:
            self.public += 1  # really public, by the witness: nobody dials it in a test
        else:
            self.texts[text] = None


def fuzz(number: int, examples: int, tried: Tried) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(urls())
    def each(texts: list[str]) -> None:
        for text in texts:
            tried(text)

    each()


def test_no_url_leads_inward() -> None:
    """Of hundreds of hostile URLs none is misread, and none makes either transport dial."""
    tried = Tried()
    fuzz(2026, QUICK, tried)
    assert tried.total >= 300
    assert tried.refused > tried.total // 4
    assert dial(list(tried.texts)) == (0, 0)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", KEPT_SEEDS)
def test_a_million_urls_lead_nowhere(number: int) -> None:
    """The same for 50,000 unlike URLs, and as many for each of 20 beginnings of kept seeds."""
    tried = Tried()
    rounds = 0
    while tried.total < URLS_EACH:
        fuzz(number * 1000 + rounds, EXAMPLES_EACH, tried)
        rounds += 1
    seen = dial(list(tried.texts))
    print(
        f"seeds {number}000 to {number}{rounds - 1:03}: {tried.total} URLs, "
        f"{tried.refused} refused before any look-up, {tried.public} public, "
        f"{len(tried.texts)} asked of both transports, canary {seen}"
    )
    assert tried.total >= URLS_EACH
    assert seen == (0, 0)


def test_the_canary_sings() -> None:
    """Every form of this machine's own address reaches it, and the hook sees each dial."""
    with Canary() as canary:
        forms = [form for form in LOOPBACK_FORMS if canary.ipv6 or ":" not in form]
        for form in forms:
            socket.create_connection((form, canary.port), 30).close()
        wait_until(lambda: canary.connections == len(forms), 30)
        assert canary.dialled == forms
