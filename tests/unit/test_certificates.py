"""TLS files that a subscriber or the settings name are looked at where they are named."""

from pathlib import Path

import pytest
import trustme

from thorn_stream.adapters.files import FileSubscribers, Secrets, authorities_wrong, tls_wrong
from thorn_stream.config import load_settings
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.subscribers import Tls
from thorn_stream.core.validators import Guard
from thorn_stream.ops.guarding import parser

ENCRYPTED = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Path:
    """A folder with an authority, a certificate, its key, and another's key."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    ours, other = (authority.issue_cert("a.example.com") for _ in range(2))
    ours.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    ours.private_key_pem.write_to_path(tmp_path / "key.pem")
    ours.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    other.private_key_pem.write_to_path(tmp_path / "other.pem")
    (tmp_path / "text").write_text("no PEM")
    (tmp_path / "broken").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    (tmp_path / "encrypted").write_text(ENCRYPTED)
    return tmp_path


def test_files_that_can_be_used(files: Path) -> None:
    """An authority, a certificate with its key beside it or in one file: nothing to be said."""
    ca, cert, key, both = (str(files / f"{name}.pem") for name in ("ca", "cert", "key", "both"))
    assert tls_wrong(Tls()) == {}
    assert tls_wrong(Tls(ca_file=ca, cert_file=cert, key_file=key)) == {}
    assert tls_wrong(Tls(cert_file=both)) == {}
    assert authorities_wrong(ca) is None


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({"ca_file": "nowhere"}, "ca_file", "cannot be read (no such file or directory)"),
        ({"ca_file": "."}, "ca_file", "cannot be read (is a directory)"),
        ({"ca_file": "text"}, "ca_file", "holds no PEM certificate"),
        ({"ca_file": "broken"}, "ca_file", "cannot be used"),
        ({"key_file": "key.pem"}, "key_file", "add cert_file"),
        ({"cert_file": "cert.pem"}, "cert_file", "name its key with key_file"),
        ({"cert_file": "nowhere", "key_file": "key.pem"}, "cert_file", "cannot be read"),
        ({"cert_file": "text", "key_file": "key.pem"}, "cert_file", "holds no PEM certificate"),
        ({"cert_file": "cert.pem", "key_file": "nowhere"}, "key_file", "cannot be read"),
        ({"cert_file": "cert.pem", "key_file": "text"}, "key_file", "holds no PEM private key"),
        ({"cert_file": "cert.pem", "key_file": "encrypted"}, "key_file", "decrypt it"),
        ({"cert_file": "cert.pem", "key_file": "other.pem"}, "cert_file", "name a pair"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    files: Path, given: dict[str, str], field: str, reason: str
) -> None:
    """The field, the path as it was given, why, and what to do."""
    wrong = tls_wrong(Tls(**{name: str(files / path) for name, path in given.items()}))
    assert list(wrong) == [field]
    assert reason in wrong[field]
    assert str(files) in wrong[field] or field == "key_file"


def test_both_files_of_a_pair_are_named(files: Path) -> None:
    """Neither the certificate nor the key is there: two mistakes."""
    nowhere = str(files / "nowhere")
    assert set(tls_wrong(Tls(cert_file=nowhere, key_file=nowhere))) == {"cert_file", "key_file"}


def test_a_subscriber_file_names_the_line(files: Path) -> None:
    """`file:line: subscribers[0].tls.ca_file: ...`, and the other subscriber's mistake as well."""
    path = files / "s.yaml"
    path.write_text(
        "subscribers:\n"
        "  - id: a\n"
        "    event: order.*\n"
        "    url: https://a.example.com/\n"
        "    tls:\n"
        f"      ca_file: {files}/nowhere\n"
        "  - {id: b, event: order.*, url: 'https://b.example.com/', tls: {key_file: k}}\n"
    )
    found = FileSubscribers([str(path)], Secrets({}), parser(Guard(())))
    with pytest.raises(ConfigurationError) as caught:
        found.load()
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{path}:6: subscribers[0].tls.ca_file: the file {files}/nowhere ")
    assert second.startswith(f"{path}:7: subscribers[1].tls.key_file: stands alone")


def test_an_inline_subscriber_names_the_line(files: Path) -> None:
    """The settings' own subscribers and `tls.ca_file` are looked at like those of files."""
    path = files / "thorn.yaml"
    path.write_text(
        "tls:\n"
        f"  ca_file: {files}/text\n"
        "subscribers:\n"
        "  - id: a\n"
        "    event: order.*\n"
        "    url: https://a.example.com/\n"
        f"    tls: {{ca_file: {files}/broken}}\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, {})
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{path}:2: tls.ca_file: {files}/text holds no PEM certificate")
    assert any(f"{path}:7: subscribers[0].tls.ca_file: " in line for line in lines[1:])
