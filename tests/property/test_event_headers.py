"""Arbitrary bytes in values and headers: nothing raises, whoever reads them."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from tests.property.strategies import json_values, records, texts, valid_names
from thorn_stream.core.cloudevents import CloudEvent
from thorn_stream.core.deliveries import Reason
from thorn_stream.core.envelope import Envelope, Undecodable, decode
from thorn_stream.core.extra import extra_recipients, recipient_from
from thorn_stream.core.handover import Held, dead_letter_headers, headers, restore
from thorn_stream.core.overrides import MEANT, EventRules, Overrides, read_overrides
from thorn_stream.core.records import Headers, Record
from thorn_stream.core.request import RequestFactory, event_parts
from thorn_stream.core.schedule import RetryPolicy, policy_with
from thorn_stream.core.subscribers import Subscriber

RULES = EventRules()
ONE = Subscriber.model_validate({"id": "a", "event": "*", "url": "https://a.example"})
FACTORIES = [
    RequestFactory(
        ONE.model_copy(update={"content_type": content_type}), (), user_agent="t", source="s"
    )
    for content_type in (
        "application/json",
        "application/x-www-form-urlencoded",
        "application/cloudevents+json",
    )
]
CLOUD = ["ce_specversion", "ce_type", "ce_source", "ce_id", "ce_subject", "ce_sender", "ce_x"]
NAMES = [
    *MEANT,
    *CLOUD,
    *("thorn-id", "thorn-subscriber-definition", "thorn-http-A", "thorn-http-Host", "thorn-"),
    *("content-type", "traceparent", "THORN-ID", ""),
]
TEXTS = [
    b"1.0",
    b"order.created",
    b"/shop",
    b"true",
    b"5",
    b"1e999",
    b"application/json",
    b"application/cloudevents+json",
    b'[["ensure_port", [443]]]',
    b'["https://a.example", {"url": "https://b.example", "timeout": 1e308}]',
    b"[" * 2_000,
]


def bodies() -> st.SearchStrategy[bytes]:
    return st.binary(max_size=40) | json_values().map(lambda some: json.dumps(some).encode())


def some_headers() -> st.SearchStrategy[Headers]:
    value = st.none() | st.binary(max_size=20) | st.sampled_from(TEXTS) | bodies()
    return st.lists(st.tuples(st.sampled_from(NAMES), value), max_size=8)


@given(records(bodies(), some_headers()))
@example(Record("t", 0, 0, None, b"", [("ce_type", b"a"), ("ce_\x00", b"\xff")], 0))
def test_no_event_raises_in_whoever_reads_it(record: Record) -> None:
    """Decoded, judged, rendered, handed over and read back: the same event, or a reason."""
    decoded = decode(record)
    if not isinstance(decoded, Envelope):
        assert not isinstance(decoded, Undecodable) or decoded.why
        return
    own = read_overrides(record.headers, RULES)
    assert (decoded.own is None) <= (own == Overrides())
    assert own.sealed <= any(name == "thorn-validators" for name, _ in record.headers)
    assert 0 < (own.timeout or 1) <= RULES.timeout_max
    assert policy_with(own, ONE, RetryPolicy()).retries <= RULES.retry_max
    if own.recipients is not None:
        extra_recipients(own.recipients, RULES)
    event_parts(decoded)
    for factory in FACTORIES:
        factory.build(decoded, "d", 1, 0)
    again = restore(record_of(Held(decoded, "d", "a", attempts=1, due=1, first=1)))
    assert isinstance(again, Held)
    assert (again.envelope.id, again.envelope.event) == (decoded.id, decoded.event)
    assert again.envelope.value == decoded.value
    settings = read_overrides(again.envelope.record.headers, RULES)
    assert (settings.timeout, settings.retry_max) == (own.timeout, own.retry_max)
    assert (settings.sealed, settings.recipients) == (own.sealed, own.recipients)


def record_of(held: Held, reason: Reason | None = None) -> Record:
    made = headers(held) if reason is None else dead_letter_headers(held, reason)
    return Record("thorn.retry.5s", 0, 0, None, held.envelope.record.value, made, 9)


@given(records(bodies(), some_headers()))
def test_no_retry_record_raises(record: Record) -> None:
    """Whatever stands in a topic of ours comes back as a Delivery, or with a reason."""
    restored = restore(record)
    assert isinstance(restored, Held) or restored.why


@given(st.lists(json_values() | st.just("https://a.example"), max_size=4))
def test_each_entry_is_a_recipient_or_a_dead_letter(entries: list[object]) -> None:
    """Ids are unlike, and a definition gives its recipient back."""
    extras = extra_recipients(json.dumps(entries).encode("utf-8", "replace"), RULES)
    assert len(extras) <= len(entries)
    assert len({extra.id for extra in extras}) == len(extras)
    for extra in extras:
        if extra.subscriber is None:
            assert extra.why
        else:
            assert recipient_from(extra.definition, extra.id, RULES) == extra.subscriber


@given(valid_names(), texts(10), json_values())
def test_both_modes_say_the_same(name: str, ident: str, data: object) -> None:
    """One CloudEvent in structured and in binary mode is one event, with one envelope."""
    ident = f"i{ident}"
    body = json.dumps(data).encode()
    fields = {"specversion": "1.0", "type": name, "source": "/s", "id": ident}
    whole = json.dumps(fields)[:-1].encode() + b', "data": ' + body + b"}"
    given_headers: Headers = [(f"ce_{key}", text.encode()) for key, text in fields.items()]
    one = decode(Record("t", 0, 0, None, whole, [], 0))
    two = decode(Record("t", 1, 5, None, body, given_headers, 9))
    assert isinstance(one, Envelope)
    assert isinstance(two, Envelope)
    assert isinstance(two.cloud, CloudEvent)
    assert (one.id, one.event, one.value) == (two.id, two.event, two.value)
    assert json.loads(two.cloud.structured()) == json.loads(whole)
