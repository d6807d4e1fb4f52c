"""Messages of runs to domain models and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter.v1 import run_pb2
from kfadapter_grpc.client.experiment_messages import STORAGE_STATES
from kfadapter_grpc.client.messages import TASK_KINDS, json_object, json_value, moment
from kfadapter_grpc.domain.models import Page, StorageState
from kfadapter_grpc.domain.runs import Run, RunArtifact, RunOutput, RunState, RunStateChange, RunTask
from kfadapter_grpc.domain.spec import TaskKind

if TYPE_CHECKING:
    from collections.abc import Iterable

STATES = {run_pb2.RunState.Value(f"RUN_STATE_{state.value}"): state for state in RunState if state.value}
"""The states by their values on the wire."""
STATE_VALUES = {state: value for value, state in STATES.items()}
"""The states' values on the wire."""


def run(message: run_pb2.Run) -> Run:
    """Reads a run."""
    return Run(
        run_id=message.run_id,
        display_name=message.display_name,
        state=_state(message.state),
        error=message.error,
        pipeline_id=message.pipeline_id,
        pipeline_name=message.pipeline_name,
        pipeline_version_id=message.pipeline_version_id,
        pipeline_version_name=message.pipeline_version_name,
        experiment_id=message.experiment_id,
        experiment_name=message.experiment_name,
        parameters=json_object(message.parameters),
        description=message.description,
        labels=dict(message.labels),
        created_at=moment(message, "created_at"),
        finished_at=moment(message, "finished_at"),
        scheduled_at=moment(message, "scheduled_at"),
        state_history=_history(message.state_history),
        tasks=tuple(_task(item) for item in message.tasks),
        service_account=message.service_account,
        storage_state=STORAGE_STATES.get(message.storage_state, StorageState.UNKNOWN),
        recurring_run_id=message.recurring_run_id,
        etag=message.etag,
        warnings=tuple(message.warnings),
    )


def run_page(message: run_pb2.ListRunsResponse) -> Page[Run]:
    """Reads a page of runs."""
    total = message.total_size if message.HasField("total_size") else None
    return Page(tuple(run(item) for item in message.runs), message.next_page_token, total)


def _state(value: run_pb2.RunState.ValueType) -> RunState:
    return STATES.get(value, RunState.UNKNOWN)


def _history(changes: Iterable[run_pb2.RunStateChange]) -> tuple[RunStateChange, ...]:
    return tuple(RunStateChange(_state(one.state), moment(one, "at"), one.error) for one in changes)


def _task(message: run_pb2.RunTask) -> RunTask:
    return RunTask(
        name=message.name,
        task_id=message.task_id,
        state=_state(message.state),
        error=message.error,
        started_at=moment(message, "started_at"),
        finished_at=moment(message, "finished_at"),
        pod_name=message.pod_name,
        state_history=_history(message.state_history),
        outputs=tuple(_output(item) for item in message.outputs),
        display_name=message.display_name,
        kind=TASK_KINDS.get(message.kind, TaskKind.UNKNOWN),
        parent_task_id=message.parent_task_id,
        iteration_index=message.iteration_index if message.HasField("iteration_index") else None,
        attempts=message.attempts,
        cached=message.cached,
        warnings=tuple(message.warnings),
        log_tail=message.log_tail,
    )


def _output(message: run_pb2.RunOutput) -> RunOutput:
    if message.WhichOneof("output") != "artifact":
        return RunOutput(message.name, json_value(message.value))
    artifact = message.artifact
    return RunOutput(message.name, artifact=RunArtifact(artifact.type, artifact.uri, json_object(artifact.metadata)))
