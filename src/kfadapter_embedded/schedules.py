"""Cron expressions as KFP takes them: five or six fields, the first of six for seconds, or a word like `@daily`.

KFP reads them with robfig/cron 1.2; here CronSim reads the fields, as it does where the adapter computes next starts.
What it takes beyond that (day 7 of the week, `L`, `#`) is refused before.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Final

from cronsim import CronSim, CronSimError

_WORDS: Final = {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
_EVERY = "@every "
_DURATION = re.compile(r"([-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+")
_VALUE = r"(\d{1,4}|[a-z]{3})"
_PART = re.compile(rf"(\*|\?|{_VALUE}(-{_VALUE})?)(/\d{{1,4}})?", re.IGNORECASE)
_DAY_SEVEN = re.compile(r"(?<![\d/])0*7(?!\d)")
_MIN_FIELDS, _MAX_FIELDS = 5, 6


class CronError(Exception):
    """The expression cannot be read; the text says why."""


def check_cron(expression: str) -> None:
    """Reads an expression; raises CronError if it is none."""
    if not expression:
        raise CronError("Empty spec string")
    if expression.startswith(_EVERY):
        if not _DURATION.fullmatch(expression.removeprefix(_EVERY)):
            raise CronError(f"Failed to parse duration {expression}")
    elif expression.startswith("@"):
        if expression not in _WORDS:
            raise CronError(f"Unrecognized descriptor: {expression}")
    else:
        _check_fields(expression)


def _check_fields(expression: str) -> None:
    fields = expression.split()
    if not _MIN_FIELDS <= len(fields) <= _MAX_FIELDS:
        raise CronError(f"Expected {_MIN_FIELDS} to {_MAX_FIELDS} fields, found {len(fields)}: {expression}")
    # The field that may be left out is the day of the week, not the seconds.
    *others, weekday = [*fields, "*"][:_MAX_FIELDS]
    for part in ",".join(fields).split(","):
        if not _PART.fullmatch(part):
            raise CronError(f"Failed to parse {part}: {expression}")
    if _DAY_SEVEN.search(weekday):
        raise CronError(f"End of range (7) above maximum (6): {weekday}")
    try:
        CronSim(" ".join([*others, weekday]).replace("?", "*"), datetime(2000, 1, 1, tzinfo=timezone.utc))
    except CronSimError as error:
        raise CronError(f"{error}: {expression}") from None
