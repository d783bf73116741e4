"""CPU per delivery of one dispatcher process, as a ratio to a bare socket loop of the same run.

    python -m bench [--rounds 5] [--deliveries 60000] [--broker apache] [--only 200x1 ...]

On Apache Kafka where it can be had, else on the embedded broker; the receiver is nginx where it is
installed. Core 0 has what is measured, core 1 everything else. Each round fills a topic of its
own, starts a dispatcher on it and counts its CPU, all threads, from its first delivery to its last;
then the bare loop has its turn. A round in which the receiver has not had exactly the requests that
were asked for, or in which something was parked, is shown as such and does not count.
"""

import argparse
import os
import statistics
import sys
from contextlib import ExitStack

from bench.measure import Load, bare, dispatcher, latency, receiving, running_broker

LOADS = (Load(200, 1), Load(200, 10), Load(200, 100), Load(2048, 1), Load(2048, 10))


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--deliveries", type=int, default=60_000)
    parser.add_argument("--broker", choices=["apache", "embedded"], default=None)
    parser.add_argument("--only", nargs="*", metavar="SIZExFANOUT", default=())
    asked = parser.parse_args()
    os.sched_setaffinity(0, {1})
    loads = [load for load in LOADS if not asked.only or load.name in asked.only]
    with ExitStack() as stack:
        kind, servers = stack.enter_context(running_broker(asked.broker))
        receiver = stack.enter_context(receiving())
        print(f"{kind}, receiver {type(receiver).__name__.lower()}, {asked.rounds} rounds, medians")
        print("bytes x fan-out   us/delivery   bare us   ratio   deliveries/s   RSS MiB   rounds")
        for load in loads:
            rows = []
            for _ in range(asked.rounds):
                ours = dispatcher(servers, receiver, load, asked.deliveries)
                floor = bare(receiver, load, asked.deliveries)
                if isinstance(ours, str):
                    print(f"  left out: {ours}", file=sys.stderr)
                    continue
                rows.append((ours.cpu, floor, ours.cpu / floor, ours.rate, float(ours.rss)))
            if rows:
                cpu, floor, ratio, rate, rss = (
                    statistics.median(column) for column in zip(*rows, strict=True)
                )
                print(
                    f"{load.name:>15}{cpu:14.1f}{floor:10.1f}{ratio:8.2f}{rate:15,.0f}{rss:10.0f}"
                    f"{len(rows):9}",
                    flush=True,
                )
        if not asked.only:
            p50, p99 = latency(servers)
            print(f"at 1,000 events/s, produced to received: p50 {p50:.1f} ms, p99 {p99:.1f} ms")


if __name__ == "__main__":
    main()
