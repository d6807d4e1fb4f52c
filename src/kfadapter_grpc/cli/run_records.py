"""Runs, experiments and recurring runs as JSON and YAML show them: the proto's names, every key always there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.cli.records import Record, shown_moment
from kfadapter_grpc.domain.recurring_runs import CronSchedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.domain.experiments import Experiment
    from kfadapter_grpc.domain.recurring_runs import RecurringRun, Schedule
    from kfadapter_grpc.domain.runs import Run, RunOutput, RunStateChange, RunTask
    from kfadapter_grpc.domain.spec import Json

_NOT_LISTED = ("pipeline_name", "pipeline_version_name", "experiment_name", "tasks")
"""What lists of runs leave out to be cheap (`VIEW_BASIC` in the contract)."""


def run_record(run: Run) -> Record:
    """Shows a run."""
    return {
        "run_id": run.run_id,
        "display_name": run.display_name,
        "state": run.state.value,
        "error": run.error,
        "pipeline_id": run.pipeline_id,
        "pipeline_name": run.pipeline_name,
        "pipeline_version_id": run.pipeline_version_id,
        "pipeline_version_name": run.pipeline_version_name,
        "experiment_id": run.experiment_id,
        "experiment_name": run.experiment_name,
        "parameters": dict(run.parameters),
        "description": run.description,
        "labels": dict(run.labels),
        "created_at": shown_moment(run.created_at),
        "finished_at": shown_moment(run.finished_at),
        "scheduled_at": shown_moment(run.scheduled_at),
        "state_history": _history(run.state_history),
        "tasks": [_task(task) for task in run.tasks],
        "service_account": run.service_account,
        "storage_state": run.storage_state.value,
        "recurring_run_id": run.recurring_run_id,
        "etag": run.etag,
        "warnings": list(run.warnings),
    }


def listed_run_record(run: Run) -> Record:
    """Shows a run of a list, of which the adapter tells less: what is not known is null, not empty."""
    return run_record(run) | dict.fromkeys(_NOT_LISTED)


def experiment_record(experiment: Experiment) -> Record:
    """Shows an experiment."""
    return {
        "experiment_id": experiment.experiment_id,
        "name": experiment.name,
        "description": experiment.description,
        "created_at": shown_moment(experiment.created_at),
        "last_run_created_at": shown_moment(experiment.last_run_created_at),
        "storage_state": experiment.storage_state.value,
        "namespace": experiment.namespace,
    }


def recurring_run_record(recurring: RecurringRun) -> Record:
    """Shows a recurring run."""
    return {
        "recurring_run_id": recurring.recurring_run_id,
        "display_name": recurring.display_name,
        "enabled": recurring.enabled,
        "ended": recurring.ended,
        "computed_next_start_at": shown_moment(recurring.computed_next_start_at),
        **_schedule(recurring.schedule),
        "max_concurrency": recurring.max_concurrency,
        "catch_up": recurring.catch_up,
        "pipeline_id": recurring.pipeline_id,
        "pipeline_version_id": recurring.pipeline_version_id,
        "experiment_id": recurring.experiment_id,
        "parameters": dict(recurring.parameters),
        "description": recurring.description,
        "created_at": shown_moment(recurring.created_at),
        "updated_at": shown_moment(recurring.updated_at),
        "namespace": recurring.namespace,
        "service_account": recurring.service_account,
        "error": recurring.error,
    }


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


def _history(changes: Sequence[RunStateChange]) -> list[Json]:
    return [{"state": one.state.value, "at": shown_moment(one.at), "error": one.error} for one in changes]


def _task(task: RunTask) -> Record:
    return {
        "name": task.name,
        "task_id": task.task_id,
        "state": task.state.value,
        "error": task.error,
        "started_at": shown_moment(task.started_at),
        "finished_at": shown_moment(task.finished_at),
        "pod_name": task.pod_name,
        "state_history": _history(task.state_history),
        "outputs": [_output(one) for one in task.outputs],
        "display_name": task.display_name,
        "kind": task.kind.value,
        "parent_task_id": task.parent_task_id,
        "iteration_index": task.iteration_index,
        "attempts": task.attempts,
        "cached": task.cached,
        "warnings": list(task.warnings),
        "log_tail": task.log_tail,
    }


def _output(made: RunOutput) -> Record:
    """Shows an output: a value, or an artifact."""
    artifact = made.artifact
    if artifact is None:
        return {"name": made.name, "value": made.value}
    found: Record = {"type": artifact.type, "uri": artifact.uri, "metadata": dict(artifact.metadata)}
    return {"name": made.name, "artifact": found}
