"""The loads that pipes were measured with: 1,000 events per second for some seconds.

One subscriber of which a tenth of the keys is slow, fails or never answers; and two subscribers of
which one never answers or is not there. In time is within a second of being produced.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.isolation.parts import percentile, table
from bench.isolation.stage import Bench, stage
from tests.support.receivers import closed_port

_RATE = 1000
_SECONDS = 8.0
_IN_TIME = 1000.0
_HEAD = ("load", "in time", "of", "%", "p50 ms", "p99 ms", "not within 10 s", "parked")


@dataclass(frozen=True)
class _Case:
    name: str
    behaviour: tuple[str, float, bool]
    others: int = 0
    hosts: int = 1
    refuses: bool = False


_CASES = (
    _Case("10 % of the keys take 1 s", ("slow", 1.0, True)),
    _Case("10 % answer 503", ("status", 503.0, True)),
    _Case("10 % never answer", ("silent", 0.0, True)),
    _Case("another never answers, one host", ("silent", 0.0, False), 1),
    _Case("another never answers, two hosts", ("silent", 0.0, False), 1, 2),
    _Case("another refuses", ("ok", 0.0, False), 1, 1, refuses=True),
)


def within(bench: Bench) -> int:
    """Returns how many events were lost."""
    seconds = min(_SECONDS, bench.scale.phase)
    rows, lost = [], 0
    for case in _CASES:
        row, missing = _one(bench, case, int(seconds * _RATE))
        rows.append(row)
        lost += missing
    print(table(_HEAD, rows), flush=True)
    return lost


def _one(bench: Bench, case: _Case, count: int) -> tuple[Sequence[object], int]:
    """The last subscriber is the one in trouble, the first the one that is looked at."""
    dead = closed_port()
    troubled = case.others
    subscribers: list[dict[str, Any]] = [{"event": "e"} for _ in range(1 + case.others)]
    if case.refuses:
        subscribers[troubled]["url"] = f"http://127.0.0.1:{dead}/{troubled}"
    rules: dict[str, Any] = {"retry_delay": 10, "retry_max": 20, "circuit": {"open_for_max": 10}}
    with stage(bench, subscribers, hosts=case.hosts, **rules) as it:
        if case.refuses:
            it.receiver.listen("127.0.0.1", dead)
        it.events.send(200, lambda _: ("e", 0), 200)
        if case.refuses:
            it.receiver.close(dead)
        it.receiver.behave({troubled: case.behaviour})
        whole = bool(case.others)
        numbers = it.events.send(count, lambda n: ("e", int(n % 10 == 0)), _RATE)
        time.sleep(_IN_TIME / 1000)  # the last ones have their second, too
        it.receiver.heal(troubled)
        if case.refuses:
            it.receiver.listen("127.0.0.1", dead)
        it.settle(range(it.events.next))
        parked = sum(v for k, v in it.dispatcher.metrics().items() if "parked_total" in k)
        first: dict[int, float] = {}
        for row in it.receiver.rows():
            if row.good and row.who == 0 and row.number in numbers:
                first.setdefault(row.number, row.wait)
        healthy = [number for number in numbers if whole or number % 10]
        waits = [first[number] for number in healthy if number in first]
        good = sum(wait <= _IN_TIME for wait in waits)
        late = len(healthy) - sum(wait <= 10 * _IN_TIME for wait in waits)
        share = 100 * good / len(healthy)
        p50, p99 = percentile(waits, 0.5), percentile(waits, 0.99)
        return (case.name, good, len(healthy), share, p50, p99, late, int(parked)), it.lost
