"""Lengths of time as people write and read them: `90s`, `1h30m`."""

from __future__ import annotations

import re
from datetime import timedelta

import typer

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_MAX_DIGITS = 9


def shown_duration(length: timedelta) -> str:
    """Writes a length in its two largest units; one that is below zero, as between two clocks, is none."""
    seconds = max(int(length.total_seconds()), 0)
    if seconds < _UNITS["m"]:
        return f"{seconds}s"
    if seconds < _UNITS["h"]:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < _UNITS["d"]:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86_400}d{seconds % 86_400 // 3600:02}h"


def duration(text: str) -> timedelta:
    """Reads a length of time: whole numbers with d, h, m or s.

    Raises:
        BadParameter: It is none, or nothing.
    """
    found = _DURATION.fullmatch(text)
    counts = [count or "0" for count in found.groups()] if found else []
    if not any(int(count) for count in counts) or any(len(count) > _MAX_DIGITS for count in counts):
        message = f"'{text}' is no length of time; write 90s, 15m, 1h30m or 7d"
        raise typer.BadParameter(message)
    return timedelta(seconds=sum(int(count) * unit for count, unit in zip(counts, _UNITS.values(), strict=True)))
