"""The door through which recipients enter, at the start and at each reload."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from thorn_stream.adapters.files import FileSubscribers, KeptFiles, Secrets
from thorn_stream.config import Settings
from thorn_stream.core.directory import Directory
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.urls import RecipientUrl
from thorn_stream.ops.guarding import guard_for, parser

GOOD = "https://a.example.com/"


def kept(folder: Path, settings: Settings) -> KeptFiles:
    def build(sources: Sequence[tuple[str, Sequence[Subscriber]]]) -> Directory:
        return Directory(sources)

    secrets = Secrets({})
    files = FileSubscribers([str(folder / "*.yaml")], secrets, parser(guard_for(settings)))
    return KeptFiles(files, secrets, build)


def write(folder: Path, url: str) -> None:
    (folder / "a.yaml").write_text(f"- id: one\n  event: order.*\n  url: '{url}'\n")


@pytest.mark.parametrize("url", ["http://10.0.0.5/", "http://127.1/", "https://a.example.com:444/"])
def test_a_file_that_comes_to_lead_inward_keeps_its_last_good_state(
    tmp_path: Path, url: str
) -> None:
    """The edit is refused with its line and its rule; who was there is called as before."""
    files = kept(tmp_path, Settings())
    write(tmp_path, GOOD)
    files.load()
    write(tmp_path, url)
    reload = files.reload()
    assert reload is not None
    (mistake,) = reload.mistakes
    assert "a.yaml:3: subscribers[0].url: is refused by " in mistake
    assert [one.url for one in files.directory] == [GOOD]


def test_what_is_allowed_on_purpose_passes_the_same_door(tmp_path: Path) -> None:
    """And what lies beside it does not."""
    settings = Settings.model_validate({"allowed_networks": ["10.20.0.0/16"]})
    files = kept(tmp_path, settings)
    write(tmp_path, "http://10.20.1.2/")
    assert [one.id for one in files.load()] == ["one"]
    write(tmp_path, "http://10.21.1.2/")
    with pytest.raises(
        ConfigurationError, match=r"block_internal_ips: 10\.21\.1\.2 is private use"
    ):
        kept(tmp_path, settings).load()


def test_all_validators_that_cannot_be_loaded_are_named_at_once() -> None:
    """One start shows them all, each with its place."""
    rules = [["!nowhere.at_all:one"], ["block_internal_ips"], ["!os:no_such_name"]]
    settings = Settings.model_validate({"recipient_validators": rules})
    with pytest.raises(ConfigurationError) as told:
        guard_for(settings)
    first, second = str(told.value).splitlines()
    assert first.startswith("recipient_validators[0]: !nowhere.at_all:one cannot be loaded")
    assert second.startswith("recipient_validators[2]: !os:no_such_name cannot be loaded")


def test_the_defaults_let_public_receivers_through() -> None:
    """http and https, on their own ports."""
    guard = guard_for(Settings())
    for url in (GOOD, "http://a.example.com/", "https://8.8.8.8/", "https://[2606:4700::1111]/"):
        assert isinstance(guard.url(url), RecipientUrl)
