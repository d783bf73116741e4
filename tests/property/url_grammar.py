"""URLs that lead to this machine, or pretend not to: a grammar of every known way to hide a host.

`PORT` stands for the port of a canary. Half of the hosts are an inner address in some spelling,
the others names; each part of a URL may be bent, and hostile characters stand anywhere.
"""

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from hypothesis import strategies as st

__all__ = ["INNER", "resolved", "urls"]

INNER: Final = (
    *("127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1"),
    *("192.168.0.1", "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16"),
    *("192.0.0.192", "198.18.0.1", "224.0.0.1", "255.255.255.255"),
)
_PUBLIC: Final = ("8.8.8.8", "2606:4700::1111")
_INNER_V6: Final = (
    *("::1", "::", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1"),
    *("2001:db8::1", "100::1", "5f00::1", "3fff::1", "2001:20::1", "4000::1"),
)
_HOSTILE: Final = (
    "\x00\t\r\n \\@#?/:%[];&'\"<>|^`{}~.,_-+!$*()=0xa"
    "\u00ad\u200b\u200d\u2028\u3002\uff0e\uff61\u2460\uff11\u0661\u2100\u212a\uff0f\ufe68\ud800"
    "\U0001f4a9\x7f\x80\xa0\u0130\u1e9e"
)
_WIDE: Final = {ord("0") + digit: 0xFF10 + digit for digit in range(10)}
_CIRCLED: Final = {ord("1") + digit: 0x2460 + digit for digit in range(9)}
_SCHEMES: Final = (
    *("http://", "http://", "http://", "http://", "https://", "HTTP://", "hTTps://"),
    *("http:/", "http:", "//", "", "http:\\\\", "http:///", " http://", "http:// ", "http://\t"),
    *("ftp://", "file://", "gopher://", "javascript:", "unix:", "http+unix://", "ws://"),
)
_USERS: Final = (
    *("", "", "", "", "", "good.example@", "u:p@", "@", "a%2f@", "good.example%40"),
    *("good.example\\@", "good.example#@", "good.example?@", "good.example/@", "good.example;@"),
    *("good.example%00@", "8.8.8.8@", "8.8.8.8:80@", "[::1]@"),
)
_PORTS: Final = (
    *(":PORT", ":PORT", ":PORT", ":PORT", "", ":", ":0", ":00", ":65536", ":0PORT", ":+PORT"),
    *(":-1", ":PORT:PORT", ": PORT", ":PORT ", ":\u0661", ":http", ":PORT\\", ":PORT@x"),
)
_TAILS: Final = (
    *("", "/", "/x", "?x", "#x", "/x?y=z#w", "/\\", "/../", "/%2e%2e/", "//8.8.8.8/"),
    *(
        "@8.8.8.8",
        "#@8.8.8.8/",
        "?@8.8.8.8/",
        "\\@8.8.8.8/",
        "/\u00fc",
        "/ ",
        "/\r\nHost: x",
        "/??",
    ),
)
_NAMES: Final = (
    *("inner.example", "mixed.example", "mapped.example", "translated.example", "nobody.example"),
    *(
        "localhost",
        "LOCALHOST",
        "localhost.",
        "localhost..",
        "loc\u00adalhost",
        "\u24db\u24deocalhost",
    ),
    *("localhost.localdomain", "ip6-localhost", "metadata.google.internal", "metadata", "a.local"),
    *("127.0.0.1.nip.example", "127.0.0.1x", "127.0.0.1.", "127.0.0.1..", "0x7f.1.", "x.127.1"),
    *("xn--", "xn--a", "xn--80ak6aa92e.example", "b\u00fccher.example", "\u212aube.example"),
    *("a" * 64, "a." * 127 + "a", ".", "..", "", "-a.example", "a_b.example", "*.example", "%31"),
    *("good.example%2f", "good.example%00", "127.0.0.1%00.example", "127.0.0.1\x00.example"),
)


def resolved(name: str) -> list[str]:
    """What the resolver of these tests says of a name: always at least one refused address."""
    if name == "mixed.example":
        return ["8.8.8.8", "127.0.0.1"]
    if name == "mapped.example":
        return ["::ffff:127.0.0.1"]
    if name == "translated.example":
        return ["64:ff9b::7f00:1", "2002:7f00:1::"]
    return ["::1", "127.0.0.1"] if len(name) % 2 else ["127.0.0.1"]


def _inner() -> st.SearchStrategy[int]:
    """An inner IPv4 address: of those that matter most, or any of 127, 10, 172.16 or 169.254."""
    known = st.sampled_from([int(IPv4Address(text)) for text in INNER])
    wide = st.sampled_from([0x7F000000, 0x0A000000])
    return st.one_of(
        known,
        st.builds(int.__or__, wide, st.integers(0, 0xFFFFFF)),
        st.builds(int.__or__, st.sampled_from([0xAC100000, 0xA9FE0000]), st.integers(0, 0xFFFF)),
    )


@st.composite
def _ipv4(draw: st.DrawFn) -> str:
    """An inner address in a spelling that some parser, resolver or C library takes."""
    value = draw(_inner())
    parts = draw(st.sampled_from([1, 2, 3, 4, 4, 4]))
    numbers = [value >> 24 & 255, value >> 16 & 255, value >> 8 & 255, value & 255]
    last = sum(number << 8 * place for place, number in enumerate(reversed(numbers[parts - 1 :])))
    written = [*numbers[: parts - 1], last]
    forms = draw(st.lists(st.integers(0, 5), min_size=4, max_size=4))
    plain = draw(st.booleans())
    texts = [
        str(number) if plain else _spelt(number, forms[at]) for at, number in enumerate(written)
    ]
    text = draw(st.sampled_from([".", ".", ".", "\u3002", "\uff0e", "\uff61", "%2e"])).join(texts)
    bent = draw(st.integers(0, 9))
    if bent == 0:
        return text.translate(_WIDE)
    if bent == 1:
        return text.translate(_CIRCLED)
    return text + draw(st.sampled_from(["", "", "", ".", "..", "x", "%00", ".0"]))


def _spelt(number: int, form: int) -> str:
    return (
        str(number),
        f"0{number:o}",
        f"0x{number:x}",
        f"0X{number:X}",
        f"000{number}",
        str(number + 256),
    )[form]


@st.composite
def _ipv6(draw: st.DrawFn) -> str:
    """An inner address of IPv6, or an inner IPv4 one inside, with or without brackets."""
    value = draw(_inner())
    dotted = str(IPv4Address(value))
    high, low = f"{value >> 16:x}", f"{value & 0xFFFF:x}"
    text = draw(
        st.sampled_from(
            [
                *_INNER_V6,
                f"::ffff:{dotted}",
                f"::ffff:{high}:{low}",
                f"::FFFF:{dotted}",
                f"::{dotted}",
                f"::ffff:0:{dotted}",
                f"64:ff9b::{dotted}",
                f"64:ff9b::{high}:{low}",
                f"64:ff9b:1::{high}:{low}",
                f"64:ff9b:1:{high}:{value >> 8 & 0xFF:x}:{(value & 0xFF) << 8:x}::",
                f"2002:{high}:{low}::1",
                f"2001:0:{high}:{low}::1",
                f"2001::{value >> 16 ^ 0xFFFF:x}:{value & 0xFFFF ^ 0xFFFF:x}",
                IPv6Address(f"::ffff:{dotted}").exploded,
            ]
        )
    )
    text += draw(st.sampled_from(["", "", "", "", "%lo", "%25lo", "%1", "/64", "."]))
    form = draw(st.sampled_from(["[{}]", "[{}]", "[{}]", "{}", "[{}", "{}]", "[[{}]]", "[ {}]"]))
    return form.format(text)


@st.composite
def urls(draw: st.DrawFn) -> list[str]:
    """64 URLs, or 128 or 256: most are refused, some are names, a few public addresses.

    Each beginning is put before each host, and each end behind it; the same character is then
    put into the same place of all of them.
    """
    host = st.one_of(_ipv4(), _ipv6(), st.sampled_from(_NAMES), st.sampled_from(_PUBLIC))
    hosts = draw(st.lists(host, min_size=4, max_size=4))
    begins = [draw(st.sampled_from(_SCHEMES)) + draw(st.sampled_from(_USERS)) for _ in range(3)]
    ends = [draw(st.sampled_from(_PORTS)) + draw(st.sampled_from(_TAILS)) for _ in range(3)]
    made = [
        begin + host + end
        for begin in ("http://", *begins)
        for host in hosts
        for end in (":PORT/", *ends)
    ]
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, 40))
        bent = draw(st.sampled_from(_HOSTILE))
        made += [
            text[: at % (len(text) + 1)] + bent + text[at % (len(text) + 1) :] for text in made
        ]
    return made
