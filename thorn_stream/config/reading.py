"""Settings of what is read: Kafka, topics, subscribers."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from thorn_stream.config.kafka import Kafka
from thorn_stream.config.kinds import DAY, GroupName, InputTopic, Seconds, Section, TopicName
from thorn_stream.core.subscribers import Subscriber

__all__ = ["Reading", "Results"]


def _off(value: Any) -> Any:
    """YAML 1.1 editors write `off` as false."""
    return "off" if value is False else value


class Results(Section):
    """Result events: one small record per attempt."""

    enabled: bool = Field(
        False,
        description="Write one small event per attempt; off, since each is one more write. For an "
        "event with the header `thorn-results: true` they are written in any case.",
    )
    topic: TopicName | None = Field(
        None, description="Topic of the result events; null: `<group>.results`."
    )


class Reading(Section):
    """What is read, and who is called for it."""

    kafka: Kafka = Field(
        default_factory=dict,
        validate_default=True,
        description="Passed through to librdkafka, `_` and `.` being the same. "
        "`bootstrap_servers: embedded` means the embedded broker, for trying out. Keys that a "
        "guarantee rests on are refused.",
    )
    group: GroupName = Field(
        "thorn",
        description="Name of the consumer group; dispatchers of one group share the work. The "
        "names of its own topics begin with it.",
    )
    group_protocol: Literal["classic", "consumer"] = Field(
        "classic",
        description="Kafka's rebalance protocol; `consumer` (KIP-848) needs brokers from 4.0, and "
        "heals a killed member only after the broker's session of 45 s.",
    )
    topics: Annotated[tuple[InputTopic, ...], Field(min_length=1)] = Field(
        ("thorn.events",),
        description="Input topics: names, or regular expressions that begin with ^. The group's "
        "own topics are never input.",
    )
    start: Literal["earliest", "latest"] = Field(
        "earliest",
        description="Where a group that never committed anything begins in its input topics.",
    )
    max_event_age: Annotated[Seconds, Field(gt=0)] | None = Field(
        None,
        description="Seconds; older events are skipped and counted. null: none is too old.",
    )
    create_topics: bool = Field(
        True,
        description="Create the group's own topics at start when they are missing and it is "
        "permitted; off where topics are made by `thorn-stream topics create` or by hand.",
    )
    retry_topic_prefix: TopicName | None = Field(
        None,
        description="Begin of the retry topics' names, which end in the tier's wait; null: "
        "`<group>.retry`, so `thorn.retry.5s`.",
    )
    retry_tiers: Annotated[
        tuple[Annotated[Seconds, Field(gt=0, le=30 * DAY)], ...], Field(min_length=1, max_length=20)
    ] = Field(
        (5, 15, 60, 300, 1800, 7200),
        description="Seconds, ascending: the fixed waits of the retry topics, one topic each. A "
        "delay is waited in the smallest one that covers it.",
    )
    dead_topic: TopicName | None = Field(
        None, description="Topic of dead letters; null: `<group>.dead`."
    )
    parked_topic: TopicName | None = Field(
        None,
        description="Topic of deliveries that wait for a receiver; null: `<group>.parked`.",
    )
    cursors_topic: TopicName | None = Field(
        None,
        description="Compacted topic: where each receiver's parked deliveries begin; null: "
        "`<group>.cursors`.",
    )
    subscribers_topic: Annotated[TopicName | None, BeforeValidator(_off)] = Field(
        None,
        description="Compacted topic of subscribers managed at run time; null: "
        "`<group>.subscribers`; `off`: none, subscribers come from files and settings alone.",
    )
    results: Results = Field(
        Results(), description="Result events, one per attempt; off by default."
    )

    subscriber_files: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (
            "config/subscribers/*.yaml",
            "config/subscribers/*.yml",
            "config/subscribers/*.json",
        ),
        description="Globs of subscriber files, relative to the working directory or absolute; "
        "read anew when they change. One without a wildcard must exist.",
    )
    subscribers: Annotated[
        tuple[Subscriber, ...],
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "array", "items": {"type": "object"}},
                    {"type": "object", "additionalProperties": {"type": "array"}},
                ]
            }
        ),
    ] = Field((), description="Subscribers written here, in the same shapes as in a file.")
    allow_event_subscribers: bool = Field(
        False,
        description="Let events name extra recipients (header `thorn-subscribers`); off, since "
        "whoever writes to an input topic could then make requests anywhere validators allow.",
    )
    unknown_subscriber_grace: Annotated[Seconds, Field(ge=0)] = Field(
        600,
        description="Seconds a retry waits for a subscriber this process does not know, before it "
        "is dead; long enough for a file edited by mistake to come back.",
    )
