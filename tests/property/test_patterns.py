"""Patterns against a matcher that is slow and obviously right."""

import re
from fnmatch import fnmatchcase

from hypothesis import example, given
from hypothesis import strategies as st

from tests.property.strategies import event_names, patterns
from thorn_stream.core.errors import InvalidPattern
from thorn_stream.core.pattern_index import PatternIndex
from thorn_stream.core.patterns import compile_pattern

_BRACES = re.compile(r"\{([^{}]*)\}")


def expanded(pattern: str) -> list[str]:
    """Innermost braces first, one pair at a time."""
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [one for inner in found[1].split(",") for one in expanded(before + inner + after)]


def matches_parts(pattern: list[str], name: list[str]) -> bool:
    if pattern == ["*"]:
        return len(name) >= 1
    if not pattern:
        return not name
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        return any(matches_parts(rest, name[skipped:]) for skipped in range(len(name) + 1))
    return bool(name) and fnmatchcase(name[0], first) and matches_parts(rest, name[1:])


def slowly_matches(pattern: str, name: str) -> bool:
    return any(matches_parts(one.split("."), name.split(".")) for one in expanded(pattern))


@given(patterns(), event_names())
@example("*", "a")
@example("**.a.**.b", "a.a.b.a.b")
@example("{a,a.*}", "a.b")
@example("*a*a", "aa")
@example("ab*ba", "aba")
@example("a.{?a,a?}", "a.ab")
def test_a_pattern_matches_what_a_slow_matcher_says(pattern: str, name: str) -> None:
    """Part by part, as `fnmatch` does, with braces multiplied out and `**` tried everywhere."""
    assert compile_pattern(pattern).matches(name) == slowly_matches(pattern, name)


@given(st.lists(patterns(), max_size=12), st.lists(event_names(), max_size=6))
@example(["a.*", "a.*.**", "a.**.*"], ["a.b"])
@example(["x.{?,[ab]}", "x.?"], ["x.a"])
def test_the_index_equals_a_slow_scan(some: list[str], names: list[str]) -> None:
    """Each item that matches once, in order of insertion, and nothing else."""
    items = [object() for _ in some]
    index = PatternIndex(zip(some, items, strict=True))
    for name in names:
        slow = tuple(
            item for pattern, item in zip(some, items, strict=True) if slowly_matches(pattern, name)
        )
        assert index.lookup(name) == slow


@given(st.lists(st.lists(patterns(), min_size=1, max_size=4), max_size=5), event_names())
def test_an_item_under_several_patterns_is_found_once(groups: list[list[str]], name: str) -> None:
    """However many of its patterns match, and however often each was added."""
    index: PatternIndex[object] = PatternIndex()
    items = [object() for _ in groups]
    for _ in range(2):
        for group, item in zip(groups, items, strict=True):
            for pattern in group:
                index.add(pattern, item)
    slow = tuple(
        item
        for group, item in zip(groups, items, strict=True)
        if any(slowly_matches(pattern, name) for pattern in group)
    )
    assert index.lookup(name) == slow


@given(st.text("ab.*?[]!-{},é \n", max_size=40))
def test_any_text_is_a_pattern_or_refused_with_a_reason(text: str) -> None:
    """Nothing but `InvalidPattern` comes out, in one line."""
    why = refusal(text)
    assert why is None or len(why.splitlines()) == 1


def refusal(text: str) -> str | None:
    try:
        compile_pattern(text).matches("a.b")
    except InvalidPattern as error:
        return str(error)
    return None
