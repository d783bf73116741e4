"""Which of very many patterns match a name, at a cost that follows the name, not their number.

Patterns are grouped by shape: how long a name they want, and where they have something fixed. For
each shape that exists, the fixed pieces are cut out of the name and looked up in a dictionary.
What is found there and has nothing else to check matches; the rest is tried one by one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from thorn_stream.core.globs import Glob
from thorn_stream.core.patterns import Alternative, PartPattern, Pattern, compile_pattern

__all__ = ["PatternIndex"]

T = TypeVar("T")

_Key: TypeAlias = Any
"""The fixed pieces of a name or a pattern, in the order of their shape; hashable."""


class _Anchor(NamedTuple):
    """One more fixed piece, beside the whole parts.

    `ends`: the part at `position` begins with `before` and ends with `after` certain characters.
    `inside`: it has `before` certain characters somewhere. `anywhere`: a certain part stands at
    no certain position. The numbers are lengths.
    """

    kind: Literal["ends", "inside", "anywhere"]
    position: int = 0
    before: int = 0
    after: int = 0


class _Shape(NamedTuple):
    """`least` parts, or more when `open`; whole parts fixed at `positions` (-1 is the last)."""

    least: int
    open: bool
    positions: tuple[int, ...]
    anchor: _Anchor | None


class _Group:
    """Patterns of one shape, by their fixed pieces.

    `sure` match when these are there; `tried` have more to check. Both hold the numbers of the
    items that want the pattern: a list that is shared with the index and grows there.
    """

    __slots__ = ("_cut", "_shape", "_sure", "_tried")

    def __init__(self, shape: _Shape) -> None:
        self._shape = shape
        self._cut = _cutter(shape.positions)
        self._sure: dict[_Key, list[int]] = {}
        self._tried: dict[_Key, list[tuple[Alternative, list[int]]]] = {}

    def insert(
        self, key: _Key, alternative: Alternative, numbers: list[int], *, sure: bool
    ) -> None:
        # Two spellings of one pattern (`a.*` and `a.*.**`): the second is tried, and matches.
        if sure and self._sure.setdefault(key, numbers) is numbers:
            return
        if key in self._tried:
            self._tried[key].append((alternative, numbers))
        else:
            self._tried[key] = [(alternative, numbers)]

    def key_of(self, parts: Sequence[PartPattern], loose: str | None) -> _Key:
        """The key that a pattern of this shape stands under."""
        fixed = self._cut(parts)
        anchor = self._shape.anchor
        if anchor is None:
            return fixed
        if anchor.kind == "anywhere":
            return fixed, loose
        glob = parts[anchor.position]
        assert isinstance(glob, Glob)
        if anchor.kind == "inside":
            return fixed, glob.longest
        return fixed, glob.prefix, glob.suffix

    def keys(self, parts: Sequence[str]) -> Iterable[_Key]:
        """Every key under which a pattern may stand that matches this name."""
        fixed = self._cut(parts)
        anchor = self._shape.anchor
        if anchor is None:
            return (fixed,)
        if anchor.kind == "anywhere":
            return {(fixed, part) for part in parts}
        part, before = parts[anchor.position], anchor.before
        if anchor.kind == "inside":
            starts = range(len(part) - before + 1)
            return {(fixed, part[start : start + before]) for start in starts}
        return ((fixed, part[:before], part[max(0, len(part) - anchor.after) :]),)

    def collect(self, parts: Sequence[str], found: list[int]) -> None:
        for key in self.keys(parts):
            if key in self._sure:
                found += self._sure[key]
            for alternative, numbers in self._tried.get(key, ()):
                if alternative.matches(parts):
                    found += numbers


class PatternIndex(Generic[T]):
    """Items under the patterns they are wanted for.

    Built once, then asked; adding more later is fine, taking out is not: build another one.
    """

    def __init__(self, pairs: Iterable[tuple[Pattern | str, T]] = ()) -> None:
        self._items: list[T] = []
        self._number_of: dict[int, int] = {}
        self._wild: dict[str, list[int]] = {}
        self._plain: dict[str, list[int]] = {}
        self._closed: dict[int, dict[_Shape, _Group]] = {}
        self._open: dict[_Shape, _Group] = {}
        for pattern, item in pairs:
            self.add(pattern, item)

    def add(self, pattern: Pattern | str, item: T) -> None:
        """Put an item (it is known by identity) under one more pattern.

        A text is compiled: `InvalidPattern` as there.
        """
        text = pattern if isinstance(pattern, str) else pattern.text
        numbers = self._wild.get(text) or self._plain.get(text)
        if numbers is None:
            compiled = compile_pattern(pattern) if isinstance(pattern, str) else pattern
            self._insert(compiled, [self._number(item)])
        else:
            numbers.append(self._number(item))

    def _number(self, item: T) -> int:
        number = self._number_of.setdefault(id(item), len(self._items))
        if number == len(self._items):
            self._items.append(item)
        return number

    def lookup(self, name: str) -> tuple[T, ...]:
        """Items of all patterns that match, each once, in the order they were first added."""
        parts = name.split(".")
        found = list(self._plain.get(name, ()))
        closed = self._closed.get(len(parts))
        if closed is not None:
            for group in closed.values():
                group.collect(parts, found)
        for shape, group in self._open.items():
            if shape.least <= len(parts):
                group.collect(parts, found)
        items = self._items
        if len(found) == 1:
            return (items[found[0]],)
        return tuple([items[number] for number in sorted(set(found))])

    def _insert(self, pattern: Pattern, numbers: list[int]) -> None:
        if pattern.plain:
            self._plain[pattern.text] = numbers
            return
        self._wild[pattern.text] = numbers
        for alternative in pattern.alternatives:
            self._group(alternative, numbers)

    def _group(self, alternative: Alternative, numbers: list[int]) -> None:
        runs = alternative.runs
        shape, loose, sure = _shape(alternative)
        groups = self._open if shape.open else self._closed.setdefault(shape.least, {})
        group = groups.get(shape)
        if group is None:
            group = groups[shape] = _Group(shape)
        key = group.key_of([part for run in runs for part in run], loose)
        group.insert(key, alternative, numbers, sure=sure)


_NOTHING: Final = ()


def _cutter(positions: tuple[int, ...]) -> Callable[[Sequence[Any]], _Key]:
    return itemgetter(*positions) if positions else lambda _parts: _NOTHING


def _anchored(runs: Sequence[Sequence[PartPattern]]) -> Iterator[tuple[int, PartPattern]]:
    """Parts at a certain position: of the first run, and of the last one, from its end."""
    yield from enumerate(runs[0])
    if len(runs) > 1:
        yield from ((at - len(runs[-1]), part) for at, part in enumerate(runs[-1]))


def _shape(alternative: Alternative) -> tuple[_Shape, str | None, bool]:
    """Its shape; the part that stands anywhere, if that is what it is found by; is it sure."""
    runs = alternative.runs
    anchored = list(_anchored(runs))
    positions = tuple(at for at, part in anchored if isinstance(part, str))
    globs = [(at, part) for at, part in anchored if isinstance(part, Glob)]
    loose = next((part for run in runs[1:-1] for part in run if isinstance(part, str)), None)
    anchor = _best(globs)
    if anchor is None and not positions and loose is not None:
        anchor = _Anchor("anywhere")
    else:
        loose = None
    # A `*` in the middle only counts parts, and `least` has counted it.
    sure = not globs and all(part is None for run in runs[1:-1] for part in run)
    shape = _Shape(alternative.least, len(runs) > 1, positions, anchor)
    return shape, loose, sure


def _best(globs: Sequence[tuple[int, Glob]]) -> _Anchor | None:
    """The glob with most fixed characters where an index can look for them."""
    best: _Anchor | None = None
    most = 0
    for position, glob in globs:
        ends = len(glob.prefix) + len(glob.suffix)
        if ends > most:
            most = ends
            best = _Anchor("ends", position, len(glob.prefix), len(glob.suffix))
        if len(glob.longest) > most:
            most = len(glob.longest)
            best = _Anchor("inside", position, most)
    return best
