"""Which framework a model belongs to: who connects events to its signals."""

import importlib
from importlib.util import find_spec
from typing import Any

from thorn_stream.core.errors import ConfigurationError

__all__ = ["signals_for"]


def signals_for(model: Any) -> Any:
    """The module with `dispatch_on_create` and its like for this model (None: the likeliest).

    Raises ConfigurationError for a class that is no model of a framework we know.
    """
    if model is not None and hasattr(model, "__mapper__"):
        return importlib.import_module("thorn_stream.sqlalchemy")
    if find_spec("django") is not None:
        return importlib.import_module("thorn_stream.django.signals")
    if model is None and find_spec("sqlalchemy") is not None:
        return importlib.import_module("thorn_stream.sqlalchemy")
    raise ConfigurationError(
        f"webhook_model: {getattr(model, '__name__', model)} is no model that is known here: "
        "install thorn-stream[django], or give it a SQLAlchemy mapping before it is decorated"
    )
