"""A Record in, Settlements out: what is delivered, tried again, given up, passed over."""

import pytest

from tests.support.dispatching import (
    DEAD,
    OK,
    ORDERS,
    TIERS,
    Rig,
    World,
    attempt_number,
    status,
    subscriber,
    told,
    value,
)
from thorn_stream.core.deliveries import Kind, Outcome, Reason
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.flow import Limits
from thorn_stream.core.handover import Held
from thorn_stream.core.ledger import Ledger, Tally
from thorn_stream.core.records import Record
from thorn_stream.core.request import RequestFactory
from thorn_stream.core.schedule import RetryPolicy
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.dispatch.lane import LaneSettings


def test_an_event_is_delivered_once_to_each_match_and_committed_only_afterwards() -> None:
    """The offset is not committed while one of two receivers has not answered."""
    world = World()

    async def life() -> None:
        rig = Rig(
            world,
            subscriber("a"),
            subscriber("b", event="order.*"),
            subscriber("c", event="user.*"),
            answers={"http://a": OK, "http://b": None},
        ).start()
        rig.publish()
        await rig.idle(2)
        assert [each.target for each in rig.transport.attempts] == ["http://a", "http://b"]
        assert rig.committed == 0
        rig.transport.end(rig.under_way[0], OK)
        await rig.until(lambda: rig.committed == 1)
        assert len(rig.transport.attempts) == 2
        assert rig.transport.attempts[0].body == value(0)
        assert len({each.delivery.id for each in rig.transport.attempts}) == 2
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())
    assert world.topics == {}


def test_what_nobody_is_to_get_is_committed_and_counted() -> None:
    """No match, a tombstone, an event too old: passed over on purpose, each in its own count."""
    world = World()

    async def life() -> None:
        limits = Limits(max_event_age=60.0)
        rig = Rig(world, subscriber("a", event="user.*"), limits=limits)
        rig.publish(value(event="user.old"))
        await rig.idle(60.5)
        rig.start()
        rig.publish(value(event="order.created"))
        rig.main.publish("orders", None)
        await rig.until(lambda: rig.committed == 3)
        assert rig.observer.named("unmatched") == [()]
        assert rig.observer.named("tombstone") == [()]
        assert rig.observer.named("dropped") == [("too_old",)]
        assert rig.transport.attempts == []
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())
    assert world.topics == {}


@pytest.mark.parametrize(
    "body", [b"no json", b"{}", b'{"event": "a..b"}', b"\xff\x00", b'{"event": 3}', b""]
)
def test_what_cannot_be_decoded_is_a_dead_letter_with_its_bytes(body: bytes) -> None:
    """Bytes, key and headers whole, reason `undecodable`, then committed; the next one goes on."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        rig.publish(body, key=b"its own", headers=[("trace", b"1"), ("thorn-x", b"no")])
        rig.publish()
        await rig.until(lambda: rig.committed == 2)
        assert len(rig.transport.attempts) == 1
        assert rig.observer.named("dead") == [(Reason.UNDECODABLE,)]

    world.live(life())
    (letter,) = world.dead
    assert (letter.value, letter.key) == (body, b"its own")
    headers = told(letter)
    assert headers["thorn-reason"] == "undecodable"
    assert headers["thorn-origin"] == "orders:0:0"
    assert headers["trace"] == "1"
    assert not {"thorn-delivery", "thorn-subscriber", "thorn-attempt", "thorn-x"} & headers.keys()


@pytest.mark.parametrize(
    "body",
    [
        b'{"event": "a", "data": {"big": 1e999, "n": ' + b"9" * 5000 + b"}}",
        b'{"event": "a", "ref": ' + b"1" * 5000 + b"}",
        b'{"event": "a", "sender": "\\ud800", "data": {"n": NaN}}',
        b'{"event": "a", "data": ' + b"[" * 690 + b"]" * 690 + b"}",
        b'{"event": "a", "data": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"event": "a", "data": 1, "event": "b", "ref": {}}',
    ],
)
def test_whatever_an_event_holds_it_is_delivered_or_dead(body: bytes) -> None:
    """Filters and other content types read further than the name; nothing of that hangs."""
    world = World()

    async def life() -> None:
        rig = Rig(
            world,
            subscriber("plain"),
            subscriber("user", user="7"),
            subscriber("filter", filter={"data__n__eq": 1}),
            subscriber("form", content_type="application/x-www-form-urlencoded"),
            subscriber("cloud", content_type="application/cloudevents+json"),
        ).start()
        rig.publish(body)
        await rig.until(lambda: rig.committed == 1)
        delivered = [outcome.error for _, outcome, _ in rig.observer.named("attempted")]
        assert delivered == ([] if world.dead else ["ok"] * 3)

    world.live(life())


def test_a_failed_attempt_goes_to_the_tier_that_covers_its_delay_before_jitter() -> None:
    """A delay of 15 s waits in the tier of 15 s though jitter shortens it; headers say all."""
    world = World()

    async def life() -> None:
        policy = RetryPolicy(delay=15.0, jitter=0.5)
        rig = Rig(world, subscriber("a"), answers=status(503), policy=policy).start()
        await rig.idle(1)
        rig.publish(key=b"k", headers=[("mine", b"1"), ("thorn-id", b"e1"), ("thorn-x", b"2")])
        await rig.until(lambda: rig.committed == 1)
        attempted_at = rig.observer.named("attempted")[0][0].first
        (record,) = world.tier(15)
        headers = told(record)
        assert record.key == headers["thorn-delivery"].encode()
        assert record.value == value(0)
        assert headers == {
            "mine": "1",
            "thorn-id": "e1",
            "thorn-delivery": rig.transport.attempts[0].delivery.id,
            "thorn-subscriber": "a",
            "thorn-attempt": "1",
            # dice say one half, jitter takes one half of that away
            "thorn-due": str(attempted_at + 11_250),
            "thorn-first": str(attempted_at),
            "thorn-error": "status:503",
            "thorn-origin": "orders:0:0",
            "thorn-timestamp": str(rig.world.inputs[0].timestamp),
            "thorn-key": "k",
        }

    world.live(life())
    assert world.dead == []


def test_a_retry_is_delivered_when_due_with_its_number_and_its_id() -> None:
    """Not before its due time and less than a second after; same ids; its own offset follows."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=[status(500), OK]).start()
        rig.publish()
        await rig.until(lambda: len(world.tier(5)) == 1)
        due = int(told(world.tier(5)[0])["thorn-due"])
        while len(rig.transport.attempts) == 1:
            before = rig.clock.wall()
            await rig.idle(0.001)
        assert rig.clock.wall() >= due
        assert before < due + 1000
        await rig.until(lambda: rig.tier_committed(5) == 1)
        first, second = rig.transport.attempts
        assert [attempt_number(first), attempt_number(second)] == [1, 2]
        assert first.delivery.id == second.delivery.id
        assert first.body == second.body
        assert rig.observer.named("settled")[-1][0].name == "delivered"
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())
    assert world.dead == []


def test_retries_end_in_the_dead_letter_topic_after_their_number() -> None:
    """1 + `retry_max` attempts, numbered without gaps, then one dead letter, `exhausted`."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a", retry_max=2), answers=status(500)).start()
        rig.publish(key=b"k")
        await rig.until(lambda: len(world.dead) == 1)
        await rig.idle(120)
        assert [attempt_number(each) for each in rig.transport.attempts] == [1, 2, 3]
        assert rig.tier_committed(5) == 2
        assert rig.observer.named("dead") == [(Reason.EXHAUSTED,)]
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())
    (letter,) = world.dead
    headers = told(letter)
    assert (letter.key, letter.value) == (b"a", value(0))
    assert headers["thorn-reason"] == "exhausted"
    assert headers["thorn-attempt"] == "3"
    assert headers["thorn-error"] == "status:500"
    assert headers["thorn-key"] == "k"
    assert headers["thorn-origin"] == "orders:0:0"


@pytest.mark.parametrize(
    ("outcome", "reason", "error"),
    [
        (status(410), "gone", "status:410"),
        (status(422), "rejected", "status:422"),
        (Outcome(Kind.BLOCKED, detail="ensure_port"), "blocked", "blocked:ensure_port"),
    ],
)
def test_some_outcomes_are_final_at_once(outcome: Outcome, reason: str, error: str) -> None:
    """410, a status in `dead_on` and a refused address make a dead letter after one Attempt."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a", dead_on=[422]), answers=outcome).start()
        rig.publish()
        await rig.until(lambda: rig.committed == 1)

    world.live(life())
    headers = told(world.dead[0])
    assert (headers["thorn-reason"], headers["thorn-error"]) == (reason, error)
    assert headers["thorn-attempt"] == "1"
    assert list(world.topics) == [DEAD]


def test_no_retry_is_dead_after_one_attempt() -> None:
    """`retry: false` uses no tier."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a", retry=False), answers=status(500)).start()
        rig.publish()
        await rig.until(lambda: rig.committed == 1)

    world.live(life())
    assert len(world.dead_of("exhausted")) == 1
    assert list(world.topics) == [DEAD]


def test_retry_after_that_is_later_than_the_schedule_holds() -> None:
    """Due when the receiver asked for, unshortened, in the tier that covers that."""
    world = World()

    async def life() -> None:
        policy = RetryPolicy(delay=5.0, jitter=0.5)
        asked = status(429, retry_after="40")
        rig = Rig(world, subscriber("a"), answers=[asked, OK], policy=policy).start()
        rig.publish()
        await rig.until(lambda: len(rig.transport.attempts) == 2)
        waited = rig.transport.attempts[1].delivery.queued_at  # never queued: sent when due
        assert waited == 0.0
        assert int(told(world.tier(60)[0])["thorn-due"]) <= rig.clock.wall()
        assert 40.0 <= rig.clock.now < 41.0

    world.live(life())


def test_a_delay_beyond_the_last_tier_waits_several_rounds() -> None:
    """150 s with a last tier of 60 s: further rounds with attempts unchanged, never early."""
    world = World()

    async def life() -> None:
        policy = RetryPolicy(delay=150.0, jitter=0.0, retry_max=1)
        rig = Rig(world, subscriber("a"), answers=[status(500), OK], policy=policy).start()
        rig.publish()
        await rig.until(lambda: len(rig.transport.attempts) == 2, 200)
        assert 150.0 <= rig.clock.now < 151.0
        assert attempt_number(rig.transport.attempts[1]) == 2
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())
    rounds = [told(record) for tier in TIERS for record in world.tier(tier)]
    assert len(world.tier(60)) == 3
    assert {each["thorn-attempt"] for each in rounds} == {"1"}
    assert len({each["thorn-due"] for each in rounds}) == 1
    assert len({each["thorn-first"] for each in rounds}) == 1
    assert world.dead == []


def test_an_unknown_subscriber_waits_for_its_grace_and_then_is_dead() -> None:
    """Rounds of waiting, not one attempt more, then a dead letter, `unsubscribed`."""
    world = World()

    async def life() -> None:
        limits = Limits(unknown_grace=100.0)
        rig = Rig(world, subscriber("a"), answers=status(500), limits=limits).start()
        rig.publish()
        await rig.until(lambda: rig.committed == 1)
        rig.change()
        await rig.until(lambda: len(world.dead) == 1, 200)
        assert 105.0 <= rig.clock.now < 106.0
        assert len(rig.transport.attempts) == 1
        assert len(world.tier(15)) < 20
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())
    headers = told(world.dead[0])
    assert headers["thorn-reason"] == "unsubscribed"
    assert (headers["thorn-attempt"], headers["thorn-error"]) == ("1", "status:500")


@pytest.mark.parametrize("grace", [0.0, 0.1, 0.3, 0.7, 1.1, 33.3, 600.0])
def test_the_grace_is_over_in_the_millisecond_in_which_it_ends(grace: float) -> None:
    """Not a moment before and, however fractions round, with no further round after."""
    world = World()

    async def life() -> None:
        rig = Rig(world, limits=Limits(unknown_grace=grace)).start()
        await rig.idle(0.123)
        ledger = Ledger(ORDERS, 0, 100, Tally())
        now = rig.clock.wall()
        for offset in range(2):
            envelope = decode(Record("orders", 0, offset, None, value(), [], now))
            entry = ledger.enter(offset, 1)
            assert isinstance(envelope, Envelope)
            assert entry is not None
            since = now - int(1000 * grace) + offset
            held = Held(envelope, "d", "gone", 1, now, now, unknown_since=since)
            rig.dispatcher.resume(held, entry)
        await rig.idle(0.001)
        assert [told(record)["thorn-origin"] for record in world.dead] == ["orders:0:0"]
        assert len(world.tier(5)) == 1
        assert int(told(world.tier(5)[0])["thorn-due"]) == now + 1

    world.live(life())


def test_a_subscriber_that_is_known_again_within_its_grace_gets_its_deliveries() -> None:
    """A file edited by mistake loses nothing; the clock of the grace begins anew afterwards."""
    world = World()

    async def life() -> None:
        limits = Limits(unknown_grace=100.0)
        answers = [status(500), status(500), OK]
        rig = Rig(world, subscriber("a"), answers=answers, limits=limits).start()
        rig.publish()
        await rig.until(lambda: rig.committed == 1)
        rig.change()
        await rig.idle(50)
        rig.change(subscriber("a"))
        await rig.until(lambda: len(rig.transport.attempts) == 2)
        rig.change()
        await rig.idle(70)  # 120 s in all, but not of one absence
        rig.change(subscriber("a"))
        await rig.until(lambda: len(rig.transport.attempts) == 3)
        assert [attempt_number(each) for each in rig.transport.attempts] == [1, 2, 3]

    world.live(life())
    assert world.dead == []


def test_a_changed_subscriber_is_called_as_it_is_now() -> None:
    """A retry that was written for the old URL goes to the new one."""
    world = World()

    async def life() -> None:
        answers = {"http://a": status(500), "http://new": OK}
        rig = Rig(world, subscriber("a"), answers=answers).start()
        rig.publish()
        await rig.until(lambda: rig.committed == 1)
        rig.change(subscriber("a", url="http://new"))
        await rig.until(lambda: rig.tier_committed(5) == 1)
        assert [each.target for each in rig.transport.attempts] == ["http://a", "http://new"]

    world.live(life())


@pytest.mark.parametrize("state", ["paused", "disabled"])
def test_what_waits_for_a_subscriber_that_is_not_enabled_waits_on(state: str) -> None:
    """Due retries are parked once, attempts unchanged, until it is enabled."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=[status(500), OK]).start()
        rig.publish()
        await rig.until(lambda: rig.committed == 1)
        rig.change(subscriber("a", state=state))
        await rig.idle(17)
        assert len(rig.transport.attempts) == 1
        assert rig.observer.named("settled")[-1][0].cause == "paused"
        rig.change(subscriber("a"))
        await rig.until(lambda: len(rig.transport.attempts) == 2)
        assert attempt_number(rig.transport.attempts[1]) == 2

    world.live(life())
    (record,) = world.parked
    (before,) = world.tier(5)
    headers = told(record)
    assert headers["thorn-attempt"] == "1"
    assert headers["thorn-error"] == "status:500"
    assert headers["thorn-first"] == told(before)["thorn-first"]


def test_a_paused_subscriber_is_not_called_and_a_disabled_one_not_matched() -> None:
    """New events: those of the paused one wait without an attempt, the disabled one gets none."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("p", state="paused"), subscriber("d", state="disabled")).start()
        rig.publish()
        await rig.until(lambda: rig.committed == 1)
        assert rig.transport.attempts == []

    world.live(life())
    (record,) = world.parked
    headers = told(record)
    assert record.key == b"p"
    assert headers["thorn-parked"] == "paused"
    assert headers["thorn-subscriber"] == "p"
    assert headers["thorn-attempt"] == "0"


def test_what_is_no_retry_record_is_a_dead_letter() -> None:
    """A record of a tier without our headers goes to the dead-letter topic, `undecodable`."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        rig.retry.publish("thorn.retry.5s", value(), key=b"x", headers=[("thorn-due", b"soon")])
        await rig.until(lambda: rig.tier_committed(5) == 1)
        assert rig.transport.attempts == []

    world.live(life())
    assert told(world.dead[0])["thorn-reason"] == "undecodable"
    assert (world.dead[0].key, world.dead[0].value) == (b"x", value())


class _Broken(RequestFactory):
    __slots__ = ()

    def build(
        self, envelope: Envelope, delivery_id: str, attempt: int, now: int
    ) -> tuple[bytes, bytes]:
        raise RecursionError("a fault of ours")


class _BrokenRig(Rig):
    def prepare(self, one: Subscriber) -> LaneSettings:
        settings = super().prepare(one)
        if one.id == "broken":
            settings.requests = _Broken(one, (), user_agent="test", source="test")
        return settings


def test_a_request_that_cannot_be_made_is_a_failed_attempt() -> None:
    """Its place is free again, the Delivery goes its way to the dead letters, others theirs."""
    world = World()

    async def life() -> None:
        limits = Limits(max_in_flight=1, max_connections=1)
        ones = subscriber("broken", retry_max=1), subscriber("a")
        rig = _BrokenRig(world, *ones, limits=limits).start()
        rig.publish(count=3)
        await rig.until(lambda: rig.committed == 3 and len(world.dead) == 3)
        assert len(rig.sent_to("http://a")) == 3
        await rig.until(lambda: rig.credit_is_whole)
        assert rig.dispatcher.lanes.in_flight == 0

    world.live(life())
    assert {told(record)["thorn-error"] for record in world.dead} == {
        "protocol:the request could not be made: RecursionError"
    }


def test_what_an_observer_hears_adds_up() -> None:
    """Every Attempt is told once with its Outcome and Settlement; every decision once."""
    world = World()

    async def life() -> None:
        answers = {"http://a": OK, "http://b": [status(500), OK], "http://c": status(410)}
        names = ("a", "b", "c")
        rig = Rig(world, *(subscriber(name) for name in names), answers=answers).start()
        rig.publish()
        await rig.until(lambda: rig.tier_committed(5) == 1)
        told_of = [
            (delivery.subscriber.id, delivery.attempts, outcome.error, settlement.name)
            for delivery, outcome, settlement in rig.observer.named("attempted")
        ]
        assert told_of == [
            ("a", 1, "ok", "delivered"),
            ("b", 1, "status:500", "retry"),
            ("c", 1, "status:410", "dead"),
            ("b", 2, "ok", "delivered"),
        ]
        settled = [settlement.name for (settlement,) in rig.observer.named("settled")]
        assert settled == ["delivered", "retry", "dead", "delivered"]
        assert rig.observer.named("handed_over") == [("retry", None), ("dead", None)]
        assert rig.observer.named("consumed") == [
            ("thorn", "orders", 1),
            ("thorn.retry", "thorn.retry.5s", 1),
        ]

    world.live(life())
