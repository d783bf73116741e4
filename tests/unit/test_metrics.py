"""Metrics: one table, counted as told, rendered as Prometheus reads it."""

from collections.abc import Iterable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from thorn_stream.adapters.metrics import METRICS, Metrics
from thorn_stream.core.deliveries import (
    Dead,
    Delivered,
    Delivery,
    Dropped,
    Kind,
    Outcome,
    Parked,
    Reason,
    Retry,
)
from thorn_stream.core.envelope import Envelope
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Partition, Record
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.ports import Observer, Trouble
from thorn_stream.version import __version__

_OBSERVER: type[Observer] = Metrics  # mypy refuses this file when it no longer fits the port

NOW = 1_700_000_000.0
ORDERS = Partition("orders", 3)


def make_delivery(timestamp: int = int(NOW * 1000)) -> Delivery:
    record = Record("orders", 3, 0, None, b"{}", [], timestamp)
    subscriber = Subscriber(id="billing", event=("*",), url="http://a")
    entry = Entry(Ledger(ORDERS, 0, 10, Tally()), 0, 1)
    return Delivery(Envelope("order.created", "e1", record), subscriber, "d1", entry)


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = metrics.render()[0].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


def series(metrics: Metrics, name: str, label: str) -> dict[str, float]:
    return {
        dict(key[1])[label]: number for key, number in samples(metrics).items() if key[0] == name
    }


def labels_of(known: str | tuple[str, ...]) -> tuple[str, ...]:
    return (known,) if isinstance(known, str) else known


def test_names_follow_the_rules_of_prometheus() -> None:
    """Prefixed, unique, `_total` on counters alone, help in all, and the unit that it names."""
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.name.startswith("thorn_")
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert (metric.kind == "histogram") == bool(metric.buckets)
        assert metric.help.endswith(".")
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert all(len(labels_of(known)) == len(metric.labels) for known in metric.values)
        assert ("seconds" in metric.help.lower()) == metric.name.endswith("_seconds")


def test_every_counter_and_histogram_is_there_before_anything_happened() -> None:
    """A rate needs a zero to begin with: what has no labels, or known ones, starts at 0."""
    got = samples(Metrics())
    for metric in METRICS:
        if metric.kind == "histogram":
            assert got[metric.name + "_count", frozenset()] == 0
        elif metric.kind == "counter" and not metric.labels:
            assert got[metric.name, frozenset()] == 0
        for known in metric.values:
            begins = zip(metric.labels, labels_of(known), strict=True)
            assert got[metric.name, frozenset(begins)] == 0


def test_an_attempt_counts_its_outcome_and_duration() -> None:
    """Each Outcome is counted under its word and its duration falls into the right bucket."""
    metrics = Metrics(wall=lambda: NOW)
    metrics.attempted(make_delivery(), Outcome(Kind.OK, 200, duration=0.25), Delivered())
    metrics.attempted(make_delivery(), Outcome(Kind.STATUS, 503, duration=0.3), Retry(0, 5))
    metrics.attempted(make_delivery(), Outcome(Kind.TIMEOUT, duration=99.0), Retry(0, 5))
    outcomes = series(metrics, "thorn_attempts_total", "outcome")
    assert {name: count for name, count in outcomes.items() if count} == {
        "ok": 1,
        "status": 1,
        "timeout": 1,
    }
    buckets = series(metrics, "thorn_attempt_duration_seconds_bucket", "le")
    assert (buckets["0.1"], buckets["0.25"], buckets["0.5"]) == (0, 1, 2)
    assert (buckets["30.0"], buckets["+Inf"]) == (2, 3)
    assert value(metrics, "thorn_attempt_duration_seconds_sum") == pytest.approx(99.55)


@pytest.mark.parametrize(
    ("age", "count", "total"),
    [(0.02, 1, 0.02), (-5.0, 1, 0.0), (None, 0, 0.0)],
    ids=["behind", "producer's clock ahead", "no timestamp"],
)
def test_latency_is_from_the_records_timestamp_to_the_2xx(
    age: float | None, count: int, total: float
) -> None:
    """Only a 2xx is timed; a clock ahead of ours counts as no time, no timestamp not at all."""
    timestamp = -1 if age is None else round((NOW - age) * 1000)
    metrics = Metrics(wall=lambda: NOW)
    metrics.attempted(make_delivery(timestamp), Outcome(Kind.STATUS, 500), Retry(0, 5))
    metrics.attempted(make_delivery(timestamp), Outcome(Kind.OK, 200), Delivered())
    assert value(metrics, "thorn_delivery_latency_seconds_count") == count
    assert value(metrics, "thorn_delivery_latency_seconds_sum") == pytest.approx(total)


def test_settlements_are_counted_with_what_they_carry() -> None:
    """Each settlement under its name; a retry under its tier, a parked one under its cause."""
    metrics = Metrics()
    for settlement in (
        *(Delivered(), Delivered(), Retry(0, 5.0), Retry(0, 0.5), Dead(Reason.GONE)),
        *(Parked("lane"), Dropped("unsubscribed")),
    ):
        metrics.settled(settlement)
    assert series(metrics, "thorn_deliveries_total", "settlement") == {
        "delivered": 2,
        "retry": 2,
        "dead": 1,
        "parked": 1,
        "dropped": 1,
    }
    assert series(metrics, "thorn_retries_total", "tier") == {"5s": 1, "0.5s": 1}
    assert value(metrics, "thorn_parked_total", cause="lane") == 1


def test_what_else_is_told_is_counted_with_its_labels() -> None:
    """Every other method of the port that has a metric moves exactly that one."""
    metrics = Metrics()
    metrics.consumed("thorn", "orders", 500)
    metrics.unmatched()
    metrics.tombstone()
    metrics.undecodable(make_delivery().envelope.record, "not JSON")
    metrics.ignored("thorn-id")
    metrics.dropped("too_old")
    metrics.dead("gone")
    metrics.handed_over("retry", None)
    metrics.handed_over("dead", "no replicas")
    metrics.committed("thorn", None)
    metrics.committed("thorn", "Broker: Unknown member")
    metrics.lost_records("thorn", ORDERS, 7)
    metrics.late_outcome()
    metrics.clamped("thorn-timeout")
    metrics.trouble("thorn", Trouble("broker", "gone"))
    metrics.assigned("thorn", [ORDERS])
    metrics.unassigned("thorn", [ORDERS], lost=True)
    moved = {
        (name, *sorted(dict(labels).values())): count
        for (name, labels), count in samples(metrics).items()
        if name.startswith("thorn_") and count and name != "thorn_build_info"
    }
    assert moved == {
        ("thorn_records_consumed_total", "orders", "thorn"): 500,
        ("thorn_events_unmatched_total",): 1,
        ("thorn_dropped_total", "tombstone"): 1,
        ("thorn_undecodable_total",): 1,
        ("thorn_ignored_total", "thorn-id"): 1,
        ("thorn_dropped_total", "too_old"): 1,
        ("thorn_dead_letters_total", "gone"): 1,
        ("thorn_handover_total", "ok", "retry"): 1,
        ("thorn_handover_total", "dead", "error"): 1,
        ("thorn_commit_total", "ok", "thorn"): 1,
        ("thorn_commit_total", "error", "thorn"): 1,
        ("thorn_records_lost_total", "3", "orders", "thorn"): 7,
        ("thorn_fenced_total",): 1,
        ("thorn_clamped_total", "thorn-timeout"): 1,
    }


def blocked(names: Iterable[str]) -> Metrics:
    metrics = Metrics()
    for name in names:
        metrics.attempted(make_delivery(), Outcome(Kind.BLOCKED, detail=name), Dead(Reason.BLOCKED))
    return metrics


def test_blocked_names_the_validator_without_its_reason() -> None:
    """The label is the validator's name alone: what follows it would make series without end."""
    metrics = blocked(["block_internal_ips", "block_internal_ips 10.0.0.1", "ensure_port: 81", ""])
    assert series(metrics, "thorn_blocked_total", "validator") == {
        "block_internal_ips": 2,
        "ensure_port": 1,
        "unknown": 1,
    }


def test_validators_without_end_end_up_under_other() -> None:
    """However many names a validator of the user's own makes up, the series are bounded."""
    got = series(blocked(f"v{n}" for n in range(500)), "thorn_blocked_total", "validator")
    assert len(got) <= 51
    assert sum(got.values()) == 500


def test_gauges_are_asked_for_at_each_scrape() -> None:
    """A gauge shows what its function says now, with labels in the order of the table."""
    metrics = Metrics()
    level = {"now": 3.0}
    metrics.gauge("thorn_in_flight", lambda: level["now"])
    metrics.gauge("thorn_consumer_lag", lambda: {("thorn", "orders", "3"): 12})
    assert value(metrics, "thorn_in_flight") == 3
    level["now"] = 5.0
    assert value(metrics, "thorn_in_flight") == 5
    assert value(metrics, "thorn_consumer_lag", group="thorn", topic="orders", partition="3") == 12
    assert value(metrics, "thorn_memory_limit_bytes") is None


@pytest.mark.parametrize("name", ["thorn_attempts_total", "thorn_inflight"])
def test_only_gauges_of_the_table_can_be_registered(name: str) -> None:
    """A counter, or a name that is not in the table, is refused by its name."""
    with pytest.raises(ValueError, match=name):
        Metrics().gauge(name, lambda: 1)


def test_subscribers_beyond_the_limit_are_summed_under_other() -> None:
    """The limit holds, nothing is left out of the sum, and who had a series keeps it."""
    metrics = Metrics(subscriber_limit=2)
    depths: dict[str | tuple[str, ...], float] = {"a": 1, "b": 2, "c": 4, "d": 8}
    metrics.gauge("thorn_lane_depth", lambda: depths)
    assert series(metrics, "thorn_lane_depth", "subscriber") == {"a": 1, "b": 2, "other": 12}
    del depths["a"]
    depths["e"] = 16
    assert series(metrics, "thorn_lane_depth", "subscriber") == {"b": 2, "c": 4, "other": 24}
    depths = {"c": 1, "b": 1}
    assert series(metrics, "thorn_lane_depth", "subscriber") == {"c": 1, "b": 1}


def test_the_exposition_says_what_is_running_and_how_the_process_is() -> None:
    """Build info, resident memory and garbage collections are there, as text Prometheus takes."""
    metrics = Metrics()
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    assert series(metrics, "thorn_build_info", "version") == {__version__: 1}
    assert b"process_resident_memory_bytes" in body
    assert b"python_gc_collections_total" in body
    assert b"# TYPE thorn_attempts_total counter" in body
