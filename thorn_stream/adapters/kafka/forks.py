"""What becomes of Kafka clients in a process that was forked."""

import ctypes
import os
import weakref
from typing import Any

__all__ = ["keep_in_children"]


def keep_in_children(living: "weakref.WeakSet[Any]") -> None:
    """A parent's client must never be freed in a child.

    librdkafka would wait for threads that are not there. One reference that nobody gives back
    keeps each of them for as long as the child lives.
    """

    def in_child() -> None:
        for one in list(living):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=in_child)
