"""Messages of watches to domain models and back."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from kfadapter.v1 import common_pb2, run_pb2
from kfadapter_grpc.client.calls import set_at_most_one
from kfadapter_grpc.client.messages import timestamp
from kfadapter_grpc.codec import to_record
from kfadapter_grpc.contract.runs import Heartbeat, Run, RunChanged, RunGone

if TYPE_CHECKING:
    from kfadapter_grpc.contract.runs import RunEvent, RunFilter


def try_event(message: run_pb2.RunEvent) -> RunEvent | None:
    """Reads an event; None for one of a kind that this version does not know."""
    at = message.observed_at.ToDatetime(timezone.utc) if message.HasField("observed_at") else datetime.now(timezone.utc)
    kind = message.WhichOneof("event")
    if kind == "changed":
        return RunChanged(to_record(message.changed.run, Run), at)
    if kind == "gone":
        return RunGone(message.gone.run_id, at)
    return Heartbeat(message.heartbeat.kfp_reachable, at) if kind == "heartbeat" else None


def run_filter(where: RunFilter, namespace: str) -> run_pb2.RunFilter:
    """Puts a filter on the wire; `namespace` stands in where it names none.

    Raises:
        InvalidFieldError: A time lies outside of the years 1 to 9999, or the experiment is named twice.
    """
    stored = common_pb2.STORAGE_STATE_ARCHIVED if where.archived else common_pb2.STORAGE_STATE_AVAILABLE
    message = run_pb2.RunFilter(
        states=[run_pb2.RunState.Value(f"RUN_STATE_{one.name}") for one in sorted(where.states, key=str)],
        created_after=timestamp(where.created_after, "created_after"),
        finished_after=timestamp(where.finished_after, "finished_after"),
        display_name_contains=where.display_name_contains,
        labels=where.labels,
        label_keys=sorted(where.label_keys),
        pipeline_id=where.pipeline_id,
        pipeline_version_id=where.pipeline_version_id,
        recurring_run_id=where.recurring_run_id,
        storage_state=stored,
        namespace=where.namespace or namespace,
    )
    if where.experiment is not None:
        named = {"experiment_id": where.experiment.experiment_id, "experiment_name": where.experiment.name}
        set_at_most_one(message, "experiment", **named)
    return message
