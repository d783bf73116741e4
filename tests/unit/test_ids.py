"""Ids that are derived."""

import uuid

import pytest

from thorn_stream.core import ids


def test_the_namespace_is_fixed() -> None:
    """Whoever wants to derive the same ids elsewhere can."""
    assert uuid.uuid5(uuid.NAMESPACE_DNS, "thorn-stream") == ids.NAMESPACE


@pytest.mark.parametrize("name", ["", "a", "orders/0/7/1700000000000", "é", "x" * 1_000])
def test_a_derived_id_is_a_uuid_of_version_5(name: str) -> None:
    """The same as the standard library makes, digit by digit."""
    assert ids.derived(name) == str(uuid.uuid5(ids.NAMESPACE, name))


def test_many_derived_ids_have_the_right_variant() -> None:
    """Every digit that carries it comes up."""
    for number in range(200):
        made = uuid.UUID(ids.derived(str(number)))
        assert (made.version, made.variant) == (5, uuid.RFC_4122)


def test_an_event_id_names_where_the_record_stands() -> None:
    """And when it was written, so that a topic made anew has other ids."""
    expected = uuid.uuid5(ids.NAMESPACE, "orders/3/17/1700000000000")
    assert ids.event_id("orders", 3, 17, 1_700_000_000_000) == str(expected)
    assert ids.event_id("orders", 3, 17, 1_700_000_000_001) != str(expected)


def test_a_delivery_id_is_the_same_every_time() -> None:
    """It follows from event and subscriber: a repeat carries the one it had."""
    expected = uuid.uuid5(ids.NAMESPACE, "event-1/billing")
    assert ids.delivery_id("event-1", "billing") == str(expected)
    assert ids.delivery_id("event-1", "other") != str(expected)
