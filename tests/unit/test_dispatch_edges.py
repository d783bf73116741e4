"""Corners of dispatch that the tests of each noun do not reach."""

from tests.support.dispatching import Rig, World, subscriber


def test_a_worker_that_never_started_can_leave() -> None:
    """The process may be told to stop before it has begun."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"))
        assert await rig.worker.leave(1.0)

    world.live(life())
