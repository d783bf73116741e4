"""The settings in force, for people and programs to read: secrets are `set`, or null."""

from typing import Any

from pydantic import SecretStr

from thorn_stream.config.settings import Settings
from thorn_stream.core.subscribers import Subscriber

__all__ = ["MASK", "in_force", "schema", "shown_subscriber"]

MASK = "set"


def in_force(settings: Settings) -> dict[str, Any]:
    """Every setting, defaults included, in the order of the sample file."""
    shown: dict[str, Any] = _plain(settings.model_dump(mode="python"))
    validators = settings.model_dump(mode="json", include={"recipient_validators"})
    shown.update(validators)
    shown["subscribers"] = [shown_subscriber(one) for one in settings.subscribers]
    return shown


def shown_subscriber(subscriber: Subscriber) -> dict[str, Any]:
    """A subscriber without its secrets.

    Values of headers may be ones (Authorization), and so may the query of its URL (?token=...).
    """
    shown: dict[str, Any] = _plain(subscriber.model_dump(mode="python", exclude_defaults=True))
    shown["url"] = _without_query(subscriber.url)
    if subscriber.headers:
        shown["headers"] = dict.fromkeys(subscriber.headers, MASK)
    return shown


def _without_query(url: str) -> str:
    """Its query as `set`; no user part is there, and the fragment is sent to nobody."""
    there, mark, _ = url.partition("#")[0].partition("?")
    return f"{there}?{MASK}" if mark else there


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str | int | float) or value is None:
        return value
    return str(value)


def schema() -> dict[str, Any]:
    """A JSON Schema of the settings file, for editors."""
    made = Settings.model_json_schema()
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "thorn_stream settings"
    return made
