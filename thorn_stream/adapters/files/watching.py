"""One thread that watches the subscriber files, and reads them again when they change.

What the system tells (inotify and its like) only says when to look; a look compares every file
with what it was. So a swap of a symbolic link (a Kubernetes ConfigMap), a file that is replaced
by another, and a file system that tells nothing are all the same, the last one a moment later.
"""

import asyncio
import gc
import glob
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from watchfiles import watch

from thorn_stream.adapters.files.kept import KeptFiles, Reload
from thorn_stream.core.subscribers import Subscriber

__all__ = ["Watcher"]

_QUIET: Final = 100  # milliseconds without a change after which a file counts as written
_LONGEST: Final = 1_000  # milliseconds of changes after which they are looked at all the same
_LOOK: Final = 2_000  # milliseconds between looks when nothing is told
_MOST_LINKS: Final = 40
_USED_WITHIN: Final = 10.0  # seconds for the loop to begin to use what was read
_FREED_AT_ONCE: Final = 100  # subscribers, before another thread may have its turn

_log: Final = logging.getLogger(__name__)
# it tells of every change in a folder: of a log that is written there, for ever
logging.getLogger("watchfiles").setLevel(logging.WARNING)

_Signature: TypeAlias = tuple[tuple[str, int, int, int], ...]


class Watcher:
    """Tells of every `Reload`, on the loop. Parsing and building are this thread's work.

    `globs` are those of the files that are kept.
    """

    def __init__(self, files: KeptFiles, globs: Sequence[str]) -> None:
        self._files = files
        self._globs = tuple(globs)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="subscriber-files", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tell: Callable[[Reload], None] | None = None

    def start(self, tell: Callable[[Reload], None]) -> None:
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; a reload that is under way is told no more."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        """Wait for the thread to end, at most so long."""
        self._thread.join(seconds)

    def _run(self) -> None:
        seen: _Signature | None = None  # unknown: what changed since they were first read?
        while not self._stop.is_set():
            folders = self._folders()
            try:
                for told in self._wake_ups(folders):
                    named = self._files.named()
                    now = _signature(named)
                    if now != seen or any(_entry(path) in told for path in named if told):
                        seen = now
                        self._reload()
                    if self._folders() != folders:
                        break
            except Exception:  # noqa: BLE001 - whatever it is, the files are looked at again
                _log.exception("watching the subscriber files failed and is begun again")
                self._stop.wait(_LOOK / 1000)

    def _wake_ups(self, folders: dict[str, tuple[int, int]]) -> Iterator[set[str]]:
        """When to look, and at what: a file may be written twice without looking different."""
        yield set()  # what changed before it was watched
        try:
            for changes in watch(
                *folders,
                watch_filter=None,
                debounce=_LONGEST,
                step=_QUIET,
                rust_timeout=_LOOK,
                yield_on_timeout=True,
                recursive=False,
                raise_interrupt=False,
                stop_event=self._stop,
            ):
                yield {path for _, path in changes}
        except OSError as error:  # the system's limit of watches, most of the time
            _log.warning("subscriber files are looked at each %s s: %s", _LOOK / 1000, error)
            while not self._stop.wait(_LOOK / 1000):
                yield set()

    def _reload(self) -> None:
        before: list[Subscriber] = []
        with _uncollected():
            before.extend(self._files.directory)
            reload = self._files.reload()
        if reload is None or self._stop.is_set() or self._loop is None:
            return
        used = threading.Event()
        try:
            self._loop.call_soon_threadsafe(self._told, reload, used)
        except RuntimeError:  # the loop is closed
            self._stop.set()
            return
        used.wait(_USED_WITHIN)
        # Were the loop's the last references, it would stand still while all of them are freed.
        while before:
            del before[-_FREED_AT_ONCE:]

    def _told(self, reload: Reload, used: threading.Event) -> None:
        try:
            if self._tell is not None and not self._stop.is_set():
                self._tell(reload)
        finally:
            used.set()

    def _folders(self) -> dict[str, tuple[int, int]]:
        """What is to be watched: where files are or may appear, and where links to them are.

        With the identity of each folder: one that was removed and made again is another.
        """
        places = [folder for pattern in self._globs for folder in _may_appear_in(pattern)]
        places += [folder for path in self._files.named() for folder in _linked_from(path)]
        found = {}
        for place in places:
            folder = _existing(place).resolve()
            state = folder.stat()
            found[str(folder)] = (state.st_dev, state.st_ino)
        return found


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector: over the objects of 100,000 subscribers it stops all for 0.2 s.

    They are no garbage, and are left out of later collections as well; what dies by its last
    reference is freed all the same.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _signature(paths: Sequence[Path]) -> _Signature:
    """Changes when one of these files does, or when there are others."""
    return tuple(sorted({_state(path) for path in paths}))


def _entry(path: Path) -> str:
    """The file as the watching names it: the real folder, and the name in it."""
    return str(path.parent.resolve() / path.name)


def _state(path: Path) -> tuple[str, int, int, int]:
    try:
        state = path.stat()
    except OSError:
        return (str(path), 0, 0, 0)
    return (str(path), state.st_mtime_ns, state.st_size, state.st_ino)


def _may_appear_in(pattern: str) -> Iterator[str]:
    """The folders in which a file could appear that this glob matches."""
    parts = Path(pattern).parts
    first = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    yield str(Path(*parts[:first]))
    for length in range(first + 1, len(parts)):
        # Path.glob takes no absolute patterns
        found = glob.glob(str(Path(*parts[:length])), recursive=True)  # noqa: PTH207
        yield from (name for name in found if Path(name).is_dir())


def _linked_from(path: Path) -> Iterator[str]:
    """The folder of a file, and of every symbolic link on the way to it."""
    yield str(path.parent)
    todo = [path.absolute()]
    for _ in range(_MOST_LINKS):
        if not todo:
            return
        at = todo.pop()
        for step in (at, *at.parents):
            if step.is_symlink():
                yield str(step.parent)
                todo.append(step.parent / step.readlink())


def _existing(folder: str) -> Path:
    """The folder, or the nearest one above it that is there."""
    path = Path(folder).absolute()
    return next(each for each in (path, *path.parents) if each.is_dir())
