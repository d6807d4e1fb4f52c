"""What the nodes of a run show: its tasks and their pods, what is pending, and why the run failed."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from kfadapter_grpc.contract.run_paths import TaskPaths, paths_of
from kfadapter_grpc.contract.runs import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kfadapter_grpc.contract.errors import AdapterError
    from kfadapter_grpc.contract.run_outputs import RunArtifact
    from kfadapter_grpc.contract.runs import RunSources, RunTask
    from kfadapter_grpc.kfp.workflow import Step

UNEXPLAINED = "the run failed; Kubeflow Pipelines does not say why"
"""The message for a failure without any other information."""
STOPPED = (
    "Step exceeded its deadline",
    "workflow shutdown with strategy",
    "Stopped with strategy",
    "retry exceeded workflow deadline",
    "Pod was active on the node longer than the specified deadline",
)
"""The prefixes of messages of nodes that were stopped by the end of the whole run."""
STARTED = frozenset({RunState.RUNNING, RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED})
"""The states of tasks that have started."""
STUCK_AFTER = timedelta(seconds=30)
"""How long a pod may be pending before it is read completely, or warned about."""
UNKNOWN_END = "it was running when the run ended; how it ended is unknown"
MAX_NAMED = 5
"""How many tasks are named; the rest is counted."""
EXIT_CODE = re.compile(r"(Error )?\(?exit code \d+\)?|(failed to execute component: )?exit status \d+")
"""The messages of Argo, and of KFP's launcher, for a program that failed."""

Key: TypeAlias = "tuple[tuple[str, int | None], ...]"
"""Identifies a task independently of its id: the names of its groups and its own, each with the iteration."""


@dataclass(frozen=True, slots=True)
class Pod:
    """One attempt of a task, with the names of what Argo has stored of it; `main-logs` is its log."""

    node_id: str
    name: str
    namespace: str = ""
    is_over: bool = False
    artifacts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that failed, or its driver; `task_id` is empty for the driver of the whole pipeline."""

    task_id: str
    reason: str
    at: str
    pod: str = ""
    by_driver: bool = False
    at_end: bool = False
    iteration: int | None = None

    @property
    def order(self) -> tuple[bool, bool, str]:
        """First causes precede consequences, and exit tasks come last."""
        return self.at_end, self.reason.startswith(STOPPED), self.at or "~"


@dataclass(frozen=True, slots=True)
class RunNodes:
    """What the nodes of a run show.

    Attributes:
        tasks: Its tasks, in the order in which they started; a task's id is that of its outermost node.
        unreadable: Why tasks are missing; empty if they are not.
        refused: The same, if KFP shows the run to the caller but not its tasks.
        message: The engine's message about the whole run.
        etag: Identifies the condition of the tasks, where that of the run in v2beta1 does not.
        steps: The steps of Argo that have the specs of tasks, by task_id; empty for a file of KFP v1.
        merged: Ids of artifacts that are shown as part of another one, and the id of that one.
        stores: Where the bytes of artifacts are, by artifact_id: KFP's `store_session_info`, as JSON.
        stored_logs: Returns the artifacts in which KFP keeps the logs of a task, that of the last attempt last.
    """

    tasks: tuple[RunTask, ...] = ()
    namespace: str = ""
    is_terminated: bool = False
    warnings: tuple[str, ...] = ()
    unreadable: str = ""
    refused: AdapterError | None = None
    pods_by_task: Mapping[str, tuple[Pod, ...]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    message: str = ""
    etag: str = ""
    sources: RunSources | None = None
    steps: Mapping[str, Step] = field(default_factory=dict)
    merged: Mapping[str, str] = field(default_factory=dict)
    stores: Mapping[str, str] = field(default_factory=dict)
    stored_logs: Callable[[str], tuple[RunArtifact, ...]] = lambda _: ()

    def find(self, task: str, iteration_index: int | None = None) -> RunTask:
        """Finds a task by name, task_id or path. Raises TaskNotFoundError, or InvalidFieldError if several match."""
        return TaskPaths(self.tasks).find(task, iteration_index)

    def pods(self, task_id: str) -> tuple[Pod, ...]:
        """Returns the pods of a task, the first attempt first; those of its driver if its container never started."""
        return self.pods_by_task.get(task_id, ())

    def logs(self, task_id: str) -> tuple[tuple[RunArtifact, str], ...]:
        """Returns the logs of a task that KFP's launcher stored as artifacts, each with its entry in `stores`."""
        return tuple((artifact, self.stores.get(artifact.artifact_id, "")) for artifact in self.stored_logs(task_id))

    def failure_message(self, run_id: str) -> str:
        """Returns why the run failed: the first cause, other failures, then exit tasks."""
        if not self.failures:
            unreadable = f"the run failed; the reason cannot be read: {self.unreadable}"
            return self.message or (unreadable if self.unreadable else UNEXPLAINED)
        paths = paths_of(self.tasks)
        first, *others = sorted(self.failures, key=lambda failure: failure.order)
        parts = [_failure_message(first, paths) + self._where_to_look(first, run_id, paths)]
        also = [_path(failure, paths) for failure in others if not failure.at_end and failure.task_id != first.task_id]
        if also:
            omitted = f" and {len(also) - MAX_NAMED} more" if len(also) > MAX_NAMED else ""
            parts.append("also failed: " + ", ".join(f"'{path}'" for path in also[:MAX_NAMED]) + omitted)
        parts += [f"then {_failure_message(failure, paths)}" for failure in others if failure.at_end][:MAX_NAMED]
        return "; ".join(parts)

    def _where_to_look(self, failure: Failure, run_id: str, paths: Mapping[str, str]) -> str:
        """The program's own messages are only in its log."""
        if not EXIT_CODE.fullmatch(failure.reason):
            return ""
        if failure.task_id and failure.iteration is None:
            return f"; `{shlex.join(['kfadapter', 'logs', run_id, paths[failure.task_id]])}` shows its log"
        return f"; `kubectl logs -n {self.namespace or 'NAMESPACE'} {failure.pod} -c main` shows its log"


def keys_of(tasks: Iterable[RunTask]) -> dict[Key, RunTask]:
    """Returns tasks by their keys; groups must precede the tasks inside them."""
    keys: dict[str, Key] = {}
    by_key: dict[Key, RunTask] = {}
    for task in tasks:
        key = (*keys.get(task.parent_task_id, ()), (task.name, task.iteration_index))
        keys[task.task_id] = key
        by_key[key] = task
    return by_key


def task_label(path: str) -> str:
    """Names a task by its path; if it has none, the driver of the whole pipeline."""
    return f"task '{path}'" if path else "the driver of the pipeline"


def _path(failure: Failure, paths: Mapping[str, str]) -> str:
    path = paths.get(failure.task_id, "")
    return path if failure.iteration is None else f"{path}[{failure.iteration}]"


def _failure_message(failure: Failure, paths: Mapping[str, str]) -> str:
    name = task_label(_path(failure, paths))
    if failure.by_driver and failure.task_id:
        name = f"the driver of {name}"
    elif failure.at_end:
        name = f"exit {name}"
    return f"{name} failed: {failure.reason or 'Kubeflow Pipelines does not say why'}"
