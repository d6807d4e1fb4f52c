"""Tells the tasks of a run from KFP's own nodes, and why the run failed.

KFP lists every node of a run's Argo workflow: for a task `greet` also `greet-driver`, which decides whether and how it
runs, and `executor`, its container; further `root`, the groups of a loop's iterations, and the workflow itself. People
know `greet`. What KFP's own nodes have to say of a failure belongs to the task that they serve.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, cast

from kfadapter_grpc.contract.runs import RunArtifact, RunOutput, RunState, RunTask
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.wire.runs import history_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.kfp.wire.runs import RunJson, TaskJson

_DRIVER = "-driver"
_WHOLE = frozenset({"root", "root-driver-dag", "entrypoint"})
_ITERATION = re.compile(r"iteration-item|iteration-iterations(\(.*\))?")
_EXECUTOR = "executor"
_FAILED = frozenset({RunState.FAILED, RunState.CANCELED})
_NEVER = datetime.max.replace(tzinfo=timezone.utc)


def tasks_of(run: RunJson) -> list[RunTask]:
    """The tasks of a run, in the order in which they began; those that have not begun are last."""
    nodes = _Nodes(run.nodes)
    tasks = [nodes.task(node) for node in nodes.tasks()]
    return sorted(tasks, key=lambda task: task.started_at or _NEVER)


def why_failed(run: RunJson) -> str:
    """Why a run failed: its own words, or those of the task that failed first; empty if there are none."""
    if run.known_state is not RunState.FAILED:
        return ""
    if run.error and run.error.message:
        return run.error.message
    return _Nodes(run.nodes).first_failure()


class _Nodes:
    """The nodes of one run."""

    def __init__(self, nodes: Sequence[TaskJson]) -> None:
        self._nodes = nodes
        self._names = {node.display_name for node in nodes}
        self._parents = {
            key: node for node in nodes for child in node.child_tasks for key in (child.pod_name, child.task_id) if key
        }
        self._servants: dict[str, list[TaskJson]] = {}
        for node in nodes:
            if self._is_own(node):
                self._servants.setdefault(self._master(node), []).append(node)

    def tasks(self) -> Iterator[TaskJson]:
        """The nodes that people know; for a task that never began because its driver failed, the driver."""
        for node in self._nodes:
            if not self._is_own(node):
                yield node
            elif self._is_driver(node) and node.run_state in _FAILED:
                name = self._master(node)
                if name and name not in self._names:
                    yield node

    def task(self, node: TaskJson) -> RunTask:
        """A node as the rest of the program knows it, with what KFP's own nodes say of its failure."""
        name = self._master(node) if self._is_own(node) else node.display_name
        task = RunTask(
            name=name,
            task_id=node.task_id,
            state=node.run_state,
            error=node.words,
            started_at=known_time(node.start_time) if node.run_state is not RunState.PENDING else None,
            finished_at=known_time(node.end_time),
            pod_name=node.pod_name,
            state_history=history_of(node.state_history),
            outputs=tuple(_outputs(node)),
        )
        return replace(task, error=task.error or self._words_of_servants(name)) if task.state in _FAILED else task

    def first_failure(self) -> str:
        """What failed first, of what says why, and rather a task than the group around it; empty if nothing does."""
        failed = [node for node in self._nodes if node.run_state is RunState.FAILED and node.words]
        failed.sort(key=lambda node: (bool(node.child_tasks), known_time(node.end_time) or _NEVER))
        return self._told(failed[0]) if failed else ""

    def _told(self, node: TaskJson) -> str:
        if not self._is_own(node):
            return f"task '{node.display_name}' failed: {node.words}"
        name = self._master(node)
        if not name:
            return f"the run failed: {node.words}"
        verb = "could not be started" if self._is_driver(node) else "failed"
        return f"task '{name}' {verb}: {node.words}"

    def _words_of_servants(self, name: str) -> str:
        for node in self._servants.get(name, ()):
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


def _outputs(node: TaskJson) -> Iterator[RunOutput]:
    told = node.kfadapter_outputs
    known = set()
    if told is not None:
        for name, value in cast("Mapping[str, Json]", told.parameters).items():
            yield RunOutput(name, value=value)
        for one in told.artifacts:
            known.add(one.name)
            metadata = cast("Mapping[str, Json]", one.metadata)
            yield RunOutput(one.name, artifact=RunArtifact(one.type, one.uri, metadata))
    for name, ids in node.outputs.items():
        if name not in known:
            yield RunOutput(
                name, artifact=RunArtifact(metadata={"artifact_ids": [str(one) for one in ids.artifact_ids]})
            )
