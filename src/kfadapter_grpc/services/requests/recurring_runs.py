"""Reads requests about recurring runs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.experiments import MAX_COLUMN_BYTES
from kfadapter_grpc.contract.recurring_runs import (
    MAX_CONCURRENCY,
    CreateRecurringRun,
    CronSchedule,
    IntervalSchedule,
    RecurringRunFilter,
)
from kfadapter_grpc.services.requests.checks import Checks
from kfadapter_grpc.services.requests.refs import pipeline_ref, try_experiment_ref, version_ref
from kfadapter_grpc.services.requests.values import json_object

if TYPE_CHECKING:
    from datetime import datetime

    from kfadapter.v1 import recurring_run_pb2 as pb
    from kfadapter_grpc.contract.recurring_runs import Schedule

MAX_CRON = 128
"""Characters in a cron expression."""
MAX_SERVICE_ACCOUNT = 253
"""Characters in the name of a Kubernetes service account."""
_CRONTAB_FIELDS = 5
_FIELDS = 6
_MAX_INTERVAL_SECONDS = 100 * 366 * 24 * 3600


def create(request: pb.CreateRecurringRunRequest, default_namespace: str) -> CreateRecurringRun:
    """Reads how a recurring run is to be made; its parameters are read, not yet checked.

    Raises:
        InvalidFieldError: Fields are wrong; all of them are named.
    """
    checks = Checks()
    namespace = request.namespace or default_namespace
    pipeline, version = pipeline_ref(checks, request, namespace), version_ref(checks, request)
    experiment = try_experiment_ref(checks, request, namespace)
    schedule = _schedule(checks, request)
    parameters = json_object(checks, "parameters", request.parameters)
    _check_texts(checks, request)
    if not 0 <= request.max_concurrency <= MAX_CONCURRENCY:
        checks.add("max_concurrency", f"is {request.max_concurrency}; 1 to {MAX_CONCURRENCY} are allowed, 0 means 1")
    checks.raise_any()
    return CreateRecurringRun(
        pipeline=pipeline,
        version=version,
        schedule=schedule,
        experiment=experiment,
        parameters=parameters,
        display_name=request.display_name,
        description=request.description,
        max_concurrency=request.max_concurrency or 1,
        catch_up=request.catch_up,
        enabled=not request.disabled,
        service_account=request.service_account,
        namespace=namespace,
    )


def _check_texts(checks: Checks, request: pb.CreateRecurringRunRequest) -> None:
    checks.bytes("display_name", request.display_name, MAX_COLUMN_BYTES)
    if request.display_name and not request.display_name.strip():
        checks.add("display_name", "is blank; leave it out, and one is made")
    checks.bytes("description", request.description, MAX_COLUMN_BYTES)
    checks.text("service_account", request.service_account, MAX_SERVICE_ACCOUNT)
    checks.namespace("namespace", request.namespace)


def _schedule(checks: Checks, request: pb.CreateRecurringRunRequest) -> Schedule:
    kind = request.WhichOneof("schedule")
    if kind == "interval":
        start_at, end_at = _bounds(checks, "interval", request.interval)
        return IntervalSchedule(_interval(checks, request.interval), start_at, end_at)
    if kind is None:
        checks.add("schedule", "set cron or interval to say when runs are started")
        return CronSchedule("")
    start_at, end_at = _bounds(checks, "cron", request.cron)
    return CronSchedule(_cron(checks, request.cron.cron), start_at, end_at)


def _cron(checks: Checks, text: str) -> str:
    """Reads a cron expression; what crontab takes gets the seconds that KFP wants before it.

    KFP would take five fields for six without the day of the week: an hour would be a minute.
    """
    checks.text("cron.cron", text, MAX_CRON)
    fields = text.split()
    if text.startswith("@"):
        return text
    if len(fields) not in {_CRONTAB_FIELDS, _FIELDS}:
        checks.add(
            "cron.cron",
            f"has {len(fields)} fields; give six (second, minute, hour, day of the month, month, day of the week: "
            "'0 0 4 * * *' is daily at four), or five without the second",
        )
    return " ".join(["0", *fields] if len(fields) == _CRONTAB_FIELDS else fields)


def _interval(checks: Checks, schedule: pb.IntervalSchedule) -> timedelta:
    interval = schedule.interval
    if interval.nanos or not 1 <= interval.seconds <= _MAX_INTERVAL_SECONDS:
        checks.add("interval.interval", "must be whole seconds, from 1 to a hundred years")
        return timedelta()
    return timedelta(seconds=interval.seconds)


def _bounds(
    checks: Checks, name: str, schedule: pb.CronSchedule | pb.IntervalSchedule
) -> tuple[datetime | None, datetime | None]:
    start_at = checks.time(schedule, f"{name}.start_at", "start_at")
    end_at = checks.time(schedule, f"{name}.end_at", "end_at")
    for field, moment in (("start_at", start_at), ("end_at", end_at)):
        if moment and moment.timestamp() < 1:
            checks.add(f"{name}.{field}", "is not after 1970, which Kubeflow Pipelines takes for no time")
    if start_at and end_at and start_at >= end_at:
        checks.add(f"{name}.end_at", "is not after start_at, so that nothing would ever be started")
    return start_at, end_at


def recurring_run_id(
    request: pb.GetRecurringRunRequest
    | pb.EnableRecurringRunRequest
    | pb.DisableRecurringRunRequest
    | pb.DeleteRecurringRunRequest,
) -> str:
    """Reads the id of a recurring run.

    Raises:
        InvalidFieldError: There is none, or it can be none.
    """
    checks = Checks()
    checks.id("recurring_run_id", request.recurring_run_id)
    checks.raise_any()
    return request.recurring_run_id


def recurring_run_filter(request: pb.ListRecurringRunsRequest, default_namespace: str) -> RecurringRunFilter:
    """Reads which recurring runs are wanted.

    Raises:
        InvalidFieldError: A filter is wrong.
    """
    checks = Checks()
    namespace = request.namespace or default_namespace
    experiment = try_experiment_ref(checks, request, namespace)
    checks.namespace("namespace", request.namespace)
    checks.raise_any()
    return RecurringRunFilter(experiment, namespace)
