"""The Django application: nothing but a check of the settings."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks

from thorn_stream.core.errors import ThornError
from thorn_stream.events.state import current_app

__all__ = ["ThornConfig"]


class ThornConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    name = "thorn_stream.django"
    label = "thorn_stream"
    verbose_name = "Webhooks"

    def ready(self) -> None:
        checks.register(settings_are_right, "thorn_stream")


def settings_are_right(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[Any]:
    """`manage.py check` names every mistake in THORN_ settings, as `config check` does."""
    del app_configs, kwargs
    try:
        _ = current_app().settings
    except ThornError as error:
        return [checks.Error(line, id="thorn_stream.E001") for line in str(error).splitlines()]
    return []
