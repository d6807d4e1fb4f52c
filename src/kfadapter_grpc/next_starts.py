"""When a recurring run starts runs, by the rules of KFP's ScheduledWorkflow controller.

They are in backend/src/crd/controller/scheduledworkflow/util of release 2.17.0. Cron expressions are in the time
zone of the installation, which is UTC unless that was changed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from cronsim import CronSim, CronSimError

from kfadapter_grpc.contract.cron import CronError, read_cron
from kfadapter_grpc.contract.recurring_runs import CronSchedule

if TYPE_CHECKING:
    from kfadapter_grpc.contract.recurring_runs import IntervalSchedule, RecurringRun, Schedule

_YEARS = 5


def has_ended(item: RecurringRun, now: datetime) -> bool:
    """Whether the end of its schedule has passed; KFP still shows it as enabled."""
    end_at = item.schedule.end_at if item.schedule else None
    return end_at is not None and end_at <= now


def next_start(item: RecurringRun, now: datetime) -> datetime | None:
    """The next start, provided that all earlier ones were on time, since KFP returns no last start.

    None if there is none, or if the schedule alone does not determine it: without catching up, KFP counts intervals
    from a start that was late, so that only the first one is certain.
    """
    schedule, made = item.schedule, item.created_at or now
    if schedule is None or not item.enabled or item.error or has_ended(item, now):
        return None
    if isinstance(schedule, CronSchedule):
        every = _in_cronsims_words(schedule.cron)
        return None if every is None or isinstance(every, timedelta) else scheduled_start(schedule, made, now, now)
    origin = schedule.start_at or item.created_at
    if origin is None or not schedule.interval:
        return None
    passed = max((now - origin) // schedule.interval, 0)
    if passed and not item.catch_up:
        return None
    try:
        return scheduled_start(schedule, made, origin + passed * schedule.interval if passed else None, now)
    except OverflowError:
        return None


def scheduled_start(
    schedule: Schedule | None, created_at: datetime, last: datetime | None, now: datetime, *, catch_up: bool = True
) -> datetime | None:
    """The start after `last`; it may have passed. None if there is none (`getNextScheduledEpoch`).

    Without a schedule there is one start, at once.
    """
    if schedule is None:
        return None if last else created_at
    if isinstance(schedule, CronSchedule):
        return _start_by_cron(schedule, last or schedule.start_at or created_at, now, catch_up=catch_up)
    return _start_by_interval(schedule, last or schedule.start_at or created_at, now, catch_up=catch_up)


def _start_by_cron(schedule: CronSchedule, after: datetime, now: datetime, *, catch_up: bool) -> datetime | None:
    """Without catching up, the last of those that are due (`CronSchedule.getNextScheduledTimeImp`)."""
    end_at = schedule.end_at
    after = max(after, schedule.start_at or after)
    first = _cron_time(schedule.cron, after)
    if first is None or (end_at and end_at < first):
        return None
    if catch_up or first > now:
        return first
    latest = _cron_time(schedule.cron, min(now, end_at or now), origin=first)
    return latest or first


def _cron_time(cron: str, moment: datetime, *, origin: datetime | None = None) -> datetime | None:
    """The first time after a moment; with an origin the last one up to it instead, `@every` counting from there."""
    every = _in_cronsims_words(cron)
    try:
        if every is None:
            return None
        if isinstance(every, timedelta):
            return origin + (moment - origin) // every * every if origin else moment + every
        if origin:
            return max(origin, next(CronSim(every, moment + timedelta(seconds=1), reverse=True), origin))
        found = next(CronSim(every, moment), None)
    except (CronSimError, OverflowError):  # a day that no month has, the end of the calendar
        return None
    return found if found and found.year <= (moment + timedelta(seconds=1)).year + _YEARS else None


@lru_cache(maxsize=1024)
def _in_cronsims_words(cron: str) -> str | timedelta | None:
    """An expression in CronSim's syntax, or the time between two starts; None if it cannot be parsed."""
    try:
        found = read_cron(cron)
    except CronError:
        return None
    if isinstance(found, timedelta):
        return found
    # A star comes first, where CronSim expects it; steps from a single value continue to the field's end in both.
    parts = ([*(f"*/{step}" for step in sorted(each.steps)), *map(str, sorted(each.numbers))] for each in found)
    return " ".join(",".join(part) or "none" for part in parts)


def _start_by_interval(
    schedule: IntervalSchedule, after: datetime, now: datetime, *, catch_up: bool
) -> datetime | None:
    """Without catching up, a missed start is now (`PeriodicSchedule.GetNextScheduledEpochNoCatchup`)."""
    start_at, end_at = schedule.start_at, schedule.end_at
    if start_at and start_at > after:
        first = start_at
    else:
        first = after + schedule.interval
        if end_at and end_at < first:
            return None
    if catch_up or now < first + schedule.interval:
        return first
    return min(now, end_at or now)
