"""What it came to: the verdict in a sentence, what the figures mean, and JSON."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from thorn_stream.ops.demo.account import Account, Books
from thorn_stream.ops.demo.dispatcher import Sample
from thorn_stream.ops.demo.figures import count

__all__ = ["Result", "as_json", "counted_by_dispatcher", "notes", "verdict", "where_it_waits"]

_REAL: Final = "p50, p99: produced to 2xx."
_EMBEDDED: Final = (
    "p50, p99: produced to 2xx, on the embedded broker: reads there wait up to 10 ms."
)


@dataclass(slots=True)
class Result:
    """How it ended. `seconds` from the first event to the last settled one."""

    books: Books
    embedded: bool
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    dispatcher: tuple[int, int] | None = None
    deleted: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)

    @property
    def accounted(self) -> bool:
        return not self.faults


def verdict(result: Result) -> str:
    """One sentence."""
    books = result.books
    sum_of_it = f"{count(books.sent, 'event')}, {count(books.matched, 'delivery')}"
    if result.accounted:
        return f"{sum_of_it}: every one accounted for."
    return f"{sum_of_it}: it does not add up."


def notes(result: Result) -> list[str]:
    """What a reader should know besides, a line each."""
    books, told = result.books, []
    if result.accounted:
        told.append(
            f"{count(books.delivered)} counted by the receivers + {count(books.dead)} "
            f"in the dead-letter topic, after {result.seconds:.1f} s."
        )
    if books.duplicates:
        told.append(
            f"{count(books.duplicates, 'delivery')} came again under the same id: "
            "at least once is what is promised."
        )
    if result.dispatcher is not None:
        delivered, dead = result.dispatcher
        told.append(
            f"The dispatcher's own metrics say {count(delivered)} delivered, {count(dead)} dead."
        )
    told.append(_EMBEDDED if result.embedded else _REAL)
    if result.deleted:
        told.append(f"Deleted from the broker: the demo's {count(len(result.deleted), 'topic')}.")
    if result.left_behind:
        told.append(
            f"Left on the broker, since it did not let them be deleted: the topics "
            f"{', '.join(result.left_behind)}."
        )
    return told


def as_json(result: Result) -> str:
    """The document of `--json`."""
    return json.dumps(
        {
            "events": result.books.sent,
            "subscribers": [_row(one) for one in result.books.accounts.values()],
            "accounted": result.accounted,
            "faults": result.faults,
        },
        indent=2,
    )


def _row(account: Account) -> dict[str, Any]:
    return {
        "id": account.part.id,
        "matched": len(account.matched),
        "delivered": len(account.delivered),
        "dead": len(account.dead),
        "received": len(account.deliveries),
        "duplicates": account.duplicates,
        "retried": len(account.retried),
        "p50_ms": _rounded(account.p50),
        "p99_ms": _rounded(account.p99),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def counted_by_dispatcher(samples: Iterable[Sample]) -> tuple[int, int] | None:
    """Delivered and dead as its metrics tell; None when they do not."""
    delivered = dead = 0.0
    known = False
    for name, labels, value in samples:
        if name == "thorn_deliveries_total" and labels.get("settlement") == "delivered":
            delivered, known = delivered + value, True
        elif name == "thorn_dead_letters_total":
            dead += value
    return (int(delivered), int(dead)) if known else None


def where_it_waits(samples: Iterable[Sample]) -> list[str]:
    """What a dispatcher's metrics say of deliveries that have not come to an end."""
    told: list[str] = []
    behind: Counter[str] = Counter()
    for name, labels, value in samples:
        number = int(value)
        if number <= 0:
            continue
        if name == "thorn_lane_depth":
            told.append(f"{count(number)} queued for {labels.get('subscriber')}")
        elif name == "thorn_in_flight":
            told.append(f"{count(number, 'request')} under way")
        elif name == "thorn_circuit_open":
            told.append(f"the circuit of {labels.get('subscriber')} is open")
        elif name == "thorn_consumer_lag":
            behind[labels.get("topic", "")] += number
    return told + [f"{count(number)} not committed in {topic}" for topic, number in behind.items()]
