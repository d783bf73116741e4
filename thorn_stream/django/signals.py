"""Django's model signals to events.

Each dispatcher here is one kind of change. It is made with the function that takes the instance,
and connected to the signals of a model. What that function publishes is published when the
transaction of the change commits (`events.holding`).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from django.core.exceptions import ObjectDoesNotExist
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import signals
from django.db.models.fields.related import lazy_related_operation

from thorn_stream.django.utils import serialize_model
from thorn_stream.events.holding import Hold, holding
from thorn_stream.events.reverse import attribute

__all__ = [
    "dispatch_on_change",
    "dispatch_on_create",
    "dispatch_on_delete",
    "dispatch_on_m2m_add",
    "dispatch_on_m2m_change",
    "dispatch_on_m2m_clear",
    "dispatch_on_m2m_remove",
    "signal_dispatcher",
    "signal_handler",
]


def after_commit(using: str | None) -> Hold:
    """What publishes when the transaction on this database commits; at once outside of one."""

    def hold(publish: Callable[[], None]) -> None:
        try:
            transaction.on_commit(publish, using=using or DEFAULT_DB_ALIAS)
        except transaction.TransactionManagementError:
            publish()  # somebody commits by hand: nobody will tell us when

    return hold


class signal_handler:  # noqa: N801 - Thorn's name
    """Decorate a function: `@signal_handler(dispatch_on_create, sender=Article)`."""

    def __init__(self, dispatcher: Any, *args: Any, sender: Any = None, **kwargs: Any) -> None:
        self.dispatcher = dispatcher
        self.sender = sender
        self.args = args
        self.kwargs = kwargs

    def __call__(self, fun: Callable[..., Any]) -> Callable[..., Any]:
        self.dispatcher(fun, *self.args, **self.kwargs).connect(sender=self.sender)
        return fun


class signal_dispatcher:  # noqa: N801 - Thorn's name
    """Calls `fun(instance, context={...})` when its signals come."""

    def __init__(self, fun: Callable[..., Any], *, use_transitions: bool = True) -> None:
        self.fun = fun
        self.use_transitions = use_transitions

    def connect(self, sender: Any = None) -> None:
        """Listen to this model's signals, for as long as the process lives."""
        for signal, handler in self.setup_signals().items():
            signal.connect(handler, sender=sender, weak=False)

    def setup_signals(self) -> Mapping[Any, Callable[..., None]]:
        """Which signals, and who takes them."""
        return {}

    def tell(self, instance: Any, using: str | None, **context: Any) -> None:
        """Call the function; what it publishes waits for the commit."""
        with holding(after_commit(using)):
            self.fun(instance, context={"instance": instance.pk, **context})


class dispatch_on_create(signal_dispatcher):  # noqa: N801 - Thorn's name
    """An instance was made."""

    def setup_signals(self) -> Mapping[Any, Callable[..., None]]:
        return {signals.post_save: self}

    def __call__(
        self,
        instance: Any,
        *,
        raw: bool = False,
        created: bool = False,
        using: str | None = None,
        **_: Any,
    ) -> None:
        if created and not raw:  # raw: a fixture is loaded
            self.tell(instance, using)


class dispatch_on_change(signal_dispatcher):  # noqa: N801 - Thorn's name
    """An instance that was there already was saved.

    With `use_transitions` the version before is read first, for `now_` operators.
    """

    def setup_signals(self) -> Mapping[Any, Callable[..., None]]:
        return {signals.pre_save: self.on_pre_save, signals.post_save: self}

    def on_pre_save(
        self, instance: Any, sender: Any, *, raw: bool = False, using: str | None = None, **_: Any
    ) -> None:
        """Keep the version before as `instance._previous_version`."""
        if not self.use_transitions or raw or instance.pk is None:
            return
        objects = sender.objects if using is None else sender._base_manager.using(using)  # noqa: SLF001 - documented by Django
        try:
            instance._previous_version = objects.get(pk=instance.pk)  # noqa: SLF001 - Thorn's name
        except ObjectDoesNotExist:
            instance._previous_version = None  # noqa: SLF001 - Thorn's name

    def __call__(
        self,
        instance: Any,
        *,
        raw: bool = False,
        created: bool = False,
        using: str | None = None,
        **_: Any,
    ) -> None:
        if not created and not raw:
            self.tell(instance, using)


class dispatch_on_delete(signal_dispatcher):  # noqa: N801 - Thorn's name
    """An instance was deleted."""

    def setup_signals(self) -> Mapping[Any, Callable[..., None]]:
        return {signals.post_delete: self}

    def __call__(self, instance: Any, *, using: str | None = None, **_: Any) -> None:
        self.tell(instance, using)


class dispatch_on_m2m_change(signal_dispatcher):  # noqa: N801 - Thorn's name
    """A many-to-many field of an instance was changed; subclasses say how.

    `related_field` is the field's name, or a path to it.
    """

    action: ClassVar[str | None] = None

    def __init__(
        self, fun: Callable[..., Any], related_field: Any, *, use_transitions: bool = True
    ) -> None:
        super().__init__(fun, use_transitions=use_transitions)
        self.related_field = related_field
        self.actions = dict(self.setup_actions())

    def setup_actions(self) -> Mapping[str, Callable[..., None]]:
        """Which of the signal's actions, and who takes them."""
        return {} if self.action is None else {self.action: self}

    def connect(self, sender: Any = None) -> None:
        through = attribute(sender, self.related_field).through
        if through is not None:
            signals.m2m_changed.connect(self.on_m2m_change, sender=through, weak=False)
            return
        # the other model is not there yet, and so the table between them neither
        field = sender._meta.get_field(self.related_field)  # noqa: SLF001 - documented by Django
        lazy_related_operation(lambda *_: self.connect(sender), sender, field.remote_field.model)

    def on_m2m_change(
        self, sender: Any, action: str, instance: Any, model: Any, **kwargs: Any
    ) -> None:
        """Take the signal; one from the other side is told for each instance on this one."""
        handler = self.actions.get(action)
        if handler is None:
            return
        if kwargs.get("reverse") is not True:
            handler(instance, sender=sender, model=model, **kwargs)
            return
        manager = model._base_manager.using(kwargs.get("using"))  # noqa: SLF001 - documented by Django
        for one in manager.filter(pk__in=kwargs.get("pk_set") or ()):
            changed = {**kwargs, "pk_set": {instance.pk}}
            handler(one, sender=sender, model=type(instance), **changed)

    def __call__(
        self,
        instance: Any,
        *,
        model: Any,
        pk_set: Iterable[Any] | None = None,
        using: str | None = None,
        **_: Any,
    ) -> None:
        keys = list(pk_set or ())
        self.tell(instance, using, model=serialize_model(model), pk_set=sorted(keys, key=_order))


class dispatch_on_m2m_add(dispatch_on_m2m_change):  # noqa: N801 - Thorn's name
    """Instances were added."""

    action = "post_add"


class dispatch_on_m2m_remove(dispatch_on_m2m_change):  # noqa: N801 - Thorn's name
    """Instances were removed."""

    action = "post_remove"


class dispatch_on_m2m_clear(dispatch_on_m2m_change):  # noqa: N801 - Thorn's name
    """All instances were removed at once.

    Cleared from the other side, it is told for each instance that loses one: which these are is
    looked up before, one query, since afterwards nobody knows.
    """

    action = "post_clear"

    def on_m2m_change(
        self, sender: Any, action: str, instance: Any, model: Any, **kwargs: Any
    ) -> None:
        if kwargs.get("reverse") is True and action == "pre_clear":
            manager = model._base_manager.using(kwargs.get("using"))  # noqa: SLF001 - documented by Django
            losing = manager.filter(**{self.related_field.replace(".", "__"): instance})
            cleared = instance.__dict__.setdefault("_thorn_cleared", {})
            cleared[self] = set(losing.values_list("pk", flat=True))
        elif kwargs.get("reverse") is True and action == "post_clear":
            kwargs["pk_set"] = instance.__dict__.get("_thorn_cleared", {}).pop(self, None)
        super().on_m2m_change(sender, action, instance, model, **kwargs)


def _order(key: Any) -> tuple[int, str]:
    """Numbers by size, everything else by its text."""
    return (key, "") if isinstance(key, int) else (0, str(key))
