"""A dispatcher with a marked secret in every place that can have one: none comes out anywhere."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from tests.e2e.conftest import Settings
from tests.e2e.rig import Dispatcher, dispatcher, envelope, produce, read_all, until
from tests.support.brokers import Broker
from tests.support.receivers import Receiver, closed_port
from thorn_stream.cli.program import execute
from thorn_stream.core.errors import InvalidSignature
from thorn_stream.core.signing import derived_secret
from thorn_stream.verification import verify

embedded = pytest.mark.parametrize("broker", ["embedded"], indirect=True)

MARK = "hunter2-for-every-place"
WITHIN = 60.0


def secret(place: str) -> str:
    """Tells where it leaked from."""
    return f"{MARK}-{place}"


def leaks(*texts: str) -> set[str]:
    """Where a secret stands in what has come out, in the clear or in base64."""
    forms = [MARK]
    for before in range(3):  # base64 looks different for each place in a group of three
        coded = base64.b64encode(b"\0" * before + MARK.encode()).decode()
        forms.append(coded[4 * bool(before) : (before + len(MARK)) // 3 * 4])
    return {
        text[max(0, text.find(form) - 100) :][:200]
        for text in texts
        for form in forms
        if form in text
    }


def everything(broker: Broker, settings: Settings, folder: Path, **more: Any) -> dict[str, Any]:
    """Settings with secrets, some in files and in the environment."""
    (folder / "master").write_text(secret("master") + "\n")
    (folder / "billing").write_text(secret("billing") + "\n")
    (folder / "subscribers").mkdir()
    made = settings(
        log={"level": "debug", "format": "json", "successes": True},
        retry=False,
        hmac_secret=f"file:{folder}/master",
        api={"tokens": [secret("token")]},
        allow_event_subscribers=True,
        subscriber_files=["subscribers/*.yaml"],
        **more,
    )
    made["kafka"] = {
        **made["kafka"],
        "sasl.password": secret("sasl"),
        "ssl.key.password": "env:MARKED",
        "sasl.oauthbearer.client.secret": f"file:{folder}/billing",
    }
    url = made["subscribers"][0]["url"].removesuffix("/ok")
    query = f"?token={secret('query')}#{secret('fragment')}"
    headers = {"Authorization": f"Bearer {secret('authorization')}", "X-Key": secret("header")}
    one = {"event": "order.*", "headers": headers}
    made["subscribers"] = [
        {**one, "id": "good", "url": f"{url}/ok{query}", "hmac_secret": secret("inline")},
        {**one, "id": "bad", "url": f"{url}/status/500{query}"},
        {**one, "id": "reset", "url": f"{url}/reset{query}"},
        {**one, "id": "gone", "url": f"http://127.0.0.1:{closed_port()}/{query}"},
        {**one, "id": "nowhere", "url": f"http://no.invalid/{query}"},
        {**one, "id": "inner", "url": f"http://inner.invalid/{query}", "hmac_secret": "env:MARKED"},
    ]
    filed = {**one, "id": "filed", "url": f"{url}/garbage{query}"}
    filed["hmac_secret"] = f"file:{folder}/billing"
    (folder / "subscribers/a.yaml").write_text(json.dumps({"subscribers": [filed]}))
    return made


def use(running: Dispatcher, broker: Broker) -> list[str]:
    """Let everything happen that is told of; what its port said meanwhile."""
    topic = broker.name("in")
    extra = json.dumps([f"http://127.0.0.1:{closed_port()}/?token={secret('extra')}"]).encode()
    headers = [("thorn-subscribers", extra), ("thorn-http-X-Key", secret("event").encode())]
    produce(broker.real.bootstrap_servers, topic, [envelope("order.paid")])
    produce(broker.real.bootstrap_servers, topic, [envelope("order.paid")], headers=headers)
    produce(broker.real.bootstrap_servers, topic, [b"{" + b"undecodable"])
    folder = running.folder
    for wrong in (
        f"subscribers: [{{id: filed, event: '*', url: 'http://u:{secret('user')}@h/'}}]",
        f"subscribers: [{{id: filed, event: '*', url: 'http://a/', hmac_secret: whsec_{MARK}!}}]",
        f"subscribers: [{{id: filed, hmac_secrt: {secret('misspelt')}}}]",
        f"hmac_secret: *{secret('alias')}",
    ):
        before = running.metric("thorn_reload_total", source="file", result="error")
        (folder / "subscribers/a.yaml").write_text(wrong)
        until(
            lambda before=before: running.metric("thorn_reload_total", result="error") > before,  # type: ignore[misc]  # mypy cannot infer defaults of lambdas
            WITHIN,
            "a bad file is told",
        )
    # five of the settings', one of the file, for each event; one extra; one undecodable
    until(lambda: running.metric("thorn_dead_letters_total") >= 14, WITHIN, "dead letters")
    return [running.get(path)[1] for path in ("/metrics", "/readyz", "/livez", "/nothing")]


def told(letter: Message) -> list[str]:
    """Its headers; what whoever wrote the event has put there himself stays his."""
    headers: Any = letter.headers() or []
    own = {"thorn-subscribers", "thorn-http-X-Key", "thorn-subscriber-definition"}
    return [f"{name}={(value or b'').decode()}" for name, value in headers if name not in own]


def test_a_leak_would_be_found() -> None:
    """In the clear, and in base64 wherever it stands."""
    for before in ("", "a", "ab"):
        text = f"{before}{secret('x')}"
        assert leaks(text)
        assert leaks(base64.b64encode(text.encode()).decode())
    assert not leaks("nothing")


@embedded
@pytest.mark.parametrize("transport", ["native", "httpx"])
def test_no_secret_comes_out(  # noqa: PLR0917 -- fixtures
    broker: Broker,
    receiver: Receiver,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    transport: str,
) -> None:
    """Logs at debug, the port, dead letters and commands, with either transport."""
    monkeypatch.setenv("MARKED", secret("variable"))
    broker.topic("in")
    more: dict[str, Any] = {"transport": transport}
    if transport == "httpx":
        more["proxy"] = f"http://thorn:{secret('proxy')}@127.0.0.1:{closed_port()}"
    made = everything(broker, settings, tmp_path, **more)
    with dispatcher(tmp_path, made) as running:
        pages = use(running.ready(), broker)
        assert running.stop() == 0
        said = running.said()
    assert '"event": "attempt"' in said
    letters = read_all(broker.real.bootstrap_servers, f"{broker.prefix}.dead")
    assert len(letters) >= 14
    written = [line for letter in letters for line in told(letter)]
    (tmp_path / "subscribers/a.yaml").write_text("[]")
    monkeypatch.chdir(tmp_path)
    for command in (
        ["config", "show"],
        ["config", "show", "--json"],
        ["config", "check"],
        ["match", "order.paid", "--json"],
        ["dead", "list"],
        ["dead", "list", "--json"],
        ["topics", "plan"],
    ):
        assert execute([*command, "--config", str(running.config)]) == 0
        written += capsys.readouterr()
    assert leaks(said, *pages, *written) == set()


@embedded
def test_a_new_secret_signs_without_a_restart(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """The master's file, and one that an inline subscriber names, replaced while it runs."""
    topic = broker.topic("in")
    for name in ("master", "own"):
        (tmp_path / name).write_text(f"first-{name}\n")
    made = settings(hmac_secret=f"file:{tmp_path}/master")
    url = made["subscribers"][0]["url"]
    made["subscribers"] = [
        {"id": "derived", "event": "order.*", "url": f"{url}/derived"},
        {
            "id": "own",
            "event": "order.*",
            "url": f"{url}/own",
            "hmac_secret": f"file:{tmp_path}/own",
        },
    ]

    def signed_by(path: str, secret: str) -> bool:
        count = receiver.count(path)
        produce(broker.real.bootstrap_servers, topic, [envelope("order.paid")])
        until(lambda: receiver.count(path) > count, WITHIN, f"{path} is called")
        call = [call for call in receiver.requests if call.path == path][-1]
        try:
            verify(secret, call.headers, call.body)
        except InvalidSignature:
            return False
        return True

    with dispatcher(tmp_path, made) as running:
        running.ready()
        assert signed_by("/ok/derived", derived_secret("first-master", "derived"))
        assert signed_by("/ok/own", "first-own")
        for name in ("master", "own"):
            (tmp_path / "new").write_text(f"second-{name}\n")
            (tmp_path / "new").replace(tmp_path / name)
        second = derived_secret("second-master", "derived")
        until(lambda: signed_by("/ok/derived", second), WITHIN, "the new master signs")
        until(lambda: signed_by("/ok/own", "second-own"), WITHIN, "the new secret signs")
        assert running.stop() == 0
        assert "second-" not in running.said()
