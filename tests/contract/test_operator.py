"""The operator's commands against both brokers: what they print, how they end."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.brokers import Broker
from tests.support.environment import clear_settings
from thorn_stream.adapters.kafka import describe, topic_configs
from thorn_stream.cli.program import execute

NEEDED = ("retry.1s", "retry.2s", "parked", "cursors", "dead")
OWN = (*NEEDED, "results")  # which nobody misses while `results` is off
DELIVERY = "db3e3e77-4ec0-5c60-8317-73f557a7fea{}"


class Operator:
    """Types commands with settings of its own; `out`, `err` are of the last one."""

    def __init__(self, folder: Path, broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys
        self.broker = broker
        self.settings: dict[str, Any] = {
            "kafka": broker.client,
            "group": broker.prefix,
            "topics": [broker.name("in")],
            "retry_tiers": [1, 2],
            "retry_delay": 1,
            "subscriber_files": [],
        }

    def __call__(self, *words: str) -> int:
        file = self._folder / "thorn.yaml"
        file.write_text(yaml.safe_dump(self.settings))
        status = execute([*words, "--config", str(file)])
        self.out, err = self._capsys.readouterr()
        told = err.splitlines(keepends=True)  # of a busy machine, patience is told as well
        self.err = "".join(line for line in told if "has not answered yet" not in line)
        return status

    def json(self, *words: str) -> Any:
        assert self(*words, "--json") == 0, self.err
        return json.loads(self.out)

    def fails(self, *words: str) -> list[str]:
        """The lines of an error: status 1, nothing printed, no traceback."""
        assert self(*words) == 1
        assert self.out == ""
        lines = self.err.splitlines()
        assert lines
        assert all(line.startswith("thorn-stream: ") for line in lines)
        return lines

    def letter(
        self, number: int, age: float = 0.0, value: bytes | None = None, **more: Any
    ) -> None:
        """Put a dead letter there; `age` in seconds."""
        reason, subscriber = more.get("reason", "gone"), more.get("subscriber", "one")
        headers = [
            ("thorn-delivery", DELIVERY.format(number).encode()),
            ("thorn-subscriber", subscriber.encode()),
            ("thorn-attempt", b"1"),
            ("thorn-first", b"1"),
            ("thorn-error", b"status:410"),
            ("thorn-origin", b"in:0:%d" % number),
            ("thorn-reason", reason.encode()),
        ]
        event = more.get("event", "order.paid")
        self.broker.produce(
            self.broker.name("dead"),
            [b'{"event": "%s"}' % event.encode() if value is None else value],
            partition=number % 4,
            timestamp=int((time.time() - age) * 1000),
            headers=headers,
        )


@pytest.fixture
def operator(
    broker: Broker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Operator:
    _alone(monkeypatch, tmp_path)
    return Operator(tmp_path, broker, capsys)


@pytest.fixture
def on_kafka(
    apache_broker: Broker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Operator:
    _alone(monkeypatch, tmp_path)
    return Operator(tmp_path, apache_broker, capsys)


def _alone(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No settings but those of the test: an empty directory, no THORN_ variables."""
    monkeypatch.chdir(folder)
    clear_settings(monkeypatch)


# --- topics --------------------------------------------------------------------------------------


def test_what_is_planned_is_created_once(operator: Operator) -> None:
    """The input and the group's own, in the plan first, then there; a second time nothing."""
    broker = operator.broker
    names = [broker.name(name) for name in ("in", *OWN)]
    planned = operator.json("topics", "plan", "--partitions", "3")
    assert [one["topic"] for one in planned] == names
    assert not any(one["exists"] for one in planned)
    assert {one["partitions"] for one in planned} == {4 if broker.embedded else 3}
    assert operator.json("topics", "create", "--partitions", "3")["created"] == names
    there = describe(broker.client, 20).topics
    assert {there[name] for name in names} == {4 if broker.embedded else 3}
    assert operator.json("topics", "create", "--partitions", "3")["created"] == []
    planned = operator.json("topics", "plan")
    assert all(one["exists"] for one in planned)
    assert [one["differs"] for one in planned] == [[]] * (1 + len(OWN))


def test_the_plan_for_people(operator: Operator) -> None:
    """A table, and what to do about it; what the embedded broker cannot do is said."""
    assert operator("topics", "plan") == 0
    rows = [line.split()[:3] for line in operator.out.splitlines()]
    assert [operator.broker.name("dead"), "dead", "no"] in rows
    assert f"{1 + len(OWN)} missing" in operator.out
    assert operator("topics", "create") == 0
    assert operator.out.count("created ") == 1 + len(OWN)
    assert operator("topics", "plan") == 0
    assert "nothing is to be done" in operator.out
    assert ("the embedded broker makes every topic" in operator.out) is operator.broker.embedded


@pytest.mark.kafka
def test_created_topics_are_kept_as_needed(on_kafka: Operator) -> None:
    """On Apache Kafka with the settings of the plan; an input with the broker's default."""
    broker = on_kafka.broker
    planned = {one["topic"]: one for one in on_kafka.json("topics", "plan")}
    assert on_kafka("topics", "create") == 0
    told = topic_configs(broker.client, [broker.name(name) for name in OWN], 20)
    for topic, config in told.items():
        assert config.items() >= planned[topic]["config"].items()
    assert describe(broker.client, 20).topics[broker.name("in")] == 4


@pytest.mark.kafka
def test_a_difference_is_said_and_stays(on_kafka: Operator) -> None:
    """`plan` and `create` name it with its remedy; what exists is left as it is."""
    broker = on_kafka.broker
    broker.topic("in")
    dead = broker.topic("dead", 4, {"retention.ms": "60000", "max.message.bytes": "2000000"})
    for command in ("plan", "create"):
        assert on_kafka("topics", command) == 0
        (line,) = [line for line in on_kafka.out.splitlines() if line.startswith("differs: ")]
        assert f"{dead}: retention.ms is 60000, needed is 2592000000" in line
    assert topic_configs(broker.client, [dead], 20)[dead]["retention.ms"] == "60000"


@pytest.mark.kafka
def test_a_name_that_kafka_confuses_is_said(on_kafka: Operator) -> None:
    """Before it is refused in the plan, then by Kafka with its own words."""
    on_kafka.broker.topic("in")
    other = on_kafka.broker.topic("dead").replace(".dead", "_dead")
    on_kafka.settings |= {"dead_topic": other}
    assert on_kafka("topics", "plan") == 0
    assert f"differs: {other}: its name is like that of" in on_kafka.out
    (line,) = on_kafka.fails("topics", "create")
    assert f"topics not created: {other}" in line


@pytest.mark.kafka
def test_a_refused_creation_is_one_line(on_kafka: Operator) -> None:
    """Status 1, the topic and the rule that is missing."""
    on_kafka.settings |= {"kafka": on_kafka.broker.login}
    (line,) = on_kafka.fails("topics", "create")
    assert on_kafka.broker.name("in") in line
    assert "topics plan --acl" in line


@pytest.mark.kafka
def test_hidden_settings_are_said(on_kafka: Operator) -> None:
    """Who may see a topic and not its settings is told that they were not compared."""
    on_kafka.broker.allow("DESCRIBE", topic=on_kafka.broker.topic("dead"))
    on_kafka.settings |= {"kafka": on_kafka.broker.login}
    assert on_kafka("topics", "plan") == 0
    assert f"settings cannot be seen of {on_kafka.broker.name('dead')}" in on_kafka.out


@pytest.mark.kafka
def test_a_topic_that_may_not_be_seen_is_unknown(on_kafka: Operator) -> None:
    """Neither there nor missing: null, `unknown`, and the rule that would show it."""
    broker = on_kafka.broker
    hidden, seen = broker.topic("in"), broker.name("dead")
    broker.allow("DESCRIBE", topic=seen)
    on_kafka.settings |= {"kafka": broker.login}
    planned = {one["topic"]: one for one in on_kafka.json("topics", "plan")}
    assert planned[hidden]["exists"] is None
    assert planned[hidden]["partitions"] is None
    assert planned[seen]["exists"] is False
    assert on_kafka("topics", "plan") == 0
    rows = [line.split()[:3] for line in on_kafka.out.splitlines()]
    assert [hidden, "input", "unknown"] in rows
    assert [seen, "dead", "no"] in rows
    (line,) = [each for each in on_kafka.out.splitlines() if each.startswith("not to be seen")]
    assert hidden in line
    assert seen not in line
    assert "allow DESCRIBE" in line


def test_rules_need_no_broker(operator: Operator) -> None:
    """`--acl` prints them where nobody listens yet."""
    operator.settings |= {"kafka": {"bootstrap_servers": "127.0.0.1:1"}}
    assert operator("topics", "plan", "--acl") == 0
    assert "kafka-acls.sh" in operator.out
    assert f"--group {operator.broker.prefix}.retry" in operator.out
    rules = operator.json("topics", "plan", "--acl")
    assert {rule["who"] for rule in rules} == {"dispatcher", "producer"}


# --- config check --connect ----------------------------------------------------------------------


def test_a_connection_that_works_is_ok(operator: Operator) -> None:
    """One more line, status 0, and nothing was made by asking."""
    operator.broker.topic("in")
    assert operator("config", "check", "--connect") == 0
    first, second = operator.out.splitlines()
    assert first.startswith("ok: ")
    assert second.startswith("ok: the embedded" if operator.broker.embedded else "ok: Kafka at")
    there = describe(operator.broker.client, 20).topics
    assert [name for name in there if name.startswith(operator.broker.prefix)] == [
        operator.broker.name("in")
    ]


@pytest.mark.kafka
def test_the_printed_rules_are_enough(on_kafka: Operator) -> None:
    """With the rules of `--acl` and no others, everything is permitted, `run`'s topics as well."""
    broker = on_kafka.broker
    broker.topic("in")
    for rule in on_kafka.json("topics", "plan", "--acl"):
        if rule["who"] == "dispatcher":
            operations = [_constant(name) for name in rule["operations"]]
            broker.allow(
                *operations,
                **{rule["resource"]: rule["name"]},
                prefixed=rule["pattern"] == "prefixed",
            )
    on_kafka.settings |= {"kafka": broker.login}
    assert on_kafka("config", "check", "--connect") == 0, on_kafka.err
    assert on_kafka("topics", "create") == 0, on_kafka.err
    assert on_kafka("config", "check", "--connect") == 0, on_kafka.err
    assert on_kafka("dead", "list") == 0, on_kafka.err


def _constant(name: str) -> str:
    return "DESCRIBE_CONFIGS" if name == "DescribeConfigs" else name.upper()


@pytest.mark.kafka
def test_everything_that_is_refused_is_named_at_once(on_kafka: Operator) -> None:
    """Topics that may not be read or written, and groups, a line each, each with its remedy."""
    broker = on_kafka.broker
    broker.topic("in")
    broker.allow("DESCRIBE", topic=broker.name("in"))
    on_kafka.settings |= {"kafka": broker.login}
    lines = on_kafka.fails("config", "check", "--connect")
    assert all("topics plan --acl" in line for line in lines)
    assert f"no permission to READ the topic {broker.name('in')}" in lines[0]
    for name in NEEDED:
        assert any(f"{broker.name(name)} may not be seen" in line for line in lines)
    for group in (broker.prefix, broker.name("retry"), broker.name("parked")):
        assert any(f"READ the consumer group {group}:" in line for line in lines)
    assert len(lines) == 1 + len(NEEDED) + 3


@pytest.mark.kafka
def test_missing_topics_are_named(on_kafka: Operator) -> None:
    """The input always; its own only when nobody will make them; a pattern without any match."""
    broker = on_kafka.broker
    (line,) = on_kafka.fails("config", "check", "--connect")
    assert f"the topic {broker.name('in')} does not exist" in line
    on_kafka.settings |= {"topics": [f"^{broker.prefix}\\.in.*"], "create_topics": False}
    lines = on_kafka.fails("config", "check", "--connect")
    assert "matches ^" in lines[0]
    assert len(lines) == 1 + len(NEEDED)
    on_kafka.settings |= {"results": {"enabled": True}}
    assert len(on_kafka.fails("config", "check", "--connect")) == 1 + len(OWN)
    assert all("topics create" in line for line in lines[1:])


@pytest.mark.kafka
def test_own_topics_that_cannot_be_made_are_named(on_kafka: Operator) -> None:
    """The right to make them is asked for, without making any."""
    broker = on_kafka.broker
    broker.allow("READ", topic=broker.topic("in"))
    for name in OWN:
        broker.allow("READ", "WRITE", topic=broker.name(name))
    for group in (broker.prefix, broker.name("retry"), broker.name("parked")):
        broker.allow("READ", group=group)
    on_kafka.settings |= {"kafka": broker.login}
    (line,) = on_kafka.fails("config", "check", "--connect")
    assert "own topics cannot be made" in line
    assert broker.name("dead") in line


@pytest.mark.kafka
def test_a_login_that_is_refused_is_named(on_kafka: Operator) -> None:
    """Wrong password, wrong protocol: the setting to look at, and no secret."""
    login = on_kafka.broker.login
    for change, told in (
        ({"sasl_password": "hunter2"}, "sasl.password"),
        ({"security_protocol": "SASL_SSL"}, "security.protocol"),
    ):
        on_kafka.settings |= {"kafka": login | change}
        (line,) = on_kafka.fails("config", "check", "--connect")
        assert told in line
        assert "hunter2" not in line


@pytest.mark.kafka
def test_emit_names_a_login_that_is_refused(on_kafka: Operator) -> None:
    """To a producer it is only time that passes; its user is told why."""
    on_kafka.settings |= {"kafka": on_kafka.broker.login | {"sasl_password": "hunter2"}}
    (line,) = on_kafka.fails("emit", "article.created")
    assert "sasl.password" in line
    assert "hunter2" not in line


# --- dead letters --------------------------------------------------------------------------------


def test_dead_letters_are_listed_the_newest_last(operator: Operator) -> None:
    """Over all partitions; at most so many, and then it is said that there are more."""
    operator.broker.topic("dead")
    for number, age in ((1, 10), (2, 30), (3, 20), (4, 0)):
        operator.letter(number, age)
    rows = operator.json("dead", "list")
    assert [row["delivery"] for row in rows] == [DELIVERY.format(n) for n in (2, 3, 1, 4)]
    assert rows[-1] == {
        "reason": "gone",
        "event": "order.paid",
        "subscriber": "one",
        "delivery": DELIVERY.format(4),
        "attempts": 1,
        "error": "status:410",
        "first": 1,
        "dead_at": rows[-1]["dead_at"],
        "topic": operator.broker.name("dead"),
        "partition": 0,
        "offset": 0,
    }
    assert operator.err == ""
    rows = operator.json("dead", "list", "--limit", "2")
    assert [row["delivery"] for row in rows] == [DELIVERY.format(n) for n in (1, 4)]
    assert operator.err == "thorn-stream: the newest 2 of 4: --limit shows more\n"


def test_dead_letters_are_filtered(operator: Operator) -> None:
    """By reason, event, subscriber and time, each and together."""
    operator.broker.topic("dead")
    operator.letter(1, 7200, reason="exhausted")
    operator.letter(2, 600, subscriber="two")
    operator.letter(3, 60, event="user.left")
    operator.letter(4, 0, value=b"\xff", reason="undecodable")

    def found(*options: str) -> list[str]:
        return [row["delivery"][-1] for row in operator.json("dead", "list", *options)]

    assert found() == ["1", "2", "3", "4"]
    assert found("--reason", "exhausted") == ["1"]
    assert found("--subscriber", "two") == ["2"]
    assert found("--event", "user.*") == ["3"]
    assert found("--since", "1h") == ["2", "3", "4"]
    assert found("--since", "30m", "--subscriber", "one", "--event", "*") == ["3"]
    assert operator("dead", "list", "--subscriber", "three") == 0
    assert operator.out == "no dead letters\n"


def test_a_dead_letter_is_shown_by_place_and_by_delivery(operator: Operator) -> None:
    """What the list's first word names; of a delivery that died twice, the newest."""
    dead = operator.broker.topic("dead")
    operator.letter(1, 60, event="order.first")
    operator.letter(1, 0, event="order.second")
    shown = operator.json("dead", "show", f"{dead}-1-0")
    assert shown["value"] == {"event": "order.first"}
    assert ["thorn-reason", "gone"] in shown["headers"]
    shown = operator.json("dead", "show", DELIVERY.format(1))
    assert (shown["event"], shown["offset"]) == ("order.second", 1)
    assert operator("dead", "show", f"{dead}-1-1") == 0
    assert '    "event": "order.second"' in operator.out.splitlines()
    assert operator("dead", "list") == 0
    assert operator.out.splitlines()[-1].split()[0] == f"{dead}-1-1"


def test_a_dead_letter_that_is_not_there(operator: Operator) -> None:
    """Status 1 for one that is gone, 2 for what is no name of one; both say what to do."""
    dead = operator.broker.topic("dead")
    for name in (f"{dead}-0-0", f"{dead}-9-0", DELIVERY.format(1)):
        (line,) = operator.fails("dead", "show", name)
        assert name in line
    for name in ("letter", f"{operator.broker.name('in')}-0-0"):
        assert operator("dead", "show", name) == 2
        assert operator.err.count("\n") == 1
    operator.settings["group"] = "other"
    (line,) = operator.fails("dead", "list")
    assert "other.dead" in line
    assert "`group`" in line
