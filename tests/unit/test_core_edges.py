"""Corners of the core that the tests of each noun do not reach."""

from typing import Any

import pytest

from thorn_stream.core.patterns import compile_pattern
from thorn_stream.core.schedule import RetryPolicy
from thorn_stream.core.validators import block_cidr_network, block_internal_ips


@pytest.mark.parametrize(
    ("name", "matches"),
    [("axxb1cz", True), ("ab1cz", True), ("axb2c1z", False), ("ab1cb1cz", True), ("abz", False)],
)
def test_a_class_between_stars_is_looked_for(name: str, matches: bool) -> None:
    """The piece in the middle may begin anywhere, and has to fit whole."""
    assert compile_pattern("a*b[13]c*z").matches(name) is matches


def test_a_pattern_shows_how_it_is_made() -> None:
    """What stands in a message or a debugger can be copied."""
    assert repr(compile_pattern("order.*")) == "compile_pattern('order.*')"


def test_a_delay_beyond_any_number_is_cut() -> None:
    """Doubling a thousand times and more is no error: it is the longest delay allowed."""
    policy = RetryPolicy(retry_max=5000, delay=60.0, backoff=100.0, delay_max=7200.0)
    assert policy.wait(4000) == 7200


@pytest.mark.parametrize("network", [10, None, b"10.0.0.0/8", ["10.0.0.0/8"]])
def test_what_is_no_network_is_refused(network: Any) -> None:
    """A number would be taken for an address, and open or close what nobody meant."""
    with pytest.raises(ValueError, match="is not a network"):
        block_cidr_network(network)


def test_a_text_is_no_list_of_networks() -> None:
    """Its characters would be taken for networks, one by one."""
    with pytest.raises(ValueError, match="takes a list of networks, not a text"):
        block_internal_ips(allowed="10.0.0.0/8")
