"""The chart as the tests see it: its folder, its examples of values, and what Helm makes of it."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final, Self

import yaml

__all__ = ["CHART", "EXAMPLES", "Chart", "Refused", "kinds", "values"]

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "helm" / "thorn-stream"
EXAMPLES: Final = sorted(path.name for path in (CHART / "ci").glob("*-values.yaml"))

Objects = list[dict[str, Any]]


class Refused(Exception):
    """Helm does not take the values; the text is Helm's."""


def values(example: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "ci" / example).read_text())
    return found


def kinds(objects: Objects, kind: str) -> Objects:
    return [one for one in objects if one["kind"] == kind]


class Chart:
    """Helm in a process of its own, asked as often as is wanted."""

    def __init__(self, tools: Path) -> None:
        self._process = subprocess.Popen(
            [tools / "py" / "bin" / "python", Path(__file__).with_name("render.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._rendered: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)

    def _ask(self, what: str, given: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(
            json.dumps({"do": what, "chart": str(CHART), "values": given}),
            file=self._process.stdin,
            flush=True,
        )
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        if "error" in found:
            raise Refused(found["error"])
        return found

    def lint(self, given: dict[str, Any]) -> list[Any]:
        """What `helm lint --strict` finds wrong."""
        found: list[Any] = self._ask("lint", given)["errors"]
        return found

    def files(self, given: dict[str, Any]) -> dict[str, str]:
        """Template's name to what became of it. Raises Refused."""
        key = json.dumps(given, sort_keys=True)
        if key not in self._rendered:
            self._rendered[key] = self._ask("render", given)["files"]
        return self._rendered[key]

    def objects(self, given: dict[str, Any]) -> Objects:
        """All objects, hooks included."""
        return [
            one
            for name, text in self.files(given).items()
            if not name.endswith("NOTES.txt")
            for one in yaml.safe_load_all(text)
            if one
        ]
