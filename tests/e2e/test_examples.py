"""The example projects, from the event to the receiver's answer, and back to one that asks."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.rig import SECRET, dispatcher, until
from tests.support.brokers import ROOT, Broker
from tests.support.receivers import Receiver

EXAMPLES = ROOT / "examples"


def run(broker: Broker, folder: Path, *words: str) -> str:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("THORN_")}
    environ |= {
        "THORN_KAFKA__BOOTSTRAP_SERVERS": broker.real.bootstrap_servers,
        "THORN_TOPICS": json.dumps([broker.name("in")]),
        "THORN_GROUP": broker.prefix,
        "EXAMPLE_DATABASE": str(folder / "example.sqlite3"),
        "PYTHONPATH": str(ROOT),
    }
    ended = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.timeout(180)  # two processes start, one after the other
@pytest.mark.parametrize(
    ("commands", "printed", "expected"),
    [
        (
            [["plain/shop.py"]],
            "sent article.created",
            [("article.created", None, {"title": "Plain"})],
        ),
        (
            [["plain/told.py"]],
            "a answered 200 to attempt 1",
            [("article.created", None, {"title": "Told"})],
        ),
        (
            [["sqlalchemy/shop.py"]],
            "sent article.created and article.published",
            [
                (
                    "article.created",
                    "https://shop.example/articles/1",
                    {"title": "SQLAlchemy", "state": "DRAFT"},
                ),
                (
                    "article.published",
                    "https://shop.example/articles/1",
                    {"title": "SQLAlchemy", "state": "PUBLISHED"},
                ),
            ],
        ),
        (
            [
                ["django/manage.py", "migrate", "--run-syncdb", "--verbosity", "0"],
                ["django/manage.py", "write", "Django"],
            ],
            "sent article.created, article.changed and article.published",
            [
                ("article.changed", "/articles/", {"title": "Django", "state": "PUBLISHED"}),
                ("article.created", "/articles/", {"title": "Django", "state": "DRAFT"}),
                ("article.published", "/articles/", {"title": "Django", "state": "PUBLISHED"}),
            ],
        ),
    ],
    ids=["plain", "told", "sqlalchemy", "django"],
)
def test_an_example_reaches_the_receiver(
    embedded_broker: Broker,
    receiver: Receiver,
    tmp_path: Path,
    commands: list[list[str]],
    printed: str,
    expected: list[tuple[str, str | None, Any]],
) -> None:
    """Each event it sends is delivered once, as it was sent; nothing that was rolled back."""
    settings = {
        "kafka": embedded_broker.client,
        "group": embedded_broker.prefix,
        "topics": [embedded_broker.name("in")],
        "allowed_networks": ["127.0.0.0/8"],
        "recipient_validators": [["block_internal_ips"], ["ensure_protocol", ["http"]]],
        "event_timeout": 30,
        "subscriber_files": [],
        "subscribers": [
            {"id": "a", "event": "article.*", "url": receiver.url("/ok"), "hmac_secret": SECRET}
        ],
    }
    with dispatcher(tmp_path / "dispatcher", settings) as running:
        running.ready()
        said = ""
        for command, *words in commands:
            said = run(embedded_broker, tmp_path, str(EXAMPLES / command), *words)
        assert printed in said
        until(lambda: receiver.count("/ok") >= len(expected), 40, "all are delivered")
        assert running.stop() == 0
    bodies = sorted((json.loads(one.body) for one in receiver.requests), key=lambda b: b["event"])
    assert [(body["event"], body["data"]) for body in bodies] == [(e, d) for e, _, d in expected]
    for body, (_, ref, _) in zip(bodies, expected, strict=True):
        assert body["ref"] == ref or body["ref"].startswith(ref)
