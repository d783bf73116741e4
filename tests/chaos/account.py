"""What was asked for, what arrived, and whether the two agree: the account of a chaos run."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Final, NamedTuple

from confluent_kafka import Message

from tests.support.receivers import Call, Mode, Receiver

__all__ = ["EVENTS", "SUBSCRIBERS", "Account", "fails"]

EVENTS: Final = ("order.paid", "order.sent", "stock.low")
"""The name of event number n is that at n modulo 3."""

SUBSCRIBERS: Final = {
    "good": ("**", EVENTS),
    "flaky": ("order.*", ("order.paid", "order.sent")),
    "slow": ("order.paid", ("order.paid",)),
}
"""Pattern of each, and what it matches, spelt out so that no matcher is trusted."""

_SLOWNESS: Final = 0.3


class Pair(NamedTuple):
    """One event for one subscriber."""

    number: int
    subscriber: str


class Arrival(NamedTuple):
    """One request: when it was read whole and answered (unix seconds), and with what."""

    read: float
    answered: float
    attempt: int
    status: int
    delivery: str


def fails(delivery: str, attempt: int) -> bool:
    """Three of ten, the same for each repeat of an attempt."""
    return sha256(f"{delivery}:{attempt}".encode()).digest()[0] < 77


@dataclass
class Account:
    """`arrivals` is written by the receiver's thread; all else is asked when it has ended."""

    arrivals: dict[Pair, list[Arrival]] = field(default_factory=dict)
    dead: Counter[Pair] = field(default_factory=Counter)

    def attend(self, receiver: Receiver) -> None:
        """Let the receiver answer as each subscriber does, and write down what it was sent."""
        for subscriber in SUBSCRIBERS:
            receiver.modes[subscriber] = self._mode(receiver, subscriber)

    def _mode(self, receiver: Receiver, subscriber: str) -> Mode:
        async def answer(call: Call) -> None:
            read = time.time()
            receiver.requests.clear()  # they would be gigabytes
            headers = call.request.headers
            delivery, attempt = headers["hook-delivery"], int(headers["hook-attempt"])
            if subscriber == "slow":
                await asyncio.sleep(_SLOWNESS)
            status = 503 if subscriber == "flaky" and fails(delivery, attempt) else 200
            number = json.loads(call.request.body)["data"]["number"]
            arrival = Arrival(read, time.time(), attempt, status, delivery)
            self.arrivals.setdefault(Pair(number, subscriber), []).append(arrival)
            await call.answer(status)

        return answer

    def bury(self, letters: Iterable[Message]) -> None:
        for letter in letters:
            headers = dict(letter.headers() or [])
            value = json.loads(letter.value() or b"")
            subscriber = headers["thorn-subscriber"]
            assert isinstance(subscriber, bytes)
            self.dead[Pair(value["data"]["number"], subscriber.decode())] += 1

    def arrived(self) -> int:
        return sum(len(some) for some in list(self.arrivals.values()))

    def repeated(self) -> int:
        """Requests that say no more than an earlier one: the same attempt of the same delivery."""
        return sum(
            len(some) - len({(one.delivery, one.attempt) for one in some})
            for some in self.arrivals.values()
        )

    def silence(self) -> float:
        """The longest time, in seconds, in which no receiver was called."""
        read = sorted(one.read for some in self.arrivals.values() for one in some)
        return max(after - before for before, after in pairwise(read))

    def mistakes(self, sent: int, most: int, wait: float) -> list[str]:
        """What contradicts the guarantees.

        `sent` events there were; `most` attempts a delivery may have, `wait` seconds apart.
        """
        expected = {
            Pair(number, subscriber)
            for number in range(sent)
            for subscriber, (_, names) in SUBSCRIBERS.items()
            if EVENTS[number % len(EVENTS)] in names
        }
        found = [f"unexpected: {pair}" for pair in (self.arrivals.keys() | self.dead) - expected]
        for pair in sorted(expected):
            some = self.arrivals.get(pair, [])
            if not any(one.status == 200 for one in some) and pair not in self.dead:
                tried = sorted({one.attempt for one in some})
                found.append(f"missing: {pair}, attempts seen: {tried}")
            found += _wrong_numbers(pair, some, most) + _too_early(pair, some, wait)
        for pair in self.dead:
            some = self.arrivals.get(pair, [])
            failed = sorted({one.attempt for one in some if one.status != 200})
            if failed != list(range(1, most + 1)):
                found.append(f"dead after the attempts {failed}: {pair}")
        return found


def _wrong_numbers(pair: Pair, some: list[Arrival], most: int) -> list[str]:
    numbers = {one.attempt for one in some}
    if len({one.delivery for one in some}) > 1:
        return [f"two ids: {pair}"]
    if numbers and numbers != set(range(1, max(numbers) + 1)):
        return [f"attempts numbered {sorted(numbers)}: {pair}"]
    return [f"{max(numbers)} attempts: {pair}"] if numbers and max(numbers) > most else []


def _too_early(pair: Pair, some: list[Arrival], wait: float) -> list[str]:
    """A retry comes so long after an answer to the attempt before it."""
    answered: dict[int, float] = {}
    for one in some:
        answered[one.attempt] = min(one.answered, answered.get(one.attempt, one.answered))
    return [
        f"early by {answered[one.attempt - 1] + wait - one.read:.3f} s: {pair} {one.attempt}"
        for one in some
        if one.attempt - 1 in answered and one.read < answered[one.attempt - 1] + wait
    ]
