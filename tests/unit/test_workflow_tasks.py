"""The tasks of the pipeline's author are found in a Workflow, whatever their names and however unusual it is."""

from __future__ import annotations

import base64
import gzip
import json
import shlex
from collections import Counter
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.workflows import NAME, Task, Workflow, node_id

from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.contract.spec import TaskKind
from kfadapter_grpc.kfp import workflow
from kfadapter_grpc.kfp.workflow_tasks import read_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kfadapter_grpc.kfp.run_nodes import RunNodes

LIKE_KFPS_OWN = (
    "root",
    "executor",
    "entrypoint",
    "iteration-item",
    "iteration-iterations",
    "iteration",
    "bus-driver",
    "root-driver",
    "system-container-impl",
    "for-loop-1",
    "condition-2",
    "x",
)


def _paths(tasks: Sequence[Task], before: str = "") -> Iterator[str]:
    """The paths of all tasks in the pipeline, one for each iteration."""
    for task in tasks:
        path = before + task.name
        yield path
        if task.exit_task:
            yield before + task.exit_task
        if task.phase == "Skipped":
            continue
        for index in range(task.items if task.kind == "loop" else 1):
            yield from _paths(task.inside, f"{path}[{index}]/" if task.kind == "loop" else f"{path}/")


def _read(*tasks: Task, retries: bool = True) -> RunNodes:
    return read_nodes(Workflow(tasks, retries=retries).manifest())


def _found(nodes: RunNodes) -> Counter[str]:
    paths = TaskPaths(nodes.tasks)
    return Counter(map(paths.of, nodes.tasks))


def _groups(inner: st.SearchStrategy[tuple[Task, ...]]) -> st.SearchStrategy[tuple[Task, ...]]:
    group = st.builds(
        Task,
        st.sampled_from(LIKE_KFPS_OWN),
        st.sampled_from(["dag", "condition", "loop"]),
        inner,
        st.integers(0, 3),
        exit_task=st.sampled_from(["", "cleanup"]),
        phase=st.sampled_from(["Succeeded", "Failed", "Skipped"]),
    ).map(_sound)
    return _siblings(group | _LEAVES)


def _sound(task: Task) -> Task:
    """Makes a task valid: only conditions are skipped, and only plain groups have exit tasks."""
    phase = task.phase if task.kind == "condition" or task.phase != "Skipped" else "Succeeded"
    return replace(task, phase=phase, exit_task=task.exit_task if task.kind == "dag" else "")


def _siblings(task: st.SearchStrategy[Task]) -> st.SearchStrategy[tuple[Task, ...]]:
    return st.lists(task, min_size=1, max_size=3, unique_by=lambda one: one.name).map(tuple).filter(_compiles)


def _compiles(tasks: Sequence[Task]) -> bool:
    """Whether KFP accepts the tasks: none is named like another's driver, and there is at most one exit task."""
    names = {task.name for task in tasks}
    return not any(f"{name}-driver" in names for name in names) and sum(bool(one.exit_task) for one in tasks) < 2


_LEAVES = st.builds(Task, st.sampled_from(LIKE_KFPS_OWN), st.sampled_from(["container", "importer", "volume"]))
PIPELINES = st.recursive(_siblings(_LEAVES), _groups, max_leaves=8)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(PIPELINES, st.booleans())
def test_every_task_once_and_nothing_else(tasks: tuple[Task, ...], retries: bool) -> None:
    """Each task appears once by its path, whatever its name, and none of KFP's own nodes does."""
    nodes = _read(*tasks, retries=retries)
    assert _found(nodes) == Counter(_paths(tasks))


@settings(max_examples=100, deadline=None)
@given(PIPELINES)
def test_with_and_without_default_retries(tasks: tuple[Task, ...]) -> None:
    """The retries that 2.17.0 wraps around everything do not change the tasks."""
    one, other = _read(*tasks), _read(*tasks, retries=False)
    output = [
        [(task.name, task.state, task.kind, task.iteration_index, task.attempts, task.error) for task in nodes.tasks]
        for nodes in (one, other)
    ]
    assert output[0] == output[1]


@settings(max_examples=100, deadline=None)
@given(PIPELINES)
def test_states_are_consistent(tasks: tuple[Task, ...]) -> None:
    """A nested task has its group as parent; ids are unique; a skipped task has nothing inside."""
    found = {task.task_id: task for task in _read(*tasks).tasks}
    assert len(found) == len(list(_paths(tasks)))
    for task in found.values():
        parent = found.get(task.parent_task_id)
        assert (parent is not None) == bool(task.parent_task_id)
        assert parent is None or parent.state is not RunState.SKIPPED


def test_an_id_before_its_node() -> None:
    """A task of which only the driver has started has the id of its later node."""
    manifest = json.loads(Workflow((Task("train"),)).manifest())
    kept = {key: node for key, node in manifest["status"]["nodes"].items() if ".train(0)" not in node["name"]}
    kept.pop(node_id(f"{NAME}(0).root(0).train"))
    manifest["status"]["nodes"] = kept
    (task,) = read_nodes(json.dumps(manifest)).tasks
    assert (task.name, task.state, task.kind) == ("train", RunState.PENDING, TaskKind.CONTAINER)
    (began,) = _read(Task("train")).tasks
    assert task.task_id == began.task_id


def test_the_first_cause_comes_first() -> None:
    """Of several failures the first is the reason; the others are named, that of an exit task last."""
    failing = Task("train", phase="Failed", message="main: Error (exit code 3)")
    manifest = json.loads(
        Workflow(
            (Task("group", "dag", (failing, Task("x", phase="Failed", message="OOMKilled")), phase="Failed"),)
        ).manifest()
    )
    for node in manifest["status"]["nodes"].values():
        if "train" in node["name"]:
            node["finishedAt"] = "2026-01-02T03:04:04Z"
    why = read_nodes(json.dumps(manifest)).failure_message("r")
    assert why == (
        "task 'group/train' failed: Error (exit code 3); `kfadapter logs r group/train` shows its log; "
        "also failed: 'group/x'"
    )


def test_the_command_that_shows_a_log() -> None:
    """Shells take it as one word, whatever the name of the task."""
    named: dict[str, object] = {"taskInfo": {"name": "Left side"}}
    failed = Task("train", phase="Failed", message="Error (exit code 1)", spec=named)
    why = _read(Task("each", "loop", (failed,), phase="Failed")).failure_message("r")
    assert shlex.split(why.split("`")[1]) == ["kfadapter", "logs", "r", "each[0]/Left side"]


def test_an_iteration_that_failed() -> None:
    """The reason names the iteration."""
    loop = Task(
        "each", "loop", (Task("train", phase="Failed", message="main: OOMKilled (exit code 137)"),), 1, phase="Failed"
    )
    assert _read(loop).failure_message("r") == "task 'each[0]/train' failed: OOMKilled (exit code 137)"


def test_why_a_pod_does_not_start() -> None:
    """A wait for preparation of a pod is reported after half a minute, other reasons at once."""
    manifest = Workflow((Task("train", phase="Pending", message="PodInitializing"),)).manifest()
    early, late = (datetime(2026, 1, 2, 3, 4, second, tzinfo=timezone.utc) for second in (10, 40))
    assert read_nodes(manifest, now=early).warnings == ()
    assert read_nodes(manifest, now=late).warnings == ("task 'train' is waiting: PodInitializing",)
    assert read_nodes(manifest, now=late, is_over=True).warnings == ()


def test_a_pipeline_that_is_tried_again() -> None:
    """After a retry of the whole pipeline, tasks that the new attempt has not started are left out."""
    manifest = json.loads(Workflow((Task("a"), Task("b", phase="Error", message="pod deleted"))).manifest())
    nodes = manifest["status"]["nodes"]
    first, second = f"{NAME}(0).root(0)", f"{NAME}(0).root(1)"
    names = {node["id"]: node["name"] for node in nodes.values()}
    for node in list(nodes.values()):
        if node["name"] == first or node["name"].startswith(f"{first}.a"):
            name, within = node["name"].replace(first, second), names[node["boundaryID"]].replace(first, second)
            shown = "root(1)" if name == second else node["displayName"]
            copy = {"id": node_id(name), "name": name, "boundaryID": node_id(within), "displayName": shown}
            nodes[node_id(name)] = {**node, **copy, "phase": "Running"}
    for name in (f"{NAME}(0).root", f"{NAME}(0)", NAME):
        nodes[node_id(name)]["phase"] = "Running"
    found = read_nodes(json.dumps(manifest))
    (task,) = found.tasks
    assert (task.name, task.state, task.attempts, task.error) == ("a", RunState.RUNNING, 2, "")
    assert [pod.is_over for pod in found.pods(task.task_id)] == [True, False]


def test_a_pod_that_was_lost_and_came_again() -> None:
    """A failed attempt because of a lost pod is not a failure of a task that succeeded later."""
    manifest = json.loads(Workflow((Task("a"),)).manifest())
    nodes = manifest["status"]["nodes"]
    name = f"{NAME}(0).root(0).a(0).executor(0)"
    again = {
        "id": node_id(name.replace("r(0)", "r(1)")),
        "name": name.replace("r(0)", "r(1)"),
        "displayName": "executor(1)",
    }
    nodes[again["id"]] = {**nodes[node_id(name)], **again}
    nodes[node_id(name)] |= {"phase": "Error", "message": "pod deleted"}
    found = read_nodes(json.dumps(manifest))
    (task,) = found.tasks
    assert (task.state, task.error, task.attempts) == (RunState.SUCCEEDED, "", 2)
    assert task.pod_name.endswith(again["id"].rpartition("-")[2])


@pytest.mark.parametrize("retries", [True, False])
def test_no_task_is_active_in_a_finished_run(retries: bool) -> None:
    """What Argo left running is canceled or failed, what had not started is omitted; unless the run continues."""
    failed = Task("boom", phase="Failed", message="main: Error (exit code 1)")
    group = Task("group", "dag", (failed, Task("nap", phase="Running"), Task("wait", phase="Pending")), phase="Running")
    manifest = Workflow((group, Task("each", "loop", (Task("a"),), phase="Running")), retries=retries).manifest()
    going, over = read_nodes(manifest), read_nodes(manifest, is_over=True)
    states = [{task.name: task.state.value for task in nodes.tasks} for nodes in (going, over)]
    assert states[0] == {
        "group": "RUNNING",
        "boom": "FAILED",
        "nap": "RUNNING",
        "wait": "PENDING",
        "each": "RUNNING",
        "a": "SUCCEEDED",
    }
    assert states[1] == states[0] | {"group": "FAILED", "nap": "CANCELED", "wait": "OMITTED", "each": "CANCELED"}
    warned = [(task.name, task.warnings) for task in over.tasks if task.warnings]
    assert warned == [("nap", ("it was running when the run ended; how it ended is unknown",))]


# --- files of KFP v1 --------------------------------------------------------------------------------------------


def _v1(*nodes: dict[str, object]) -> RunNodes:
    named = {str(node["id"]): {"name": node["id"], "phase": "Succeeded", **node} for node in nodes}
    return read_nodes(json.dumps({"metadata": {"name": "v1"}, "status": {"nodes": named}}))


def test_steps_of_a_plain_workflow() -> None:
    """Steps are tasks, items are distinguished, a nested template is a group, and the exit handler is a task."""
    nodes = _v1(
        {"id": "v1", "displayName": "v1", "type": "Steps", "templateName": "main"},
        {"id": "v1-0", "displayName": "[0]", "type": "StepGroup", "boundaryID": "v1"},
        {"id": "v1-1", "displayName": "flip", "type": "Pod", "templateName": "coin", "boundaryID": "v1"},
        {"id": "v1-2", "displayName": "say(0:heads)", "type": "Pod", "templateName": "say", "boundaryID": "v1"},
        {"id": "v1-3", "displayName": "say(1:tails (1))", "type": "Pod", "templateName": "say", "boundaryID": "v1"},
        {"id": "v1-4", "displayName": "sub", "type": "DAG", "templateName": "inner", "boundaryID": "v1"},
        {
            "id": "v1-5",
            "displayName": "deep",
            "type": "Pod",
            "templateName": "x",
            "boundaryID": "v1-4",
            "phase": "Error",
            "message": "pod deleted",
        },
        {"id": "v1-6", "displayName": "v1.onExit", "type": "Pod", "templateName": "bye"},
        {"id": "v1-7", "displayName": "each(0:a)", "type": "DAG", "templateName": "inner", "boundaryID": "v1"},
        {"id": "v1-8", "displayName": "do", "type": "Pod", "templateName": "x", "boundaryID": "v1-7"},
    )
    assert _found(nodes) == Counter(["flip", "say[0]", "say[1]", "sub", "sub/deep", "bye", "each[0]", "each[0]/do"])
    assert TaskPaths(nodes.tasks).find("say[1]") is TaskPaths(nodes.tasks).find("say", 1)
    assert [task.iteration_index for task in nodes.tasks if task.name == "say"] == [0, 1]
    assert TaskPaths(nodes.tasks).find("bye").kind is TaskKind.EXIT_HANDLER
    assert nodes.failure_message("r") == "task 'sub/deep' failed: pod deleted"


def test_a_workflow_of_one_container() -> None:
    """The entrypoint of a workflow of one container is its task."""
    nodes = _v1({"id": "v1", "displayName": "v1", "type": "Pod", "templateName": "whalesay"})
    assert [(task.name, task.attempts) for task in nodes.tasks] == [("whalesay", 1)]
    assert nodes.pods(nodes.tasks[0].task_id)[0].name == "v1"


# --- unreadable workflows ---------------------------------------------------------------------------------------


def test_compressed_nodes() -> None:
    """Compressed nodes of a large Workflow are unpacked."""
    manifest = json.loads(Workflow((Task("train"),)).manifest())
    packed = base64.b64encode(gzip.compress(json.dumps(manifest["status"].pop("nodes")).encode())).decode()
    manifest["status"]["compressedNodes"] = packed
    assert _found(read_nodes(json.dumps(manifest))) == Counter(["train"])


def test_compressed_nodes_that_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed nodes are unpacked up to a limit."""
    monkeypatch.setattr(workflow, "MAX_NODES_BYTES", 1000)
    packed = base64.b64encode(gzip.compress(b'{"x": "' + b" " * 100_000)).decode()
    nodes = read_nodes(json.dumps({"metadata": {"name": "w"}, "status": {"compressedNodes": packed}}))
    assert "larger than 1000 bytes" in nodes.unreadable


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "no JSON",
        "[1]",
        '{"status": {"nodes": {"a": 7}}}',
        '{"status": {"compressedNodes": "%%%"}}',
        '{"status": {"compressedNodes": "AAAA"}}',
        '{"status": {"offloadNodeStatusVersion": "fnv:1"}}',
        '{"status": ' * 5000,
    ],
)
def test_manifests_that_cannot_be_read(manifest: str) -> None:
    """The tasks are unavailable, with the reason."""
    nodes = read_nodes(manifest)
    assert (nodes.tasks, bool(nodes.unreadable)) == ((), True)
    assert nodes.failure_message("r").startswith("the run failed; the reason cannot be read: its ")


@pytest.mark.parametrize(
    "odd",
    [
        {"message": None},
        {"message": "\ud800"},
        {"startedAt": 5},
        {"inputs": {"parameters": [{"name": None}, {"name": "x", "value": float("inf")}]}},
        {"outputs": {"artifacts": [{"name": "main-logs", "s3": "x"}]}},
    ],
)
def test_a_malformed_value_of_a_node(odd: dict[str, object]) -> None:
    """A value of a wrong type is left out, and every task is there."""
    manifest = json.loads(Workflow((Task("train"), Task("report"))).manifest())
    for node in manifest["status"]["nodes"].values():
        if ".train(0)" in node["name"]:
            node.update(odd)
    tasks = read_nodes(json.dumps(manifest)).tasks
    assert sorted((task.name, task.state) for task in tasks) == [
        ("report", RunState.SUCCEEDED),
        ("train", RunState.SUCCEEDED),
    ]


def test_a_node_without_a_name() -> None:
    """A node that cannot be placed hides no other."""
    manifest = json.loads(Workflow((Task("train"),)).manifest())
    manifest["status"]["nodes"]["odd"] = {"id": "odd", "name": None, "type": "Pod"}
    assert _found(read_nodes(json.dumps(manifest))) == Counter(["train"])


def test_nodes_that_contain_each_other() -> None:
    """Nodes that contain each other belong to no task; the others are read."""
    manifest = json.loads(Workflow((Task("train"),)).manifest())
    for key, inside in (("a", "b"), ("b", "a"), ("c", "c")):
        manifest["status"]["nodes"][key] = {"id": key, "name": key, "type": "DAG", "boundaryID": inside}
    assert _found(read_nodes(json.dumps(manifest))) == Counter(["train"])


def test_groups_within_groups_without_end() -> None:
    """A thousand levels of groups are read."""
    task = Task("x")
    for _ in range(300):
        task = Task("g", "dag", (task,))
    assert len(_read(task, retries=False).tasks) == 301


@pytest.mark.parametrize(
    "odd", ["", "yesterday", "0001-01-01T00:00:00Z", "99999-01-01T00:00:00Z", "2026-13-01T00:00:00Z"]
)
def test_malformed_times(odd: str) -> None:
    """Invalid times are unset, and nothing else is lost."""
    manifest = Workflow((Task("train"),)).manifest().replace("2026-01-02T03:04:05Z", odd)
    (task,) = read_nodes(manifest).tasks
    assert (task.state, task.started_at, task.finished_at) == (RunState.SUCCEEDED, None, None)
