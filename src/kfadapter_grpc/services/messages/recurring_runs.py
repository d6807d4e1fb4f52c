"""Makes messages of recurring runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from kfadapter.v1 import recurring_run_pb2 as pb
from kfadapter_grpc.domain.recurring_runs import CronSchedule, IntervalSchedule
from kfadapter_grpc.services.messages.sizes import shortened
from kfadapter_grpc.services.messages.values import struct, timestamp

if TYPE_CHECKING:
    from kfadapter_grpc.domain.models import Page
    from kfadapter_grpc.domain.recurring_runs import RecurringRun


def recurring_run(item: RecurringRun) -> pb.RecurringRun:
    """A recurring run."""
    schedule = item.schedule
    message = pb.RecurringRun(
        recurring_run_id=item.recurring_run_id,
        display_name=item.display_name,
        enabled=item.enabled,
        cron=_cron(schedule) if isinstance(schedule, CronSchedule) else None,
        interval=_interval(schedule) if isinstance(schedule, IntervalSchedule) else None,
        max_concurrency=item.max_concurrency,
        catch_up=item.catch_up,
        pipeline_id=item.pipeline_id,
        pipeline_version_id=item.pipeline_version_id,
        experiment_id=item.experiment_id,
        parameters=struct(item.parameters),
        description=item.description,
        created_at=timestamp(item.created_at),
        updated_at=timestamp(item.updated_at),
        namespace=item.namespace,
        service_account=item.service_account,
        error=item.error,
        ended=item.ended,
        computed_next_start_at=timestamp(item.computed_next_start_at),
    )
    shortened(message)
    return message


def _cron(item: CronSchedule) -> pb.CronSchedule:
    return pb.CronSchedule(cron=item.cron, start_at=timestamp(item.start_at), end_at=timestamp(item.end_at))


def _interval(item: IntervalSchedule) -> pb.IntervalSchedule:
    interval = Duration()
    interval.FromTimedelta(item.interval)
    return pb.IntervalSchedule(interval=interval, start_at=timestamp(item.start_at), end_at=timestamp(item.end_at))


def recurring_runs_page(page: Page[RecurringRun], next_page_token: str) -> pb.ListRecurringRunsResponse:
    """A page of recurring runs."""
    return pb.ListRecurringRunsResponse(
        recurring_runs=map(recurring_run, page.items), next_page_token=next_page_token, total_size=page.total_size
    )


def delete_response(recurring_run_id: str, *, deleted: bool) -> pb.DeleteRecurringRunResponse:
    """What a deletion removed."""
    return pb.DeleteRecurringRunResponse(recurring_run_id=recurring_run_id if deleted else "")
