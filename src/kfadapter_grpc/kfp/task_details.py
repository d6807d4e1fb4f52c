"""The tasks of a run, and why it failed, from the `task_details` of v2beta1.

KFP lists every node of a run's Argo workflow: for a task `greet` also `greet-driver`, which decides whether and how it
runs, and `executor`, its container; further `root`, the groups of a loop's iterations, and the workflow itself. People
know `greet`. What KFP's own nodes say of a failure belongs to the task that they serve.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, cast

import msgspec

from kfadapter_grpc.contract.run_outputs import RunArtifact, RunOutput
from kfadapter_grpc.contract.runs import RunState, RunStateChange, RunTask
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.run_nodes import Pod, RunNodes
from kfadapter_grpc.kfp.run_outputs import artifact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kfadapter_grpc.contract.spec import Json

_DRIVER = "-driver"
_WHOLE = frozenset({"root", "root-driver-dag", "entrypoint"})
_ITERATION = re.compile(r"iteration-item|iteration-iterations(\(.*\))?")
_EXECUTOR = "executor"
_FAILED = frozenset({RunState.FAILED, RunState.CANCELED})
_NEVER = datetime.max.replace(tzinfo=timezone.utc)


class StatusJson(msgspec.Struct):
    """Why something failed."""

    code: int = 0
    message: str = ""


class StateChangeJson(msgspec.Struct):
    """A state and when it began."""

    update_time: datetime | None = None
    state: str = ""
    error: StatusJson | None = None


class _ArtifactIdsJson(msgspec.Struct):
    """Artifacts by KFP's numbers, which are texts in its JSON."""

    artifact_ids: list[str | int] = []


class _ArtifactJson(msgspec.Struct):
    name: str = ""
    type: str = ""
    uri: str = ""
    metadata: dict[str, object] = {}


class _OutputsJson(msgspec.Struct):
    """The outputs of a task in the embedded KFP's words; KFP's own API has no place for values."""

    parameters: dict[str, object] = {}
    artifacts: list[_ArtifactJson] = []


class _ChildJson(msgspec.Struct):
    pod_name: str = ""
    task_id: str = ""


class TaskJson(msgspec.Struct):
    """A node of a run's workflow: a task, or one of KFP's own."""

    display_name: str = ""
    task_id: str = ""
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    state: str = ""
    error: StatusJson | None = None
    state_history: list[StateChangeJson] = []
    pod_name: str = ""
    child_tasks: list[_ChildJson] = []
    outputs: dict[str, _ArtifactIdsJson] = {}
    kfadapter_outputs: _OutputsJson | None = None

    @property
    def run_state(self) -> RunState:
        """Its state."""
        return state_of(self.state)

    @property
    def words(self) -> str:
        """Why it failed, as far as KFP says."""
        if self.error and self.error.message:
            return self.error.message
        told = (change.error.message for change in reversed(self.state_history) if change.error)
        return next((text for text in told if text), "")

    def all_outputs(self) -> Iterator[RunOutput]:
        """Its outputs."""
        told = self.kfadapter_outputs or _OutputsJson()
        for name, value in cast("Mapping[str, Json]", told.parameters).items():
            yield RunOutput(name, value=value)
        for one in told.artifacts:
            metadata, key = cast("Mapping[str, Json]", one.metadata), f"{self.task_id}.{one.name}"
            found = artifact(one.type, metadata, name=one.name, uri=one.uri, artifact_id=key, task_id=self.task_id)
            yield RunOutput.of(one.name, found)
        known = {one.name for one in told.artifacts}
        for name, ids_of in self.outputs.items():
            if name not in known:
                ids: list[Json] = [str(one) for one in ids_of.artifact_ids]
                yield RunOutput.of(name, RunArtifact(metadata={"artifact_ids": ids}))


def state_of(text: str) -> RunState:
    """A state in KFP's words; UNKNOWN if they are not known."""
    try:
        return RunState(text)
    except ValueError:
        return RunState.UNKNOWN


def history_of(changes: Sequence[StateChangeJson]) -> tuple[RunStateChange, ...]:
    """The states that something went through."""
    return tuple(
        RunStateChange(state_of(one.state), known_time(one.update_time), one.error.message if one.error else "")
        for one in changes
    )


def read_task_details(nodes: Sequence[TaskJson], why_failed: str) -> RunNodes:
    """Reads the tasks of a run of a KFP without Argo, the embedded one; it lists them by path, with their errors."""
    tasks = tuple(_Nodes(nodes).tasks())
    pods = {
        task.task_id: (Pod(task.task_id, task.pod_name or task.task_id, is_over=task.state.is_over),) for task in tasks
    }
    return RunNodes(tasks, pods_by_task=pods, message=why_failed)


def first_failure(nodes: Sequence[TaskJson]) -> str:
    """What failed first, of what says why, and rather a task than the group around it; empty if nothing does."""
    failed = [node for node in nodes if node.run_state is RunState.FAILED and node.words]
    if not failed:
        return ""
    first = min(failed, key=lambda node: (bool(node.child_tasks), known_time(node.end_time) or _NEVER))
    return _Nodes(nodes).failure_words(first)


class _Nodes:
    """The nodes of one run."""

    def __init__(self, nodes: Sequence[TaskJson]) -> None:
        self._nodes = nodes
        self._names = {node.display_name for node in nodes}
        self._parents = {
            key: node for node in nodes for child in node.child_tasks for key in (child.pod_name, child.task_id) if key
        }

    def tasks(self) -> Sequence[RunTask]:
        """The tasks that people know, in the order in which they began; those that have not begun are last.

        If a task never began because its driver failed, the driver stands for it.
        """
        servants: dict[str, list[TaskJson]] = {}
        found: list[RunTask] = []
        for node in self._nodes:
            if self._is_own(node):
                servants.setdefault(self._master(node), []).append(node)
        for node in self._nodes:
            if not self._is_own(node):
                found.append(_task(node, node.display_name))
            elif self._is_driver(node) and node.run_state in _FAILED:
                name = self._master(node)
                if name and name not in self._names:
                    found.append(_task(node, name))
        found = [
            replace(task, error=task.error or self._words_of(servants.get(task.name, ())))
            if task.state in _FAILED
            else task
            for task in found
        ]
        return sorted(found, key=lambda task: task.started_at or _NEVER)

    def failure_words(self, node: TaskJson) -> str:
        """Says which task failed, and why."""
        name = self._master(node) if self._is_own(node) else node.display_name
        verb = "could not be started" if self._is_own(node) and self._is_driver(node) else "failed"
        return f"task '{name}' {verb}: {node.words}" if name else f"the run failed: {node.words}"

    def _words_of(self, servants: Sequence[TaskJson]) -> str:
        for node in servants:
            if node.run_state in _FAILED and node.words:
                return f"could not be started: {node.words}" if self._is_driver(node) else node.words
        return ""

    def _is_own(self, node: TaskJson) -> bool:
        """Whether a node is KFP's own."""
        name = node.display_name
        if self._is_driver(node) or _ITERATION.fullmatch(name) or self._is_workflow(node):
            return True
        return name in _WHOLE or (name == _EXECUTOR and _EXECUTOR + _DRIVER not in self._names)

    def _is_driver(self, node: TaskJson) -> bool:
        """A task of the author's may be named like a driver; then it has a driver of its own."""
        name = node.display_name
        return name.endswith(_DRIVER) and name + _DRIVER not in self._names

    def _is_workflow(self, node: TaskJson) -> bool:
        """The workflow itself is named as the pods below it begin."""
        pods = re.compile(rf"{re.escape(node.display_name)}-\d+")
        return any(pods.fullmatch(child.pod_name) for child in node.child_tasks)

    def _master(self, node: TaskJson) -> str:
        """The name of the task that a node of KFP's own serves; empty for the run as a whole."""
        name = node.display_name.removesuffix(_DRIVER) if self._is_driver(node) else ""
        if name and name not in _WHOLE and not _ITERATION.fullmatch(name) and name != "iteration":
            return name
        if self._is_workflow(node) or node.display_name in _WHOLE or name in _WHOLE:
            return ""
        parent = self._parents.get(node.pod_name) or self._parents.get(node.task_id)
        for _ in self._nodes:  # no deeper than there are nodes, whatever KFP says
            if parent is None or not self._is_own(parent):
                break
            parent = self._parents.get(parent.pod_name) or self._parents.get(parent.task_id)
        return parent.display_name if parent is not None and not self._is_own(parent) else ""


def _task(node: TaskJson, name: str) -> RunTask:
    return RunTask(
        name=name,
        task_id=node.task_id,
        state=node.run_state,
        error=node.words,
        started_at=known_time(node.start_time) if node.run_state is not RunState.PENDING else None,
        finished_at=known_time(node.end_time),
        pod_name=node.pod_name,
        state_history=history_of(node.state_history),
        outputs=tuple(node.all_outputs()),
    )
