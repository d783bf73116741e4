"""librdkafka's own error codes under plain names; Kafka's are `KafkaError.NAME`."""
# ruff: noqa: SLF001 - librdkafka marks its own codes, which are public, with an underscore

from typing import Final

from confluent_kafka import KafkaError

ALL_BROKERS_DOWN: Final = KafkaError._ALL_BROKERS_DOWN
AUTHENTICATION: Final = KafkaError._AUTHENTICATION
FATAL: Final = KafkaError._FATAL
MAX_POLL_EXCEEDED: Final = KafkaError._MAX_POLL_EXCEEDED
GROUP_FORBIDDEN: Final = KafkaError.GROUP_AUTHORIZATION_FAILED
OFFSET_RESET: Final = KafkaError._AUTO_OFFSET_RESET
PARTITION_EOF: Final = KafkaError._PARTITION_EOF
RESOLVE: Final = KafkaError._RESOLVE
TLS: Final = KafkaError._SSL
TIMED_OUT: Final = KafkaError._TIMED_OUT
TRANSPORT: Final = KafkaError._TRANSPORT
UNKNOWN_PARTITION: Final = KafkaError._UNKNOWN_PARTITION
UNKNOWN_TOPIC: Final = KafkaError._UNKNOWN_TOPIC

MISSING_TOPIC: Final = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, UNKNOWN_TOPIC, UNKNOWN_PARTITION}
)

FORBIDDEN: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        GROUP_FORBIDDEN,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
"""The user was recognised, and may not do this."""

COORDINATOR_MOVING: Final = frozenset(
    {
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
    }
)
"""Of a group, for a while: when Kafka is first asked for one, or its broker went away."""

PASSING: Final = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})
"""Of a partition that has just been made or is moving: it is asked again."""

NO_ANSWER: Final = frozenset({TIMED_OUT, TRANSPORT, ALL_BROKERS_DOWN})


def is_fatal(error: KafkaError) -> bool:
    """Whether the client is of no use any more; of some errors only the code says so."""
    return error.fatal() or error.code() == FATAL
