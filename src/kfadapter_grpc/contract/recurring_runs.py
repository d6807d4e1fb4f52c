"""Recurring runs: runs that KFP starts on a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Annotated, ClassVar, TypeAlias, cast

from kfadapter_grpc.contract.checks import Faults, Id, Namespace, column, text, within
from kfadapter_grpc.contract.cron import cron_fault
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.listing import ListRequest
from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
from kfadapter_grpc.contract.spec import Json

MAX_CONCURRENCY = 10
"""Maximum number of concurrent runs of a recurring run (KFP's limit)."""
MAX_CRON = 128
MAX_SERVICE_ACCOUNT = 253
_CRONTAB_FIELDS = 5
_NOT_AT_ONCE = f"is {{}}; 1 to {MAX_CONCURRENCY} are allowed, 0 means 1"
_MAX_INTERVAL = timedelta(days=100 * 366)


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """Starts runs on a calendar: five fields, or six with seconds first. Times are in UTC."""

    cron: Annotated[str, text(MAX_CRON)]
    start_at: datetime | None = None
    end_at: datetime | None = None

    def check(self) -> Faults:
        if fault := cron_fault(self.cron):
            yield "cron", fault
        yield from _invalid_bounds(self)


@dataclass(frozen=True, slots=True)
class IntervalSchedule:
    """Starts runs at fixed intervals: every `interval`, in whole seconds. Times are in UTC."""

    interval: timedelta
    start_at: datetime | None = None
    end_at: datetime | None = None

    def check(self) -> Faults:
        if self.interval.microseconds or not timedelta(seconds=1) <= self.interval <= _MAX_INTERVAL:
            yield "interval", "must be whole seconds, from 1 to a hundred years"
        yield from _invalid_bounds(self)


Schedule: TypeAlias = CronSchedule | IntervalSchedule


def _invalid_bounds(schedule: Schedule) -> Faults:
    start_at, end_at = schedule.start_at, schedule.end_at
    for name, moment in (("start_at", start_at), ("end_at", end_at)):
        if moment and moment.timestamp() < 1:
            yield name, "is not after 1970, which Kubeflow Pipelines treats as unset"
    if start_at and end_at and start_at >= end_at:
        yield "end_at", "is not after start_at, so that nothing would ever be started"


@dataclass(frozen=True, slots=True)
class RecurringRun:
    recurring_run_id: str
    display_name: str = ""
    enabled: bool = False
    schedule: Schedule | None = None
    max_concurrency: int = 0
    catch_up: bool = False
    pipeline_id: str = ""
    pipeline_version_id: str = ""
    experiment_id: str = ""
    parameters: Mapping[str, Json] = field(default_factory=dict)
    description: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    namespace: str = ""
    service_account: str = ""
    error: str = ""
    ended: bool = False
    computed_next_start_at: datetime | None = None

    def next_start(self, last: datetime | None) -> datetime | None:
        """Returns the next start after the `last`, for when its newest run was scheduled.

        Without catch-up, intervals count from the last one, which the adapter does not read.
        """
        starts, counts = self.schedule, self.enabled and not self.ended
        if self.computed_next_start_at or not counts or not isinstance(starts, IntervalSchedule) or not last:
            return self.computed_next_start_at
        start = last + starts.interval
        return start if starts.end_at is None or start <= starts.end_at else None

    def in_json(self, document: dict[str, Json]) -> dict[str, Json]:
        """Shows the schedule beside the other fields; one of `cron` and `interval_seconds` is null."""
        schedule = cast("dict[str, Json]", document.pop("schedule") or {})
        keys = ("cron", "cron"), ("interval_seconds", "interval"), ("start_at", "start_at"), ("end_at", "end_at")
        return document | {name: schedule.get(key) for name, key in keys}


@dataclass(frozen=True, slots=True)
class CreateRecurringRunRequest:
    pipeline: PipelineRef
    schedule: Schedule
    version: VersionRef = field(default_factory=VersionRef)
    experiment: ExperimentRef | None = None
    parameters: Mapping[str, Json] = field(default_factory=dict)
    display_name: Annotated[str, column()] = ""
    description: Annotated[str, column()] = ""
    max_concurrency: Annotated[int, within(0, MAX_CONCURRENCY, _NOT_AT_ONCE)] = 1
    catch_up: bool = False
    disabled: bool = False
    service_account: Annotated[str, text(MAX_SERVICE_ACCOUNT)] = ""
    namespace: Namespace = ""

    def __post_init__(self) -> None:
        """Adds the seconds to the five fields of crontab: KFP would read an hour as a minute."""
        if isinstance(self.schedule, CronSchedule) and not self.schedule.cron.startswith("@"):
            fields = self.schedule.cron.split()
            cron = " ".join(["0", *fields] if len(fields) == _CRONTAB_FIELDS else fields)
            object.__setattr__(self, "schedule", replace(self.schedule, cron=cron))
        object.__setattr__(self, "max_concurrency", self.max_concurrency or 1)

    @property
    def enabled(self) -> bool:
        return not self.disabled

    def check(self) -> Faults:
        if self.display_name and not self.display_name.strip():
            yield "display_name", "is blank; omit it to have one generated"


@dataclass(frozen=True, slots=True)
class _OneRecurringRun:
    recurring_run_id: Id


class GetRecurringRunRequest(_OneRecurringRun):
    """Gets a recurring run."""


@dataclass(frozen=True, slots=True)
class ListRecurringRunsRequest(ListRequest):
    """Lists recurring runs; `experiment` is None for those of all experiments."""

    ORDERS: ClassVar[tuple[str, ...]] = ("created_at", "display_name", "recurring_run_id")

    experiment: ExperimentRef | None = None
    namespace: Namespace = ""


class EnableRecurringRunRequest(_OneRecurringRun):
    """Enables a recurring run."""


class DisableRecurringRunRequest(_OneRecurringRun):
    """Disables a recurring run."""


@dataclass(frozen=True, slots=True)
class DeleteRecurringRunRequest:
    recurring_run_id: Id
    allow_missing: bool = False
