"""`thorn-stream broker`."""

from thorn_stream.cli.common import say

__all__ = ["broker"]


def broker() -> None:
    """Run the embedded broker alone, for development; it keeps nothing. Ctrl-C ends it."""
    from thorn_stream.adapters.embedded import run_forever

    run_forever(
        lambda running: say(
            f"embedded broker on {running.bootstrap_servers}; other commands in this directory "
            "find it with `bootstrap_servers: embedded`; Ctrl-C ends it"
        )
    )
