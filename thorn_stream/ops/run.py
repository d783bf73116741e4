"""A dispatcher as a process: from start to signal to exit status."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from functools import partial
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from thorn_stream.adapters.logs import summary
from thorn_stream.app import Application
from thorn_stream.config import Loaded
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.ops.checking import examine
from thorn_stream.version import __version__

__all__ = ["run"]

_YOUNG_OBJECTS: Final = 50_000


def run(loaded: Loaded, log: FilteringBoundLogger) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status: 0 drained, 1 something was left open.

    Raises what `Application` raises while it starts. A second signal ends the process at once.
    """
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        drained = runner.run(_serve(loaded, log))
    if not drained:
        # Threads that wait for a Kafka that does not answer would keep the process alive.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    return 0


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where there is one; the standard loop is slower, not different."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - it may be missing
    except ImportError:
        return asyncio.new_event_loop()
    return new_event_loop()


async def _serve(loaded: Loaded, log: FilteringBoundLogger) -> bool:
    try:
        app = Application(loaded, log)
    except ConfigurationError:
        examine(loaded)  # raises all the mistakes, not the first kind alone
        raise
    stop = _stop_on_signals(log)
    _calm_the_collector()
    asyncio.get_running_loop().set_exception_handler(partial(_unexpected, log))
    summary(log, loaded.settings)
    for warning in loaded.warnings:
        log.warning(warning)
    starting = asyncio.create_task(app.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            log.info("running", version=__version__, subscribers=len(app.directory))
            await stopping
        else:
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
        log.info("stopping", drain_timeout=loaded.settings.drain_timeout)
    finally:
        stopping.cancel()
        drained = await app.stop()
    log.info("stopped", drained=drained)
    return drained


def _stop_on_signals(log: FilteringBoundLogger) -> asyncio.Event:
    """The first signal asks for a drain, the second ends everything now."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            log.warning("ended at once", error="a second signal: what was under way is repeated")
            sys.stderr.flush()
            os._exit(1)
        stop.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, asked)
    return stop


def _calm_the_collector() -> None:
    """What is there now stays: leave it out of every collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 100)


def _unexpected(
    log: FilteringBoundLogger, _: asyncio.AbstractEventLoop, context: dict[str, Any]
) -> None:
    """A bug of ours: say where it was; nothing is committed past what it left open."""
    log.error("bug", message=context["message"], exc_info=context.get("exception"))
