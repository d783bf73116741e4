"""What is handed over to Kafka is read back the same, and garbled headers never raise."""

from hypothesis import given
from hypothesis import strategies as st

from tests.property.strategies import envelope_values, records
from thorn_stream.core import ids
from thorn_stream.core.deliveries import Reason
from thorn_stream.core.envelope import Envelope, Undecodable, decode
from thorn_stream.core.handover import (
    Held,
    dead_letter_headers,
    headers,
    restore,
    undecodable_headers,
)
from thorn_stream.core.records import Headers, Record

OURS = [
    *("thorn-id", "thorn-delivery", "thorn-subscriber", "thorn-attempt", "thorn-due"),
    *("thorn-first", "thorn-origin", "thorn-timestamp", "thorn-error", "thorn-unknown"),
]


@st.composite
def held_deliveries(draw: st.DrawFn) -> Held:
    envelope = decode(draw(records(envelope_values())))
    assert isinstance(envelope, Envelope)
    return Held(
        envelope,
        delivery=ids.delivery_id(envelope.id, "billing"),
        subscriber="billing",
        attempts=draw(st.integers(0, 100)),
        due=draw(st.integers(0, 2**53)),
        first=draw(st.integers(0, 2**53)),
        error=draw(st.sampled_from(["", "timeout", "status:503", "blocked:block_internal_ips"])),
        unknown_since=draw(st.none() | st.integers(0, 2**53)),
    )


def tier_record(of: Held, made: Headers) -> Record:
    return Record(
        topic="thorn.retry.5s",
        partition=3,
        offset=17,
        key=of.delivery.encode(),
        value=of.envelope.record.value,
        headers=made,
        timestamp=1,
    )


def user_headers(given_headers: Headers) -> Headers:
    return [
        (name, value)
        for name, value in given_headers
        if not name.startswith("thorn-") or name.startswith("thorn-http-")
    ]


@given(held_deliveries())
def test_a_delivery_comes_back_as_it_was_handed_over(held: Held) -> None:
    """The event with its id, key, place and time; how far it has come; the user's headers."""
    restored = restore(tier_record(held, headers(held)))
    assert isinstance(restored, Held)
    original, read = held.envelope.record, restored.envelope.record
    assert restored.envelope.event == held.envelope.event
    assert restored.envelope.id == held.envelope.id
    assert (read.topic, read.partition, read.offset) == (
        original.topic,
        original.partition,
        original.offset,
    )
    assert (read.key, read.timestamp, read.value) == (
        original.key,
        original.timestamp,
        original.value,
    )
    assert user_headers(read.headers) == user_headers(original.headers)
    for name in ("delivery", "subscriber", "attempts", "due", "first", "error", "unknown_since"):
        assert getattr(restored, name) == getattr(held, name)


@given(held_deliveries(), st.integers(1, 5))
def test_headers_are_never_piled_up(held: Held, rounds: int) -> None:
    """After any number of rounds there are as many as after one, each of ours once."""
    first = headers(held)
    made = first
    for _ in range(rounds):
        restored = restore(tier_record(held, made))
        assert isinstance(restored, Held)
        made = headers(restored)
    assert sorted(made, key=repr) == sorted(first, key=repr)
    names = [name for name, _ in made]
    assert all(names.count(name) <= 1 for name in OURS)


@given(
    held_deliveries(),
    st.sampled_from(OURS),
    st.none() | st.binary(max_size=8) | st.sampled_from([b"-1", b"1e3", b"9" * 5_000, b"a:b:c"]),
    st.booleans(),
)
def test_garbled_headers_are_undecodable_or_harmless(
    held: Held, name: str, value: bytes | None, remove: bool
) -> None:
    """One of ours missing or changed at random: it never raises, and sums can be done with it."""
    made = [pair for pair in headers(held) if pair[0] != name]
    if not remove:
        made.append((name, value))
    restored = restore(tier_record(held, made))
    if isinstance(restored, Undecodable):
        assert restored.why
        assert len(restored.why) <= 200
        return
    assert not (remove and name not in ("thorn-error", "thorn-unknown"))
    assert restored.attempts >= 0
    assert restored.due / 1000 >= 0
    assert abs(restored.first / 1000) < 10**18


@given(held_deliveries(), st.sampled_from(list(Reason)))
def test_a_dead_letter_can_be_read_like_a_retry_record(held: Held, reason: Reason) -> None:
    """It says why it is dead, and keeps all that a replay needs."""
    made = dead_letter_headers(held, reason)
    assert dict(made)["thorn-reason"] == reason.encode()
    restored = restore(tier_record(held, made))
    assert isinstance(restored, Held)
    assert restored.delivery == held.delivery


@given(records(st.none() | st.binary(max_size=20)), st.text(max_size=300))
def test_an_undecodable_record_says_where_it_was_and_why(record: Record, why: str) -> None:
    """In ASCII, without a delivery, a subscriber or an attempt."""
    made = dict(undecodable_headers(record, why))
    assert made["thorn-origin"] == record.origin.encode()
    assert made["thorn-reason"] == b"undecodable"
    assert len(made["thorn-error"] or b"") <= 200
    assert (made["thorn-error"] or b"").isascii()
    assert not made.keys() & {"thorn-delivery", "thorn-subscriber", "thorn-attempt"}
