"""Headers of the records that carry a Delivery on, spelt to the letter."""

from dataclasses import replace

import pytest

from thorn_stream.core.deliveries import Delivery, Reason
from thorn_stream.core.envelope import Envelope, Undecodable, decode
from thorn_stream.core.handover import (
    Held,
    dead_letter_headers,
    headers,
    held,
    restore,
    undecodable_headers,
)
from thorn_stream.core.ledger import Ledger, Tally
from thorn_stream.core.records import Headers, Partition, Record
from thorn_stream.core.subscribers import Subscriber

GIVEN: Headers = [
    ("thorn-id", b"order-7"),
    ("thorn-retry-max", b"5"),
    ("thorn-http-X-A", b"1"),
    ("thorn-made-up", b"x"),
    ("thorn-due", b"5"),
    ("trace", b"t"),
    ("trace", b"u"),
]
RECORD = Record("orders", 3, 17, b"k\xff", b'{"event":"order.paid"}', GIVEN, 1_000)
OURS: dict[str, bytes] = {
    "thorn-id": b"order-7",
    "thorn-delivery": b"d-1",
    "thorn-subscriber": b"billing",
    "thorn-attempt": b"2",
    "thorn-due": b"9000",
    "thorn-first": b"4000",
    "thorn-error": b"status:503",
    "thorn-origin": b"orders:3:17",
    "thorn-timestamp": b"1000",
    "thorn-key": b"k\xff",
}


def given_up(error: str = "status:503", first: int | None = 4_000) -> Delivery:
    envelope = decode(RECORD)
    assert isinstance(envelope, Envelope)
    entry = Ledger(Partition("orders", 3), 17, 10, Tally()).enter(17, 1)
    assert entry is not None
    one = Subscriber.model_validate({"id": "billing", "event": "*", "url": "https://b.example"})
    return Delivery(envelope, one, "d-1", entry, attempts=2, first=first, error=error)


def tier_record(made: Headers, value: bytes | None = RECORD.value) -> Record:
    return Record("thorn.retry.5s", 0, 5, b"d-1", value, made, 5_000)


def test_a_retry_record_says_how_far_a_delivery_has_come() -> None:
    """The user's headers, those with a meaning, and ours; `thorn-` ones without are dropped."""
    made = headers(held(given_up(), due=9_000, now=5_000))
    user: Headers = [("thorn-retry-max", b"5"), ("thorn-http-X-A", b"1")]
    user += [("trace", b"t"), ("trace", b"u")]
    assert made[:4] == user
    assert dict(made[4:]) == OURS


def test_a_kept_answer_is_in_the_dead_letter_alone() -> None:
    """The receiver's last answer, when it was kept; a retry record has none."""
    delivery = given_up()
    assert "thorn-response" not in dict(
        dead_letter_headers(held(delivery, due=0, now=0), Reason.GONE)
    )
    delivery.response = b"no \xff"
    kept = held(delivery, due=0, now=0)
    assert dict(dead_letter_headers(kept, Reason.GONE))["thorn-response"] == b"no \xff"
    assert "thorn-response" not in dict(headers(kept))


def test_the_first_attempt_is_now_when_there_was_none() -> None:
    """Or when it was handed over first."""
    assert held(given_up(first=None), due=9_000, now=5_000).first == 5_000


def test_an_error_is_short_and_ascii() -> None:
    """At most 200 characters."""
    made = dict(headers(held(given_up(error="tls:" + "é" * 400), due=0, now=0)))
    assert made["thorn-error"] == b"tls:" + b"?" * 196


def test_a_dead_letter_has_a_reason() -> None:
    """And everything that a retry record has."""
    made = dict(dead_letter_headers(held(given_up(), due=9_000, now=5_000), Reason.EXHAUSTED))
    assert made.items() >= (OURS | {"thorn-reason": b"exhausted"}).items()


def test_an_undecodable_record_keeps_its_headers() -> None:
    """It has no delivery, no subscriber and no attempt."""
    made = undecodable_headers(RECORD, "not an envelope")
    assert dict(made) == {
        "thorn-retry-max": b"5",
        "thorn-http-X-A": b"1",
        "trace": b"u",
        "thorn-error": b"not an envelope",
        "thorn-origin": b"orders:3:17",
        "thorn-timestamp": b"1000",
        "thorn-reason": b"undecodable",
    }


def test_a_delivery_is_read_back() -> None:
    """With the event's own key, place, time and id."""
    restored = restore(tier_record(list(OURS.items())))
    assert isinstance(restored, Held)
    assert (restored.delivery, restored.subscriber) == ("d-1", "billing")
    assert (restored.attempts, restored.due, restored.first) == (2, 9_000, 4_000)
    assert (restored.error, restored.unknown_since) == ("status:503", None)
    original = restored.envelope.record
    assert (original.origin, original.key, original.timestamp) == ("orders:3:17", b"k\xff", 1_000)
    assert restored.envelope.id == "order-7"


def test_since_when_a_subscriber_is_unknown_is_kept() -> None:
    """Its grace is counted from there, over all rounds and restarts."""
    first = restore(tier_record(list(OURS.items())))
    assert isinstance(first, Held)
    again = restore(tier_record(headers(replace(first, unknown_since=4_500))))
    assert isinstance(again, Held)
    assert again.unknown_since == 4_500


@pytest.mark.parametrize(
    "name", [name for name in OURS if name not in ("thorn-error", "thorn-key")]
)
def test_a_header_that_is_missing_makes_it_undecodable(name: str) -> None:
    """And is named."""
    restored = restore(tier_record([pair for pair in OURS.items() if pair[0] != name]))
    assert isinstance(restored, Undecodable)
    assert name in restored.why


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("thorn-attempt", b"-1"),
        ("thorn-attempt", b"two"),
        ("thorn-due", b"-1"),
        ("thorn-due", b"1e3"),
        ("thorn-due", b"9" * 19),
        ("thorn-due", b"\xff"),
        ("thorn-first", b""),
        ("thorn-first", b"1_000"),
        ("thorn-origin", b"orders"),
        ("thorn-origin", b"orders:a:b"),
        ("thorn-timestamp", b" "),
        ("thorn-delivery", b""),
        ("thorn-subscriber", b""),
        ("thorn-subscriber", b"\xff"),
        ("thorn-id", b"a\x00"),
        ("thorn-unknown", b"x"),
    ],
)
def test_a_garbled_header_makes_it_undecodable(name: str, value: bytes) -> None:
    """It never raises; numbers are those that sums can be done with."""
    restored = restore(tier_record(list((OURS | {name: value}).items())))
    assert isinstance(restored, Undecodable)
    assert "garbled" in restored.why


@pytest.mark.parametrize("value", [None, b"", b"not json", b'{"event":""}'])
def test_a_value_that_is_no_event_makes_it_undecodable(value: bytes | None) -> None:
    """Somebody else wrote it."""
    assert isinstance(restore(tier_record(list(OURS.items()), value)), Undecodable)
