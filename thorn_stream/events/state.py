"""Which app is meant where none is named; and what is done for all of them at exit and fork."""

import atexit
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from thorn_stream.events.app import Thorn
    from thorn_stream.events.outgoing import Dispatcher

__all__ = [
    "current_app",
    "enter",
    "finish_with_process",
    "override",
    "overriding",
    "set_current_app",
]

_BEFORE_OTHERS: Final = 100

_lock = threading.Lock()
_current: "Thorn | None" = None
_override: "Dispatcher | None" = None
_living: Final["weakref.WeakSet[Thorn]"] = weakref.WeakSet()


def current_app() -> "Thorn":
    """The app made last (or set); one of the settings file and the environment, if none was."""
    global _current  # noqa: PLW0603 - the one default of the process, as in Thorn
    if _current is None:
        from thorn_stream.events.app import Thorn  # noqa: PLC0415 - a circle otherwise

        with _lock:
            if _current is None:
                _current = Thorn(set_as_current=False)
    return _current


def set_current_app(app: "Thorn | None") -> None:
    global _current  # noqa: PLW0603 - as above
    _current = app


def overriding() -> "Dispatcher | None":
    """What all events go to instead, while a test asks for it."""
    return _override


def override(dispatcher: "Dispatcher | None") -> None:
    global _override  # noqa: PLW0603 - as above
    _override = dispatcher


def enter(app: "Thorn") -> None:
    """Look after this app at exit, and in children."""
    _living.add(app)


def finish_with_process(app: "Thorn") -> None:
    """Let a child of multiprocessing (or Celery's billiard) flush: it ends without atexit.

    To be called in that child; elsewhere atexit is enough, and nothing is done.
    """
    for package in ("multiprocessing", "billiard"):
        process, util = (sys.modules.get(f"{package}.{name}") for name in ("process", "util"))
        if process is None or util is None:
            continue
        if getattr(process.current_process(), "_parent_pid", None) is not None:
            util.Finalize(None, app.finish, exitpriority=_BEFORE_OTHERS)


@atexit.register
def _at_exit() -> None:
    for app in list(_living):
        app.finish()


def _in_child() -> None:
    global _lock  # noqa: PLW0603 - a thread of the parent may have held it during the fork
    _lock = threading.Lock()
    for app in list(_living):
        app.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
