"""The most memory a dispatcher has ever had, under loads that ask for much of it."""

from collections.abc import Callable, Sequence

from bench.isolation.parts import Watch, table
from bench.isolation.stage import Bench, Stage, stage

_LIMIT = 256 << 20
_SPARE = 150
_CRAWLS = 20
"""One of so many subscribers crawls."""
_HEAD = ("load", "RSS MiB at start", "most", "limit + 150", "within", "deliveries/s")


def memory(bench: Bench) -> int:
    """Returns how many events were lost."""
    lost = 0
    print(table(_HEAD, ()), flush=True)
    for load in (_backlog, _partitions, _large, _many):
        row, missing = load(bench)
        print(table(row, ()).partition("\n")[0], flush=True)
        lost += missing
    return lost


def _one(
    it: Stage, name: str, publish: Callable[[], range], *, first: bool = False
) -> tuple[Sequence[object], int]:
    """`first`: all is published before the dispatcher is started."""
    numbers = publish() if first else range(0)
    it.start()
    began = it.dispatcher.rss
    with Watch(it.dispatcher):
        numbers = numbers or publish()
        it.settle(numbers, 120 + len(numbers) / 2000)
    arrived = [row.arrived for row in it.receiver.rows()] if len(numbers) < 2_000_000 else []
    rate = len(arrived) / (max(arrived) - min(arrived)) if len(arrived) > 1 else float("nan")
    most, limit = it.dispatcher.peak, (_LIMIT >> 20) + _SPARE
    fits = "yes" if most <= limit else "NO"
    return (name, began, most, limit, fits, rate), it.lost


def _backlog(bench: Bench) -> tuple[Sequence[object], int]:
    count = bench.scale.backlog
    with stage(bench, [{"event": "e"}], start=False, memory_limit=_LIMIT) as it:
        it.events.pad = "x" * 100
        return _one(
            it,
            f"backlog of {count:,} records",
            lambda: it.events.send(count, lambda _: ("e", 0)),
            first=True,
        )


def _partitions(bench: Bench) -> tuple[Sequence[object], int]:
    partitions = bench.scale.partitions
    with stage(
        bench, [{"event": "e"}], partitions=partitions, start=False, memory_limit=_LIMIT
    ) as it:
        count = min(bench.scale.backlog, 1000 * partitions)
        return _one(
            it,
            f"{partitions:,} partitions, {count:,} records waiting",
            lambda: it.events.send(count, lambda _: ("e", 0)),
            first=True,
        )


def _large(bench: Bench) -> tuple[Sequence[object], int]:
    count = bench.scale.large
    with stage(bench, [{"event": "e"}], start=False, memory_limit=_LIMIT) as it:
        it.receiver.behave({0: ("slow", 0.5, False)})
        it.events.pad = "x" * 1_000_000
        return _one(
            it,
            f"{count:,} records of 1 MB waiting, 0.5 s per answer",
            lambda: it.events.send(count, lambda _: ("e", 0)),
            first=True,
        )


def _many(bench: Bench) -> tuple[Sequence[object], int]:
    count, rate = bench.scale.subscribers, bench.scale.rate
    subscribers = [{"event": f"e.{who}"} for who in range(count)]
    crawl = range(0, count, _CRAWLS)
    with stage(bench, subscribers, start=False, memory_limit=_LIMIT) as it:
        it.receiver.behave(dict.fromkeys(crawl, ("slow", 2.0, False)))
        return _one(
            it,
            f"{count:,} subscribers, {len(crawl):,} of them take 2 s; {rate:,}/s",
            lambda: it.events.send(
                int(rate * bench.scale.phase), lambda n: (f"e.{n * 7 % count}", 0), rate
            ),
        )
