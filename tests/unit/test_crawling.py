"""A receiver that crawls is passed by: it does not set the pace of a partition."""

import asyncio

from tests.support.dispatching import OK, ORDERS, Rig, World, subscriber, value
from thorn_stream.core.deliveries import Attempt, Outcome
from thorn_stream.core.flow import Limits

RATE = 1_000  # events in a second, of which one in a hundred is the crawling receiver's
TAKES = 2.0
SECONDS = 12
LIMITS = Limits(window=4 * RATE, lane_size=20, lane_wait_max=1.0)


def test_one_in_a_hundred_that_takes_two_seconds_does_not_bound_the_pace() -> None:
    """The window moves on past it: what it cannot take is parked, and comes in the end.

    It takes 2 of its 10 in a second. If all the others held their offsets until it took them, the
    partition would stand still from the fifth second on, at a full window.
    """
    world = World()

    async def life() -> None:
        async def answer(attempt: Attempt) -> Outcome:
            await asyncio.sleep(TAKES if attempt.target == "http://crawls" else 0.001)
            return OK

        quick = subscriber("quick", event="order.*")
        crawling = subscriber("crawls", event="slow.*", max_in_flight=4)
        rig = Rig(world, quick, crawling, answers=answer, limits=LIMITS).start()
        await rig.idle(0.1)
        ledger = rig.worker.main.ledgers[ORDERS]
        for _ in range(SECONDS * RATE // 100):
            rig.publish(value(event="slow.one"))
            rig.publish(value(event="order.paid"), count=99)
            await rig.idle(0.1)
            assert len(world.inputs) - ledger.next <= RATE // 10
            assert ledger.depth <= LIMITS.window * 7 // 8
        published = len(world.inputs)
        await rig.until(lambda: rig.committed == published, LIMITS.lane_wait_max + TAKES + 1.0)
        assert len(rig.sent_to("http://quick")) == published * 99 // 100
        assert world.parked
        await rig.until(lambda: not world.cursors, 600)
        assert len(rig.sent_to("http://crawls")) == published // 100

    world.live(life())
    assert world.dead == []
