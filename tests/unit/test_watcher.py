"""The thread that watches subscriber files, on real folders: every way in which files change."""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from thorn_stream.adapters.files import FileSubscribers, KeptFiles, Reload, Secrets, Watcher
from thorn_stream.core.directory import Directory, parse_subscribers

WITHIN = 20.0


def text(*ids: str, more: str = "") -> str:
    return "".join(f"- {{id: {one}, event: '*', url: 'http://a'{more}}}\n" for one in ids)


class Watched:
    """What is known of a glob, as the watcher tells it on the loop."""

    def __init__(self, pattern: Path) -> None:
        secrets = Secrets({})
        found = FileSubscribers([str(pattern)], secrets, parse_subscribers)
        self.kept = KeptFiles(found, secrets, Directory)
        self.kept.load()
        self.reloads: list[Reload] = []
        self.threads: set[int] = set()
        self.news = asyncio.Event()
        self.watcher = Watcher(self.kept, [str(pattern)])

    def told(self, reload: Reload) -> None:
        self.threads.add(threading.get_ident())
        self.reloads.append(reload)
        self.news.set()

    async def until(self, *ids: str) -> None:
        """Wait until a reload has told exactly these."""
        async with asyncio.timeout(WITHIN):
            while self.ids != ids:
                self.news.clear()
                await self.news.wait()

    @property
    def ids(self) -> tuple[str, ...]:
        directories = [each.directory for each in self.reloads if each.directory is not None]
        return tuple(one.id for one in directories[-1]) if directories else ()


@contextlib.asynccontextmanager
async def watching(pattern: Path) -> AsyncIterator[Watched]:
    watched = Watched(pattern)
    watched.watcher.start(watched.told)
    try:
        yield watched
    finally:
        watched.watcher.stop()
        await asyncio.to_thread(watched.watcher.join, WITHIN)
    assert watched.threads <= {threading.get_ident()}


def test_files_that_come_change_and_go(tmp_path: Path) -> None:
    """Written in place, put in place by a rename, deleted."""

    async def life() -> None:
        (tmp_path / "a.yaml").write_text(text("a1"))
        async with watching(tmp_path / "*.yaml") as watched:
            (tmp_path / "a.yaml").write_text(text("a1", "a2"))
            await watched.until("a1", "a2")
            (tmp_path / "new").write_text(text("b1"))
            (tmp_path / "new").rename(tmp_path / "b.yaml")
            await watched.until("a1", "a2", "b1")
            (tmp_path / "a.yaml").unlink()
            await watched.until("b1")

    asyncio.run(life())


def test_the_links_of_a_config_map(tmp_path: Path) -> None:
    """Kubernetes: files link to `..data/file`, and `..data` is swapped for another folder."""

    def publish(version: str, content: str) -> None:
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.yaml").write_text(content)
        (tmp_path / "..data_tmp").symlink_to(version)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    async def life() -> None:
        publish("..1", text("a1"))
        (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
        async with watching(tmp_path / "*.yaml") as watched:
            for number in range(2, 5):
                publish(f"..{number}", text(f"a{number}"))
                await watched.until(f"a{number}")

    asyncio.run(life())


def test_a_folder_behind_a_link_that_is_swapped(tmp_path: Path) -> None:
    """The link is somewhere above the files; the new folder is watched as well."""

    async def life() -> None:
        for name in ("one", "two"):
            (tmp_path / name / "conf").mkdir(parents=True)
            (tmp_path / name / "conf/a.yaml").write_text(text(name))
        (tmp_path / "current").symlink_to("one")
        async with watching(tmp_path / "current/conf/*.yaml") as watched:
            (tmp_path / "next").symlink_to("two")
            (tmp_path / "next").rename(tmp_path / "current")
            await watched.until("two")
            (tmp_path / "two/conf/a.yaml").write_text(text("three"))
            await watched.until("three")

    asyncio.run(life())


def test_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    """The folder of a glob may be made later; so may those that a wildcard stands for."""

    async def life() -> None:
        async with watching(tmp_path / "conf/*/subscribers/*.yaml") as watched:
            (tmp_path / "conf/a/subscribers").mkdir(parents=True)
            (tmp_path / "conf/a/subscribers/a.yaml").write_text(text("a"))
            await watched.until("a")
            (tmp_path / "conf/b/subscribers").mkdir(parents=True)
            (tmp_path / "conf/b/subscribers/b.yaml").write_text(text("b"))
            await watched.until("a", "b")
            (tmp_path / "conf/b/subscribers/c.yaml").write_text(text("c"))
            await watched.until("a", "b", "c")

    asyncio.run(life())


def test_any_depth(tmp_path: Path) -> None:
    """`**`: new folders inside of what is watched."""

    async def life() -> None:
        async with watching(tmp_path / "**/*.yaml") as watched:
            (tmp_path / "x/y").mkdir(parents=True)
            (tmp_path / "x/y/a.yaml").write_text(text("a"))
            await watched.until("a")
            (tmp_path / "x/y/a.yaml").write_text(text("b"))
            await watched.until("b")

    asyncio.run(life())


def test_a_secret_that_lies_elsewhere(tmp_path: Path) -> None:
    """A file that a subscriber names is watched where it is."""

    async def life() -> None:
        (tmp_path / "conf").mkdir()
        (tmp_path / "secrets").mkdir()
        secret = tmp_path / "secrets/a"
        secret.write_text("the-first-secret-of-a")
        entry = text("a", more=f", hmac_secret: 'file:{secret}'")
        (tmp_path / "conf/a.yaml").write_text(entry)
        async with watching(tmp_path / "conf/*.yaml") as watched:
            secret.write_text("the-other-secret-of-a")  # of the same length
            await watched.until("a")
            assert [reload.changed for reload in watched.reloads] == [1]

    asyncio.run(life())


def test_a_change_that_cannot_be_seen_from_outside(tmp_path: Path) -> None:
    """As long, of the same time, in the same place: that it was told is enough."""

    async def life() -> None:
        path = tmp_path / "a.yaml"
        path.write_text(text("a1"))
        os.utime(path, (1, 1))
        async with watching(tmp_path / "*.yaml") as watched:
            path.write_text(text("a2"))
            os.utime(path, (1, 1))
            await watched.until("a2")

    asyncio.run(life())


def test_what_happens_beside_is_not_looked_at(tmp_path: Path) -> None:
    """Other files of the folder, a log for one, tell nothing."""

    async def life() -> None:
        (tmp_path / "a.yaml").write_text(text("a1"))
        async with watching(tmp_path / "*.yaml") as watched:
            for number in range(20):
                (tmp_path / "log").write_text(str(number))
                await asyncio.sleep(0.01)
            (tmp_path / "a.yaml").write_text(text("a2"))
            await watched.until("a2")
            assert len(watched.reloads) == 1

    asyncio.run(life())


def test_a_log_that_lies_beside_does_not_feed_itself(caplog: pytest.LogCaptureFixture) -> None:
    """A line of the library's for each change of a folder would be another change of it."""
    caplog.set_level(logging.INFO)  # as libraries are heard at the level debug
    assert logging.getLogger("watchfiles.main").isEnabledFor(logging.WARNING)
    assert not logging.getLogger("watchfiles.main").isEnabledFor(logging.INFO)


def test_nothing_is_told_after_the_stop(tmp_path: Path) -> None:
    """The thread ends, and changes are nobody's business any more."""

    async def life() -> None:
        path = tmp_path / "a.yaml"
        path.write_text(text("a1"))
        async with watching(tmp_path / "*.yaml") as watched:
            path.write_text(text("a2"))
            await watched.until("a2")
        assert not [t for t in threading.enumerate() if t.name == "subscriber-files"]
        path.write_text(text("a3"))
        await asyncio.sleep(0.01)
        assert len(watched.reloads) == 1

    asyncio.run(life())
