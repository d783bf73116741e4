"""The five receivers, and the events that are sent."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Behaviour", "Happening", "Part", "cast", "happenings", "outage", "wire"]

_SEED: Final = 20
_SENDERS: Final = 50

_NAMES: Final = {  # name to weight; five parts of the company's day
    "order.created": 14,
    "order.paid": 12,
    "order.item.added": 12,
    "order.shipped": 6,
    "article.created": 9,
    "article.published": 6,
    "article.comment.added": 8,
    "user.created": 6,
    "user.profile.changed": 8,
    "user.profile.picture.changed": 3,
    "user.deleted": 2,
    "invoice.sent": 8,
    "payment.failed": 6,
}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a receiver answers: after `delay` seconds, with `status`.

    A share of `failing` of the requests, drawn anew for each, is answered 503; for its first
    `outage` seconds, counted from the first event, nobody listens.
    """

    status: int = 200
    delay: float = 0.0
    failing: float = 0.0
    outage: float = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """One subscriber of the demo; `does` tells its behaviour in a few words."""

    id: str
    pattern: str
    does: str
    behaviour: Behaviour


@dataclass(frozen=True, slots=True)
class Happening:
    """One event before it is sent. `number` counts from 0 and travels in its data."""

    number: int
    name: str
    ref: str | None
    sender: int | None


def cast(dead_for: float) -> tuple[Part, ...]:
    """The five, each with a pattern that shows another piece of the language."""
    return (
        Part("healthy", "**", "answers at once", Behaviour()),
        Part("slow", "order.*", "takes 500 ms", Behaviour(delay=0.5)),
        Part("flaky", "{order,user}.**", "fails 30 % (503)", Behaviour(failing=0.3)),
        Part("late", "article.*", f"dead for {dead_for:.3g} s", Behaviour(outage=dead_for)),
        Part("gone", "user.profile.*", "answers 410", Behaviour(status=410)),
    )


def outage(events: int, rate: float) -> float:
    """Seconds for which one receiver is dead: 10, in a run shorter than that as long as it."""
    return min(10.0, max(2.0, events / rate))


def happenings(count: int, seed: int = _SEED) -> Iterator[Happening]:
    """So many events; the same ones for the same seed."""
    dice = random.Random(seed)  # noqa: S311 - a mixture that can be repeated, nothing secret
    names, weights = list(_NAMES), list(_NAMES.values())
    for number in range(count):
        name = dice.choices(names, weights)[0]
        thing = name.split(".", 1)[0]
        yield Happening(
            number,
            name,
            ref=f"https://shop.example.com/{thing}/{dice.randrange(10_000)}"
            if dice.random() < 0.7
            else None,
            sender=dice.randrange(1, _SENDERS + 1) if dice.random() < 0.4 else None,
        )


def wire(happening: Happening, now: int) -> bytes:
    """Its Kafka value, as any producer could write it; `now` in unix milliseconds.

    What an event does not have is left out, as it may be.
    """
    value: dict[str, Any] = {"event": happening.name}
    if happening.ref is not None:
        value["ref"] = happening.ref
    if happening.sender is not None:
        value["sender"] = happening.sender
    value["data"] = {"number": happening.number, "sent": now}
    return json.dumps(value).encode()
