"""What a KFP holds before a scenario, and one sensible request of every RPC about it."""

from __future__ import annotations

import base64
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pool, json_format
from google.protobuf.message_factory import GetMessageClass

from kfadapter_grpc.client import Client, IntervalSchedule, RunState
from kfadapter_grpc.methods import METHODS

if TYPE_CHECKING:
    from google.protobuf.message import Message

_PIPELINES = Path(__file__).resolve().parents[1] / "data" / "pipelines"
HELLO = _PIPELINES / "hello_world.yaml"
"""A pipeline of one step."""
CONTAINER = _PIPELINES / "container_step.yaml"
"""A pipeline whose step cannot run on this machine: a run of it fails at once."""
NAME = "stored"
"""The name of the pipeline that is there."""


def one_of_each(target: str) -> dict[str, tuple[Message, ...]]:
    """Makes a pipeline, runs and more; returns the messages of a call of every RPC about them, by its path.

    Every RPC with side effects has something to change: a run to archive and one to unarchive, and so on.
    """
    with Client(target) as client:
        stored = client.pipelines.upload(HELLO, name=NAME)
        pipeline_id, version_id = stored.pipeline.pipeline_id, stored.version.pipeline_version_id
        client.pipelines.upload(_PIPELINES / "sleeps.yaml", name="sleeps")
        client.pipelines.upload(CONTAINER, name="container")
        running = client.runs.create("sleeps", parameters={"seconds": 3600}).run_id
        ran = client.runs.create(NAME).run_id
        failed, retried, archived = (client.runs.create("container").run_id for _ in range(3))
        _await(client, RunState.FAILED, failed, retried, archived)
        _await(client, RunState.SUCCEEDED, ran)
        client.runs.archive(archived)
        free, kept = (client.experiments.create(name).experiment_id for name in ("free", "archived"))
        client.experiments.archive(kept)
        schedule = IntervalSchedule(interval=dt.timedelta(days=30))
        on, off = (
            client.recurring_runs.create(NAME, schedule=schedule, enabled=enabled).recurring_run_id
            for enabled in (True, False)
        )
    pipeline = {"pipeline_id": pipeline_id}
    version = {**pipeline, "pipeline_version_id": version_id}
    file = base64.b64encode(HELLO.read_bytes()).decode()
    sent: dict[str, list[dict[str, Any]]] = {
        "PipelineService/Get": [pipeline],
        "PipelineService/List": [{}],
        "PipelineService/Upload": [{"metadata": {"name": "new", "request_id": "faults-upload"}}, {"chunk": file}],
        "PipelineService/Delete": [{**pipeline, "force": True}],
        "PipelineService/ListVersions": [pipeline],
        "PipelineService/GetVersion": [version],
        "PipelineService/DeleteVersion": [version],
        "PipelineService/Download": [pipeline],
        "RunService/Create": [{**pipeline, "request_id": "faults-run"}],
        "RunService/Get": [{"run_id": failed}],
        "RunService/List": [{}],
        "RunService/Watch": [{"runs": {"run_ids": [running]}}],
        "RunService/ReadLogs": [{"run_id": ran, "task": "greet"}],
        "RunService/Terminate": [{"run_id": running}],
        "RunService/Retry": [{"run_id": retried}],
        "RunService/Archive": [{"run_id": failed}],
        "RunService/Unarchive": [{"run_id": archived}],
        "RunService/Delete": [{"run_id": failed}],
        "ExperimentService/Create": [{"name": "new"}],
        "ExperimentService/Get": [{"experiment_id": free}],
        "ExperimentService/List": [{}],
        "ExperimentService/Archive": [{"experiment_id": free}],
        "ExperimentService/Unarchive": [{"experiment_id": kept}],
        "ExperimentService/Delete": [{"experiment_id": free}],
        "RecurringRunService/Create": [{**pipeline, "interval": {"interval": "3600s"}}],
        "RecurringRunService/Get": [{"recurring_run_id": on}],
        "RecurringRunService/List": [{}],
        "RecurringRunService/Enable": [{"recurring_run_id": off}],
        "RecurringRunService/Disable": [{"recurring_run_id": on}],
        "RecurringRunService/Delete": [{"recurring_run_id": on}],
    }
    return {path: tuple(request(path, **one) for one in sent[path.removeprefix("/kfadapter.v1.")]) for path in METHODS}


def request(path: str, **fields: object) -> Message:
    """A message of an RPC's requests, from its fields as JSON has them."""
    service, _, name = path.removeprefix("/").partition("/")
    method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return json_format.ParseDict(fields, GetMessageClass(method.input_type)())


def ids_and_names(target: str) -> tuple[str, ...]:
    """Makes a pipeline, a run that has failed, and an experiment; returns by which ids and names they are known."""
    with Client(target) as client:
        stored = client.pipelines.upload(HELLO, name=NAME)
        client.pipelines.upload(CONTAINER, name="container")
        run_id = client.runs.create("container").run_id
        _await(client, RunState.FAILED, run_id)
        experiment = client.experiments.create("free")
        ids = (stored.pipeline.pipeline_id, stored.version.pipeline_version_id, run_id, experiment.experiment_id)
    return (NAME, "container", "free", *ids)


def stored_versions(target: str) -> dict[str, list[str]]:
    """The ids of the versions of every pipeline that KFP holds, by its name."""
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
