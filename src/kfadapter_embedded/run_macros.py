"""Macros in the parameters of runs: `[[RunUUID]]`, `[[CurrentTime]]`, `[[ScheduledTime]]` and their other forms.

KFP's API server replaces them when it creates a run (`ParameterFormatter`, `V2Spec.RunWorkflow`). They are kept in
runs that the controller creates itself, of recurring runs with a version or a spec; `[[Index]]` is never replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone

from .json_text import read_time
from .run_requests import parameters_of

_MACRO = re.compile(r"\[\[(.*?)\]\]|\{\{\$\.(.*?)\}\}")
_TIME = re.compile(r"(CurrentTime|ScheduledTime)(?:\.(.*))?")
_STRFTIME = re.compile(r"(currentTime|scheduledTime)\.strftime\('(.*)'\)")
_STRFTIME_CODES = frozenset("%aAbBcCdDeFHIjklmMnpRrSsTtuUvVwWxXyYZzh")
_DEFAULT_LAYOUT = "20060102150405"
_LAYOUT = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|2006|__2|_2(?!006)|002|0[1-6]|15|[1-5]|PM|pm"
    r"|[Z-]07(?:0000|:00:00|00|:00)?|[.,](?:0+|9+)(?![0-9])"
)
"""The parts of Go's reference time."""
_CODES = {
    "January": "%B",
    "Jan": "%b",
    "Monday": "%A",
    "Mon": "%a",
    "MST": "%Z",
    "06": "%y",
    "002": "%j",
    "PM": "%p",
    "01": "%m",
    "02": "%d",
    "03": "%I",
    "04": "%M",
    "05": "%S",
    "15": "%H",
    "_2": "%e",
}
_BARE = {"1": "%m", "2": "%d", "3": "%I", "4": "%M", "5": "%S"}
"""Parts without a leading zero."""


def parameters_without_macros(run: Mapping[str, object]) -> dict[str, object]:
    """The parameters of a run, with the macros in strings replaced."""
    created_at, scheduled_at = (_moment(str(run[key])) for key in ("created_at", "scheduled_at"))
    due = scheduled_at if scheduled_at != created_at else None

    def filled(value: object) -> object:
        return without_macros(value, str(run["run_id"]), created_at, due) if isinstance(value, str) else value

    return {name: filled(value) for name, value in parameters_of(run).items()}


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(read_time(text), timezone.utc)


def without_macros(text: str, run_id: str, created_at: datetime, scheduled_at: datetime | None) -> str:
    """A string with its macros replaced; without a schedule, macros of the scheduled time are unchanged."""

    def replaced(found: re.Match[str]) -> str:
        old, new = found.groups()
        if old == "RunUUID":
            return run_id
        of_go, of_c = _TIME.fullmatch(old or ""), _STRFTIME.fullmatch(new or "")
        name, layout = (of_go or of_c or found).groups()
        moment = {"CurrentTime": created_at, "ScheduledTime": scheduled_at}.get(f"{name}"[:1].upper() + f"{name}"[1:])
        if moment is None:
            return found[0]
        return _by_layout(moment, layout or _DEFAULT_LAYOUT) if of_go else _by_codes(moment, layout, found[0])

    return _MACRO.sub(replaced, text)


def _by_layout(moment: datetime, layout: str) -> str:
    return _LAYOUT.sub(lambda part: _written(moment, part[0]), layout)


def _written(moment: datetime, part: str) -> str:
    """A part of a time in UTC and whole seconds, as Go formats it."""
    if code := _CODES.get(part):
        return moment.strftime(code)
    if code := _BARE.get(part):
        return moment.strftime(code).lstrip("0") or "0"
    if part[0] in ".,":
        return part if part[1] == "0" else ""
    if part[0] in "Z-":
        return "Z" if part[0] == "Z" else "+" + part[1:].replace("7", "0")
    return {"2006": f"{moment.year:04}", "pm": moment.strftime("%p").lower()}.get(
        part, f"{moment:%j}".lstrip("0").rjust(3)
    )


def _by_codes(moment: datetime, codes: str, whole: str) -> str:
    """A time formatted with strftime codes; a format with a code that KFP does not know is returned unchanged."""
    parts = re.findall(r"%.?|[^%]+", codes, re.DOTALL)
    if any(part[:1] == "%" and part[1:] not in _STRFTIME_CODES for part in parts):
        return whole
    own = {"%s": str(int(moment.timestamp())), "%v": moment.strftime("%e-%b-%Y"), "%Y": f"{moment.year:04}"}
    return "".join(own.get(part) or (moment.strftime(part) if part[0] == "%" else part) for part in parts)
