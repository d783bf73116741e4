"""The small commands: what they print, how they end, what they say when it goes wrong."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.support.brokers import Broker
from tests.support.environment import clear_settings
from tests.support.receivers import wait_until
from thorn_stream.cli.program import execute, program
from thorn_stream.core.errors import EventNotSent, LocalError
from thorn_stream.core.signing import Signer
from thorn_stream.ops.listen import DEVELOPMENT_SECRET, Call, Receiver, describe, signature
from thorn_stream.ops.publish import Event, publish
from thorn_stream.version import __version__

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "thorn_stream"]

SUBSCRIBERS = """
subscribers:
  - {id: all, event: "*", url: "https://all.example.com/hook?token=hunter2"}
  - {id: other, event: order.*, url: "https://other.example.com/"}
  - {id: mine, event: article.*, user: 42, url: "https://mine.example.com/"}
  - {id: some, event: article.*, filter: {data__n__gt: 5}, url: "https://some.example.com/"}
  - {id: off, event: article.*, state: disabled, url: "https://off.example.com/"}
  - {id: later, event: article.*, state: paused, url: "https://later.example.com/"}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without THORN_ variables."""
    monkeypatch.chdir(tmp_path)
    clear_settings(monkeypatch)
    (tmp_path / "config/subscribers").mkdir(parents=True)
    return tmp_path


class Said:
    """Runs a command in this process; keeps its exit status and both outputs."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> int:
        self.status = execute(list(arguments))
        self.out, self.err = self._capsys.readouterr()
        return self.status

    def fails(self, *arguments: str) -> tuple[int, str]:
        """Exit status and the one line of the error."""
        self(*arguments)
        assert self.out == ""
        assert self.err.startswith("thorn-stream: ")
        assert self.err.count("\n") == 1, self.err
        return self.status, self.err.removeprefix("thorn-stream: ").rstrip("\n")


@pytest.fixture
def said(here: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    assert here.is_dir()
    return Said(capsys)


# --- help and ends -------------------------------------------------------------------------------


def _commands(typed: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for info in typed.registered_commands:
        yield (*path, info.name or info.callback.__name__)
    for group in typed.registered_groups:
        yield from _commands(group.typer_instance, (*path, group.name))


@pytest.mark.parametrize("command", [(), *_commands(program)], ids=" ".join)
def test_every_help_has_an_example(said: Said, command: tuple[str, ...]) -> None:
    """A reader of --help sees a line to copy."""
    assert said(*command, "--help") == 0
    assert f"Example: thorn-stream {' '.join(command)}".rstrip() in " ".join(said.out.split())


def test_the_commands_are_there() -> None:
    """Those of this module; others may stand beside them."""
    assert {
        ("config", "check"),
        ("config", "show"),
        ("config", "schema"),
        ("match",),
        ("emit",),
        ("listen",),
        ("broker",),
    } <= set(_commands(program))


def test_version(said: Said) -> None:
    """--version prints it and ends well."""
    assert said("--version") == 0
    assert said.out == f"thorn-stream {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Missing command: see `thorn-stream --help`"),
        (["nope"], "No such command 'nope': see `thorn-stream --help`"),
        (["config"], "Missing command: see `thorn-stream config --help`"),
        (["match"], "Missing argument 'NAME': see `thorn-stream match --help`"),
        (["emit"], "name an event, as in `thorn-stream emit article.created`, or a --file"),
        (
            ["listen", "--port", "x"],
            (
                "Invalid value for '--port': 'x' is not a valid int: see "
                "`thorn-stream listen --help`"
            ),
        ),
        (
            ["emit", "a..b"],
            (
                "'a..b' cannot be sent: the event name has an empty part, white space or control "
                "characters"
            ),
        ),
        (
            ["emit", "a.b", "--data", "{id: 1}"],
            (
                "--data is not JSON (Expecting property name enclosed in double quotes: line 1 "
                "column 2 (char 1)): quote it for the shell, as in --data '{\"id\": 1}'"
            ),
        ),
        (
            ["match", "a.b", "--data", "NaN"],
            (
                "--data is not JSON (NaN is no JSON): quote it for the shell, as in --data "
                "'{\"id\": 1}'"
            ),
        ),
        (
            ["emit", "a.b", "--header", "x"],
            "--header x: write NAME=VALUE, as in --header thorn-retry=false",
        ),
        (
            ["emit", "a.b", "--file", "f"],
            "give either NAME, --data, --ref and --sender, or --file",
        ),
        (
            ["emit", "a.b", "--topic", "thorn.dead"],
            "--topic thorn.dead: only thorn_stream itself writes there",
        ),
        (
            ["config", "check", "--config", "nope.yaml"],
            "nope.yaml: there is no such file: make it, or name another",
        ),
        (["listen", "--secret", "whsec_?"], "the part of the secret after whsec_ is not base64"),
        (
            ["listen", "--secret", "env:NOPE"],
            "the environment variable NOPE is not set: set it, or change env:NOPE",
        ),
    ],
)
def test_wrong_use_is_one_line_and_two(said: Said, arguments: list[str], told: str) -> None:
    """Exit status 2, and one line that says what to do."""
    status, line = said.fails(*arguments)
    if "--port" in arguments:  # the words are typer's own and change with its version
        told, line = told.split(":", maxsplit=1)[0], line.split(":")[0]
    assert (status, line) == (2, told)


def test_a_closed_pipe_is_quiet(here: Path) -> None:
    """`thorn-stream … | head -1` leaves nothing on standard error."""
    ran = subprocess.run(
        f"{sys.executable} -m thorn_stream config schema | head -c 1",
        shell=True,
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ran.stdout, ran.stderr) == ("{", "")


def test_the_exit_status_leaves_the_process(here: Path) -> None:
    """As a program, too, an error is one line and its status."""
    ran = subprocess.run(
        [*COMMAND, "emit", "a.b", "--data", "{"],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "Traceback" not in ran.stderr


def test_help_imports_no_heavy_room() -> None:
    """Completion and help must not wait for Kafka's client and the rest."""
    code = (
        "import sys; from thorn_stream.cli.program import execute; execute(['--help']); "
        "print(sorted(set(sys.modules) & {'confluent_kafka', 'httpx', 'yaml', 'structlog', "
        "'prometheus_client', 'rich', 'thorn_stream.app'}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "[]"


# --- config --------------------------------------------------------------------------------------


def test_check_says_what_it_found(said: Said, here: Path) -> None:
    """One line: the file, how many subscribers."""
    assert said("config", "check") == 0
    assert said.out == "ok: no file, defaults, 0 subscribers\n"
    (here / "config/thorn.yaml").write_text("group: shop\n")
    (here / "config/subscribers/a.yaml").write_text(SUBSCRIBERS)
    assert said("config", "check") == 0
    assert said.out == "ok: config/thorn.yaml, 6 subscribers\n"


def test_check_tells_every_mistake_on_a_line_of_its_own(said: Said, here: Path) -> None:
    """Each with its place, status 2."""
    (here / "t.yaml").write_text("grup: a\nretry_max: x\n")
    assert said("config", "check", "--config", "t.yaml") == 2
    assert said.err.splitlines() == [
        "thorn-stream: t.yaml:1: grup: is no setting; did you mean group?",
        "thorn-stream: t.yaml:2: retry_max: must be a whole number, not 'x'",
    ]


@pytest.mark.parametrize("command", [("config", "check"), ("run",)], ids=" ".join)
def test_what_librdkafka_does_not_take_is_told_before_anything_is_printed(
    said: Said, here: Path, command: tuple[str, ...]
) -> None:
    """A misspelt key holds what may be a secret, under a name that nobody takes for one."""
    kafka = "kafka: {sasl.pasword: hunter2, socket.timeout.ms: soon}\n"
    (here / "t.yaml").write_text(f"http: {{port: 0}}\n{kafka}")
    assert said(*command, "--config", "t.yaml") == 2
    assert said.out == ""
    assert said.err.splitlines() == [
        'thorn-stream: kafka: No such configuration property: "sasl.pasword"',
        'thorn-stream: kafka: Invalid value for configuration property "socket.timeout.ms"',
    ]


def test_check_refuses_what_run_would_refuse(said: Said, here: Path) -> None:
    """What it takes all subscribers together to see, too."""
    (here / "config/subscribers/a.yaml").write_text(
        "subscribers: [{id: a, event: b, url: 'https://a.example.com/', ordering: key}]\n"
    )
    (here / "config/thorn.yaml").write_text("ordered_max: 0\n")
    status, line = said.fails("config", "check")
    assert status == 2
    assert line.startswith("ordered_max: 1 subscribers have `ordering: key`, 0 may (a): ")


def test_subscribers_are_listed_without_their_secrets(said: Said, here: Path) -> None:
    """With where each stands; as a table, and whole as JSON."""
    assert said("subscribers", "list") == 0
    assert said.out.startswith("there are no subscribers")
    (here / "config/subscribers/a.yaml").write_text(
        "subscribers: [{id: a, event: b, url: 'https://a.example.com/x?key=pw2', "
        "hmac_secret: pw3, headers: {Authorization: pw4, X-Team: red}}]\n"
    )
    assert said("subscribers", "list") == 0
    row = "a enabled none b https://a.example.com/x"
    assert said.out.splitlines()[1].split() == row.split()
    assert said("subscribers", "list", "--json") == 0
    assert "pw" not in said.out
    [one] = json.loads(said.out)
    assert (one["id"], one["source"]) == ("a", "file:config/subscribers/a.yaml")
    assert (one["hmac_secret"], one["url"]) == ("set", "https://a.example.com/x")
    assert one["headers"] == {"Authorization": "set", "X-Team": "red"}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://a.example.com/", None),
        ("http://127.0.0.1/", "block_internal_ips: "),
        ("http://a.example.com:8000/", "ensure_port: port 8000 "),
        ("a.example.com/hook?token=hunter2", "url: write it in full"),
        ("https://a.example.com:99999/", "url: the port "),
    ],
)
@pytest.mark.parametrize("command", [("config", "check"), ("match", "b")])
def test_a_url_that_is_never_called_is_refused_where_it_enters(
    said: Said, here: Path, command: tuple[str, ...], url: str, told: str | None
) -> None:
    """Every delivery there would be dead: the file, the line and the rule are named instead."""
    (here / "config/subscribers/a.yaml").write_text(
        f"subscribers:\n- {{id: a, event: b, url: '{url}'}}\n"
    )
    if told is None:
        assert said(*command) == 0
        assert said.err == ""
        return
    status, line = said.fails(*command)
    assert status == 2
    refused = "config/subscribers/a.yaml:2: subscribers[0].url: is refused by "
    assert line.startswith(refused + told)
    assert "hunter2" not in line
    assert ("allowed_networks" in line) == ("block_internal_ips" in told)


def test_a_url_in_the_settings_is_refused_as_in_a_file(said: Said, here: Path) -> None:
    """All of them at once, each with its id."""
    one = "{id: %s, event: b, url: 'http://10.20.0.%d/'}"
    (here / "t.yaml").write_text(f"subscribers: [{one % ('a', 1)}, {one % ('b', 2)}]\n")
    assert said("config", "check", "--config", "t.yaml") == 2
    first, second = said.err.splitlines()
    assert "t.yaml: subscribers: a.url: is refused by block_internal_ips: 10.20.0.1 " in first
    assert "t.yaml: subscribers: b.url: is refused by block_internal_ips: 10.20.0.2 " in second


def test_an_inner_network_is_opened_on_purpose_and_nothing_beside_it(
    said: Said, here: Path
) -> None:
    """`allowed_networks: [10.20.0.0/16]` lets through its addresses, whatever their spelling."""
    urls = {
        "http://10.20.255.255/": True,
        "http://[::ffff:10.20.0.1]/": True,
        "http://10.21.0.0/": False,
        "http://10.19.255.255/": False,
        "http://10.20.0.1:8080/": False,  # ports stay checked
        "http://169.254.169.254/": False,
    }
    for url, passes in urls.items():
        (here / "t.yaml").write_text(
            f"allowed_networks: [10.20.0.0/16]\nsubscribers: [{{id: a, event: b, url: '{url}'}}]\n"
        )
        assert (said("config", "check", "--config", "t.yaml") == 0) == passes, url


@pytest.mark.parametrize("as_json", [False, True])
def test_check_lists_the_names_that_lead_inward_today(
    said: Said, here: Path, as_json: bool
) -> None:
    """With --resolve: each name once, the rule that refuses it, and who has it; status 1."""
    (here / "config/subscribers/a.yaml").write_text(
        "subscribers:\n"
        "- {id: a, event: b, url: 'http://localhost/x'}\n"
        "- {id: b, event: b, url: 'https://LOCALHOST./y'}\n"
        "- {id: c, event: b, url: 'https://8.8.8.8/'}\n"
        "- {id: d, event: b, url: 'https://nobody.invalid/'}\n"
    )
    assert said("config", "check", "--resolve", *(["--json"] if as_json else [])) == 1
    assert "nobody.invalid: " in said.err
    if as_json:
        names = json.loads(said.out)["names"]
        assert names["looked_up"] == 2
        (inward,) = names["inward"]
        assert (inward["name"], inward["validator"]) == ("localhost", "block_internal_ips")
        assert inward["subscribers"] == ["a", "b"]
        assert inward["address"] in {"127.0.0.1", "::1"}
        assert [one["name"] for one in names["unknown"]] == ["nobody.invalid"]
    else:
        assert "inward: localhost is refused by block_internal_ips: " in said.out
        assert "is loopback" in said.out
        assert "(subscribers: a, b)" in said.out


def test_check_says_when_no_name_leads_inward(said: Said, here: Path) -> None:
    """Allowed on purpose is not inward; without names there is nothing to look up."""
    (here / "t.yaml").write_text(
        "allowed_networks: [127.0.0.0/8, '::1/128']\n"
        "subscribers: [{id: a, event: b, url: 'http://localhost/'}]\n"
    )
    assert said("config", "check", "--resolve", "--config", "t.yaml") == 0
    assert said.out.endswith("ok: 1 name looked up, none leads inward\n")
    assert said("config", "check", "--resolve", "--json") == 0
    names = json.loads(said.out)["names"]
    assert names == {"looked_up": 0, "inward": [], "unknown": []}


OWN_VALIDATORS = """
def no_mondays(url):
    return False if "monday" in url else None


class Quiet:
    def __call__(self, url):
        return None


def only(host):
    return lambda url: None if host in url else False


number = 7
"""


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("['!own_rules:no_mondays']", "is refused by no_mondays: refused"),
        ("['!own_rules:Quiet']", None),
        ("['!own_rules:only', [monday]]", None),
        ("['!own_rules:only', [friday]]", "is refused by <lambda>: refused"),
        ("['!own_rules:number']", "!own_rules:number is a int; it must be a function"),
        ("['!own_rules:nothing']", "!own_rules:nothing cannot be loaded (AttributeError: "),
        ("['!no_such:thing']", "!no_such:thing cannot be loaded (ModuleNotFoundError: "),
        ("['!own_rules:only', [1, 2]]", "!own_rules:only cannot be loaded (TypeError: "),
    ],
)
def test_a_validator_of_ones_own_is_named_in_the_settings(
    said: Said, here: Path, monkeypatch: pytest.MonkeyPatch, rule: str, told: str | None
) -> None:
    """A function, a class, or with arguments what makes one; what cannot be used is named."""
    (here / "own_rules.py").write_text(OWN_VALIDATORS)
    monkeypatch.syspath_prepend(here)
    monkeypatch.delitem(sys.modules, "own_rules", raising=False)
    (here / "t.yaml").write_text(
        f"recipient_validators: [[block_internal_ips], {rule}]\n"
        "subscribers: [{id: a, event: b, url: 'https://monday.example.com/'}]\n"
    )
    if told is None:
        assert said("config", "check", "--config", "t.yaml") == 0
        return
    status, line = said.fails("config", "check", "--config", "t.yaml")
    assert status == 2
    assert told in line
    assert told.startswith("is refused") or line.startswith("recipient_validators[1]: ")


def test_check_names_both_places_of_an_id(said: Said, here: Path) -> None:
    """The same id in settings and file, or in two files."""
    one = "subscribers: [{id: a, event: b, url: 'https://a.example.com/'}]\n"
    (here / "t.yaml").write_text(one)
    (here / "config/subscribers/a.yaml").write_text(one)
    status, line = said.fails("config", "check", "--config", "t.yaml")
    assert status == 2
    assert "t.yaml: subscribers" in line
    assert "file:config/subscribers/a.yaml" in line


def test_check_warns_of_unknown_variables_but_not_of_named_ones(
    said: Said, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that a subscriber file names is none that is unknown."""
    (here / "config/subscribers/a.yaml").write_text(
        "subscribers: [{id: a, event: b, url: 'https://a.example.com/', "
        "hmac_secret: 'env:THORN_A'}]\n"
    )
    monkeypatch.setenv("THORN_A", "s")
    monkeypatch.setenv("THORN_PORT", "tcp://10.0.0.1:80")
    assert said("config", "check") == 0
    assert said.err == "thorn-stream: warning: THORN_PORT: is no setting and is ignored\n"


def test_show_prints_what_is_in_force(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults included, secrets as `set`; as YAML and as JSON."""
    monkeypatch.setenv("THORN_HMAC_SECRET", "hunter2")
    monkeypatch.setenv("THORN_RETRY_MAX", "7")
    assert said("config", "show", "--json") == 0
    shown = json.loads(said.out)
    assert (shown["retry_max"], shown["hmac_secret"], shown["window"]) == (7, "set", 100_000)
    assert said("config", "show") == 0
    assert "retry_max: 7\n" in said.out
    assert "hmac_secret: set\n" in said.out
    assert "hunter2" not in said.out


def test_schema_is_json(said: Said) -> None:
    """For editors."""
    assert said("config", "schema") == 0
    assert json.loads(said.out)["properties"]["retry_max"]["minimum"] == 0


# --- match ---------------------------------------------------------------------------------------


def test_match_says_who_and_why_not(said: Said, here: Path) -> None:
    """The documented shape, without what a URL may hide."""
    (here / "config/subscribers/a.yaml").write_text(SUBSCRIBERS)
    assert said("match", "article.created", "--json", "--sender", "7", "--data", '{"n": 1}') == 0
    found = json.loads(said.out)
    assert found["event"] == "article.created"
    assert found["matched"] == [
        {"id": "all", "url": "https://all.example.com/hook", "state": "enabled"},
        {"id": "later", "url": "https://later.example.com/", "state": "paused"},
    ]
    assert {one["id"]: one["reason"] for one in found["unmatched"]} == {
        "other": "pattern",
        "mine": "user",
        "some": "filter",
        "off": "disabled",
    }
    assert said("match", "article.created", "--json", "--sender", "42", "--data", '{"n": 9}') == 0
    matched = {one["id"] for one in json.loads(said.out)["matched"]}
    assert matched == {"all", "mine", "some", "later"}


def test_match_for_people_is_a_table(said: Said, here: Path) -> None:
    """One row each, in columns; no token of a URL among them."""
    (here / "config/subscribers/a.yaml").write_text(SUBSCRIBERS)
    assert said("match", "order.created") == 0
    rows = said.out.splitlines()
    assert rows[0].split() == ["called", "subscriber", "url", "why"]
    assert rows[1].split() == ["yes", "all", "https://all.example.com/hook", "matches"]
    assert "no pattern matches" in rows[-1]
    assert "hunter2" not in said.out
    assert "pass" not in said.out


def test_match_without_subscribers_says_where_they_go(said: Said) -> None:
    """Empty is no error."""
    assert said("match", "a.b") == 0
    assert said.out == "there are no subscribers: write them into config/subscribers/*.yaml\n"


# --- emit ----------------------------------------------------------------------------------------


def _records(broker: Broker, topic: str, count: int) -> list[Any]:
    consumer = Consumer(
        {
            "bootstrap.servers": broker.real.bootstrap_servers,
            "group.id": "none",
            "fetch.wait.max.ms": 10,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[Any] = []
    end = time.monotonic() + 20
    while len(found) < count and time.monotonic() < end:
        found += consumer.consume(count, 0.2)
    consumer.close()
    return found


def test_emit_writes_an_envelope(
    said: Said, embedded_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value, key and headers as asked for; digits make a number of the sender."""
    topic = embedded_broker.topic("events", 1)
    servers = embedded_broker.client["bootstrap_servers"]
    monkeypatch.setenv("THORN_KAFKA__BOOTSTRAP_SERVERS", servers)
    monkeypatch.setenv("THORN_TOPICS", json.dumps(["^other", topic]))
    options = ["--sender", "42", "--ref", "https://x/1", "--key", "k", "--header", "thorn-id=é=1"]
    assert said("emit", "article.created", "--data", '{"id": 1}', *options) == 0
    assert said.out == f"sent 1 event to {topic}\n"
    assert said.err == ""
    assert said("emit", "article.gone") == 0
    first, second = _records(embedded_broker, topic, 2)
    assert json.loads(first.value()) == {
        "event": "article.created",
        "ref": "https://x/1",
        "sender": 42,
        "data": {"id": 1},
    }
    assert first.key() == b"k"
    assert first.headers() == [("thorn-id", "é=1".encode())]
    assert json.loads(second.value()) == {
        "event": "article.gone",
        "ref": None,
        "sender": None,
        "data": {},
    }
    assert second.key() is None


def test_emit_file_sends_its_lines_unchanged(
    said: Said, here: Path, embedded_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line's own bytes; empty lines are passed over."""
    topic = embedded_broker.topic("events", 1)
    servers = embedded_broker.client["bootstrap_servers"]
    monkeypatch.setenv("THORN_KAFKA__BOOTSTRAP_SERVERS", servers)
    lines = [f'{{"event": "a.b",  "data": {{"n": {n}}}}}' for n in range(12_000)]
    (here / "f.jsonl").write_text("\n\n".join(lines) + "\n")
    assert said("emit", "--file", "f.jsonl", "--topic", topic) == 0
    assert said.out == f"sent 12000 events to {topic}\n"
    found = _records(embedded_broker, topic, 12_000)
    assert [one.value().decode() for one in found] == lines


def test_nothing_is_sent_from_a_file_with_a_bad_line(said: Said, here: Path) -> None:
    """The line is named before Kafka is asked for anything."""
    (here / "f.jsonl").write_text('{"event": "a.b"}\n\n{"event": "a..b"}\n')
    status, line = said.fails("emit", "--file", "f.jsonl")
    assert status == 2
    assert line.startswith("f.jsonl:3: the event name has an empty part")
    (here / "f.jsonl").write_text("{}\n")
    assert said.fails("emit", "--file", "f.jsonl")[1].startswith("f.jsonl:1: not an envelope")
    status, line = said.fails("emit", "--file", "gone.jsonl")
    assert (status, line) == (1, "gone.jsonl cannot be read: no such file or directory")


def test_emit_needs_a_topic_that_is_a_name(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns say what is read, not where to write."""
    monkeypatch.setenv("THORN_TOPICS", '["^orders"]')
    assert said.fails("emit", "a.b") == (
        2,
        "`topics` in the settings has patterns only: name a topic with --topic",
    )


def test_emit_asks_for_the_embedded_broker(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts none of its own: what it wrote would be gone with it."""
    monkeypatch.setenv("THORN_KAFKA__BOOTSTRAP_SERVERS", "embedded")
    status, line = said.fails("emit", "a.b")
    assert status == 1
    assert "start `thorn-stream broker`" in line


def test_publish_says_where_nobody_answers() -> None:
    """Not acknowledged is an error that names the address."""
    client = {"bootstrap.servers": "127.0.0.1:1"}
    with pytest.raises(
        EventNotSent, match=r"Kafka at 127\.0\.0\.1:1 did not take .* is it running"
    ):
        publish(client, "t", [Event(None, b"{}", [])], timeout=0.5)


def test_publish_says_what_kafka_refused(embedded_broker: Broker) -> None:
    """The reason, and how many were sent before."""
    topic = embedded_broker.topic("events", 1)
    client = {"bootstrap.servers": embedded_broker.real.bootstrap_servers}
    client["message.max.bytes"] = "2000"
    with pytest.raises(EventNotSent, match=r"^Kafka refused the event: .*MSG_SIZE_TOO_LARGE"):
        publish(client, topic, [Event(None, b"x" * 5_000, [])])


# --- broker and listen ---------------------------------------------------------------------------


def _start(here: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_broker_is_found_by_emit(said: Said, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says its address, leaves it where emit looks, and takes it away at the end."""
    monkeypatch.setenv("THORN_KAFKA__BOOTSTRAP_SERVERS", "embedded")
    with _start(here, "broker") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("embedded broker on 127.0.0.1:")
        assert said("emit", "a.b") == 0
        assert said.out == "sent 1 event to thorn.events\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (0, "")
    assert said("emit", "a.b") == 1


def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    request = urllib.request.Request(url, body, headers, method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(answer.status)


def _signed(body: bytes, secret: str = DEVELOPMENT_SECRET) -> dict[str, str]:
    signer, now = Signer([secret]), int(time.time())
    return {
        "Content-Type": "application/json",
        "Hook-Event": "article.created",
        "Hook-Delivery": "d-1",
        "Hook-Attempt": "2",
        "Hook-HMAC": signer.hook_hmac(body).decode(),
        "webhook-id": "d-1",
        "webhook-timestamp": str(now),
        "webhook-signature": signer.standard("d-1", now, body).decode(),
    }


def test_listen_prints_each_call(here: Path) -> None:
    """Event, delivery, attempt, signature, body; Ctrl-C ends it well."""
    with _start(here, "listen", "--port", "0") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        url = first.split()[2].rstrip(",")
        body = b'{"event":"article.created"}'
        assert _post(url, body, _signed(body)) == 200
        facts = process.stdout.readline()
        shown = "".join(process.stdout.readline() for _ in range(3))
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    assert "article.created  delivery d-1  attempt 2  signature ok" in facts
    assert json.loads(shown) == {"event": "article.created"}
    assert (process.returncode, error) == (0, "")


def test_a_taken_port_says_what_to_do(said: Said) -> None:
    """One line, status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert said.fails("listen", "--port", str(port)) == (
            1,
            f"port {port} is taken: stop what listens there, or choose another with --port",
        )
    with pytest.raises(LocalError, match="cannot listen on 192"):
        Receiver("192.0.2.1", 0, "s", print)
    with pytest.raises(LocalError, match="port 70000 does not exist"):
        Receiver("127.0.0.1", 70_000, "s", print)


def test_the_example_subscriber_signs_with_what_listen_knows(here: Path) -> None:
    """`signature ok` out of the box."""
    assert here.is_dir()
    text = (ROOT / "config/dev.yaml").read_text()
    assert f"hmac_secret: {DEVELOPMENT_SECRET}\n" in text


def test_signatures_are_judged_together() -> None:
    """Of two both must be right; a wrong secret, an old time and none at all are told apart."""
    body = b"{}"
    good = {name.lower(): value for name, value in _signed(body).items()}
    now = time.time()
    assert signature(good, body, DEVELOPMENT_SECRET, now) == "ok"
    assert signature({}, body, DEVELOPMENT_SECRET, now) == "none"
    assert signature(good, b"{ }", DEVELOPMENT_SECRET, now).startswith("bad (webhook-signature")
    assert signature(good, body, "other", now).startswith("bad (webhook-signature")
    assert "s old" in signature(good, body, DEVELOPMENT_SECRET, now + 1000)
    hook = {"hook-hmac": good["hook-hmac"]}
    assert signature(hook, body, DEVELOPMENT_SECRET, now) == "ok"
    assert signature({**good, "hook-hmac": "x"}, body, DEVELOPMENT_SECRET, now).startswith(
        "bad (Hook-HMAC"
    )
    for digest in ("sha1", "sha512"):
        sealed = Signer(["s"], digest).hook_hmac(body).decode()
        assert signature({"hook-hmac": sealed}, body, "s", now) == "ok"


def test_what_is_printed_cannot_move_the_terminal() -> None:
    """Control characters of a body or header are not passed on."""
    call = Call(0.0, {"hook-event": "a\x1b[2J"}, b'\x1b[31m{"a"\r\n: 1\x9b', "none")
    text = describe(call)
    assert "\x1b" not in text
    assert "\r" not in text
    assert "\x9b" not in text


def test_listen_survives_requests_that_are_none() -> None:
    """Without a length 411, other methods 501, and the next call is heard."""
    calls: list[Call] = []
    receiver = Receiver("127.0.0.1", 0, "s", calls.append)
    thread = threading.Thread(target=receiver.run)
    thread.start()
    try:
        port = int(receiver.url.rstrip("/").rpartition(":")[2])
        for request, status in (
            (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"411"),
            (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
            (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"501"),
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as sent:
                sent.sendall(request)
                assert sent.recv(100).split()[1] == status
        assert _post(receiver.url, b"plain", {}) == 200
        wait_until(lambda: len(calls) == 1)
        assert (calls[0].body, calls[0].signature) == (b"plain", "none")
    finally:
        receiver.stop()
        thread.join(10)
