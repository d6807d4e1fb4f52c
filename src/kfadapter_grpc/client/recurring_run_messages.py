"""Messages of recurring runs to domain models and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from kfadapter.v1 import recurring_run_pb2
from kfadapter_grpc.client.messages import json_object, moment, timestamp
from kfadapter_grpc.domain.models import Page
from kfadapter_grpc.domain.recurring_runs import CronSchedule, IntervalSchedule, RecurringRun

if TYPE_CHECKING:
    from kfadapter_grpc.domain.recurring_runs import Schedule


def recurring_run(message: recurring_run_pb2.RecurringRun) -> RecurringRun:
    """Reads a recurring run."""
    return RecurringRun(
        recurring_run_id=message.recurring_run_id,
        display_name=message.display_name,
        enabled=message.enabled,
        schedule=_schedule(message),
        max_concurrency=message.max_concurrency,
        catch_up=message.catch_up,
        pipeline_id=message.pipeline_id,
        pipeline_version_id=message.pipeline_version_id,
        experiment_id=message.experiment_id,
        parameters=json_object(message.parameters),
        description=message.description,
        created_at=moment(message, "created_at"),
        updated_at=moment(message, "updated_at"),
        namespace=message.namespace,
        service_account=message.service_account,
        error=message.error,
        ended=message.ended,
        computed_next_start_at=moment(message, "computed_next_start_at"),
    )


def _schedule(message: recurring_run_pb2.RecurringRun) -> Schedule | None:
    kind = message.WhichOneof("schedule")
    if kind == "cron":
        cron = message.cron
        return CronSchedule(cron.cron, moment(cron, "start_at"), moment(cron, "end_at"))
    if kind == "interval":
        interval = message.interval
        return IntervalSchedule(
            interval.interval.ToTimedelta(), moment(interval, "start_at"), moment(interval, "end_at")
        )
    return None


def recurring_run_page(message: recurring_run_pb2.ListRecurringRunsResponse) -> Page[RecurringRun]:
    """Reads a page of recurring runs."""
    total = message.total_size if message.HasField("total_size") else None
    return Page(tuple(recurring_run(item) for item in message.recurring_runs), message.next_page_token, total)


def set_schedule(request: recurring_run_pb2.CreateRecurringRunRequest, schedule: Schedule) -> None:
    """Puts a schedule into a request.

    Raises:
        InvalidFieldError: A time of it lies outside of the years 1 to 9999.
    """
    start_at, end_at = timestamp(schedule.start_at, "start_at"), timestamp(schedule.end_at, "end_at")
    if isinstance(schedule, CronSchedule):
        cron = recurring_run_pb2.CronSchedule(cron=schedule.cron, start_at=start_at, end_at=end_at)
        request.cron.CopyFrom(cron)
        return
    interval = Duration()
    interval.FromTimedelta(schedule.interval)
    request.interval.CopyFrom(recurring_run_pb2.IntervalSchedule(interval=interval, start_at=start_at, end_at=end_at))
