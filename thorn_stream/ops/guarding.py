"""The guard that the settings ask for, and the door through which every recipient enters.

A validator of the user's own is named in the settings, as `!package.module:name`, and nowhere else:
this is the only place that imports one.
"""

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from thorn_stream.adapters.files import tls_wrong
from thorn_stream.config import Settings
from thorn_stream.core.directory import parse_subscribers
from thorn_stream.core.errors import ConfigurationError, InvalidSubscriber
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.urls import Refusal
from thorn_stream.core.validators import Guard, UrlValidator

__all__ = ["Parse", "guard_for", "inline", "judged_by", "parser"]

Parse = Callable[[object, str, Callable[[str], str]], list[Subscriber]]


def guard_for(settings: Settings) -> Guard:
    """All validators of the settings, those of the user's own loaded.

    Raises ConfigurationError with a line for each that cannot be made.
    """
    rules: list[Any] = []
    mistakes: list[str] = []
    for number, (name, arguments) in enumerate(settings.recipient_validators):
        place = f"recipient_validators[{number}]"
        try:
            own = name.startswith("!")
            rules.append(_own(name, arguments, place) if own else [name, list(arguments)])
        except ConfigurationError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    return Guard.from_names(rules, [str(network) for network in settings.allowed_networks])


def judged_by(guard: Guard) -> Callable[[str], str | None]:
    """Why a recipient's URL is refused where it enters: the rule, and how to mend it.

    Nothing is looked up; what a name leads to is judged at every connect.
    """

    def judge(url: str) -> str | None:
        said = guard.url(url)
        return f"is refused by {said.rule}: {said.reason}" if isinstance(said, Refusal) else None

    return judge


def parser(guard: Guard) -> Parse:
    """The core's reader of subscriber files, with this guard at the door.

    What a `tls` names is looked at as well: a file that cannot be used would fail each delivery.
    """
    return partial(parse_subscribers, judge=judged_by(guard), look_at_tls=tls_wrong)


def inline(guard: Guard, place: str, subscribers: Sequence[Subscriber]) -> Sequence[Subscriber]:
    """The same subscribers, which were read before there was a guard.

    Raises InvalidSubscriber with a line for each that is refused.
    """
    judge = judged_by(guard)
    refused = [(one.id, why) for one in subscribers if (why := judge(one.url)) is not None]
    if refused:
        raise InvalidSubscriber("\n".join(f"{place}: {who}.url: {why}" for who, why in refused))
    return subscribers


def _own(reference: str, arguments: Sequence[Any], place: str) -> UrlValidator:
    """The validator that `!package.module:name` names.

    With arguments the name is a function that makes one; a class is made one of; anything else is
    the validator itself.
    """
    module, _, name = reference.removeprefix("!").partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        if arguments or isinstance(found, type):
            found = found(*arguments)
    except Exception as error:  # noqa: BLE001 -- whatever a module of the user's own does
        raise ConfigurationError(
            f"{place}: {reference} cannot be loaded ({_told(error)}); "
            "name something that this process can import"
        ) from None
    if not callable(found):
        raise ConfigurationError(
            f"{place}: {reference} is a {type(found).__name__}; it must be a function that is "
            "given a URL and returns False to refuse it"
        )
    return found  # type: ignore[no-any-return]  # a callable of the user's own


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
