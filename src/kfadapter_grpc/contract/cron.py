"""Cron expressions that KFP accepts. It parses them with `Parse` of robfig/cron 1.2.0, whose rules and words these are.

Five or six fields, of which the first is always the second and the last, the day of the week, may be omitted; or a
word like `@daily`; or `@every 1h30m`. Day 7 of the week, time zones, `L`, `W` and `#` are not supported.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WORDS: Final = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_EVERY = "@every "
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DURATION = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]*)", re.ASCII)
_SECONDS_OF: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_MAX_SECONDS = (2**63 - 1) / 1e9
_INT64 = 2**63
_DAYS_OF_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ZONE = re.compile(r"(CRON_)?TZ=")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a cron expression; `sample` is six fields that KFP accepts, with this one in use."""

    name: str
    lowest: int
    highest: int
    names: tuple[str, ...]
    sample: str

    def __str__(self) -> str:
        names = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return f"the {self.name} is {self.lowest} to {self.highest}{names}"


FIELDS: Final = (
    Field("second", 0, 59, (), "30 0 4 * * *"),
    Field("minute", 0, 59, (), "0 */15 * * * *"),
    Field("hour", 0, 23, (), "0 0 8-18 * * *"),
    Field("day of the month", 1, 31, (), "0 0 4 1,15 * *"),
    Field("month", 1, 12, _MONTHS, "0 0 4 1 jan-mar *"),
    Field("day of the week", 0, 6, _DAYS, "0 0 4 * * mon-fri"),
)
_MIN_FIELDS = len(FIELDS) - 1


class CronError(ValueError):
    """The expression cannot be read, or one field of it; the text is robfig/cron's."""

    def __init__(self, text: str, field: Field | None = None) -> None:
        super().__init__(text)
        self.field = field


@dataclass(frozen=True, slots=True)
class Values:
    """The values that a field allows: the step of each part with a star, and the numbers of the other parts."""

    steps: tuple[int, ...]
    numbers: frozenset[int]


def read_cron(expression: str) -> tuple[Values, ...] | timedelta:
    """Parses the values of the six fields, or the time between two starts. Raises CronError as KFP would."""
    if not expression:
        raise CronError("Empty spec string")
    if expression.startswith(_EVERY):
        return _read_every(expression)
    if expression.startswith("@") and expression not in _WORDS:
        raise CronError(f"Unrecognized descriptor: {expression}")
    texts = _WORDS.get(expression, expression).split()
    if not _MIN_FIELDS <= len(texts) <= len(FIELDS):
        raise CronError(f"Expected {_MIN_FIELDS} to {len(FIELDS)} fields, found {len(texts)}: {expression}")
    texts += ["*"] * (len(FIELDS) - len(texts))
    return tuple(_read_field(text, field) for text, field in zip(texts, FIELDS, strict=True))


def cron_fault(expression: str) -> str:
    """Returns the fault of an expression, with a valid example; empty if KFP accepts it and it has starts."""
    if _ZONE.match(expression):
        return "has a time zone, which Kubeflow Pipelines does not support: times are UTC, for example '0 0 4 * * *'"
    try:
        schedule = read_cron(expression)
    except CronError as error:
        reported = str(error).partition(": strconv")[0]
        if error.field:
            return f"is invalid ({reported}): {error.field}, for example '{error.field.sample}'"
        if expression.startswith("@"):
            return f"is invalid ({reported}); for example '@daily' or '@every 1h30m'"
        six = ", ".join(field.name for field in FIELDS)
        return f"has {len(expression.split())} fields; give six ({six}), for example '0 0 4 * * *', or the last five"
    if not isinstance(schedule, timedelta) and _never_fires(*schedule):
        return (
            "never comes, and Kubeflow Pipelines would start runs without end; give a day of each month, '0 0 4 28 * *'"
        )
    return ""


def _never_fires(*fields: Values) -> bool:
    *_, days, months, weekdays = fields
    longest = 31 if months.steps else max((_DAYS_OF_MONTHS[month - 1] for month in months.numbers), default=0)
    is_late = weekdays.steps and not days.steps and min(days.numbers, default=0) > longest
    return bool(is_late) or not all(field.steps or field.numbers for field in fields)


def _read_field(text: str, field: Field) -> Values:
    steps: list[int] = []
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        try:
            first, last, step, has_star = _read_range(part, field)
        except CronError as error:
            raise CronError(str(error), field) from None
        if has_star:
            steps.append(step)
        else:
            numbers.update(range(first, last + 1, step))
    return Values(tuple(steps), frozenset(numbers))


def _read_range(part: str, field: Field) -> tuple[int, int, int, bool]:
    """The first and the last value, the step, and whether it is all values."""
    bounds, *steps = part.split("/")
    low, *highs = bounds.split("-")
    has_star = low in {"*", "?"}
    if has_star:
        first, last = field.lowest, field.highest
    else:
        first = last = _read_value(low, field)
        if len(highs) > 1:
            raise CronError(f"Too many hyphens: {part}")
        last = _read_value(highs[0], field) if highs else first
    if len(steps) > 1:
        raise CronError(f"Too many slashes: {part}")
    step = _read_integer(steps[0]) if steps else 1
    if steps and not highs:
        last = field.highest
    if first < field.lowest:
        raise CronError(f"Beginning of range ({first}) below minimum ({field.lowest}): {part}")
    if last > field.highest:
        raise CronError(f"End of range ({last}) above maximum ({field.highest}): {part}")
    if first > last:
        raise CronError(f"Beginning of range ({first}) beyond end of range ({last}): {part}")
    if step == 0:
        raise CronError(f"Step of range should be a positive number: {part}")
    return first, last, step, has_star


def _read_value(text: str, field: Field) -> int:
    name = text.lower()
    return field.names.index(name) + field.lowest if name in field.names else _read_integer(text)


def _read_integer(text: str) -> int:
    fault = "" if _INTEGER.fullmatch(text) else "invalid syntax"
    if not fault and not (len(text) < 20 and -_INT64 <= int(text) < _INT64):  # noqa: PLR2004  # digits of an int64
        fault = "value out of range"
    if fault:
        quoted = json.dumps(text, ensure_ascii=False)
        raise CronError(f"Failed to parse int from {text}: strconv.Atoi: parsing {quoted}: {fault}")
    if int(text) < 0:
        raise CronError(f"Negative number ({int(text)}) not allowed: {text}")
    return int(text)


def _read_every(expression: str) -> timedelta:
    """A duration in Go's notation; the library waits for whole seconds, and at least one."""
    text = expression.removeprefix(_EVERY)
    seconds = _go_seconds(expression, text)
    return timedelta(seconds=max(int(seconds), 1))


def _go_seconds(expression: str, text: str) -> float:
    quoted = json.dumps(text, ensure_ascii=False)
    bare = text[1:] if text[:1] in {"+", "-"} else text
    seconds, end = 0.0, 0
    if bare == "0":
        return 0.0
    while end < len(bare) or not bare:
        match = _DURATION.match(bare, end)
        if not match:
            raise CronError(f"Failed to parse duration {expression}: time: invalid duration {quoted}")
        number, unit = match.groups()
        if not unit:
            raise CronError(f"Failed to parse duration {expression}: time: missing unit in duration {quoted}")
        if unit not in _SECONDS_OF:
            unit = json.dumps(unit, ensure_ascii=False)
            raise CronError(f"Failed to parse duration {expression}: time: unknown unit {unit} in duration {quoted}")
        seconds, end = seconds + float(number) * _SECONDS_OF[unit], match.end()
    if seconds > _MAX_SECONDS:
        raise CronError(f"Failed to parse duration {expression}: time: invalid duration {quoted}")
    return -seconds if text.startswith("-") else seconds
