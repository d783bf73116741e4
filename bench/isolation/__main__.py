"""Who delays whom: healthy receivers beside dead, silent and crawling ones, by ratios.

    python -m bench.isolation [--only neighbours within ...] [--scale short|long|tiny] [--minutes M]
    python -m bench.isolation --only storm --retries 100000

On Apache Kafka where it can be had, else on the embedded broker; a real dispatcher process, and
receivers in a process of their own. `short` takes about a quarter of an hour for everything, `long`
some hours; `--minutes` is how long subscribers are in trouble, and an outage lasts. Each prints a
table; the exit status is 1 when an event was lost.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from bench.isolation.crawling import crawling
from bench.isolation.memory import memory
from bench.isolation.neighbours import neighbours
from bench.isolation.outage import outage
from bench.isolation.stage import LONG, SHORT, TINY, Bench
from bench.isolation.storm import storm
from bench.isolation.within import within
from bench.measure import running_broker

LOADS: dict[str, Callable[[Bench], int]] = {
    "neighbours": neighbours,
    "within": within,
    "outage": outage,
    "crawling": crawling,
    "storm": storm,
    "memory": memory,
}
_SCALES = {"tiny": TINY, "short": SHORT, "long": LONG}


def main() -> int:
    about, _, more = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m bench.isolation",
        description=about,
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=list(LOADS), default=list(LOADS))
    parser.add_argument("--scale", choices=list(_SCALES), default="short")
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--rate", type=int, default=None, help="events per second of `neighbours`")
    parser.add_argument("--retries", type=int, default=None, help="due at once in `storm`")
    parser.add_argument("--broker", choices=["apache", "embedded"], default=None)
    asked = parser.parse_args()
    scale = _SCALES[asked.scale]
    if asked.minutes is not None:
        scale = replace(scale, phase=60 * asked.minutes, outage=60 * asked.minutes)
    if asked.rate is not None:
        scale = replace(scale, rate=asked.rate)
    if asked.retries is not None:
        scale = replace(scale, storm=asked.retries)
    lost = 0
    with running_broker(asked.broker) as (kind, servers):
        for name in asked.only:
            load = " ".join(f"{value:.1f}" for value in os.getloadavg())
            print(f"\n{name}: {kind}, {os.cpu_count()} cores, load {load}, {asked.scale}")
            began = time.monotonic()
            missing = LOADS[name](Bench(servers, scale))
            print(f"lost: {missing}; {time.monotonic() - began:.0f} s", flush=True)
            lost += missing
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
