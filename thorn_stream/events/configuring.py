"""The settings of a `Thorn`: of its arguments, the environment, Django, and a file."""

import importlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from thorn_stream.config import Loaded, Settings, load_settings
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.validators import serialize_validator

__all__ = ["load", "says_where_kafka_is"]

_log: Final = logging.getLogger("thorn_stream")


def load(
    arguments: Mapping[str, Any], bootstrap_servers: str | None, config: Path | None
) -> Loaded:
    """Arguments beat the environment, that beats Django's settings, those beat the file.

    Raises ConfigurationError with a line for each mistake.
    """
    environ = {**_of_django(os.environ), **os.environ}
    overlay = dict(arguments)
    if bootstrap_servers is not None:
        overlay["kafka"] = {
            **overlay.get("kafka", {}),
            "bootstrap_servers": bootstrap_servers,
        }
    names: dict[str, str] = {}
    for setting, value in overlay.items():
        name = f"THORN_{setting}".upper()
        if setting not in Settings.model_fields:
            raise ConfigurationError(f"Thorn({setting}=...): is no setting: remove it")
        if isinstance(value, Mapping):
            for key, inner in value.items():
                environ[f"{name}__{key}".upper().replace(".", "_")] = _text(inner)
        else:
            environ[name] = _text(value, setting)
        names[name] = setting
    try:
        loaded = load_settings(config, environ)
    except ConfigurationError as error:
        raise ConfigurationError(_by_argument(str(error), names)) from None
    for line in loaded.warnings:
        _log.warning("%s", line)
    return loaded


def says_where_kafka_is(environ: Mapping[str, str]) -> bool:
    """Whether the environment, or Django's settings, say where Kafka is."""
    in_django = any(name.startswith("THORN_KAFKA") for name in _of_django(environ))
    return in_django or "THORN_KAFKA__BOOTSTRAP_SERVERS" in environ


def _of_django(environ: Mapping[str, str]) -> dict[str, str]:
    """`THORN_X` of Django's settings as variables, but for what the environment says itself."""
    if "django" not in sys.modules and "DJANGO_SETTINGS_MODULE" not in environ:
        return {}
    try:
        conf = importlib.import_module("django.conf").settings
        names = [name for name in dir(conf) if name.startswith("THORN_")]
    except Exception:  # noqa: BLE001 - Django is there, but this program is none of its
        return {}
    over = [name for name in environ if name.startswith("THORN_")]
    return {
        name: _text(getattr(conf, name), name) if _is_setting(name) else "of Thorn"
        for name in names
        if not any(name == said or name.startswith(f"{said}__") for said in over)
    }


def _is_setting(variable: str) -> bool:
    """Others of Thorn's may hold anything; they are only named in a warning."""
    return variable.removeprefix("THORN_").lower().partition("__")[0] in Settings.model_fields


def _text(value: Any, setting: str = "") -> str:
    """A value as a variable has it. Raises ConfigurationError for what has no text."""
    if isinstance(value, str):
        return value
    if setting.lower().endswith("recipient_validators"):
        value = [serialize_validator(validator) for validator in value]
    try:
        return json.dumps(value, default=str if isinstance(value, Path) else None)
    except TypeError as error:
        raise ConfigurationError(f"{setting}: {error}: write it as a file would have it") from None


def _by_argument(text: str, names: Mapping[str, str]) -> str:
    """Lines that name a variable nobody set, by the argument it stands for."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        for name, setting in names.items():
            if line.startswith(name):
                shown = "bootstrap_servers" if setting == "kafka" else setting
                _, colon, rest = line.partition(":")
                lines[number] = f"Thorn({shown}=...){colon}{rest}"
                break
    return "\n".join(lines)
