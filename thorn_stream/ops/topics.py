"""The topics of a group: which it needs, and how they are to be kept."""

from typing import Final

from thorn_stream.adapters.kafka import TopicSpec
from thorn_stream.config import Settings

__all__ = ["own_topics"]

_DAY: Final = 86_400
_MOST_PARTITIONS: Final = 12
_HEADERS_ROOM: Final = 65_536
_KAFKA_DEFAULT_BYTES: Final = 1_048_588


def own_topics(
    settings: Settings, partitions: int, max_message_bytes: int = _KAFKA_DEFAULT_BYTES
) -> dict[str, TopicSpec]:
    """Retry tiers and the dead-letter topic of these settings.

    `partitions` and `max_message_bytes` are the largest of the input topics: a retry record is
    its event with some headers more, so it has to fit.
    """
    kept = max(7 * _DAY, 2 * max(settings.retry_tiers) + 2 * _DAY)
    common = {
        "cleanup.policy": "delete",
        "retention.bytes": "-1",
        "max.message.bytes": str(max_message_bytes + _HEADERS_ROOM),
    }
    width = max(1, min(partitions, _MOST_PARTITIONS))
    tier = TopicSpec(
        width,
        config={**common, "retention.ms": _ms(kept), "message.timestamp.type": "LogAppendTime"},
    )
    dead = TopicSpec(width, config={**common, "retention.ms": _ms(30 * _DAY)})
    return {**dict.fromkeys(settings.retry_topics, tier), settings.dead: dead}


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))
