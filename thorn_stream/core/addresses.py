"""The table of refused networks, each row with its source, and how an address is judged by it.

The table is spelt out rather than asked of `ipaddress`: what its `is_private` and `is_global` say
changes between Python versions, and they let through shared address space (RFC 6598), NAT64,
multicast and the hosts that clouds keep at public addresses.

An IPv6 address that carries an IPv4 address inside is judged by both, so that no translator or
tunnel on the way leads to a refused one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)
from typing import Final, TypeAlias

__all__ = [
    "GLOBAL_UNICAST",
    "REFUSED_NETWORKS",
    "IPAddress",
    "IPNetwork",
    "RefusedNetwork",
    "embedded",
    "refused_as",
]

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class RefusedNetwork:
    """One row: a network that is refused, what it is, and who says so."""

    network: IPNetwork
    name: str
    source: str


def _row(network: str, name: str, source: str) -> RefusedNetwork:
    return RefusedNetwork(ip_network(network), name, source)


GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""The only part of IPv6 that IANA has given out for global unicast (RFC 4291, section 2.4)."""

REFUSED_NETWORKS: Final = (
    # Cloud hosts first: the first row that holds names the refusal.
    _row("169.254.169.254/32", "cloud metadata", "AWS, Azure, Google Cloud, OpenStack"),
    _row("169.254.170.2/32", "container credentials", "AWS ECS"),
    _row("169.254.170.23/32", "pod credentials", "AWS EKS"),
    _row("100.100.100.200/32", "cloud metadata", "Alibaba Cloud"),
    _row("192.0.0.192/32", "cloud metadata", "Oracle Cloud"),
    _row("168.63.129.16/32", "cloud host service", "Azure"),
    _row("fd00:ec2::254/128", "cloud metadata", "AWS"),
    _row("fd00:ec2::23/128", "pod credentials", "AWS EKS"),
    _row("fd20:ce::254/128", "cloud metadata", "Google Cloud"),
    # IANA IPv4 Special-Purpose Address Registry, and multicast.
    _row("0.0.0.0/8", "this network", "RFC 791, section 3.2"),
    _row("10.0.0.0/8", "private use", "RFC 1918"),
    _row("100.64.0.0/10", "shared address space", "RFC 6598"),
    _row("127.0.0.0/8", "loopback", "RFC 1122, section 3.2.1.3"),
    _row("169.254.0.0/16", "link local", "RFC 3927"),
    _row("172.16.0.0/12", "private use", "RFC 1918"),
    _row("192.0.0.0/24", "IETF protocol assignments", "RFC 6890, section 2.1"),
    _row("192.0.2.0/24", "documentation", "RFC 5737"),
    _row("192.31.196.0/24", "AS112", "RFC 7535"),
    _row("192.52.193.0/24", "automatic multicast tunnels", "RFC 7450"),
    _row("192.88.99.0/24", "6to4 relay", "RFC 7526"),
    _row("192.168.0.0/16", "private use", "RFC 1918"),
    _row("192.175.48.0/24", "AS112", "RFC 7534"),
    _row("198.18.0.0/15", "benchmarking", "RFC 2544"),
    _row("198.51.100.0/24", "documentation", "RFC 5737"),
    _row("203.0.113.0/24", "documentation", "RFC 5737"),
    _row("224.0.0.0/4", "multicast", "RFC 1112, section 4"),
    _row("255.255.255.255/32", "broadcast", "RFC 919, section 7"),
    _row("240.0.0.0/4", "reserved", "RFC 1112, section 4"),
    # IANA IPv6 Special-Purpose Address Registry, multicast, and what was given up.
    _row("::/128", "unspecified", "RFC 4291"),
    _row("::1/128", "loopback", "RFC 4291"),
    _row("::/96", "IPv4-compatible", "RFC 4291, section 2.5.5.1"),
    _row("64:ff9b::/96", "NAT64", "RFC 6052"),
    _row("64:ff9b:1::/48", "local NAT64", "RFC 8215"),
    _row("100::/64", "discard", "RFC 6666"),
    _row("100:0:0:1::/64", "dummy prefix", "RFC 9780"),
    _row("2001::/32", "Teredo", "RFC 4380"),
    _row("2001:2::/48", "benchmarking", "RFC 5180"),
    _row("2001:10::/28", "ORCHID", "RFC 4843"),
    _row("2001:20::/28", "ORCHIDv2", "RFC 7343"),
    _row("2001::/23", "IETF protocol assignments", "RFC 2928"),
    _row("2001:db8::/32", "documentation", "RFC 3849"),
    _row("2002::/16", "6to4", "RFC 3056"),
    _row("2620:4f:8000::/48", "AS112", "RFC 7534"),
    _row("3fff::/20", "documentation", "RFC 9637"),
    _row("5f00::/16", "segment routing", "RFC 9602"),
    _row("fc00::/7", "unique local", "RFC 4193"),
    _row("fe80::/10", "link local", "RFC 4291"),
    _row("fec0::/10", "site local", "RFC 3879"),
    _row("ff00::/8", "multicast", "RFC 4291"),
)

_Row: TypeAlias = tuple[int, int, str]


def _numbers(version: int) -> tuple[_Row, ...]:
    """The table as (network, mask, name) in integers: judged at every connect."""
    return tuple(
        (int(row.network.network_address), int(row.network.netmask), row.name)
        for row in REFUSED_NETWORKS
        if row.network.version == version
    )


_V4: Final = _numbers(4)
_V6: Final = _numbers(6)
_NAT64: Final = IPv6Network("64:ff9b::/96")
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
_COMPATIBLE: Final = IPv6Network("::/96")
_LOW_32: Final = 0xFFFF_FFFF


def embedded(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """IPv4 addresses that a translator or tunnel would take out of this one.

    IPv4-compatible and mapped (RFC 4291), 6to4 (RFC 3056), Teredo (RFC 4380: server and client),
    NAT64 (RFC 6052), local NAT64 (RFC 8215: read at /48, and at /96).
    """
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    value = int(address)
    if address in _NAT64 or (address in _COMPATIBLE and value > 1):
        return (IPv4Address(value & _LOW_32),)
    if address in _LOCAL_NAT64:
        at_48 = (value >> 64 & 0xFFFF) << 16 | (value >> 40 & 0xFFFF)
        at_96 = value & _LOW_32
        # Where one layout is in use, what the other reads is zero.
        return tuple(IPv4Address(found) for found in (at_48, at_96) if found)
    return ()


def refused_as(address: IPAddress, allowed: Sequence[IPNetwork] = ()) -> str | None:
    """Say what this address is when it is refused; None when it may be dialled.

    `allowed` lets through what lies in it, and nothing else: an IPv4 address inside an allowed
    IPv6 one is judged by itself. A scope id is always refused.
    """
    if isinstance(address, IPv4Address):
        return _judge(address, _V4, allowed)
    if address.scope_id is not None:
        return "scoped address"
    mapped = address.ipv4_mapped
    if mapped is not None:
        return _judge(mapped, _V4, allowed)
    refused = _judge(address, _V6, allowed)
    for inner in embedded(address) if refused is None else ():
        refused = refused or _judge(inner, _V4, allowed)
    return refused


def _judge(address: IPAddress, rows: Sequence[_Row], allowed: Sequence[IPNetwork]) -> str | None:
    value = int(address)
    name = next((name for network, mask, name in rows if value & mask == network), None)
    if name is None and address.version == 6 and address not in GLOBAL_UNICAST:
        name = "not global unicast"
    if name is None or any(address in network for network in allowed):
        return None
    return name
