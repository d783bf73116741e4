"""Decoding, whatever stands in a Record."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from tests.property.strategies import envelope_values, records
from thorn_stream.core.directory import sender_text
from thorn_stream.core.envelope import Envelope, Tombstone, Undecodable, decode, invalid_name
from thorn_stream.core.records import Record
from thorn_stream.core.request import RequestFactory
from thorn_stream.core.subscribers import Subscriber

JSON_LIKE = st.text('{}[]":,\\eventdas019.-+ué\x00', max_size=60).map(str.encode)
FACTORIES = [
    RequestFactory(
        Subscriber.model_validate(
            {"id": "s", "event": "*", "url": "https://s.example", "content_type": content_type}
        ),
        ["whsec_c2VjcmV0", "text"],
        user_agent="test/1",
        source="thorn-stream/test",
    )
    for content_type in (
        "application/json",
        "application/x-www-form-urlencoded",
        "application/cloudevents+json",
    )
]


def nested(depth: int) -> bytes:
    return b'{"event":"a.b","data":' + b"[" * depth + b"]" * depth + b"}"


@given(records(st.none() | st.binary(max_size=60) | JSON_LIKE | envelope_values()))
@example(Record("t", 0, 0, None, b'{"event":"a","data":1' + b"0" * 5000 + b"}", [], 0))
@example(Record("t", 0, 0, None, b'{"event":"a","ref":1e999,"data":1e999}', [], 0))
@example(Record("t", 0, 0, None, nested(100_000), [], 0))
@example(Record("t", 0, 0, None, nested(800), [], 0))
@example(Record("t", 0, 0, None, b'{"event":"a","ref":"\\ud800"}', [], 2**53))
def test_nothing_that_stands_in_a_record_raises(record: Record) -> None:
    """What is let in can be read whole and rendered for every content type; the rest says why."""
    decoded = decode(record)
    if isinstance(decoded, Undecodable):
        assert decoded.why
        return
    if isinstance(decoded, Tombstone):
        assert record.value is None
        return
    assert decoded.fields()["event"] == decoded.event
    assert invalid_name(decoded.event) is None
    sender_text(decoded.sender)
    for factory in FACTORIES:
        head, _ = factory.build(decoded, "d", 1, 0)
        assert head.isascii()
        assert all(b": " in line for line in head.removesuffix(b"\r\n").split(b"\r\n"))


def test_every_depth_is_let_in_for_good_or_not_at_all() -> None:
    """A value that just fits the stack when decoded must fit it from deeper calls too."""

    def deeper(calls: int, envelope: Envelope) -> None:
        if calls:
            deeper(calls - 1, envelope)
            return
        envelope.fields()
        for factory in FACTORIES:
            factory.build(envelope, "d", 1, 0)

    let_in = 0
    for depth in range(100, 1_000, 7):
        decoded = decode(Record("t", 0, 0, None, nested(depth), [], 0))
        if isinstance(decoded, Envelope):
            let_in += 1
            deeper(50, decoded)
    assert let_in > 50


@given(records(envelope_values()))
def test_an_envelope_is_what_was_written(record: Record) -> None:
    """Fields that are missing have their defaults; the body is the value's own bytes."""
    decoded = decode(record)
    assert isinstance(decoded, Envelope)
    assert decoded.value is record.value
    written = json.loads(decoded.value)
    assert decoded.fields() == {"ref": None, "sender": None, "data": {}, **written}
