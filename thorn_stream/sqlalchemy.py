"""SQLAlchemy's mapped classes to events: after the commit of their session.

Importing this module and decorating the class is all the wiring. What a flush writes is an event
at once, of the values as they are then, and published when the session's transaction commits; a
savepoint that is rolled back takes its events with it. Async sessions do all of this through the
session they wrap. Statements (`update(Article).where(...)`) name no instances: they warn.
"""

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar, Final, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import event, inspect
from sqlalchemy.orm import Mapper, ORMExecuteState, Session, SessionTransaction, object_session

from thorn_stream.events import Event, ModelEvent, Q, buffer_events, model_reverser, webhook_model
from thorn_stream.events.holding import holding
from thorn_stream.events.reverse import attribute

__all__ = [
    "Event",
    "ModelEvent",
    "Q",
    "StatementWarning",
    "buffer_events",
    "dispatch_on_change",
    "dispatch_on_create",
    "dispatch_on_delete",
    "dispatch_on_m2m_add",
    "dispatch_on_m2m_clear",
    "dispatch_on_m2m_remove",
    "model_reverser",
    "signal_dispatcher",
    "webhook_model",
]


class StatementWarning(UserWarning):
    """A statement changed rows of a webhook model: no events are sent for it."""


_connected: Final[WeakSet[Any]] = WeakSet()
_Held: TypeAlias = tuple[SessionTransaction | None, Callable[[], None]]
_held: Final[WeakKeyDictionary[Session, list[_Held]]] = WeakKeyDictionary()
"""By session: what is to be published, with the (nested) transaction it was made in, if any."""
_ready: Final[WeakKeyDictionary[Session, list[Callable[[], None]]]] = WeakKeyDictionary()
"""By session: what is committed, and published when the session is itself again."""


class signal_dispatcher:  # noqa: N801 - as in thorn_stream.django.signals
    """Calls `fun(instance, context={...})` when the mapper tells of its kind of change."""

    use_transitions = True
    event_name: ClassVar[str] = ""

    def __init__(self, fun: Callable[..., Any]) -> None:
        self.fun = fun

    def connect(self, sender: Any = None) -> None:
        """Listen to this class's mapper (and those of its subclasses)."""
        _watch(sender)
        event.listen(sender, self.event_name, self._told, propagate=True)

    def _told(self, mapper: Mapper[Any], connection: object, target: Any) -> None:
        del mapper, connection
        self.tell(target)

    def tell(self, instance: Any, **context: Any) -> None:
        """Call the function; what it publishes waits for the commit."""
        session = object_session(instance)
        key = inspect(type(instance)).primary_key_from_instance(instance)
        identity = key[0] if len(key) == 1 else key
        hold = None if session is None else _hold(session)
        with holding(hold):
            self.fun(instance, context={"instance": identity, **context})


class dispatch_on_create(signal_dispatcher):  # noqa: N801 - Thorn's name
    """A row was inserted for an instance."""

    event_name = "after_insert"


class dispatch_on_change(signal_dispatcher):  # noqa: N801 - Thorn's name
    """A row was updated; `_previous_version` has the column values it had before."""

    event_name = "after_update"

    def connect(self, sender: Any = None) -> None:
        super().connect(sender)
        if self.use_transitions:  # else what was there before is not loaded when it is replaced
            for column in inspect(sender).column_attrs:
                event.listen(getattr(sender, column.key), "set", _replaced, active_history=True)

    def _told(self, mapper: Mapper[Any], connection: object, target: Any) -> None:
        del connection
        session = object_session(target)
        if session is not None and not session.is_modified(target, include_collections=False):
            return  # a collection changed, and no column: nothing was updated
        if self.use_transitions:
            target._previous_version = _before(mapper, target)  # noqa: SLF001 - Thorn's name
        self.tell(target)


class dispatch_on_delete(signal_dispatcher):  # noqa: N801 - Thorn's name
    """A row was deleted."""

    event_name = "after_delete"


class dispatch_on_m2m_change(signal_dispatcher):  # noqa: N801 - Thorn's name
    """A collection was changed in memory; published, too, with the commit."""

    def __init__(self, fun: Callable[..., Any], related_field: str) -> None:
        super().__init__(fun)
        self.related_field = related_field

    def connect(self, sender: Any = None) -> None:
        _watch(sender)
        event.listen(attribute(sender, self.related_field), self.event_name, self._changed)

    def _changed(self, target: Any, value: Any, initiator: object) -> None:
        del initiator
        session = object_session(target)
        if session is None:
            return  # not in a session yet: it will be created with these
        identity = inspect(value).identity
        self.tell(
            target,
            model={"model_name": type(value).__name__},
            pk_set=[] if identity is None else list(identity),
        )


class dispatch_on_m2m_add(dispatch_on_m2m_change):  # noqa: N801 - Thorn's name
    """An instance was added to the collection."""

    event_name = "append"


class dispatch_on_m2m_remove(dispatch_on_m2m_change):  # noqa: N801 - Thorn's name
    """An instance was removed from the collection."""

    event_name = "remove"


class dispatch_on_m2m_clear(dispatch_on_m2m_change):  # noqa: N801 - Thorn's name
    """Another collection was put in this one's place."""

    event_name = "bulk_replace"

    def _changed(self, target: Any, value: Any, initiator: object) -> None:
        del initiator
        if object_session(target) is not None and not value:
            self.tell(target, pk_set=[])


def _replaced(target: object, value: object, old: object, initiator: object) -> None:
    """Nothing: that it listens is what loads the value before."""


def _before(mapper: Mapper[Any], instance: Any) -> Any:
    """The values of the columns as the last flush had written them."""
    state = inspect(instance)
    values: dict[str, Any] = {}
    for column in mapper.column_attrs:
        history = state.attrs[column.key].history
        old = history.deleted or history.unchanged or (None,)
        values[column.key] = old[0]
    return SimpleNamespace(**values)


# --- sessions ----------------------------------------------------------------------------------


def _hold(session: Session) -> Callable[[Callable[[], None]], None]:
    def hold(publish: Callable[[], None]) -> None:
        transaction = session.get_nested_transaction() or session.get_transaction()
        _held.setdefault(session, []).append((transaction, publish))

    return hold


def _watch(model: Any) -> None:
    """Sessions are listened to from the first model on; statements are compared with all."""
    if not _connected:
        event.listen(Session, "after_commit", _committed)
        event.listen(Session, "after_transaction_end", _ended)
        event.listen(Session, "do_orm_execute", _executed)
    _connected.add(model)


def _committed(session: Session) -> None:
    """A savepoint's events are now its parent's; those of the whole are to be published."""
    waiting = _held.get(session)
    if not waiting:
        return
    nested = session.get_nested_transaction()
    if nested is None:
        _ready[session] = [publish for _, publish in _held.pop(session)]
        return
    _held[session] = [
        (nested.parent if made_in is nested else made_in, publish) for made_in, publish in waiting
    ]


def _ended(session: Session, transaction: SessionTransaction) -> None:
    """A transaction is over. What is still its own was rolled back with it: it never happened."""
    if transaction.parent is None:
        _held.pop(session, None)
        for publish in _ready.pop(session, []):
            publish()
    elif transaction.nested and session in _held:
        _held[session] = [one for one in _held[session] if one[0] is not transaction]


def _executed(state: ORMExecuteState) -> None:
    """Insert, update and delete statements tell of no instances: say so."""
    if not (state.is_insert or state.is_update or state.is_delete):
        return
    mapper = state.bind_mapper
    if mapper is None:
        return
    if any(issubclass(mapper.class_, model) for model in _connected):
        kind = "insert" if state.is_insert else "update" if state.is_update else "delete"
        warnings.warn(
            f"{kind} of {mapper.class_.__name__} by a statement: no events are sent for it; change "
            "instances in a session, or send the event yourself",
            StatementWarning,
            stacklevel=2,
        )
