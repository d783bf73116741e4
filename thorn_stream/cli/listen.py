"""`thorn-stream listen`."""

import contextlib
import os
from typing import Annotated

import typer

from thorn_stream.cli.common import say

__all__ = ["listen"]


def listen(
    port: Annotated[int, typer.Option(help="Port to listen on; 0: a free one.")] = 8000,
    secret: Annotated[
        str | None,
        typer.Option(help="Secret to check with, env:NAME or file:PATH; else the example's."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Be a receiver for development: print each call, check its signature, answer 200."""
    from thorn_stream.adapters.files import Secrets
    from thorn_stream.ops.listen import DEVELOPMENT_SECRET, Receiver, describe

    used = DEVELOPMENT_SECRET if secret is None else Secrets(os.environ)(secret)
    receiver = Receiver(host, port, used, lambda call: say(describe(call)))
    of = "the example's secret" if secret is None else "your secret"
    say(f"listening on {receiver.url}, checking with {of}; Ctrl-C ends")
    with contextlib.suppress(KeyboardInterrupt):  # how it ends, not a failure
        receiver.run()
