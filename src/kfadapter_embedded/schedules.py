"""Cron expressions as KFP takes them: five or six fields, the first of six for seconds, or a word like `@daily`.

The faults are worded as those of the library that KFP reads them with (robfig/cron).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_MONTHS = {
    name: number
    for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)  # noqa: SIM905
}
_DAYS = {name: number for number, name in enumerate("sun mon tue wed thu fri sat".split())}  # noqa: SIM905
_WORDS = {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
_EVERY = "@every "
_DURATION = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_MIN_FIELDS, _MAX_FIELDS = 5, 6


class CronError(Exception):
    """The expression cannot be read; the text says why."""


@dataclass(frozen=True)
class _Field:
    """The values that a field may have, and the names that stand for some."""

    low: int
    high: int
    names: dict[str, int] = field(default_factory=dict)


_FIELDS: Final = (
    _Field(0, 59),
    _Field(0, 59),
    _Field(0, 23),
    _Field(1, 31),
    _Field(1, 12, _MONTHS),
    _Field(0, 6, _DAYS),
)


def check_cron(expression: str) -> None:
    """Reads an expression.

    Raises:
        CronError: it is none.
    """
    if not expression:
        raise CronError("Empty spec string")
    if expression.startswith("@"):
        return _check_word(expression)
    fields = expression.split()
    if not _MIN_FIELDS <= len(fields) <= _MAX_FIELDS:
        raise CronError(f"Expected {_MIN_FIELDS} to {_MAX_FIELDS} fields, found {len(fields)}: {expression}")
    # The last one, the day of the week, may be left out.
    for known, text in zip(_FIELDS, fields, strict=False):
        for part in text.split(","):
            _check_part(part, known)
    return None


def _check_word(expression: str) -> None:
    if expression in _WORDS:
        return
    if not expression.startswith(_EVERY):
        raise CronError(f"Unrecognized descriptor: {expression}")
    if not re.fullmatch(f"(?:{_DURATION.pattern})+", expression.removeprefix(_EVERY)):
        raise CronError(f"Failed to parse duration {expression}")


def _check_part(text: str, known: _Field) -> None:
    values, _, step = text.partition("/")
    if text.count("/") > 1:
        raise CronError(f"Too many slashes: {text}")
    if values.count("-") > 1:
        raise CronError(f"Too many hyphens: {text}")
    low, high = _bounds(values, known)
    if "/" in text and _number(step, {}) == 0:
        raise CronError(f"Step of range should be a positive number: {text}")
    if low < known.low:
        raise CronError(f"Beginning of range ({low}) below minimum ({known.low}): {text}")
    if high > known.high:
        raise CronError(f"End of range ({high}) above maximum ({known.high}): {text}")
    if low > high:
        raise CronError(f"Beginning of range ({low}) beyond end of range ({high}): {text}")


def _bounds(text: str, known: _Field) -> tuple[int, int]:
    first, hyphen, last = text.partition("-")
    if first in {"*", "?"}:
        return known.low, known.high
    low = _number(first, known.names)
    return low, _number(last, known.names) if hyphen else low


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise CronError(f'Failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    if text.startswith("-"):
        raise CronError(f"Negative number ({text}) not allowed: {text}")
    return int(text)
