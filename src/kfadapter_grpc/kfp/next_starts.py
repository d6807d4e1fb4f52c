"""When a recurring run starts its next run. KFP serves no such time, so it is computed as KFP's controller does.

The rules are those of its ScheduledWorkflow controller (backend/src/crd/controller/scheduledworkflow/util). It reads
cron expressions with robfig/cron 1.2, in the time zone of its installation, which is UTC unless that was changed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cronsim import CronSim, CronSimError

from kfadapter_grpc.contract.recurring_runs import CronSchedule

if TYPE_CHECKING:
    from datetime import datetime

    from kfadapter_grpc.contract.recurring_runs import IntervalSchedule, RecurringRun

_WORDS = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_HIGHEST = (59, 59, 23, 31, 12, 6)
"""The highest value of each field."""
_STEPS = re.compile(r"(\w+)(?:-(\w+))?/\d+")
_YEARS = 5
"""How far ahead KFP looks for a start."""


def has_ended(item: RecurringRun, now: datetime) -> bool:
    """Whether the end of its schedule has passed; KFP still shows it as enabled."""
    end_at = item.schedule.end_at if item.schedule else None
    return end_at is not None and end_at <= now


def next_start(item: RecurringRun, now: datetime) -> datetime | None:
    """The next start; None if there is none, or if the schedule alone does not determine it."""
    schedule = item.schedule
    if schedule is None or not item.enabled or item.error:
        return None
    if isinstance(schedule, CronSchedule):
        start_at = max(now, schedule.start_at or now)
        found = _next_of_cron(schedule.cron, start_at)
    else:
        found = _next_of_interval(schedule, item, now)
    return found if found and (schedule.end_at is None or found <= schedule.end_at) else None


def _next_of_cron(cron: str, after: datetime) -> datetime | None:
    fields = _WORDS.get(cron, cron).split()
    if len(fields) == len(_HIGHEST) - 1:
        fields.append("*")  # the field that may be left out is the day of the week, not the seconds
    try:
        text = " ".join(_in_cronsims_words(field, top) for field, top in zip(fields, _HIGHEST, strict=True))
        found = next(CronSim(text, after), None)
    except (CronSimError, ValueError, OverflowError):  # `@every 1h`, for example, which depends on the last start
        return None
    return found if found and found.year <= after.year + _YEARS else None


def _in_cronsims_words(field: str, highest: int) -> str:
    """A field with `?` as `*`, with `5/10` as `5-59/10`, and with a star first, where CronSim looks for it."""
    parts = [_in_cronsims_steps(part, str(highest)) for part in field.lower().replace("?", "*").split(",")]
    return ",".join(sorted(parts, key=lambda part: not part.startswith("*")))


def _in_cronsims_steps(part: str, highest: str) -> str:
    steps = _STEPS.fullmatch(part)
    if steps is None:
        return part
    first, last = steps[1], steps[2] or highest
    # To CronSim, steps from a single value go on to the field's end, which is day 7 in a week.
    return first if first in {last, "sat"} else f"{first}-{last}/{part.partition('/')[2]}"


def _next_of_interval(schedule: IntervalSchedule, item: RecurringRun, now: datetime) -> datetime | None:
    """The first start after now that is a whole number of intervals after the schedule's start, or else its creation.

    Without catching up, KFP counts on from a start that was late, so that only the first start is certain.
    """
    origin = schedule.start_at or item.created_at
    if origin is None or not schedule.interval:
        return None
    passed = max((now - origin) // schedule.interval, 0)
    if passed and not item.catch_up:
        return None
    try:
        return origin + (passed + 1) * schedule.interval
    except OverflowError:
        return None
