"""One dispatcher process: it joins the groups, turns the wheel, and stops without losing any."""

import asyncio
from collections.abc import Callable
from typing import Final

from thorn_stream.core.flow import stalled
from thorn_stream.core.rates import Shares, share
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.dispatcher import Dispatcher
from thorn_stream.dispatch.intake import Intake
from thorn_stream.dispatch.leaving import Leaving
from thorn_stream.dispatch.ordered_reads import OrderedReads
from thorn_stream.dispatch.parked import Parked
from thorn_stream.dispatch.tiers import TierIntake
from thorn_stream.dispatch.waiting import Waiting
from thorn_stream.ports import Source

__all__ = ["Worker"]

_TICK: Final = 0.02
_RELEASE: Final = 64
"""Due retries begun before the loop looks at sockets again."""
_STUCK_AFTER: Final = 30.0


class Worker:
    """Main and retry intake around one Dispatcher, on one event loop."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        waiting: Waiting,
        main: tuple[str, Source],
        retry: tuple[str, Source],
        context: Context,
    ) -> None:
        self.dispatcher = dispatcher
        self.waiting = waiting
        self.main = Intake(*main, dispatcher.consume, context)
        self.main.hold_back = lambda: dispatcher.lanes.holding
        self._leaving = Leaving(dispatcher.park, dispatcher.called, context)
        self.main.leaving = lambda: self._leaving.part(dispatcher.lanes.take_all(leaving=True))
        self.retry = TierIntake(*retry, waiting.consume, context)
        self.retry.forgot = waiting.purge
        self.intakes: tuple[Intake, ...] = (self.main, self.retry)
        # whose partitions stand for later attempts (see `_share`)
        self.others: list[Intake] = [self.retry]
        self.context = context
        self._clock = context.clock
        self._turned: float | None = None  # when the loop was last known to turn
        dispatcher.lanes.look = self.look
        for intake in self.intakes:
            intake.look = self.look
        self._timer: asyncio.TimerHandle | None = None
        self._releasing = False
        self.ordered: OrderedReads | None = None
        self.parked: Parked | None = None

    def serve(self, ordered: OrderedReads) -> None:
        """Turn the wheel of these reads as well."""
        self.ordered = ordered
        ordered.look = self.look

    def read_parked(self, parked: Parked) -> None:
        """Drain parked deliveries as well; before `start`."""
        self.parked = parked
        parked.intake.look = self.look
        parked.intake.hold_back = lambda: self.dispatcher.lanes.holding
        self.intakes = (*self.intakes, parked.intake)
        self.others.append(parked.intake)

    @property
    def _all(self) -> tuple[Intake, ...]:
        return (*self.intakes, *(self.ordered.intakes if self.ordered is not None else ()))

    def start(self) -> None:
        """Join the groups; everything else follows from what the Sources say."""
        for intake in self.intakes:
            intake.start()
        if self.ordered is not None:
            self.ordered.start()
        self._tick()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_TICK, self._tick)
        self.look()
        self._turned = self._clock.monotonic()
        self._share()
        self.dispatcher.tick()
        for intake in self._all:
            intake.tick()
        if self.parked is not None:
            self.parked.tick()
        if self.ordered is not None:
            self.ordered.tick()
        if not self._releasing:
            self._release()

    def _share(self) -> None:
        """Which part of the groups' partitions is ours: that part of each rate is, too."""
        self.dispatcher.lanes.shares = Shares(
            share(len(self.main.ledgers), self.main.total),
            share(
                sum(len(intake.ledgers) for intake in self.others),
                sum(intake.total for intake in self.others),
            ),
        )

        if self.ordered is not None:
            self.dispatcher.lanes.own_shares = self.ordered.shares

    def look(self) -> None:
        """Notice that the process stood still, before anything is begun after it.

        Whatever comes first then (records, answers, the next tick) asks here.
        """
        now = self._clock.monotonic()
        if self._turned is not None and stalled(now - self._turned):
            for intake in self._all:
                intake.begin_hold()
            self._turned = now

    def _release(self) -> None:
        """Give on what is due, a slice at a time; held back, wait for the next tick."""
        self.look()
        may = self.retry.taking and not self.retry.hold.on
        more = may and self.waiting.release_due(_RELEASE)
        self._releasing = more and not self.dispatcher.lanes.holding
        if self._releasing:
            asyncio.get_running_loop().call_soon(self._release)

    # --- how it is -----------------------------------------------------------------------------

    def reasons(self) -> list[str]:
        """Why it is not ready, a line each; none when it is."""
        reasons = [
            trouble.text
            for intake in self._all
            for trouble in intake.troubles.values()
            if trouble.text
        ]
        reasons += [
            f"group {intake.group}: not assigned yet: waiting to join"
            for intake in self._all
            if not intake.joined
        ]
        reasons += [
            f"group {intake.group}: no commit has been answered for {stalled:.0f} s"
            for intake in self._all
            if (stalled := intake.commit_unanswered) > _STUCK_AFTER
        ]
        if self.parked is not None:
            reasons += self.parked.reasons
        if self.ordered is not None:
            reasons += self.ordered.reasons
        settler = self.dispatcher.settler
        if settler.failing:
            reasons.append(f"{settler.failing} hand-overs are refused: {settler.last_error}")
        return list(dict.fromkeys(reasons))  # both groups tell that no broker answers

    # --- how it ends ---------------------------------------------------------------------------

    async def drain(self, within: float) -> bool:
        """Stop intake, let what is under way end, commit; True when nothing was left open.

        What is queued or held was not begun: its offsets are not committed, so the next owner
        of the partitions begins it; of a record that others had already it is parked instead.
        """
        deadline = self._now() + within
        for intake in self._all:
            intake.stop_taking()
        if self.parked is not None:
            self.parked.stop_taking()
        self._leaving.part(self.dispatcher.lanes.take_all())
        ended = await self._until(lambda: not self._busy, deadline)
        if self.parked is not None:  # what has ended moved cursors, and commits may wait for them
            ended = await self._until(self.parked.finish, deadline) and ended
        for intake in self._all:
            intake.commit(force=True)
        committed = await self._until(self._all_committed, deadline)
        return ended and committed

    async def leave(self, within: float) -> bool:
        """Leave the groups; True when that was done in time."""
        try:  # the tick goes on meanwhile: leaving asks for the last positions
            left = await asyncio.gather(*(intake.stop(within) for intake in self._all))
        finally:
            if self._timer is not None:
                self._timer.cancel()
        return all(left)

    @property
    def _busy(self) -> bool:
        begun = self.parked is not None and self.parked.busy
        return begun or any(intake.busy for intake in self._all)

    def _all_committed(self) -> bool:
        return not any(intake.uncommitted for intake in self._all)

    async def _until(self, condition: Callable[[], bool], deadline: float) -> bool:
        while not condition():
            if self._now() >= deadline:
                return False
            await asyncio.sleep(_TICK / 2)
        return True

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
