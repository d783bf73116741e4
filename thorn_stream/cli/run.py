"""`thorn-stream run`."""

import os

from thorn_stream.cli.common import ConfigOption

__all__ = ["run"]


def run(config: ConfigOption = None) -> int:
    """Run a dispatcher until SIGTERM or Ctrl-C; more of them, here or elsewhere, share the work."""
    from thorn_stream.adapters.logs import set_up
    from thorn_stream.ops.checking import load_examined
    from thorn_stream.ops.run import run as run_dispatcher

    loaded = load_examined(config, os.environ)
    log = loaded.settings.log
    return run_dispatcher(loaded, set_up(level=log.level, style=log.format))
