"""ML Metadata as recorded after real runs (tests/data/mlmd), as rows or served over gRPC, and the runs' Workflows."""

from __future__ import annotations

import json
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import json_format
from tests.transcripts import DATA
from tests.workflows import Task, Workflow

from kfadapter_grpc.kfp.mlmd import metadata_store_pb2 as pb
from kfadapter_grpc.kfp.mlmd import records
from kfadapter_grpc.kfp.mlmd.metadata_store_pb2_grpc import (
    MetadataStoreServiceServicer,
    add_MetadataStoreServiceServicer_to_server,
)
from kfadapter_grpc.kfp.mlmd.records import RecordedRun
from kfadapter_grpc.kfp.workflow_tasks import read_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kfadapter_grpc.kfp.run_nodes import RunNodes

SESSION = (
    '{"Provider":"minio","Params":{"accessKeyKey":"accesskey","disableSSL":"true",'
    '"endpoint":"seaweedfs.kubeflow:9000","fromEnv":"false","maxRetries":"5","region":"minio",'
    '"secretKeyKey":"secretkey","secretName":"mlpipeline-minio-artifact"}}'
)
"""What `{session}` stands for in the recordings."""


def _spec(**inputs: str) -> dict[str, object]:
    """The inputs of a PipelineTaskSpec: `TASK.OUTPUT`, `TASK!ARTIFACT`, `^PARAMETER` or `^!ARTIFACT` of the group."""
    parameters: dict[str, object] = {}
    artifacts: dict[str, object] = {}
    for name, source in inputs.items():
        task, is_artifact, key = source.removeprefix("^").partition("!" if "!" in source else ".")
        kind = "Artifact" if is_artifact == "!" else "Parameter"
        found: dict[str, object] = {f"taskOutput{kind}": {"producerTask": task, f"output{kind}Key": key}}
        if source.startswith("^"):
            found = {f"componentInput{kind}": key or task}
        (artifacts if kind == "Artifact" else parameters)[name.replace("__", "--")] = found
    return {"inputs": {"parameters": parameters, "artifacts": artifacts}}


def _loop(items: str, of: str, **inputs: str) -> dict[str, object]:
    iterator = {"itemInput": f"{items}-loop-item", "items": {"inputParameter": items}}
    return {**_spec(**{items.replace("--", "__"): of}, **inputs), "parameterIterator": iterator}


_SHOW = (
    Task("show", spec=_spec()),
    Task("show-2", spec=_spec()),
    Task("show-3", spec=_spec()),
)
_NUMBERS, _FLIP = "pipelinechannel--numbers", "pipelinechannel__flip-Output"
_ITEM = "pipelinechannel--loop-item-param"
_ARTIFACTS = (
    Task("make-data", spec=_spec(rows="^rows")),
    Task("train", spec=_spec(data="make-data!data", folder="make-data!folder", epochs="^epochs")),
    Task("report", spec=_spec(loss="train.Output")),
)
_PIECES = Task("piece", spec=_spec(x="^pipelinechannel--numbers-loop-item"))
PIPELINES: dict[str, tuple[Task, ...]] = {
    "all_types": (
        Task("give-all"),
        Task("every-type", spec={**_spec(i="^i", s="^s"), "taskInfo": {"name": "Every type shown"}}),
    ),
    "artifacts_all": _ARTIFACTS,
    "artifacts_cached": tuple(Task(one.name, spec=one.spec, cached=True) for one in _ARTIFACTS),
    "branches": (
        Task("flip", spec=_spec(word="^word")),
        Task(
            "condition-branches-1",
            kind="dag",
            spec=_spec(**{_FLIP: "flip.Output"}),
            inside=tuple(
                Task(
                    f"condition-{number}",
                    kind="condition",
                    spec={**_spec(**{_FLIP: "^pipelinechannel--flip-Output"}), "taskInfo": {"name": name}},
                    inside=(show,),
                    phase="Succeeded" if number == 3 else "Skipped",
                )
                for number, name, show in zip((2, 3, 4), ("is-a", "is-b", "other"), _SHOW, strict=True)
            ),
        ),
        Task(
            "show-4",
            spec=_spec(text="condition-branches-1.pipelinechannel--condition-branches-1-oneof-1"),
            cached=True,
        ),
    ),
    "exit_handler": (
        Task(
            "exit-handler-1",
            kind="dag",
            inside=(
                Task(
                    "boom",
                    phase="Failed",
                    message="Error (exit code 1)",
                    spec=_spec(message="^pipelinechannel--message"),
                ),
            ),
            exit_task="cleanup",
            phase="Failed",
        ),
    ),
    "imports": (
        Task("importer", kind="importer"),
        Task("importer-2", kind="importer"),
        Task("size", spec=_spec(m="importer!artifact")),
        Task("size-2", spec=_spec(m="importer-2!artifact")),
    ),
    "list_output": (
        Task(
            "many",
            kind="dag",
            spec=_spec(numbers="^numbers"),
            inside=(Task("for-loop-1", kind="loop", items=2, spec=_loop(_NUMBERS, "^numbers"), inside=(_PIECES,)),),
        ),
        Task("merge", spec=_spec(parts="many!Output")),
    ),
    "loop_collect": (
        Task(
            "for-loop-1",
            kind="loop",
            items=3,
            spec=_loop(_NUMBERS, "^numbers"),
            inside=(
                Task("square", spec=_spec(x="^pipelinechannel--numbers-loop-item")),
                Task("piece", spec=_spec(x="square.Output")),
            ),
        ),
        Task("total", spec=_spec(xs="for-loop-1.pipelinechannel--square-Output")),
        Task("merge", spec=_spec(parts="for-loop-1!pipelinechannel--piece-data")),
    ),
    "naps_killed": (Task("nap", phase="Failed", spec=_spec(seconds="^seconds")),),
    "nested": (
        Task(
            "inner",
            kind="dag",
            spec=_spec(x="^x"),
            inside=(Task("square", spec=_spec(x="^x")), Task("piece", spec=_spec(x="square.Output"))),
        ),
        Task("read", spec=_spec(plus="inner.squared", data="inner!piece")),
    ),
    "nested_loop": (
        Task(
            "for-loop-2",
            kind="loop",
            items=2,
            inside=(
                Task(
                    "for-loop-4",
                    kind="loop",
                    items=2,
                    inside=(Task("plus", spec=_spec(x=f"^{_ITEM}-1", y=f"^{_ITEM}-3")),),
                    spec=_spec(**{_ITEM.replace("--", "__") + "-1": f"^{_ITEM}-1"}),
                ),
            ),
        ),
    ),
    "odd_metadata": (Task("odd-metadata"),),
    "own_provider": tuple(Task(one.name, spec=one.spec, cached=one.name == "report") for one in _ARTIFACTS),
    "query_root2": (Task("say"),),
    "retried": (
        Task("flaky", attempts=3, spec=_spec(where="^where")),
        Task("show", spec=_spec(**{"pipelinechannel__flaky-Output": "flaky.Output"})),
    ),
    "shared_kubernetes_platform": (
        Task("createpvc", kind="volume"),
        Task("greet"),
        Task("deletepvc", kind="volume"),
    ),
    "shared_train_and_report": (
        Task("make-data"),
        Task("train", spec=_spec(data="make-data!data")),
        Task("condition-1", kind="condition", inside=(Task("report"),)),
    ),
}
"""The pipelines, as far as their Workflows show them."""
PIPELINES["kfp25_all_types"] = PIPELINES["all_types"]
PIPELINES["kfp25_branches"] = PIPELINES["branches"][:2]


class Recording:
    """The store's content for one run, and the run's Workflow."""

    def __init__(self, name: str, rows: dict[str, Any] | None = None) -> None:
        """Loads the recording, or takes `rows`."""
        self.name = name
        self.rows = rows or json.loads(
            (DATA / "mlmd" / f"{name}.json").read_text("utf-8").replace("{session}", json.dumps(SESSION)[1:-1])
        )
        self.run_id: str = self.rows["context"]["name"]
        self.context = _message(pb.Context(), self.rows["context"])
        self.executions = [_message(pb.Execution(), one) for one in self.rows["executions"]]
        self.events = [_message(pb.Event(), one) for one in self.rows["events"]]
        self.artifacts = [_message(pb.Artifact(), one) for one in self.rows["artifacts"]]

    def pod_names(self) -> list[str]:
        """Returns the names of the pods that ran, as the launchers recorded them."""
        pods = [one.custom_properties["pod_name"].string_value for one in self.executions]
        return [one for one in pods if one]

    def workflow(self) -> Workflow:
        """Returns the Workflow under the run's recorded name, so that its nodes and pods have the recorded names."""
        pods = self.pod_names()
        name = self.rows.get("workflow") or pods[0].partition("-system-")[0].removesuffix("-retry")
        return Workflow(PIPELINES[self.name], name=name)

    def nodes(self) -> RunNodes:
        """Returns the nodes of the Workflow."""
        return read_nodes(self.workflow().manifest(), is_over=True)

    def recorded(self) -> RecordedRun:
        """Returns the store's content as the reader returns it."""
        properties = self.context.custom_properties
        return RecordedRun(
            properties["namespace"].string_value,
            properties["pipeline_root"].string_value,
            tuple(records.execution(one) for one in self.executions),
            tuple(self.events),
            {one.id: records.artifact(one, one.type) for one in self.artifacts},
        )


def large_run(count: int, *, in_loop: bool) -> Recording:
    """Returns a run of `count` tasks, each with a metric and a log, or a loop with `count` iterations of one task."""
    executions, events, artifacts = [_execution(1, "", 0)], [], []
    if in_loop:
        executions.append(_execution(2, "each", 1, iteration_count=count, total_dag_tasks=1))
    for number in range(count):
        at, parent = 10 + 10 * number, 2 if in_loop else 1
        if in_loop:
            executions.append(_execution(at, "each", parent, iteration_index=number, total_dag_tasks=1))
        task = _execution(at + 1, "train" if in_loop else f"train-{number}", at if in_loop else parent)
        task["custom_properties"]["outputs"] = {"struct_value": {"loss": number / 7}}
        executions.append(task)
        for place, (key, kind) in enumerate((("metrics", "system.Metrics"), ("executor-logs", "system.Artifact"))):
            properties = {"loss": {"double_value": round(number / 7, 6)}, "display_name": {"string_value": key}}
            uri = f"minio://mlpipeline/v2/artifacts/large/{number}/{key}"
            artifacts.append({"id": at + place, "type": kind, "uri": uri, "custom_properties": properties})
            path = {"steps": [{"key": key}]}
            events.append({"artifact_id": at + place, "execution_id": at + 1, "path": path, "type": "OUTPUT"})
    context = {"id": 1, "name": "large", "custom_properties": {"namespace": {"string_value": "kubeflow"}}}
    rows = {"context": context, "executions": executions, "events": events, "artifacts": artifacts}
    return Recording("large", rows)


def _execution(number: int, name: str, parent: int, **counts: int) -> dict[str, Any]:
    if parent:
        counts["parent_dag_id"] = parent
    numbers = {key: {"int_value": value} for key, value in counts.items()}
    return {"id": number, "custom_properties": {"task_name": {"string_value": name}, **numbers}}


class FakeStore(MetadataStoreServiceServicer):
    """Serves recordings as the store does, over gRPC on a free port.

    Attributes:
        calls: The methods that were called.
        old: Whether it is an old version that reports types by id only.
        before: Called with each request's name before it gets a response.
    """

    def __init__(self, *recordings: Recording) -> None:
        self.recordings = list(recordings)
        self.calls: list[str] = []
        self.old = False
        self.before: Callable[[str, grpc.ServicerContext], None] = lambda _name, _context: None
        self._server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        add_MetadataStoreServiceServicer_to_server(self, self._server)

    def start(self, credentials: grpc.ServerCredentials | None = None) -> str:
        """Starts the server; returns its address."""
        add = self._server.add_insecure_port
        port = self._server.add_secure_port("localhost:0", credentials) if credentials else add("127.0.0.1:0")
        self._server.start()
        return f"localhost:{port}" if credentials else f"127.0.0.1:{port}"

    def stop(self) -> None:
        """Stops the server."""
        self._server.stop(0).wait()

    def _called(self, name: str, context: grpc.ServicerContext) -> None:
        self.calls.append(name)
        self.before(name, context)

    def GetContextByTypeAndName(  # noqa: N802 - gRPC's names
        self, request: pb.GetContextByTypeAndNameRequest, context: grpc.ServicerContext
    ) -> pb.GetContextByTypeAndNameResponse:
        """Finds a run; case-insensitive, as MySQL is."""
        self._called("GetContextByTypeAndName", context)
        for one in self.recordings:
            if one.run_id.lower() == request.context_name.lower() and request.type_name == "system.PipelineRun":
                return pb.GetContextByTypeAndNameResponse(context=one.context)
        return pb.GetContextByTypeAndNameResponse()

    def GetExecutionsByContext(  # noqa: N802
        self, request: pb.GetExecutionsByContextRequest, context: grpc.ServicerContext
    ) -> pb.GetExecutionsByContextResponse:
        """Lists executions; silently truncates above 100 per page."""
        self._called("GetExecutionsByContext", context)
        found = [one for recording in self._of(request.context_id) for one in recording.executions]
        size = request.options.max_result_size
        begin = int(request.options.next_page_token or 0)
        page = found[begin : begin + min(size, 101)]
        more = size <= 100 and begin + size < len(found)
        return pb.GetExecutionsByContextResponse(executions=page, next_page_token=str(begin + size) if more else "")

    def GetEventsByExecutionIDs(  # noqa: N802
        self, request: pb.GetEventsByExecutionIDsRequest, context: grpc.ServicerContext
    ) -> pb.GetEventsByExecutionIDsResponse:
        """Lists the events of executions."""
        self._called("GetEventsByExecutionIDs", context)
        ids = set(request.execution_ids)
        events = [one for recording in self.recordings for one in recording.events if one.execution_id in ids]
        return pb.GetEventsByExecutionIDsResponse(events=events)

    def GetArtifactsByID(  # noqa: N802
        self, request: pb.GetArtifactsByIDRequest, context: grpc.ServicerContext
    ) -> pb.GetArtifactsByIDResponse:
        """Lists artifacts; omits unknown ids."""
        self._called("GetArtifactsByID", context)
        ids = set(request.artifact_ids)
        found = [one for recording in self.recordings for one in recording.artifacts if one.id in ids]
        if self.old:
            found = [pb.Artifact.FromString(one.SerializeToString()) for one in found]
            for one in found:
                one.ClearField("type")
        return pb.GetArtifactsByIDResponse(artifacts=found)

    def GetArtifactTypes(  # noqa: N802
        self, request: pb.GetArtifactTypesRequest, context: grpc.ServicerContext
    ) -> pb.GetArtifactTypesResponse:
        """Lists the types of the recorded artifacts."""
        del request
        self._called("GetArtifactTypes", context)
        types = {one.type_id: one.type for recording in self.recordings for one in recording.artifacts}
        return pb.GetArtifactTypesResponse(
            artifact_types=[pb.ArtifactType(id=number, name=name) for number, name in types.items()]
        )

    def _of(self, context_id: int) -> Iterable[Recording]:
        return (one for one in self.recordings if one.context.id == context_id)


def _message(message: Any, row: dict[str, Any]) -> Any:  # noqa: ANN401 - of any type
    return json_format.ParseDict(row, message, ignore_unknown_fields=True)
