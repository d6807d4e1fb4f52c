"""The resources of a KFP before a scenario, and one valid request of every RPC about them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.json_format import ParseDict

from kfadapter.v1.pipeline_pb2 import UploadPipelineMetadata, UploadPipelineRequest
from kfadapter_grpc.client import Client, IntervalSchedule, RunState
from kfadapter_grpc.methods import MESSAGES, METHODS

if TYPE_CHECKING:
    from google.protobuf.message import Message

_PIPELINES = Path(__file__).resolve().parents[1] / "data" / "pipelines"
HELLO = _PIPELINES / "hello_world.yaml"
"""A pipeline of one step."""
CONTAINER = _PIPELINES / "container_step.yaml"
"""A pipeline whose step cannot run on this machine: a run of it fails at once."""
SLEEPS = _PIPELINES / "sleeps.yaml"
"""A pipeline whose step sleeps for a given time."""
NAME = "stored"
"""The name of the pipeline that is there."""


def one_of_each(target: str) -> dict[str, tuple[Message, ...]]:
    """Creates a pipeline, runs and more; returns the messages of a call of every RPC about them, by its path.

    Every RPC with side effects has something to change: a run to archive and one to unarchive, and so on.
    """
    with Client(target) as client:
        stored = client.pipelines.upload(HELLO, name=NAME)
        client.pipelines.upload(SLEEPS, name="sleeps")
        client.pipelines.upload(CONTAINER, name="container")
        train = client.pipelines.upload(_PIPELINES / "train_and_report.yaml", name="train").pipeline.pipeline_id
        running = client.runs.create("sleeps", parameters={"seconds": 3600}).run_id
        ran, trained = (client.runs.create(name).run_id for name in (NAME, "train"))
        failed, retried, archived = (client.runs.create("container").run_id for _ in range(3))
        _await(client, RunState.FAILED, failed, retried, archived)
        _await(client, RunState.SUCCEEDED, ran, trained)
        artifact = next(client.artifacts.list(trained, type="system.Dataset"))
        client.runs.archive(archived)
        free, kept = (client.experiments.create(name).experiment_id for name in ("free", "archived"))
        client.experiments.archive(kept)
        schedule = IntervalSchedule(interval=dt.timedelta(days=30))
        on, off = (
            client.recurring_runs.create(NAME, schedule=schedule, enabled=enabled).recurring_run_id
            for enabled in (True, False)
        )
    pipeline: dict[str, object] = {"pipeline_id": stored.pipeline.pipeline_id}
    version = {"pipeline_version_id": stored.version.pipeline_version_id}
    ids = {**pipeline, **version, "run_id": failed, "experiment_id": free, "recurring_run_id": on}
    made: dict[str, object] = {"run_id": trained, "artifact_id": artifact.artifact_id}
    special: dict[str, dict[str, object]] = {
        "PipelineService/Update": {**pipeline, "display_name": "updated"},
        "PipelineService/UpdateVersion": {**pipeline, **version, "tags": {"updated": "yes"}},
        "PipelineService/Delete": {**pipeline, "force": True},
        "PipelineService/Download": pipeline,
        "RunService/Create": {**pipeline, "request_id": "faults-run"},
        "RunService/Watch": {"runs": {"run_ids": [running]}},
        "RunService/ReadLogs": {"run_id": ran, "task": "greet"},
        "RunService/Terminate": {"run_id": running},
        "RunService/Retry": {"run_id": retried},
        "RunService/Unarchive": {"run_id": archived},
        "ExperimentService/Create": {"name": "new"},
        "ExperimentService/Unarchive": {"experiment_id": kept},
        "RecurringRunService/Create": {**pipeline, "interval": {"interval": "3600s"}},
        "RecurringRunService/List": {},
        "ArtifactService/List": {"run_id": trained},
        "ArtifactService/Get": made,
        "ArtifactService/Read": made,
        "ArtifactService/ListMetrics": {"filter": {"pipeline_id": train}},
        "RecurringRunService/Enable": {"recurring_run_id": off},
    }
    requests: dict[str, tuple[Message, ...]] = {}
    for path, (kind, _) in MESSAGES.items():
        if METHODS[path].role is None:
            continue  # calls no KFP
        fields = {key: one for key, one in ids.items() if key in kind.DESCRIPTOR.fields_by_name}
        requests[path] = (request(path, **special.get(path.removeprefix("/kfadapter.v1."), fields)),)
    return {**requests, "/kfadapter.v1.PipelineService/Upload": upload(HELLO.read_bytes(), "new", "faults-upload")}


def request(path: str, **fields: object) -> Message:
    """A request message of an RPC, from its JSON fields."""
    return ParseDict(fields, MESSAGES[path][0]())


def upload(file: bytes, name: str, request_id: str = "") -> tuple[UploadPipelineRequest, ...]:
    """The messages of an upload, in chunks of 1 MiB."""
    metadata = UploadPipelineMetadata(name=name, request_id=request_id)
    chunks = (UploadPipelineRequest(chunk=file[at : at + 2**20]) for at in range(0, len(file), 2**20))
    return (UploadPipelineRequest(metadata=metadata), *chunks)


def stored_versions(target: str) -> dict[str, list[str]]:
    """The ids of the versions of every pipeline in KFP, by the pipeline's name."""
    with Client(target) as client:
        return {
            pipeline.name: [
                one.pipeline_version_id for one in client.pipelines.list_versions(pipeline_id=pipeline.pipeline_id)
            ]
            for pipeline in client.pipelines.list()
        }


def _await(client: Client, state: RunState, *run_ids: str) -> None:
    for run_id in run_ids:
        ended = client.runs.wait(run_id, timeout=60)
        if ended.state is not state:
            raise RuntimeError(f"a run that had to end as {state.value} ended as {ended.state.value}")
