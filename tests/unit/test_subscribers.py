"""Subscribers as they are written, and the directory of them."""

import hashlib
from typing import Any

import pytest
from pydantic import ValidationError

from thorn_stream.core.directory import Directory, from_map, parse_subscribers, sender_text
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.errors import ConfigurationError, InvalidSubscriber
from thorn_stream.core.records import Record
from thorn_stream.core.subscribers import Subscriber


def subscriber(**fields: Any) -> Subscriber:
    return Subscriber.model_validate(
        {"id": "billing", "event": "order.*", "url": "https://billing.example", **fields}
    )


def event(value: bytes = b'{"event":"order.paid"}') -> Envelope:
    decoded = decode(Record("orders", 0, 0, None, value, [], 0))
    assert isinstance(decoded, Envelope)
    return decoded


def unresolved(text: str) -> str:
    return text


def resolved(text: str) -> str:
    if text == "env:MISSING":
        raise ConfigurationError("the environment has no MISSING")
    return {"env:SECRET": "s3cr3t-value"}.get(text, text)


def test_only_id_event_and_url_are_needed() -> None:
    """One pattern or one secret may stand without a list around it."""
    one = subscriber(hmac_secret="a", user=42)
    assert one.event == ("order.*",)
    assert [secret.get_secret_value() for secret in one.hmac_secret] == ["a"]
    assert one.user == "42"
    assert (one.content_type, one.state, one.ordering) == ("application/json", "enabled", "none")
    assert subscriber(filter={}).filter is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("id", "a b"),
        ("id", "a\n"),
        ("id", "x" * 129),
        ("id", "é"),
        ("event", []),
        ("event", "a..b"),
        ("event", ["ok.*", "a b"]),
        ("url", ""),
        ("url", "https://" + "x" * 2048),
        ("user", True),
        ("filter", {"data__state": "x"}),
        ("filter", {"data__state__now_eq": "x"}),
        ("content_type", "text/plain"),
        ("hmac_secret", ""),
        ("hmac_secret", ["good", ""]),
        ("hmac_secret", "env:NAME"),
        ("hmac_secret", "file:/etc/passwd"),
        ("hmac_secret", "!os:getcwd"),
        ("hmac_secret", "whsec_***"),
        ("hmac_secret", "whsec_"),
        ("hmac_digest", "md5"),
        ("headers", {"Host": "x"}),
        ("headers", {"content-length": "1"}),
        ("headers", {"Content-Type": "x"}),
        ("headers", {"Transfer-Encoding": "chunked"}),
        ("headers", {"Connection": "close"}),
        ("headers", {"Hook-Event": "x"}),
        ("headers", {"webhook-id": "x"}),
        ("headers", {"X A": "x"}),
        ("headers", {"": "x"}),
        ("headers", {"X-A\r\n": "x"}),
        ("headers", {"X-A": "x\r\nX-B: y"}),
        ("headers", {"X-A": "x\x00"}),
        ("headers", {"X-A": "1", "x-a": "2"}),
        ("timeout", 0),
        ("timeout", float("inf")),
        ("retry_max", -1),
        ("retry_delay", float("nan")),
        ("retry_backoff", 0.5),
        ("retry_schedule", [5, -1]),
        ("dead_on", [99]),
        ("max_in_flight", 0),
        ("rate_limit", 0),
        ("state", "off"),
        ("nonsense", 1),
    ],
)
def test_what_cannot_be_used_is_refused(field: str, value: Any) -> None:
    """At the field that is wrong, without showing what was given: it may be a secret."""
    with pytest.raises(ValidationError) as refused:
        subscriber(**{field: value})
    assert [error["loc"][0] for error in refused.value.errors()] == [field]
    assert "passwd" not in str(refused.value)


def test_headers_of_its_own_may_carry_a_login() -> None:
    """It is the receiver's own secret; it is in no repr."""
    one = subscriber(headers={"Authorization": "Bearer t0ken", "X-Team": "é"}, hmac_secret="s3cr3t")
    assert one.headers["Authorization"] == "Bearer t0ken"
    assert "t0ken" not in repr(one)
    assert "s3cr3t" not in repr(one)
    assert "billing.example" not in repr(one)


def test_thorns_map_becomes_subscribers() -> None:
    """A URL, or an object with one; ids follow from pattern, URL and user."""
    made = from_map(
        {
            "order.*": ["https://a.example", {"url": "https://b.example", "user": 42}],
            "user.created": "https://a.example",
            "named.*": {"id": "mine", "url": "https://a.example"},
        }
    )
    digest = hashlib.sha256(b"order.*\nhttps://b.example\n42\n").hexdigest()
    without_user = hashlib.sha256(b"order.*\nhttps://a.example\n\n").hexdigest()
    assert [one.id for one in made][:2] == [f"map:{without_user[:16]}", f"map:{digest[:16]}"]
    assert [one.event for one in made][2:] == [("user.created",), ("named.*",)]
    assert made[1].user == "42"
    assert made[3].id == "mine"


def test_a_file_is_read_in_both_forms() -> None:
    """A list under `subscribers`, or Thorn's map; an empty file holds none."""
    listed = {"subscribers": [{"id": "a", "event": ["x", "y.*"], "url": "https://a.example"}]}
    assert [one.id for one in parse_subscribers(listed, "f.yaml", unresolved)] == ["a"]
    assert len(parse_subscribers({"x.*": ["https://a.example"]}, "f.yaml", unresolved)) == 1
    nested = {"subscribers": {"x.*": ["https://a.example"]}}
    assert len(parse_subscribers(nested, "f.yaml", unresolved)) == 1
    empty: list[Any] = [None, {}, {"subscribers": None}, {"subscribers": []}]
    for nothing in empty:
        assert parse_subscribers(nothing, "f.yaml", unresolved) == []


def test_secrets_are_looked_up_by_the_reader() -> None:
    """One or several; the model itself never sees the reference."""
    data = {
        "subscribers": [
            {"id": "a", "event": "x", "url": "https://a.example", "hmac_secret": "env:SECRET"},
            {"id": "b", "event": "x", "url": "https://a.example", "hmac_secret": ["n", "o"]},
            {"id": "c", "event": "x", "url": "https://a.example", "hmac_secret": None},
        ]
    }
    read = parse_subscribers(data, "f.yaml", resolved)
    secrets = [[secret.get_secret_value() for secret in one.hmac_secret] for one in read]
    assert secrets == [["s3cr3t-value"], ["n", "o"], []]


def test_every_mistake_in_a_file_is_named_at_once() -> None:
    """One line each: file, place in it, reason; no secret among them."""
    data = {
        "subscribers": [
            {"id": "a", "event": "x..y", "url": ""},
            "https://a.example",
            {"id": "b", "url": "https://b.example", "nope": 1, "hmac_secret": "env:MISSING"},
            {"id": "c", "event": ["ok", "[bad"], "url": "https://b.example", "dead_on": [1000]},
            {"id": "d", "event": "x", "url": "https://d.example", "hmac_secret": "file:s3cr3t"},
            {"id": "e", "event": "x", "url": "https://d.example", "hmac_secret": 5},
            {"id": "f", "event": "x", "url": "https://d.example"},
            {"id": "f", "event": "x", "url": "https://d.example"},
        ],
        "beside": 1,
    }
    with pytest.raises(InvalidSubscriber) as refused:
        parse_subscribers(data, "f.yaml", resolved)
    lines = str(refused.value).splitlines()
    for beginning in (
        "f.yaml: beside: nothing may stand beside",
        "f.yaml: subscribers[0].event: pattern 'x..y'",
        "f.yaml: subscribers[0].url: ",
        "f.yaml: subscribers[1]: expected an object",
        "f.yaml: subscribers[2].hmac_secret: the environment has no MISSING",
        "f.yaml: subscribers[2].event: is missing",
        "f.yaml: subscribers[2].nope: there is no such field",
        "f.yaml: subscribers[3].event: pattern '[bad' at character 1",
        "f.yaml: subscribers[3].dead_on",
        "f.yaml: subscribers[4].hmac_secret: ",
        "f.yaml: subscribers[5].hmac_secret",
        "f.yaml: subscribers[7].id: 'f' is the id of subscribers[6] already",
    ):
        assert any(line.startswith(beginning) for line in lines), (beginning, lines)
    assert len(lines) == 12
    assert "s3cr3t" not in str(refused.value)


def test_mistakes_in_thorns_map_are_named_by_pattern() -> None:
    """With the number in its list."""
    data = {
        "a..b": ["https://a.example"],
        "x.*": [5, {"url": "https://a.example", "event": "y"}, {"user": 1}],
        "y": ["https://a.example", "https://a.example"],
    }
    with pytest.raises(InvalidSubscriber) as refused:
        parse_subscribers(data, "f.yaml", unresolved)
    lines = str(refused.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "a..b[0].event",
        "x.*[0]",
        "x.*[1].event",
        "x.*[2].url",
        "y[1].id",
    ]


@pytest.mark.parametrize("data", ["text", 5, {"subscribers": "text"}, [5]])
def test_a_file_of_another_shape_is_refused(data: Any) -> None:
    """It says what was expected."""
    with pytest.raises(InvalidSubscriber, match=r"^f\.yaml: .*expected"):
        parse_subscribers(data, "f.yaml", unresolved)


def test_an_id_from_two_sources_is_an_error_that_names_both() -> None:
    """And all such ids at once."""
    with pytest.raises(InvalidSubscriber) as refused:
        Directory(
            [
                ("settings", [subscriber(), subscriber(id="b")]),
                ("file:a.yaml", [subscriber(), subscriber(id="c"), subscriber(id="c")]),
            ]
        )
    first, second = str(refused.value).splitlines()
    assert "'billing' stands in settings and in file:a.yaml" in first
    assert "'c' stands twice in file:a.yaml" in second


def test_the_directory_knows_everyone_by_id() -> None:
    """And where each comes from."""
    one, other = subscriber(), subscriber(id="b")
    directory = Directory([("settings", [one]), ("file:a.yaml", [other])])
    assert list(directory) == [one, other]
    assert len(directory) == 2
    assert directory.get("b") is other
    assert directory.get("nobody") is None
    assert directory.source("b") == "file:a.yaml"
    assert directory.source("nobody") is None
    assert len(Directory()) == 0


def test_recipients_are_those_whose_pattern_matches() -> None:
    """In the directory's order; for a name that was seen before the very same tuple."""
    some = [subscriber(id=name, event=event) for name, event in (("a", "*"), ("b", "x"))]
    directory = Directory([("settings", some)])
    first = directory.recipients(event())
    assert list(first) == [some[0]]
    assert directory.recipients(event()) is first
    assert directory.lookup("order.paid") is first


def test_user_filter_and_state_narrow_the_match() -> None:
    """A paused one is called later, so it matches; a disabled one never."""
    some = {
        "all": subscriber(id="all"),
        "user": subscriber(id="user", user="42"),
        "filter": subscriber(id="filter", filter={"data__state__eq": "OPEN"}),
        "paused": subscriber(id="paused", state="paused"),
        "disabled": subscriber(id="disabled", state="disabled", user="42"),
        "pattern": subscriber(id="pattern", event="other", state="disabled"),
    }
    directory = Directory([("settings", list(some.values()))])
    by_42 = event(b'{"event":"order.paid","sender":42,"data":{"state":"OPEN"}}')
    assert [one.id for one in directory.recipients(by_42)] == ["all", "user", "filter", "paused"]
    assert [one.id for one in directory.recipients(event())] == ["all", "paused"]
    assert {one.id: reason for one, reason in directory.explain(event())} == {
        "all": None,
        "user": "user",
        "filter": "filter",
        "paused": None,
        "disabled": "disabled",
        "pattern": "pattern",
    }


def test_recipients_and_explain_agree() -> None:
    """Who has no reason against it is a recipient."""
    some = [subscriber(id=f"s{n}", user=str(n), event=["order.*", "*.paid"]) for n in range(5)]
    directory = Directory([("settings", some)])
    by_3 = event(b'{"event":"order.paid","sender":"3"}')
    assert list(directory.recipients(by_3)) == [
        one for one, reason in directory.explain(by_3) if reason is None
    ]


def test_names_are_remembered_up_to_a_limit() -> None:
    """Ten thousand and more different names are answered right; memory is bounded."""
    directory = Directory([("settings", [subscriber()])])
    first = directory.lookup("order.n0")
    for number in range(10_000):
        assert directory.lookup(f"order.n{number}") == first
    assert directory.lookup("order.n0") is first
    directory.lookup("order.one.more")
    assert directory.lookup("order.n0") is not first
    assert directory.lookup("order.n0") == first


@pytest.mark.parametrize(
    ("sender", "text"),
    [("42", "42"), (42, "42"), (1.5, "1.5"), (None, None), (True, None), ({}, None), ([1], None)],
)
def test_a_sender_is_compared_as_text(sender: Any, text: str | None) -> None:
    """Texts and numbers; nothing else is a user's key."""
    assert sender_text(sender) == text


def test_an_ordered_subscriber_is_left_to_its_own_read() -> None:
    """The main path does not match it; its read asks for it alone, in whatever state it is."""
    base = {"event": "order.*", "url": "https://a.example/"}
    plain = Subscriber.model_validate({"id": "plain", **base})
    ordered = Subscriber.model_validate(
        {"id": "ordered", "ordering": "key", "user": "7", "state": "paused", **base}
    )
    directory = Directory([("test", [plain, ordered])])
    paid = event(b'{"event": "order.paid", "sender": 7}')
    assert list(directory.recipients(paid)) == [plain]
    assert directory.wants(ordered, paid)
    assert not directory.wants(plain, paid)
    assert directory.ordered == {"ordered": ordered}
    assert not directory.wants(ordered, event(b'{"event": "order.paid", "sender": 8}'))
    assert [one.id for one, why in directory.explain(paid) if why is None] == ["plain", "ordered"]
