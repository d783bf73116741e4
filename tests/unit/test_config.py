"""Settings: what is read from where, and what is said of every mistake."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from thorn_stream.adapters.files import read_document
from thorn_stream.config import Loaded, Settings, load_settings
from thorn_stream.config.kafka import REFUSED
from thorn_stream.config.settings import wait_text
from thorn_stream.config.show import in_force, schema
from thorn_stream.core.errors import ConfigurationError

CONFIG = Path(__file__).parents[2] / "config"


def load(tmp_path: Path, text: str = "", **environ: str) -> Loaded:
    file = tmp_path / "t.yaml"
    file.write_text(text, "utf-8")
    return load_settings(file, environ)


def wrong(tmp_path: Path, text: str = "", environ: Mapping[str, str] | None = None) -> list[str]:
    """The mistakes found, the file's own name shortened to `t.yaml`."""
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text, **(environ or {}))
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(tmp_path / "t.yaml"), "t.yaml").splitlines()


# --- defaults and files --------------------------------------------------------------------------


def test_defaults_hold_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without config/thorn.yaml and without variables the defaults hold."""
    monkeypatch.chdir(tmp_path)
    loaded = load_settings(None, {})
    assert loaded.settings == Settings()
    assert loaded.path is None
    assert loaded.warnings == []


def test_the_default_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """config/thorn.yaml in the working directory is read without being named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/thorn.yaml").write_text("group: shop\n")
    loaded = load_settings(None, {})
    assert loaded.settings.group == "shop"
    assert loaded.path == Path("config/thorn.yaml")


def test_sample_file_equals_the_defaults() -> None:
    """config/thorn.yaml says what holds without it."""
    assert load_settings(CONFIG / "thorn.yaml", {}).settings == Settings()


def _paths(model: type[BaseModel]) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= {(name, *rest) for rest in _paths(kind)}
        else:
            found.add((name,))
    return found


def test_sample_file_has_every_setting_with_a_reason() -> None:
    """Each setting stands in config/thorn.yaml, with a comment on its line."""
    document = read_document(CONFIG / "thorn.yaml")
    lines = (CONFIG / "thorn.yaml").read_text().splitlines()
    for path in _paths(Settings):
        assert path in document.lines, path
        assert "#" in lines[document.lines[path] - 1], path


def test_every_setting_is_described() -> None:
    """Docs and schema are made from the descriptions, so none may be missing."""

    def fields(model: type[BaseModel]) -> None:
        for name, field in model.model_fields.items():
            assert field.description, name
            assert field.description.endswith("."), name
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                fields(kind)

    fields(Settings)


def test_dev_file_is_for_one_machine() -> None:
    """config/dev.yaml has what the first steps need: embedded broker, loopback, quick retries."""
    settings = load_settings(CONFIG / "dev.yaml", {}).settings
    assert settings.embedded
    assert list(settings.retry_tiers) == [1, 2, 5]
    assert settings.retry_delay == 1
    assert [str(network) for network in settings.allowed_networks] == ["127.0.0.0/8", "::1/128"]
    assert "ensure_port" not in dict(settings.recipient_validators)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    """A file that was named and is not there is a mistake, not a default."""
    with pytest.raises(ConfigurationError, match="there is no such file: make it"):
        load_settings(tmp_path / "nope.yaml", {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("group: [a", "t.yaml:1: is not YAML"),
        ("- a\n- b\n", "t.yaml: must be a map of settings, as in `group: thorn`"),
        ("group: a\ngroup: b\n", "t.yaml:2: the key group is there twice (line 1): remove one"),
        ("group:\n\ta: b\n", "t.yaml:2: is not YAML"),
        ("? [a]\n: b\n", "t.yaml:1: a key must be a text: put it in quotes"),
    ],
)
def test_a_file_that_cannot_be_read_names_its_line(tmp_path: Path, text: str, told: str) -> None:
    """A malformed file is one mistake, with its line."""
    lines = wrong(tmp_path, text)
    assert len(lines) == 1
    assert lines[0].startswith(told)


def test_file_of_other_bytes(tmp_path: Path) -> None:
    """A file that is not UTF-8 says so, with the line."""
    file = tmp_path / "t.yaml"
    file.write_bytes(b"group: a\n# \xff\n")
    with pytest.raises(ConfigurationError, match=r"t.yaml:2: is not UTF-8: save the file as"):
        load_settings(file, {})


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    """A file of comments alone is the defaults."""
    assert load(tmp_path, "# nothing\n").settings == Settings()


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("grup: a", "1: grup: is no setting; did you mean group?"),
        (
            "zzz: a",
            "1: zzz: is no setting: remove it (`thorn-stream config show` lists all)",
        ),
        ("http: {prt: 1}", "1: http.prt: is no setting; did you mean port?"),
        ("http: {zzz: 1}", "1: http.zzz: is no setting; http has host, port"),
        ("\nretry_max: many", "2: retry_max: must be a whole number, not 'many'"),
        ("retry_max: 1.5", "1: retry_max: must be a whole number, not 1.5"),
        ("retry_max: true", "1: retry_max: must be a number"),
        ("retry_max: -1", "1: retry_max: must be at least 0, not -1"),
        ("retry_jitter: 2", "1: retry_jitter: must be at most 1, not 2"),
        ("event_timeout: 0", "1: event_timeout: must be more than 0, not 0"),
        ("event_timeout: .inf", "1: event_timeout: must be a finite number, not inf"),
        ("window: 200001", "1: window: must be at most 200000, not 200001"),
        ("retry: maybe", "1: retry: must be true or false, not 'maybe'"),
        ("start: now", "1: start: must be one of earliest, latest, not 'now'"),
        ("group: 5", "1: group: must be a text: put it in quotes, not 5"),
        ("group: null", "1: group: must be a text: put it in quotes"),
        (
            "group: a b",
            (
                "1: group: must be 1 to 200 letters, digits and . _ - and begin with a letter "
                "or digit, since the names of its topics begin with it"
            ),
        ),
        ("http: 9464", "1: http: must be a map of keys and values, not 9464"),
        ("topics: a", "1: topics: must be a list, as in [a, b], not 'a'"),
        ("topics: []", "1: topics: must not be empty"),
        (
            "topics: [a/b]",
            (
                "1: topics[0]: has characters that Kafka refuses: letters, digits and . _ - "
                "are allowed"
            ),
        ),
        ("topics: [..]", "1: topics[0]: is no name of a topic"),
        ("topics: [x, x]", "1: topics[1]: x is there twice: remove one"),
        (
            "topics: ['^(']",
            (
                "1: topics[0]: is no regular expression: missing ), unterminated subpattern at "
                "position 1"
            ),
        ),
        (
            "topics: [thorn.dead]",
            (
                "1: topics[0]: thorn.dead is written by thorn_stream itself and can be no "
                "input: remove it"
            ),
        ),
        (
            "topics: [thorn.retry.99s]",
            (
                "1: topics[0]: thorn.retry.99s is written by thorn_stream itself and can be no "
                "input: remove it"
            ),
        ),
        (
            "dead_topic: graveyard",
            (
                "1: dead_topic: must begin with the group's name, so that two groups never "
                "share a topic: write thorn.graveyard, or change `group`"
            ),
        ),
        (
            "dead_topic: thorn_parked",
            (
                "1: dead_topic: thorn.parked is also the name of dead_topic (Kafka takes . and "
                "_ for one in names): give each a topic of its own"
            ),
        ),
        ("retry_tiers: [5, 3]", "1: retry_tiers: must be ascending: 3 follows 5"),
        ("retry_tiers: [5, 5]", "1: retry_tiers: must be ascending: 5 follows 5"),
        ("retry_tiers: [0]", "1: retry_tiers[0]: must be more than 0, not 0"),
        ("retry_tiers: []", "1: retry_tiers: must not be empty"),
        (
            "retry_tiers: [0.0001]",
            ("1: retry_tiers: must be whole milliseconds: 0.0001 has more than three decimals"),
        ),
        (
            "event_timeout: 60",
            (
                "1: event_timeout: must be at most event_timeout_max, which is 30: lower it, "
                "or raise event_timeout_max"
            ),
        ),
        (
            "retry_max_max: 2",
            (
                "1: retry_max_max: retry_max must be at most retry_max_max, which is 2: lower "
                "it, or raise retry_max_max"
            ),
        ),
        (
            "retry_max_max: 3\nretry_schedule: [1, 2, 3, 4]",
            (
                "2: retry_schedule: has 4 waits, retry_max_max allows 3: shorten it, or raise "
                "retry_max_max"
            ),
        ),
        (
            "circuit: {open_for: 400}",
            "1: circuit.open_for: must be at most open_for_max, which is 300",
        ),
        ("dead_on: [200]", "1: dead_on[0]: must be at least 300, not 200"),
        (
            "allow_redirects: true",
            (
                "1: allow_redirects: is refused: a redirect could lead a checked request into "
                "the inner network, and a POST would become a GET; register the final URL instead"
            ),
        ),
        (
            "allowed_networks: [10.0.0.1/8]",
            "1: allowed_networks[0]: has bits set below its length: write 10.0.0.0/8",
        ),
        (
            "allowed_networks: [inner]",
            (
                "1: allowed_networks[0]: is no network: write an address and a length, as in "
                "10.1.0.0/16"
            ),
        ),
        (
            "recipient_validators: [[ensure_prt, [80]]]",
            (
                "1: recipient_validators[0]: ensure_prt is no validator: write one of "
                "block_internal_ips, ensure_protocol, ensure_port, block_cidr_network, or "
                "!package.module:name"
            ),
        ),
        (
            "recipient_validators: [[block_internal_ips, [1]]]",
            (
                "1: recipient_validators[0]: block_internal_ips takes no arguments: open "
                "networks with allowed_networks"
            ),
        ),
        (
            "recipient_validators: [[ensure_port, [http]]]",
            "1: recipient_validators[0]: ensure_port: 'http' is not a port",
        ),
        (
            "recipient_validators: [5]",
            "1: recipient_validators[0]: must be [name] or [name, [arguments]]",
        ),
        (
            "recipient_validators: ['!nope']",
            "1: recipient_validators[0]: !nope must look like !package.module:name",
        ),
        ("transport: !nope", "1: transport: must look like !package.module:name"),
        (
            "transport: h3",
            "1: transport: must be native, httpx or !package.module:name, not 'h3'",
        ),
        ("http2: true", "1: http2: needs the httpx transport: add `transport: httpx`"),
        (
            "user_agent: ' x'",
            (
                "1: user_agent: must be 1 to 200 characters of printable ASCII, with no space "
                "at either end"
            ),
        ),
        (
            "api: {enabled: true, tokens: []}",
            "1: api.tokens: is empty, so nobody could be let in: add a token",
        ),
        (
            "api: {enabled: true, tokens: [x], port: 9464}",
            ("1: api.port: 9464 is the port of health and metrics (http.port) as well: change one"),
        ),
        (
            "tls: {ca_file: /nowhere/ca.pem}",
            (
                "1: tls.ca_file: the file /nowhere/ca.pem cannot be read "
                "(no such file or directory): make it, or change this"
            ),
        ),
        (
            "subscribers: [{id: a, url: 'https://a.example'}]",
            "1: subscribers[0].event: is missing",
        ),
        (
            "kafka: {bootstrap_servers: 'http://x'}",
            (
                "1: kafka: bootstrap.servers must be host:port (or several, with commas), not "
                "'http://x'"
            ),
        ),
        (
            "kafka: {bootstrap_servers: 'a:99999'}",
            (
                "1: kafka: bootstrap.servers must be host:port (or several, with commas), not "
                "'a:99999'"
            ),
        ),
        (
            "kafka: {client.id: }",
            "1: kafka.client.id: has no value: give it one, or remove the line",
        ),
        (
            "kafka: {bootstrap_servers: [a, b]}",
            (
                "1: kafka.bootstrap.servers: must be one text: write the items with commas "
                "between, in quotes"
            ),
        ),
        (
            "kafka: {ssl: {ca: x}}",
            (
                "1: kafka.ssl: must be a text, a number, true or false (write a key in one: "
                "ssl.ca.location)"
            ),
        ),
        (
            "kafka: {client.id: a, client_id: b}",
            "1: kafka.client.id: is there twice (_ and . are the same): remove one",
        ),
    ],
)
def test_each_mistake_has_place_reason_and_remedy(tmp_path: Path, text: str, told: str) -> None:
    """One mistake is one line: where, why, what to do."""
    assert wrong(tmp_path, text) == [f"t.yaml:{told}"]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Nobody mends a file line by line: file first, from the top, then the environment."""
    text = "retry_tiers: [5, 3]\ngrup: a\nretry_max: x\nhttp:\n  port: 99999\nevent_timeout: 60\n"
    told = wrong(tmp_path, text, {"THORN_RETRY_JITTER": "2", "THORN_WINDOW": ""})
    assert [line.split(": ")[0] for line in told] == [
        "t.yaml:1",
        "t.yaml:2",
        "t.yaml:3",
        "t.yaml:5",
        "t.yaml:6",
        "THORN_WINDOW",
        "THORN_RETRY_JITTER",
    ]


def test_relations_with_a_broken_setting_are_not_told(tmp_path: Path) -> None:
    """What follows from a mistake already told is no second mistake."""
    told = wrong(tmp_path, "event_timeout_max: soon\nevent_timeout: 60\n")
    assert told == ["t.yaml:1: event_timeout_max: must be a number, not 'soon'"]


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_keys_that_guarantees_rest_on_are_refused(tmp_path: Path, key: str) -> None:
    """Each is refused with its reason, however it is spelt and wherever it stands."""
    spelt = key.replace(".", "_")
    assert wrong(tmp_path, f"kafka:\n  {spelt}: 1\n") == [
        f"t.yaml:2: kafka.{key}: is refused: {REFUSED[key]}; remove it"
    ]
    variable = f"THORN_KAFKA__{spelt.upper()}"
    assert wrong(tmp_path, "", {variable: "1"}) == [
        f"{variable}: is refused: {REFUSED[key]}; remove it"
    ]


def test_the_keys_named_by_the_contract_are_all_refused() -> None:
    """Documented one by one; none may be forgotten when the table is edited."""
    named = """group.id group.instance.id group.protocol enable.auto.commit
        enable.auto.offset.store auto.offset.reset enable.idempotence acks transactional.id
        isolation.level partition.assignment.strategy message.timeout.ms enable.partition.eof"""
    assert set(named.split()) <= set(REFUSED)


# --- environment ---------------------------------------------------------------------------------


def test_environment_beats_file_beats_default(tmp_path: Path) -> None:
    """Each layer is laid over the one beneath, key by key."""
    text = "retry_max: 1\nretry_delay: 5\nkafka: {bootstrap_servers: 'a:1', client.id: x}\n"
    settings = load(
        tmp_path, text, THORN_RETRY_MAX="2", THORN_KAFKA__BOOTSTRAP_SERVERS="kafka:9092"
    ).settings
    assert (settings.retry_max, settings.retry_delay, settings.retry_jitter) == (2, 5, 0.1)
    assert settings.librdkafka() == {"bootstrap.servers": "kafka:9092", "client.id": "x"}


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("THORN_RETRY", "no", "retry", False),
        ("THORN_RETRY", "true", "retry", True),
        ("THORN_MAX_EVENT_AGE", "60", "max_event_age", 60.0),
        ("THORN_MAX_EVENT_AGE", "null", "max_event_age", None),
        ("THORN_TOPICS", '["a", "^b.*"]', "topics", ("a", "^b.*")),
        ("THORN_RETRY_TIERS", "[0.5, 2]", "retry_tiers", (0.5, 2)),
        ("THORN_DEAD_ON", "[404]", "dead_on", frozenset({404})),
        ("THORN_SUBSCRIBERS_TOPIC", "off", "managed", None),
        ("THORN_GROUP", "5", "group", "5"),
        ("THORN_HTTP__PORT", "0", "http.port", 0),
        ("THORN_HTTP", '{"port": 1}', "http.port", 1),
        ("THORN_RETRY_SCHEDULE", "[5, 300]", "retry_schedule", (5, 300)),
    ],
)
def test_variables_are_read(
    tmp_path: Path, variable: str, text: str, name: str, value: Any
) -> None:
    """Scalars are text, lists and maps JSON, `__` leads into a map."""
    found: Any = load(tmp_path, "", **{variable: text}).settings
    for part in name.split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        ("THORN_RETRY_MAX", "x", "must be a whole number, not 'x'"),
        ("THORN_RETRY_MAX", "", "is empty: give it a value, or unset it"),
        (
            "THORN_TOPICS",
            "a,b",
            'must be JSON, as in ["a", "b"] for a list and {"a": 1} for a map',
        ),
        ("THORN_DEAD_ON", "404", "must be a list, as in [a, b], not 404"),
        ("THORN_HTTP__PORT", "x", "must be a whole number, not 'x'"),
        ("THORN_HTTP", '{"prt": 1}', "http.prt: is no setting; did you mean port?"),
        ("THORN_EVENT_TIMEOUT", "60", None),
    ],
)
def test_mistakes_in_variables_name_the_variable(
    tmp_path: Path, variable: str, text: str, told: str | None
) -> None:
    """The place is the variable, not the setting."""
    lines = wrong(tmp_path, "", {variable: text})
    assert len(lines) == 1
    assert lines[0].startswith(f"{variable}: ")
    assert told is None or lines[0] == f"{variable}: {told}"


def test_unknown_variables_are_only_warned_of(tmp_path: Path) -> None:
    """Kubernetes makes THORN_PORT for a service `thorn`; a slip of the pen is named too."""
    loaded = load(tmp_path, "", THORN_PORT="tcp://10.0.0.1:80", THORN_RETRY_MX="1", OTHER="x")
    assert loaded.warnings == [
        "THORN_PORT: is no setting and is ignored",
        "THORN_RETRY_MX: is no setting and is ignored; did you mean THORN_RETRY_MAX?",
    ]


def test_variables_that_an_env_names_are_not_warned_of(tmp_path: Path) -> None:
    """Neither those of the settings, nor those a subscriber file names later, nor API tokens."""
    loaded = load(
        tmp_path,
        "hmac_secret: env:THORN_MASTER\n",
        THORN_MASTER="m",
        THORN_BILLING="b",
        THORN_API_TOKEN="t",
    )
    assert loaded.secrets("env:THORN_BILLING") == "b"
    assert loaded.warnings == []


def test_what_is_allowed_and_seldom_meant_is_warned_of(tmp_path: Path) -> None:
    """An open guard is a choice, and is said aloud."""
    loaded = load(
        tmp_path,
        "recipient_validators: [[ensure_protocol, [https]]]\nallowed_networks: ['::/0']\n",
    )
    assert [line.split(": ")[0] for line in loaded.warnings] == [
        "recipient_validators",
        "allowed_networks",
    ]


# --- secrets -------------------------------------------------------------------------------------

SECRETS = """
hmac_secret: env:MASTER
proxy: http://user:hunter2@proxy:3128
transport: httpx
kafka:
  sasl_username: env:NAME
  sasl_password: hunter2
  ssl_key_password: file:{file}
  ssl_key_pem: hunter2
  sasl_oauthbearer_client_secret: hunter2
  sasl_oauthbearer_config: secret=hunter2
api: {{enabled: true, tokens: ["env:TOKEN", hunter2]}}
subscribers:
  - id: a
    event: a.*
    url: https://a.example.com
    hmac_secret: [env:MASTER, hunter2]
    headers: {{Authorization: hunter2}}
"""


def test_secrets_are_looked_up_and_never_printed(tmp_path: Path) -> None:
    """`env:` and `file:` are resolved at load; repr, dump, show have none of them."""
    file = tmp_path / "secret"
    file.write_text("hunter2\n")
    loaded = load(
        tmp_path, SECRETS.format(file=file), MASTER="hunter2", NAME="hunter2", TOKEN="hunter2"
    )
    settings = loaded.settings
    assert settings.hmac_secret == SecretStr("hunter2")
    assert settings.api.tokens == (SecretStr("hunter2"), SecretStr("hunter2"))
    assert settings.librdkafka()["ssl.key.password"] == "hunter2"
    assert settings.librdkafka()["sasl.username"] == "hunter2"
    assert settings.subscribers[0].hmac_secret[0] == SecretStr("hunter2")
    shown = in_force(settings)
    for text in (repr(loaded), str(settings), json.dumps(shown), repr(settings.model_dump())):
        if text == repr(settings.model_dump()):
            text = text.replace("'Authorization': 'hunter2'", "")  # noqa: PLW2901
        assert "hunter2" not in text
    assert shown["hmac_secret"] == shown["proxy"] == "set"
    assert shown["kafka"]["sasl.password"] == "set"
    assert shown["subscribers"][0]["hmac_secret"] == ["set", "set"]
    assert shown["subscribers"][0]["headers"] == {"Authorization": "set"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "hmac_secret: env:NOPE",
            "hmac_secret: the environment variable NOPE is not set: set it, or change env:NOPE",
        ),
        (
            "hmac_secret: env:EMPTY",
            "hmac_secret: the environment variable EMPTY is empty: set it, or change env:EMPTY",
        ),
        (
            "hmac_secret: file:/nowhere/s",
            (
                "hmac_secret: the file /nowhere/s cannot be read (no such file or directory): make "
                "it, or change file:/nowhere/s"
            ),
        ),
        ("hmac_secret: ''", "hmac_secret: must not be empty"),
        (
            "kafka: {sasl_password: env:NOPE}",
            (
                "kafka.sasl.password: the environment variable NOPE is not set: set it, or change "
                "env:NOPE"
            ),
        ),
        (
            "api: {enabled: true}",
            (
                "api.tokens[0]: the environment variable THORN_API_TOKEN is not set: set it, or "
                "change env:THORN_API_TOKEN"
            ),
        ),
        (
            "subscribers:\n- {id: a, event: b, url: 'https://a.example', hmac_secret: env:NOPE}",
            (
                "subscribers[0].hmac_secret: the environment variable NOPE is not set: set it, or "
                "change env:NOPE"
            ),
        ),
    ],
)
def test_a_secret_that_is_not_there_names_place_and_source(
    tmp_path: Path, text: str, told: str
) -> None:
    """Neither the wrong place is searched nor an empty secret used."""
    lines = wrong(tmp_path, text, {"EMPTY": ""})
    assert len(lines) == 1
    assert lines[0].split(": ", 1)[1] == told


def test_mistakes_never_quote_a_secret(tmp_path: Path) -> None:
    """A wrong value of a secret setting is not shown, however wrong it is."""
    text = "hmac_secret: [hunter2]\nproxy: 5\napi: {enabled: true, tokens: [[hunter2], 5]}\n"
    assert "hunter2" not in "\n".join(wrong(tmp_path, text))


def test_tokens_are_not_needed_while_the_api_is_off(tmp_path: Path) -> None:
    """The default token names a variable that nobody has to set."""
    assert not load(tmp_path, "api: {port: 1}\n").settings.api.enabled


# --- names that follow, and other doors -----------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "5s"),
        (5.0, "5s"),
        (0.5, "0.5s"),
        (7200, "7200s"),
        (0.25, "0.25s"),
        (2592000, "2592000s"),
    ],
)
def test_waits_in_names_of_topics(seconds: float, text: str) -> None:
    """Whole seconds without a point; every name is one that Kafka takes."""
    assert wait_text(seconds) == text


def test_names_of_own_topics() -> None:
    """They begin with the group's name unless they are set."""
    settings = Settings(group="shop", dead_topic="shop.graves", retry_tiers=(0.5, 60))
    assert settings.retry_topics == {"shop.retry.0.5s": 0.5, "shop.retry.60s": 60}
    assert settings.dead == "shop.graves"
    assert settings.own_topics == {
        "shop.retry.0.5s",
        "shop.retry.60s",
        "shop.graves",
        "shop.parked",
        "shop.cursors",
        "shop.subscribers",
        "shop.results",
    }
    assert settings.is_own("shop.retry.15s"), "a tier that is no longer set"
    assert settings.tier_wait("shop.retry.15s") == 15
    assert not settings.is_own("shop.retry.soon")
    assert not settings.is_own("shop.events")


def test_subscribers_topic_can_be_switched_off(tmp_path: Path) -> None:
    """`off` is off, as text and as what some editors make of it."""
    for text in ("off", "'off'", "false"):
        assert load(tmp_path, f"subscribers_topic: {text}\n").settings.managed is None
    assert Settings().managed == "thorn.subscribers"


def test_settings_made_in_python_are_checked_too() -> None:
    """The relations hold for arguments as well as for files."""
    with pytest.raises(ValidationError, match="must be ascending"):
        Settings(retry_tiers=(5, 3))
    with pytest.raises(ValidationError, match="is refused: the group is the setting"):
        Settings(kafka={"group_id": "x"})


def test_settings_are_frozen() -> None:
    """Nobody changes a setting while others rely on it."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().group = "other"  # type: ignore[misc]  # what is tested


def test_client_settings_are_text_for_librdkafka() -> None:
    """Booleans are spelt as librdkafka reads them; the embedded broker's address can be put in."""
    settings = Settings(kafka={"bootstrap_servers": "embedded", "socket_keepalive_enable": True})
    assert settings.embedded
    assert settings.librdkafka("127.0.0.1:5") == {
        "bootstrap.servers": "127.0.0.1:5",
        "socket.keepalive.enable": "true",
    }


def test_show_has_every_setting_and_can_be_read_back(tmp_path: Path) -> None:
    """What `config show` prints is a settings file."""
    shown = in_force(Settings())
    assert list(shown) == list(Settings.model_fields)
    shown["api"].pop("tokens")
    again = load(tmp_path, json.dumps(shown)).settings
    assert again == Settings()


def test_schema_describes_every_setting() -> None:
    """Editors know each name, and refuse others."""
    made = schema()
    assert list(made["properties"]) == list(Settings.model_fields)
    assert made["additionalProperties"] is False
    assert made["$defs"]["Api"]["properties"]["tokens"]["default"] == ["env:THORN_API_TOKEN"]
