"""A recipient's URL, parsed once and strictly, before any name is looked up.

Whatever two programs could read in two ways is refused. The resolver and the sockets below it take
many spellings of an address (`127.1`, `0x7f.1`, `2130706433`, full-width digits), so a host is
either a strict dotted quad, an IPv6 address in brackets, or a name whose last part is no number.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final
from urllib.parse import urlsplit

import idna

from thorn_stream.core.addresses import IPAddress

__all__ = ["RecipientUrl", "Refusal", "parse_url"]

LONGEST_URL: Final = 2048
LONGEST_NAME: Final = 253

_PORTS: Final = {"http": 80, "https": 443}
_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)"
    r"(?P<query>\?[^#]*)?(?:#.*)?"
)
_AUTHORITY: Final = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?P<port>:.*)?")
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f\\]")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_DOTTED_QUAD: Final = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A recipient that is refused: the rule's name (a metric label), and why, in one line."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class RecipientUrl:
    """A URL that may be delivered to, in its parts.

    `host` is ASCII, lower case, without brackets or a final dot; `address` is there when it is an
    IP address; `target` is the request target: path and query, percent-encoded ASCII.
    """

    text: str
    scheme: str
    host: str
    address: IPAddress | None
    port: int
    target: str

    @property
    def authority(self) -> str:
        """As in the `Host` header (RFC 9110, section 7.2): the port unless it is the scheme's."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(text: str) -> RecipientUrl | Refusal:
    """Parse a recipient's URL; never raises.

    Refused: anything but `http://` and `https://`, control characters, spaces, backslashes, user
    and password, a missing host, ports outside 1 to 65535, hosts that are numbers in any spelling
    but a dotted quad, scope ids, names that are no host names. A fragment is dropped.
    """
    if len(text) > LONGEST_URL:
        return _refuse(f"the URL is longer than {LONGEST_URL} characters")
    if _FORBIDDEN.search(text):
        return _refuse("spaces, control characters and backslashes are not allowed")
    match = _URL.fullmatch(text)
    if match is None:
        return _refuse("write it in full, like https://host/path")
    scheme = match["scheme"].lower()
    if scheme not in _PORTS:
        return Refusal("ensure_protocol", f"{scheme}: only http and https can be delivered to")
    if "@" in match["authority"]:
        return _refuse("user and password are not allowed; use `headers`")
    authority = _AUTHORITY.fullmatch(match["authority"])
    if authority is None or not authority["host"]:
        return _refuse("the host is missing or not written properly")
    port = _port(authority["port"], scheme)
    if port is None:
        return _refuse("the port must be a number from 1 to 65535")
    host = _host(authority["host"])
    if isinstance(host, Refusal):
        return host
    name, address = host
    target = _encoded((match["path"] or "/") + (match["query"] or ""))
    url = RecipientUrl(text, scheme, name, address, port, target)
    if not _agrees(url, match["authority"]):  # pragma: no cover - no such URL is known
        return _refuse("it can be read in two ways; write it plainly")
    return url


def _refuse(reason: str) -> Refusal:
    return Refusal("url", reason)


def _port(text: str | None, scheme: str) -> int | None:
    if text is None:
        return _PORTS[scheme]
    digits = text[1:]
    if not re.fullmatch(r"[0-9]{1,5}", digits) or not 0 < int(digits) < 65536:
        return None
    return int(digits)


def _host(text: str) -> tuple[str, IPAddress | None] | Refusal:
    if text.startswith("["):
        return _ipv6(text[1:-1])
    name = text
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True, transitional=False).decode("ascii")
        except idna.IDNAError:
            return _refuse("the host is not a name that can be encoded (UTS 46)")
        if _NUMBER.fullmatch(name.removesuffix(".").rpartition(".")[2]):
            return _refuse("an address is written in ASCII digits")
    name = name.removesuffix(".").lower()
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return _ipv4(name)
    if len(name) > LONGEST_NAME or not all(_LABEL.fullmatch(part) for part in name.split(".")):
        return _refuse("the host is not a host name (RFC 1123)")
    return name, None


def _ipv4(text: str) -> tuple[str, IPAddress] | Refusal:
    try:
        if _DOTTED_QUAD.fullmatch(text):
            return text, IPv4Address(text)
    except AddressValueError:
        pass
    return _refuse("an IPv4 address is written as four decimal numbers, like 192.0.2.1")


def _ipv6(text: str) -> tuple[str, IPAddress] | Refusal:
    if "%" in text:
        return _refuse("an IPv6 address with a scope id is not allowed")
    try:
        address = IPv6Address(text)
    except AddressValueError:
        return _refuse("what stands in brackets must be an IPv6 address")
    return address.compressed, address


def _agrees(url: RecipientUrl, authority: str) -> bool:
    """Whether a second parser, the standard library's, finds the same.

    In what was written, and in every part of what will be sent.
    """
    try:
        written = urlsplit(url.text)
        sent = urlsplit(f"{url.scheme}://{url.authority}{url.target}")
        port = sent.port or _PORTS[url.scheme]
    except ValueError:  # pragma: no cover - what it refuses is refused before
        return False
    path, _, query = url.target.partition("?")
    return (
        (written.scheme, written.netloc) == (url.scheme, authority)
        and (sent.scheme, sent.hostname, port) == (url.scheme, url.host, url.port)
        and (sent.path, sent.query) == (path, query)
    )


def _encoded(target: str) -> str:
    """Percent-encode what is not ASCII (RFC 3987, section 3.1) or not allowed in a target."""
    return "".join(
        character
        if character.isascii() and character not in '"<>`{}|^'
        else "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
        for character in target
    )
