"""Records as JSON and YAML show them: the proto's field names, every key always there, null for what is unknown."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from kfadapter_grpc.contract.pipelines import PipelineVersion
from kfadapter_grpc.contract.recurring_runs import CronSchedule, IntervalSchedule, RecurringRun
from kfadapter_grpc.contract.runs import Run, RunOutput
from kfadapter_grpc.contract.spec import Json, Parameter

if TYPE_CHECKING:
    from kfadapter_grpc.contract.recurring_runs import Schedule

Record = dict[str, Json]
_NOT_LISTED: dict[type[object], tuple[str, ...]] = {
    PipelineVersion: ("display_name", "tags", "sha256", "spec"),
    Run: ("pipeline_name", "pipeline_version_name", "experiment_name", "tasks"),
}
"""What lists leave out to be cheap (`VIEW_BASIC` in the contract)."""


def record(item: object) -> Record:
    """Shows a record. A key that says only whether another is set is left out, and so is what is not set then."""
    of = fields(cast("Any", item))
    shown = {
        one.metadata.get("wire", one.name): _shown(getattr(item, one.name))
        for one in of
        if getattr(item, one.metadata.get("present", ""), True)
    }
    for one in of:
        shown.pop(one.metadata.get("present", ""), None)
    if isinstance(item, Parameter):
        shown["type"] = item.type.value or item.declared_type
    elif isinstance(item, RunOutput):
        shown.pop("artifact" if item.artifact is None else "value")
    elif isinstance(item, RecurringRun):
        shown |= _schedule(item.schedule)
        del shown["schedule"]
    return shown


def listed_record(item: object) -> Record:
    """Shows a record of a list, of which the adapter has less: what is not known is null, not empty."""
    return record(item) | dict.fromkeys(_NOT_LISTED[type(item)])


def shown_moment(moment: datetime | None) -> str | None:
    """Writes a time as JSON and YAML show it, in UTC."""
    return moment.replace(microsecond=0, tzinfo=None).isoformat() + "Z" if moment else None


def _shown(value: object) -> Json:
    if isinstance(value, datetime):
        return shown_moment(value)
    if isinstance(value, enum.Enum):
        return cast("Json", value.value)
    if isinstance(value, tuple):
        return [_shown(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, CronSchedule | IntervalSchedule):
        return None
    return record(value) if is_dataclass(value) else cast("Json", value)


def _schedule(schedule: Schedule | None) -> Record:
    """Shows a schedule; of `cron` and `interval_seconds` one is null."""
    made: Record = {"cron": None, "interval_seconds": None, "start_at": None, "end_at": None}
    if schedule is None:
        return made
    if isinstance(schedule, CronSchedule):
        made["cron"] = schedule.cron
    else:
        made["interval_seconds"] = int(schedule.interval.total_seconds())
    return made | {"start_at": shown_moment(schedule.start_at), "end_at": shown_moment(schedule.end_at)}
