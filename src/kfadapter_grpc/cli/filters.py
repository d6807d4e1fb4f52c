"""What lists are narrowed by, as it is typed."""

from __future__ import annotations

import re
from datetime import datetime, timezone

import typer


def optional_moment(text: str) -> datetime | None:
    """Reads a time as `moment` does; nothing is None."""
    return moment(text) if text else None


def moment(text: str) -> datetime:
    """Reads a date or a time as ISO 8601 writes it; without a zone it is UTC, as all times that are printed.

    Raises:
        BadParameter: It is neither.
    """
    try:
        told = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    except ValueError:
        message = f"'{text}' is no time; write 2026-01-31 or 2026-01-31T08:00:00Z"
        raise typer.BadParameter(message) from None
    return told if told.tzinfo else told.replace(tzinfo=timezone.utc)


def page_size(limit: int) -> int:
    """Asks for no more than is wanted; 0 leaves it to the adapter, which also bounds it."""
    return min(limit, 1000)
