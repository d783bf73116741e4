"""Recipients that come with an event: who may be one, under which id."""

import hashlib
import json

import pytest

from thorn_stream.core.extra import EventSubscriber, Extra, extra_recipients, recipient_from
from thorn_stream.core.overrides import EventRules

RULES = EventRules(retry_delay_max=100.0, max_in_flight=8)
URL = "https://a.example/hook"


def digest(text: str) -> str:
    return "url:" + hashlib.sha256(text.encode()).hexdigest()[:16]


def read(*entries: object) -> list[Extra]:
    return list(extra_recipients(json.dumps(entries).encode(), RULES))


def usable(entry: object) -> EventSubscriber:
    (extra,) = read(entry)
    assert extra.subscriber is not None, extra.why
    return extra.subscriber


def refused(entry: object) -> str:
    (extra,) = read(entry)
    assert extra.subscriber is None
    assert extra.definition == ""
    assert len(extra.why.splitlines()) == 1
    return extra.why


def test_a_url_is_a_recipient() -> None:
    """Its id is derived from the URL, and the same when an object has none of its own."""
    (plain,) = read(URL)
    (dressed,) = read({"url": URL, "timeout": 1})
    assert plain.id == dressed.id == digest(URL)
    assert plain.subscriber is not None
    assert plain.subscriber.url == URL
    assert plain.subscriber.hmac_secret == ()


def test_an_object_says_how_it_is_to_be_called() -> None:
    """With the fields that an event may choose; `event` changes nothing."""
    one = usable(
        {
            "id": "shop-7",
            "event": "user.*",
            "url": URL,
            "timeout": 1.5,
            "retry": False,
            "dead_on": [404, 403],
            "headers": {"X-Shop": "7"},
            "content_type": "application/x-www-form-urlencoded",
        }
    )
    assert (one.id, one.timeout, one.retry) == ("shop-7", 1.5, False)
    assert (one.dead_on, one.headers) == (frozenset({403, 404}), {"X-Shop": "7"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hmac_secret", "s3cret"),
        ("hmac_secret", None),
        ("hmac_digest", "sha1"),
        ("tls", {"cert_file": "/etc/thorn/client.pem"}),
        ("filter", {"data__n__eq": 1}),
        ("user", "7"),
        ("state", "paused"),
        ("ordering", "key"),
        ("rate_limit", 5),
        ("no_such_field", 1),
    ],
)
def test_what_an_event_may_not_choose_is_refused(field: str, value: object) -> None:
    """Secrets, files, who else gets it; the reason names the field and never what it held."""
    why = refused({"url": URL, field: value})
    assert field in why
    assert "s3cret" not in why
    assert "client.pem" not in why


@pytest.mark.parametrize(
    "entry",
    [
        7,
        None,
        [URL],
        {},
        {"url": None},
        {"url": ""},
        {"url": "https://a.example/" + "x" * 2048},
        {"url": URL, "id": "a b"},
        {"url": URL, "timeout": 0},
        {"url": URL, "retry_delay": -1},
        {"url": URL, "headers": {"authorization": "Bearer s3cret"}},
        {"url": URL, "headers": {"Cookie": "a=b"}},
        {"url": URL, "headers": {"Host": "b.example"}},
        {"url": URL, "headers": {"A": "1\r\nB: 2"}},
        {"url": URL, "description": "x" * 8192},
    ],
)
def test_an_entry_that_cannot_be_used_stands_alone(entry: object) -> None:
    """It has an id from its own text; the entries beside it are not concerned."""
    bad, good = read(entry, "https://b.example")
    assert bad.subscriber is None
    assert bad.id == digest(json.dumps(entry))
    assert "s3cret" not in bad.why
    assert good.subscriber is not None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"https://a.example",
        b'"https://a.example"',
        b'{"url": "https://a.example"}',
        b'["https://a.example"',
        b"[" * 5_000 + b"]" * 5_000,
        b"[%b]" % b",".join([b'"https://a.example"'] * 101),
        b"[%b]" % (b" " * 70_000),
    ],
)
def test_a_header_that_is_no_list_is_one_bad_entry(text: bytes) -> None:
    """So that it is seen, and not passed over in silence."""
    (extra,) = extra_recipients(text, RULES)
    assert extra.subscriber is None
    assert extra.why
    assert extra.id.startswith("url:")


def test_the_same_entry_twice_is_one_recipient() -> None:
    """Another one under its id cannot be used, since deliveries are told apart by it."""
    assert len(read(URL, URL, {"url": URL})) == 1
    first, second = read({"id": "a", "url": URL}, {"id": "a", "url": "https://b.example"})
    assert first.subscriber is not None
    assert second.subscriber is None
    assert "twice" in second.why
    assert second.id != first.id
    assert read() == []


def test_limits_are_cut_to_what_the_settings_allow() -> None:
    """Those that no ceiling of a subscriber's values meets later."""
    one = usable({"url": URL, "retry_schedule": [5, 1e9], "max_in_flight": 1000})
    assert (one.retry_schedule, one.max_in_flight) == ((5.0, 100.0), 8)


def test_a_definition_is_read_back() -> None:
    """As ASCII without anything that has its default; for that subscriber alone."""
    given = {"url": URL, "headers": {"X": "é"}, "dead_on": [404, 400], "retry_schedule": [1]}
    (extra,) = read(given)
    assert extra.definition.isascii()
    assert json.loads(extra.definition).keys() == {*given, "id", "event"}
    assert recipient_from(extra.definition, extra.id, RULES) == extra.subscriber
    with pytest.raises(ValueError, match="another subscriber"):
        recipient_from(extra.definition, "billing", RULES)


@pytest.mark.parametrize(
    "definition", ["", "[", "7", "{}", '{"url": 7}', '{"id": "a", "url": "http://a", "tls": {}}']
)
def test_a_definition_that_is_none_is_a_value_error(definition: str) -> None:
    """Whoever reads a retry record makes a dead letter of it."""
    with pytest.raises(ValueError, match=r"."):
        recipient_from(definition, "a", RULES)
