"""What the dispatcher process of the demo runs: `thorn-stream`, tied to its parent.

    python -m thorn_stream.ops.demo.child run --config FILE

is `python -m thorn_stream run --config FILE` that ends when standard input does. Its other end is
held by the demo alone, so the system closes it however the demo ends, by kill -9 too.
"""

import os
import signal
import sys
import threading
import time
from typing import Final

__all__ = ["tie_to_parent"]

_GRACE: Final = 3.0


def tie_to_parent(descriptor: int, grace: float = _GRACE) -> None:
    """Stop this process when the pipe `descriptor` ends; at once `grace` seconds later."""
    threading.Thread(target=_watch, args=(descriptor, grace), name="parent", daemon=True).start()


def _watch(descriptor: int, grace: float) -> None:
    while os.read(descriptor, 64):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(1)


if __name__ == "__main__":
    tie_to_parent(sys.stdin.fileno())
    from thorn_stream.cli import main  # after the watch: a parent may end while this is imported

    main()
