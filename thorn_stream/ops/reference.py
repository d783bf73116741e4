"""The reference pages, made from the code: `python -m thorn_stream.ops.reference [--check] DIR`.

What a page says of the code stands in the code once, so the two cannot come apart: `--check`
compares, writes nothing, and names the pages that differ.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from thorn_stream.adapters.metrics.table import METRICS, Metric
from thorn_stream.app import NOT_THERE
from thorn_stream.config.environment import variable_name
from thorn_stream.config.kafka import REFUSED
from thorn_stream.config.settings import Settings, wait_text
from thorn_stream.config.show import schema
from thorn_stream.core.addresses import GLOBAL_UNICAST, REFUSED_NETWORKS
from thorn_stream.core.schedule import VERDICTS, RetryPolicy, Tiers

__all__ = ["NO_EFFECT", "differing", "main", "pages", "write"]

_MADE: Final = "<!-- Made from the code by `make docs`. Change it there. -->"
_WRONG_USE: Final = 2

NO_EFFECT: Final = frozenset(
    {
        "api.host",
        "api.port",
        "api.tokens",
        "subscribers_topic",
    }
)
"""Settings that are checked, and that nothing in this version goes by."""


class _Row(NamedTuple):
    """One setting as the page shows it."""

    path: tuple[str, ...]
    told: Mapping[str, Any]

    @property
    def name(self) -> str:
        return ".".join(self.path)


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or compare them with `--check`; returns the exit status."""
    wanted = [each for each in arguments if each != "--check"]
    if len(wanted) != 1 or wanted[0].startswith("-"):
        print("usage: python -m thorn_stream.ops.reference [--check] DIR", file=sys.stderr)  # noqa: T201 - a program
        return _WRONG_USE
    directory = Path(wanted[0])
    if "--check" not in arguments:
        write(directory)
        return 0
    wrong = differing(directory)
    for name in wrong:
        print(f"{directory / name} differs from the code: run `make docs`", file=sys.stderr)  # noqa: T201 - a program
    return 1 if wrong else 0


def write(directory: Path) -> None:
    """Make the pages in `directory`; pages written by hand beside them are left alone."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (directory / name).write_text(text, encoding="utf-8")


def differing(directory: Path) -> list[str]:
    """Names of the pages that are missing, or that say something else than the code."""
    return [
        name
        for name, text in pages().items()
        if not (directory / name).is_file()
        or (directory / name).read_text(encoding="utf-8") != text
    ]


def pages() -> dict[str, str]:
    """Name of each page to its text."""
    made = {
        "settings.md": _settings(),
        "metrics.md": _metrics(),
        "verdicts.md": _verdicts(),
        "addresses.md": _addresses(),
    }
    return {name: "\n".join([_MADE, "", *lines, ""]) for name, lines in made.items()}


# --- settings ----------------------------------------------------------------------------------


def _settings() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield (
        "One YAML file (`config/thorn.yaml`, or `--config FILE`); the environment beats the file, "
        "the file the default. A variable holds the text itself, JSON where the type is a list or "
        "a map. Times are in seconds, sizes in bytes. `thorn-stream config show` prints what is in "
        "force, `config check` names every mistake, `config schema` prints a JSON Schema."
    )
    yield ""
    yield "¹ not available in this version: a value that asks for it is refused at start."
    yield ""
    yield "² checked, and without effect in this version (a topic's name is kept out of the input)."
    yield ""
    rows = ([_name(row), _type(row), _default(row), _variable(row), _told(row)] for row in _rows())
    yield from _table(("Setting", "Type", "Default", "Environment", "Meaning"), rows)
    yield ""
    yield "## Keys refused under `kafka:`"
    yield ""
    yield "Every other key of librdkafka's CONFIGURATION.md is passed on as it is."
    yield ""
    refused = ([f"`{key}`", reason] for key, reason in REFUSED.items())
    yield from _table(("Key", "Why"), refused)


def _rows() -> Iterator[_Row]:
    made = schema()
    for name, told in made["properties"].items():
        inner = made["$defs"].get(str(told.get("$ref", "")).rpartition("/")[2])
        if inner is None:
            yield _Row((name,), told)
        else:
            yield from (_Row((name, key), value) for key, value in inner["properties"].items())


def _name(row: _Row) -> str:
    mark = "¹" if row.name in NOT_THERE else "²" if row.name in NO_EFFECT else ""
    return f"`{row.name}`{mark}"


def _default(row: _Row) -> str:
    if row.name == "kafka":
        return "`{bootstrap.servers: localhost:9092}`"
    value = row.told["default"]
    return f"`{json.dumps(value)}`"


def _variable(row: _Row) -> str:
    name = variable_name(row.path)
    return f"`{name}__<KEY>`" if row.name == "kafka" else f"`{name}`"


def _told(row: _Row) -> str:
    return str(row.told["description"])


def _type(row: _Row) -> str:
    kinds: list[Mapping[str, Any]] = row.told.get("anyOf", [row.told])
    return " or ".join(_kind(kind) for kind in kinds)


def _kind(told: Mapping[str, Any]) -> str:
    if "enum" in told:
        return " or ".join(f"`{value}`" for value in told["enum"])
    if told.get("format") == "password":
        return "secret"
    name = str(told["type"])
    if name != "array":
        return _WORDS[name] + _bounds(told)
    inner = told.get("items", {})
    if inner.get("type") in {"string", "integer", "number"}:
        return f"list of {_WORDS[inner['type']]}s{_bounds(inner)}"
    return "list"


_WORDS: Final = {
    "boolean": "true or false",
    "integer": "whole number",
    "null": "null",
    "number": "number",
    "object": "map",
    "string": "text",
}


def _bounds(told: Mapping[str, Any]) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to"}
    found = [f"{word} {told[key]:,.10g}" for key, word in words.items() if key in told]
    return f" {' '.join(found)}" if found else ""


# --- metrics -----------------------------------------------------------------------------------


def _metrics() -> Iterator[str]:
    yield "# Metrics"
    yield ""
    yield (
        "At `/metrics`, in Prometheus' text format; beside these, `process_*` and `python_gc_*` "
        "of the client library. What to do about them: [operations](../operations.md). Labels "
        "by subscriber are bounded by `metrics_subscriber_limit`, the rest is summed under `other`."
    )
    yield ""
    rows = (
        [f"`{one.name}`", one.kind, ", ".join(f"`{each}`" for each in one.labels), _meaning(one)]
        for one in METRICS
    )
    yield from _table(("Metric", "Kind", "Labels", "Meaning"), rows)
    yield ""
    yield "Upper bounds of the histograms' buckets, in seconds:"
    yield ""
    for one in METRICS:
        if one.buckets:
            yield f"- `{one.name}`: {', '.join(f'{bound:g}' for bound in one.buckets)}"


def _meaning(one: Metric) -> str:
    if not one.values:
        return one.help
    begins = (each if isinstance(each, str) else " ".join(each) for each in one.values)
    return f"{one.help} At zero from the start: {', '.join(f'`{each}`' for each in begins)}."


# --- verdicts and tiers ------------------------------------------------------------------------

_DELAYS: Final = (1, 5, 10, 60, 90, 600, 3600, 7200, 18_000)


def _verdicts() -> Iterator[str]:
    settings = Settings.model_construct()
    waits: tuple[float, ...] = settings.retry_tiers
    tiers = Tiers(waits)
    yield "# What becomes of an attempt"
    yield ""
    yield "The first row that fits, from the top; `dead` means a record in the dead-letter topic."
    yield ""
    yield from _table(("Answer", "Settlement"), ([answer, then] for answer, then in VERDICTS))
    yield ""
    yield "## Delays"
    yield ""
    yield (
        "The delay before retry n is `retry_delay * retry_backoff ** (n - 1)`, at most "
        "`retry_delay_max`, or the n-th wait of `retry_schedule`. A share of up to `retry_jitter` "
        "is taken away at random; a `Retry-After` that is later counts instead, whole, at most "
        "`retry_after_max`."
    )
    yield ""
    default = RetryPolicy()
    waits_by_default = ", ".join(f"{default.wait(n):g} s" for n in range(1, default.retries + 1))
    yield f"By default: {default.retries + 1} attempts, after waits of {waits_by_default}."
    yield ""
    yield "## Tiers"
    yield ""
    yield (
        "A tier is a topic with a fixed wait. A delay is waited in the smallest one that covers it "
        "before jitter; one beyond the last takes several rounds there. The record is held until "
        "it is due, and never tried before. With the default tiers "
        f"({', '.join(wait_text(wait) for wait in waits)}):"
    )
    yield ""
    rows = (
        [f"{delay} s", f"`thorn.retry.{wait_text(tiers.covering(delay))}`"] for delay in _DELAYS
    )
    yield from _table(("Delay", "Topic"), rows)


# --- addresses ---------------------------------------------------------------------------------


def _addresses() -> Iterator[str]:
    yield "# Addresses that are refused"
    yield ""
    yield (
        "By `block_internal_ips`, which is on by default: at every connect, for every address that "
        "the resolver gives. The first row that holds names the refusal. `allowed_networks` lets "
        "single networks through."
    )
    yield ""
    rows = ([f"`{row.network}`", row.name, row.source] for row in REFUSED_NETWORKS)
    yield from _table(("Network", "What it is", "Source"), rows)
    yield ""
    yield (
        f"Refused as well: every IPv6 address outside {GLOBAL_UNICAST} (not global unicast), every "
        "IPv6 address with a scope id, and an IPv6 address that carries a refused IPv4 address: "
        "IPv4-mapped and IPv4-compatible (RFC 4291), 6to4 (RFC 3056), Teredo (RFC 4380), NAT64 "
        "(RFC 6052) and local NAT64 (RFC 8215)."
    )


# --- what all pages share ----------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _line(head)
    yield _line(["---"] * len(head))
    for row in rows:
        yield _line([cell.replace("|", "\\|") for cell in row])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
