"""Keeps secrets out of lines: the user part and the query of URLs, and settings that are secret."""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, SecretBytes, SecretStr

__all__ = ["masked", "scrubbed"]

# RFC 3986, section 3: scheme://user@host/path?query#fragment. A password may hold a raw @, so the
# user part reaches to the last @ before the path.
_URL: Final = re.compile(
    r"""(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)
        (?:[^\s/?\#"'<>]*@)?
        (?P<rest>[^\s?\#"'<>]*)
        (?:\?[^\s\#"'<>]*)?
        (?:\#[^\s"'<>]*)?""",
    re.VERBOSE,
)
_DUMPED: Final = str(SecretStr("any"))  # what pydantic makes of a secret when it dumps one
_SECRET_NAME: Final = re.compile(
    r"passw|secret|token|credential|authorization|cookie|jaas|api.?key|(?:^|[._-])key[._-]pem$",
    re.IGNORECASE,
)


def scrubbed(text: str) -> str:
    """The text with the user part, the query and the fragment of every URL in it left out."""
    return _URL.sub(r"\g<scheme>\g<rest>", text) if "://" in text else text


def masked(value: Any, name: str = "") -> Any:
    """Settings as they may be printed: every secret as `set`, one that is not set as null.

    Secret is what has a secret's type, what has a secret's name (whatever its type), and every
    value of `headers`, since a receiver's key usually stands there.
    """
    if isinstance(value, SecretStr | SecretBytes):
        return "set" if value.get_secret_value() else None
    if value == _DUMPED:
        return "set"
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_NAME.search(name):  # before numbers: a password may be one
        return None if value in ("", b"", (), [], {}) else "set"
    if isinstance(value, int | float):
        return value
    if isinstance(value, BaseModel):
        value = {field: getattr(value, field) for field in type(value).model_fields}
    if isinstance(value, Mapping):
        if name == "headers":
            return dict.fromkeys(map(str, value), "set")
        return {str(each): masked(inner, str(each)) for each, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):  # a network can be iterated too
        return [masked(each, name) for each in value]
    return scrubbed(str(value))
