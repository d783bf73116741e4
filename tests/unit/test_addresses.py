"""The table of refused networks, row by row, and what is taken out of embedded addresses."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thorn_stream.core.addresses import (
    GLOBAL_UNICAST,
    REFUSED_NETWORKS,
    RefusedNetwork,
    embedded,
    refused_as,
)

PUBLIC = ("8.8.8.8", "1.1.1.1", "192.0.1.255", "172.32.0.1", "100.128.0.1", "2606:4700::1111")
LOOPBACK = int(IPv4Address("127.0.0.1"))
METADATA = int(IPv4Address("169.254.169.254"))


@pytest.mark.parametrize("row", REFUSED_NETWORKS, ids=lambda row: str(row.network))
def test_every_row_is_refused_from_its_first_address_to_its_last(row: RefusedNetwork) -> None:
    """The first and the last address of every network in the table are refused."""
    assert refused_as(row.network.network_address)
    assert refused_as(row.network.broadcast_address)
    assert row.name
    assert row.source


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("127.0.0.1", "loopback"),
        ("10.1.2.3", "private use"),
        ("172.31.255.255", "private use"),
        ("192.168.0.1", "private use"),
        ("169.254.169.254", "cloud metadata"),
        ("169.254.170.2", "container credentials"),
        ("169.254.0.1", "link local"),
        ("0.0.0.0", "this network"),
        ("100.64.0.1", "shared address space"),
        ("100.100.100.200", "cloud metadata"),
        ("168.63.129.16", "cloud host service"),
        ("192.0.0.192", "cloud metadata"),
        ("192.0.0.8", "IETF protocol assignments"),
        ("192.88.99.1", "6to4 relay"),
        ("198.19.0.1", "benchmarking"),
        ("203.0.113.7", "documentation"),
        ("224.0.0.1", "multicast"),
        ("239.1.1.1", "multicast"),
        ("250.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fd00:ec2::254", "cloud metadata"),
        ("fd20:ce::254", "cloud metadata"),
        ("fd12::1", "unique local"),
        ("fe80::1", "link local"),
        ("fec0::1", "site local"),
        ("ff02::1", "multicast"),
        ("ff0e::1", "multicast"),
        ("2001:db8::1", "documentation"),
        ("3fff::1", "documentation"),
        ("5f00::1", "segment routing"),
        ("100::1", "discard"),
        ("2001::1", "Teredo"),
        ("2001:2::1", "benchmarking"),
        ("2001:10::1", "ORCHID"),
        ("2001:20::1", "ORCHIDv2"),
        ("2001:1ff::1", "IETF protocol assignments"),
        ("2002:808:808::1", "6to4"),
        ("64:ff9b::808:808", "NAT64"),
        ("64:ff9b:1::1", "local NAT64"),
        ("::8.8.8.8", "IPv4-compatible"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "cloud metadata"),
        ("4000::1", "not global unicast"),
        ("1::1", "not global unicast"),
        ("2606:4700::1111%eth0", "scoped address"),
    ],
)
def test_an_address_is_named_by_what_it_is(address: str, name: str) -> None:
    """Each class of refused addresses is refused under its own name."""
    assert refused_as(ip_address(address)) == name


@pytest.mark.parametrize("address", [*PUBLIC, "::ffff:8.8.8.8"])
def test_public_addresses_pass(address: str) -> None:
    """Public addresses, those just outside a refused network included, may be dialled."""
    assert refused_as(ip_address(address)) is None


@pytest.mark.parametrize(
    ("address", "inner"),
    [
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::169.254.169.254", "169.254.169.254"),
        ("64:ff9b::a9fe:a9fe", "169.254.169.254"),
        ("64:ff9b:1:a9fe:a9:fe00::", "169.254.169.254"),
        ("64:ff9b:1::a9fe:a9fe", "169.254.169.254"),
        ("2002:a9fe:a9fe::", "169.254.169.254"),
        ("2001:0:102:304:0:0:5601:5601", "169.254.169.254"),
    ],
)
def test_embedded_ipv4_is_judged_even_where_its_carrier_is_allowed(
    address: str, inner: str
) -> None:
    """Allowing a translator's or tunnel's prefix does not open the inner IPv4 addresses."""
    parsed = IPv6Address(address)
    assert IPv4Address(inner) in embedded(parsed)
    everything_ipv6 = (ip_network("::/0"),)
    assert refused_as(parsed, everything_ipv6) == refused_as(IPv4Address(inner))


def test_a_translated_public_address_passes_once_its_prefix_is_allowed() -> None:
    """A network behind NAT64 can be opened on purpose, for public addresses alone."""
    allowed = (ip_network("64:ff9b::/96"),)
    assert refused_as(IPv6Address("64:ff9b::808:808"), allowed) is None
    assert refused_as(IPv6Address("64:ff9b::7f00:1"), allowed) == "loopback"


def test_allowed_networks_let_through_only_what_lies_in_them() -> None:
    """The neighbour of an allowed network stays refused."""
    allowed = (ip_network("10.20.0.0/16"), ip_network("fd12:3456::/32"))
    assert refused_as(IPv4Address("10.20.255.255"), allowed) is None
    assert refused_as(IPv6Address("::ffff:10.20.0.1"), allowed) is None
    assert refused_as(IPv4Address("10.21.0.0"), allowed) == "private use"
    assert refused_as(IPv6Address("fd12:3456::1"), allowed) is None
    assert refused_as(IPv6Address("fd12:3457::1"), allowed) == "unique local"


@pytest.mark.parametrize("row", REFUSED_NETWORKS, ids=lambda row: str(row.network))
def test_the_neighbours_of_every_row_are_judged_by_the_other_rows(row: RefusedNetwork) -> None:
    """One before its first address and one behind its last: no row is wider than it says."""
    made = type(row.network.network_address)
    first, last = int(row.network.network_address), int(row.network.broadcast_address)
    highest = 2**row.network.max_prefixlen - 1
    for number in (max(first - 1, 0), min(last + 1, highest)):
        address = made(number)
        rows = [one for one in REFUSED_NETWORKS if one.network.version == address.version]
        outside = isinstance(address, IPv6Address) and address not in GLOBAL_UNICAST
        refused = outside or any(address in one.network for one in rows)
        if isinstance(address, IPv6Address) and embedded(address):
            continue  # judged by what is inside as well: tested by itself
        assert (refused_as(address) is not None) == refused


def test_an_address_without_anything_inside_embeds_nothing() -> None:
    """Ordinary IPv6 addresses, and :: and ::1, carry no IPv4 address."""
    for address in ("2606:4700::1111", "::", "::1", "fe80::1"):
        assert embedded(IPv6Address(address)) == ()


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_outside_global_unicast_passes(address: IPv6Address) -> None:
    """IPv6 passes only inside 2000::/3, but for a mapped address, which is judged as IPv4."""
    mapped = address.ipv4_mapped
    if mapped is not None:
        assert refused_as(address) == refused_as(mapped)
    elif address not in GLOBAL_UNICAST:
        assert refused_as(address)


@given(st.integers(min_value=0, max_value=0xFFFF_FFFF))
def test_the_table_in_integers_says_what_the_table_says(number: int) -> None:
    """An IPv4 address is refused exactly when some row contains it."""
    address = IPv4Address(number)
    rows = [row for row in REFUSED_NETWORKS if row.network.version == 4]
    assert (refused_as(address) is not None) == any(address in row.network for row in rows)
