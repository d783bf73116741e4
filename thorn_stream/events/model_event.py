"""`ModelEvent`: an event about one instance of a model, usually sent when that is saved."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from uuid import UUID

from thorn_stream.core.encoding import check_name, sender_key
from thorn_stream.core.filters import Q
from thorn_stream.events.connecting import signals_for
from thorn_stream.events.event import Event
from thorn_stream.events.handle import Handle
from thorn_stream.events.holding import holding
from thorn_stream.events.instances import check_filters, checked_template, told_by
from thorn_stream.events.reverse import attribute, model_reverser

if TYPE_CHECKING:
    from thorn_stream.events.app import Thorn
    from thorn_stream.events.webhooks import Webhooks

__all__ = ["ModelEvent"]

logger: Final = logging.getLogger("thorn_stream.events")

E_DISPATCH_RAISED_ERROR: Final = "event %s was not sent: %r"


def _true(*_: Any, **__: Any) -> bool:
    """The filter of an event that has none."""
    return True


class ModelEvent(Event):
    """An event about an instance: `{"event", "ref", "sender", "data"}`.

    `name` may have format fields that the instance fills: `"user.{.username}"`. `reverse` is called
    with the instance and returns its canonical URL, the `ref` (also the Kafka key, unless `key`
    says another); without one, the instance's `get_absolute_url()` does. `sender_field`
    (`"account.user"`) is the path to the user who is named as sender. Filters narrow it to some
    instances: `Q` objects, and `field__op=value` with an operator of `Q`. `signal_dispatcher`, a
    class, connects it to signals of your own. Everything else is as for `Event`.

    With `signal_honors_transaction` (the setting, by default) an event of a signal is made at once
    and published after the commit. With `propagate_errors` (True) what goes wrong in a signal is
    raised there; else it is logged.
    """

    propagate_errors: bool = True
    _ACTIONS: ClassVar[Mapping[str, str]] = {
        "on_create": "dispatch_on_create",
        "on_change": "dispatch_on_change",
        "on_delete": "dispatch_on_delete",
    }

    def __init__(  # noqa: PLR0913 - Thorn's arguments
        self,
        name: str,
        *args: Any,
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
        key: str | bytes | int | UUID | None = None,
        reverse: Any = None,
        sender_field: str | None = None,
        signal_dispatcher: Any = None,
        signal_honors_transaction: bool | None = None,
        propagate_errors: bool | None = None,
        **filters: Any,
    ) -> None:
        check_filters(filters)
        super().__init__(
            name,
            timeout,
            dispatcher,
            retry,
            retry_max,
            retry_delay,
            app,
            recipient_validators,
            subscribers,
            request_data,
            allow_keepalive,
            key=key,
        )
        self._honors_transaction = signal_honors_transaction
        if propagate_errors is not None:
            self.propagate_errors = propagate_errors
        self.reverse = reverse
        self.sender_field = sender_field
        self._filters = (args, filters)
        self._filter_predicate: Any = Q(*args, **filters) if args or filters else _true
        self._webhooks: Webhooks | None = None
        self._action: tuple[str, tuple[Any, ...]] | None = None
        self._connected: Any = None
        self._own_dispatcher = signal_dispatcher
        if signal_dispatcher is not None:
            self._connected = signal_dispatcher(self.on_signal)

    @staticmethod
    def _checked_name(name: str) -> str:
        return checked_template(name)

    def _pickled(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        positional, filters = self._filters
        _, arguments = super()._pickled()
        own = {
            "reverse": self.reverse,
            "sender_field": self.sender_field,
            "signal_dispatcher": self._own_dispatcher,
        }
        return positional, {
            **arguments,
            **{name: value for name, value in own.items() if value is not None},
            **filters,
        }

    # --- sending --------------------------------------------------------------------------------

    def send(  # type: ignore[override]  # Thorn's: a model event is sent for an instance
        self, instance: Any, data: Any = None, sender: Any = None, **kwargs: Any
    ) -> Handle:
        """Send it for this instance, whatever the filters say; `data` is the event's own.

        Further arguments are those of `Event.send`; `headers` are extra HTTP headers.
        """
        name = self._name_for(instance)
        payload = {
            **(self.request_data or {}),
            "event": name,
            "ref": self.get_absolute_url(instance),
            "sender": sender_key(sender),
            "data": {} if data is None else data,
        }
        handle: Handle = self._send(name, payload, sender=sender, **kwargs)
        return handle

    def _name_for(self, instance: Any) -> str:
        if "{" not in self.name:
            return self.name
        return check_name(self.name.format(instance))

    def _envelope(self, name: str, payload: Any, sender: Any) -> Mapping[str, Any]:
        del name, sender
        envelope: Mapping[str, Any] = payload
        return envelope

    def _key(self, key: Any, envelope: Mapping[str, Any]) -> Any:
        if key is not None:
            return key
        return envelope["ref"] if self.key is None else self.key

    # --- what it takes from an instance ---------------------------------------------------------

    def get_absolute_url(self, instance: Any) -> Any:
        """The canonical URL of an instance; None where neither event nor model know one."""
        if isinstance(self.reverse, model_reverser):
            return self.reverse(instance, app=self.app)
        if self.reverse is not None:
            return self.reverse(instance)
        own = getattr(instance, "get_absolute_url", None)
        return None if own is None else own()

    def should_dispatch(self, instance: Any, **_: Any) -> bool:
        """Whether the filters, and the model's own `delivers`, let this instance through."""
        if not self._filter_predicate(instance):
            return False
        return self._webhooks is None or self._webhooks.delivers(instance, self)

    def instance_data(self, instance: Any) -> Any:
        """The payload that the model gives; None where it gives none."""
        return told_by(instance, "payload")

    def instance_headers(self, instance: Any) -> Any:
        """Extra HTTP headers that the model gives; None where it gives none."""
        return told_by(instance, "headers")

    def instance_sender(self, instance: Any) -> Any:
        return None if self.sender_field is None else attribute(instance, self.sender_field)

    # --- signals --------------------------------------------------------------------------------

    def on_signal(self, instance: Any, **kwargs: Any) -> None:
        """Called by a signal: what is sent is made now, and published after the commit."""
        if self.signal_honors_transaction:
            self._on_signal(instance, kwargs)
        else:
            with holding(None):
                self._on_signal(instance, kwargs)

    @property
    def signal_honors_transaction(self) -> bool:
        """Whether what a signal sends is published after the commit: its own, else the setting."""
        if self._honors_transaction is not None:
            return self._honors_transaction
        return bool(self.app.settings.signal_honors_transaction)

    @signal_honors_transaction.setter
    def signal_honors_transaction(self, honors: bool | None) -> None:
        self._honors_transaction = honors

    def _on_signal(self, instance: Any, kwargs: Mapping[str, Any]) -> None:
        try:
            if self.should_dispatch(instance):
                self.send_from_instance(instance, **kwargs)
        except Exception as error:
            if self.propagate_errors:
                raise
            logger.exception(E_DISPATCH_RAISED_ERROR, self.name, error)  # noqa: TRY401 - as Thorn

    def send_from_instance(
        self, instance: Any, context: Mapping[str, Any] | None = None, **_: Any
    ) -> Handle:
        """Send it with the payload, headers and sender that the instance gives."""
        return self.send(
            instance=instance,
            data=self.instance_data(instance),
            headers=self.instance_headers(instance),
            sender=self.instance_sender(instance),
            context={} if context is None else context,
        )

    def dispatches_on_create(self) -> Self:
        """Send it when an instance is made."""
        return self._dispatches("dispatch_on_create")

    def dispatches_on_change(self) -> Self:
        """Send it when an instance that was there already is saved."""
        return self._dispatches("dispatch_on_change")

    def dispatches_on_delete(self) -> Self:
        """Send it when an instance is deleted."""
        return self._dispatches("dispatch_on_delete")

    def dispatches_on_m2m_add(self, related_field: str) -> Self:
        """Send it when instances are added to this many-to-many field."""
        return self._dispatches("dispatch_on_m2m_add", related_field)

    def dispatches_on_m2m_remove(self, related_field: str) -> Self:
        """Send it when instances are removed from this many-to-many field."""
        return self._dispatches("dispatch_on_m2m_remove", related_field)

    def dispatches_on_m2m_clear(self, related_field: str) -> Self:
        """Send it when this many-to-many field is emptied at once."""
        return self._dispatches("dispatch_on_m2m_clear", related_field)

    def _dispatches(self, action: str, *arguments: Any) -> Self:
        if self._own_dispatcher is None:
            self._action = (action, arguments)
            self._connected = None
        return self

    def dispatches_by_name(self, attribute_name: str) -> None:
        """`on_create`, `on_change` and `on_delete` of a model's webhooks say it by their names."""
        if self._action is None and self._connected is None and attribute_name in self._ACTIONS:
            self._dispatches(self._ACTIONS[attribute_name])

    @property
    def signal_dispatcher(self) -> Any:
        """What connects it to signals; None for one that is sent by hand."""
        if self._connected is None and self._action is not None:
            self._connected = self._made_for(None)
        return self._connected

    def _made_for(self, model: Any) -> Any:
        assert self._action is not None
        action, arguments = self._action
        dispatcher = getattr(signals_for(model), action)(self.on_signal, *arguments)
        dispatcher.use_transitions = (
            isinstance(self._filter_predicate, Q) and self._filter_predicate.transitional
        )
        return dispatcher

    def connect_model(self, model: Any) -> None:
        """Send it by the signals of this model from now on."""
        if self._own_dispatcher is not None:
            self._connected.connect(sender=model)
        elif self._action is not None:
            self._connected = self._made_for(model)
            self._connected.connect(sender=model)

    def contributed(self, webhooks: "Webhooks") -> None:
        """Take from the model's webhooks what it does not say itself."""
        self._webhooks = webhooks
        if self.reverse is None:
            self.reverse = webhooks.reverse
        if self.sender_field is None:
            self.sender_field = webhooks.sender_field
