"""The public contract, called with plain stubs."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from google.protobuf import json_format

from kfadapter.v1 import common_pb2, pipeline_pb2, run_pb2
from kfadapter.v1.experiment_pb2_grpc import ExperimentServiceStub
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter.v1.recurring_run_pb2_grpc import RecurringRunServiceStub
from kfadapter.v1.run_pb2_grpc import RunServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = ROOT / "tests" / "data" / "pipelines"
OVER = frozenset(
    {run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELED, run_pb2.RUN_STATE_SKIPPED}
)
CALL_SECONDS = 30
"""How long one call may take."""
RUN_SECONDS = 90
"""How long a run may take; on a machine with nothing else to do it takes a second or two."""


def is_over(run: run_pb2.Run) -> bool:
    """Whether a run has finished."""
    return run.state in OVER


def is_running(run: run_pb2.Run) -> bool:
    """Whether a task of a run is executing."""
    return any(task.state == run_pb2.RUN_STATE_RUNNING for task in run.tasks)


@dataclass(frozen=True)
class Api:
    """The services at an address."""

    channel: grpc.Channel
    pipelines: PipelineServiceStub
    runs: RunServiceStub
    experiments: ExperimentServiceStub
    recurring_runs: RecurringRunServiceStub

    def upload(self, file: str | bytes, name: str, **fields: object) -> pipeline_pb2.UploadPipelineResponse:
        """Uploads a file of this repository, or bytes, in two chunks; the fields are those of the metadata."""
        data = file if isinstance(file, bytes) else (ROOT / file).read_bytes()
        return self.pipelines.Upload(
            iter([metadata(name, **fields), chunk(data[:1000]), chunk(data[1000:])]), timeout=CALL_SECONDS
        )

    def start(self, pipeline_name: str, parameters: dict[str, object] | None = None, **fields: object) -> run_pb2.Run:
        """Starts a run; the fields are those of the request, in their JSON form."""
        asked = {"pipeline_name": pipeline_name, "parameters": parameters or {}, **fields}
        return self.runs.Create(json_format.ParseDict(asked, run_pb2.CreateRunRequest()), timeout=CALL_SECONDS)

    def get(self, run_id: str) -> run_pb2.Run:
        """Gets a run with all details."""
        request = run_pb2.GetRunRequest(run_id=run_id, view=common_pb2.VIEW_FULL)
        return self.runs.Get(request, timeout=CALL_SECONDS, wait_for_ready=True)

    def listed(self, **where: object) -> set[str]:
        """The ids of the runs that match a filter, given in its JSON form."""
        request = json_format.ParseDict({"filter": where}, run_pb2.ListRunsRequest())
        ids: set[str] = set()
        while True:
            page = self.runs.List(request, timeout=CALL_SECONDS)
            ids |= {run.run_id for run in page.runs}
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return ids

    def follow(self, run_id: str, until: Callable[[run_pb2.Run], bool] = is_over) -> run_pb2.Run:
        """Gets a run repeatedly until it is as expected."""
        end, pause = time.monotonic() + RUN_SECONDS, threading.Event()
        while not until(run := self.get(run_id)):
            assert time.monotonic() < end, run
            assert until is is_over or not is_over(run), run
            pause.wait(0.1)
        return run


def api_at(channel: grpc.Channel) -> Api:
    """The services on a channel."""
    return Api(
        channel,
        PipelineServiceStub(channel),
        RunServiceStub(channel),
        ExperimentServiceStub(channel),
        RecurringRunServiceStub(channel),
    )


@contextmanager
def calling(target: str) -> Iterator[Api]:
    """Connects to an address."""
    with grpc.insecure_channel(target) as channel:
        yield api_at(channel)


def metadata(name: str, **fields: object) -> pipeline_pb2.UploadPipelineRequest:
    """The first message of an upload."""
    return pipeline_pb2.UploadPipelineRequest(
        metadata=pipeline_pb2.UploadPipelineMetadata(name=name, **fields)  # type: ignore[arg-type]
    )


def chunk(data: bytes) -> pipeline_pb2.UploadPipelineRequest:
    """A further message of an upload."""
    return pipeline_pb2.UploadPipelineRequest(chunk=data)


def outputs(run: run_pb2.Run, task: str) -> dict[str, object]:
    """The output values of a task, by name."""
    (found,) = [one for one in run.tasks if one.name == task]
    return values(found)


def values(task: run_pb2.RunTask) -> dict[str, object]:
    """The output parameters of a task, by name."""
    return {
        one.name: json_format.MessageToDict(one.value) for one in task.outputs if one.WhichOneof("output") == "value"
    }


def metrics(run: run_pb2.Run, task: str) -> dict[str, object]:
    """The metrics that a task has logged."""
    (found,) = [one for one in run.tasks if one.name == task]
    artifacts = [one.artifact for one in found.outputs if one.artifact.type == "system.Metrics"]
    return {name: value for one in artifacts for name, value in json_format.MessageToDict(one.metadata).items()}
