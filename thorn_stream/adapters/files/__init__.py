"""Files of settings and subscribers, and the secrets they name."""

from thorn_stream.adapters.files.certificates import authorities_wrong, tls_wrong
from thorn_stream.adapters.files.documents import (
    Document,
    dotted,
    located,
    read_document,
    write_yaml,
)
from thorn_stream.adapters.files.kept import KeptFiles, Own, Reload
from thorn_stream.adapters.files.secrets import Secrets
from thorn_stream.adapters.files.subscribers import FileSubscribers
from thorn_stream.adapters.files.watching import Watcher

__all__ = [
    "Document",
    "FileSubscribers",
    "KeptFiles",
    "Own",
    "Reload",
    "Secrets",
    "Watcher",
    "authorities_wrong",
    "dotted",
    "located",
    "read_document",
    "tls_wrong",
    "write_yaml",
]
