"""Why a run failed, from the `task_details` of v2beta1: all information that lists have about it.

KFP lists every node of a run's Argo workflow: for a task `greet` also `greet-driver`, which decides whether and how it
runs, and `executor`, its container; further `root`, the groups of a loop's iterations, and the workflow itself. Users
know `greet`. A failure message of one of KFP's own nodes belongs to the task that it serves.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import msgspec

from kfadapter_grpc.contract.runs import RunState, RunStateChange
from kfadapter_grpc.kfp.decoding import known_time

if TYPE_CHECKING:
    from collections.abc import Sequence


_DRIVER = "-driver"
_WHOLE = frozenset({"root", "root-driver-dag", "entrypoint"})
_ITERATION = re.compile(r"iteration-item|iteration-iterations(\(.*\))?")
_EXECUTOR = "executor"
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

    @property
    def run_state(self) -> RunState:
        """Its state."""
        return state_of(self.state)

    @property
    def words(self) -> str:
        """Why it failed, if KFP says."""
        if self.error and self.error.message:
            return self.error.message
        told = (change.error.message for change in reversed(self.state_history) if change.error)
        return next((text for text in told if text), "")


def state_of(text: str) -> RunState:
    """Converts KFP's state; UNKNOWN if KFP's value is unknown."""
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


def first_failure(nodes: Sequence[TaskJson]) -> str:
    """The message of the first failure, of a task rather than of the group around it; empty if there is none."""
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

    def failure_words(self, node: TaskJson) -> str:
        """Describes which task failed, and why."""
        name = self._master(node) if self._is_own(node) else node.display_name
        verb = "could not be started" if self._is_own(node) and self._is_driver(node) else "failed"
        return f"task '{name}' {verb}: {node.words}" if name else f"the run failed: {node.words}"

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
        """The workflow itself has the name with which the pods below it begin."""
        pods = re.compile(rf"{re.escape(node.display_name)}-\d+")
        return any(pods.fullmatch(child.pod_name) for child in node.child_tasks)

    def _master(self, node: TaskJson) -> str:
        """The name of the task that a node of KFP's own serves; empty for the whole run."""
        name = node.display_name.removesuffix(_DRIVER) if self._is_driver(node) else ""
        if name and name not in _WHOLE and not _ITERATION.fullmatch(name) and name != "iteration":
            return name
        if self._is_workflow(node) or node.display_name in _WHOLE or name in _WHOLE:
            return ""
        parent = self._parents.get(node.pod_name) or self._parents.get(node.task_id)
        for _ in self._nodes:  # no deeper than there are nodes, whatever KFP returns
            if parent is None or not self._is_own(parent):
                break
            parent = self._parents.get(parent.pod_name) or self._parents.get(parent.task_id)
        return parent.display_name if parent is not None and not self._is_own(parent) else ""
