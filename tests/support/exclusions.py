"""Counts what is left out of coverage: `python -m tests.support.exclusions`.

Each `pragma: no cover` has its reason behind it (`# pragma: no cover - why`); one without fails.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import thorn_stream

__all__ = ["excluded", "main", "unreasoned"]

_MARK: Final = re.compile(r"#\s*pragma:\s*no (?:cover|branch)(?P<reason>.*)")
_REASON: Final = re.compile(r" - \S.*")
_PACKAGE: Final = Path(thorn_stream.__file__).parent


def excluded(files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Place (`file:line`) of each exclusion, and what stands behind it."""
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if found := _MARK.search(line):
                yield f"{file}:{number}", found["reason"]


def unreasoned(files: Iterable[Path]) -> list[str]:
    """Places of exclusions that give no reason."""
    return [place for place, reason in excluded(files) if not _REASON.fullmatch(reason)]


def main() -> int:
    files = sorted(_PACKAGE.rglob("*.py"))
    print(f"left out of coverage by a mark: {len(list(excluded(files)))} lines")
    wrong = unreasoned(files)
    for place in wrong:
        print(f"{place}: say why: `# pragma: no cover - reason`", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
