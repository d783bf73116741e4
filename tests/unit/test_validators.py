"""Validators, the guard made of them, and every spelling of a URL that must not get through."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thorn_stream.core.addresses import IPAddress
from thorn_stream.core.errors import ConfigurationError, SecurityError
from thorn_stream.core.urls import RecipientUrl, Refusal, parse_url
from thorn_stream.validators import (
    Guard,
    Validator,
    block_cidr_network,
    block_internal_ips,
    ensure_port,
    ensure_protocol,
)

DEFAULT: list[Any] = [
    ["block_internal_ips"],
    ["ensure_protocol", ["http", "https"]],
    ["ensure_port", [80, 443]],
]


def parsed(text: str) -> RecipientUrl:
    url = parse_url(text)
    assert isinstance(url, RecipientUrl), url
    return url


@pytest.mark.parametrize(
    "url",
    [
        # an address in a spelling that resolvers take
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://127.0.0.01/",
        "http://0/",
        "http://0x/",
        "http://1.2.3.4.5/",
        "http://256.1.1.1/",
        "http://example.1/",
        # unicode digits and dots
        "http://\u2460\u2461\u2466.\u2460/",
        "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11/",
        "http://127\u30020\u30020\u30021/",
        "http://127\uff0e0\uff0e0\uff0e1/",
        "http://exa\u2028mple.com/",
        "http://good.example\uff0f@127.0.0.1/",
        "http://good.example\u2100.com/",
        # control characters, spaces, backslashes
        "http://127.0.0.1\x00.example.com/",
        "http://127.0.0.1:80\t/",
        "http://example.com/\r\nHost: evil",
        "http://exa\nmple.com/",
        " http://example.com/",
        "http://example.com/a b",
        "http://good.example\\@127.0.0.1/",
        "http:\\\\example.com/",
        "http://example.com/a\\b",
        "http://example.com/?\\",
        "http://example.com/#\\",
        # user and password
        "http://good.example@127.0.0.1/",
        "http://a%2f@127.0.0.1/",
        "http://user:secret@example.com/",
        "http://@example.com/",
        # ports
        "http://example.com:/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:-1/",
        "http://example.com:+80/",
        "http://example.com:8 0/",
        "http://example.com:\u0661/",
        "http://example.com:80:80/",
        "http://example.com:http/",
        # IPv6
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%lo]/",
        "http://[::1/",
        "http://::1/",
        "http://[]/",
        "http://[1.2.3.4]/",
        "http://[::1]x/",
        "http://[v1.abc]/",
        # scheme and shape
        "http:127.0.0.1",
        "http:/127.0.0.1",
        "http:///path",
        "//127.0.0.1/",
        "127.0.0.1",
        "",
        "unix:/var/run/docker.sock",
        "http+unix://%2Fvar%2Frun/x",
        "http://",
        "http://?query",
        "http://#fragment",
        # names
        "http://.../",
        "http://./",
        "http://a..b/",
        "http://example.com../",
        "http://.example.com/",
        "http://-a.example/",
        "http://a-.example/",
        "http://%31%32%37.0.0.1/",
        "http://exa$mple.com/",
        f"http://{'a' * 64}.example/",
        f"http://{'a.' * 127}example/",
        f"http://example.com/{'x' * 2048}",
    ],
)
def test_a_url_that_can_be_misread_is_refused_before_any_look_up(url: str) -> None:
    """Every known way to smuggle a host past a parser is refused by the parse itself."""
    refusal = parse_url(url)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.reason
    assert "secret" not in refusal.reason


@pytest.mark.parametrize("scheme", ["ftp", "file", "gopher", "ws", "HTTPX", "http+unix"])
def test_other_schemes_are_refused_under_the_rule_that_is_meant(scheme: str) -> None:
    """What is neither http nor https is refused as `ensure_protocol` would."""
    refusal = parse_url(f"{scheme}://example.com/")
    assert isinstance(refusal, Refusal)
    assert refusal.rule == "ensure_protocol"


@pytest.mark.parametrize(
    ("text", "host", "port", "target", "authority"),
    [
        ("http://example.com", "example.com", 80, "/", "example.com"),
        ("HTTPS://EXAMPLE.com./a?b=c#d", "example.com", 443, "/a?b=c", "example.com"),
        ("http://example.com:8080?x", "example.com", 8080, "/?x", "example.com:8080"),
        ("https://example.com:80/", "example.com", 80, "/", "example.com:80"),
        ("http://good.example#@127.0.0.1", "good.example", 80, "/", "good.example"),
        ("http://good.example?@127.0.0.1", "good.example", 80, "/?@127.0.0.1", "good.example"),
        ("http://my_service.ns.svc/", "my_service.ns.svc", 80, "/", "my_service.ns.svc"),
        ("http://b\u00fccher.example/\u00fc", "xn--bcher-kva.example", 80, "/%C3%BC", None),
        ("http://loc\u00adalhost/", "localhost", 80, "/", "localhost"),
        ("http://[2606:4700:0::1111]:81/", "2606:4700::1111", 81, "/", "[2606:4700::1111]:81"),
        ("http://8.8.8.8/<a>", "8.8.8.8", 80, "/%3Ca%3E", "8.8.8.8"),
        ("http://8.8.8.8./", "8.8.8.8", 80, "/", "8.8.8.8"),
        ("http://1e100.net/", "1e100.net", 80, "/", "1e100.net"),
        ("http://example.com/\ud800", "example.com", 80, "/%ED%A0%80", "example.com"),
    ],
)
def test_a_plain_url_is_taken_apart(
    text: str, host: str, port: int, target: str, authority: str | None
) -> None:
    """Host, port, request target and Host header come out in one normal form."""
    url = parsed(text)
    assert (url.host, url.port, url.target) == (host, port, target)
    assert url.authority == (authority or host)


@given(st.text(alphabet="htps:/@[]%.0127ax#?\\ \t\u2460\uff0e\u3002-_", max_size=40))
def test_parsing_never_raises_and_gives_only_plain_hosts(tail: str) -> None:
    """Whatever comes after http://, the answer is a refusal or an ASCII host and target."""
    url = parse_url(f"http://{tail}")
    if isinstance(url, RecipientUrl):
        assert url.host.isascii()
        assert url.target.isascii()
        assert not set(url.host) & set(" \t\\@/?#%")
        last = url.host.rpartition(".")[2]
        assert url.address is not None or not last.isdigit()


@pytest.mark.parametrize(
    ("validator", "good", "bad"),
    [
        (ensure_protocol("https"), "https://example.com", "http://example.com"),
        (ensure_protocol("HTTPS://"), "https://example.com", "http://example.com"),
        (ensure_port(80, "8080"), "http://example.com:8080", "http://example.com:81"),
        (ensure_port(443), "https://example.com", "http://example.com"),
        (block_internal_ips(), "http://8.8.8.8", "http://127.0.0.1"),
        (block_internal_ips(), "http://inner.example", "http://[::1]:9092"),
        (block_internal_ips(), "http://localhost", "http://metadata.google.internal"),
        (block_internal_ips(allowed=["10.1.0.0/16"]), "http://10.1.2.3", "http://10.2.0.1"),
        (block_cidr_network("8.8.8.0/24"), "http://8.8.4.4", "http://8.8.8.8"),
        (block_cidr_network("8.8.8.0/24"), "http://8.8.4.4", "http://[::ffff:8.8.8.8]"),
    ],
)
def test_a_validator_is_called_with_a_url_as_thorns_were(
    validator: Validator, good: str, bad: str
) -> None:
    """It is silent or raises SecurityError, naming itself; a broken URL is refused too."""
    validator(good)
    with pytest.raises(SecurityError, match=validator.name):
        validator(bad)
    with pytest.raises(SecurityError, match="url"):
        validator("nonsense")
    assert validator.name in repr(validator)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ensure_protocol("ftp"),
        ensure_protocol,
        ensure_port,
        lambda: ensure_port(0),
        lambda: ensure_port(65536),
        lambda: ensure_port(True),
        lambda: ensure_port("http"),
        block_cidr_network,
        lambda: block_cidr_network("10.0.0.1/8"),
        lambda: block_cidr_network("10.0.0.0/33"),
        lambda: block_cidr_network(10),  # type: ignore[arg-type]  # that is the mistake
        lambda: block_internal_ips(allowed="10.0.0.0/8"),
    ],
)
def test_wrong_arguments_are_refused_when_a_validator_is_made(wrong: Callable[[], object]) -> None:
    """A validator that could not do what was meant is never made."""
    with pytest.raises(ValueError, match=r"."):
        wrong()


def test_the_default_guard_names_the_rule_that_refuses() -> None:
    """The first rule that refuses a URL or an address gives its name."""
    guard = Guard.from_names(DEFAULT)
    for text, rule in (
        ("http://127.0.0.1/", "block_internal_ips"),
        ("http://[::ffff:10.0.0.1]/", "block_internal_ips"),
        ("http://example.com:8080/", "ensure_port"),
        ("http://127.1/", "url"),
    ):
        refusal = guard.url(text)
        assert isinstance(refusal, Refusal)
        assert refusal.rule == rule
    assert isinstance(guard.url("https://example.com/"), RecipientUrl)
    refused = guard.address(ip_address("10.0.0.1"))
    assert refused is not None
    assert refused.rule == "block_internal_ips"
    assert "allowed_networks" in refused.reason
    assert guard.address(ip_address("8.8.8.8")) is None


def test_a_scope_id_is_refused_whatever_the_rules_are() -> None:
    """Without any rule, an address that chooses a network card is refused all the same."""
    refusal = Guard([]).address(ip_address("2606:4700::1111%eth0"))
    assert refusal is not None
    assert refusal.rule == "url"
    assert Guard([]).address(ip_address("2606:4700::1111")) is None


def test_allowed_networks_open_addresses_but_no_ports_and_no_protocols() -> None:
    """`allowed_networks` speaks to `block_internal_ips` alone."""
    guard = Guard.from_names(
        [*DEFAULT, ["block_cidr_network", ["10.20.1.0/24"]]], ["10.20.0.0/16", "169.254.0.0/16"]
    )
    assert isinstance(guard.url("http://10.20.3.4/"), RecipientUrl)
    for text, rule in (
        ("http://10.20.3.4:8080/", "ensure_port"),
        ("http://10.20.1.4/", "block_cidr_network"),
        ("http://10.21.0.1/", "block_internal_ips"),
        ("http://metadata.google.internal/", "block_internal_ips"),
    ):
        refusal = guard.url(text)
        assert isinstance(refusal, Refusal)
        assert refusal.rule == rule
    assert guard.refuses(ip_address("127.0.0.1"))
    assert not guard.refuses(ip_address("10.20.0.1"))


def not_on_mondays(url: str) -> bool | None:
    return False if "monday" in url else None


def out_of_order(url: str) -> None:
    raise ZeroDivisionError


def says_why(url: str) -> None:
    raise SecurityError("not this one")


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (not_on_mondays, "refused"),
        (out_of_order, "it failed with ZeroDivisionError"),
        (says_why, "not this one"),
    ],
)
def test_a_function_of_the_users_own_is_a_validator(
    own: Callable[[str], object], reason: str
) -> None:
    """False, SecurityError and anything else it raises refuse, under the function's name."""
    guard = Guard.from_names([["ensure_port", [80]], own])
    refusal = guard.url("http://monday.example/")
    assert refusal == Refusal(own.__name__, reason)


async def answers_too_late(url: str) -> bool:
    return False


def test_a_coroutine_function_refuses_everything() -> None:
    """Nobody would wait for what it says, so it passes nothing and says how to write it."""
    refusal = Guard([answers_too_late]).url("http://a.example/")
    assert refusal == Refusal("answers_too_late", "it is asynchronous; write it with def")


class Office(Validator):
    """Judges addresses, and has no name of its own."""

    def __init__(self, said: object) -> None:
        self.said = said

    def address(self, address: IPAddress) -> Any:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("not from here", "not from here"),
        (False, "refused"),
        (True, "refused"),
        (SecurityError("two\nlines"), "two lines"),
        (ZeroDivisionError("secret"), "it failed with ZeroDivisionError"),
    ],
)
def test_a_rule_of_the_users_own_that_judges_addresses_stays_shut(
    said: object, reason: str
) -> None:
    """Whatever it says but None, and whatever it raises, refuses under its class's name."""
    guard = Guard([Office(said)])
    assert guard.address(ip_address("8.8.8.8")) == Refusal("Office", reason)
    assert guard.url("http://8.8.8.8/") == Refusal("Office", reason)
    assert isinstance(guard.url("http://a.example/"), RecipientUrl)
    assert Guard([Office(None)]).address(ip_address("8.8.8.8")) is None
    assert repr(Office(None)) == "Office()"


class Call(Validator):
    def __call__(self, url: str) -> Any:
        return False if "monday" in url else None


class Url(Validator):
    name = "url_of_ours"

    def url(self, url: RecipientUrl) -> str | None:
        raise LookupError


def test_a_rule_of_the_users_own_is_asked_as_it_is_written() -> None:
    """One that says how it is called is called; one that judges URLs may fail, and refuses."""
    guard = Guard([Call()])
    assert guard.url("http://monday.example/") == Refusal("Call", "refused")
    assert isinstance(guard.url("http://a.example/"), RecipientUrl)
    refusal = Guard([Url()]).url("http://a.example/")
    assert refusal == Refusal("url_of_ours", "it failed with LookupError")


@pytest.mark.parametrize(
    "address", ["::ffff:10.1.2.3", "64:ff9b::a01:203", "64:ff9b:1::a01:203", "2002:a01:203::1"]
)
def test_a_blocked_network_is_blocked_inside_ipv6_as_well(address: str) -> None:
    """Without `block_internal_ips`, or with IPv6 allowed: an embedded address is judged by it."""
    for rules, allowed in (([], []), ([["block_internal_ips"]], ["::/0", "10.0.0.0/8"])):
        open_guard = Guard.from_names(rules, allowed)
        assert open_guard.address(ip_address(address)) is None
        guard = open_guard.plus([block_cidr_network("10.1.0.0/16")])
        refusal = guard.address(ip_address(address))
        assert refusal is not None
        assert refusal.rule == "block_cidr_network"


def test_an_answer_that_is_not_exactly_false_passes() -> None:
    """Only False refuses: None, 0 and '' do not."""
    answers: list[object] = [None, 0, "", True]

    def next_answer(url: str) -> object:
        return answers.pop()

    guard = Guard([next_answer])
    while answers:
        assert isinstance(guard.url("http://a.example/"), RecipientUrl)


def test_more_rules_can_only_refuse_more() -> None:
    """What an event adds is asked as well, never in place of the dispatcher's own rules."""
    guard = Guard.from_names(DEFAULT).plus([ensure_port(443), block_internal_ips(allowed=["::/0"])])
    refusal = guard.url("http://example.com/")
    assert isinstance(refusal, Refusal)
    assert refusal.rule == "ensure_port"
    assert guard.address(ip_address("::1")) is not None


def test_all_mistakes_are_named_at_once_with_their_places() -> None:
    """One error lists every wrong rule, where it stands, and what is there instead."""
    rules: list[Any] = [
        ["ensure_prot", ["http"]],
        ["ensure_port", ["x"]],
        ["block_internal_ips", ["10.0.0.0/8"]],
        "ensure_port",
        ["ensure_port", 80],
        ["ensure_port", [80]],
        [7],
    ]
    with pytest.raises(ConfigurationError) as caught:
        Guard.from_names(rules, ["10.0.0.1/8"], place="thorn-validators")
    text = str(caught.value)
    for number in (0, 1, 2, 3, 4, 6):
        assert f"thorn-validators[{number}]" in text
    assert "thorn-validators[5]" not in text
    assert "allowed_networks" in text
    assert "there are block_internal_ips" in text
