"""What becomes of each kind of Record: the table of docs/messages.md, row by row."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.dispatching import Rig, World, retry_topic, subscriber, told
from thorn_stream.core.deliveries import Kind, Outcome, Reason
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.handover import Held, headers, restore
from thorn_stream.core.records import Headers, Record

PAGE = Path(__file__).parents[2] / "docs" / "messages.md"

DELIVERED = "delivered"
SKIPPED = "skipped, counted"
DEAD = "dead letter, `undecodable`"
NESTED = b"[" * 10_000 + b"]" * 10_000


@dataclass(frozen=True)
class Fate:
    """One row: `what` stands in the Record, and what becomes of it; who is told."""

    what: str
    value: bytes | None
    fate: str
    headers: Headers = field(default_factory=list)
    counted: tuple[tuple[str, str], ...] = ()


PLAIN = b'{"event": "order.created"}'
FATES = [
    Fate("null value (tombstone)", None, SKIPPED),
    Fate("empty value", b"", DEAD),
    Fate("not UTF-8", b'{"event": "a", "data": "\xff"}', DEAD),
    Fate("UTF-8 with a byte order mark", b"\xef\xbb\xbf" + PLAIN, DEAD),
    Fate("not JSON", b"order.created", DEAD),
    Fate("JSON cut short", PLAIN[:-1], DEAD),
    Fate("more after the JSON", PLAIN + b" {}", DEAD),
    Fate("a JSON text, number, `true` or `null`", b'"order.created"', DEAD),
    Fate("a JSON list", b"[" + PLAIN + b"]", DEAD),
    Fate("no `event`", b'{"data": {}}', DEAD),
    Fate("`event` is no text", b'{"event": 7}', DEAD),
    Fate("`event` is empty", b'{"event": ""}', DEAD),
    Fate("`event` of 255 characters", b'{"event": "' + b"x" * 255 + b'"}', DELIVERED),
    Fate("`event` of 256 characters or more", b'{"event": "' + b"x" * 256 + b'"}', DEAD),
    Fate("an empty part in `event`: `a..b`, `.a`, `a.`", b'{"event": "a..b"}', DEAD),
    Fate("white space or a control character in `event`", b'{"event": "a b"}', DEAD),
    Fate("nested 100 deep", b'{"event": "a", "data": %b}' % (b"[" * 100 + b"]" * 100), DELIVERED),
    Fate("nested 10,000 deep", b'{"event": "a", "data": %b}' % NESTED, DEAD),
    Fate("`NaN`, `Infinity`: no JSON", b'{"event": "a", "data": NaN}', DEAD),
    Fate("a number beyond a double: `1e999`", b'{"event": "a", "data": 1e999}', DELIVERED),
    Fate("a key twice: the last one counts", b'{"event": "", "event": "a"}', DELIVERED),
    Fate("10 MB", b'{"event": "a", "data": "%b"}' % (b"x" * 10_000_000), DELIVERED),
    Fate("further top-level keys", b'{"event": "a", "more": [1]}', DELIVERED),
    Fate(
        "`thorn-id` that is not 1 to 128 printable ASCII characters: one is derived",
        PLAIN,
        DELIVERED,
        [("thorn-id", b"\xff")],
        (("ignored", "thorn-id"),),
    ),
    Fate(
        "a number or truth value that cannot be read in a `thorn-` header: left out",
        PLAIN,
        DELIVERED,
        [("thorn-timeout", b"soon"), ("thorn-retry", b"\xff\xfe")],
        (("ignored", "thorn-timeout"), ("ignored", "thorn-retry")),
    ),
    Fate(
        "one beyond its ceiling: cut to it",
        PLAIN,
        DELIVERED,
        [("thorn-timeout", b"3600")],
        (("clamped", "thorn-timeout"),),
    ),
    Fate(
        "`thorn-validators` that cannot be read: nothing is sent",
        PLAIN,
        "dead letter, `blocked`",
        [("thorn-validators", b"[[")],
    ),
    Fate(
        "`thorn-http-NAME` that is not allowed: left out",
        PLAIN,
        DELIVERED,
        [("thorn-http-Cookie", b"a=b")],
        (("ignored", "thorn-http"),),
    ),
    Fate(
        "any other `thorn-` header: ignored, not copied on",
        PLAIN,
        DELIVERED,
        [("thorn-attempt", b"7"), ("thorn-made-up", b"x")],
        (("ignored", "thorn-*"), ("ignored", "thorn-*")),
    ),
    Fate(
        "a CloudEvent without `id`, `source`, `type` or `specversion` 1.x",
        b"1",
        DEAD,
        [("ce_specversion", b"1.0"), ("ce_type", b"a"), ("ce_id", b"1")],
    ),
    Fate(
        "a CloudEvent whose data is not what `content-type` says",
        b"no json",
        DEAD,
        [
            ("ce_specversion", b"1.0"),
            ("ce_type", b"a"),
            ("ce_id", b"1"),
            ("ce_source", b"s"),
            ("content-type", b"application/json"),
        ],
    ),
]


@pytest.mark.parametrize("row", FATES, ids=lambda row: row.what)
def test_each_kind_of_record_has_its_fate(row: Fate) -> None:
    """Delivered, skipped or dead with its bytes; counted; and the event after it is delivered."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        rig.world.inputs.append(rig.main.publish("orders", row.value, headers=row.headers))
        rig.publish()
        await rig.until(lambda: rig.committed == 2)
        told_of = [call for call in rig.observer.calls if call.name in ("ignored", "clamped")]
        assert [(call.name, *call.arguments) for call in told_of] == list(row.counted)
        assert len(rig.transport.attempts) == (2 if row.fate == DELIVERED else 1)
        assert len(rig.observer.named("tombstone")) == (row.fate == SKIPPED)
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())
    assert f"| {row.what} | {row.fate} |" in PAGE.read_text().splitlines()
    reasons = [told(letter)["thorn-reason"] for letter in world.dead]
    assert [f"dead letter, `{reason}`" for reason in reasons] == (
        [] if row.fate in (DELIVERED, SKIPPED) else [row.fate]
    )
    assert all(letter.value == row.value for letter in world.dead)


def test_the_page_tells_every_fate() -> None:
    """No row of it is left untested."""
    rows = PAGE.read_text().split("## What becomes of a record")[1].split("\n## ")[0]
    told_there = [line for line in rows.splitlines() if line.startswith("| ")]
    assert len(told_there) - 1 == len(FATES)


GARBLED = [
    *(("thorn-attempt", b"two"), ("thorn-due", b""), ("thorn-first", b"\xff")),
    *(("thorn-origin", b"orders"), ("thorn-delivery", b""), ("thorn-id", b"\x00")),
    *(("thorn-timestamp", None), ("thorn-subscriber-definition", b"{}")),
    *(("thorn-subscriber-definition", b"\xff"), ("thorn-subscriber-definition", b"[" * 5_000)),
]


@pytest.mark.parametrize(("name", "value"), GARBLED)
def test_a_retry_record_with_garbled_headers_is_dead(name: str, value: bytes | None) -> None:
    """Its bytes whole, reason `undecodable`; the tier goes on."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        good = await _written(rig)
        made = [(key, value if key == name else text) for key, text in good.headers]
        made += [(name, value)] if name not in dict(made) else []
        rig.retry.feed([Record(retry_topic(5), 0, 1, b"k", good.value, made, good.timestamp)])
        await rig.until(lambda: rig.tier_committed(5) == 2)
        assert rig.observer.named("dead") == [(Reason.UNDECODABLE,)]

    world.live(life())
    (letter,) = world.dead
    assert letter.value == PLAIN


async def _written(rig: Rig) -> Record:
    """A retry record as it is written, after it has been read."""
    rig.transport.answers = lambda attempt: _failing(len(rig.transport.attempts))
    rig.publish(PLAIN)
    await rig.until(lambda: rig.tier_committed(5) == 1)
    return rig.world.tier(5)[0]


def _failing(made: int) -> Outcome:
    return Outcome(Kind.TIMEOUT) if made == 1 else Outcome(Kind.OK, 200)


def test_an_event_is_the_same_one_on_every_round() -> None:
    """Its headers are kept, so its id, its settings and its kind come back from a retry record."""
    value = b'{"n": 1}'
    given: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_type", b"order.created"),
        ("ce_id", b"7"),
        ("ce_source", b"/shop"),
        ("content-type", b"application/json"),
        ("thorn-timeout", b"1.5"),
        ("thorn-subscriber-definition", b"not one of ours"),
    ]
    first = decode(Record("orders", 0, 9, None, value, given, 5))
    assert isinstance(first, Envelope)
    once = Held(first, "d", "a", attempts=1, due=1, first=1)
    for _ in range(3):
        again = restore(Record(retry_topic(5), 0, 0, None, value, headers(once), 9))
        assert isinstance(again, Held)
        assert (again.envelope.id, again.envelope.event) == (first.id, "order.created")
        assert again.envelope.value == first.value
        assert again.envelope.own is not None
        assert again.definition == ""
        once = again
