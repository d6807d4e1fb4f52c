"""Makes messages of runs and their tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kfadapter.v1 import run_pb2 as pb
from kfadapter_grpc.domain.run_events import RunChanged, RunGone
from kfadapter_grpc.domain.runs import RunState
from kfadapter_grpc.domain.values import Replacements
from kfadapter_grpc.services.messages.experiments import STORAGE_STATES
from kfadapter_grpc.services.messages.pipelines import TASK_KINDS
from kfadapter_grpc.services.messages.sizes import shortened
from kfadapter_grpc.services.messages.values import struct, timestamp, value

if TYPE_CHECKING:
    from kfadapter_grpc.domain.models import Page
    from kfadapter_grpc.domain.run_events import RunEvent
    from kfadapter_grpc.domain.runs import LogPiece, Run, RunArtifact, RunOutput, RunStateChange, RunTask

_STATES = {state: pb.RunState.Value(f"RUN_STATE_{state.value or 'UNSPECIFIED'}") for state in RunState}


def run(item: Run) -> pb.Run:
    """A run; what the message cannot carry is replaced, which its warnings say."""
    replaced = Replacements()
    message = pb.Run(
        run_id=item.run_id,
        display_name=item.display_name,
        state=_STATES[item.state],
        error=item.error,
        pipeline_id=item.pipeline_id,
        pipeline_name=item.pipeline_name,
        pipeline_version_id=item.pipeline_version_id,
        pipeline_version_name=item.pipeline_version_name,
        experiment_id=item.experiment_id,
        experiment_name=item.experiment_name,
        parameters=struct(item.parameters, "parameters", replaced) if item.parameters else None,
        description=item.description,
        labels=item.labels,
        created_at=timestamp(item.created_at),
        finished_at=timestamp(item.finished_at),
        scheduled_at=timestamp(item.scheduled_at),
        state_history=map(_change, item.state_history),
        tasks=[_task(task, replaced) for task in item.tasks],
        service_account=item.service_account,
        storage_state=STORAGE_STATES[item.storage_state],
        recurring_run_id=item.recurring_run_id,
        etag=item.etag,
        warnings=item.warnings,
    )
    message.warnings.extend(replaced.texts())
    message.warnings.extend(shortened(message))
    return message


def runs_page(page: Page[Run], next_page_token: str) -> pb.ListRunsResponse:
    """A page of runs."""
    return pb.ListRunsResponse(runs=map(run, page.items), next_page_token=next_page_token, total_size=page.total_size)


def delete_response(run_id: str, *, deleted: bool) -> pb.DeleteRunResponse:
    """What a deletion removed."""
    return pb.DeleteRunResponse(run_id=run_id if deleted else "")


def log_piece(piece: LogPiece) -> pb.ReadLogsResponse:
    """The next piece of a log."""
    return pb.ReadLogsResponse(chunk=piece) if isinstance(piece, bytes) else pb.ReadLogsResponse(note=piece.text)


def run_event(event: RunEvent, *, tasks: bool) -> pb.RunEvent:
    """What a watch tells; the tasks of a run only where they are asked for."""
    at = timestamp(event.observed_at)
    match event:
        case RunChanged():
            item = event.run if tasks else replace(event.run, tasks=())
            return pb.RunEvent(changed=pb.RunChanged(run=run(item)), observed_at=at)
        case RunGone():
            return pb.RunEvent(gone=pb.RunGone(run_id=event.run_id), observed_at=at)
    return pb.RunEvent(heartbeat=pb.Heartbeat(kfp_reachable=event.kfp_reachable), observed_at=at)


def _change(item: RunStateChange) -> pb.RunStateChange:
    return pb.RunStateChange(state=_STATES[item.state], at=timestamp(item.at), error=item.error)


def _task(item: RunTask, replaced: Replacements) -> pb.RunTask:
    return pb.RunTask(
        name=item.name,
        task_id=item.task_id,
        state=_STATES[item.state],
        error=item.error,
        started_at=timestamp(item.started_at),
        finished_at=timestamp(item.finished_at),
        pod_name=item.pod_name,
        state_history=map(_change, item.state_history),
        outputs=[_output(one, f"tasks.{item.name}.outputs.{one.name}", replaced) for one in item.outputs],
        display_name=item.display_name,
        kind=TASK_KINDS[item.kind],
        parent_task_id=item.parent_task_id,
        iteration_index=item.iteration_index,
        attempts=item.attempts,
        cached=item.cached,
        warnings=item.warnings,
        log_tail=item.log_tail,
    )


def _output(item: RunOutput, path: str, replaced: Replacements) -> pb.RunOutput:
    if item.artifact is not None:
        return pb.RunOutput(name=item.name, artifact=_artifact(item.artifact, path, replaced))
    return pb.RunOutput(name=item.name, value=value(item.value, path, replaced))


def _artifact(item: RunArtifact, path: str, replaced: Replacements) -> pb.RunArtifact:
    metadata = struct(item.metadata, f"{path}.metadata", replaced) if item.metadata else None
    return pb.RunArtifact(type=item.type, uri=item.uri, metadata=metadata)
