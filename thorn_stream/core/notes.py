"""What else a commit's metadata tells, beside the offsets that are done: a note.

The text of `core.offsets`, then `|`, then the note. Who writes a note keeps it short: it takes room
from the offsets. Text of the offsets never holds a `|`, so metadata without one has no note.
"""

from typing import Final

from thorn_stream.core import offsets

__all__ = ["joined", "left_for_offsets", "split"]

_BAR: Final = "|"


def left_for_offsets(note: str, limit: int = offsets.LIMIT) -> int:
    """How many characters the offsets' text may have beside this note; negative: none at all."""
    return limit - len(_BAR) - len(note) if note else limit


def joined(text: str, note: str, limit: int = offsets.LIMIT) -> str:
    """Metadata of both; without the note when they would not fit together."""
    if not note or left_for_offsets(note, limit) < len(text):
        return text
    return f"{text}{_BAR}{note}"


def split(metadata: str) -> tuple[str, str]:
    """The offsets' text and the note of any metadata; never raises.

    Whoever reads the note has to doubt it: anybody in the group may have written it.
    """
    text, _, note = metadata.partition(_BAR)
    return text, note
