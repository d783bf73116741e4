"""What a model event takes from an instance, and what it has to be told for that."""

from collections.abc import Mapping
from typing import Any, Final

from thorn_stream.core.encoding import check_name

__all__ = ["check_filters", "checked_template", "told_by"]

_SAMPLE: Final = "x"


def checked_template(name: str) -> str:
    """A name, maybe with format fields: of those, what stands around them. Raises ValueError."""
    if not isinstance(name, str) or "{" not in name:
        return check_name(name)
    try:
        check_name(name.format(_Anything()))
    except (IndexError, KeyError, AttributeError) as error:
        raise ValueError(
            f"name {name!r}: format fields are filled from one instance, "
            f"as in 'user.{{.username}}' ({error})"
        ) from None
    return name


def told_by(instance: Any, what: str) -> Any:
    """Its model's webhooks say it; of one that is not decorated, its own method may."""
    own = getattr(getattr(instance, "webhooks", None), what, None)
    if own is not None:
        return own(instance)
    method = getattr(instance, f"webhook_{what}", None)
    return None if method is None else method()


class _Anything:
    """Stands for an instance, to see what is fixed in a name."""

    def __getattr__(self, name: str) -> "_Anything":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: object) -> "_Anything":
        return self

    def __format__(self, spec: str) -> str:
        return _SAMPLE

    def __str__(self) -> str:
        return _SAMPLE

    __repr__ = __str__


def check_filters(filters: Mapping[str, Any]) -> None:
    """Raises ValueError for a keyword that is neither an argument nor has an operator."""
    for name, value in filters.items():
        if "__" not in name and "." not in name:
            raise ValueError(
                f"{name}: is no argument of ModelEvent; a filter needs an operator, "
                f"as in {name}__eq={value!r}"
            )
