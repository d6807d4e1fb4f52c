"""Recurring runs in KFP's JSON, where 64-bit numbers are texts."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, cast

import msgspec

from kfadapter_grpc.contract.recurring_runs import CronSchedule, IntervalSchedule, RecurringRun
from kfadapter_grpc.kfp.decoding import known_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.contract.recurring_runs import CreateRecurringRunRequest, Schedule
    from kfadapter_grpc.contract.spec import Json


_MAX_INT32 = 2**31 - 1
_MAX_SECONDS = 315_576_000_000
"""Ten thousand years, the longest Duration of protobuf."""
_MAX_DIGITS = 19


class CronJson(msgspec.Struct, omit_defaults=True):
    """Starts by a calendar."""

    cron: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None


class PeriodicJson(msgspec.Struct, omit_defaults=True):
    """Starts by the clock."""

    interval_second: str | int = "0"
    start_time: datetime | None = None
    end_time: datetime | None = None


class TriggerJson(msgspec.Struct, omit_defaults=True):
    """When runs are started; KFP also keeps recurring runs without any schedule."""

    cron_schedule: CronJson | None = None
    periodic_schedule: PeriodicJson | None = None

    def to_domain(self) -> Schedule | None:
        """As the rest of the program knows it."""
        cron, periodic = self.cron_schedule, self.periodic_schedule
        if cron is not None:
            return CronSchedule(cron.cron, known_time(cron.start_time), known_time(cron.end_time))
        if periodic is not None:
            seconds = timedelta(seconds=_number(periodic.interval_second, _MAX_SECONDS))
            return IntervalSchedule(seconds, known_time(periodic.start_time), known_time(periodic.end_time))
        return None


class _ReferenceJson(msgspec.Struct):
    pipeline_id: str = ""
    pipeline_version_id: str = ""


class _RuntimeConfigJson(msgspec.Struct):
    parameters: dict[str, object] = {}


class _StatusJson(msgspec.Struct):
    message: str = ""


class RecurringRunJson(msgspec.Struct):
    """A recurring run."""

    recurring_run_id: str
    display_name: str = ""
    description: str = ""
    pipeline_version_reference: _ReferenceJson = msgspec.field(default_factory=_ReferenceJson)
    runtime_config: _RuntimeConfigJson = msgspec.field(default_factory=_RuntimeConfigJson)
    service_account: str = ""
    max_concurrency: str | int = "0"
    trigger: TriggerJson = msgspec.field(default_factory=TriggerJson)
    mode: str = ""
    no_catchup: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None
    error: _StatusJson | None = None
    namespace: str = ""
    experiment_id: str = ""

    def to_domain(self) -> RecurringRun:
        """As the rest of the program knows it."""
        return RecurringRun(
            recurring_run_id=self.recurring_run_id,
            display_name=self.display_name,
            enabled=self.mode == "ENABLE",
            schedule=self.trigger.to_domain(),
            max_concurrency=_number(self.max_concurrency, _MAX_INT32),
            catch_up=not self.no_catchup,
            pipeline_id=self.pipeline_version_reference.pipeline_id,
            pipeline_version_id=self.pipeline_version_reference.pipeline_version_id,
            experiment_id=self.experiment_id,
            parameters=cast("Mapping[str, Json]", self.runtime_config.parameters),
            description=self.description,
            created_at=known_time(self.created_at),
            updated_at=known_time(self.updated_at),
            namespace=self.namespace,
            service_account=self.service_account,
            error=self.error.message if self.error else "",
        )


class RecurringRunListJson(msgspec.Struct):
    """A list of recurring runs, whose key is spelled in another way than all others; an empty one is `{}`."""

    recurring_runs: list[RecurringRunJson] = msgspec.field(default_factory=list, name="recurringRuns")
    total_size: int = 0
    next_page_token: str = ""


def trigger(schedule: Schedule) -> object:
    """A schedule as KFP takes it."""
    start, end = _seconds(schedule.start_at), _seconds(schedule.end_at)
    if isinstance(schedule, CronSchedule):
        made = TriggerJson(cron_schedule=CronJson(schedule.cron, start, end))
    else:
        interval = str(int(schedule.interval.total_seconds()))
        made = TriggerJson(periodic_schedule=PeriodicJson(interval, start, end))
    return msgspec.to_builtins(made)


def creation(
    request: CreateRecurringRunRequest, version: tuple[str, str], experiment_id: str, parameters: Mapping[str, Json]
) -> dict[str, object]:
    """What KFP is told to make; `version` are the ids of pipeline and version. What is empty is left out."""
    pipeline_id, version_id = version
    body: dict[str, object] = {
        "display_name": request.display_name,
        "description": request.description,
        "pipeline_version_reference": {"pipeline_id": pipeline_id, "pipeline_version_id": version_id},
        "runtime_config": {"parameters": parameters} if parameters else None,
        "service_account": request.service_account,
        "max_concurrency": str(request.max_concurrency),
        "trigger": trigger(request.schedule),
        "mode": "ENABLE" if request.enabled else "DISABLE",
        "no_catchup": not request.catch_up,
        "experiment_id": experiment_id,
        "namespace": request.namespace,
    }
    return {key: value for key, value in body.items() if value}


def _seconds(moment: datetime | None) -> datetime | None:
    """A time as KFP keeps it: in UTC, in whole seconds."""
    return moment.astimezone(timezone.utc).replace(microsecond=0) if moment else None


def _number(told: str | int, most: int) -> int:
    """A number as KFP tells it; 0 for what is none, and at most what the contract has room for."""
    text = str(told)
    return min(int(text), most) if text.isdecimal() and len(text) <= _MAX_DIGITS else 0
