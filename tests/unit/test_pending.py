"""Since when each subscriber's oldest event is pending: `thorn_oldest_pending_seconds`."""

from tests.support.dispatching import Rig, World, status, subscriber
from tests.support.ordering import OrderedRig, OrderedWorld
from thorn_stream.adapters.metrics import Metrics
from thorn_stream.core.circuit import CircuitRules
from thorn_stream.core.flow import Limits
from thorn_stream.dispatch.pending import oldest_pending


def ages(rig: Rig) -> dict[str, float]:
    return dict(oldest_pending(rig.worker, rig.transport, rig.clock.wall()))


def test_what_is_in_flight_and_what_is_queued_counts_from_when_it_was_written() -> None:
    """The oldest of either; who has nothing pending is not there."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a", max_in_flight=1), answers=None)
        rig.start()
        rig.publish()
        await rig.until(lambda: len(rig.under_way) == 1)
        await rig.idle(2)
        rig.publish(count=2)
        await rig.idle(1)
        assert 3.0 <= ages(rig)["a"] < 3.1
        rig.transport.answers = None
        rig.transport.end(rig.under_way[0], status(410))
        await rig.until(lambda: len(rig.transport.attempts) == 2)
        assert 1.0 <= ages(rig)["a"] < 1.1

    world.live(life())


def test_what_waits_for_a_retry_or_for_an_open_circuit_counts() -> None:
    """Held in a tier, or parked: wherever it is, it was written when it was written."""
    world = World()

    async def life() -> None:
        rules = CircuitRules(failures=2, open_for=1000, open_for_max=1000)
        rig = Rig(world, subscriber("a"), answers=status(500), circuit=rules).start()
        assert ages(rig) == {}
        rig.publish(count=3)
        await rig.idle(3)
        rig.publish(count=3)
        await rig.idle(1)
        assert 4.0 <= ages(rig)["a"] < 4.2

    world.live(life())


def test_of_an_ordered_subscriber_the_oldest_that_was_read_counts() -> None:
    """The rest of its backlog is younger: how much that is, the lag of its group tells."""
    world = OrderedWorld()

    async def life() -> None:
        only = subscriber("a", ordering="key")
        rig = await OrderedRig(world, only, answers=status(500), limits=Limits(window=2)).begin()
        rig.write(("x", 0), ("x", 1), ("x", 2), ("x", 3))
        await rig.idle(3)
        assert 3.0 <= ages(rig)["a"] < 3.1

    world.live(life())


def test_beyond_the_limit_of_series_the_greatest_age_stands_for_the_rest() -> None:
    """A sum of ages would say nothing."""
    metrics = Metrics(subscriber_limit=1)
    metrics.gauge("thorn_oldest_pending_seconds", lambda: {("a",): 9.0, ("b",): 7.0, ("c",): 5.0})
    lines = metrics.render()[0].decode().splitlines()
    assert [line for line in lines if line.startswith("thorn_oldest_pending_seconds{")] == [
        'thorn_oldest_pending_seconds{subscriber="a"} 9.0',
        'thorn_oldest_pending_seconds{subscriber="other"} 7.0',
    ]
