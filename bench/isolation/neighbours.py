"""A hundred subscribers, of which one is dead, one silent and one crawls; behind one host or three.

In one run: everybody in good health, then the three in trouble, then in good health again; the
healthy ones' latency in trouble is compared with that of both other times together.
"""

from collections.abc import Callable, Sequence
from typing import Any

from bench.isolation.parts import Row, Watch, percentile, table
from bench.isolation.stage import Bench, Stage, stage
from tests.support.receivers import closed_port

DEAD, SILENT, CRAWLING = 3, 4, 5
_TROUBLED = (DEAD, SILENT, CRAWLING)
_ALL = 100
_HEAD = (
    "hosts",
    "phase",
    "healthy events",
    "p50 ms",
    "p99 ms",
    "p99 ratio",
    "main lag, most",
    "RSS MiB, from",
    "to",
)


def neighbours(bench: Bench) -> int:
    """Returns how many events were lost."""
    rows: list[Sequence[object]] = []
    lost = 0
    for hosts in (1, 3):
        found, missing = _one(bench, hosts)
        rows += found
        lost += missing
    print(table(_HEAD, rows), flush=True)
    return lost


def _one(bench: Bench, hosts: int) -> tuple[list[Sequence[object]], int]:
    dead = closed_port()
    subscribers: list[dict[str, Any]] = [{"event": f"e.{who}"} for who in range(_ALL)]
    if hosts > 1:  # a port that refuses can be nobody else's
        subscribers[DEAD]["url"] = f"http://127.0.0.1:{dead}/{DEAD}"
    rules: dict[str, Any] = {"retry_delay": 5, "retry_max": 20, "circuit": {"open_for_max": 10}}
    with stage(bench, subscribers, hosts=hosts, **rules) as it:
        if hosts > 1:
            it.receiver.listen("127.0.0.1", dead)

        def trouble() -> None:
            it.receiver.behave(
                {
                    DEAD: ("cut", 0.0, False),
                    SILENT: ("silent", 0.0, False),
                    CRAWLING: ("slow", 2.0, False),
                }
            )
            if hosts > 1:
                it.receiver.close(dead)

        def heal() -> None:
            it.receiver.heal(*_TROUBLED)
            if hosts > 1:
                it.receiver.listen("127.0.0.1", dead)
            it.settle(range(it.events.next))

        _phase(it, bench, bench.scale.phase / 6)  # connections and caches
        phases = [_phase(it, bench, bench.scale.phase / 2)]
        trouble()
        phases.append(_phase(it, bench, bench.scale.phase))
        heal()
        phases.append(_phase(it, bench, bench.scale.phase / 2))
        it.settle(range(it.events.next))
        return _told(hosts, it.receiver.rows(), phases), it.lost


def _phase(it: Stage, bench: Bench, seconds: float) -> tuple[range, Watch]:
    rate = bench.scale.rate
    with Watch(it.dispatcher) as watch:
        return it.events.send(int(rate * seconds), lambda n: (f"e.{n % _ALL}", 0), rate), watch


def _told(
    hosts: int, rows: list[Row], phases: Sequence[tuple[range, Watch]]
) -> list[Sequence[object]]:
    healthy = [row for row in rows if row.good and row.who not in _TROUBLED]

    def waits(*which: int) -> list[float]:
        return [row.wait for row in healthy if any(row.number in phases[at][0] for at in which)]

    usual = waits(0, 2)
    told: list[Sequence[object]] = []
    names = ("before", "three in trouble", "after", "before and after")
    for name, at in zip(names, ((0,), (1,), (2,), (0, 2)), strict=True):
        found = waits(*at)
        watched = [phases[each][1] for each in at]
        rss = [mib for watch in watched for mib in watch.rss] or [float("nan")]
        told.append(
            (
                hosts,
                name,
                len(found),
                percentile(found, 0.5),
                percentile(found, 0.99),
                percentile(found, 0.99) / percentile(usual, 0.99),
                _most(watched, lambda watch: watch.lag),
                rss[0],
                rss[-1],
            )
        )
    return told


def _most(watched: Sequence[Watch], what: Callable[[Watch], list[float]]) -> int:
    return int(max((value for watch in watched for value in what(watch)), default=0))
