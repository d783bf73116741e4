"""Secrets stay unseen: in what is said of mistakes about them, in what is shown, in every repr."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.dispatching import subscriber
from tests.support.environment import clear_settings
from thorn_stream.adapters.files import Secrets
from thorn_stream.adapters.http.httpx_ways import Way
from thorn_stream.adapters.http.targets import Targets
from thorn_stream.cli.program import execute
from thorn_stream.config import load_settings
from thorn_stream.core.deliveries import Attempt, Delivery, Kind, Outcome
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.extra import extra_recipients
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.overrides import EventRules
from thorn_stream.core.records import Headers, Partition, Record
from thorn_stream.core.request import RequestFactory
from thorn_stream.core.signing import Signer
from thorn_stream.core.validators import Guard

MARK = "hunter2-s3cr3t"

ONE = "subscribers: [{{id: a, event: '*', url: 'https://a.example/', {}}}]"

WRONG = {
    # each a settings file in which something about a secret is wrong
    "master, a list": "hmac_secret: [MARK]",
    "master, a map": "hmac_secret: {a: MARK}",
    "master, an alias to YAML": "hmac_secret: *MARK",
    "master, an anchor to YAML": "a: &MARK\nb: &MARK\nhmac_secret: *MARKx",
    "master, a tag to YAML": "hmac_secret: !MARK!x y",
    "master, without its second quote": 'hmac_secret: "MARK',
    "master, a reserved character first": "hmac_secret: @MARK",
    "master, a colon in it": "hmac_secret: MARK: x",
    "master, twice": "hmac_secret: MARK\nhmac_secret: MARK",
    "setting misspelt": "hmac_secrt: MARK",
    "proxy, no URL": "{transport: httpx, proxy: MARK}",
    "proxy, another scheme": "{transport: httpx, proxy: 'ftp://user:MARK@proxy:1'}",
    "proxy, a bad port": "{transport: httpx, proxy: 'http://user:MARK@proxy:99999999'}",
    "proxy, with the native transport": "proxy: 'http://user:MARK@proxy:3128'",
    "proxy, a list": "{transport: httpx, proxy: [MARK]}",
    "kafka, a list": "kafka: {sasl_password: [MARK]}",
    "kafka, a map": "kafka: {sasl.password: {a: MARK}}",
    "kafka, itself a text": "kafka: MARK",
    "kafka, twice": "kafka: {sasl.password: MARK, sasl_password: MARK}",
    "kafka, a key that librdkafka does not know": "kafka: {sasl.passwort: MARK}",
    "kafka, a value that librdkafka does not take": "kafka: {ssl.key.pem: MARK, acks: MARK}",
    "kafka, a password in a server": "kafka: {bootstrap_servers: 'u:MARK@kafka:9092:1'}",
    "tokens, a text": "api: {enabled: true, tokens: MARK}",
    "tokens, lists": "api: {enabled: true, tokens: [[MARK]]}",
    "tokens, maps": "api: {tokens: [{a: MARK}]}",
    "subscriber, garbled secret": ONE.format("hmac_secret: 'whsec_MARK!'"),
    "subscriber, a map for a secret": ONE.format("hmac_secret: {a: MARK}"),
    "subscriber, lists for secrets": ONE.format("hmac_secret: [[MARK]]"),
    "subscriber, a reference for a secret": ONE.format("hmac_secret: '!MARK:x'"),
    "subscriber, field misspelt": ONE.format("hmac_secrt: MARK"),
    "subscriber, a line end in a header": ONE.format('headers: {Authorization: "MARK\\r\\nX: y"}'),
    "subscriber, a header in its name": ONE.format("headers: {'Authorization: MARK': x}"),
    "subscriber, a list of headers": ONE.format("headers: ['Authorization: MARK']"),
    "subscriber, a list in a header": ONE.format("headers: {Authorization: [MARK]}"),
    "subscriber, headers a text": ONE.format("headers: 'Authorization: MARK'"),
    "subscriber, a user in its URL": "subscribers: [{id: a, event: '*', url: 'https://u:MARK@h/'}]",
    "subscriber, a broken URL": "subscribers: [{id: a, event: '*', url: 'ht tp://h/?token=MARK'}]",
    "subscriber, a URL inward": "subscribers: [{id: a, event: '*', url: 'http://10.0.0.1/?t=MARK'}]",
    "subscriber, a long URL": "subscribers: [{id: a, event: '*', url: 'http://h/?t=MARK"
    + "x" * 3000
    + "'}]",
    "subscriber, no field for its URL": "subscribers: ['https://h/?token=MARK']",
    "subscribers by pattern": "subscribers: {'*': ['ht tp://h/?token=MARK']}",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    clear_settings(monkeypatch)
    (tmp_path / "config/subscribers").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_about_a_secret_does_not_tell_it(
    here: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """In the settings: refused with its place, or taken; the secret stands in no line."""
    (here / "thorn.yaml").write_text(WRONG[what].replace("MARK", MARK))
    status = execute(["config", "check", "--config", "thorn.yaml"])
    out, err = capsys.readouterr()
    assert MARK not in out + err
    assert status == 2, err
    assert "thorn.yaml" in err or "kafka" in err


@pytest.mark.parametrize("what", [name for name in WRONG if name.startswith("subscriber")])
def test_a_mistake_in_a_subscriber_file_does_not_tell_a_secret(
    here: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """The same in a file of their own."""
    (here / "thorn.yaml").write_text("group: thorn")
    (here / "config/subscribers/a.yaml").write_text(WRONG[what].replace("MARK", MARK))
    status = execute(["config", "check", "--config", "thorn.yaml"])
    out, err = capsys.readouterr()
    assert MARK not in out + err
    assert (status, "config/subscribers/a.yaml" in err) == (2, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("THORN_HMAC_SECRET", "whsec_MARK"),
        ("THORN_PROXY", "MARK"),
        ("THORN_KAFKA__SASL_PASSWORD", "MARK"),
        ("THORN_KAFKA", '{"sasl.password": ["MARK"]}'),
        ("THORN_KAFKA", "{MARK"),
        ("THORN_API__TOKENS", "[MARK"),
        ("THORN_API__TOKENS", '[["MARK"]]'),
        ("THORN_API__TOKEN", "MARK"),
        ("THORN_SUBSCRIBERS", '[{"id": "a", "url": MARK}]'),
        ("THORN_SUBSCRIBERS", '[{"id": "a", "event": "*", "url": "u:MARK@h"}]'),
    ],
)
def test_a_variable_with_a_secret_is_not_told(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any, name: str, value: str
) -> None:
    """Right or wrong, unknown or known: its name may stand there, its value never."""
    monkeypatch.setenv(name, value.replace("MARK", MARK))
    (here / "thorn.yaml").write_text("http: {port: wrong}")
    assert execute(["config", "check", "--config", "thorn.yaml"]) == 2
    out, err = capsys.readouterr()
    assert MARK not in out + err


GOOD = """
group: thorn
transport: httpx
proxy: http://user:MARK@proxy.example:3128
hmac_secret: MARK
kafka:
  bootstrap_servers: kafka:9092
  security.protocol: SASL_SSL
  sasl.mechanism: PLAIN
  sasl.username: thorn
  sasl.password: MARK
  ssl.key.password: file:secret
  sasl.oauthbearer.client.secret: env:A_SECRET
api: {tokens: [MARK, "env:A_SECRET", "file:secret"]}
subscriber_files: [config/subscribers/*.yaml]
subscribers:
  - id: inline
    event: "*"
    url: https://inline.example/hook?token=MARK#MARK
    hmac_secret: [MARK, "env:A_SECRET", "file:secret"]
    headers: {Authorization: Bearer MARK, X-Api-Key: MARK}
"""
FILE = """
subscribers:
  - id: file
    event: "*"
    url: https://file.example/hook?token=MARK
    hmac_secret: file:secret
    headers: {Authorization: Bearer MARK}
"""


@pytest.mark.parametrize(
    "command",
    [
        ["config", "show"],
        ["config", "show", "--json"],
        ["config", "check"],
        ["config", "schema"],
        ["match", "order.created"],
        ["match", "order.created", "--json"],
        ["topics", "plan", "--acl"],
    ],
)
def test_a_command_shows_no_secret(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any, command: list[str]
) -> None:
    """With a secret in every place that can have one."""
    monkeypatch.setenv("A_SECRET", MARK)
    (here / "secret").write_text(MARK)
    (here / "thorn.yaml").write_text(GOOD.replace("MARK", MARK))
    (here / "config/subscribers/a.yaml").write_text(FILE.replace("MARK", MARK))
    arguments = command if command[-1] == "schema" else [*command, "--config", "thorn.yaml"]
    status = execute(arguments)
    out, err = capsys.readouterr()
    assert MARK not in out + err
    assert status == 0, err
    assert out


def _reprs() -> dict[str, Callable[[Path], object]]:
    one = subscriber(
        "a",
        url=f"https://a.example/?token={MARK}",
        headers={"Authorization": MARK},
        hmac_secret=MARK,
    )
    value = json.dumps({"event": "a", "data": {"password": MARK}}).encode()
    headers: Headers = [("thorn-http-X-Key", MARK.encode())]
    record = Record("orders", 0, 0, MARK.encode(), value, headers, 0)
    envelope = decode(record)
    assert isinstance(envelope, Envelope)
    entry = Entry(Ledger(Partition("orders", 0), 0, 100, Tally()), 0, 1)
    delivery = Delivery(envelope, one, "d", entry)
    factory = RequestFactory(one, [MARK], user_agent="thorn", source="thorn")
    head, body = factory.build(envelope, "d", 1, 0)
    guard = Guard.from_names([])
    target = Targets(guard, None).make(one)
    rules = EventRules(subscribers=True)
    extra = extra_recipients(json.dumps([f"https://a.example/?token={MARK}"]).encode(), rules)
    return {
        "settings": lambda folder: load_settings(folder / "thorn.yaml", {"A_SECRET": MARK}),
        "secrets": lambda _: Secrets({"A": MARK}),
        "way": lambda _: Way(proxy=f"http://u:{MARK}@proxy:1"),
        "subscriber": lambda _: one,
        "record": lambda _: record,
        "envelope": lambda _: envelope,
        "delivery": lambda _: delivery,
        "attempt": lambda _: Attempt(delivery, target, head, body, 1.0, True, lambda *_: None),
        "outcome": lambda _: Outcome(Kind.OK, body=MARK.encode()),
        "request": lambda _: factory,
        "signer": lambda _: Signer([MARK]),
        "extra": lambda _: extra,
    }


@pytest.mark.parametrize("what", _reprs())
def test_no_repr_shows_a_secret(here: Path, what: str) -> None:
    """Of whatever may come into a log, a traceback or a debugger's line."""
    (here / "secret").write_text(MARK)
    (here / "thorn.yaml").write_text(GOOD.replace("MARK", MARK))
    made = _reprs()[what](here)
    assert MARK not in repr(made) + str(made)
