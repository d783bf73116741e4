"""Everything that touches Kafka: reading, writing, and looking after topics."""

from thorn_stream.adapters.kafka.admin import (
    Cluster,
    TopicSpec,
    create_topics,
    describe,
    topic_configs,
)
from thorn_stream.adapters.kafka.settings import SourceSettings
from thorn_stream.adapters.kafka.sink import KafkaSink, SinkSettings
from thorn_stream.adapters.kafka.source import KafkaSource

__all__ = [
    "Cluster",
    "KafkaSink",
    "KafkaSource",
    "SinkSettings",
    "SourceSettings",
    "TopicSpec",
    "create_topics",
    "describe",
    "topic_configs",
]
