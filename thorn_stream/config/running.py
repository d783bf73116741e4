"""Settings of how a process runs: its limits, its own HTTP, what it says; and of producers."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from thorn_stream.config.kinds import DAY, Count, Port, Seconds, Section

__all__ = ["Api", "Circuit", "Http", "Log", "Running", "Tracing"]


class Circuit(Section):
    """When a receiver counts as down."""

    failures: Annotated[Count, Field(ge=1)] = Field(
        10, description="Failed attempts in a row that open the circuit; a success resets them."
    )
    open_for: Annotated[Seconds, Field(gt=0)] = Field(
        5, description="Seconds an open circuit waits before its first probe; doubled each time."
    )
    open_for_max: Annotated[Seconds, Field(gt=0, le=DAY)] = Field(
        300, description="Seconds; the longest wait between two probes."
    )


class Http(Section):
    """Health and metrics."""

    host: Annotated[str, Field(min_length=1)] = Field(
        "0.0.0.0",  # noqa: S104 - probes and scrapes come from other machines
        description="Address that /livez, /readyz and /metrics listen on.",
    )
    port: Port = Field(9464, description="Port; 0: a free one, named in the log.")


class Api(Section):
    """The management API."""

    enabled: bool = Field(False, description="Serve the management API under /v1.")
    host: Annotated[str, Field(min_length=1)] = Field(
        "127.0.0.1", description="Address it listens on; loopback, since it can change recipients."
    )
    port: Port = Field(8080, description="Port; 0: a free one, named in the log.")
    tokens: tuple[Annotated[SecretStr, Field(min_length=1)], ...] = Field(
        (SecretStr("env:THORN_API_TOKEN"),),
        description="Bearer tokens that are let in, usually env:NAME or file:PATH; several for "
        "rotation. Looked up only when the API is enabled.",
        json_schema_extra={"default": ["env:THORN_API_TOKEN"]},
    )


class Tracing(Section):
    """OpenTelemetry."""

    enabled: bool = Field(
        False, description="Make spans; where they go is told by the OTEL_ variables."
    )


class Log(Section):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least level that is written."
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: console on a terminal, JSON elsewhere."
    )
    successes: bool = Field(
        False, description="A line for each delivered attempt too; off, metrics count them."
    )


class Running(Section):
    """How a process runs."""

    max_in_flight: Annotated[Count, Field(ge=1, le=100_000)] = Field(
        256, description="Requests under way at once, per subscriber and process."
    )
    max_connections: Annotated[Count, Field(ge=1)] | None = Field(
        None,
        description="Open connections per process; null: from the limit on open files.",
    )
    lane_size: Annotated[Count, Field(ge=1, le=1_000_000)] = Field(
        1000, description="Deliveries queued per subscriber before more are parked."
    )
    lane_wait_max: Annotated[Seconds, Field(gt=0, le=3600)] = Field(
        5,
        description="Seconds a delivery may wait in its lane before it is parked, so that a slow "
        "receiver holds no offset.",
    )
    window: Annotated[Count, Field(ge=1, le=200_000)] = Field(
        100_000,
        description="Offsets per partition above the committed one; at most 200000, since what is "
        "done among them must fit the commit's metadata.",
    )
    memory_limit: Annotated[Count, Field(ge=1 << 20)] = Field(
        256 << 20, description="Bytes of memory that one process holds in records."
    )
    circuit: Circuit = Field(Circuit(), description="When a receiver counts as down.")
    park_max: Annotated[Seconds, Field(gt=0, le=365 * DAY)] = Field(
        259_200, description="Seconds; what was parked longer is dead, reason `expired`."
    )
    ordered_max: Annotated[Count, Field(ge=0, le=10_000)] = Field(
        50, description="Subscribers with `ordering: key`; each costs one more read of the topics."
    )
    commit_interval: Annotated[Seconds, Field(ge=0.01, le=60)] = Field(
        0.2,
        description="Seconds between commits (one also follows every 1,000 settled records); a "
        "crash repeats what was settled since the last.",
    )
    drain_timeout: Annotated[Seconds, Field(ge=0, le=3600)] = Field(
        25,
        description="Seconds a stop may take; below the 30 s that Kubernetes gives by default.",
    )
    start_timeout: Annotated[Seconds, Field(gt=0, le=3600)] = Field(
        30, description="Seconds to reach Kafka for the first time before `run` gives up."
    )

    http: Http = Field(Http(), description="Health and metrics.")
    api: Api = Field(Api(), description="The management API.")
    tracing: Tracing = Field(Tracing(), description="OpenTelemetry.")
    log: Log = Field(Log(), description="What is logged.")
    metrics_subscriber_limit: Annotated[Count, Field(ge=0)] = Field(
        500,
        description="Subscribers with metrics of their own; the rest are summed under `other`.",
    )

    dispatcher: Literal["kafka", "inline", "disabled", "memory"] = Field(
        "kafka", description="Producers: how an event is sent."
    )
    on_full: Literal["raise", "block", "drop"] = Field(
        "raise", description="Producers: what `send()` does when the queue is full."
    )
    flush_timeout: Annotated[Seconds, Field(ge=0)] = Field(
        30, description="Producers: seconds at exit to send what is queued."
    )
    signal_honors_transaction: bool = Field(
        True, description="Producers: model events are published after the commit, not before."
    )
