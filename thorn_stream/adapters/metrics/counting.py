"""Counts with plain integers; renders when scraped.

Counting happens per delivery and rendering every few seconds, so all the work is on the rendering
side: a prometheus_client metric costs 3 to 10 times as much per event as the integers here.
"""

import platform
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family

from thorn_stream.adapters.metrics.table import METRICS, Metric
from thorn_stream.core.deliveries import (
    IN_PLACE,
    Delivered,
    Delivery,
    Kind,
    Outcome,
    Parked,
    Retry,
    Settlement,
)
from thorn_stream.core.records import Partition, Record
from thorn_stream.ports import Trouble
from thorn_stream.version import __version__

__all__ = ["Key", "Metrics", "Pull"]

Key: TypeAlias = str | tuple[str, ...]
Pull: TypeAlias = Callable[[], float | Mapping[Key, float]]
"""Gives a gauge's value when asked; of one with labels, values by label values, in the order of
the table (one label: plain text will do)."""

_BY_NAME: Final = {metric.name: metric for metric in METRICS}
_OK: Final = Kind.OK
_MOST_VALIDATORS: Final = 50  # a validator of the user's own may put anything into its name


class _Histogram:
    """Counts per bucket; `bisect_left`, since a bound belongs to its bucket."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def cumulated(self) -> list[tuple[str, float]]:
        total, rows = 0, []
        names = [*(str(bound) for bound in self.bounds), "+Inf"]
        for name, count in zip(names, self.counts, strict=True):
            total += count
            rows.append((name, float(total)))
        return rows


class Metrics:
    """Counts what it is told (it is an `Observer`), and renders it for Prometheus.

    `subscriber_limit` bounds how many subscribers have series of their own; the rest are summed
    under `other`. `wall` gives unix seconds. Gauges are asked for when scraped, on the loop.
    """

    def __init__(
        self, *, subscriber_limit: int = 500, wall: Callable[[], float] = time.time
    ) -> None:
        self._wall = wall
        self._subscriber_limit = subscriber_limit
        self._counts: dict[str, dict[Key, int]] = {
            metric.name: dict.fromkeys(metric.values or (() if metric.labels else ((),)), 0)
            for metric in METRICS
            if metric.kind == "counter"
        }
        self._histograms = {
            metric.name: _Histogram(metric.buckets)
            for metric in METRICS
            if metric.kind == "histogram"
        }
        self._gauges: dict[str, Pull] = {}
        self._named: dict[str, set[str]] = {}
        self._outcomes = self._counts["thorn_attempts_total"]
        self._settlements = self._counts["thorn_deliveries_total"]
        self._duration = self._histograms["thorn_attempt_duration_seconds"]
        self._latency = self._histograms["thorn_delivery_latency_seconds"]
        self.gauge("thorn_build_info", lambda: {(__version__, platform.python_version()): 1})
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def gauge(self, name: str, pull: Pull) -> None:
        """Ask `pull` for the gauge of this name at every scrape."""
        if name not in _BY_NAME or _BY_NAME[name].kind != "gauge":
            raise ValueError(f"{name} is no gauge in METRICS")
        self._gauges[name] = pull

    def count(self, name: str, key: Key = (), by: int = 1) -> None:
        """Count what no method of the Observer stands for; `key`: its label values."""
        counts = self._counts[name]
        counts[key] = counts.get(key, 0) + by

    def render(self) -> tuple[bytes, str]:
        """The exposition, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    # told by the dispatcher

    def attempted(self, delivery: Delivery, outcome: Outcome, settlement: Settlement) -> None:
        # called once per HTTP request: nothing is looked up or made here that need not be
        del settlement
        kind = outcome.kind
        self._outcomes[kind] += 1
        took = outcome.duration
        histogram = self._duration
        histogram.counts[bisect_left(histogram.bounds, took)] += 1
        histogram.sum += took
        if kind is _OK:
            timestamp = delivery.envelope.record.timestamp
            if timestamp >= 0:
                waited = self._wall() - timestamp / 1000
                histogram = self._latency
                histogram.counts[bisect_left(histogram.bounds, waited)] += 1
                if waited > 0:  # the producer's clock may be ahead of ours
                    histogram.sum += waited
        elif kind is Kind.BLOCKED:
            self._blocked(outcome.detail)

    def settled(self, settlement: Settlement) -> None:
        self._settlements[settlement.name] += 1
        if type(settlement) is Delivered:
            return
        if isinstance(settlement, Retry):
            self.count("thorn_retries_total", _tier(settlement.tier))
        elif isinstance(settlement, Parked):
            self.count("thorn_parked_total", settlement.cause)

    def consumed(self, group: str, topic: str, count: int) -> None:
        self.count("thorn_records_consumed_total", (group, topic), count)

    def unmatched(self) -> None:
        self.count("thorn_events_unmatched_total")

    def tombstone(self) -> None:
        self.count("thorn_dropped_total", "tombstone")

    def undecodable(self, record: Record, why: str) -> None:
        del record, why
        self.count("thorn_undecodable_total")

    def ignored(self, what: str) -> None:
        self.count("thorn_ignored_total", what)

    def clamped(self, header: str) -> None:
        self.count("thorn_clamped_total", header)

    def dropped(self, cause: str) -> None:
        self.count("thorn_dropped_total", cause)

    def dead(self, reason: str) -> None:
        self.count("thorn_dead_letters_total", reason)

    def handed_over(self, kind: str, error: str | None) -> None:
        self.count("thorn_handover_total", (kind, "ok" if error is None else "error"))

    def committed(self, group: str, error: str | None) -> None:
        self.count("thorn_commit_total", (group, "ok" if error is None else "error"))

    def lost_records(self, group: str, partition: Partition, count: int) -> None:
        key = (group, partition.topic, str(partition.number))
        self.count("thorn_records_lost_total", key, count)

    def circuit_opened(self, subscriber: str, failures: int, error: str) -> None:
        """Which circuits are open is asked for when scraped."""

    def circuit_closed(self, subscriber: str, lasted: float, probes: int) -> None: ...

    def late_outcome(self) -> None:
        self.count("thorn_fenced_total")

    def trouble(self, group: str, trouble: Trouble) -> None:
        """Troubles are in /readyz and the log; as a metric their texts would be labels."""

    def assigned(self, group: str, partitions: Sequence[Partition]) -> None:
        """What is assigned shows in the series of the lag."""

    def unassigned(self, group: str, partitions: Sequence[Partition], *, lost: bool) -> None: ...

    # asked by prometheus_client

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            if metric.kind == "counter":
                yield self._counter(metric)
            elif metric.kind == "histogram":
                histogram = self._histograms[metric.name]
                yield HistogramMetricFamily(
                    metric.name, metric.help, histogram.cumulated(), histogram.sum
                )
            elif metric.name in self._gauges:
                yield self._pulled(metric)

    # inside

    def _blocked(self, detail: str) -> None:
        name = detail.partition(" ")[0].partition(":")[0] or "unknown"
        known = self._counts["thorn_blocked_total"]
        if name not in known and len(known) >= _MOST_VALIDATORS:
            name = "other"
        self.count("thorn_blocked_total", name)

    def _counter(self, metric: Metric) -> Family:
        family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        for key, count in self._counts[metric.name].items():
            family.add_metric(_labels(key), count)
        return family

    def _pulled(self, metric: Metric) -> Family:
        family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        value = self._gauges[metric.name]()
        if isinstance(value, Mapping):
            rows: Iterable[tuple[Key, float]] = value.items()
            if metric.labels == ("subscriber",):
                by_id = {_labels(key)[0]: number for key, number in value.items()}
                rows = self._bounded(metric.name, by_id)
        else:
            rows = [((), value)]
        for key, number in rows:
            family.add_metric(_labels(key), number)
        return family

    def _bounded(self, name: str, values: Mapping[str, float]) -> list[tuple[Key, float]]:
        """Who had a series of its own keeps it while it is there; newcomers fill what is free."""
        limit = self._subscriber_limit
        named = {each for each in self._named.get(name, ()) if each in values}
        for key in values:
            if len(named) >= limit:
                break
            named.add(key)
        self._named[name] = named
        rows: list[tuple[Key, float]] = [
            (key, number) for key, number in values.items() if key in named
        ]
        if len(rows) < len(values):
            rest = [number for key, number in values.items() if key not in named]
            # ages are no amounts: of those the greatest stands for all
            rows.append(("other", max(rest) if name.endswith("_seconds") else sum(rest)))
        return rows


def _labels(key: Key) -> tuple[str, ...]:
    return key if isinstance(key, tuple) else (str(key),)


@lru_cache(maxsize=100)
def _tier(wait: float) -> str:
    """As it stands in the name of the tier's topic: `5s`, `0.5s`; `none` of one tried in place."""
    if wait == IN_PLACE:
        return "none"
    return f"{wait:.3f}".rstrip("0").rstrip(".") + "s"
