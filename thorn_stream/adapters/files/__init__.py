"""Files of settings and subscribers, and the secrets they name."""

from thorn_stream.adapters.files.documents import (
    Document,
    dotted,
    located,
    read_document,
    write_yaml,
)
from thorn_stream.adapters.files.kept import KeptFiles, Reload
from thorn_stream.adapters.files.secrets import Secrets
from thorn_stream.adapters.files.subscribers import FileSubscribers
from thorn_stream.adapters.files.watching import Watcher

__all__ = [
    "Document",
    "FileSubscribers",
    "KeptFiles",
    "Reload",
    "Secrets",
    "Watcher",
    "dotted",
    "located",
    "read_document",
    "write_yaml",
]
