"""What a receiver is sent."""

import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.records import Headers, Record
from thorn_stream.core.request import RequestFactory, event_parts
from thorn_stream.core.signing import verify
from thorn_stream.core.subscribers import Subscriber

NOW = 1_700_000_000
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VALUE = b'{ "event": "order.paid", "ref": "https://x/1", "sender": 42, "data": {"n": 1.10} }'


def event(value: bytes = VALUE, headers: Headers | None = None, at: int = 1_000) -> Envelope:
    decoded = decode(Record("orders", 0, 7, None, value, headers or [], at))
    assert isinstance(decoded, Envelope)
    return decoded


def factory(*secrets: str, **fields: Any) -> RequestFactory:
    one = Subscriber.model_validate({"id": "billing", "event": "*", "url": "https://x", **fields})
    return RequestFactory(one, secrets, user_agent="thorn-stream/1", source="thorn-stream/thorn")


def parsed(head: bytes) -> dict[str, str]:
    assert head.endswith(b"\r\n")
    lines = head.decode("ascii").removesuffix("\r\n").split("\r\n")
    headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    assert len({name.lower() for name in headers}) == len(lines), "a header stands there twice"
    return headers


def test_the_headers_of_a_signed_request() -> None:
    """All that the contract names, spelt so, and no other."""
    head, body = factory(SECRET).build(event(), "0b1e-5", 3, NOW)
    headers = parsed(head)
    assert list(headers) == [
        "Content-Type",
        "Hook-Subscription",
        "User-Agent",
        "Hook-Event",
        "Hook-Delivery",
        "webhook-id",
        "Hook-Attempt",
        "webhook-timestamp",
        "webhook-signature",
        "Hook-HMAC",
    ]
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == "thorn-stream/1"
    assert headers["Hook-Event"] == "order.paid"
    assert headers["Hook-Delivery"] == headers["webhook-id"] == "0b1e-5"
    assert headers["Hook-Subscription"] == "billing"
    assert headers["Hook-Attempt"] == "3"
    assert headers["webhook-timestamp"] == str(NOW)
    verify(SECRET, headers, body, now=NOW)
    verify(SECRET, headers, body, now=NOW, hook_digest="sha256")


def test_without_a_secret_nothing_is_signed() -> None:
    """Id and time are sent all the same."""
    headers = parsed(factory().build(event(), "0b1e-5", 1, NOW)[0])
    assert "webhook-signature" not in headers
    assert "Hook-HMAC" not in headers
    assert headers["webhook-id"] == "0b1e-5"
    assert headers["webhook-timestamp"] == str(NOW)


def test_the_digest_is_the_subscribers() -> None:
    """Of Hook-HMAC; Standard Webhooks knows SHA-256 alone."""
    head, body = factory("text", hmac_digest="sha512").build(event(), "d", 1, NOW)
    verify("text", parsed(head), body, now=NOW, hook_digest="sha512")
    verify("text", parsed(head), body, now=NOW)


def test_a_json_subscriber_gets_the_values_own_bytes() -> None:
    """Spaces, key order and the spelling of numbers included."""
    envelope = event()
    assert factory().build(envelope, "d", 1, NOW)[1] is envelope.record.value


def test_what_is_not_ascii_is_percent_encoded() -> None:
    """In the event's name, in the subscriber's headers and in the event's."""
    envelope = event('{"event":"bestellung.bezählt"}'.encode(), [("thorn-http-X-B", "ü%".encode())])
    headers = parsed(factory(headers={"X-A": "é"}).build(envelope, "d", 1, NOW)[0])
    assert headers["Hook-Event"] == "bestellung.bez%C3%A4hlt"
    assert headers["X-A"] == "%C3%A9"
    assert headers["X-B"] == "%C3%BC%"


def test_headers_of_the_event_are_passed_on() -> None:
    """`thorn-http-NAME` as NAME, and the trace; other headers of the record stay behind."""
    envelope = event(
        headers=[
            ("thorn-http-X-Tenant", b" acme "),
            ("thorn-http-X-Empty", None),
            ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("tracestate", b"a=b"),
            ("thorn-timeout", b"5"),
            ("content-type", b"text/plain"),
            ("X-Other", b"x"),
        ]
    )
    headers = parsed(factory().build(envelope, "d", 1, NOW)[0])
    assert headers["X-Tenant"] == "acme"
    assert headers["X-Empty"] == ""
    assert headers["traceparent"].startswith("00-0af7")
    assert headers["tracestate"] == "a=b"
    assert headers["Content-Type"] == "application/json"
    assert not headers.keys() & {"X-Other", "thorn-timeout"}
    assert event_parts(envelope).ignored == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, b"x") for name in ("Authorization", "cookie", "Host", "Connection", "TE")),
        *((name, b"x") for name in ("Keep-Alive", "Transfer-Encoding", "Upgrade", "Trailer")),
        *((name, b"x") for name in ("Proxy-Authorization", "Content-Length", "Content-Type")),
        *((name, b"x") for name in ("Hook-Event", "hook-x", "webhook-id", "Webhook-X")),
        *((name, b"x") for name in ("", "X A", "X-A:", "X-é", "X\r\nY")),
        ("X-A", b"a\r\nX-B: b"),
        ("X-A", b"a\x00"),
        ("X-A", b"x" * 8193),
    ],
)
def test_a_header_that_is_not_allowed_is_left_out_and_counted(name: str, value: bytes) -> None:
    """The event goes on without it."""
    envelope = event(headers=[(f"thorn-http-{name}", value), ("thorn-http-X-Good", b"1")])
    head, _ = factory(SECRET).build(envelope, "d", 1, NOW)
    headers = parsed(head)
    assert headers["X-Good"] == "1"
    assert len(headers) == 11
    assert headers["Hook-Event"] == "order.paid"
    assert event_parts(envelope).ignored == 1


def test_a_subscribers_own_header_wins() -> None:
    """Over the event's of the same name, in whatever case; and both over our User-Agent."""
    envelope = event(headers=[("thorn-http-X-A", b"event"), ("thorn-http-x-b", b"event")])
    headers = parsed(factory(headers={"x-a": "own"}).build(envelope, "d", 1, NOW)[0])
    assert headers["x-a"] == "own"
    assert headers["x-b"] == "event"
    others = parsed(factory().build(envelope, "d", 1, NOW)[0])
    assert others["X-A"] == "event"
    agent = event(headers=[("thorn-http-User-Agent", b"event/1")])
    assert parsed(factory().build(agent, "d", 1, NOW)[0])["User-Agent"] == "event/1"
    own = factory(headers={"user-agent": "own/1"})
    for envelope in (agent, event()):
        assert parsed(own.build(envelope, "d", 1, NOW)[0])["user-agent"] == "own/1"


def test_the_last_of_two_headers_of_one_name_counts() -> None:
    """As Kafka's clients read them."""
    envelope = event(headers=[("thorn-http-X-A", b"1"), ("thorn-http-x-a", b"2")])
    assert parsed(factory().build(envelope, "d", 1, NOW)[0])["x-a"] == "2"


def test_what_one_event_has_is_made_once() -> None:
    """And shared by all its subscribers, renderings of the body included."""
    envelope = event(headers=[("thorn-http-X-A", b"1")])
    form = "application/x-www-form-urlencoded"
    first = factory(content_type=form).build(envelope, "a", 1, NOW)[1]
    parts = event_parts(envelope)
    assert factory(content_type=form).build(envelope, "b", 1, NOW)[1] is first
    assert event_parts(envelope) is parts


def test_a_form_has_four_fields() -> None:
    """`data` as the JSON text that came; what is null is empty."""
    form = factory(SECRET, content_type="application/x-www-form-urlencoded")
    head, body = form.build(event(), "d", 1, NOW)
    assert parse_qs(body.decode(), strict_parsing=True, keep_blank_values=True) == {
        "event": ["order.paid"],
        "ref": ["https://x/1"],
        "sender": ["42"],
        "data": ['{"n": 1.10}'],
    }
    assert parsed(head)["Content-Type"] == "application/x-www-form-urlencoded"
    verify(SECRET, parsed(head), body, now=NOW)
    value = '{"event":"é.x","ref":null,"sender":{"id": "ü&="}}'.encode()
    assert parse_qs(form.build(event(value), "d", 1, NOW)[1].decode(), keep_blank_values=True) == {
        "event": ["é.x"],
        "ref": [""],
        "sender": ['{"id": "ü&="}'],
        "data": ["{}"],
    }


def test_a_cloud_event_is_structured() -> None:
    """Version 1.0, as one JSON document; numbers in `data` as they were written."""
    cloud = factory(content_type="application/cloudevents+json")
    envelope = event()
    head, body = cloud.build(envelope, "d", 1, NOW)
    assert json.loads(body) == {
        "specversion": "1.0",
        "id": envelope.id,
        "type": "order.paid",
        "source": "https://x/1",
        "subject": "https://x/1",
        "time": "1970-01-01T00:00:01.000Z",
        "datacontenttype": "application/json",
        "data": {"n": 1.1},
    }
    assert b'{"n": 1.10}' in body
    assert parsed(head)["Content-Type"] == "application/cloudevents+json"


@pytest.mark.parametrize("at", [-1, 2**60])
def test_a_cloud_event_without_ref_or_time_does_without(at: int) -> None:
    """Its source is the group then; a time that is none is left out."""
    cloud = factory(content_type="application/cloudevents+json")
    made = json.loads(cloud.build(event(b'{"event":"a"}', at=at), "d", 1, NOW)[1])
    assert made["source"] == "thorn-stream/thorn"
    assert made["data"] == {}
    assert not made.keys() & {"subject", "time"}


def test_a_ref_that_is_no_text_is_written_as_json() -> None:
    """Whatever JSON stands there, the event goes on."""
    cloud = factory(content_type="application/cloudevents+json")
    assert json.loads(cloud.build(event(b'{"event":"a","ref":7}'), "d", 1, NOW)[1])["source"] == "7"
