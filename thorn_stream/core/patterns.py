"""Glob patterns over event names, matched part by part.

    order.created      exactly this name
    order.*            a final `*`: one or more parts (order.created, order.item.added)
    *.created          any other `*`: one part
    order.**.failed    `**`: any number of parts, none included
    order.{paid,void}  alternatives
    ord?r.[ab]*        `?`, `[ab]`, `[!a]` and `*` within a part, as in `fnmatch`
    *                  every name

Case matters. A character that means something stands for itself in brackets: `[*]`. Nothing is
compiled to a regular expression: parts between two `**`, as characters between two stars, are
taken where they first fit, so no name and no pattern makes matching slow.
"""

import re
from collections.abc import Sequence
from itertools import product
from typing import Final, TypeAlias

from thorn_stream.core.errors import InvalidPattern
from thorn_stream.core.globs import Glob, ranges

__all__ = [
    "ALTERNATIVES",
    "LONGEST",
    "WILDCARDS",
    "Alternative",
    "PartPattern",
    "Pattern",
    "compile_pattern",
]

LONGEST: Final = 255
"""Characters in a pattern."""
WILDCARDS: Final = 8
"""Wildcards (`*`, `?`, `[...]`) in a part."""
ALTERNATIVES: Final = 64
"""Alternatives of one pattern, once all its braces are multiplied out."""

_IMPOSSIBLE: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")
_SPECIAL: Final = re.compile(r"[*?\[\]{}]")

PartPattern: TypeAlias = str | Glob | None
"""A part as it stands, one with wildcards inside, or any part."""


class Alternative:
    """A pattern without braces: runs of parts with any number of parts between two runs.

    With one run a name has exactly its parts; with more, the first run stands at the beginning
    and the last one at the end of the name. `least` is how many parts a name needs.
    """

    __slots__ = ("least", "runs")

    def __init__(self, runs: tuple[tuple[PartPattern, ...], ...]) -> None:
        self.runs = runs
        self.least = sum(map(len, runs))

    def matches(self, parts: Sequence[str]) -> bool:
        runs = self.runs
        first = runs[0]
        if len(runs) == 1:
            return len(parts) == self.least and _run_fits(first, parts, 0)
        if len(parts) < self.least:
            return False
        last = runs[-1]
        at, end = len(first), len(parts) - len(last)
        if not (_run_fits(first, parts, 0) and _run_fits(last, parts, end)):
            return False
        for run in runs[1:-1]:
            latest = end - len(run)
            while at <= latest and not _run_fits(run, parts, at):
                at += 1
            if at > latest:
                return False
            at += len(run)
        return True


class Pattern:
    """A pattern that has been checked, ready to match names."""

    __slots__ = ("alternatives", "text")

    def __init__(self, text: str, alternatives: tuple[Alternative, ...]) -> None:
        self.text = text
        self.alternatives = alternatives

    def matches(self, name: str) -> bool:
        """Whether an event of this name is meant; `name` is one that `invalid_name` lets pass."""
        parts = name.split(".")
        return any(alternative.matches(parts) for alternative in self.alternatives)

    @property
    def plain(self) -> bool:
        """Without any wildcard: it matches the one name that it spells."""
        return _SPECIAL.search(self.text) is None

    def __repr__(self) -> str:
        return f"compile_pattern({self.text!r})"


def compile_pattern(text: str) -> Pattern:
    """Check a pattern and make it ready; raises `InvalidPattern` saying where it is wrong."""
    if not text:
        raise InvalidPattern("the pattern is empty: `*` matches every event")
    if len(text) > LONGEST:
        raise _bad(text, f"it has {len(text)} characters, {LONGEST} are allowed")
    found = _IMPOSSIBLE.search(text)
    if found:
        raise _bad(text, "white space and control characters are in no event name", found.start())
    if _SPECIAL.search(text) is None:
        parts = text.split(".")
        if "" in parts:
            raise _bad(text, "a part is empty")
        return Pattern(text, (Alternative((tuple(parts),)),))
    symbols = _symbols(text)
    if "{" not in symbols and "}" not in symbols:
        return Pattern(text, (_alternative(text, symbols),))
    expanded = _expand(text, symbols)
    return Pattern(text, tuple(_alternative(text, one) for one in expanded))


def _bad(text: str, reason: str, at: int | None = None) -> InvalidPattern:
    shown = text if len(text) <= 80 else text[:77] + "..."
    place = "" if at is None else f" at character {at + 1}"
    return InvalidPattern(f"pattern {shown!r}{place}: {reason}")


# --- reading -----------------------------------------------------------------------------------


def _symbols(text: str) -> list[str]:
    """Single characters, with each `[...]` in one piece."""
    symbols: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == "[":
            end = _class_end(text, at)
            symbols.append(text[at:end])
            at = end
        else:
            symbols.append(text[at])
            at += 1
    return symbols


def _class_end(text: str, at: int) -> int:
    """Where the class that begins here is over; as in `fnmatch` a `]` may be its first member."""
    first = at + 2 if text[at + 1 : at + 2] == "!" else at + 1
    end = text.find("]", first + 1)
    if end < 0:
        raise _bad(text, "`[` is never closed; `[[]` means the character itself", at)
    members = text[first:end]
    if "." in members:
        raise _bad(text, "a dot between `[` and `]`: a part never has one", at)
    for low, high in ranges(members):
        if low > high:
            raise _bad(text, f"the range {low}-{high} is the wrong way round", at)
    return end + 1


_Group: TypeAlias = list[list["str | _Group"]]
"""The alternatives between two braces; each a sequence of symbols and further groups."""


def _expand(text: str, symbols: Sequence[str]) -> list[list[str]]:
    """Multiply the braces out."""
    open_groups: list[_Group] = [[[]]]
    for symbol in symbols:
        if symbol == "{":
            open_groups.append([[]])
        elif symbol == "}":
            closed = open_groups.pop()
            if not open_groups:
                raise _bad(text, "`}` without `{`; `[}]` means the character itself")
            open_groups[-1][-1].append(closed)
        elif symbol == "," and len(open_groups) > 1:
            open_groups[-1].append([])
        else:
            open_groups[-1][-1].append(symbol)
    if len(open_groups) > 1:
        raise _bad(text, "`{` is never closed; `[{]` means the character itself")
    count = _count(open_groups[0])
    if count > ALTERNATIVES:
        raise _bad(text, f"its braces make {count} alternatives, {ALTERNATIVES} are allowed")
    return _multiplied(open_groups[0])


def _count(group: _Group) -> int:
    total = 0
    for sequence in group:
        count = 1
        for item in sequence:
            if isinstance(item, list):
                count *= _count(item)
        total += count
    return total


def _multiplied(group: _Group) -> list[list[str]]:
    made: list[list[str]] = []
    for sequence in group:
        choices = [_multiplied(item) if isinstance(item, list) else [[item]] for item in sequence]
        made += [[symbol for piece in one for symbol in piece] for one in product(*choices)]
    return made


def _alternative(text: str, symbols: Sequence[str]) -> Alternative:
    parts: list[list[str]] = [[]]
    for symbol in symbols:
        if symbol == ".":
            parts.append([])
        else:
            parts[-1].append(symbol)
    if parts[-1] == ["*"]:
        parts.append(["*", "*"])
    runs: list[list[PartPattern]] = [[]]
    for part in parts:
        if part == ["*", "*"]:
            runs.append([])
        else:
            runs[-1].append(_part(text, part))
    return Alternative(tuple(map(tuple, runs)))


def _part(text: str, symbols: list[str]) -> PartPattern:
    if not symbols:
        raise _bad(text, "a part is empty")
    wildcards = sum(symbol in "*?" or len(symbol) > 1 for symbol in symbols)
    if wildcards > WILDCARDS:
        raise _bad(text, f"a part has {wildcards} wildcards, {WILDCARDS} are allowed")
    if symbols == ["*"]:
        return None
    return Glob(symbols) if wildcards else "".join(symbols)


# --- matching ----------------------------------------------------------------------------------


def _run_fits(run: Sequence[PartPattern], parts: Sequence[str], at: int) -> bool:
    for index, wanted in enumerate(run, at):
        if wanted is None:
            continue
        if isinstance(wanted, str):
            if wanted != parts[index]:
                return False
        elif not wanted.matches(parts[index]):
            return False
    return True
