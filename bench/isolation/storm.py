"""So many retries that are due at once, and what the others feel of it.

Who fails has a receiver of its own: one process could not answer both as fast as they are sent.
"""

import time
from collections.abc import Sequence
from typing import Any

from bench.isolation.parts import Receiver, Row, Watch, folder, percentile, table, wait_until
from bench.isolation.stage import Bench, stage

_STORMY = 0
_OTHERS = 9
_FAIL_RATE = 4000.0
_HEAD = ("when", "healthy events", "p50 ms", "p99 ms", "p99 ratio")


def storm(bench: Bench) -> int:
    """One of ten fails all of its events, to be tried again all at once. Returns the lost."""
    with folder() as place:
        failing = Receiver(place)
        try:
            return _storm(bench, failing)
        finally:
            failing.stop()


def _storm(bench: Bench, failing: Receiver) -> int:
    scale = bench.scale
    rate = min(1000.0, scale.rate)
    subscribers: list[dict[str, Any]] = [{"event": f"e.{who}"} for who in range(1 + _OTHERS)]
    subscribers[_STORMY]["url"] = f"http://127.0.0.1:{failing.listen('127.0.0.1')}/{_STORMY}"
    never: dict[str, Any] = {
        "circuit": {"failures": 10_000_000}
    }  # else they were parked, and no retries
    with stage(bench, subscribers, retry_delay=1, retry_max=20, **never) as it:

        def healthy(seconds: float) -> range:
            return it.events.send(int(rate * seconds), lambda n: (f"e.{1 + n % _OTHERS}", 0), rate)

        healthy(scale.phase / 6)
        usual = healthy(scale.phase / 2)
        it.settle(range(it.events.next))
        due = int(time.time() + scale.storm / _FAIL_RATE + 20 + scale.storm / 10_000)
        failing.behave({_STORMY: ("later", float(due), False)})
        stormy = it.events.send(scale.storm, lambda _: ("e.0", 0), _FAIL_RATE)

        def waits() -> bool:
            return sum(
                v for k, v in it.dispatcher.metrics().items() if "retries_total" in k
            ) >= len(stormy)

        if not wait_until(waits, due - time.time()):
            print("not all had failed before the first retries were due")
        with Watch(it.dispatcher) as watch:
            during = healthy(max(0.0, due - 2 - time.time()) + max(scale.phase, 10.0))
        it.settle(during)
        wait_until(lambda: failing.count >= len(stormy), 300)
        wait_until(lambda: not failing.missing(stormy), 30)
        rows = [row for row in (*it.receiver.rows(), *failing.rows()) if row.good]
        print(table(_HEAD, _told(rows, usual, during, float(due))))
        again = sorted(row.arrived for row in rows if row.who == _STORMY)
        print(
            f"{len(again):,} retries due at once: first {again[0] - due:.2f} s after, "
            f"99 % within {percentile(again, 0.99) - due:.1f} s, all within "
            f"{again[-1] - due:.1f} s; RSS MiB at most {max(watch.rss):.0f}",
            flush=True,
        )
        return it.lost + failing.missing(stormy)


def _told(rows: Sequence[Row], usual: range, during: range, due: float) -> list[Sequence[object]]:
    others = [row for row in rows if row.who != _STORMY]
    ends = max((row.arrived for row in rows if row.who == _STORMY), default=due)
    phases = (
        ("before", [row for row in others if row.number in usual]),
        ("until they are due", [r for r in others if r.number in during and r.sent < due]),
        ("while they are tried", [r for r in others if due <= r.sent < ends]),
        ("after that", [r for r in others if r.number in during and r.sent >= ends]),
    )
    base = percentile([row.wait for row in phases[0][1]], 0.99)
    told: list[Sequence[object]] = []
    for name, found in phases:
        found_waits = [row.wait for row in found]
        p99 = percentile(found_waits, 0.99)
        told.append((name, len(found), percentile(found_waits, 0.5), p99, p99 / base))
    return told
