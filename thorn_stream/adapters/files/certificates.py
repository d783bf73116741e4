"""Whether the PEM files that `tls` names can be used: looked at where they are named."""

import ssl
from pathlib import Path
from typing import Final

from thorn_stream.adapters.files.documents import why
from thorn_stream.core.subscribers import Tls

__all__ = ["authorities_wrong", "tls_wrong"]

_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_KEY: Final = b"PRIVATE KEY-----"
_ENCRYPTED: Final = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")


def tls_wrong(tls: Tls) -> dict[str, str]:
    """What is wrong with each of its files, and what to do; empty when all can be used."""
    wrong: dict[str, str | None] = {}
    if tls.ca_file is not None:
        wrong["ca_file"] = authorities_wrong(tls.ca_file)
    if tls.cert_file is not None:
        wrong |= _certificate_wrong(tls.cert_file, tls.key_file)
    elif tls.key_file is not None:
        wrong["key_file"] = "stands alone: add cert_file, the certificate it belongs to"
    return {field: text for field, text in wrong.items() if text is not None}


def authorities_wrong(path: str) -> str | None:
    """Why a file of authorities cannot be used; None when it can."""
    held = _read(path)
    if isinstance(held, str):
        return held
    if _CERTIFICATE not in held:
        return f"{path} holds no PEM certificate: name a file with the authorities in it"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, OSError, ValueError) as error:
        return f"{path} cannot be used ({_words(error)}): name a file with PEM certificates"
    return None


def _certificate_wrong(cert_file: str, key_file: str | None) -> dict[str, str | None]:
    """Of a client's certificate with its key, which may stand in one file."""
    key_path, key_field = key_file or cert_file, "key_file" if key_file else "cert_file"
    cert, key = _read(cert_file), _read(key_path)
    wrong: dict[str, str | None] = {}
    if isinstance(key, str):
        wrong[key_field] = key
    elif _KEY not in key:
        remedy = "name the file that does" if key_file else "name its key with key_file"
        wrong[key_field] = f"{key_path} holds no PEM private key: {remedy}"
    elif any(mark in key for mark in _ENCRYPTED):
        wrong[key_field] = f"{key_path} asks for a pass phrase, which nobody can give: decrypt it"
    if isinstance(cert, str):
        wrong["cert_file"] = cert
    elif _CERTIFICATE not in cert:
        wrong["cert_file"] = f"{cert_file} holds no PEM certificate: name the file that does"
    if wrong:
        return wrong
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        why_not = f"cannot be used with the key in {key_path} ({_words(error)}): name a pair"
        return {"cert_file": f"{cert_file} {why_not}"}
    return {}


def _read(path: str) -> bytes | str:
    """What the file holds, or why it cannot be told, as text."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else "no path"
        return f"the file {path} cannot be read ({reason}): make it, or change this"


def _words(error: Exception) -> str:
    """In a few words, without what a file holds."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").lower().replace("_", " ")
    return "not PEM"
