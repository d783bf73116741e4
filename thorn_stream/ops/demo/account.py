"""What was matched, what came and what died, of each subscriber: do they add up?

Nothing in here is told by the dispatcher. `matched` is computed from what was sent, what was
delivered is counted by the receivers, what is dead was read from the dead-letter topic. All are
sets of events, so one that is lost is not made good by another that came twice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from thorn_stream.ops.demo.cast import Part
from thorn_stream.ops.demo.figures import count, percentile
from thorn_stream.ops.demo.matching import matches

__all__ = ["Account", "Books", "DeadLetter"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """As read from Kafka. `event` is the number the demo gave it, None when it cannot be read."""

    subscriber: str
    reason: str
    event: int | None


@dataclass(slots=True)
class Account:
    """One subscriber's. Events are told by their numbers, deliveries by `Hook-Delivery`."""

    part: Part
    matched: set[int] = field(default_factory=set)
    delivered: set[int] = field(default_factory=set)
    deliveries: set[str] = field(default_factory=set)
    retried: set[str] = field(default_factory=set)
    dead: dict[int, str] = field(default_factory=dict)
    duplicates: int = 0
    forged: int = 0
    latencies: list[float] = field(default_factory=list)
    _open: set[int] = field(default_factory=set)

    def claims(self, event: int) -> None:
        """An event was sent that it matches."""
        self.matched.add(event)
        self._open.add(event)

    def called(self, delivery: str, attempt: int) -> None:
        """A request came, whatever will be answered."""
        if attempt > 1:
            self.retried.add(delivery)

    def answered(self, delivery: str, event: int, milliseconds: float) -> None:
        """A request was answered 2xx, so long after its event was produced."""
        if delivery in self.deliveries:
            self.duplicates += 1
            return
        self.deliveries.add(delivery)
        self.delivered.add(event)
        self.latencies.append(milliseconds)
        self._open.discard(event)

    def died(self, event: int, reason: str) -> None:
        """A dead letter was found."""
        self.dead[event] = reason
        self._open.discard(event)

    @property
    def waiting(self) -> int:
        return len(self._open)

    @property
    def p50(self) -> float | None:
        return percentile(self.latencies, 0.50)

    @property
    def p99(self) -> float | None:
        return percentile(self.latencies, 0.99)

    def faults(self) -> list[str]:
        """Everything that does not add up, a sentence each; none when all is well."""
        missing = self.matched - self.delivered - self.dead.keys()
        surplus = (self.delivered | self.dead.keys()) - self.matched
        both = self.delivered & self.dead.keys()
        gone = self.part.behaviour.status == 410
        unduly = {event for event, why in self.dead.items() if not gone or why != "gone"}
        found = (
            (len(missing), f"neither delivered nor dead: {_some(missing)}"),
            (len(surplus), f"came though the pattern does not match: {_some(surplus)}"),
            (len(both), f"delivered and dead as well: {_some(both)}"),
            (len(unduly), f"given up on for no good reason: {_some(unduly)}"),
            (len(self.deliveries) - len(self.delivered), "came under a second delivery id"),
            (self.forged, "came with a signature that is missing or wrong"),
        )
        return [f"{self.part.id}: {number:,} {what}" for number, what in found if number > 0]


class Books:
    """All the accounts, and what belongs to none of them."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self.accounts: Mapping[str, Account] = {part.id: Account(part) for part in parts}
        self.sent = 0
        self.not_taken: dict[int, str] = {}
        self.strays: list[DeadLetter] = []

    def produced(self, event: int, name: str) -> None:
        """An event is on its way to Kafka: whoever matches it has a claim to it."""
        self.sent += 1
        for account in self.accounts.values():
            if matches(account.part.pattern, name):
                account.claims(event)

    def refused(self, event: int, error: str) -> None:
        """Kafka did not take an event."""
        self.not_taken[event] = error

    def died(self, letter: DeadLetter) -> None:
        account = self.accounts.get(letter.subscriber)
        if account is None or letter.event is None:
            self.strays.append(letter)
        else:
            account.died(letter.event, letter.reason)

    @property
    def matched(self) -> int:
        return sum(len(account.matched) for account in self.accounts.values())

    @property
    def delivered(self) -> int:
        return sum(len(account.delivered) for account in self.accounts.values())

    @property
    def dead(self) -> int:
        return sum(len(account.dead) for account in self.accounts.values())

    @property
    def duplicates(self) -> int:
        return sum(account.duplicates for account in self.accounts.values())

    @property
    def settled(self) -> bool:
        """Nothing is outstanding of what was sent so far."""
        return not any(account.waiting for account in self.accounts.values())

    def faults(self) -> list[str]:
        """Everything that does not add up, a sentence each."""
        found = [fault for account in self.accounts.values() for fault in account.faults()]
        if self.not_taken:
            why = next(iter(self.not_taken.values()))
            found.append(f"Kafka did not take {count(len(self.not_taken), 'event')}: {why}")
        if self.strays:
            first = self.strays[0]
            found.append(
                f"{count(len(self.strays), 'dead letter')} of nobody here: "
                f"subscriber {first.subscriber or 'none'}, reason {first.reason}"
            )
        return found


def _some(events: Iterable[int]) -> str:
    """The first of them by number: `events 3, 8, 12 ...`."""
    first = sorted(events)[:4]
    shown = ", ".join(map(str, first[:3]))
    return f"event {shown}" if len(first) == 1 else f"events {shown}{' ...' * (len(first) > 3)}"
