"""A model as JSON, and back."""

from collections.abc import Mapping
from typing import Any

from django.apps import apps

__all__ = ["deserialize_model", "serialize_model"]


def serialize_model(model: Any) -> dict[str, str]:
    """Name a model (or an instance's): `{"app_label": ..., "model_name": ...}`."""
    meta = model._meta  # noqa: SLF001 - documented by Django
    return {"app_label": meta.app_label, "model_name": meta.model_name}


def deserialize_model(model: Any) -> Any:
    """The model that was named; one that is a model already as it is. LookupError if unknown."""
    if isinstance(model, Mapping):
        return apps.get_model(model["app_label"], model["model_name"])
    return model
