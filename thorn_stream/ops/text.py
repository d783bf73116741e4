"""What is printed for people: tables, and text of strangers made harmless."""

from collections.abc import Iterable, Sequence

__all__ = ["printable", "table"]


def printable(text: str) -> str:
    """With escapes in place of what would move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, as wide as it needs to be."""
    all_rows = [head, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in all_rows) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in all_rows
    ]
