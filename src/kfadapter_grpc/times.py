"""Times, durations and ages as people write them, for the command line and the page."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
"""The seconds of each unit, largest first."""
_LONGEST = 36_525 * UNITS["d"]
_DURATION = re.compile(r"(?:(\d{1,9})w)?(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")


def read_duration(text: str) -> timedelta | None:
    """Parses integers with w, d, h, m or s, such as `1h30m`; None if it is none, zero, or longer than 100 years."""
    found = _DURATION.fullmatch(text)
    counts = found.groups("0") if found else ()
    seconds = sum(int(count) * unit for count, unit in zip(counts, (7 * UNITS["d"], *UNITS.values()), strict=False))
    return timedelta(seconds=seconds) if 0 < seconds <= _LONGEST else None


def elapsed(began: datetime | None, finished: datetime | None, now: datetime, *, is_over: bool) -> timedelta | None:
    """Returns how long something took, or has taken until now; None if that is unknown."""
    end = finished or (None if is_over else now)
    return end - began if began and end else None


def shown_duration(length: timedelta) -> str:
    """Formats a duration in its two largest units; a negative one, as between two clocks, counts as 0."""
    seconds = max(int(length.total_seconds()), 0)
    if seconds < UNITS["m"]:
        return f"{seconds}s"
    if seconds < UNITS["h"]:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < UNITS["d"]:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86_400}d{seconds % 86_400 // 3600:02}h"


def shown_time(moment: datetime | None) -> str:
    """Formats a time of a record, which is in UTC."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC") if moment else ""


def shown_age(moment: datetime, now: datetime) -> str:
    """Formats a time relative to now in its largest unit: `2h ago`, `just now`, `in 5m`."""
    seconds = int((now - moment).total_seconds())
    for unit, size in UNITS.items():
        if count := abs(seconds) // size:
            return f"{count}{unit} ago" if seconds > 0 else f"in {count}{unit}"
    return "just now"
