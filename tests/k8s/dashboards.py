"""The three Grafana dashboards as tables of panels; `made` writes them out as Grafana's JSON.

Every query is narrowed by the variables, which are matched with `=~`: one or several namespaces,
jobs, instances. Without Kubernetes there is no label `namespace`: All matches that as well.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["made"]

_WIDTH: Final = 24
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_MINE: Final = 'namespace=~"$namespace",job=~"$job",instance=~"$instance"'
_ONE: Final = f'{_MINE},subscriber=~"$subscriber"'
_NO_TIME: Final = {
    "id": "organize",
    "options": {"excludeByName": {"Time": True}, "renameByName": {"Value": "dispatchers"}},
}
_LAG: Final = "max by (group, topic, partition) (thorn_consumer_lag{%s})"
_LOST: Final = f"increase(thorn_records_lost_total{{{_MINE}}}[$__range])"
_ATTEMPTS: Final = f"rate(thorn_attempts_total{{{_MINE}}}[$__rate_interval])"
_FULLEST: Final = (
    f"max by (use) (thorn_memory_bytes{{{_MINE}}}"
    f" / on (namespace, job, instance) group_left thorn_memory_limit_bytes{{{_MINE}}})"
)
_RELOADS: Final = f"increase(thorn_reload_total{{{_MINE}}}[$__rate_interval])"
_ORDERED: Final = f'{_MINE},group=~".+[.]o[.]$subscriber"'


@dataclass(frozen=True)
class Panel:
    """One picture. `queries` are (expression, legend); `why` is what its corner tells."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    why: str = ""
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    width: int = 8
    red_from: float | None = None
    good_from: float | None = None


@dataclass(frozen=True)
class Row:
    """A heading and the panels below it."""

    title: str
    panels: Sequence[Panel]


def _rate(metric: str, by: str, labels: str = _MINE) -> str:
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def _quantiles(metric: str) -> list[tuple[str, str]]:
    inner = _rate(f"{metric}_bucket", "le")
    return [
        (f"histogram_quantile({share}, {inner})", name)
        for share, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
    ]


def _stat(title: str, query: str, why: str, **more: Any) -> Panel:
    return Panel(title, [(query, "")], why=why, kind="stat", width=4, **more)


_OVERVIEW: Final = (
    Row(
        "Now",
        (
            _stat(
                "Dispatchers",
                f"count(thorn_build_info{{{_MINE}}}) or vector(0)",
                "Processes that are seen.",
                good_from=1,
            ),
            _stat(
                "Delivered",
                f'sum(rate(thorn_deliveries_total{{{_MINE},settlement="delivered"}}[$__rate_interval]))',
                "Deliveries a second that were answered 2xx.",
                unit="ops",
            ),
            _stat(
                "Attempts that fail",
                f'sum(rate(thorn_attempts_total{{{_MINE},outcome!="ok"}}[$__rate_interval]))'
                f" / (sum({_ATTEMPTS}) > 0) or vector(0)",
                "Of all at once: look at our own network, resolver, authorities.",
                unit="percentunit",
                red_from=0.5,
            ),
            _stat(
                "Oldest that waits",
                f"max(thorn_oldest_pending_seconds{{{_MINE}}}) or vector(0)",
                "The oldest event that waits for anybody.",
                unit="s",
                red_from=900,
            ),
            _stat(
                "Receivers down",
                f"count(sum by (subscriber) (thorn_circuit_open{{{_MINE}}}) > 0) or vector(0)",
                "Subscribers with an open circuit in at least one dispatcher.",
                red_from=1,
            ),
            _stat(
                "Dead letters",
                f"round(sum(increase(thorn_dead_letters_total{{{_MINE}}}[$__range])))",
                "In the time shown.",
                red_from=1,
            ),
        ),
    ),
    Row(
        "Flow",
        (
            Panel(
                "Records read",
                [(_rate("thorn_records_consumed_total", "group, topic"), "{{group}} {{topic}}")],
                "ops",
                "No rate while producers send: not assigned, or paused. See /readyz.",
            ),
            Panel(
                "What was decided",
                [(_rate("thorn_deliveries_total", "settlement"), "{{settlement}}")],
                "ops",
                "A delivery that is retried or parked is counted each time.",
            ),
            Panel(
                "Attempts by outcome",
                [(_rate("thorn_attempts_total", "outcome"), "{{outcome}}")],
                "ops",
            ),
            Panel(
                "Retries by tier",
                [(_rate("thorn_retries_total", "tier"), "{{tier}}")],
                "ops",
                "Steady: receivers that fail now and then.",
            ),
            Panel(
                "Set aside untried",
                [(_rate("thorn_parked_total", "cause"), "{{cause}}")],
                "ops",
                "lane: the receiver is slower than its events come. circuit: it is down.",
            ),
            Panel(
                "Dead letters by reason",
                [(_rate("thorn_dead_letters_total", "reason"), "{{reason}}")],
                "ops",
            ),
        ),
    ),
    Row(
        "Time",
        (
            Panel(
                "From the record to the 2xx",
                _quantiles("thorn_delivery_latency_seconds"),
                "s",
                "Retries included. A median that rises is lag; a tail alone is retries.",
                width=12,
            ),
            Panel(
                "One request",
                _quantiles("thorn_attempt_duration_seconds"),
                "s",
                "Near event_timeout: receivers time out.",
                width=12,
            ),
        ),
    ),
    Row(
        "Backlog",
        (
            Panel(
                "Lag",
                [
                    (
                        f"sum by (group, topic) ({_LAG % _MINE})",
                        "{{group}} {{topic}}",
                    )
                ],
                why="Of the retry group: what waits to be due as well.",
            ),
            Panel(
                "Oldest event, ten subscribers",
                [
                    (
                        f"topk(10, max by (subscriber) (thorn_oldest_pending_seconds{{{_MINE}}}))",
                        "{{subscriber}}",
                    )
                ],
                "s",
            ),
            Panel(
                "Queued, ten subscribers",
                [
                    (
                        f"topk(10, sum by (subscriber) (thorn_lane_depth{{{_MINE}}}))",
                        "{{subscriber}}",
                    )
                ],
                why="Above zero for long: the receiver takes less than it is sent.",
            ),
            Panel(
                "Receivers that are down",
                [
                    (
                        f"sum by (subscriber) (thorn_circuit_open{{{_MINE}}}) > 0",
                        "{{subscriber}}",
                    )
                ],
                why="In how many dispatchers the circuit is open.",
                width=12,
            ),
            Panel(
                "Keys that stand still",
                [
                    (
                        f"sum by (subscriber) (thorn_ordered_blocked{{{_MINE}}}) > 0",
                        "{{subscriber}}",
                    )
                ],
                why="Ordered subscribers with on_exhausted: block.",
                width=12,
            ),
        ),
    ),
    Row(
        "What should not be",
        (
            Panel(
                "Events of no use",
                [
                    (_rate("thorn_undecodable_total", "job"), "undecodable"),
                    (_rate("thorn_events_unmatched_total", "job"), "matched nobody"),
                    (_rate("thorn_ignored_total", "what"), "ignored {{what}}"),
                    (_rate("thorn_clamped_total", "header"), "clamped {{header}}"),
                    (_rate("thorn_dropped_total", "cause"), "dropped {{cause}}"),
                ],
                "ops",
                width=12,
            ),
            Panel(
                "Refused by a validator",
                [(_rate("thorn_blocked_total", "validator"), "{{validator}}")],
                "ops",
                "Somebody mistyped, or somebody tries.",
                width=12,
            ),
        ),
    ),
)

_SUBSCRIBER: Final = (
    Row(
        "Now",
        (
            _stat(
                "Circuit open in",
                f"sum(thorn_circuit_open{{{_ONE}}}) or vector(0)",
                "Dispatchers that count it as down and send probes only.",
                red_from=1,
            ),
            _stat(
                "Oldest that waits",
                f"max(thorn_oldest_pending_seconds{{{_ONE}}}) or vector(0)",
                "Queued, in flight, parked, held for a retry, or read for an ordered one.",
                unit="s",
                red_from=900,
            ),
            _stat(
                "Queued",
                f"sum(thorn_lane_depth{{{_ONE}}}) or vector(0)",
                "In the lanes of all dispatchers.",
            ),
            _stat(
                "Keys that stand still",
                f"sum(thorn_ordered_blocked{{{_ONE}}}) or vector(0)",
                "Of an ordered one with on_exhausted: block.",
                red_from=1,
            ),
            _stat(
                "Lag of an ordered one",
                f"sum({_LAG % _ORDERED}) or vector(0)",
                "Its backlog is lag of a group of its own.",
            ),
        ),
    ),
    Row(
        "By dispatcher",
        (
            Panel(
                "Circuit",
                [(f"thorn_circuit_open{{{_ONE}}}", "{{subscriber}} {{instance}}")],
                why="1: only probes are sent. In one alone: is it that dispatcher's network?",
                width=12,
            ),
            Panel(
                "Oldest event that waits",
                [(f"thorn_oldest_pending_seconds{{{_ONE}}}", "{{subscriber}} {{instance}}")],
                "s",
                "A line that rises by a second a second: nothing gets through.",
                width=12,
            ),
            Panel(
                "Queued",
                [(f"thorn_lane_depth{{{_ONE}}}", "{{subscriber}} {{instance}}")],
                why="At lane_size more is set aside.",
            ),
            Panel(
                "Of an ordered one: lag",
                [(f"sum by (group, topic) ({_LAG % _ORDERED})", "{{group}} {{topic}}")],
                why="Empty unless the subscriber has ordering: key.",
            ),
            Panel(
                "Of an ordered one: read",
                [
                    (
                        _rate("thorn_records_consumed_total", "group, topic", _ORDERED),
                        "{{group}} {{topic}}",
                    )
                ],
                "ops",
                "Empty unless the subscriber has ordering: key.",
            ),
        ),
    ),
    Row(
        "Everybody, to compare with",
        (
            Panel(
                "Attempts by outcome",
                [(_rate("thorn_attempts_total", "outcome"), "{{outcome}}")],
                "ops",
                "When all fail alike it is not this receiver.",
                width=12,
            ),
            Panel(
                "One request",
                _quantiles("thorn_attempt_duration_seconds"),
                "s",
                width=12,
            ),
        ),
    ),
)

_KAFKA: Final = (
    Row(
        "Kafka",
        (
            Panel(
                "Lag, ten partitions",
                [
                    (
                        f"topk(10, {_LAG % _MINE})",
                        "{{group}} {{topic}}[{{partition}}]",
                    )
                ],
                why="One that stands still alone waits for one offset: see /readyz.",
            ),
            Panel(
                "Commits",
                [(_rate("thorn_commit_total", "group, result"), "{{group}} {{result}}")],
                "ops",
                "A few errors while partitions move are normal.",
            ),
            Panel(
                "Hand-overs",
                [(_rate("thorn_handover_total", "kind, result"), "{{kind}} {{result}}")],
                "ops",
                "Retry, parked and dead records, and cursors, as Kafka answered.",
            ),
            Panel(
                "Fenced requests",
                [(_rate("thorn_fenced_total", "instance"), "{{instance}}")],
                "ops",
                "Their partition had gone when they ended. Without a roll-out: members drop out.",
            ),
            Panel(
                "Records lost",
                [
                    (
                        f"round(sum by (group, topic, partition) ({_LOST})) > 0",
                        "{{group}} {{topic}}[{{partition}}]",
                    )
                ],
                why="Data is gone: retention was shorter than the lag.",
            ),
            Panel(
                "Clock skew",
                [(f"thorn_clock_skew_seconds{{{_MINE}}}", "{{instance}}")],
                "s",
                "Kafka's clock ahead of ours. Beyond a second: mend NTP.",
            ),
        ),
    ),
    Row(
        "Process",
        (
            Panel(
                "CPU",
                [
                    (
                        f"rate(process_cpu_seconds_total{{{_MINE}}}[$__rate_interval])",
                        "{{instance}}",
                    )
                ],
                "percentunit",
                "One core is all that a dispatcher can use.",
            ),
            Panel(
                "Held in records, of memory_limit",
                [(_FULLEST, "{{use}}")],
                "percentunit",
                "The fullest dispatcher. live may have half, retry a quarter, the others an 8th.",
            ),
            Panel(
                "Resident memory",
                [(f"process_resident_memory_bytes{{{_MINE}}}", "{{instance}}")],
                "bytes",
            ),
            Panel(
                "Requests under way",
                [(f"thorn_in_flight{{{_MINE}}}", "{{instance}}")],
                why="At max_connections for long: raise the limit on open files.",
            ),
            Panel(
                "Open files",
                [
                    (
                        f"process_open_fds{{{_MINE}}} / process_max_fds{{{_MINE}}}",
                        "{{instance}}",
                    )
                ],
                "percentunit",
            ),
            Panel(
                "Reloads of subscribers",
                [(f"sum by (source, result) ({_RELOADS})", "{{source}} {{result}}")],
                "short",
                "How many. error: a file has mistakes; the last good one holds on.",
            ),
            Panel(
                "Versions",
                [(f"count by (version, python) (thorn_build_info{{{_MINE}}})", "")],
                kind="table",
                width=12,
            ),
            Panel(
                "Up for",
                [(f"time() - process_start_time_seconds{{{_MINE}}}", "{{instance}}")],
                "s",
                width=12,
            ),
        ),
    ),
)


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def _variables(*, subscriber: bool) -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "type": "datasource", "query": "prometheus", "refresh": 1}
    within = ""
    for name in ("namespace", "job", "instance"):
        inner = f"{{{within}}}" if within else ""
        yield _variable(name, f"label_values(thorn_build_info{inner}, {name})")
        within = f'{within},{name}=~"${name}"'.lstrip(",")
    if subscriber:
        yield _variable("subscriber", f"label_values(thorn_lane_depth{{{within}}}, subscriber)")


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    more = {"transformations": [_NO_TIME]} if panel.kind == "table" else {}
    if panel.good_from is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.good_from}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    custom = {"fillOpacity": 10, "showPoints": "never"} if panel.kind == "timeseries" else {}
    return {
        "id": number,
        "title": panel.title,
        "description": panel.why,
        "type": panel.kind,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": _height(panel)},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "custom": custom,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": _options(panel),
        **more,
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": _SOURCE,
                "expr": expression,
                "legendFormat": legend,
                "instant": panel.kind != "timeseries",
                "range": panel.kind == "timeseries",
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for at, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _height(panel: Panel) -> int:
    return 4 if panel.kind == "stat" else 8


def _options(panel: Panel) -> Mapping[str, Any]:
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc", "hideZeros": True},
        }
    if panel.kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "area",
        }
    return {"showHeader": True}


def _panels(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    number, y = 1, 0
    for row in rows:
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": _WIDTH, "h": 1},
            "panels": [],
        }
        number, y, x, tallest = number + 1, y + 1, 0, 0
        for panel in row.panels:
            if x + panel.width > _WIDTH:
                x, y, tallest = 0, y + tallest, 0
            yield _panel(panel, number, x, y)
            number, x, tallest = number + 1, x + panel.width, max(tallest, _height(panel))
        y += tallest


def _dashboard(name: str, title: str, rows: Sequence[Row], *, subscriber: bool = False) -> str:
    data = {
        "uid": f"thorn-stream-{name}",
        "title": f"thorn_stream / {title}",
        "tags": ["thorn-stream"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "timezone": "",
        "templating": {"list": list(_variables(subscriber=subscriber))},
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "thorn_stream",
                "tags": ["thorn-stream"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "icon": "external link",
                "tooltip": "",
                "url": "",
            }
        ],
        "panels": list(_panels(rows)),
    }
    return json.dumps(data, indent=1) + "\n"


def made() -> dict[str, str]:
    """File name to JSON."""
    return {
        "overview.json": _dashboard("overview", "Overview", _OVERVIEW),
        "subscriber.json": _dashboard("subscriber", "One subscriber", _SUBSCRIBER, subscriber=True),
        "kafka-and-process.json": _dashboard("kafka-and-process", "Kafka and process", _KAFKA),
    }
