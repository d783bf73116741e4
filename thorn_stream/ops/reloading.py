"""Who may be called, while a dispatcher runs: read at start, and again when a file changes."""

from collections.abc import Callable, Sequence
from typing import Final

from structlog.typing import FilteringBoundLogger

from thorn_stream.adapters.files import FileSubscribers, KeptFiles, Own, Reload, Watcher
from thorn_stream.adapters.metrics import Metrics
from thorn_stream.config import Loaded
from thorn_stream.core.directory import Directory
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.validators import Guard
from thorn_stream.ops.ceilings import cut
from thorn_stream.ops.guarding import inline, parser

__all__ = ["Reloading"]

_MOST_MISTAKES: Final = 20


class Reloading:
    """The subscribers of the settings and of files; each reload is counted and told in a line.

    `guard` judges every URL where it enters; `check` refuses a Directory by raising
    ConfigurationError. Raises ConfigurationError with a
    line for each mistake that stands there at the start.
    """

    def __init__(
        self,
        loaded: Loaded,
        guard: Guard,
        check: Callable[[Directory], None],
        metrics: Metrics,
        log: FilteringBoundLogger,
    ) -> None:
        self._settings = settings = loaded.settings
        self._cut: frozenset[str] = frozenset()
        self._beyond: tuple[Directory, list[str]] = (Directory(), [])
        place = f"{loaded.path}: subscribers" if loaded.path else "THORN_SUBSCRIBERS"

        def build(sources: Sequence[tuple[str, Sequence[Subscriber]]]) -> Directory:
            directory = Directory(sources)
            check(directory)
            # here, on the thread that reads: over very many the loop would stand still
            self._beyond = (directory, cut(self._settings, directory))
            return directory

        def read_inline(resolve: Callable[[str], str]) -> Sequence[Subscriber]:
            return inline(guard, place, loaded.inline(resolve))

        files = FileSubscribers(settings.subscriber_files, loaded.secrets, parser(guard))
        kept = KeptFiles(files, loaded.secrets, build, Own(place, read_inline, loaded.master))
        self.directory = kept.load()
        self._watcher = Watcher(kept, settings.subscriber_files)
        self._metrics = metrics
        self._log = log
        self._use: Callable[[Directory], None] = lambda _: None
        self._sign_with: Callable[[str], None] = lambda _: None

    def start(self, use: Callable[[Directory], None], sign_with: Callable[[str], None]) -> None:
        """Watch from now on.

        On the loop, `use` is given each new Directory, `sign_with` each new master secret.
        """
        self._use = use
        self._sign_with = sign_with
        self._tell_what_is_cut(self.directory)
        self._watcher.start(self._reloaded)

    def stop(self) -> None:
        self._watcher.stop()

    def _reloaded(self, reload: Reload) -> None:
        self._metrics.count("thorn_reload_total", ("file", "error" if reload.mistakes else "ok"))
        for mistake in reload.mistakes[:_MOST_MISTAKES]:
            self._log.error("subscribers not taken", source="file", error=mistake)
        if (more := len(reload.mistakes) - _MOST_MISTAKES) > 0:
            self._log.error("subscribers not taken", source="file", error=f"and {more} more")
        if reload.master is not None:
            self._sign_with(reload.master)
            self._log.info("master secret read again", setting="hmac_secret")
        if reload.directory is None:
            self._log.error("subscribers not reloaded", source="file", total=len(self.directory))
            return
        self.directory = reload.directory
        self._use(reload.directory)
        self._log.info(
            "subscribers reloaded",
            source="file",
            added=reload.added,
            changed=reload.changed,
            removed=reload.removed,
            total=len(reload.directory),
        )
        self._tell_what_is_cut(reload.directory)

    def _tell_what_is_cut(self, directory: Directory) -> None:
        """Each value beyond a ceiling once, for as long as it stays."""
        built, lines = self._beyond
        if built is not directory:
            return  # there is a newer one already, which tells its own
        news = [line for line in lines if line not in self._cut]
        self._cut = frozenset(lines)
        for line in news[:_MOST_MISTAKES]:
            self._log.warning("beyond a ceiling", error=line)
        if (more := len(news) - _MOST_MISTAKES) > 0:
            self._log.warning("beyond a ceiling", error=f"and {more} more")
