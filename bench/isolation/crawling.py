"""One per cent of the records is for a receiver that crawls: how fast one partition moves."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.isolation.parts import committed, table, wait_until
from bench.isolation.stage import Bench, Stage, stage

_HEAD = (
    "1 % of the records",
    "records",
    "records/s",
    "ratio",
    "CPU us per record",
    "parked",
    "all committed after, s",
)


@dataclass(frozen=True)
class _Figures:
    rate: float
    cpu: float
    parked: int
    after: float
    lost: int


def crawling(bench: Bench) -> int:
    """A filled partition, with nobody crawling in turn. Returns how many events were lost."""
    count = bench.scale.crawl
    rows: list[Sequence[object]] = []
    lost, usual = 0, 0.0
    for seconds in (0.0, 2.0, 8.0):
        found = _one(bench, count, seconds)
        usual = usual or found.rate
        name = f"takes {seconds:.0f} s" if seconds else "like the others"
        ratio = found.rate / usual
        rows.append((name, count, found.rate, ratio, found.cpu, found.parked, found.after))
        lost += found.lost
    print(table(_HEAD, rows), flush=True)
    return lost


def _one(bench: Bench, count: int, seconds: float) -> _Figures:
    """`rate` is that of the healthy nine tenths in the middle, the crawling ones among them."""
    subscribers: list[dict[str, Any]] = [{"event": "e.0"}, {"event": "e.1", "timeout": 20}]
    with stage(bench, subscribers, partitions=1, start=False, event_timeout_max=20) as it:
        if seconds:
            it.receiver.behave({1: ("slow", seconds, False)})
        numbers = it.events.send(count, lambda n: (f"e.{int(n % 100 == 0)}", 0))
        it.start()
        cpu = _cpu(it, count - count // 100)
        asked = (bench.servers, it.dispatcher.group, it.events.topic)
        wait_until(lambda: committed(*asked) >= count, 30)
        done = time.time()
        arrived = sorted(row.arrived for row in it.receiver.rows() if row.good and not row.who)
        parked = sum(v for k, v in it.dispatcher.metrics().items() if "parked_total" in k)
        it.receiver.heal(1)
        it.settle(numbers, 120)
        begin, end = len(arrived) // 20, len(arrived) * 19 // 20
        rate = (end - begin) / 0.99 / max(0.001, arrived[end] - arrived[begin])
        return _Figures(rate, cpu, int(parked), done - arrived[0], it.lost)


def _cpu(it: Stage, fast: int) -> float:
    """Microseconds per record, until all of the fast receiver's are there."""
    began, before = it.receiver.count, it.dispatcher.cpu
    wait_until(lambda: it.receiver.count >= fast, 300)
    return (it.dispatcher.cpu - before) / max(1, it.receiver.count - began) * 1e6
