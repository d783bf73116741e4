"""The pages in docs/ say what the code says."""

import re
from pathlib import Path
from typing import Any

import pytest

import thorn_stream
from thorn_stream.adapters.metrics.table import METRICS
from thorn_stream.app import NOT_THERE
from thorn_stream.config.kafka import REFUSED
from thorn_stream.config.settings import Settings
from thorn_stream.core.addresses import REFUSED_NETWORKS
from thorn_stream.core.deliveries import Delivery, Kind, Reason
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.handover import dead_letter_headers, held, undecodable_headers
from thorn_stream.core.ledger import Ledger, Tally
from thorn_stream.core.records import Partition, Record
from thorn_stream.core.request import RequestFactory
from thorn_stream.core.schedule import VERDICTS
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.ops import reference

DOCS = Path(__file__).parents[2] / "docs"
PACKAGE = Path(thorn_stream.__file__).parent
MADE = reference.pages()


def rows(text: str) -> dict[str, list[str]]:
    """The rows of a page's tables by their first cell, without its code marks."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `"):
            found[cells[0].split("`")[1]] = cells
    return found


def test_the_pages_in_the_repository_are_those_of_the_code() -> None:
    """Whoever changes a setting, a metric or a rule runs `make docs`."""
    assert reference.differing(DOCS / "reference") == []


def test_every_setting_has_a_row_with_its_variable() -> None:
    """Name and variable of each, and of those inside a section."""
    found = rows(MADE["settings.md"])
    for name, field in Settings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        for path in [(name,)] if inner is None else [(name, key) for key in inner]:
            row = found[".".join(path)]
            variable = "THORN_" + "__".join(path).upper()
            assert row[3].startswith(f"`{variable}")
            assert len(row[4]) > 20


@pytest.mark.parametrize(
    ("name", "kind", "default"),
    [
        ("group", "text", '`"thorn"`'),
        ("window", "whole number from 1 to 200,000", "`100000`"),
        ("event_timeout", "number above 0", "`3`"),
        ("max_event_age", "number above 0 or null", "`null`"),
        ("start", "`earliest` or `latest`", '`"earliest"`'),
        ("retry", "true or false", "`true`"),
        ("retry_tiers", "list of numbers above 0 to 2,592,000", "`[5, 15, 60, 300, 1800, 7200]`"),
        ("hmac_secret", "secret or null", "`null`"),
        ("circuit.open_for", "number above 0", "`5`"),
    ],
)
def test_types_and_defaults_are_told_in_words(name: str, kind: str, default: str) -> None:
    """Each kind of setting reads as its owner would say it."""
    assert rows(MADE["settings.md"])[name][1:3] == [kind, default]


def test_what_is_not_there_is_marked() -> None:
    """A setting that is refused, or without effect, must not read like a promise."""
    text = MADE["settings.md"]
    for name in NOT_THERE:
        assert f"`{name}`¹" in text
    for name in reference.NO_EFFECT:
        assert f"`{name}`²" in text
    assert not reference.NO_EFFECT & NOT_THERE.keys()


@pytest.mark.parametrize("name", sorted(reference.NO_EFFECT))
def test_a_setting_without_effect_is_read_nowhere(name: str) -> None:
    """Who gives it an effect takes its mark away."""
    read = re.compile(rf"settings\.{re.escape(name)}\b")
    for file in PACKAGE.rglob("*.py"):
        if file.parent.name != "config":
            assert not read.search(file.read_text(encoding="utf-8")), file


def test_tables_of_the_code_are_there_whole() -> None:
    """Every metric, verdict, refused network and refused key."""
    assert set(rows(MADE["metrics.md"])) == {metric.name for metric in METRICS}
    assert set(rows(MADE["addresses.md"])) == {str(row.network) for row in REFUSED_NETWORKS}
    assert rows(MADE["settings.md"]).keys() >= REFUSED.keys()
    for answer, then in VERDICTS:
        assert f"| {answer} | {then} |" in MADE["verdicts.md"]
    assert "| 90 s | `thorn.retry.300s` |" in MADE["verdicts.md"]
    assert "4 attempts, after waits of 60 s, 60 s, 60 s" in MADE["verdicts.md"]


def test_check_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0 after writing, 1 with the page's name after a change; nothing is mended."""
    arguments = ["--check", str(tmp_path)]
    assert reference.main([str(tmp_path)]) == 0
    assert reference.main(arguments) == 0
    (tmp_path / "metrics.md").write_text("old")
    (tmp_path / "verdicts.md").unlink()
    assert reference.main(arguments) == 1
    told = capsys.readouterr().err.splitlines()
    assert [line.split(" differs")[0] for line in told] == [
        str(tmp_path / "metrics.md"),
        str(tmp_path / "verdicts.md"),
    ]
    assert (tmp_path / "metrics.md").read_text() == "old"


@pytest.mark.parametrize("arguments", [[], ["--check"], ["a", "b"], ["--help"]])
def test_wrong_use_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line, status 2, and nothing written."""
    assert reference.main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: ")


# --- pages written by hand ---------------------------------------------------------------------


def _subscriber(**fields: Any) -> Subscriber:
    return Subscriber.model_validate({"id": "a", "event": "*", "url": "https://a.example"} | fields)


def test_the_page_of_headers_is_complete() -> None:
    """Exactly the headers that are sent, and those that our records carry."""
    page = (DOCS / "reference" / "headers.md").read_text(encoding="utf-8")
    record = Record("orders", 0, 7, b"key", b'{"event": "order.paid"}', [], 1_000)
    envelope = decode(record)
    assert isinstance(envelope, Envelope)
    factory = RequestFactory(_subscriber(), ["secret"], user_agent="x", source="y")
    head, _ = factory.build(envelope, "d", 1, 1)
    sent = {line.partition(b":")[0].decode() for line in head.splitlines()}

    entry = Ledger(Partition("orders", 0), 7, 10, Tally()).enter(7, 1)
    assert entry is not None
    dead = held(Delivery(envelope, _subscriber(), "d", entry, attempts=1), due=5, now=5)
    dead.unknown_since = 4
    dead.response = b"kept"
    ours = {name for name, _ in dead_letter_headers(dead, Reason.GONE)}
    ours |= {name for name, _ in undecodable_headers(record, "x")}
    assert set(rows(page)) == sent | ours


def test_the_page_for_operators_speaks_of_everything() -> None:
    """Every metric, every dead letter's reason, every outcome and every line of the log."""
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    lines = (PACKAGE / "adapters" / "logs" / "lines.py").read_text(encoding="utf-8")
    told = set(re.findall(r'^    "[a-z-]+": "([a-z -]+)",$', lines, re.MULTILINE))
    told |= set(re.findall(r'_logger\.\w+\(\s*"([a-z ]+)"', lines))
    for file in [PACKAGE / "app.py", *sorted((PACKAGE / "ops").glob("*.py"))]:
        code = file.read_text(encoding="utf-8")
        told |= set(re.findall(r'\b_?log\.\w+\(\s*"([a-z][a-z: ]+)"', code))
    assert len(told) > 18
    for name in [*(metric.name for metric in METRICS), *Reason, *Kind, *told]:
        assert f"`{name}`" in page, name
