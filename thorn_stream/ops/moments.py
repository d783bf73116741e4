"""Points in time as people write them on a command line."""

import re
from datetime import UTC, datetime
from typing import Final

from thorn_stream.core.errors import UsageError

__all__ = ["moment", "shown"]

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_AGO: Final = re.compile(r"(\d{1,9})([smhd])")


def moment(text: str, option: str, now: int) -> int:
    """Unix milliseconds of `30m`, `1h`, `2d` (so long before `now`), or of an ISO 8601 time.

    A time without a zone is UTC. Raises UsageError naming the option.
    """
    if ago := _AGO.fullmatch(text):
        return now - 1000 * int(ago[1]) * _SECONDS[ago[2]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option} {text}: write how long ago, as in 30m, 1h or 2d, or a time, as in "
            "2026-01-01T00:00:00Z"
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp() * 1000)


def shown(at: int | None) -> str:
    """Unix milliseconds for people, in UTC, to the second; `-` for none."""
    if at is None:
        return "-"
    try:
        return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return str(at)
