"""Headers that strangers write, in events and in subscribers: none becomes two, or one of ours."""

import json
from typing import Any, Final

import h11
import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.records import Headers, Record
from thorn_stream.core.request import RequestFactory, event_parts
from thorn_stream.core.subscribers import FORBIDDEN_HEADERS, Subscriber

VALUE: Final = b'{"event": "order.paid", "data": {"n": 1}}'
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OURS: Final = {
    "content-type",
    "hook-subscription",
    "user-agent",
    "hook-event",
    "hook-delivery",
    "webhook-id",
    "hook-attempt",
    "webhook-timestamp",
    "webhook-signature",
    "hook-hmac",
}
MADE: Final = OURS - {"user-agent"}

_SPLITS: Final = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    "\r\n ",
    "\r\n\t",
    "\x0b",
    "\x85",
    "\u2028",
    "\u560d\u560a",
]
_PIECES: Final = st.one_of(
    st.sampled_from(_SPLITS),
    st.sampled_from(
        ["X: y", "Host: evil", "Content-Length: 0", ":", " ", "\t", "Transfer-Encoding"]
    ),
    st.text(max_size=5),
)
TEXTS: Final = st.lists(_PIECES, max_size=6).map("".join) | st.text(max_size=20)
NAMES: Final = (
    st.from_regex(r"[A-Za-z0-9-]{1,12}", fullmatch=True)
    | st.sampled_from([*sorted(FORBIDDEN_HEADERS), *sorted(OURS), "Hook-X", "WEBHOOK-ID", "Cookie"])
    | TEXTS
    | st.just("x" * 5000)
)
LONG: Final = st.integers(min_value=0, max_value=20_000).map(lambda size: "v" * size)


def envelope(headers: Headers) -> Envelope:
    decoded = decode(Record("orders", 0, 0, None, VALUE, headers, 0))
    assert isinstance(decoded, Envelope)
    return decoded


def received(head: bytes, body: bytes) -> dict[str, bytes]:
    """What two receivers make of it; they must agree, on one request with this body."""
    told: list[tuple[bytes, bytes]] = []
    bodies: list[bytes] = []
    complete: list[bool] = []

    class Reader:
        def on_header(self, name: bytes, value: bytes) -> None:
            told.append((name.lower(), value))

        def on_body(self, part: bytes) -> None:
            bodies.append(part)

        def on_message_complete(self) -> None:
            complete.append(True)

    wire = b"POST / HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
    httptools.HttpRequestParser(Reader()).feed_data(wire)
    assert complete == [True]
    assert b"".join(bodies) == body
    strict = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    strict.receive_data(wire)
    request = strict.next_event()
    assert isinstance(request, h11.Request)
    assert [(bytes(name), bytes(value)) for name, value in request.headers] == [
        (name, value.strip(b" \t")) for name, value in told
    ]
    names = [name.decode() for name, _ in told]
    assert len(set(names)) == len(names), "a header stands there twice"
    found = {name.decode(): value for name, value in told}
    assert found.pop("host") == b"a"
    assert found.pop("content-length") == b"%d" % len(body)
    return found


def factory(**fields: Any) -> RequestFactory:
    one = Subscriber.model_validate({"id": "a", "event": "*", "url": "https://x", **fields})
    return RequestFactory(one, [SECRET], user_agent="thorn-stream/1", source="thorn")


PLAIN: Final = factory()
UNTOUCHED: Final = received(*PLAIN.build(envelope([]), "d", 1, 0))


@given(st.lists(st.tuples(NAMES, TEXTS | LONG | st.none()), max_size=6))
@example([("X-A", "a\r\nX-B: b")])
@example([("X-A\r\nX-B", "b")])
@example([("X-A", "a\r\n b")])
@example([("x" * 129, "a"), ("x" * 128, "a")])
@example([(f"X-{number}", "v" * 8000) for number in range(6)])
def test_an_event_cannot_inject_headers(given_headers: list[tuple[str, str | None]]) -> None:
    """Those it may choose arrive under their names; the others are left out, and counted."""
    headers: Headers = [
        (f"thorn-http-{name}", None if value is None else value.encode("utf-8", "surrogatepass"))
        for name, value in given_headers
    ]
    made = envelope(headers)
    head, body = PLAIN.build(made, "d", 1, 0)
    found = received(head, body)
    assert found.keys() - OURS <= {name.lower() for name, _ in given_headers}
    assert not (found.keys() - OURS) & (FORBIDDEN_HEADERS | {"authorization", "cookie"})
    assert {name: found[name] for name in MADE} == {name: UNTOUCHED[name] for name in MADE}
    assert len(head) < 20_000
    assert len(found) - len(OURS) + event_parts(made).ignored <= len(given_headers)


@given(st.dictionaries(NAMES, TEXTS | LONG, max_size=4))
@example({"X-A": "a\r\nX-B: b"})
@example({"X-A\n": "b"})
@example({"X-A": "\u560d\u560aX-B: b"})
def test_a_subscriber_cannot_inject_headers(headers: dict[str, str]) -> None:
    """Refused where they enter, or sent under their names and no others."""
    try:
        made = factory(headers=headers)
    except ValidationError:
        return
    found = received(*made.build(envelope([]), "d", 1, 0))
    assert found.keys() == OURS | {name.lower() for name in headers}
    assert {name: found[name] for name in MADE} == {name: UNTOUCHED[name] for name in MADE}


@given(TEXTS)
@example("a\n")
@example("a\r\nX: y")
def test_an_id_cannot_inject_headers(name: str) -> None:
    """It stands in Hook-Subscription; recipients that come with events choose theirs."""
    try:
        made = factory(id=name)
    except ValidationError:
        return
    found = received(*made.build(envelope([]), "d", 1, 0))
    assert found.keys() == OURS
    assert found["hook-subscription"] == name.encode()


@given(TEXTS)
def test_a_name_of_an_event_cannot_inject_headers(name: str) -> None:
    """Undecodable, or percent-encoded in Hook-Event."""
    value = json.dumps({"event": name}).encode()
    made = decode(Record("orders", 0, 0, None, value, [], 0))
    if isinstance(made, Envelope):
        assert received(*PLAIN.build(made, "d", 1, 0)).keys() == OURS


@pytest.mark.parametrize("many", [50, 51])
def test_a_subscriber_has_so_many_headers(many: int) -> None:
    """More than any receiver reads are refused."""
    headers = {f"X-{number}": "a" for number in range(many)}
    if many > 50:
        with pytest.raises(ValidationError, match="at most 50"):
            factory(headers=headers)
    else:
        assert len(received(*factory(headers=headers).build(envelope([]), "d", 1, 0))) == 60


@pytest.mark.parametrize("headers", [{"x" * 129: "a"}, {"X": "a" * 8193}, {"X": "é" * 4097}])
def test_a_header_that_is_too_long_is_refused(headers: dict[str, str]) -> None:
    """With its name, as far as that is one."""
    with pytest.raises(ValidationError, match="is too long"):
        factory(headers=headers)
