"""Conditions over mappings and over attributes."""

from types import SimpleNamespace
from typing import Any

import pytest

from thorn_stream.core.filters import Q, subscriber_filter

EVENT = {
    "event": "article.updated",
    "sender": 42,
    "data": {"state": "PUBLISHED", "price": 9.5, "tags": ["a", "b"], "none": None, "on": True},
}


@pytest.mark.parametrize(
    ("condition", "wanted", "holds"),
    [
        ("data__state__eq", "PUBLISHED", True),
        ("data.state__eq", "PUBLISHED", True),
        ("data.state.eq", "PUBLISHED", True),
        ("data__state__eq", "published", False),
        ("data__state__ne", "DRAFT", True),
        ("data__price__gt", 9, True),
        ("data__price__gte", 9.5, True),
        ("data__price__lt", 9.5, False),
        ("data__price__lte", 9.5, True),
        ("data__none__is", None, True),
        ("data__on__is", True, True),
        ("data__on__is", 1, False),
        ("data__state__is", "PUBLISHED", True),
        ("data__state__is_not", None, True),
        ("data__tags__contains", "a", True),
        ("data__tags__contains", "z", False),
        ("data__state__in", ["PUBLISHED", "DRAFT"], True),
        ("data__state__not_in", ["PUBLISHED"], False),
        ("data__state__startswith", "PUB", True),
        ("data__state__endswith", "PUB", False),
        ("data__on__true", True, True),
        ("data__none__true", True, False),
        ("data__none__not", True, True),
        ("data__on__eq", True, True),
        ("data__state__eq", True, True),
        ("data__none__eq", False, True),
        ("data__on__ne", True, False),
        ("data__on__ne", False, True),
        ("sender__eq", 42, True),
    ],
)
def test_each_operator(condition: str, wanted: Any, holds: bool) -> None:
    """As Thorn has them; `eq=True` means anything that is true."""
    assert subscriber_filter({condition: wanted}).matches(EVENT) is holds


@pytest.mark.parametrize(
    ("condition", "wanted", "holds"),
    [
        ("data__absent__eq", "x", False),
        ("data__absent__ne", "x", True),
        ("data__absent__is", None, True),
        ("data__absent__is_not", None, False),
        ("data__absent__not_in", ["x"], True),
        ("data__absent__in", ["x"], False),
        ("data__absent__gt", 1, False),
        ("data__absent__startswith", "x", False),
        ("data__absent__contains", "x", False),
        ("data__state__deeper__eq", "x", False),
        ("data__state__gt", 1, False),
        ("data__price__startswith", "9", False),
        ("data__tags__in", "ab", False),
    ],
)
def test_missing_counts_as_null_and_nothing_raises(
    condition: str, wanted: Any, holds: bool
) -> None:
    """A filter says no where it cannot compare; it never fails an event."""
    assert subscriber_filter({condition: wanted}).matches(EVENT) is holds


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ({"last_name": "jerry"}, "last_name: ends with no operator; did you mean last_name__eq?"),
        ({"data__state": "x"}, "did you mean data__state__eq?"),
        ({"__eq": 1}, "names no field"),
        ({"eq": 1}, "names no field"),
        ({"data____eq": 1}, "names no field"),
        ({"data__state__now_eq": "x"}, "an event does not tell"),
        ({"data__state__now_true": "x"}, "ends with no operator"),
        ({"data__state__in": 5}, "needs a list"),
        ({"data__state__startswith": 5}, "needs a text"),
    ],
)
def test_a_wrong_condition_is_refused_by_name(conditions: dict[str, Any], reason: str) -> None:
    """When it is made, not when an event comes."""
    with pytest.raises(ValueError, match="^" + next(iter(conditions))) as refused:
        subscriber_filter(conditions)
    assert reason in str(refused.value)


def test_an_operator_is_required_of_q_as_well() -> None:
    """`Q(last_name="jerry")` is what Django's Q would take, and Thorn's does not."""
    with pytest.raises(ValueError, match="last_name__eq"):
        Q(last_name="jerry")


def test_qs_combine() -> None:
    """With and, or and not, over mappings and over attributes alike."""
    published, cheap = Q(data__state__eq="PUBLISHED"), Q(data__price__lt=5)
    instance = SimpleNamespace(data=SimpleNamespace(state="PUBLISHED", price=9.5))
    for condition, holds in (
        (published & cheap, False),
        (published | cheap, True),
        (published & ~cheap, True),
        (~(published | cheap), False),
        (~~published, True),
        (Q(published, data__price__gt=9), True),
        (Q(), True),
        (~Q(), False),
    ):
        assert condition.matches(EVENT) is holds, condition
        assert condition(instance) is holds, condition


def test_attributes_that_are_missing_raise() -> None:
    """Over instances a misspelt field is a mistake in the code, and shows itself."""
    with pytest.raises(AttributeError):
        Q(titel__eq="x")(SimpleNamespace(title="x"))


def test_now_operators_look_at_the_version_before() -> None:
    """True when it holds now and did not hold before, or there was no before."""
    q = Q(state__now_eq="PUBLISHED")
    draft, published = SimpleNamespace(state="DRAFT"), SimpleNamespace(state="PUBLISHED")
    assert q(published)
    assert not q(draft)
    assert q(SimpleNamespace(state="PUBLISHED", _previous_version=draft))
    assert not q(SimpleNamespace(state="PUBLISHED", _previous_version=published))


def test_a_q_shows_what_it_asks() -> None:
    """For a log line or a failed assertion."""
    assert "state" in repr(~(Q(state__eq=1) | Q(price__gt=2)))


@pytest.mark.parametrize(
    ("condition", "wanted", "before", "now", "holds"),
    [
        ("state__now_ne", "DRAFT", "DRAFT", "PUBLISHED", False),
        ("state__now_ne", "DRAFT", "PENDING", "PUBLISHED", True),
        ("price__now_gt", 20, 10, 22, True),
        ("price__now_gt", 20, 42, 22, False),
        ("price__now_gt", 20, 20, 22, False),
        ("price__now_gte", 22, 22, 22, True),
        ("price__now_gte", 22, 23, 22, False),
        ("price__now_lt", 40, 40, 22, False),
        ("price__now_gte", 22, 21, 22, True),
        ("price__now_lt", 40, 42, 22, True),
        ("price__now_lte", 22, 12, 22, False),
        ("owner__now_is", None, 30, None, True),
        ("owner__now_is", None, None, None, False),
        ("owner__now_is_not", None, None, 30, True),
        ("text__now_contains", "brown", "a red fox", "a brown fox", True),
        ("text__now_contains", "brown", "a brown fox", "the brown fox", False),
        ("text__now_startswith", "the", "a fox", "the fox", True),
        ("text__now_endswith", "fox", "a fox", "the fox", False),
        ("state__now_in", {"A", "B"}, "C", "B", True),
        ("state__now_in", {"A", "B"}, "A", "B", False),
        ("state__now_not_in", ["A"], "A", "B", True),
        ("live__now_eq", True, 0, "yes", True),
        ("live__now_eq", False, 1, "", True),
    ],
)
def test_each_now_operator(condition: str, wanted: Any, before: Any, now: Any, holds: bool) -> None:
    """It holds now and did not hold for the version before."""
    field = condition.partition("__")[0]
    previous = SimpleNamespace(**{field: before})
    instance = SimpleNamespace(**{field: now}, _previous_version=previous)
    assert Q(**{condition: wanted})(instance) is holds


def test_a_path_goes_on_into_a_mapping() -> None:
    """A JSON field of a model is a dictionary: its entries are reached like attributes."""
    instance = SimpleNamespace(settings={"colour": "red", "deep": {"on": True}})
    assert Q(settings__colour__eq="red")(instance)
    assert Q(**{"settings.deep.on__is": True})(instance)
    with pytest.raises(AttributeError, match="settings__size__gt: dict has no 'size'"):
        Q(settings__size__gt=1)(instance)


def test_errors_over_attributes_name_the_condition() -> None:
    """Whoever wrote the filter has to find it."""
    with pytest.raises(AttributeError, match="owner__name__eq: there is None before 'name'"):
        Q(owner__name__eq="x")(SimpleNamespace(owner=None))
    with pytest.raises(TypeError, match="price__gt: '>' not supported"):
        Q(price__gt="x")(SimpleNamespace(price=1))
    with pytest.raises(ValueError, match="int is no Q: combine"):
        Q(1)  # type: ignore[arg-type]  # what somebody may do who has no type checker


def test_q_objects_of_django_are_taken() -> None:
    """A shop that filtered with Django's Q changes its imports and nothing else."""
    from django.db.models import Q as DjangoQ  # noqa: PLC0415 - loaded where it is needed

    either = Q(DjangoQ(user__name__eq="George") | DjangoQ(user__name__eq="Elaine"))
    george, jerry = (SimpleNamespace(user=SimpleNamespace(name=n)) for n in ("George", "Jerry"))
    assert either(george)
    assert not either(jerry)
    assert Q(~DjangoQ(user__name__eq="George"))(jerry)
    assert (Q(user__name__is_not=None) & DjangoQ(user__name__eq="Jerry"))(jerry)
    with pytest.raises(ValueError, match="user__name: ends with no operator"):
        Q(DjangoQ(user__name="George"))
