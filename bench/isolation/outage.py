"""A receiver goes away and comes back: what was tried in vain, and how its backlog drains."""

import time
from collections import Counter
from collections.abc import Sequence

from bench.isolation.parts import Row, Watch, percentile, table
from bench.isolation.stage import Bench, Stage, stage
from tests.support.receivers import closed_port

_AWAY, _OTHER = 0, 1
_AFTER = 60.0
"""Seconds in which new events are published after its return, at the most."""


def outage(bench: Bench) -> int:
    """Ten of eleven events are the receiver's that goes away. Returns how many were lost."""
    port = closed_port()
    subscribers = [
        {"event": "e.0", "url": f"http://127.0.0.1:{port}/{_AWAY}"},
        {"event": "e.1"},
    ]
    rate = 1100.0 if bench.scale.rate >= 1000 else 220.0
    with stage(bench, subscribers, retry_delay=5, retry_max=20) as it:
        it.receiver.listen("127.0.0.1", port)
        usual = _send(it, min(30.0, bench.scale.phase / 2), rate)
        it.settle(usual)
        before = _failed(it)
        it.receiver.close(port)
        with Watch(it.dispatcher) as watch:
            down = _send(it, bench.scale.outage, rate)
            in_vain = _failed(it) - before
            it.receiver.listen("127.0.0.1", port)
            came = time.time()
            up = _send(it, min(_AFTER, 2 * bench.scale.outage), rate)
        it.settle(range(it.events.next), 600)
        probes = sum(line["probes"] for line in it.dispatcher.lines("circuit closed"))
        rows = [row for row in it.receiver.rows() if row.good]
        requests = sum(v for k, v in it.dispatcher.metrics().items() if "attempts_total" in k)
        told = [
            ("outage, s", bench.scale.outage),
            ("events for it meanwhile", sum(number % 11 != 0 for number in down)),
            ("attempts in vain until its return", int(in_vain)),
            ("probes in all", probes),
            ("requests / events, in all", requests / it.events.next),
            *_drained(rows, down, came),
            *_latencies(rows, usual, down, up),
            ("delivered twice", len(rows) - len({row.number for row in rows})),
            ("RSS MiB, least and most", f"{min(watch.rss):.0f} {max(watch.rss):.0f}"),
        ]
        print(table(("what", "figure"), told), flush=True)
        return it.lost


def _send(it: Stage, seconds: float, rate: float) -> range:
    return it.events.send(int(seconds * rate), lambda n: (f"e.{int(n % 11 == 0)}", 0), rate)


def _failed(it: Stage) -> float:
    found = it.dispatcher.metrics()
    return sum(v for k, v in found.items() if "attempts_total" in k and '"ok"' not in k)


def _drained(rows: Sequence[Row], down: range, came: float) -> list[tuple[str, object]]:
    """From the return of the receiver on: when it was called, when its backlog was there."""
    late = [row.arrived for row in rows if row.who == _AWAY and row.number in down]
    first, last = min(late, default=came), max(late, default=came)
    per_second = Counter(int(row.arrived) for row in rows if row.who == _AWAY)
    peak = max((n for second, n in per_second.items() if second >= int(first)), default=0)
    return [
        ("back, to the first delivery, s", first - came),
        ("from there to the last of its backlog, s", last - first),
        ("deliveries per second then", len(late) / max(0.001, last - first)),
        ("most in a second of the clock, new events too", peak),
    ]


def _latencies(
    rows: Sequence[Row], usual: range, down: range, up: range
) -> list[tuple[str, object]]:
    """Of its new events from the moment on that it is called again; of the other's all the time."""
    late = [row.arrived for row in rows if row.who == _AWAY and row.number in down]
    first, last = min(late, default=0.0), max(late, default=0.0)
    new = [row for row in rows if row.who == _AWAY and row.number in up and row.sent >= first]
    other = [row for row in rows if row.who == _OTHER]

    def told(name: str, found: Sequence[Row]) -> tuple[str, object]:
        waits = [row.wait for row in found]
        half, most = percentile(waits, 0.5), percentile(waits, 0.99)
        return f"{name}: events, p50 ms, p99 ms", f"{len(waits):,} {half:.1f} {most:.1f}"

    return [
        told("its events before", [r for r in rows if r.who == _AWAY and r.number in usual]),
        told("its new ones while it drains", [r for r in new if r.sent < last]),
        told("its new ones after that", [r for r in new if r.sent >= last]),
        told("the other's before", [r for r in other if r.number in usual]),
        told("the other's in the outage", [r for r in other if r.number in down]),
        told("the other's while it drains", [r for r in other if first <= r.sent < last]),
    ]
