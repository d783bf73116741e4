"""Which topics a group has, how they are to be kept, and what differs from that."""

from typing import Any

import pytest

from thorn_stream.adapters.kafka import Cluster, TopicSpec
from thorn_stream.adapters.kafka.positions import Topics
from thorn_stream.config.settings import Settings
from thorn_stream.ops.plan import Planned, plan
from thorn_stream.ops.topics import (
    KAFKA_DEFAULT_BYTES,
    Needs,
    inputs,
    needs,
    never_input,
    own_topics,
    tiers_read,
)
from thorn_stream.ops.upkeep import writing

SETTINGS = Settings(topics=("orders",), retry_tiers=(5, 60))
ALL_THERE = {
    "orders": 6,
    "thorn.retry.5s": 6,
    "thorn.retry.60s": 6,
    "thorn.parked": 6,
    "thorn.cursors": 6,
    "thorn.dead": 6,
    "thorn.results": 6,
}


def cluster(topics: dict[str, int], replicas: int = 1, name: str = "real") -> Cluster:
    return Cluster(name, topics, dict.fromkeys(topics, replicas))


def as_needed(settings: Settings = SETTINGS, **more: Any) -> dict[str, dict[str, str]]:
    """The configs of a group whose topics are as they should be."""
    return {topic: dict(spec.config) for topic, spec in own_topics(settings, Needs(**more)).items()}


def of(planned: list[Planned], topic: str) -> Planned:
    (found,) = [one for one in planned if one.topic == topic]
    return found


# --- what is needed ------------------------------------------------------------------------------


def test_own_topics_of_this_version() -> None:
    """Tiers that are set, parked ones and cursors, dead letters, results; all that is written."""
    assert list(own_topics(SETTINGS, Needs())) == [
        "thorn.retry.5s",
        "thorn.retry.60s",
        "thorn.parked",
        "thorn.cursors",
        "thorn.dead",
        "thorn.results",
    ]


def test_parked_records_outlive_the_time_they_may_wait() -> None:
    """A day more, so that they end as dead letters; their cursors are kept for ever."""
    specs = own_topics(Settings(park_max=3600), Needs())
    assert specs["thorn.parked"].config["retention.ms"] == str(1000 * (3600 + 86_400))
    assert specs["thorn.parked"].config["cleanup.policy"] == "delete"
    assert specs["thorn.cursors"].config["cleanup.policy"] == "compact"


def test_parked_records_and_their_cursors_have_the_same_partitions() -> None:
    """Also where one of the topics was made before the other, and wider than is needed."""
    found = needs(SETTINGS, cluster({"orders": 3, "thorn.parked": 8}), {})
    specs = own_topics(SETTINGS, found)
    assert (specs["thorn.parked"].partitions, specs["thorn.cursors"].partitions) == (8, 8)
    assert specs["thorn.dead"].partitions == 3


@pytest.mark.parametrize(("widest", "width"), [(-1, -1), (1, 1), (12, 12), (50, 12)])
def test_partitions_follow_the_widest_input(widest: int, width: int) -> None:
    """As many, at most 12; the broker's default where it is not known."""
    specs = own_topics(SETTINGS, Needs(partitions=widest))
    assert {spec.partitions for spec in specs.values()} == {width}


def test_an_event_fits_with_its_headers() -> None:
    """64 KiB more than the input takes, in every one of them."""
    specs = own_topics(SETTINGS, Needs(max_message_bytes=5_000_000))
    assert {spec.config["max.message.bytes"] for spec in specs.values()} == {"5065536"}


def test_tiers_outlive_their_waits() -> None:
    """Seven days at least; twice the longest wait and two days more, when that is longer."""
    day = 86_400_000
    short = own_topics(SETTINGS, Needs())["thorn.retry.5s"]
    assert short.config["retention.ms"] == str(7 * day)
    long = Settings(retry_tiers=(5, 10 * 86_400), retry_after_max=60)
    assert own_topics(long, Needs())["thorn.retry.5s"].config["retention.ms"] == str(22 * day)


def test_the_strictest_input_counts() -> None:
    """Partitions, replicas, size and in-sync replicas are each the largest of all inputs."""
    settings = Settings(topics=("a", "^b"))
    there = Cluster("real", {"a": 3, "b1": 9, "x": 99}, {"a": 2, "b1": 3, "x": 5})
    configs = {
        "a": {"max.message.bytes": "9000000", "min.insync.replicas": "1"},
        "b1": {"max.message.bytes": "1000", "min.insync.replicas": "2"},
    }
    assert needs(settings, there, configs) == Needs(9, 3, 9_000_000, 2)


def test_one_replica_of_an_input_asks_for_nothing() -> None:
    """The broker's default is at least as good."""
    assert needs(SETTINGS, cluster({"orders": 4}), {}).replicas == -1


def test_what_cannot_be_seen_is_kafkas_default() -> None:
    """Without the right to see settings the size is what a topic has that sets none."""
    found = needs(SETTINGS, cluster({"orders": 4}), {"orders": {}})
    assert found == Needs(4, -1, KAFKA_DEFAULT_BYTES, None)


def test_missing_inputs_count_as_they_will_be_made() -> None:
    """`--partitions` is for them; it says nothing when all inputs exist."""
    assert needs(SETTINGS, cluster({}), {}, 8).partitions == 8
    assert needs(SETTINGS, cluster({}), {}).partitions == -1
    assert needs(SETTINGS, cluster({"orders": 4}), {}, 8).partitions == 4


# --- which are input, and which tiers are read ---------------------------------------------------


def test_no_pattern_takes_an_own_topic_for_input() -> None:
    """Neither one that is set nor a tier of earlier settings, nor Kafka's own."""
    settings = Settings(topics=("^.*",))
    names = ["orders", "thorn.dead", "thorn.retry.9s", "thorn.retry.0.5s", "__consumer_offsets"]
    assert inputs(settings, cluster(dict.fromkeys(names, 1))) == ["orders"]


def test_exclusions_cover_every_tier_and_no_more() -> None:
    """One expression for tiers of any wait; dots in the group's name are dots."""
    excluded = Topics(never_input(Settings(group="a.b")))
    for name in ("a.b.retry.5s", "a.b.retry.99s", "a.b.retry.0.25s", "a.b.dead", "a.b.parked"):
        assert name in excluded
    for name in ("a.b.retry.events", "axb.retry.5s", "a.b.retry.5s.x", "x.a.b.retry.5s", "orders"):
        assert name not in excluded
    assert not any("," in name for name in never_input(SETTINGS))  # librdkafka's separator


def test_tiers_of_earlier_settings_are_read_as_well() -> None:
    """Those that exist, with the wait that their name tells; another group's are not ours."""
    there = ["thorn.retry.9s", "thorn.retry.5s", "thorn.retry.0.5s", "other.retry.9s", "orders"]
    assert tiers_read(SETTINGS, there) == {
        "thorn.retry.5s": 5,
        "thorn.retry.60s": 60,
        "thorn.retry.9s": 9,
        "thorn.retry.0.5s": 0.5,
    }


# --- what differs --------------------------------------------------------------------------------


def test_nothing_differs_where_all_is_as_needed() -> None:
    """More than is needed does no harm either."""
    configs = as_needed()
    configs["thorn.dead"] |= {"retention.ms": "-1", "max.message.bytes": "99999999"}
    found = plan(SETTINGS, cluster(ALL_THERE | {"thorn.dead": 20}), configs)
    assert [one.topic for one in found] == list(ALL_THERE)
    assert all(one.exists for one in found)
    assert [line for one in found for line in one.lines] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retention.ms", "3600000"),
        ("retention.bytes", "1000000"),
        ("cleanup.policy", "compact,delete"),
        ("message.timestamp.type", "CreateTime"),
        ("max.message.bytes", "1048588"),
    ],
)
def test_each_setting_that_differs_is_said_with_its_remedy(name: str, value: str) -> None:
    """What it is, what is needed, and the command that mends it."""
    configs = as_needed()
    needed = configs["thorn.retry.5s"][name]
    configs["thorn.retry.5s"][name] = value
    found = plan(SETTINGS, cluster(ALL_THERE), configs)
    (line,) = [line for one in found for line in one.lines]
    assert line.startswith(f"thorn.retry.5s: {name} is {value}, needed is {needed}: ")
    assert f"--entity-name thorn.retry.5s --add-config {name}={needed}" in line


def test_in_sync_replicas_are_those_of_the_input() -> None:
    """Fewer than the input's would be a weaker promise for what failed once."""
    configs = as_needed() | {"orders": {"min.insync.replicas": "2"}}
    configs["thorn.dead"]["min.insync.replicas"] = "1"
    found = plan(SETTINGS, cluster(ALL_THERE, replicas=3), configs)
    (difference,) = of(found, "thorn.dead").differs
    assert difference[:3] == ("min.insync.replicas", "1", "2")


def test_too_few_partitions_and_replicas_are_said() -> None:
    """Compared with the widest input."""
    there = Cluster(
        "real", ALL_THERE | {"thorn.dead": 2}, dict.fromkeys(ALL_THERE, 3) | {"thorn.dead": 1}
    )
    found = plan(SETTINGS, there, as_needed())
    assert [d[:3] for d in of(found, "thorn.dead").differs] == [
        ("partitions", "2", "6"),
        ("replicas", "1", "3"),
    ]
    assert "--partitions 6" in of(found, "thorn.dead").lines[0]


def test_names_that_kafka_confuses_are_said() -> None:
    """Of a topic that is to be made and of one that exists."""
    found = plan(SETTINGS, cluster({"orders": 1, "thorn_dead": 1, "thorn.retry_5s": 1}), {})
    told = {one.topic: one.lines for one in found if one.lines}
    assert set(told) == {"thorn.dead", "thorn.retry.5s"}
    assert "thorn_dead" in told["thorn.dead"][0]


def test_a_tier_that_is_left_is_in_the_plan() -> None:
    """As retired, with nothing needed of it."""
    found = plan(SETTINGS, cluster(ALL_THERE | {"thorn.retry.9s": 3}), as_needed())
    assert of(found, "thorn.retry.9s").use == "retired"
    assert of(found, "thorn.retry.9s").as_json() == {
        "topic": "thorn.retry.9s",
        "use": "retired",
        "exists": True,
        "partitions": 3,
        "config": {},
        "differs": [],
    }


def test_missing_topics_say_what_they_will_be() -> None:
    """Partitions as they will be made; null: the broker's default; 4 on the embedded broker."""
    found = plan(SETTINGS, cluster({"orders": 20}), {})
    assert (of(found, "thorn.dead").exists, of(found, "thorn.dead").partitions) == (False, 12)
    assert of(plan(SETTINGS, cluster({}), {}), "orders").partitions is None
    assert of(plan(SETTINGS, cluster({}), {}, 8), "orders").partitions == 8
    embedded = plan(SETTINGS, cluster({}, name="mockCluster1"), {}, 8)
    assert {one.partitions for one in embedded} == {4}


def test_what_could_not_be_seen_is_not_called_right() -> None:
    """A topic that exists and whose settings are hidden is marked."""
    found = plan(SETTINGS, cluster(ALL_THERE), as_needed() | {"thorn.dead": {}})
    assert not of(found, "thorn.dead").seen
    assert of(found, "thorn.retry.5s").seen


# --- what a producer may send --------------------------------------------------------------------


def test_batches_stay_below_the_narrowest_topic() -> None:
    """Of those that exist as they are, of those to be made as they will be."""
    specs = own_topics(SETTINGS, Needs())
    assert writing({}, specs, {}) == (900_000, KAFKA_DEFAULT_BYTES + 65_536)
    configs = {"thorn.dead": {"max.message.bytes": "100000"}}
    assert writing({}, specs, configs) == (90_000, KAFKA_DEFAULT_BYTES + 65_536)


def test_a_users_tuning_is_heeded_where_it_can_be() -> None:
    """A smaller batch and a larger record than ours; never a batch that Kafka would refuse."""
    specs = {"t": TopicSpec(config={"max.message.bytes": "1000000"})}
    assert writing({"batch.size": "5000", "message.max.bytes": "2000000"}, specs, {}) == (
        5000,
        2_000_000,
    )
    assert writing({"batch.size": "99000000", "message.max.bytes": "9"}, specs, {}) == (
        900_000,
        1_000_000,
    )


def test_tiers_that_are_left_come_in_the_order_of_their_waits() -> None:
    """As the tiers that are set do."""
    there = ALL_THERE | dict.fromkeys(
        ["thorn.retry.1800s", "thorn.retry.9s", "thorn.retry.300s"], 1
    )
    left = [one.topic for one in plan(SETTINGS, cluster(there), {}) if one.use == "retired"]
    assert left == ["thorn.retry.9s", "thorn.retry.300s", "thorn.retry.1800s"]
