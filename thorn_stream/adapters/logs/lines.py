"""One canonical line per failed Attempt, and one when something changes for an operator."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from thorn_stream.core.deliveries import Dead, Delivery, Kind, Outcome, Retry, Settlement
from thorn_stream.core.records import Partition, Record
from thorn_stream.ports import NOT_ASSIGNED, Trouble

__all__ = ["LogObserver"]

_REMIND: Final = 30.0
_OF_THE_CONNECTION: Final = ("broker", "login")
_WELL: Final = 5.0  # what fails now and then is told as one thing that lasts, not as many
_MOST_PARTITIONS: Final = 50
_OK: Final = Kind.OK
_CAME: Final = {
    "trouble": "trouble",
    "commit": "commits refused",
    "hand-over": "hand-overs failing",
}
_ENDED: Final = {
    "trouble": "trouble over",
    "commit": "commits accepted again",
    "hand-over": "hand-overs succeed again",
}
_OF_A_REBALANCE: Final = frozenset(
    {
        *("ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS", "UNKNOWN_MEMBER_ID"),
        *("STALE_MEMBER_EPOCH", "FENCED_MEMBER_EPOCH"),  # KIP-848's names for the first and third
        NOT_ASSIGNED,  # never asked of Kafka: the partition had gone just before
    }
)
"""Reasons to refuse a commit while partitions move: the next owner repeats a little."""
_NAMES: Final = {"trouble": ("group", "key"), "commit": ("group",), "hand-over": ("kind",)}


class _Flood:
    """Lets so many lines of one kind through per second, and counts the rest."""

    __slots__ = ("_per_second", "_room", "_second", "left_out")

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._second = -1
        self._room = 0
        self.left_out = 0

    def allows(self, now: float) -> bool:
        second = int(now)
        if second != self._second:
            self._second, self._room = second, self._per_second
        if self._room:
            self._room -= 1
            return True
        self.left_out += 1
        return False

    def taken(self, now: float) -> int:
        """How many were left out in seconds that are over; counted from 0 again."""
        if int(now) == self._second:
            return 0
        count, self.left_out = self.left_out, 0
        return count


@dataclass(slots=True)
class _State:
    """Something that lasts: a trouble, or commits that fail. Told now and then, not each time.

    `passing`: nothing but what passes by itself has been seen of it.
    """

    text: str
    since: float
    told: float
    times: int = 0
    passing: bool = False
    well_since: float | None = None


class LogObserver:
    """Writes lines about what it is told (it is an `Observer`).

    `successes` writes one for each 2xx as well, and then none is left out; else at most
    `per_second` lines of each kind are written per second, and how many were left out.
    `tick` is to be called about once a second. `clock` gives seconds that never go back.
    """

    def __init__(
        self,
        logger: FilteringBoundLogger,
        *,
        successes: bool = False,
        per_second: int = 200,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._clock = clock
        self._successes = successes and logger.is_enabled_for(logging.INFO)
        self._all = successes
        self._per_second = per_second
        self._floods: dict[str, _Flood] = {}
        self._states: dict[tuple[str, ...], _State] = {}

    def tick(self) -> None:
        """Say what still lasts, each 30 s, and how many lines the last second was too short for."""
        now = self._clock()
        for kind, flood in self._floods.items():
            if flood.left_out and (count := flood.taken(now)):
                self._logger.warning("lines left out", kind=kind, count=count)
        for key, state in tuple(self._states.items()):
            if state.well_since is not None and now - state.well_since >= _WELL:
                self._end(key, state, state.well_since)
            elif now - max(state.told, self._told_by_another(key)) >= _REMIND:
                self._tell(key, state, now)

    # Attempts

    def attempted(self, delivery: Delivery, outcome: Outcome, settlement: Settlement) -> None:
        ok = outcome.kind is _OK
        if ok and not self._successes:
            return
        if not self._all and not self._has_room("attempt"):
            return
        line: dict[str, Any] = {
            "event_name": delivery.envelope.event,
            "event_id": delivery.envelope.id,
            "delivery": delivery.id,
            "subscriber": delivery.subscriber.id,
            "attempt": delivery.attempts,
            "outcome": str(outcome.kind),
            "status": outcome.status,
            "duration_ms": round(outcome.duration * 1000, 3),
            "settlement": settlement.name,
            "next_due": settlement.due if isinstance(settlement, Retry) else None,
            "error": None if ok else outcome.error,
        }
        if isinstance(settlement, Dead):
            line["reason"] = str(settlement.reason)
        if outcome.body is not None:  # `keep_response`
            line["response"] = outcome.body.decode("utf-8", "backslashreplace")
        level = logging.INFO if ok else logging.WARNING
        self._logger.log(level, "attempt", **line)

    def settled(self, settlement: Settlement) -> None:
        """An Attempt's line says it already."""

    # what a Record came to without one

    def undecodable(self, record: Record, why: str) -> None:
        if self._has_room("undecodable"):
            self._logger.warning("undecodable", record=record.origin, error=why)

    def dead(self, reason: str) -> None:
        if self._has_room("dead letter"):
            self._logger.warning("dead letter", reason=str(reason))

    def handed_over(self, kind: str, error: str | None) -> None:
        if error is not None:
            self._failed(("hand-over", kind), error)
        elif self._states:
            self._succeeded(("hand-over", kind))

    # receivers

    def circuit_opened(self, subscriber: str, failures: int, error: str) -> None:
        if self._has_room("circuit"):
            self._logger.warning(
                "circuit opened", subscriber=subscriber, failures=failures, error=error
            )

    def circuit_closed(self, subscriber: str, lasted: float, probes: int) -> None:
        if self._has_room("circuit"):
            self._logger.info(
                "circuit closed", subscriber=subscriber, lasted_s=round(lasted, 1), probes=probes
            )

    # the group

    def committed(self, group: str, error: str | None) -> None:
        if error is not None:
            self._failed(("commit", group), error)
        elif self._states:
            self._succeeded(("commit", group))

    def lost_records(self, group: str, partition: Partition, count: int) -> None:
        if self._has_room("records lost"):
            self._logger.error(
                "records lost",
                group=group,
                partition=str(partition),
                count=count,
                error="Kafka deleted them before they were read: raise the topic's retention",
            )

    def trouble(self, group: str, trouble: Trouble) -> None:
        key = ("trouble", group, trouble.key)
        if trouble.text is not None:
            self._failed(key, trouble.text)
        elif key in self._states:
            self._end(key, self._states[key], self._clock())

    def assigned(self, group: str, partitions: Sequence[Partition]) -> None:
        self._logger.info("assigned", group=group, **_listed(partitions))

    def unassigned(self, group: str, partitions: Sequence[Partition], *, lost: bool) -> None:
        if lost:
            self._logger.warning("partitions lost", group=group, **_listed(partitions))
        else:
            self._logger.info("revoked", group=group, **_listed(partitions))

    # counted, not told

    def consumed(self, group: str, topic: str, count: int) -> None: ...

    def unmatched(self) -> None: ...

    def tombstone(self) -> None: ...

    def ignored(self, what: str) -> None: ...

    def clamped(self, header: str) -> None: ...

    def dropped(self, cause: str) -> None: ...

    def late_outcome(self) -> None: ...

    # inside

    def _has_room(self, kind: str) -> bool:
        flood = self._floods.get(kind)
        if flood is None:
            flood = self._floods[kind] = _Flood(self._per_second)
        return flood.allows(self._clock())

    def _failed(self, key: tuple[str, ...], error: str) -> None:
        """Told when it comes; `tick` says that it lasts."""
        now = self._clock()
        state = self._states.get(key)
        passing = key[0] == "commit" and error.partition(":")[0] in _OF_A_REBALANCE
        if state is None:
            told = self._told_by_another(key)
            state = self._states[key] = _State(error, now, told, passing=passing)
            if now - told >= _REMIND:
                self._tell(key, state, now)
        elif state.passing and not passing:  # it was told as less than it is
            state.text, state.passing = error, False
            self._tell(key, state, now)
        state.text = error
        state.times += 1
        state.well_since = None

    def _succeeded(self, key: tuple[str, ...]) -> None:
        """Over when it has gone well for a while: `tick` says so then."""
        state = self._states.get(key)
        if state is not None and state.well_since is None:
            state.well_since = self._clock()

    def _told_by_another(self, key: tuple[str, ...]) -> float:
        """When another group told of the same: no broker answers is one trouble, not one each."""
        if key[0] != "trouble" or key[2] not in _OF_THE_CONNECTION:
            return -math.inf
        same = [state.told for k, state in self._states.items() if k[::2] == key[::2] and k != key]
        return max(same, default=-math.inf)

    def _tell(self, key: tuple[str, ...], state: _State, now: float) -> None:
        state.told = now
        line = _named(key) | {"error": state.text}
        # a rebalance that lasts is none that passes by itself
        level = logging.WARNING if state.passing and not state.times else logging.ERROR
        if state.times:
            line |= {"lasting_s": round(now - state.since, 1), "times": state.times}
        self._logger.log(level, _CAME[key[0]], **line)

    def _end(self, key: tuple[str, ...], state: _State, now: float) -> None:
        del self._states[key]
        lasted = round(now - state.since, 1)
        self._logger.info(_ENDED[key[0]], **_named(key), lasted_s=lasted)


def _named(key: tuple[str, ...]) -> dict[str, Any]:
    return dict(zip(_NAMES[key[0]], key[1:], strict=True))


def _listed(partitions: Sequence[Partition]) -> dict[str, Any]:
    """The first of them by name, and how many there are."""
    names = [str(each) for each in partitions[:_MOST_PARTITIONS]]
    return {"count": len(partitions), "partitions": names}
