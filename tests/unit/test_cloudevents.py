"""CloudEvents in: both modes, to the same Envelope, and on to every content type."""

import json
from typing import Any

import pytest

from thorn_stream.core import ids
from thorn_stream.core.envelope import Envelope, Undecodable, decode
from thorn_stream.core.records import Headers, Record
from thorn_stream.core.request import RequestFactory
from thorn_stream.core.subscribers import Subscriber

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "type": "order.created",
    "source": "/shop",
    "id": "7",
    "subject": "order/1",
    "time": "2024-01-01T00:00:00Z",
    "traceid": "t",
    "data": {"n": 1},
}
BINARY: Headers = [
    ("ce_specversion", b"1.0"),
    ("ce_type", b"order.created"),
    ("ce_source", b"/shop"),
    ("ce_id", b"7"),
    ("ce_subject", b"order/1"),
    ("ce_time", b"2024-01-01T00:00:00Z"),
    ("ce_traceid", b"t"),
    ("content-type", b"application/json"),
]
TOLD: Headers = [("content-type", b"Application/CloudEvents+JSON; charset=UTF-8")]


def record(value: bytes | None, headers: Headers | None = None) -> Record:
    return Record("orders", 3, 17, None, value, headers or [], 1_700_000_000_000)


def read(value: bytes | None, headers: Headers | None = None) -> Envelope:
    decoded = decode(record(value, headers))
    assert isinstance(decoded, Envelope), decoded
    return decoded


def refused(value: bytes | None, headers: Headers | None = None) -> str:
    decoded = decode(record(value, headers))
    assert isinstance(decoded, Undecodable), decoded
    assert len(decoded.why) <= 200
    assert len(decoded.why.splitlines()) == 1
    return decoded.why


def written(**changes: Any) -> bytes:
    fields = {name: value for name, value in {**EVENT, **changes}.items() if value is not None}
    return json.dumps(fields).encode()


def without(name: str) -> Headers:
    return [pair for pair in BINARY if pair[0] != name]


def body(envelope: Envelope, content_type: str) -> bytes:
    one = Subscriber.model_validate(
        {"id": "a", "event": "*", "url": "https://a.example", "content_type": content_type}
    )
    factory = RequestFactory(one, (), user_agent="t", source="thorn-stream/t")
    return factory.build(envelope, "d", 1, 0)[1]


@pytest.mark.parametrize(
    ("value", "headers"),
    [(written(), None), (written(), TOLD), (b'{"n": 1}', BINARY)],
    ids=["unannounced", "structured", "binary"],
)
def test_both_modes_become_the_same_envelope(value: bytes, headers: Headers | None) -> None:
    """Type, subject and data; one id for all of them, from source and id."""
    envelope = read(value, headers)
    assert envelope.event == "order.created"
    assert envelope.id == ids.derived("/shop/7")
    assert json.loads(envelope.value) == {
        "event": "order.created",
        "ref": "order/1",
        "sender": None,
        "data": {"n": 1},
    }
    assert envelope.fields() == json.loads(envelope.value)
    assert body(envelope, "application/json") is envelope.value is envelope.value
    assert body(envelope, "application/x-www-form-urlencoded") == (
        b"event=order.created&ref=order%2F1&sender=&data=%7B%22n%22%3A"
        + (b"+1%7D" if b'"n": 1' in value else b"1%7D")
    )
    told = json.loads(body(envelope, "application/cloudevents+json"))
    assert {name: told[name] for name in EVENT} == EVENT


def test_structured_mode_is_passed_through_to_the_byte() -> None:
    """Whoever asks for CloudEvents gets the value's own bytes."""
    value = b'{ "id": "7",\n "specversion":"1.0","type":"a","source":"s", "data": 1.0e2, "x": 1 }'
    assert body(read(value), "application/cloudevents+json") is value
    assert json.loads(read(value).value)["data"] == 100
    assert b"1.0e2" in read(value).value


def test_binary_mode_is_told_in_structured_mode() -> None:
    """Every attribute is kept, what kind of data it is included."""
    told = json.loads(body(read(b'{"n": 1}', BINARY), "application/cloudevents+json"))
    assert told == {**EVENT, "datacontenttype": "application/json"}


@pytest.mark.parametrize(
    ("value", "content_type", "data", "told"),
    [
        (b"[1, 2]", None, [1, 2], {"data": [1, 2]}),
        (b"1", b"application/vnd.x+json; a=b", 1, {"data": 1}),
        ("é".encode(), b"text/plain", "é", {"data": "é"}),
        (b'{"n": 1}', b"text/xml", '{"n": 1}', {"data": '{"n": 1}'}),
        (b"\xff\x00", b"application/octet-stream", "/wA=", {"data_base64": "/wA="}),
        (b"", b"application/json", {}, {"data": {}}),
        (b"", None, {}, {"data": {}}),
    ],
)
def test_data_of_any_kind_becomes_json(
    value: bytes, content_type: bytes | None, data: object, told: dict[str, object]
) -> None:
    """JSON as it is, text as a string, bytes as base64, nothing as an empty object."""
    headers = [*without("content-type"), ("content-type", content_type)]
    envelope = read(value, headers)
    assert json.loads(envelope.value)["data"] == data
    cloud = json.loads(body(envelope, "application/cloudevents+json"))
    assert {name: cloud[name] for name in cloud if name.startswith("data_") or name == "data"} == (
        told
    )
    assert ("datacontenttype" in cloud) == (content_type is not None)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data": None}, {"data": {}}),
        ({"data": None, "data_base64": "/wA="}, {"data": "/wA="}),
        ({"subject": None}, {"ref": "/shop"}),
        ({"subject": ""}, {"ref": "/shop"}),
        ({"sender": 42}, {"sender": 42}),
        ({"sender": "u-1"}, {"sender": "u-1"}),
    ],
)
def test_what_is_missing_has_its_default(
    changes: dict[str, Any], expected: dict[str, object]
) -> None:
    """The source stands in for the subject; a sender is an extension attribute."""
    fields = json.loads(read(written(**changes)).value)
    assert {name: fields[name] for name in expected} == expected


def test_a_sender_may_stand_in_a_header() -> None:
    """As text, like every attribute in binary mode."""
    assert read(b"{}", [*BINARY, ("ce_sender", b"42")]).sender == "42"


def test_a_thorn_id_wins() -> None:
    """And one that cannot be used is ignored, as with any event."""
    assert read(written(), [("thorn-id", b"e-1")]).id == "e-1"
    assert read(b"{}", [*BINARY, ("thorn-id", b"e-1")]).id == "e-1"
    garbled = read(written(), [("thorn-id", b"\xff")])
    assert garbled.ignored_id
    assert garbled.id == ids.derived("/shop/7")


def test_an_envelope_is_no_cloud_event() -> None:
    """`event` decides, unless a header says that it is one."""
    both = written(event="envelope.event")
    assert read(both).event == "envelope.event"
    assert read(both).cloud is None
    assert read(both, TOLD).event == "order.created"
    assert refused(written(event=5)).startswith("not an envelope: ")
    assert read(b'{"event": "a"}', [("content-type", b"application/json")]).event == "a"
    assert read(b'{"event": "a"}', [("content-type", None)]).event == "a"


def test_structured_mode_wins_over_attributes_in_headers() -> None:
    """Of a record that claims both, the content type decides, wherever it stands."""
    value = written(type="a.b")
    assert read(value, [*TOLD, *without("content-type")]).event == "a.b"
    assert read(value, [*without("content-type"), *TOLD]).event == "a.b"


@pytest.mark.parametrize("name", ["specversion", "type", "source", "id"])
def test_what_a_cloud_event_cannot_do_without(name: str) -> None:
    """In either mode it is undecodable, and the reason names what is missing."""
    assert name in refused(written(**{name: None}), TOLD)
    assert refused(written(**{name: None})).startswith("not an envelope: ")
    if name != "type":
        assert name in refused(written(**{name: ""}), TOLD)
        assert f"ce_{name}" in refused(b"{}", without(f"ce_{name}"))


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (written(type="a..b"), None),
        (written(type=""), TOLD),
        (written(specversion="0.3"), None),
        (written(id=7), None),
        (b"5", TOLD),
        (b'{"event": "a"}', TOLD),
        (b"\xff", TOLD),
        (b"", TOLD),
        (written(data=None).replace(b'"t"}', b'"\xff"}'), TOLD),
        (b"no json", BINARY),
        (b'"\xff"', BINARY),
        (b"[" * 10_000 + b"]" * 10_000, BINARY),
        (written(data=0).replace(b'"data": 0', b'"data": ' + b"[" * 9_000 + b"]" * 9_000), None),
        (b"{}", [*without("ce_subject"), ("ce_subject", b"\xff")]),
        (b"{}", [*without("ce_type"), ("ce_type", None)]),
    ],
)
def test_what_is_no_cloud_event_is_undecodable(value: bytes, headers: Headers | None) -> None:
    """With a reason in one line."""
    assert refused(value, headers)


def test_a_null_value_stays_a_tombstone() -> None:
    """Also with attributes in the headers."""
    assert not isinstance(decode(record(None, BINARY)), Envelope | Undecodable)
