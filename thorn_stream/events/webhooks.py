"""`webhook_model`: a model whose changes are events."""

import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Final, TypeVar, overload

from thorn_stream.events.event import Event
from thorn_stream.events.model_event import ModelEvent

__all__ = ["Webhooks", "webhook_model"]

Model = TypeVar("Model", bound=type)

_OPTIONS: Final = ("reverse", "sender_field", "payload", "headers", "delivers")


class Webhooks(MutableMapping[str, Event]):
    """The events of one model: `Article.webhooks.on_create`, or `Article.webhooks["on_create"]`.

    `reverse` and `sender_field` hold for those that have none of their own.
    """

    def __init__(self, model: Any, declared: type | None, arguments: Mapping[str, Any]) -> None:
        self.model = model
        self.events: dict[str, Event] = {}
        self._declared = declared() if declared is not None else None
        given: dict[str, Any] = {}
        if declared is not None:
            given = {name: getattr(declared, name) for name in dir(declared)}
        given |= arguments
        for name, value in given.items():
            if isinstance(value, Event):
                self.events[name] = value
            elif name in arguments and name not in _OPTIONS:
                raise ValueError(
                    f"webhook_model({name}=...): is neither an event nor one of "
                    f"{', '.join(_OPTIONS)}: remove it"
                )
        self.reverse = self._plain("reverse", arguments)
        self.sender_field: str | None = given.get("sender_field")
        self._payload = self._asked("payload", arguments)
        self._headers = self._asked("headers", arguments)
        self._delivers = self._asked("delivers", arguments)

    def _plain(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """A function that stands in the class takes the instance alone, with `self` or without."""
        if name in arguments:
            return arguments[name]
        found = getattr(self._declared, name, None)
        if inspect.ismethod(found) and len(inspect.signature(found.__func__).parameters) == 1:
            return found.__func__
        return found

    def _asked(self, name: str, arguments: Mapping[str, Any]) -> Callable[..., Any] | None:
        found: Callable[..., Any] | None = self._plain(name, arguments)
        if found is not None and not callable(found):
            raise ValueError(f"webhooks.{name}: must be a function of the instance")
        return found

    def payload(self, instance: Any) -> Any:
        """What events of this instance say, as their `data`: else its `webhook_payload()` does."""
        if self._payload is not None:
            return self._payload(instance)
        own = _own_method(instance, "webhook_payload", _payload)
        return {} if own is None else own()

    def headers(self, instance: Any) -> Any:
        """Extra HTTP headers of the requests; None without any."""
        if self._headers is not None:
            return self._headers(instance)
        own = _own_method(instance, "webhook_headers", _headers)
        return None if own is None else own()

    def delivers(self, instance: Any, event: Event) -> bool:
        """Whether an event is sent for this instance at all; asked after the event's filters."""
        if self._delivers is None:
            return True
        takes = len(inspect.signature(self._delivers).parameters)
        return bool(self._delivers(instance) if takes == 1 else self._delivers(instance, event))

    def has_own(self, name: str) -> bool:
        """Whether it says `payload`, or `headers`, itself: else a method of the model may."""
        return (self._payload if name == "payload" else self._headers) is not None

    def connect(self) -> None:
        """Connect every event to the signals of the model."""
        for name, event in self.events.items():
            if isinstance(event, ModelEvent):
                event.contributed(self)
                event.dispatches_by_name(name)
                event.connect_model(self.model)

    def __getitem__(self, name: str) -> Event:
        return self.events[name]

    def __setitem__(self, name: str, event: Event) -> None:
        self.events[name] = event

    def __delitem__(self, name: str) -> None:
        del self.events[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __getattr__(self, name: str) -> Any:
        events = self.__dict__.get("events", {})
        if name in events:
            return events[name]
        declared = self.__dict__.get("_declared")
        if declared is None or name.startswith("__"):
            raise AttributeError(f"webhooks has no event {name!r}")
        return getattr(declared, name)

    def __hash__(self) -> int:
        return id(self)


@overload
def webhook_model(model: Model, /) -> Model: ...


@overload
def webhook_model(**arguments: Any) -> Callable[[Model], Model]: ...


def webhook_model(model: Any = None, /, **arguments: Any) -> Any:
    """Decorate a model: its changes send the events of its nested `class webhooks`.

    `on_create`, `on_change` and `on_delete` are sent by their names, others as they say
    (`.dispatches_on_change()`, ...), or by hand. `payload(self, instance)` gives their data,
    `headers(self, instance)` extra HTTP headers, `delivers(self, instance, event)` says whether
    they are sent at all; `reverse` and `sender_field` hold for all of them. The same may be given
    as arguments instead, as in Thorn 1.0: `@webhook_model(on_create=ModelEvent(...))`.
    """
    if model is not None and not callable(model):
        raise TypeError(f"webhook_model({model!r}): is no model: decorate a class")

    def decorate(decorated: Any) -> Any:
        declared = getattr(decorated, "webhooks", None)
        if declared is not None and not (
            inspect.isclass(declared) or isinstance(declared, Webhooks)  # a decorated parent's
        ):
            raise TypeError(f"{decorated}.webhooks is no class, but {declared!r}")
        webhooks = Webhooks(decorated, declared if inspect.isclass(declared) else None, arguments)
        decorated.webhooks = decorated.webhook_events = webhooks
        if not hasattr(decorated, "webhook_payload") or webhooks.has_own("payload"):
            decorated.webhook_payload = _payload
        if not hasattr(decorated, "webhook_headers") or webhooks.has_own("headers"):
            decorated.webhook_headers = _headers
        webhooks.connect()
        return decorated

    return decorate if model is None else decorate(model)


def _own_method(instance: Any, name: str, ours: Callable[..., Any]) -> Callable[[], Any] | None:
    """A method that the model itself has; not the one that the decorator has given it."""
    found: Callable[[], Any] | None = getattr(instance, name, None)
    return None if getattr(found, "__func__", None) is ours else found


def _payload(self: Any) -> Any:
    return self.webhook_events.payload(self)


def _headers(self: Any) -> Any:
    return self.webhook_events.headers(self)
