"""The table of metrics: the collector and the reference in the docs are made from it."""

from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

from thorn_stream.core.deliveries import Kind, Reason

__all__ = ["METRICS", "Metric"]

_ATTEMPT_BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
_LATENCY_BUCKETS: Final = (
    *(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 300.0, 1800.0, 7200.0, 86400.0),
)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table: the collector and the docs are made from it.

    `values` are those that the labels begin with, at zero, so that a rate is known from the first
    event on: texts of the only label, tuples of several. `buckets` are upper bounds, in the unit of
    the name.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    values: tuple[str | tuple[str, ...], ...] = ()
    buckets: tuple[float, ...] = ()


METRICS: Final = (
    Metric(
        "thorn_records_consumed_total", "counter", ("group", "topic"), "Records read from Kafka."
    ),
    Metric("thorn_events_unmatched_total", "counter", (), "Events that matched no subscriber."),
    Metric(
        "thorn_undecodable_total",
        "counter",
        (),
        "Records that could not be decoded; each goes to the dead-letter topic.",
    ),
    Metric(
        "thorn_attempts_total",
        "counter",
        ("outcome",),
        "HTTP requests that have ended, by what they came to.",
        values=tuple(Kind),
    ),
    Metric(
        "thorn_attempt_duration_seconds",
        "histogram",
        (),
        "Seconds from the begin of an HTTP request to its end.",
        buckets=_ATTEMPT_BUCKETS,
    ),
    Metric(
        "thorn_deliveries_total",
        "counter",
        ("settlement",),
        "What was decided for a delivery; one that is retried is counted each time.",
        values=("delivered", "retry", "dead", "parked", "dropped"),
    ),
    Metric(
        "thorn_delivery_latency_seconds",
        "histogram",
        (),
        "Seconds from the timestamp of the event's record to the 2xx.",
        buckets=_LATENCY_BUCKETS,
    ),
    Metric(
        "thorn_retries_total",
        "counter",
        ("tier",),
        "Failed attempts tried again, by the wait of their tier (none: ordered, in place).",
    ),
    Metric(
        "thorn_parked_total",
        "counter",
        ("cause",),
        "Deliveries set aside untried, their attempts unchanged.",
        values=("lane", "circuit", "rate", "paused"),
    ),
    Metric(
        "thorn_dead_letters_total",
        "counter",
        ("reason",),
        "Dead letters acknowledged by Kafka.",
        values=tuple(Reason),
    ),
    Metric(
        "thorn_dropped_total",
        "counter",
        ("cause",),
        "Events and deliveries passed over on purpose.",
        values=("unsubscribed", "too_old", "tombstone"),
    ),
    Metric(
        "thorn_blocked_total",
        "counter",
        ("validator",),
        "Requests refused by a validator before they were made.",
    ),
    Metric("thorn_in_flight", "gauge", (), "HTTP requests under way."),
    Metric("thorn_lane_depth", "gauge", ("subscriber",), "Deliveries queued for a subscriber."),
    Metric(
        "thorn_circuit_open",
        "gauge",
        ("subscriber",),
        "1 while a subscriber counts as down: nothing is sent to it but probes.",
    ),
    Metric(
        "thorn_oldest_pending_seconds",
        "gauge",
        ("subscriber",),
        "Seconds since the oldest event that waits for a subscriber was written: in its lane, "
        "parked, held for a retry, or, of an ordered one, the oldest that was read.",
    ),
    Metric(
        "thorn_ordered_blocked",
        "gauge",
        ("subscriber",),
        "Keys of an ordered subscriber that stand still: retries used up, on_exhausted: block.",
    ),
    Metric(
        "thorn_consumer_lag",
        "gauge",
        ("group", "topic", "partition"),
        "Records between the committed offset and the end of the partition.",
    ),
    Metric(
        "thorn_commit_total",
        "counter",
        ("group", "result"),
        "Answers to offset commits: ok or error.",
    ),
    Metric(
        "thorn_records_lost_total",
        "counter",
        ("group", "topic", "partition"),
        "Records that Kafka deleted before they were read.",
    ),
    Metric(
        "thorn_handover_total",
        "counter",
        ("kind", "result"),
        "Answers to records written to the group's own topics, by what they are (retry, parked, "
        "dead, cursor, result): ok or error.",
        values=tuple(product(("retry", "parked", "dead", "cursor", "result"), ("ok", "error"))),
    ),
    Metric(
        "thorn_reload_total",
        "counter",
        ("source", "result"),
        "Reloads of subscribers: ok, or error when something in them was not taken.",
        values=(("file", "ok"), ("file", "error")),
    ),
    Metric(
        "thorn_clock_skew_seconds",
        "gauge",
        (),
        "Seconds that Kafka's clock is ahead of ours (behind: negative), by retry records.",
    ),
    Metric("thorn_memory_bytes", "gauge", ("use",), "Bytes held in records, by what for."),
    Metric(
        "thorn_memory_limit_bytes",
        "gauge",
        (),
        "Bytes of memory that may be held in records (setting memory_limit).",
    ),
    Metric(
        "thorn_ignored_total",
        "counter",
        ("what",),
        "Parts of events, or metadata of commits, that could not be used and were left out.",
    ),
    Metric(
        "thorn_clamped_total",
        "counter",
        ("header",),
        "Values of event headers cut to the ceiling in the settings.",
    ),
    Metric(
        "thorn_fenced_total",
        "counter",
        (),
        "Requests that ended after their partition had gone to another member.",
    ),
    Metric(
        "thorn_events_sent_total",
        "counter",
        ("dispatcher", "result"),
        "Events that a program published, in that program's own metrics: ok, error, full, dropped.",
    ),
    Metric(
        "thorn_build_info",
        "gauge",
        ("version", "python"),
        "Always 1; the labels say what is running.",
    ),
)
