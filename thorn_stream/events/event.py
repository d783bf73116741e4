"""`Event`: something that can happen, with its name and how it is sent."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID, uuid4

from thorn_stream.core.encoding import (
    check_name,
    encode_envelope,
    encode_header,
    http_headers,
    key_bytes,
    option_headers,
    sender_key,
)
from thorn_stream.core.records import Headers
from thorn_stream.events.asking import Asked, asked
from thorn_stream.events.callbacks import OnFailure, OnSuccess
from thorn_stream.events.handle import Handle
from thorn_stream.events.holding import held
from thorn_stream.events.outgoing import Dispatcher, Outgoing
from thorn_stream.events.state import current_app, overriding
from thorn_stream.events.travel import (
    Rules,
    recipients,
    rules,
    validators_header,
    warn_of_loosening,
)

if TYPE_CHECKING:
    from thorn_stream.events.app import Thorn

__all__ = ["Event"]


class _AppOf:
    """The app of an event: its own, else its class's, else the one that is current when asked."""

    def __get__(self, event: "Event | None", kind: type["Event"]) -> Any:
        if event is None:
            return kind._bound  # noqa: SLF001 - one of ours
        return event._app or kind._bound or current_app()  # noqa: SLF001 - one of ours

    def __set__(self, event: "Event", app: Any) -> None:
        event._app = app  # noqa: SLF001 - one of ours


class Event:
    """An event of this name, to be sent to everybody who subscribes to it.

    `name` has parts between dots, which subscribers match one by one (`order.*`). `timeout`
    (seconds for a request), `retry`, `retry_max`, `retry_delay` (seconds) and `allow_keepalive`
    hold for this event's requests, within the ceilings of the dispatcher's settings.
    `recipient_validators` are added to the dispatcher's own. `subscribers` are called beside those
    who subscribed: URLs, subscriber objects, or functions that return these. `request_data` is
    merged into the data of each event, whose own keys win. `key` is the Kafka key: events with the
    same key stay in order. `dispatcher`: kafka, inline, disabled, memory, or an object; the app's
    by default.

    Raises ValueError naming the argument that is wrong.
    """

    allow_keepalive: bool = True
    app = _AppOf()
    recipient_validators: Sequence[Any] | None = None
    _bound: ClassVar["Thorn | None"] = None

    def __init__(  # noqa: PLR0913, PLR0917 - Thorn's arguments, in its order
        self,
        name: str,
        timeout: float | None = None,
        dispatcher: Any = None,
        retry: bool | None = None,
        retry_max: int | None = None,
        retry_delay: float | None = None,
        app: "Thorn | None" = None,
        recipient_validators: Sequence[Any] | None = None,
        subscribers: Any = None,
        request_data: Mapping[str, Any] | None = None,
        allow_keepalive: bool | None = None,
        *,
        key: str | bytes | int | UUID | None = None,
        **kwargs: Any,
    ) -> None:
        for argument in kwargs:
            raise ValueError(f"{argument}: is no argument of {type(self).__name__}; remove it")
        self.name = self._checked_name(name)
        self.timeout = timeout
        self.retry = retry
        self.retry_max = retry_max
        self.retry_delay = retry_delay
        self.request_data = request_data
        self.key = key
        self._app = app
        self._dispatcher = dispatcher
        self._subscribers = subscribers
        self._keepalive_said = allow_keepalive is not None
        if allow_keepalive is not None:
            self.allow_keepalive = allow_keepalive
        if recipient_validators is not None:
            self.recipient_validators = recipient_validators
            # the warning is to stand at the line of the definition
            depth = 3 if type(self).__init__ is Event.__init__ else 4
            warn_of_loosening(name, recipient_validators, depth)
        if request_data is not None and not isinstance(request_data, Mapping):
            raise ValueError("request_data: must be a mapping of what every event says")
        key_bytes(key)
        self._options(None)

    @staticmethod
    def _checked_name(name: str) -> str:
        return check_name(name)

    # --- what it is -----------------------------------------------------------------------------

    @property
    def dispatcher(self) -> Any:
        """How it is sent: its own dispatcher, else the app's."""
        if self._dispatcher is None:
            return self.app.dispatcher
        if isinstance(self._dispatcher, str):
            return self.app.named(self._dispatcher)
        return self._dispatcher

    @property
    def subscribers(self) -> Any:
        """Whom its dispatcher would call, as far as this process knows: its own with `kafka`."""
        return self.dispatcher.subscribers_for_event(self.name, extra_subscribers=self._subscribers)

    @subscribers.setter
    def subscribers(self, subscribers: Any) -> None:
        self._subscribers = subscribers

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        kind = next(one for one in type(self).__mro__ if "_bound" not in vars(one) or one is Event)
        return _rebuilt, (kind, self.name, *self._pickled())

    def _pickled(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        arguments = {
            "timeout": self.timeout,
            "dispatcher": self._dispatcher,
            "retry": self.retry,
            "retry_max": self.retry_max,
            "retry_delay": self.retry_delay,
            "app": self._app,
            "recipient_validators": self.recipient_validators,
            "subscribers": self._subscribers,
            "request_data": self.request_data,
            "allow_keepalive": self.allow_keepalive if self._keepalive_said else None,
            "key": self.key,
        }
        return (), {name: value for name, value in arguments.items() if value is not None}

    # --- sending --------------------------------------------------------------------------------

    def send(  # noqa: PLR0913, PLR0917 - Thorn's arguments, in its order
        self,
        data: Any,
        sender: Any = None,
        on_success: OnSuccess | None = None,
        on_error: OnFailure | None = None,
        timeout: float | None = None,
        on_timeout: OnFailure | None = None,
        context: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Handle:
        """Send it to all subscribers; does not wait for anything (see the Handle).

        `data` is what JSON can hold; `sender` a user, or a user's key; `timeout` in seconds beats
        the event's own; `context` goes to subscribers that are functions. Callbacks are called for
        each HTTP request: `on_success(request)`, `on_timeout(request, exc)`,
        `on_error(request, exc)`. Further: `headers` (of the HTTP requests), `key`. Raises
        ValueError naming what cannot be sent, EventNotSent when there is no room for it.
        """
        handle: Handle = self._send(
            self.name,
            self._with_request_data(data),
            sender=sender,
            on_success=on_success,
            on_error=on_error,
            timeout=timeout,
            on_timeout=on_timeout,
            context=context,
            **options,
        )
        return handle

    def _with_request_data(self, data: Any) -> Any:
        if not self.request_data:
            return data
        if not isinstance(data, Mapping):
            raise ValueError(  # noqa: TRY004 - one kind for all arguments
                "data: must be a mapping, since request_data is merged into it"
            )
        return {**self.request_data, **data}

    def _envelope(self, name: str, payload: Any, sender: Any) -> Mapping[str, Any]:
        return {"event": name, "ref": None, "sender": sender_key(sender), "data": payload}

    def _send(self, name: str, payload: Any, sender: Any = None, **options: Any) -> Any:
        wanted = asked(options)
        dispatcher = self.dispatcher
        if not isinstance(dispatcher, Dispatcher):
            return self._send_as_thorn(dispatcher, (name, payload, sender), wanted)
        dispatcher = overriding() or dispatcher
        validators = _validators(self.recipient_validators, dispatcher)
        envelope = self._envelope(name, payload, sender)
        handle = Handle(name, str(uuid4()))
        headers: Headers = [("thorn-id", handle.id.encode()), *self._options(wanted.timeout)]
        if validators.named:
            headers.append(validators_header(validators.named))
        if self._subscribers is not None:
            extra = recipients(self._subscribers, name, sender, wanted.context or {})
            if extra:
                headers.append(("thorn-subscribers", encode_header(extra)))
        if wanted.headers:
            headers += http_headers(wanted.headers)
        key = key_bytes(self._key(wanted.key, envelope))
        value = encode_envelope(envelope)
        functions, callbacks = validators.callables, wanted.callbacks
        outgoing = Outgoing(handle, envelope, value, key, headers, functions, callbacks)
        self._hand_over(dispatcher, outgoing)
        return handle

    def _send_as_thorn(self, dispatcher: Any, what: tuple[str, Any, Any], asked: Asked) -> Any:
        """To an object with Thorn's own interface, which does all the rest itself."""
        return dispatcher.send(
            *what,
            on_success=asked.on_success,
            on_error=asked.on_error,
            timeout=self.timeout if asked.timeout is None else asked.timeout,
            on_timeout=asked.on_timeout,
            retry=self.retry,
            retry_delay=self.retry_delay,
            retry_max=self.retry_max,
            recipient_validators=self.recipient_validators,
            headers=asked.headers,
            context=asked.context,
            extra_subscribers=self._subscribers,
            allow_keepalive=self.allow_keepalive,
        )

    def _key(self, key: Any, envelope: Mapping[str, Any]) -> Any:
        del envelope
        return self.key if key is None else key

    def _hand_over(self, dispatcher: Dispatcher, outgoing: Outgoing) -> None:
        app: Thorn = self.app
        hold = held()
        if hold is None:
            app.publish(dispatcher, outgoing)
        else:
            hold(lambda: app.publish(dispatcher, outgoing))

    def _options(self, timeout: float | None) -> Headers:
        return option_headers(
            {
                "timeout": self.timeout if timeout is None else timeout,
                "retry": self.retry,
                "retry_max": self.retry_max,
                "retry_delay": self.retry_delay,
                "allow_keepalive": self.allow_keepalive if self._keepalive_said else None,
            }
        )


def _validators(given: Sequence[Any] | None, dispatcher: Dispatcher) -> Rules:
    if not given:
        return Rules()
    validators = rules(given)
    if validators.callables and not dispatcher.runs_functions:
        named = ", ".join(getattr(one, "__name__", repr(one)) for one in validators.callables)
        raise ValueError(
            f"recipient_validators: the function {named} cannot travel to a dispatcher; name it in "
            "the dispatcher's recipient_validators as !package.module:name, or use "
            "dispatcher='inline'"
        )
    return validators


def _rebuilt(kind: type[Event], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Event:
    return kind(name, *args, **kwargs)
