"""Files of settings and subscribers, and the secrets they name."""

from thorn_stream.adapters.files.documents import (
    Document,
    dotted,
    located,
    read_document,
    write_yaml,
)
from thorn_stream.adapters.files.secrets import Secrets
from thorn_stream.adapters.files.subscribers import FileSubscribers

__all__ = [
    "Document",
    "FileSubscribers",
    "Secrets",
    "dotted",
    "located",
    "read_document",
    "write_yaml",
]
