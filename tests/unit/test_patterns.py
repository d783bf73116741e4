"""Patterns: the contract's words, one by one, and what is refused."""

import pytest

from thorn_stream.core.errors import InvalidPattern
from thorn_stream.core.pattern_index import PatternIndex
from thorn_stream.core.patterns import ALTERNATIVES, LONGEST, WILDCARDS, compile_pattern


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("user.created", ["user.created"], ["user", "user.Created", "user.created.x"]),
        ("user.*", ["user.created", "user.profile.changed"], ["user", "users.created"]),
        ("*", ["a", "a.b", "a.b.c.d"], []),
        ("**", ["a", "a.b"], []),
        ("*.created", ["user.created"], ["created", "a.b.created"]),
        ("user.*.changed", ["user.x.changed"], ["user.changed", "user.x.y.changed"]),
        ("user.**", ["user", "user.a", "user.a.b"], ["users"]),
        ("user.**.changed", ["user.changed", "user.a.b.changed"], ["user.changed.x"]),
        ("**.x.**.x", ["x.x", "a.x.b.x"], ["x", "a.x", "x.a"]),
        ("**.*", ["a", "a.b"], []),
        ("*.*", ["a.b", "a.b.c"], ["a"]),
        ("ord?r.paid", ["order.paid", "ordxr.paid"], ["ordr.paid", "ordeer.paid"]),
        ("[ab]*.x", ["a.x", "bcd.x"], ["c.x", "A.x"]),
        ("[!a]b", ["xb"], ["ab", "b"]),
        ("[a-c]", ["b"], ["d", "-"]),
        ("[]]", ["]"], ["["]),
        ("[!]]", ["a"], ["]"]),
        ("x[*]y", ["x*y"], ["xzy"]),
        ("x[{,}]", ["x{", "x,", "x}"], ["x"]),
        ("a*b*c", ["abc", "axxbxxc", "abbcbc"], ["abx", "acb", "ab"]),
        ("a*a", ["aa", "aba"], ["a"]),
        ("*ab*", ["ab", "xab", "abx", "xabx"], ["a", "ba"]),
        ("?ab*.x", ["xab.x", "xaby.x"], ["ab.x", "xxab.x"]),
        ("order.{paid,void}", ["order.paid", "order.void"], ["order.open", "order.{paid,void}"]),
        ("{user.created,order.*}", ["user.created", "order.a.b"], ["user.x"]),
        ("order{,s}.paid", ["order.paid", "orders.paid"], ["orderss.paid"]),
        ("{a,b{c,d}}", ["a", "bc", "bd"], ["b", "c"]),
        ("{a}", ["a"], ["{a}"]),
        ("a,b", ["a,b"], ["a", "b"]),
        ("é.*", ["é.x"], ["e.x"]),
    ],
)
def test_what_a_pattern_matches(pattern: str, matching: list[str], others: list[str]) -> None:
    """Part by part; the index says the same as the pattern alone."""
    compiled = compile_pattern(pattern)
    index = PatternIndex([(pattern, "here")])
    for name in matching:
        assert compiled.matches(name), name
        assert index.lookup(name) == ("here",), name
    for name in others:
        assert not compiled.matches(name), name
        assert index.lookup(name) == (), name


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "the pattern is empty"),
        ("a..b", "a part is empty"),
        (".a", "a part is empty"),
        ("a.*.", "a part is empty"),
        ("{,a}.b", "a part is empty"),
        ("a b", "at character 2: white space"),
        ("a\nb", "white space and control characters"),
        ("a\x7f", "white space and control characters"),
        ("x.[ab", "at character 3: `[` is never closed"),
        ("[", "`[` is never closed"),
        ("[]", "`[` is never closed"),
        ("[a.b]", "a dot between"),
        ("[z-a]", "the range z-a is the wrong way round"),
        ("{a,b", "`{` is never closed"),
        ("a}", "`}` without `{`"),
        ("x" * (LONGEST + 1), f"it has {LONGEST + 1} characters, {LONGEST} are allowed"),
        ("*a" * WILDCARDS + "?", f"a part has {WILDCARDS + 1} wildcards"),
        ("{a,b}" * 7, f"its braces make 128 alternatives, {ALTERNATIVES} are allowed"),
        ("{a,b}" * 50, "its braces make 1125899906842624 alternatives"),
    ],
)
def test_a_bad_pattern_is_refused_with_place_and_reason(pattern: str, reason: str) -> None:
    """In one line that names the pattern (its beginning, when it is long)."""
    with pytest.raises(InvalidPattern) as refused:
        compile_pattern(pattern)
    text = str(refused.value)
    assert reason in text
    assert len(text.splitlines()) == 1
    assert len(text) < 250


def test_the_limits_themselves_are_allowed() -> None:
    """255 characters, 8 wildcards in a part, 64 alternatives."""
    assert compile_pattern("x" * LONGEST).matches("x" * LONGEST)
    assert compile_pattern("*a" * WILDCARDS).matches("a" * WILDCARDS)
    assert compile_pattern("{a,b}" * 6).matches("abbaab")


def test_hostile_patterns_and_names_take_few_steps() -> None:
    """What makes a backtracking matcher run for hours is over before the test's time limit."""
    pattern = compile_pattern("*a" * 7 + "*b." + "**.x." * 40 + "y")
    name = ".".join(["a" * 60, *["x"] * 90])
    assert not any(pattern.matches(name) for _ in range(200))


def test_items_come_once_in_order_of_insertion() -> None:
    """However many patterns of an item match."""
    index: PatternIndex[str] = PatternIndex()
    second, first = "second", "first"
    index.add("*.b", first)
    index.add("a.*", second)
    index.add("a.b", first)
    index.add(compile_pattern("{a,x}.{b,*}"), first)
    assert index.lookup("a.b") == (first, second)


def test_a_name_that_looks_like_a_pattern_is_no_pattern() -> None:
    """Brackets and stars may stand in names, and mean nothing there."""
    index = PatternIndex([("[ab]", 1), ("x.[*]", 2)])
    assert index.lookup("[ab]") == ()
    assert index.lookup("x.*") == (2,)


def test_a_refused_pattern_leaves_the_index_as_it_was() -> None:
    """Adding goes on with the next."""
    index: PatternIndex[str] = PatternIndex()
    with pytest.raises(InvalidPattern):
        index.add("a..b", "bad")
    index.add("*", "good")
    assert index.lookup("a") == ("good",)
