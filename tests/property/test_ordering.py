"""An ordered subscriber under any sequence of faults: no inversion, nothing lost."""

import json
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.dispatching import OK, ORDERS, status, subscriber
from tests.support.ordering import OrderedRig, OrderedWorld, inversions
from thorn_stream.core.deliveries import Attempt, Outcome
from thorn_stream.core.flow import Limits
from thorn_stream.core.ordering import Stuck, note, read_note
from thorn_stream.core.records import Position
from thorn_stream.core.schedule import RetryPolicy

KEYS: Final = ("x", "y", None)
STEPS: Final = st.sampled_from(
    ["publish", "publish", "publish", "wait", "crash", "revoke", "lose", "stall", "refuse", "pause"]
)


class Coins:
    """A receiver that fails as the coins say, and notes what it was sent and what it took."""

    def __init__(self, coins: list[bool]) -> None:
        self.coins = coins
        self.sent: dict[str, list[int]] = {}
        self.taken: dict[str, set[int]] = {}
        self.early: list[str] = []

    def __call__(self, attempt: Attempt) -> Outcome:
        data = json.loads(attempt.body)["data"]
        key, number = data["key"], data["number"]
        self.sent.setdefault(key, []).append(number)
        taken = self.taken.setdefault(key, set())
        if key != "None" and number and number - 1 not in taken:
            self.early.append(f"{key}: {number}")
        if self.coins and self.coins.pop():
            return status(503)
        taken.add(number)
        return OK


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=5, max_size=25), st.lists(st.booleans(), max_size=60))
def test_no_sequence_of_faults_breaks_the_order(steps: list[str], coins: list[bool]) -> None:
    """Crashes, partitions that come and go, stalls, refused commits, pauses, failing answers."""
    world = OrderedWorld()
    receiver = Coins(coins)
    only = subscriber("a", ordering="key", on_exhausted="block")
    counts = dict.fromkeys(("x", "y", "None"), 0)

    def publish(rig: OrderedRig) -> None:
        for key in KEYS:
            rig.write((key, counts[str(key)]))
            counts[str(key)] += 1

    async def life() -> None:
        rig = OrderedRig(
            world,
            only,
            answers=receiver,
            policy=RetryPolicy(delay=2.0, jitter=0.0),
            limits=Limits(window=20),
        )
        await rig.begin()
        while steps:
            step = steps.pop()
            if step == "publish":
                publish(rig)
            elif step == "crash":
                return
            else:
                await _happen(rig, step)
            await rig.idle(0.05)
        rig.change(only)
        rig.own.refuse = None
        await rig.until(lambda: _is_done(world), 600)

    while steps or not _is_done(world):
        world.live(life())
    assert receiver.early == []
    assert inversions({key: n for key, n in receiver.sent.items() if key != "None"}) == []
    assert receiver.taken == {key: set(range(n)) for key, n in counts.items() if n}


def _is_done(world: OrderedWorld) -> bool:
    return world.ordered_committed.get(ORDERS, Position(0)).offset == len(world.inputs)


async def _happen(rig: OrderedRig, step: str) -> None:
    if step == "wait":
        await rig.idle(3)
    elif step == "revoke":
        await rig.own.revoke(ORDERS)
        rig.own.assign(ORDERS)
    elif step == "lose":
        rig.own.lose(ORDERS)
        rig.own.assign(ORDERS)
    elif step == "stall":
        rig.clock.now += 15
    elif step == "refuse":
        rig.own.refuse = None if rig.own.refuse else "not now"
    else:
        state = "paused" if rig.read.subscriber.state == "enabled" else "enabled"
        rig.change(subscriber("a", ordering="key", on_exhausted="block", state=state))


MOMENTS: Final = st.integers(0, 2**52)
HEADS: Final[st.SearchStrategy[list[Any]]] = st.lists(
    st.builds(
        lambda offset, attempts, first, after: Stuck(offset, attempts, first, first + after),
        st.integers(0, 2**62),
        st.integers(1, 1000),
        MOMENTS,
        st.integers(0, 10**9),
    ),
    unique_by=lambda head: head.offset,
    max_size=64,
)


@given(HEADS, st.none() | st.integers(0, 2**62))
def test_a_note_tells_what_it_was_given(heads: list[Stuck], matched_to: int | None) -> None:
    """Whatever the heads are; and it has no sign in it that ends a note."""
    text = note(heads, matched_to)
    assert read_note(text) == ({head.offset: head for head in heads}, matched_to)
    assert "|" not in text


@given(st.text())
def test_reading_a_note_never_raises(text: str) -> None:
    """What is read as a head has been tried at least once."""
    heads, _ = read_note(text)
    assert all(head.attempts > 0 for head in heads.values())
