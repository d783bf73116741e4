"""A hundred subscribers, of which one is dead, one silent and one crawls; behind one host or three.

In one run: everybody in good health, then the three in trouble, by turns, and in good health again;
the healthy ones' latency in trouble is compared with that of all other times together. That of the
median second is told as well: a machine that stops for 50 ms now and then makes the p99 of all.
"""

from collections.abc import Sequence
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
    "median second's p99 ms",
    "ratio",
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
        turns = bench.scale.turns
        usual, troubled = [], []
        for _ in range(turns):
            usual.append(_phase(it, bench, bench.scale.phase / turns / 2))
            trouble()
            troubled.append(_phase(it, bench, bench.scale.phase / turns))
            heal()
            usual.append(_phase(it, bench, bench.scale.phase / turns / 2))
        it.settle(range(it.events.next))
        return _told(hosts, it.receiver.rows(), usual, troubled), it.lost


def _phase(it: Stage, bench: Bench, seconds: float) -> tuple[range, Watch]:
    rate = bench.scale.rate
    with Watch(it.dispatcher) as watch:
        return it.events.send(int(rate * seconds), lambda n: (f"e.{n % _ALL}", 0), rate), watch


def _told(
    hosts: int,
    rows: Sequence[Row],
    usual: Sequence[tuple[range, Watch]],
    troubled: Sequence[tuple[range, Watch]],
) -> list[Sequence[object]]:
    healthy = [row for row in rows if row.good and row.who not in _TROUBLED]
    base = base_second = float("nan")
    told: list[Sequence[object]] = []
    for name, phases in (("all are well", usual), ("three in trouble", troubled)):
        found = [row for row in healthy if any(row.number in each for each, _ in phases)]
        waits = [row.wait for row in found]
        p50, p99 = percentile(waits, 0.5), percentile(waits, 0.99)
        second = _median_second(found)
        if phases is usual:
            base, base_second = p99, second
        lag = max((value for _, watch in phases for value in watch.lag), default=0.0)
        rss = [mib for _, watch in phases for mib in watch.rss] or [float("nan")]
        ratios = (p99, p99 / base, second, second / base_second)
        told.append((hosts, name, len(waits), p50, *ratios, int(lag), rss[0], rss[-1]))
    return told


def _median_second(rows: Sequence[Row]) -> float:
    """Of the p99 of each second: milliseconds."""
    seconds: dict[int, list[float]] = {}
    for row in rows:
        seconds.setdefault(int(row.sent), []).append(row.wait)
    return percentile([percentile(waits, 0.99) for waits in seconds.values()], 0.5)
