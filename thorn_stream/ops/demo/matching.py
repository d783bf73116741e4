"""Which event goes to whom, by the rules for patterns and nothing else.

Written without a look at how the dispatcher matches, slow and plain on purpose: the demo checks
the dispatcher against it.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

__all__ = ["matches"]


@lru_cache(maxsize=1024)
def matches(pattern: str, name: str) -> bool:
    """Whether an event of this name is matched by this pattern (which must be a valid one)."""
    parts = name.split(".")
    return any(_parts_match(one.split("."), parts) for one in _alternatives(pattern))


def _alternatives(pattern: str) -> list[str]:
    """Write `{a,b}` out: one pattern without braces for each combination."""
    opening = pattern.find("{")
    if opening < 0:
        return [pattern]
    closing = _closing(pattern, opening)
    before, inside, after = (
        pattern[:opening],
        pattern[opening + 1 : closing],
        pattern[closing + 1 :],
    )
    return [
        before + middle + rest
        for choice in _choices(inside)
        for middle in _alternatives(choice)
        for rest in _alternatives(after)
    ]


def _closing(pattern: str, opening: int) -> int:
    depth = 0
    for index in range(opening, len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[index], 0)
        if depth == 0:
            return index
    raise ValueError(f"{pattern!r} has no closing brace")


def _choices(inside: str) -> list[str]:
    """Split at the commas that stand in no further braces."""
    choices, depth = [""], 0
    for character in inside:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            choices.append("")
        else:
            choices[-1] += character
    return choices


def _parts_match(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    first, rest = pattern[0], pattern[1:]
    if first == "**":  # any number of parts, none included
        return any(_parts_match(rest, parts[taken:]) for taken in range(len(parts) + 1))
    if not parts:
        return False
    if first == "*" and not rest:  # a final star takes all that is left, at least one
        return True
    return fnmatchcase(parts[0], first) and _parts_match(rest, parts[1:])
