"""Everything that touches Kafka: reading, writing, and looking after topics."""

from thorn_stream.adapters.kafka.access import group_access, topic_access
from thorn_stream.adapters.kafka.admin import (
    Cluster,
    TopicSpec,
    create_topics,
    delete_topics,
    describe,
    topic_configs,
)
from thorn_stream.adapters.kafka.browse import browse, record_at
from thorn_stream.adapters.kafka.drain import KafkaReplay, ReplaySettings
from thorn_stream.adapters.kafka.settings import SourceSettings, check_client, session
from thorn_stream.adapters.kafka.sink import KafkaSink, SinkSettings
from thorn_stream.adapters.kafka.source import KafkaSource

__all__ = [
    "Cluster",
    "KafkaReplay",
    "KafkaSink",
    "KafkaSource",
    "ReplaySettings",
    "SinkSettings",
    "SourceSettings",
    "TopicSpec",
    "browse",
    "check_client",
    "create_topics",
    "delete_topics",
    "describe",
    "group_access",
    "record_at",
    "session",
    "topic_access",
    "topic_configs",
]
