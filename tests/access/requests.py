"""For every RPC: a request about what is in a namespace, the role that it needs, and what is beyond the caller's."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.duration_pb2 import Duration
from tests.access.team_kfp import ARTIFACT, TASK, key, name
from tests.transcripts import PIPELINES

from kfadapter.v1 import artifact_pb2, experiment_pb2, identity_pb2, pipeline_pb2, recurring_run_pb2, run_pb2
from kfadapter_grpc.contract.call import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message


class Beyond(enum.Enum):
    """What a request gets about a namespace in which the caller has no role."""

    NOT_FOUND = "the same as about an id that does not exist"
    EMPTY = "a list without items"
    DENIED = "PERMISSION_DENIED: it names the namespace, and creates something in it"
    GONE = "a watch reports that there is no such run"
    OPEN = "the same as about any other"


Make: TypeAlias = "Callable[[str], Message]"


@dataclass(frozen=True)
class Case:
    """What is expected of an RPC.

    Attributes:
        needs: The role that it needs; None: every caller may call it.
        beyond: What it gets about other namespaces.
        make: Makes a request about a namespace, by id.
        by_name: The same, by name, where resources have one.
    """

    needs: Role | None
    beyond: Beyond
    make: Make
    by_name: Make | None = None

    def messages(self, namespace: str, *, by_name: bool = False) -> Iterator[Message]:
        """The messages to send."""
        made = (self.by_name if by_name and self.by_name else self.make)(namespace)
        yield made
        if isinstance(made, pipeline_pb2.UploadPipelineRequest):
            yield pipeline_pb2.UploadPipelineRequest(chunk=(PIPELINES / "hello_world.yaml").read_bytes())


def _pipeline(kind: type[Message], **more: object) -> tuple[Make, Make]:
    """Requests about a pipeline, by id and by name."""

    def by_id(namespace: str) -> Message:
        return kind(pipeline_id=key("pipelines", namespace), namespace=namespace, **more)

    def by_name(namespace: str) -> Message:
        return kind(name=name(namespace), namespace=namespace, **more)

    return by_id, by_name


def _run(kind: type[Message], **more: object) -> Make:
    return lambda namespace: kind(run_id=key("runs", namespace), **more)


def _experiment(kind: type[Message]) -> Make:
    return lambda namespace: kind(experiment_id=key("experiments", namespace))


def _recurring(kind: type[Message]) -> Make:
    return lambda namespace: kind(recurring_run_id=key("recurringruns", namespace))


def _upload(namespace: str) -> Message:
    metadata = pipeline_pb2.UploadPipelineMetadata(name="neu", namespace=namespace)
    return pipeline_pb2.UploadPipelineRequest(metadata=metadata)


def _started(namespace: str) -> Message:
    return run_pb2.CreateRunRequest(
        pipeline_id=key("pipelines", namespace),
        experiment_id=key("experiments", namespace),
        display_name="neu",
        namespace=namespace,
    )


def _started_by_name(namespace: str) -> Message:
    return run_pb2.CreateRunRequest(
        pipeline_name=name(namespace), experiment_name=name(namespace), display_name="neu", namespace=namespace
    )


def _scheduled(namespace: str) -> Message:
    every = Duration()
    every.FromTimedelta(timedelta(hours=1))
    return recurring_run_pb2.CreateRecurringRunRequest(
        pipeline_id=key("pipelines", namespace),
        experiment_id=key("experiments", namespace),
        interval=recurring_run_pb2.IntervalSchedule(interval=every),
        display_name="neu",
        namespace=namespace,
    )


READ, WRITE, ADMIN = Role.READER, Role.WRITER, Role.ADMIN
_P = "/kfadapter.v1.PipelineService/"
_R = "/kfadapter.v1.RunService/"
_A = "/kfadapter.v1.ArtifactService/"
_E = "/kfadapter.v1.ExperimentService/"
_S = "/kfadapter.v1.RecurringRunService/"
_pb = pipeline_pb2

CASES: dict[str, Case] = {
    _P + "Get": Case(READ, Beyond.NOT_FOUND, *_pipeline(_pb.GetPipelineRequest)),
    _P + "List": Case(READ, Beyond.EMPTY, lambda one: _pb.ListPipelinesRequest(namespace=one)),
    _P + "Upload": Case(WRITE, Beyond.DENIED, _upload),
    _P + "Update": Case(WRITE, Beyond.NOT_FOUND, *_pipeline(_pb.UpdatePipelineRequest, display_name="neu")),
    _P + "Delete": Case(ADMIN, Beyond.NOT_FOUND, *_pipeline(_pb.DeletePipelineRequest, force=True)),
    _P + "ListVersions": Case(READ, Beyond.NOT_FOUND, *_pipeline(_pb.ListPipelineVersionsRequest)),
    _P + "GetVersion": Case(READ, Beyond.NOT_FOUND, *_pipeline(_pb.GetPipelineVersionRequest)),
    _P + "UpdateVersion": Case(
        WRITE, Beyond.NOT_FOUND, *_pipeline(_pb.UpdatePipelineVersionRequest, version_name="1", display_name="neu")
    ),
    _P + "DeleteVersion": Case(ADMIN, Beyond.NOT_FOUND, *_pipeline(_pb.DeletePipelineVersionRequest, version_name="1")),
    _P + "Download": Case(READ, Beyond.NOT_FOUND, *_pipeline(_pb.DownloadPipelineRequest)),
    _R + "Create": Case(WRITE, Beyond.NOT_FOUND, _started, _started_by_name),
    _R + "Get": Case(READ, Beyond.NOT_FOUND, _run(run_pb2.GetRunRequest, view="VIEW_FULL")),
    _R + "List": Case(READ, Beyond.EMPTY, lambda one: run_pb2.ListRunsRequest(filter=run_pb2.RunFilter(namespace=one))),
    _R + "Watch": Case(
        READ, Beyond.GONE, lambda one: run_pb2.WatchRunsRequest(runs=run_pb2.RunIds(run_ids=[key("runs", one)]))
    ),
    _R + "ReadLogs": Case(READ, Beyond.NOT_FOUND, _run(run_pb2.ReadLogsRequest, task=TASK)),
    _R + "Terminate": Case(WRITE, Beyond.NOT_FOUND, _run(run_pb2.TerminateRunRequest)),
    _R + "Retry": Case(WRITE, Beyond.NOT_FOUND, _run(run_pb2.RetryRunRequest)),
    _R + "Archive": Case(WRITE, Beyond.NOT_FOUND, _run(run_pb2.ArchiveRunRequest)),
    _R + "Unarchive": Case(WRITE, Beyond.NOT_FOUND, _run(run_pb2.UnarchiveRunRequest)),
    _R + "Delete": Case(ADMIN, Beyond.NOT_FOUND, _run(run_pb2.DeleteRunRequest)),
    _A + "List": Case(READ, Beyond.NOT_FOUND, _run(artifact_pb2.ListArtifactsRequest)),
    _A + "Get": Case(READ, Beyond.NOT_FOUND, _run(artifact_pb2.GetArtifactRequest, artifact_id=ARTIFACT)),
    _A + "Read": Case(READ, Beyond.NOT_FOUND, _run(artifact_pb2.ReadArtifactRequest, artifact_id=ARTIFACT)),
    _A + "ListMetrics": Case(
        READ, Beyond.EMPTY, lambda one: artifact_pb2.ListMetricsRequest(filter=run_pb2.RunFilter(namespace=one))
    ),
    _E + "Create": Case(
        WRITE, Beyond.DENIED, lambda one: experiment_pb2.CreateExperimentRequest(name="neu", namespace=one)
    ),
    _E + "Get": Case(
        READ,
        Beyond.NOT_FOUND,
        _experiment(experiment_pb2.GetExperimentRequest),
        lambda one: experiment_pb2.GetExperimentRequest(name=name(one), namespace=one),
    ),
    _E + "List": Case(READ, Beyond.EMPTY, lambda one: experiment_pb2.ListExperimentsRequest(namespace=one)),
    _E + "Archive": Case(WRITE, Beyond.NOT_FOUND, _experiment(experiment_pb2.ArchiveExperimentRequest)),
    _E + "Unarchive": Case(WRITE, Beyond.NOT_FOUND, _experiment(experiment_pb2.UnarchiveExperimentRequest)),
    _E + "Delete": Case(ADMIN, Beyond.NOT_FOUND, _experiment(experiment_pb2.DeleteExperimentRequest)),
    _S + "Create": Case(WRITE, Beyond.NOT_FOUND, _scheduled),
    _S + "Get": Case(READ, Beyond.NOT_FOUND, _recurring(recurring_run_pb2.GetRecurringRunRequest)),
    _S + "List": Case(READ, Beyond.EMPTY, lambda one: recurring_run_pb2.ListRecurringRunsRequest(namespace=one)),
    _S + "Enable": Case(WRITE, Beyond.NOT_FOUND, _recurring(recurring_run_pb2.EnableRecurringRunRequest)),
    _S + "Disable": Case(WRITE, Beyond.NOT_FOUND, _recurring(recurring_run_pb2.DisableRecurringRunRequest)),
    _S + "Delete": Case(ADMIN, Beyond.NOT_FOUND, _recurring(recurring_run_pb2.DeleteRecurringRunRequest)),
    "/kfadapter.v1.IdentityService/WhoAmI": Case(None, Beyond.OPEN, lambda _: identity_pb2.WhoAmIRequest()),
}
"""Every RPC, by hand."""
