"""The rules that `topics plan --acl` prints."""

import pytest

from thorn_stream.config.settings import Settings
from thorn_stream.ops.acl import Rule, as_json, rules, script

OWN = ("Read", "Write", "Create", "Describe", "DescribeConfigs")


def test_rules_of_a_group() -> None:
    """Dispatchers read inputs, own their topics and groups; producers write inputs alone."""
    settings = Settings(group="g", topics=("orders", "users"))
    assert rules(settings) == [
        Rule("dispatcher", "topic", "orders", ("Read", "DescribeConfigs")),
        Rule("dispatcher", "topic", "users", ("Read", "DescribeConfigs")),
        Rule("dispatcher", "topic", "g.retry.", OWN, prefixed=True),
        Rule("dispatcher", "topic", "g.parked", OWN),
        Rule("dispatcher", "topic", "g.cursors", OWN),
        Rule("dispatcher", "topic", "g.dead", OWN),
        Rule("dispatcher", "topic", "g.results", OWN),
        Rule("dispatcher", "group", "g", ("Read", "Describe")),
        Rule("dispatcher", "group", "g.retry", ("Read", "Describe")),
        Rule("dispatcher", "group", "g.parked", ("Read", "Describe")),
        Rule("dispatcher", "group", "g.o.", ("Read", "Describe", "Delete"), prefixed=True),
        Rule("producer", "topic", "orders", ("Write", "Describe")),
        Rule("producer", "topic", "users", ("Write", "Describe")),
        Rule("producer", "topic", "g.results", ("Read", "Describe")),
    ]


@pytest.mark.parametrize(
    ("pattern", "fixed"),
    [
        (r"^shop\..*", "shop."),
        ("^shop[.]orders$", "shop.orders"),
        ("^orders?", "order"),
        ("^a-b_c+", "a-b_"),
        ("^.*", None),
        ("^orders|^users", None),
    ],
)
def test_the_fixed_part_of_a_pattern_is_a_prefix(pattern: str, fixed: str | None) -> None:
    """What every match begins with; without any there is no rule, and the script says so."""
    settings = Settings(topics=(pattern,))
    found = [rule for rule in rules(settings) if rule.operations == ("Read", "DescribeConfigs")]
    assert [(rule.name, rule.prefixed) for rule in found] == ([(fixed, True)] if fixed else [])
    assert (f"# {pattern}: add a rule" in script(settings)) is (fixed is None)


def test_the_script_says_who_must_not_write() -> None:
    """Commands to copy, a principal to fill in, and the warning with the topics it is about."""
    lines = script(Settings(kafka={"bootstrap.servers": "k:9092"})).splitlines()
    assert lines[0] == "SERVERS=k:9092"
    assert (
        'kafka-acls.sh --bootstrap-server "$SERVERS" --add --allow-principal "$DISPATCHER" '
        "--operation Read --operation DescribeConfigs --topic thorn.events"
    ) in lines
    assert any(line.endswith("--resource-pattern-type prefixed") for line in lines)
    own = "thorn.retry.*, thorn.parked, thorn.cursors, thorn.dead, thorn.results"
    assert any(f"{own} controls the dispatchers" in line for line in lines)
    writers, readers = [line for line in lines if "$PRODUCER" in line]
    assert writers.endswith("--operation Write --operation Describe --topic thorn.events")
    assert readers.endswith("--operation Read --operation Describe --topic thorn.results")


def test_rules_as_data() -> None:
    """The same for programs."""
    assert as_json(rules(Settings()))[1] == {
        "who": "dispatcher",
        "resource": "topic",
        "name": "thorn.retry.",
        "pattern": "prefixed",
        "operations": list(OWN),
    }
