"""Where a group begins: what is asked of Kafka, and what others may do between two questions."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Literal

from confluent_kafka import TopicPartition

from thorn_stream.adapters.kafka.positions import Positions, Topics
from thorn_stream.adapters.kafka.settings import SourceSettings
from thorn_stream.core.records import Partition, Position

TOPIC = "orders"


class Group:
    """Stands for a Consumer of a group that another member commits for after `quiet` questions."""

    def __init__(self, quiet: int) -> None:
        self.quiet = quiet

    def committed(self, places: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        del timeout
        self.quiet -= 1
        offset = 7 if self.quiet < 0 else -1001
        return [TopicPartition(place.topic, place.partition, offset) for place in places]

    def list_topics(self, timeout: float) -> Any:
        del timeout
        return SimpleNamespace(topics={TOPIC: SimpleNamespace(partitions={0: None, 1: None})})

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        del place, timeout
        return 3, 9


def begin(quiet: int, start: Literal["earliest", "latest"]) -> dict[Partition, Position]:
    settings = SourceSettings({}, group="g", topics=(TOPIC,), start=start, embedded=True)
    group: Any = Group(quiet)
    return Positions(settings, Topics(())).begin(group, [Partition(TOPIC, 0)], 1.0)


def test_latest_begins_at_the_end_in_a_new_group() -> None:
    """Nobody has committed anything: the end is chosen."""
    assert begin(99, "latest") == {Partition(TOPIC, 0): Position(9)}


def test_what_another_member_chose_meanwhile_holds() -> None:
    """It commits for all between our two questions: the group is old, but we begin where it is."""
    assert begin(1, "latest") == {Partition(TOPIC, 0): Position(7)}


def test_earliest_begins_at_the_first_record() -> None:
    """Without a commit, at the first record there is."""
    assert begin(99, "earliest") == {Partition(TOPIC, 0): Position(3)}
