"""A receiver for development: tells each call, checks its signature, answers 200."""

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from thorn_stream.core.errors import InvalidSignature, LocalError
from thorn_stream.core.signing import Digest, secret_key, verify

__all__ = ["DEVELOPMENT_SECRET", "Call", "Receiver", "describe", "signature"]

DEVELOPMENT_SECRET: Final = "whsec_dGhvcm4tc3RyZWFtLWRldmVsb3BtZW50LW9ubHk="  # noqa: S105 - no secret: in every copy
"""Known to everybody: what config/dev.yaml signs with, for first steps only."""

_LARGEST: Final = 64 << 20
_DIGESTS: Final[dict[int, Digest]] = {28: "sha1", 44: "sha256", 88: "sha512"}
"""Length of a base64 signature to what made it: `hmac_digest` is not in the request."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request as received. `at` in unix seconds; `signature` is ok, none, or bad and why."""

    at: float
    headers: Mapping[str, str]
    body: bytes
    signature: str

    def header(self, name: str) -> str:
        return _printable(self.headers.get(name, "-"))


class Receiver:
    """Listens at once; `run` answers until it is interrupted, `stop` ends it from elsewhere.

    Raises LocalError when the port is taken, ConfigurationError for a secret that is garbled.
    """

    def __init__(self, host: str, port: int, secret: str, on_call: Callable[[Call], None]) -> None:
        secret_key(secret)

        class Handler(_Handler):
            def called(self, headers: Mapping[str, str], body: bytes) -> None:
                now = time.time()
                on_call(Call(now, headers, body, signature(headers, body, secret, now)))

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise LocalError(_taken(host, port, error)) from None
        except OverflowError:
            raise LocalError(f"port {port} does not exist: take one from 1 to 65535") from None
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/"

    def run(self) -> None:
        with self._server:
            self._server.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        self._server.shutdown()


def _taken(host: str, port: int, error: OSError) -> str:
    why = (error.strerror or str(error)).lower()
    if "in use" in why:
        return f"port {port} is taken: stop what listens there, or choose another with --port"
    return f"cannot listen on {host}:{port} ({why}): choose others with --host and --port"


def signature(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> str:
    """`ok`, `none`, or `bad` with the reason. Of two signatures both must be right."""
    hook = headers.get("hook-hmac")
    digests: list[Digest | None] = [None] if "webhook-signature" in headers else []
    if hook is not None:
        digests.append(_DIGESTS.get(len(hook), "sha256"))
    if not digests:
        return "none"
    try:
        for digest in digests:
            verify(secret, headers, body, now=now, hook_digest=digest)
    except InvalidSignature as error:
        return f"bad ({_printable(str(error))})"
    return "ok"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "thorn-stream-listen"
    timeout = 60

    def called(self, headers: Mapping[str, str], body: bytes) -> None:
        raise NotImplementedError

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LARGEST:
            self.close_connection = True
            self._answer(411 if not length else 413)
            return
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._answer(200)
        self.called(headers, body)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Calls are told by `on_call`."""


def describe(call: Call) -> str:
    """A call as a terminal shows it: one line of facts, the body below it."""
    clock = time.strftime("%H:%M:%S", time.localtime(call.at))
    facts = (
        f"{clock}  {call.header('hook-event')}  delivery {call.header('hook-delivery')}  "
        f"attempt {call.header('hook-attempt')}  signature {call.signature}"
    )
    return f"{facts}\n{_pretty(call.body)}\n"


def _pretty(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    with contextlib.suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return "\n".join("  " + _printable(line) for line in text.splitlines())


def _printable(text: str) -> str:
    """Without what would move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
