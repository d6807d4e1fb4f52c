"""Next starts are those that KFP's controller computes.

The starts by cron expressions were computed by robfig/cron 1.2.0, the library of KFP's controller.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from kfadapter_grpc.contract.recurring_runs import CronSchedule, IntervalSchedule, RecurringRun
from kfadapter_grpc.next_starts import has_ended, next_start, scheduled_start

MADE = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)
NOW = datetime(2026, 11, 29, 21, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


def _at(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def _cron(text: str, **bounds: datetime) -> RecurringRun:
    return RecurringRun("r", enabled=True, schedule=CronSchedule(text, **bounds), created_at=MADE)


def _every(interval: timedelta, **bounds: datetime) -> RecurringRun:
    return RecurringRun("r", enabled=True, schedule=IntervalSchedule(interval, **bounds), created_at=MADE)


@pytest.mark.parametrize(
    ("cron", "starts"),
    [
        ("0 0 3 * * *", "2026-11-30T03:00:00Z"),
        ("0 3 * * *", "2026-11-29T21:03:00Z"),
        ("5 4 3 2 1", "2027-01-02T03:04:05Z"),
        ("* * * * * ?", "2026-11-29T21:00:01Z"),
        ("0 */15 * * * *", "2026-11-29T21:15:00Z"),
        ("5/20 * * * * *", "2026-11-29T21:00:05Z"),
        ("0 0 0 13 * FRI", "2026-12-04T00:00:00Z"),
        ("0 0 0 ? * mon-fri", "2026-11-30T00:00:00Z"),
        ("0 0 0 13 * ?", "2026-12-13T00:00:00Z"),
        ("0 0 0 */2 * 1", "2026-12-07T00:00:00Z"),
        ("0 0 0 1-31/2 * 1", "2026-11-30T00:00:00Z"),
        ("0 0 0 1-5,* * 3", "2026-12-02T00:00:00Z"),
        ("0 0 0 ?/5 * *", "2026-12-01T00:00:00Z"),
        ("0 0 0 * * 1/2", "2026-11-30T00:00:00Z"),
        ("0 0 0 * * 5-5/2", "2026-12-04T00:00:00Z"),
        ("0 0 0 10 * sat/1", "2026-12-05T00:00:00Z"),
        ("0 0 0 29 2 ?", "2028-02-29T00:00:00Z"),
        ("0 0 0 1,15 jan-mar,NOV ?", "2027-01-01T00:00:00Z"),
        ("0 0 22-23,1 * * ?", "2026-11-29T22:00:00Z"),
        ("@daily", "2026-11-30T00:00:00Z"),
        ("@weekly", "2026-12-06T00:00:00Z"),
        ("@monthly", "2026-12-01T00:00:00Z"),
        ("@annually", "2027-01-01T00:00:00Z"),
        ("@hourly", "2026-11-29T22:00:00Z"),
    ],
)
def test_by_cron(cron: str, starts: str) -> None:
    """A cron expression is read as by KFP's library; five fields begin with the seconds."""
    assert next_start(_cron(cron), NOW) == _at(starts)


@pytest.mark.parametrize(
    "cron", ["0 0 0 30 2 *", "@every 1h", "", "bad", "TZ=Asia/Seoul 0 0 3 * * *", "9" * 5000 + " * * * * *", "@daily x"]
)
def test_expressions_without_a_next_start(cron: str) -> None:
    """An expression that never matches, depends on the last start or is invalid has no next start."""
    assert next_start(_cron(cron), NOW) is None


def test_by_interval() -> None:
    """The first start is one interval after the schedule's start or creation; with catch-up, the next ones follow."""
    assert next_start(_every(10 * HOUR), NOW) == MADE + 10 * HOUR
    assert next_start(_every(HOUR, start_at=NOW + HOUR), NOW) == NOW + 2 * HOUR
    assert next_start(replace(_every(2 * HOUR), catch_up=True), NOW) == MADE + 10 * HOUR
    assert next_start(replace(_every(HOUR), catch_up=True), NOW) == NOW + HOUR


def test_an_interval_that_does_not_catch_up() -> None:
    """KFP counts on from a late start, so after the first start the next one is unknown."""
    assert next_start(_every(HOUR), NOW) is None


@pytest.mark.parametrize("item", [_every(timedelta(0)), _every(timedelta.max), replace(_every(HOUR), created_at=None)])
def test_intervals_that_lead_nowhere(item: RecurringRun) -> None:
    """If the times overflow, there is no next start."""
    assert next_start(item, NOW) is None


def test_bounds() -> None:
    """Starts are after the schedule's start, exclusively, and up to its end, inclusively."""
    assert next_start(_cron("0 0 4 * * *", start_at=_at("2026-12-01T04:00:00Z")), NOW) == _at("2026-12-02T04:00:00Z")
    assert next_start(_cron("0 0 4 * * *", end_at=_at("2026-11-30T04:00:00Z")), NOW) == _at("2026-11-30T04:00:00Z")
    assert next_start(_cron("0 0 4 * * *", end_at=_at("2026-11-30T03:59:59Z")), NOW) is None
    assert next_start(_every(10 * HOUR, end_at=NOW + HOUR - timedelta(seconds=1)), NOW) is None


@pytest.mark.parametrize("end_at", [NOW - HOUR, NOW])
def test_the_end(end_at: datetime) -> None:
    """A schedule has ended at its end time, and has no next start then, whatever KFP shows."""
    for item in (_cron("* * * * * *", end_at=end_at), replace(_every(HOUR, end_at=end_at), catch_up=True)):
        assert has_ended(item, NOW)
        assert next_start(item, NOW) is None
        assert not has_ended(item, end_at - timedelta(seconds=1))


def test_what_starts_nothing() -> None:
    """A schedule that is disabled, invalid or missing has no next start."""
    daily = _cron("@daily")
    assert next_start(daily, NOW)
    for item in (replace(daily, enabled=False), replace(daily, error="broken"), replace(daily, schedule=None)):
        assert next_start(item, NOW) is None
        assert not has_ended(item, NOW)


TEN = datetime(1970, 1, 1, 10, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
_BOUNDS = TEN + 10 * MINUTE, TEN + HOUR
_BY_CRON = CronSchedule("0 * * * * *", *_BOUNDS)
_BY_INTERVAL = IntervalSchedule(MINUTE, *_BOUNDS)
_LAST = TEN + 20 * MINUTE


def _after(minutes: float) -> datetime:
    return TEN + minutes * MINUTE


@pytest.mark.parametrize("schedule", [_BY_CRON, _BY_INTERVAL])
@pytest.mark.parametrize(
    ("last", "now", "start"),
    [
        (_LAST, _after(20.5), _after(21)),  # not yet
        (_LAST, _after(21), _after(21)),  # now
        (_LAST, _after(21.5), _after(21)),  # shortly after
        (_LAST, _after(30), _after(30)),  # far behind
        (_LAST, _after(120), _after(60)),  # after the end
        (None, TEN - 10 * HOUR, _after(11)),  # the first one, after the schedule's start
    ],
)
def test_starts_without_catching_up(
    schedule: CronSchedule | IntervalSchedule, last: datetime | None, now: datetime, start: datetime
) -> None:
    """One of several missed starts is made (TestCronSchedule_, TestPeriodicSchedule_GetNextScheduledEpochNoCatchup)."""
    assert scheduled_start(schedule, _after(15), last, now, catch_up=False) == start
    unbounded = replace(schedule, start_at=None)
    assert last or scheduled_start(unbounded, _after(15), None, now, catch_up=False) == _after(16)


@pytest.mark.parametrize("schedule", [_BY_CRON, _BY_INTERVAL])
def test_starts_that_catch_up(schedule: CronSchedule | IntervalSchedule) -> None:
    """Each start follows the last, however late (TestCronSchedule_, TestPeriodicSchedule_GetNextScheduled*)."""
    now = _after(5000)
    assert scheduled_start(schedule, _after(15), _LAST, now) == _LAST + MINUTE
    assert scheduled_start(schedule, _after(15), None, now) == _after(11)
    assert scheduled_start(replace(schedule, start_at=None), _after(15), None, now) == _after(16)
    assert scheduled_start(schedule, _after(15), TEN + 3 * HOUR, now) is None


def test_a_start_without_a_schedule() -> None:
    """Without a schedule there is one start, at once (`getNextScheduledEpochForOneTimeRun`)."""
    assert scheduled_start(None, MADE, None, NOW) == MADE
    assert scheduled_start(None, MADE, MADE, NOW) is None


def test_a_long_absence_costs_no_time() -> None:
    """Years of missed seconds are skipped in one step, by cron and by `@every`, which counts from its first start."""
    made = datetime(1990, 1, 1, tzinfo=timezone.utc)
    for cron, start in (("* * * * * *", NOW), ("@every 7s", NOW - (NOW - made) % timedelta(seconds=7))):
        assert scheduled_start(CronSchedule(cron), made, None, NOW, catch_up=False) == start
        assert scheduled_start(CronSchedule(cron), made, made, NOW) == made + timedelta(seconds=7 if "7" in cron else 1)


def test_a_clock_that_went_back() -> None:
    """After the clock is set back, earlier starts are not repeated."""
    for schedule in (_BY_CRON, _BY_INTERVAL):
        assert scheduled_start(schedule, TEN, _LAST, _after(12), catch_up=False) == _LAST + MINUTE
