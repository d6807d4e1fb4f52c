"""Inputs and outputs of tasks, from what ML Metadata held after real runs (tests/data/mlmd).

The tables were written by hand from the recordings. A line is a task's path, its inputs and, after `->`, its
outputs; an artifact is its type and id, and the path of the task that produced it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.mlmd import PIPELINES, SESSION, Recording
from tests.workflows import Task, Workflow

from kfadapter_grpc.contract.run_outputs import RocPoint, RunArtifact
from kfadapter_grpc.contract.run_paths import paths_of
from kfadapter_grpc.kfp.artifact_stores import endpoint_of
from kfadapter_grpc.kfp.mlmd import metadata_store_pb2 as pb
from kfadapter_grpc.kfp.mlmd.outputs import AMBIGUOUS, Join, with_outputs
from kfadapter_grpc.kfp.mlmd.records import Execution, RecordedRun
from kfadapter_grpc.kfp.run_nodes import metrics_of
from kfadapter_grpc.kfp.workflow_tasks import read_nodes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.contract.run_outputs import RunInput, RunOutput
    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.kfp.run_nodes import RunNodes

ALL_ARTIFACTS = """
make-data rows=6 -> data=[Dataset 16 make-data] folder=[Artifact 18 make-data] unwritten=[Artifact 19 make-data]
report loss=0.5 (train.Output) -> Output="loss=0.5000"
train data=[Dataset 16 make-data] (make-data.data) epochs=3 folder=[Artifact 18 make-data] (make-data.folder) -> \
Output=0.5 cls=[ClassificationMetrics 22 train] metrics=[Metrics 24 train] model=[Model 25 train] \
note=[Markdown 26 train] page=[HTML 20 train] sliced=[SlicedClassificationMetrics 21 train]
"""
BRANCHES = """
condition-branches-1 flip-Output="b" (flip.Output) -> condition-branches-1-oneof-1="B"
condition-branches-1/is-a flip-Output="b" (flip.Output)
condition-branches-1/is-b flip-Output="b" (flip.Output) -> show-2-Output="B"
condition-branches-1/is-b/show-2 text="B" -> Output="B"
condition-branches-1/other flip-Output="b" (flip.Output)
flip word="b" -> Output="b"
"""
TYPES = """
Every type shown b=true d={"a": 1} f=0.5 i=7 s="hi" xs=[1, 2, 3] -> Output="hi70.5True[1, 2, 3]{'a': 1}unsetNone"
give-all -> b=true big=9007199254740992 d={"a": 1, "n": {"x": [true, null]}} empty="" f=0.5 i=7 \
ko="한국어 'quote' {{x}}" s="text" whole=3 xs=[1, "a", null, {"k": 2.5}]
"""
SAID = {
    "all_types": TYPES,
    "kfp25_all_types": TYPES,
    "artifacts_all": ALL_ARTIFACTS,
    "artifacts_cached": ALL_ARTIFACTS,
    "branches": BRANCHES + 'show-4 text="B" (condition-branches-1.condition-branches-1-oneof-1) -> Output="B"',
    "kfp25_branches": BRANCHES,
    "exit_handler": """
cleanup status={"error": {}, "pipelineJobResourceName": "exit-handler-e760f", "pipelineTaskName": "exit-handler-1", \
"state": "FAILED"} -> Output="FAILED"
exit-handler-1 message="broken on purpose"
exit-handler-1/boom message="broken on purpose"
""",
    "imports": """
importer -> artifact=[Model 47 importer]
importer-2 -> artifact=[Model 48 importer-2]
size m=[Model 47 importer] (importer.artifact) -> Output=16
size-2 m=[Model 48 importer-2] (importer-2.artifact) -> Output=16
""",
    "list_output": """
many numbers=[7, 8] -> Output=[Dataset 273 many/for-loop-1[0]/piece, Dataset 271 many/for-loop-1[1]/piece]
many/for-loop-1 numbers=[7, 8] -> \
piece-data=[Dataset 273 many/for-loop-1[0]/piece, Dataset 271 many/for-loop-1[1]/piece]
many/for-loop-1[0]/piece x=7 -> data=[Dataset 273 many/for-loop-1[0]/piece]
many/for-loop-1[1]/piece x=8 -> data=[Dataset 271 many/for-loop-1[1]/piece]
merge parts=[Dataset 273 many/for-loop-1[0]/piece, Dataset 271 many/for-loop-1[1]/piece] (many.Output) -> \
Output=2 joined=[Dataset 276 merge]
""",
    "loop_collect": """
for-loop-1 numbers=[4, 5, 6] -> \
piece-data=[Dataset 6 for-loop-1[0]/piece, Dataset 9 for-loop-1[1]/piece, Dataset 12 for-loop-1[2]/piece] \
square-Output=[16, 25, 36]
for-loop-1[0]/piece x=16 (square.Output) -> data=[Dataset 6 for-loop-1[0]/piece]
for-loop-1[0]/square x=4 -> Output=16
for-loop-1[1]/piece x=25 (square.Output) -> data=[Dataset 9 for-loop-1[1]/piece]
for-loop-1[1]/square x=5 -> Output=25
for-loop-1[2]/piece x=36 (square.Output) -> data=[Dataset 12 for-loop-1[2]/piece]
for-loop-1[2]/square x=6 -> Output=36
merge parts=[Dataset 6 for-loop-1[0]/piece, Dataset 9 for-loop-1[1]/piece, Dataset 12 for-loop-1[2]/piece] \
(for-loop-1.piece-data) -> Output=3 joined=[Dataset 15 merge]
total xs=[16, 25, 36] (for-loop-1.square-Output) -> Output=77
""",
    "naps_killed": "nap seconds=60",
    "nested": """
inner x=3 -> piece=[Dataset 44 inner/piece] squared=9
inner/piece x=9 (square.Output) -> data=[Dataset 44 inner/piece]
inner/square x=3 -> Output=9
read data=[Dataset 44 inner/piece] (inner.piece) plus=9 (inner.squared) -> Output=18
""",
    "odd_metadata": """
odd-metadata -> data=[Dataset 63 odd-metadata] metrics=[Metrics 61 odd-metadata] text=[Artifact 62 odd-metadata]
""",
    "retried": """
flaky where="/data/flaky-1" -> Output=2 metrics=[Metrics 73 flaky]
show text="after 2" -> Output="after 2"
""",
    "shared_kubernetes_platform": """
createpvc 96ea6a15-3428-427a-b440-4e655c4aa0b2-work="96ea6a15-3428-427a-b440-4e655c4aa0b2-work" \
access_modes=["ReadWriteOnce"] pvc_name_suffix="-work" size="1Gi" storage_class_name="standard" -> name="x-24968"
deletepvc pvc_name="x-24968"
greet name="pvc" -> Output="hello pvc"
""",
    "shared_train_and_report": """
condition-1 threshold=100 train-Output=0.09626272360157163
condition-1/report loss=0.09626272360157163 -> Output="loss=0.0963"
make-data rows=10 -> data=[Dataset 80 make-data]
train data=[Dataset 80 make-data] (make-data.data) epochs=50 -> \
Output=0.09626272360157163 metrics=[Metrics 83 train] model=[Model 84 train]
""",
}


@pytest.mark.parametrize("name", SAID)
def test_recorded_runs(name: str) -> None:
    """Each task of a run has its inputs and outputs, for every kind of run recorded."""
    recording = Recording(name)
    nodes = recording.nodes()
    known = {pod.name.rpartition("-")[2] for pods in nodes.pods_by_task.values() for pod in pods}
    assert {pod.rpartition("-")[2] for pod in recording.pod_names()} <= known, "the Workflow is not the run's"
    assert _said(with_outputs(recording.run_id, nodes, recording.recorded())) == sorted(SAID[name].strip().split("\n"))


@pytest.mark.parametrize("name", [name for name in PIPELINES if not name.startswith("kfp25")])
def test_nodes_have_their_recorded_names(name: str) -> None:
    """The nodes of these tests' Workflows have the names of the recorded runs, or the joins would prove nothing."""
    recording = Recording(name)
    workflow = recording.workflow()
    workflow.manifest()
    assert set(recording.rows["nodes"].values()) <= {str(node["name"]) for node in workflow.nodes.values()}


def test_metadata() -> None:
    """Lists and objects are unwrapped once, booleans stay such; KFP's own keys are left out unless a task set them."""
    data = _artifact("odd_metadata", "odd-metadata", "data")
    assert data.metadata == {
        "display_name": "named by the user",
        "empty": "",
        "empty_list": [],
        "key with space/and.dot": "v",
        "list": [1],
        "long": "xxxxxxxxxx(5000 in all)",
        "no": False,
        "only": {"list": [1, 2]},
        "store_session_info": "mine",
        "zero": 0,
    }
    made = _artifact("artifacts_all", "make-data", "data")
    stats = {"min": 0, "max": 6}
    assert made.metadata == {
        "clean": True,
        "columns": ["x", "y"],
        "owner": "team-a",
        "ratio": 0.25,
        "rows": 6,
        "stats": stats,
    }
    run_id = "3ce26c06-f2a7-4832-8ef4-615aff21a8de"
    assert made.uri.startswith(f"minio://mlpipeline/v2/artifacts/artifacts-all/{run_id}/make-data/")
    assert (made.run_id, made.created_at is not None) == (run_id, True)


def test_metrics() -> None:
    """Metrics are numbers by name; classification metrics have their curves and matrices."""
    nodes = _complete("artifacts_all")
    assert [(one.task, one.output, one.name, one.value) for one in metrics_of(nodes.tasks)] == [
        ("train", "metrics", "accuracy", 0.91),
        ("train", "metrics", "loss", 12),
    ]
    curves = _artifact("artifacts_all", "train", "cls")
    assert curves.roc_curve == (RocPoint(0.9, 0, 0), RocPoint(0.5, 0.1, 0.8), RocPoint(0.1, 1, 1))
    assert curves.confusion_matrix is not None
    assert curves.confusion_matrix.categories == ("cat", "dog")
    assert [row.counts for row in curves.confusion_matrix.rows] == [(8, 2), (1, 9)]
    assert [one.slice for one in _artifact("artifacts_all", "train", "sliced").slices] == ["s1"]
    odd = _artifact("odd_metadata", "odd-metadata", "metrics")
    assert odd.metrics == {"big": 1e65, "count": 2.0**53, "lr": 2e-05, "negative": -2e-06, "pi": 3.141593, "tiny": 0}
    assert odd.metadata["note"] == "text in metrics"


@pytest.mark.parametrize(
    ("stored", "parameter", "shown"),
    [
        (0.096263, 0.09626272360157163, 0.09626272360157163),
        (0.0, 1e-7, 1e-7),
        (0.096263, 0.0962650, 0.096263),
        (0.096263, "0.09626272360157163", 0.096263),
        (1, True, 1),
        (1e65, 1.5e300, 1e65),
    ],
)
def test_exact_metrics(stored: float, parameter: float | str, shown: float) -> None:
    """ML Metadata keeps six decimals of a metric; an equal output parameter of that name has the exact value."""
    recorded = RecordedRun(
        executions=(Execution(1, is_group=True), Execution(2, "train", 1, outputs={"loss": parameter, "other": 0.5})),
        events=(_output(2, 7, "metrics"),),
        artifacts={7: RunArtifact("system.Metrics", artifact_id="7", metadata={"loss": stored, "kept": 0.5})},
    )
    nodes = with_outputs("r", read_nodes(Workflow((Task("train"),)).manifest()), recorded)
    found = next(one for one in nodes.tasks[0].outputs if one.name == "metrics").artifacts[0]
    assert found.metrics == {"loss": shown, "kept": 0.5}


def test_logs_are_no_outputs() -> None:
    """Logs of attempts are kept apart, the last attempt last; a failed task has no other artifacts."""
    nodes = _complete("retried")
    logs = {path: [one.artifact_id for one in nodes.stored_logs(key)] for key, path in paths_of(nodes.tasks).items()}
    assert logs == {"flaky": ["70", "71", "72"], "show": ["74"]}
    failed = _complete("exit_handler")
    boom = next(task for task in failed.tasks if task.name == "boom")
    assert boom.outputs == ()
    assert [one.artifact_id for one in failed.stored_logs(boom.task_id)] == ["41"]


def test_stores() -> None:
    """Each artifact has its own store, including a cached one from another store."""
    stores = _complete("own_provider").stores
    assert json.loads(stores["27"]) == json.loads(SESSION)
    own = json.loads(stores["113"])
    assert (own["Provider"], own["Params"]["region"], own["Params"]["secretName"]) == (
        "s3",
        "us-east-1",
        "mlpipeline-minio-artifact",
    )
    assert endpoint_of(stores["113"]) == "seaweedfs.kubeflow:9000"
    assert {endpoint_of(one) for one in _complete("query_root2").stores.values()} == {"127.0.0.2:9000"}
    assert _complete("odd_metadata").stores["63"] == ""


def test_nested_loops() -> None:
    """A nested loop collects a list for each iteration of the outer one; artifacts have the same order."""
    plus = Task("plus")
    inner = Task("for-loop-4", kind="loop", items=2, inside=(plus,))
    outer = Task("for-loop-2", kind="loop", items=2, inside=(inner,))
    producers, artifacts = {"sums": (("for-loop-4", "sums"),)}, {"all": (("for-loop-4", "all"),)}
    below, made_below = {"sums": (("plus", "Output"),)}, {"all": (("plus", "data"),)}
    executions = [
        Execution(1, is_group=True),
        Execution(2, "for-loop-2", 1, None, 2, is_group=True, parameters=producers, artifacts=artifacts),
    ]
    events, stored = [], {}
    for index in (1, 0):  # in parallel, ids are not in the order of the items
        group = 10 * (index + 1)
        executions += [
            Execution(group, "for-loop-2", 2, index, is_group=True, parameters=producers, artifacts=artifacts),
            Execution(group + 1, "for-loop-4", group, None, 2, is_group=True, parameters=below, artifacts=made_below),
        ]
        for item in (1, 0):
            at = group + 2 + 3 * item
            executions += [
                Execution(at, "for-loop-4", group + 1, item, is_group=True, parameters=below, artifacts=made_below),
                Execution(at + 1, "plus", at, outputs={"Output": 10 * index + item}),
            ]
            events.append(_output(at + 1, at, "data"))
            stored[at] = RunArtifact("system.Dataset", artifact_id=str(at))
    nodes = read_nodes(Workflow((outer,)).manifest())
    done = with_outputs("r", nodes, RecordedRun("", "", tuple(executions), tuple(events), stored))
    loop = next(task for task in done.tasks if task.name == "for-loop-2")
    outputs = {one.name: one for one in loop.outputs}
    assert outputs["sums"].value == [[0, 1], [10, 11]]
    assert [one.artifact_id for one in outputs["all"].artifacts] == ["12", "15", "22", "25"]


def test_defaults_and_templates() -> None:
    """Defaults of a component are inputs too; texts that embed inputs are filled in as by the launcher."""
    component: dict[str, object] = {"inputDefinitions": {"parameters": {"epochs": {"defaultValue": 3}, "needed": {}}}}
    reported: dict[str, Json] = {
        "text": "{{$.inputs.parameters['pipelinechannel--a']}} and {{$.inputs.parameters['pipelinechannel--b']}}",
        "list": ["{{$.inputs.parameters['pipelinechannel--a']}}", {"k": "{{$.inputs.parameters['gone']}}"}],
        "pipelinechannel--a": 1e-7,
        "pipelinechannel--b": {"x": [True, None]},
    }
    recorded = RecordedRun(executions=(Execution(1, is_group=True), Execution(2, "train", 1, inputs=reported)))
    nodes = read_nodes(Workflow((Task("train", component=component),)).manifest())
    inputs = {one.name: one.value for one in with_outputs("r", nodes, recorded).tasks[0].inputs}
    assert inputs == {
        "epochs": 3,
        "text": '0.0000001 and {"x":[true,null]}',
        "list": ["0.0000001", {"k": "{{$.inputs.parameters['gone']}}"}],
    }


@pytest.mark.parametrize("retries", [True, False])
def test_found_by_the_hash_of_the_node(retries: bool) -> None:
    """A task that neither a pod nor its name identifies is found by the id that its node must have."""
    guarded = Task("inside", kind="dag", inside=(Task("cached", cached=True), Task("importer", kind="importer")))
    loop = Task("loop", kind="loop", items=2, inside=(Task("cached", cached=True),))
    nodes = read_nodes(Workflow((guarded, loop), retries=retries).manifest())
    unknown = replace(nodes, tasks=tuple(replace(one, name="?", parent_task_id="?") for one in nodes.tasks))
    executions = [
        Execution(1, is_group=True),
        Execution(2, "inside", 1, is_group=True),
        Execution(3, "cached", 2),
        Execution(4, "importer", 2),
        Execution(5, "loop", 1, None, 2, is_group=True),
        Execution(6, "loop", 5, 1, is_group=True),
        Execution(7, "cached", 6),
    ]
    join = Join(unknown, executions)
    paths = paths_of(nodes.tasks)
    assert {paths[key]: one.id for key, one in join.executions.items()} == {
        "inside": 2,
        "inside/cached": 3,
        "inside/importer": 4,
        "loop": 5,
        "loop[1]/cached": 7,
    }


def test_doubtful_tasks() -> None:
    """If name and pod lead to two tasks, neither gets outputs that may be the other's, and both have a warning."""
    recording = Recording("nested")
    pods = recording.pod_names()
    for one in recording.executions:
        if one.custom_properties["task_name"].string_value == "square":
            one.custom_properties["pod_name"].string_value = pods[-1]  # that of `read`
    done = with_outputs(recording.run_id, recording.nodes(), recording.recorded())
    ambiguous = {task.name for task in done.tasks if task.warnings == (AMBIGUOUS,)}
    assert ambiguous == {"square", "read"}
    assert all(not (task.inputs or task.outputs) for task in done.tasks if task.name in ambiguous)
    assert next(task for task in done.tasks if task.name == "piece").outputs


def test_the_latest_execution_counts() -> None:
    """If a driver ran again, the latest execution is used; one that KFP does not show is left out."""
    executions = (
        Execution(1, is_group=True),
        Execution(3, "train", 1, outputs={"Output": "new"}),
        Execution(2, "train", 1, outputs={"Output": "old"}),
        Execution(4, "elsewhere", 99),
        Execution(5, "not-shown-yet", 1),
    )
    nodes = read_nodes(Workflow((Task("train"),)).manifest())
    done = with_outputs("r", nodes, RecordedRun(executions=executions))
    assert [(task.name, [one.value for one in task.outputs]) for task in done.tasks] == [("train", ["new"])]


def test_no_tree() -> None:
    """Executions inside each other, and circular producers, affect only themselves."""
    circle = {"x": (("inside", "x"),)}
    executions = (
        Execution(1, is_group=True),
        Execution(2, "inside", 1, is_group=True, parameters=circle, artifacts=circle),
        Execution(3, "a", 4, is_group=True),
        Execution(4, "b", 3, is_group=True),
    )
    nodes = read_nodes(Workflow((Task("inside", kind="dag"),)).manifest())
    nodes = replace(nodes, tasks=tuple(replace(one, parent_task_id=one.task_id) for one in nodes.tasks))
    done = with_outputs("r", nodes, RecordedRun(executions=executions))
    assert [task.outputs for task in done.tasks] == [()]


def _output(execution_id: int, artifact_id: int, name: str) -> pb.Event:
    path = pb.Event.Path(steps=[pb.Event.Path.Step(key=name)])
    return pb.Event(execution_id=execution_id, artifact_id=artifact_id, type=pb.Event.OUTPUT, path=path)


def _complete(name: str) -> RunNodes:
    recording = Recording(name)
    return with_outputs(recording.run_id, recording.nodes(), recording.recorded())


def _artifact(name: str, task: str, output: str) -> RunArtifact:
    found = next(one for one in _complete(name).tasks if one.name == task)
    return next(one for one in found.outputs if one.name == output).artifacts[0]


def _said(nodes: RunNodes) -> list[str]:
    paths = paths_of(nodes.tasks)
    lines = []
    for task in nodes.tasks:
        words = [paths[task.task_id], *(_taken(one, paths) for one in task.inputs)]
        words += ["->" for _ in task.outputs[:1]] + [_shown(one, paths) for one in task.outputs]
        lines.append(" ".join(words).replace("pipelinechannel--", ""))
    return sorted(lines)


def _taken(found: RunInput, paths: Mapping[str, str]) -> str:
    source = f" ({found.source_task}.{found.source_output})" if found.source_task else ""
    return _shown(found, paths) + source


def _shown(found: RunInput | RunOutput, paths: Mapping[str, str]) -> str:
    artifacts = [
        f"{one.type.removeprefix('system.')} {one.artifact_id} {paths.get(one.task_id, '')}" for one in found.artifacts
    ]
    value = f"[{', '.join(artifacts)}]" if artifacts else json.dumps(found.value, sort_keys=True, ensure_ascii=False)
    return f"{found.name}={value}"
