"""Subscriber files read again: what is kept, what is taken, what is told."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from thorn_stream.adapters.files import FileSubscribers, KeptFiles, Reload, Secrets
from thorn_stream.core.directory import Directory, parse_subscribers
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.subscribers import Subscriber

BROKEN = "subscribers:\n  - id: a\n    event: order.*\n"


def text(*ids: str, url: str = "https://a.example.com/", more: str = "") -> str:
    entries = [f"- id: {one}\n  event: order.*\n  url: {url}\n{more}" for one in ids]
    return "".join(entries)


class Files:
    """A folder of subscriber files, and what is kept of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refuse: str | None = None
        secrets = Secrets({})
        found = FileSubscribers([str(folder / "*.yaml")], secrets, parse_subscribers)
        self.kept = KeptFiles(found, secrets, self._build)

    def _build(self, sources: Sequence[tuple[str, Sequence[Subscriber]]]) -> Directory:
        if self.refuse:
            raise ConfigurationError(self.refuse)
        return Directory(sources)

    def write(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.write_text(content)
        return path

    def told(self) -> Reload:
        reload = self.kept.reload()
        assert reload is not None
        return reload

    def counts(self) -> tuple[int, int, int]:
        reload = self.told()
        assert reload.mistakes == ()
        return reload.added, reload.changed, reload.removed

    def wrong(self) -> list[str]:
        return [line.replace(f"{self.folder}/", "") for line in self.told().mistakes]

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.kept.directory]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    one = Files(tmp_path)
    one.write("a.yaml", text("a1", "a2"))
    one.write("b.yaml", text("b1"))
    one.kept.load()
    return one


def test_the_first_read_takes_all_or_nothing(tmp_path: Path) -> None:
    """At the start every mistake is named, and nothing is kept."""
    files = Files(tmp_path)
    files.write("a.yaml", text("a"))
    files.write("b.yaml", BROKEN)
    with pytest.raises(ConfigurationError, match=r"b\.yaml:2: subscribers\[0\]\.url: is missing"):
        files.kept.load()
    assert files.ids == []


def test_nothing_is_told_when_nothing_has_changed(files: Files) -> None:
    """However often it is looked at, touched, or written with the same words."""
    assert files.kept.reload() is None
    files.write("a.yaml", text("a1", "a2"))
    assert files.kept.reload() is None


def test_what_was_added_changed_and_removed_is_counted(files: Files) -> None:
    """One of each; those that stayed the same are the same objects."""
    before = files.kept.directory.get("b1")
    files.write("a.yaml", text("a2", "a3", url="https://new.example.com/"))
    assert files.counts() == (1, 1, 1)
    assert files.ids == ["a2", "a3", "b1"]
    assert files.kept.directory.get("b1") is before


def test_an_unchanged_subscriber_of_a_changed_file_is_the_same_object(files: Files) -> None:
    """So its lane, its connections and its certificates are not made again."""
    before = files.kept.directory.get("a1")
    files.write("a.yaml", text("a1"))
    assert files.counts() == (0, 0, 1)
    assert files.kept.directory.get("a1") is before


def test_new_and_deleted_files_count(files: Files) -> None:
    """Whatever a glob matches now."""
    files.write("c.yaml", text("c1"))
    assert files.counts() == (1, 0, 0)
    (files.folder / "b.yaml").unlink()
    assert files.counts() == (0, 0, 1)
    assert files.ids == ["a1", "a2", "c1"]


def test_a_bad_file_keeps_its_last_good_state_alone(files: Files) -> None:
    """It is named with its line, once; the others are taken; mended, it counts again."""
    files.write("a.yaml", BROKEN)
    files.write("b.yaml", text("b1", "b2"))
    reload = files.told()
    assert [line.replace(f"{files.folder}/", "") for line in reload.mistakes] == [
        "a.yaml:2: subscribers[0].url: is missing"
    ]
    assert (reload.added, reload.changed, reload.removed) == (1, 0, 0)
    assert files.ids == ["a1", "a2", "b1", "b2"]
    assert files.kept.reload() is None
    files.write("a.yaml", text("a1", "a2"))
    assert files.counts() == (0, 0, 0)


@pytest.mark.parametrize("content", ["", " \n"])
def test_a_file_without_a_word_is_bad(files: Files, content: str) -> None:
    """It is being written, or was cut: its subscribers stay until it says that there are none."""
    files.write("a.yaml", content)
    assert files.wrong() == ["a.yaml: is empty: to remove its subscribers delete it, or write []"]
    assert files.ids == ["a1", "a2", "b1"]
    files.write("a.yaml", "[]")
    assert files.counts() == (0, 0, 2)


def test_a_new_bad_file_adds_nothing(files: Files) -> None:
    """There is no last good state of it."""
    files.write("c.yaml", BROKEN)
    assert files.wrong() == ["c.yaml:2: subscribers[0].url: is missing"]
    assert files.ids == ["a1", "a2", "b1"]


def test_a_file_that_cannot_be_read_keeps_its_last_good_state(files: Files) -> None:
    """What is no text, and what a link leads nowhere to."""
    (files.folder / "a.yaml").write_bytes(b"- id: \xff")
    assert files.wrong() == ["a.yaml:1: is not UTF-8: save the file as UTF-8"]
    assert files.ids == ["a1", "a2", "b1"]


def test_a_named_file_that_is_gone_keeps_its_last_good_state(tmp_path: Path) -> None:
    """It must be there: only what a wildcard finds may come and go."""
    path = tmp_path / "a.yaml"
    path.write_text(text("a"))
    secrets = Secrets({})
    found = FileSubscribers([str(path)], secrets, parse_subscribers)
    kept = KeptFiles(found, secrets, Directory)
    kept.load()
    path.unlink()
    reload = kept.reload()
    assert reload is not None
    assert reload.mistakes == (f"{path}: cannot be read: no such file or directory",)
    assert kept.directory.get("a") is not None


def test_an_id_in_two_files_refuses_the_reload_as_a_whole(files: Files) -> None:
    """The set of before holds, also for files that are good; mended, all of it is taken."""
    before = files.kept.directory
    files.write("a.yaml", text("a1", "a2", "a3"))
    files.write("b.yaml", text("b1", "a1"))
    reload = files.told()
    assert reload.directory is None
    assert [line.replace(f"{files.folder}/", "") for line in reload.mistakes] == [
        "subscriber 'a1' stands in file:a.yaml and in file:b.yaml: rename or remove one"
    ]
    assert files.kept.directory is before
    assert files.kept.reload() is None
    files.write("b.yaml", text("b1"))
    assert files.counts() == (1, 0, 0)


def test_what_the_dispatcher_cannot_do_refuses_the_reload(files: Files) -> None:
    """The words of whoever builds the Directory are told."""
    files.refuse = "subscriber a3: ordering: not available"
    files.write("a.yaml", text("a1", "a2", "a3"))
    assert files.wrong() == ["subscriber a3: ordering: not available"]
    assert files.ids == ["a1", "a2", "b1"]


def test_a_new_secret_in_its_file_is_a_change(tmp_path: Path) -> None:
    """The subscriber file is the same; a secret that is missing then is a mistake in it."""
    files = Files(tmp_path)
    secret = files.write("secret", "one-secret-for-all\n")
    entry = text("a", more=f"  hmac_secret: file:{secret}\n")
    path = files.write("a.yaml", entry + text("b"))
    files.kept.load()
    assert files.kept.named() == [path, secret]
    files.write("secret", "another-secret\n")
    assert files.counts() == (0, 1, 0)
    secret.unlink()
    (line,) = files.wrong()
    assert line.startswith("a.yaml:4: subscribers[0].hmac_secret: the file secret cannot be read")
    found = files.kept.directory.get("a")
    assert found is not None
    assert found.hmac_secret[0].get_secret_value() == "another-secret"


def test_a_new_certificate_in_its_file_is_a_change(tmp_path: Path) -> None:
    """Of the subscriber that names it, and of no other."""
    files = Files(tmp_path)
    ca = files.write("ca.pem", "one")
    tls = f"  tls:\n    ca_file: {ca}\n"
    files.write("a.yaml", text("a", more=tls) + text("b"))
    files.kept.load()
    before = files.kept.directory.get("b")
    files.write("ca.pem", "two")
    assert files.counts() == (0, 1, 0)
    assert files.kept.directory.get("b") is before
    ca.unlink()
    assert files.counts() == (0, 1, 0)
    assert ca in files.kept.named()
