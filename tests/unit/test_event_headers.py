"""What an event's own headers do to its deliveries, on the first attempt and on every retry."""

import json
from typing import Any

import pytest

from tests.support.dispatching import OK, Rig, World, status, subscriber, told
from thorn_stream.app import _lane_settings
from thorn_stream.config import Settings
from thorn_stream.core.deliveries import Kind
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.extra import EventSubscriber
from thorn_stream.core.flow import Limits
from thorn_stream.core.overrides import EventRules
from thorn_stream.core.records import Headers, Record
from thorn_stream.core.subscribers import Subscriber

OPEN = EventRules(subscribers=True)


def recipients(*entries: object) -> Headers:
    return [("thorn-subscribers", json.dumps(entries).encode())]


def test_an_event_sets_its_own_timeout_and_retries() -> None:
    """On the first attempt and, since headers are kept, on each retry; then it is exhausted."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=status(500)).start()
        given: Headers = [
            ("thorn-timeout", b"1.5"),
            ("thorn-retry-max", b"2"),
            ("thorn-retry-delay", b"15"),
            ("thorn-allow-keepalive", b"false"),
        ]
        rig.publish(headers=given)
        rig.publish()
        await rig.until(lambda: len(world.dead) == 2, 120)
        first = [
            each for each in rig.transport.attempts if each.delivery.envelope.record.offset == 0
        ]
        assert [(each.timeout, each.keep_alive) for each in first] == [(1.5, False)] * 3
        others = [each for each in rig.transport.attempts if each not in first]
        assert [(each.timeout, each.keep_alive) for each in others] == [(3.0, True)] * 4
        assert len(world.tier(15)) == 2
        assert len(world.tier(5)) == 3

    world.live(life())
    assert len(world.dead_of("exhausted")) == 2


def test_a_subscribers_own_values_hold_against_an_events() -> None:
    """But of two timeouts the smaller one."""
    world = World()

    async def life() -> None:
        rig = Rig(
            world,
            subscriber("brief", timeout=1, retry=True),
            subscriber("patient", timeout=9, retry_max=0),
            answers=status(500),
        ).start()
        rig.publish(headers=[("thorn-timeout", b"2"), ("thorn-retry", b"false")])
        await rig.until(lambda: rig.committed == 1)
        timeouts = {str(each.target): each.timeout for each in rig.transport.attempts}
        assert timeouts == {"http://brief": 1.0, "http://patient": 2.0}

    world.live(life())
    assert [told(letter)["thorn-subscriber"] for letter in world.dead] == ["patient"]
    assert [told(one)["thorn-subscriber"] for one in world.tier(5)] == ["brief"]


def test_what_was_cut_or_left_out_is_counted_once_for_each_event() -> None:
    """However many subscribers and retries it has."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), subscriber("b"), answers=[status(500), OK, OK]).start()
        given: Headers = [
            ("thorn-timeout", b"1000"),
            ("thorn-retry", b"perhaps"),
            ("thorn-http-Host", b"x"),
            ("thorn-http-A\r\n", b"x"),
            ("thorn-unheard-of", b"x"),
            ("thorn-id", b"\x00"),
        ]
        rig.publish(headers=given)
        await rig.until(lambda: len(rig.transport.attempts) == 4)
        await rig.idle()
        assert rig.observer.named("clamped") == [("thorn-timeout",)]
        assert sorted(rig.observer.named("ignored")) == [
            ("thorn-*",),
            ("thorn-http",),
            ("thorn-http",),
            ("thorn-id",),
            ("thorn-retry",),
        ]
        assert {each.timeout for each in rig.transport.attempts} == {30.0}

    world.live(life())


def test_an_events_validators_refuse_its_recipients() -> None:
    """Also at a retry; others get it. What they refuse is dead at once."""
    world = World()

    async def life() -> None:
        rig = Rig(
            world,
            subscriber("plain", url="http://plain"),
            subscriber("safe", url="https://safe"),
            answers={"http://plain": OK, "https://safe": [status(500), OK]},
        ).start()
        rig.publish(headers=[("thorn-validators", b'[["ensure_protocol", ["https"]]]')])
        await rig.until(lambda: len(rig.sent_to("https://safe")) == 2)
        first, second = rig.sent_to("https://safe")
        assert first.guard is not None
        assert second.guard is first.guard

    world.live(life())
    (letter,) = world.dead_of("blocked")
    assert told(letter)["thorn-error"] == "blocked:ensure_protocol"
    assert told(letter)["thorn-subscriber"] == "plain"


def test_validators_that_cannot_be_read_let_nothing_out() -> None:
    """Each delivery is dead, `blocked`; no request is made; the partition goes on."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), subscriber("b")).start()
        rig.publish(headers=[("thorn-validators", b'[["ensure_prot", [443]]]')])
        await rig.until(lambda: rig.committed == 1)
        assert rig.transport.attempts == []
        kinds = [outcome.kind for _, outcome, _ in rig.observer.named("attempted")]
        assert kinds == [Kind.BLOCKED] * 2
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())
    errors = [told(letter)["thorn-error"] for letter in world.dead_of("blocked")]
    assert errors == ["blocked:thorn-validators"] * 2


def test_recipients_that_are_not_allowed_are_dead() -> None:
    """Each of them, with its own id; those that the settings know are called."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        (record,) = rig.publish(headers=recipients("http://x", {"id": "y", "url": "http://y"}))
        await rig.until(lambda: rig.committed == 1)
        assert [each.target for each in rig.transport.attempts] == ["http://a"]
        assert record.headers
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())
    letters = [told(letter) for letter in world.dead_of("not_allowed")]
    assert [letter["thorn-subscriber"] for letter in letters][1:] == ["y"]
    assert len({letter["thorn-delivery"] for letter in letters}) == 2
    assert {letter["thorn-attempt"] for letter in letters} == {"0"}
    assert json.loads(letters[1]["thorn-subscriber-definition"])["url"] == "http://y"


def test_recipients_that_come_with_an_event_are_called() -> None:
    """Beside those that match, or instead of them: then the event is not unmatched."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a", event="user.*"), rules=OPEN).start()
        rig.publish(headers=recipients("http://x", {"url": "http://y", "timeout": 1}))
        await rig.until(lambda: rig.committed == 1)
        sent = {str(each.target): each.timeout for each in rig.transport.attempts}
        assert sent == {"http://x": 3.0, "http://y": 1.0}
        assert rig.observer.named("unmatched") == []
        rig.publish(headers=recipients())
        await rig.until(lambda: rig.committed == 2)
        assert rig.observer.named("unmatched") == [()]

    world.live(life())
    assert world.topics == {}


def test_a_recipients_definition_travels_with_its_retries() -> None:
    """Nothing is looked up: it is not in the directory. Its attempts are counted as usual."""
    world = World()

    async def life() -> None:
        rig = Rig(world, answers=[status(500), status(500), OK], rules=OPEN).start()
        entry = {"id": "y", "url": "http://y", "timeout": 1, "retry_delay": 1}
        rig.publish(headers=recipients(entry))
        await rig.until(lambda: len(rig.transport.attempts) == 3)
        await rig.until(lambda: rig.tier_committed(5) == 2)
        assert [each.timeout for each in rig.transport.attempts] == [1.0] * 3
        assert len({each.delivery.id for each in rig.transport.attempts}) == 1
        assert rig.observer.named("settled")[-1][0].name == "delivered"

    world.live(life())
    assert world.dead == []
    first, second = (told(one) for one in world.tier(5))
    definition = json.loads(first["thorn-subscriber-definition"])
    assert definition["url"] == "http://y"
    assert first["thorn-subscriber-definition"] == second["thorn-subscriber-definition"]
    assert (first["thorn-attempt"], second["thorn-attempt"]) == ("1", "2")


def test_a_recipient_is_dead_when_the_setting_is_gone() -> None:
    """What waits for its retry is not called any more."""
    world = World()

    async def first_life() -> None:
        rig = Rig(world, answers=status(500), rules=OPEN).start()
        rig.publish(headers=recipients("http://x"))
        await rig.until(lambda: rig.committed == 1)

    async def second_life() -> None:
        rig = Rig(world).start()
        await rig.until(lambda: rig.tier_committed(5) == 1)
        assert rig.transport.attempts == []

    world.live(first_life())
    world.live(second_life())
    (letter,) = world.dead_of("not_allowed")
    assert told(letter)["thorn-attempt"] == "1"


def test_a_bad_recipient_is_dead_alone() -> None:
    """Reason `blocked`, with what is wrong as its error; the good one beside it is called."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("billing", url="http://billing"), rules=OPEN).start()
        bad = {"url": "http://x", "hmac_secret": "s3cret"}
        thief = {"id": "billing", "url": "http://thief"}
        rig.publish(headers=recipients(bad, thief, "http://good"))
        await rig.until(lambda: rig.committed == 1)
        sent = {str(each.target) for each in rig.transport.attempts}
        assert sent == {"http://billing", "http://good"}

    world.live(life())
    letters = [told(letter) for letter in world.dead_of("blocked")]
    assert len(letters) == 2
    assert "hmac_secret" in letters[0]["thorn-error"]
    assert "subscriber" in letters[1]["thorn-error"]
    for letter in letters:
        assert letter["thorn-subscriber"].startswith("url:")
        assert "s3cret" not in letter["thorn-error"]
        assert "thorn-subscriber-definition" not in letter


def test_two_recipients_under_one_id_share_nothing() -> None:
    """Each event's goes to its own URL, though one waits in line behind another."""
    world = World()

    async def life() -> None:
        rig = Rig(world, answers={"http://x": None, "http://y": None}, rules=OPEN).start()
        for url in ("http://x", "http://x", "http://y", "http://x"):
            rig.publish(headers=recipients({"id": "one", "url": url, "max_in_flight": 1}))
        while rig.committed < 4:
            await rig.idle(0.1)
            for attempt in rig.under_way:
                rig.transport.end(attempt, OK)
        sent = [str(each.target) for each in rig.transport.attempts]
        assert sorted(sent) == ["http://x"] * 3 + ["http://y"]
        for each in rig.transport.attempts:
            assert each.delivery.subscriber.url == each.target

    world.live(life())


def test_lanes_of_recipients_are_bounded() -> None:
    """However many different ones come along, over a reload as well; busy ones are kept."""
    world = World()

    async def life() -> None:
        never: Any = {f"http://r{n}": OK for n in range(1_500)} | {"http://stuck": None}
        rig = Rig(world, answers=never, rules=OPEN).start()
        rig.publish(headers=recipients("http://stuck"))
        for n in range(1_500):
            rig.publish(headers=recipients(f"http://r{n}"))
        await rig.until(lambda: len(rig.transport.attempts) == 1_501)
        await rig.idle()
        lanes = list(rig.dispatcher.lanes)
        assert len(lanes) <= 1_001
        assert "http://stuck" in {lane.subscriber.url for lane in lanes}
        rig.transport.end(rig.under_way[0], OK)
        await rig.until(lambda: rig.committed == 1_501)
        rig.change()
        assert len(list(rig.dispatcher.lanes)) <= 1_001

    world.live(life())


def test_a_definition_in_an_input_topic_means_nothing() -> None:
    """Only what we have written ourselves is believed: it is ignored, and counted."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=[status(500), OK], rules=OPEN).start()
        forged = b'{"id":"a","event":["**"],"url":"http://thief"}'
        rig.publish(headers=[("thorn-subscriber-definition", forged)])
        await rig.until(lambda: len(rig.transport.attempts) == 2)
        assert {each.target for each in rig.transport.attempts} == {"http://a"}
        assert rig.observer.named("ignored") == [("thorn-*",)]

    world.live(life())
    assert "thorn-subscriber-definition" not in told(world.tier(5)[0])


def test_a_recipient_that_cannot_be_tried_now_is_parked_with_its_definition() -> None:
    """It waits in the topic of parked deliveries, its attempts unchanged."""
    world = World()

    async def life() -> None:
        rig = Rig(
            world,
            limits=Limits(max_connections=0, lane_wait_max=1.0),
            rules=OPEN,
        ).start()
        rig.publish(headers=recipients("http://x"))
        await rig.until(lambda: rig.committed == 1)
        assert rig.transport.attempts == []

    world.live(life())
    (record,) = world.parked
    assert told(record)["thorn-attempt"] == "0"
    assert json.loads(told(record)["thorn-subscriber-definition"])["url"] == "http://x"


@pytest.mark.parametrize(("made", "signed"), [(Subscriber, True), (EventSubscriber, False)])
def test_the_master_secret_signs_for_nobody_that_came_with_an_event(
    made: type[Subscriber], signed: bool
) -> None:
    """A producer could else collect signatures by naming a URL of its own."""
    settings = Settings()
    one = made.model_validate({"id": "a", "event": "*", "url": "https://a.example"})
    envelope = decode(Record("orders", 0, 0, None, b'{"event": "a"}', [], 0))
    assert isinstance(envelope, Envelope)
    head, _ = _lane_settings(settings, lambda: "master")(one).requests.build(envelope, "d", 1, 0)
    assert (b"Hook-HMAC" in head) is signed
    assert (b"webhook-signature" in head) is signed
