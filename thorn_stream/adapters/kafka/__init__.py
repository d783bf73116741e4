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
from thorn_stream.adapters.kafka.browse import browse, record_at, records_at
from thorn_stream.adapters.kafka.drain import KafkaReplay, ReplaySettings
from thorn_stream.adapters.kafka.groups import (
    begin_group,
    committed_by,
    delete_groups,
    empty_groups,
    ends_of,
    session_seconds,
)
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
    "begin_group",
    "browse",
    "check_client",
    "committed_by",
    "create_topics",
    "delete_groups",
    "delete_topics",
    "describe",
    "empty_groups",
    "ends_of",
    "group_access",
    "record_at",
    "records_at",
    "session",
    "session_seconds",
    "topic_access",
    "topic_configs",
]
