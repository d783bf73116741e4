"""Secrets and certificates that the settings name, in files that are replaced while it runs."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme

from tests.support.environment import clear_settings
from thorn_stream.adapters.files import KeptFiles, Reload, Watcher
from thorn_stream.adapters.files.kept import Own
from thorn_stream.adapters.files.subscribers import FileSubscribers
from thorn_stream.config import Loaded, load_settings
from thorn_stream.core.directory import Directory, parse_subscribers
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.subscribers import Subscriber

WITHIN = 30.0


def authority() -> str:
    return trustme.CA().cert_pem.bytes().decode()


class Settings:
    """A settings file that names a master secret, and a subscriber with a secret and a TLS file."""

    def __init__(self, folder: Path, secrets: Path | None = None) -> None:
        self.folder = folder
        self.secrets = secrets or folder
        self.write("master", "first-master")
        self.write("billing", "first-billing")
        self.write("ca.pem", authority())
        path = folder / "thorn.yaml"
        path.write_text(
            f"subscriber_files: []\nhmac_secret: file:{self.secrets}/master\nsubscribers:\n"
            f"  - {{id: billing, event: '*', url: 'http://a.example', "
            f"hmac_secret: 'file:{self.secrets}/billing'}}\n"
            f"  - {{id: other, event: '*', url: 'http://b.example', "
            f"tls: {{ca_file: '{self.secrets}/ca.pem'}}}}\n"
        )
        self.loaded: Loaded = load_settings(path, {})
        self.kept = KeptFiles(
            FileSubscribers([], self.loaded.secrets, parse_subscribers),
            self.loaded.secrets,
            Directory,
            Own("thorn.yaml: subscribers", self.loaded.inline, self.loaded.master),
        )
        self.kept.load()

    def write(self, name: str, text: str) -> None:
        (self.secrets / name).write_text(text + "\n")

    def one(self, name: str) -> Subscriber:
        found = self.kept.directory.get(name)
        assert found is not None
        return found

    @property
    def billing(self) -> str:
        return self.one("billing").hmac_secret[0].get_secret_value()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    clear_settings(monkeypatch)
    return Settings(tmp_path)


def told(settings: Settings) -> Reload:
    reload = settings.kept.reload()
    assert reload is not None
    return reload


def test_a_subscriber_of_the_settings_gets_its_new_secret(settings: Settings) -> None:
    """It alone is another; the others are the same objects."""
    other = settings.one("other")
    settings.write("billing", "second-billing")
    reload = told(settings)
    assert (reload.added, reload.changed, reload.removed) == (0, 1, 0)
    assert reload.master is None
    assert settings.billing == "second-billing"
    assert settings.one("other") is other
    assert settings.kept.reload() is None


def test_a_certificate_that_the_settings_name_is_read_again(settings: Settings) -> None:
    """Of that subscriber, whose TLS identity is another one then."""
    before = settings.one("other").tls
    settings.write("ca.pem", authority())
    assert told(settings).changed == 1
    assert settings.one("other").tls != before


def test_a_new_master_secret_is_told_once(settings: Settings) -> None:
    """And no subscriber is another for it; its text stands in no repr."""
    settings.write("master", "second-master")
    reload = told(settings)
    assert reload.master == "second-master"
    assert (reload.added, reload.changed, reload.removed) == (0, 0, 0)
    assert "second-master" not in repr(reload)
    assert settings.kept.reload() is None


def test_a_secret_that_is_gone_for_a_moment_stays_as_it_was(settings: Settings) -> None:
    """The mistakes say where it is named; back, it counts."""
    for name in ("master", "billing"):
        (settings.secrets / name).unlink()
    reload = told(settings)
    lines = [line.replace(f"{settings.folder}/", "") for line in reload.mistakes]
    assert lines[0].startswith("thorn.yaml:4: subscribers[0].hmac_secret: the file billing cannot")
    assert lines[1].startswith("hmac_secret: the file master cannot be read")
    assert reload.master is None
    assert settings.billing == "first-billing"
    settings.write("billing", "second-billing")
    settings.write("master", "second-master")
    again = told(settings)
    assert again.mistakes == ()
    assert (again.changed, again.master) == (1, "second-master")


def test_a_new_master_counts_beside_a_refused_directory(settings: Settings) -> None:
    """What is wrong with subscribers does not keep an old secret in use."""

    def refuse(_: Sequence[tuple[str, Sequence[Subscriber]]]) -> Directory:
        raise ConfigurationError("subscriber other: not available")

    settings.kept._build = refuse
    settings.write("billing", "second-billing")
    settings.write("master", "second-master")
    reload = told(settings)
    assert reload.directory is None
    assert reload.master == "second-master"
    assert settings.kept.reload() is None


def kubelet(folder: Path, number: int, **files: str) -> None:
    """As a Secret's volume is updated: a folder beside, then one rename of the link to it."""
    data = folder / f"..2026_{number}"
    data.mkdir()
    for name, text in files.items():
        (data / name.replace("_", ".")).write_text(text + "\n")
    (folder / "..data_tmp").symlink_to(data.name)
    (folder / "..data_tmp").replace(folder / "..data")


def test_a_secret_volume_that_is_swapped_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes swaps a link above the files; all three are new at once, without a restart."""
    clear_settings(monkeypatch)
    volume = tmp_path / "volume"
    volume.mkdir()
    kubelet(volume, 1, master="0", billing="0", ca_pem=authority())
    for name in ("master", "billing", "ca.pem"):
        (volume / name).symlink_to(f"..data/{name}")
    settings = Settings(tmp_path, volume)

    async def life() -> Reload:
        first: asyncio.Future[Reload] = asyncio.get_running_loop().create_future()
        watcher = Watcher(settings.kept, [])

        def note(reload: Reload) -> None:
            if not first.done():
                first.set_result(reload)

        watcher.start(note)
        try:
            kubelet(volume, 2, master="new-master", billing="new-billing", ca_pem=authority())
            return await asyncio.wait_for(first, WITHIN)
        finally:
            watcher.stop()
            await asyncio.to_thread(watcher.join, WITHIN)

    reload = asyncio.run(life())
    assert (reload.master, reload.changed, reload.mistakes) == ("new-master", 2, ())
    assert settings.billing == "new-billing"
