"""Q: conditions on the attributes of an object, or on the entries of a mapping.

A condition is a path and an operator: `data__state__eq="PUBLISHED"`, or `data.state__eq`. Its
operators are Thorn's:

    eq ne gt gte lt lte      compared; `eq=True` means anything true, `eq=False` anything not
    is is_not                the same object; among JSON values: the same type and equal
    contains                 the value contains this
    in not_in                the value is, or is not, one of these
    startswith endswith      of a text
    true not                 the value is true, or is not; what it is compared with has no meaning
    now_*                    the same holds now and did not before: model instances only

Of those that compare, `now_` asks of the value before, as Thorn's own: not equal (now_eq, and
now_ne), on the other side (now_gt: less; now_gte: less or equal; now_lt and now_lte likewise).

Over mappings (events), what is missing counts as null, and values that cannot be compared (a text
with a number) do not match: a filter says no, it never fails. Over attributes both raise, as
Python does; a path may go on into a mapping there (`settings__colour__eq` of a JSON field).

Django's own Q objects are taken where one of ours is, as long as each of their conditions has an
operator of this list.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

__all__ = ["OPERATORS", "Condition", "Q", "subscriber_filter"]

Operator: TypeAlias = Callable[[Any, Any], object]


def _same(value: Any, wanted: Any) -> bool:
    """What `is` can mean for values that were parsed: 1 is not true, and not 1.0."""
    return type(value) is type(wanted) and bool(value == wanted)


OPERATORS: Final[Mapping[str, Operator]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "is": operator.is_,
    "is_not": operator.is_not,
    "contains": operator.contains,
    "in": lambda value, wanted: value in wanted,
    "not_in": lambda value, wanted: value not in wanted,
    "not": lambda value, _wanted: not value,
    "true": lambda value, _wanted: bool(value),
    "startswith": lambda value, wanted: value.startswith(wanted),
    "endswith": lambda value, wanted: value.endswith(wanted),
}
"""By name; each is asked with the value found and the one it is compared with."""

_PARSED: Final[Mapping[str, Operator]] = {
    **OPERATORS,
    "is": _same,
    "is_not": lambda value, wanted: not _same(value, wanted),
}
_BEFORE: Final[Mapping[str, Operator]] = {
    "eq": operator.ne,
    "ne": operator.ne,
    "gt": operator.lt,
    "gte": operator.le,
    "lt": operator.gt,
    "lte": operator.ge,
    "is": operator.is_not,
    "is_not": operator.is_,
    "contains": lambda value, wanted: wanted not in value,
    "in": OPERATORS["not_in"],
    "not_in": OPERATORS["in"],
    "not": OPERATORS["true"],
    "true": OPERATORS["not"],
    "startswith": lambda value, wanted: not value.startswith(wanted),
    "endswith": lambda value, wanted: not value.endswith(wanted),
}
"""What must have held of the version before, for `now_` and the operator of this name to hold."""
_NOW: Final = "now_"


class Condition(NamedTuple):
    """One path, operator and value; `transition`: it must not have held before."""

    path: tuple[str, ...]
    operator: str
    wanted: Any
    transition: bool = False

    def holds_for(self, instance: object) -> bool:
        """Over attributes; before: those of `instance._previous_version`, None without one.

        Raises `AttributeError` for a path that leads nowhere, `TypeError` for what cannot be
        compared; both name the condition.
        """
        if not self._holds(instance):
            return False
        if not self.transition:
            return True
        previous = getattr(instance, "_previous_version", None)
        if previous is None:
            return True
        return self._holds(previous, _BEFORE)

    def _holds(self, instance: object, operators: Mapping[str, Operator] = OPERATORS) -> bool:
        try:
            return bool(operators[self.operator](self._found(instance), self.wanted))
        except TypeError as error:
            raise TypeError(f"{self}: {error}") from None

    def _found(self, instance: object) -> Any:
        found: Any = instance
        for step in self.path:
            if isinstance(found, Mapping) and step in found:
                found = found[step]
                continue
            try:
                found = getattr(found, step)
            except AttributeError as error:
                if found is not instance and found is None:
                    why = f"there is None before {step!r}"
                else:
                    why = f"{type(found).__name__} has no {step!r}"
                raise AttributeError(
                    f"{self}: {why}; write the path as it is read from the instance"
                ) from error
        return found

    def __str__(self) -> str:
        now = _NOW if self.transition else ""
        return f"{'__'.join(self.path)}__{now}{self.operator}"

    def holds_in(self, mapping: Mapping[str, Any]) -> bool:
        """Over entries; never raises."""
        try:
            return bool(_PARSED[self.operator](_entry(mapping, self.path), self.wanted))
        except (TypeError, AttributeError):
            return False


class _Tree(Protocol):
    """What Django's Q objects have in common with each other."""

    children: Sequence[Any]
    connector: str
    negated: bool


class Q:
    """Conditions that must all hold; combined with `&`, `|`, `~`.

    Takes further Qs (Django's, too), and conditions as keywords. Called with an object it tells
    whether it matches; `matches` does the same for a mapping. Raises `ValueError` for a condition
    without an operator: `Q(last_name="jerry")` has to be `Q(last_name__eq="jerry")`.
    """

    __slots__ = ("_any", "_negated", "_parts")

    def __init__(self, *parts: "Q | _Tree", **conditions: Any) -> None:
        made = (_condition(key, wanted) for key, wanted in conditions.items())
        self._parts: tuple[Q | Condition, ...] = (*map(Q._of, parts), *made)
        self._any = False
        self._negated = False

    def __call__(self, instance: object) -> bool:
        return self._combined(
            part(instance) if isinstance(part, Q) else part.holds_for(instance)
            for part in self._parts
        )

    def matches(self, mapping: Mapping[str, Any]) -> bool:
        return self._combined(
            part.matches(mapping) if isinstance(part, Q) else part.holds_in(mapping)
            for part in self._parts
        )

    @property
    def transitional(self) -> bool:
        """Whether a `now_` operator is in it: the version before has to be known."""
        return any(
            part.transitional if isinstance(part, Q) else part.transition for part in self._parts
        )

    def __and__(self, other: "Q | _Tree") -> "Q":
        return Q(self, other)

    def __or__(self, other: "Q | _Tree") -> "Q":
        either = Q(self, other)
        either._any = True
        return either

    def __invert__(self) -> "Q":
        opposite = Q(self)
        opposite._negated = True
        return opposite

    @classmethod
    def _of(cls, part: "Q | _Tree") -> "Q":
        """Ours as it is, Django's made into one; ValueError for anything else."""
        if isinstance(part, Q):
            return part
        try:
            children, either, negated = part.children, part.connector == "OR", part.negated
        except AttributeError:
            raise ValueError(
                f"{type(part).__name__} is no Q: combine Q(...) objects, or give conditions as "
                "keywords, as in state__eq='PUBLISHED'"
            ) from None
        made = cls(*(cls(**dict([one])) if isinstance(one, tuple) else one for one in children))
        made._any, made._negated = either, bool(negated)
        return made

    def __repr__(self) -> str:
        joined = (" | " if self._any else " & ").join(map(repr, self._parts))
        return f"~({joined})" if self._negated else f"({joined})"

    def _combined(self, answers: Any) -> bool:
        return (any(answers) if self._any else all(answers)) != self._negated


def subscriber_filter(conditions: Mapping[str, Any]) -> Q:
    """The Q of a Subscriber's `filter`; raises `ValueError` naming the condition that is wrong."""
    for key, wanted in conditions.items():
        _check(_condition(key, wanted), key)
    return Q(**conditions)


def _check(condition: Condition, key: str) -> None:
    """What would never match, or means something for model instances only."""
    wanted = condition.wanted
    if condition.transition:
        raise ValueError(
            f"{key}: now_ operators compare with what a model had before; an event does not tell"
        )
    if condition.operator in ("in", "not_in") and not isinstance(wanted, list | tuple | str):
        raise ValueError(f"{key}: needs a list of values")
    if condition.operator in ("startswith", "endswith") and not isinstance(wanted, str):
        raise ValueError(f"{key}: needs a text")


def _condition(key: str, wanted: Any) -> Condition:
    path, _, name = key.rpartition("__" if "__" in key else ".")
    transition = name.startswith(_NOW)
    known = name.removeprefix(_NOW)
    if known not in OPERATORS or (transition and known in ("true", "not")):
        raise ValueError(
            f"{key}: ends with no operator; did you mean {key}__eq? "
            f"There are {', '.join(OPERATORS)}, and now_ before these"
        )
    steps = tuple(path.replace("__", ".").split("."))
    if "" in steps:
        raise ValueError(f"{key}: names no field before the operator")
    if (known == "eq" and wanted is True) or (known == "ne" and wanted is False):
        known = "true"
    elif (known == "eq" and wanted is False) or (known == "ne" and wanted is True):
        known = "not"
    return Condition(steps, known, wanted, transition)


def _entry(mapping: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = mapping
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value
