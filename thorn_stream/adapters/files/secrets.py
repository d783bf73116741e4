"""`env:NAME` and `file:PATH`: secrets looked up where a settings or subscriber file names them."""

from collections.abc import Mapping
from pathlib import Path

from thorn_stream.adapters.files.documents import why
from thorn_stream.core.errors import ConfigurationError

__all__ = ["Secrets"]


class Secrets:
    """Looks up `env:NAME` and `file:PATH`; any other text is the secret itself.

    `named` are the variables that were asked for. Called with what stands in a settings or
    subscriber file; raises ConfigurationError, whose text never holds a secret.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.named: set[str] = set()
        self._environ = environ

    def __call__(self, text: str) -> str:
        if text.startswith("env:"):
            return self._variable(text.removeprefix("env:").strip())
        if text.startswith("file:"):
            return self._file(text.removeprefix("file:").strip())
        return text

    def _variable(self, name: str) -> str:
        self.named.add(name)
        value = self._environ.get(name)
        if not value:
            state = "not set" if value is None else "empty"
            msg = f"the environment variable {name} is {state}: set it, or change env:{name}"
            raise ConfigurationError(msg)
        return value

    def _file(self, name: str) -> str:
        try:
            secret = Path(name).read_text(encoding="utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            msg = f"the file {name} is not UTF-8 text"
            raise ConfigurationError(msg) from None
        except (OSError, ValueError) as error:
            reason = why(error) if isinstance(error, OSError) else "no path"
            msg = f"the file {name} cannot be read ({reason}): make it, or change file:{name}"
            raise ConfigurationError(msg) from None
        if not secret:
            msg = f"the file {name} is empty: write the secret into it"
            raise ConfigurationError(msg)
        return secret
