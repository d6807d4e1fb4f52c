"""What a KFP holds before a proof, and one sensible request of every RPC about it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from kfadapter.v1 import experiment_pb2, pipeline_pb2, recurring_run_pb2, run_pb2
from kfadapter_grpc.client import Client, IntervalSchedule, RunState

if TYPE_CHECKING:
    from google.protobuf.message import Message

PIPELINES = Path(__file__).resolve().parent.parent / "tests" / "data" / "pipelines"
"""Where the pipelines are that the tests use, too."""
HELLO = PIPELINES / "hello_world.yaml"
"""A pipeline of one step."""
_RUN_SECONDS = 60.0
NAME = "stored"
"""The name of the pipeline that is there."""
_SLEEPS = PIPELINES / "sleeps.yaml"
CONTAINER = PIPELINES / "container_step.yaml"
"""A pipeline whose step cannot run on this machine: a run of it fails at once."""


def one_of_each(target: str) -> dict[str, tuple[Message, ...]]:
    """Makes a pipeline, runs, an experiment and recurring runs; tells the messages of a call of every RPC about them.

    Every RPC with side effects has something to change: a run to archive and one to take back, and so on.

    Args:
        target: The address of an adapter before a KFP that is well.

    Returns:
        By the RPC's path; several messages only where the caller sends a stream.
    """
    with Client(target) as client:
        stored = client.pipelines.upload(HELLO, name=NAME)
        pipeline_id, version_id = stored.pipeline.pipeline_id, stored.version.pipeline_version_id
        client.pipelines.upload(_SLEEPS, name="sleeps")
        client.pipelines.upload(CONTAINER, name="container")
        running = client.runs.create("sleeps", parameters={"seconds": 3600}).run_id
        ran = client.runs.create(NAME).run_id
        failed, retried, archived = (client.runs.create("container").run_id for _ in range(3))
        _await(client, RunState.FAILED, failed, retried, archived)
        _await(client, RunState.SUCCEEDED, ran)
        client.runs.archive(archived)
        free = client.experiments.create("free").experiment_id
        put_away = client.experiments.create("put-away").experiment_id
        client.experiments.archive(put_away)
        schedule = IntervalSchedule(interval=dt.timedelta(days=30))
        on, off = (
            client.recurring_runs.create(NAME, schedule=schedule, enabled=enabled).recurring_run_id
            for enabled in (True, False)
        )
    metadata = pipeline_pb2.UploadPipelineMetadata(name="new", request_id="faults-upload")
    return {
        "/kfadapter.v1.PipelineService/Get": (pipeline_pb2.GetPipelineRequest(pipeline_id=pipeline_id),),
        "/kfadapter.v1.PipelineService/List": (pipeline_pb2.ListPipelinesRequest(),),
        "/kfadapter.v1.PipelineService/Upload": (
            pipeline_pb2.UploadPipelineRequest(metadata=metadata),
            pipeline_pb2.UploadPipelineRequest(chunk=HELLO.read_bytes()),
        ),
        "/kfadapter.v1.PipelineService/Delete": (
            pipeline_pb2.DeletePipelineRequest(pipeline_id=pipeline_id, force=True),
        ),
        "/kfadapter.v1.PipelineService/ListVersions": (
            pipeline_pb2.ListPipelineVersionsRequest(pipeline_id=pipeline_id),
        ),
        "/kfadapter.v1.PipelineService/GetVersion": (
            pipeline_pb2.GetPipelineVersionRequest(pipeline_id=pipeline_id, pipeline_version_id=version_id),
        ),
        "/kfadapter.v1.PipelineService/DeleteVersion": (
            pipeline_pb2.DeletePipelineVersionRequest(pipeline_id=pipeline_id, pipeline_version_id=version_id),
        ),
        "/kfadapter.v1.PipelineService/Download": (pipeline_pb2.DownloadPipelineRequest(pipeline_id=pipeline_id),),
        "/kfadapter.v1.RunService/Create": (
            run_pb2.CreateRunRequest(pipeline_id=pipeline_id, request_id="faults-run"),
        ),
        "/kfadapter.v1.RunService/Get": (run_pb2.GetRunRequest(run_id=failed),),
        "/kfadapter.v1.RunService/List": (run_pb2.ListRunsRequest(),),
        "/kfadapter.v1.RunService/Watch": (run_pb2.WatchRunsRequest(runs=run_pb2.RunIds(run_ids=[running])),),
        "/kfadapter.v1.RunService/ReadLogs": (run_pb2.ReadLogsRequest(run_id=ran, task="greet"),),
        "/kfadapter.v1.RunService/Terminate": (run_pb2.TerminateRunRequest(run_id=running),),
        "/kfadapter.v1.RunService/Retry": (run_pb2.RetryRunRequest(run_id=retried),),
        "/kfadapter.v1.RunService/Archive": (run_pb2.ArchiveRunRequest(run_id=failed),),
        "/kfadapter.v1.RunService/Unarchive": (run_pb2.UnarchiveRunRequest(run_id=archived),),
        "/kfadapter.v1.RunService/Delete": (run_pb2.DeleteRunRequest(run_id=failed),),
        "/kfadapter.v1.ExperimentService/Create": (experiment_pb2.CreateExperimentRequest(name="new"),),
        "/kfadapter.v1.ExperimentService/Get": (experiment_pb2.GetExperimentRequest(experiment_id=free),),
        "/kfadapter.v1.ExperimentService/List": (experiment_pb2.ListExperimentsRequest(),),
        "/kfadapter.v1.ExperimentService/Archive": (experiment_pb2.ArchiveExperimentRequest(experiment_id=free),),
        "/kfadapter.v1.ExperimentService/Unarchive": (
            experiment_pb2.UnarchiveExperimentRequest(experiment_id=put_away),
        ),
        "/kfadapter.v1.ExperimentService/Delete": (experiment_pb2.DeleteExperimentRequest(experiment_id=free),),
        "/kfadapter.v1.RecurringRunService/Create": (
            recurring_run_pb2.CreateRecurringRunRequest(
                pipeline_id=pipeline_id,
                interval=recurring_run_pb2.IntervalSchedule(interval=Duration(seconds=3600)),
            ),
        ),
        "/kfadapter.v1.RecurringRunService/Get": (recurring_run_pb2.GetRecurringRunRequest(recurring_run_id=on),),
        "/kfadapter.v1.RecurringRunService/List": (recurring_run_pb2.ListRecurringRunsRequest(),),
        "/kfadapter.v1.RecurringRunService/Enable": (
            recurring_run_pb2.EnableRecurringRunRequest(recurring_run_id=off),
        ),
        "/kfadapter.v1.RecurringRunService/Disable": (
            recurring_run_pb2.DisableRecurringRunRequest(recurring_run_id=on),
        ),
        "/kfadapter.v1.RecurringRunService/Delete": (recurring_run_pb2.DeleteRecurringRunRequest(recurring_run_id=on),),
    }


def ids_and_names(target: str) -> tuple[str, ...]:
    """Makes a pipeline, a run that has failed, and an experiment; tells by which ids and names they are known."""
    with Client(target) as client:
        stored = client.pipelines.upload(HELLO, name=NAME)
        client.pipelines.upload(CONTAINER, name="container")
        run_id = client.runs.create("container").run_id
        _await(client, RunState.FAILED, run_id)
        experiment = client.experiments.create("free")
        pipeline_id, version_id = stored.pipeline.pipeline_id, stored.version.pipeline_version_id
    return (NAME, "container", "free", pipeline_id, version_id, run_id, experiment.experiment_id)


def _await(client: Client, state: RunState, *run_ids: str) -> None:
    for run_id in run_ids:
        ended = client.runs.wait(run_id, timeout=_RUN_SECONDS)
        if ended.state is not state:
            raise RuntimeError(f"a run that had to end as {state.value} ended as {ended.state.value}")
