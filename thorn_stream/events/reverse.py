"""`model_reverser`: from an instance to its canonical URL, by the name of a view."""

from functools import reduce
from typing import TYPE_CHECKING, Any

from thorn_stream.events.state import current_app

if TYPE_CHECKING:
    from thorn_stream.events.app import Thorn

__all__ = ["attribute", "model_reverser"]


def attribute(instance: Any, path: str) -> Any:
    """`account.user` (or `account__user`) of an instance; raises AttributeError."""
    return reduce(getattr, path.replace("__", ".").split("."), instance)


class model_reverser:  # noqa: N801 - Thorn's name
    """The URL of an instance: `model_reverser("article:detail", uuid="uuid")`.

    `view_name` and the values of the further arguments, which are paths from the instance
    (`"author.slug"`), are given to the app's `reverse`: Django's, unless you set another.
    """

    def __init__(self, view_name: str, *args: str, **kwargs: str) -> None:
        self.view_name = view_name
        self.args = args
        self.kwargs = kwargs

    def __call__(self, instance: Any, app: "Thorn | None" = None, **_: Any) -> str:
        reverse = (app if app is not None else current_app()).reverse
        return reverse(
            self.view_name,
            args=[attribute(instance, path) for path in self.args],
            kwargs={name: attribute(instance, path) for name, path in self.kwargs.items()},
        )

    def __repr__(self) -> str:
        paths = [repr(self.view_name), *map(repr, self.args)]
        paths += [f"{name}={path!r}" for name, path in self.kwargs.items()]
        return f"model_reverser({', '.join(paths)})"
