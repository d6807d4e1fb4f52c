"""What all readers of a run's tasks return: its tasks, pods, artifacts and metrics, and why it failed."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias, cast

from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.run_outputs import (
    ConfusionMatrix,
    ConfusionRow,
    MetricsSlice,
    RocPoint,
    RunArtifact,
    RunMetric,
)
from kfadapter_grpc.contract.run_paths import paths_of
from kfadapter_grpc.contract.runs import RunSources, RunState, RunTask
from kfadapter_grpc.contract.spec import Json

if TYPE_CHECKING:
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


# --- artifacts and metrics ------------------------------------------------------------------------------------------


EXECUTOR_LOGS = "executor-logs"
"""The prefix of the outputs in which KFP keeps the logs of attempts: `executor-logs`, `executor-logs-0`."""
METRICS, CLASSIFICATION_METRICS = "system.Metrics", "system.ClassificationMetrics"
SLICED_METRICS = "system.SlicedClassificationMetrics"
"""The schemas whose artifacts consist of metadata only."""
_TITLES = {
    "Metric": METRICS,
    "ClassificationMetric": CLASSIFICATION_METRICS,
    "SlicedClassificationMetric": SLICED_METRICS,
}
"""The types of KFP's artifact API whose schema has another title; the others are unchanged, after `system.`."""


def artifact(
    kind: str,
    metadata: Mapping[str, Json],
    *,
    name: str,
    uri: str = "",
    artifact_id: str = "",
    run_id: str = "",
    task_id: str = "",
    created_at: datetime | None = None,
) -> RunArtifact:
    """Makes an artifact from a source's fields, and interprets the metadata of its type.

    The kind is a type of KFP's artifact API (`Model`), or a title of a schema (`system.Model`).

    The three types of metrics are those of KFP's SDK, as the launcher stores them: numbers by name;
    `confidenceMetrics` and `confusionMatrix`; `evaluationSlices` with both.
    """
    title = kind if "." in kind or not kind else _TITLES.get(kind, f"system.{kind}")
    is_classified = title == CLASSIFICATION_METRICS
    return RunArtifact(
        title,
        uri,
        metadata,
        artifact_id,
        name,
        run_id,
        task_id,
        created_at,
        metrics=dict(_numbers(metadata)) if title == METRICS else {},
        roc_curve=_roc_curve(metadata) if is_classified else (),
        confusion_matrix=_confusion_matrix(metadata) if is_classified else None,
        slices=tuple(map(_slice, _list(metadata, "evaluationSlices"))) if title == SLICED_METRICS else (),
    )


def metrics_of(tasks: Sequence[RunTask]) -> tuple[RunMetric, ...]:
    """Returns the scalar metrics of tasks, each once; groups that only pass them on are omitted."""
    metrics = [
        (name, value, task.task_id, output.name)
        for task in tasks
        for output in task.outputs
        for artifact_ in output.artifacts
        if artifact_.metrics and artifact_.task_id == task.task_id
        for name, value in artifact_.metrics.items()
    ]
    paths = paths_of(tasks) if metrics else {}
    return tuple(RunMetric(name, value, paths[task_id], output) for name, value, task_id, output in metrics)


def _numbers(metadata: Mapping[str, Json]) -> Iterator[tuple[str, float]]:
    for name, value in metadata.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and (number := _number(value)) is not None:
            yield name, number


def _roc_curve(metadata: Mapping[str, Json]) -> tuple[RocPoint, ...]:
    points = [
        [_number(entry.get(key)) for key in ("confidenceThreshold", "falsePositiveRate", "recall")]
        for entry in _list(metadata, "confidenceMetrics")
    ]
    return tuple(RocPoint(*(value or 0.0 for value in point)) for point in points)


def _confusion_matrix(metadata: Mapping[str, Json]) -> ConfusionMatrix | None:
    matrix = metadata.get("confusionMatrix")
    if not isinstance(matrix, dict):
        return None
    rows = [entry.get("row") for entry in _list(matrix, "rows")]
    return ConfusionMatrix(
        tuple(str(entry.get("displayName") or "") for entry in _list(matrix, "annotationSpecs")),
        tuple(ConfusionRow(tuple(_number(count) or 0.0 for count in row)) for row in rows if isinstance(row, list)),
    )


def _slice(entry: Mapping[str, Json]) -> MetricsSlice:
    metrics = entry.get("sliceClassificationMetrics")
    of_slice = cast("Mapping[str, Json]", metrics) if isinstance(metrics, dict) else {}
    return MetricsSlice(str(entry.get("slice", "")), _roc_curve(of_slice), _confusion_matrix(of_slice))


def _list(metadata: Mapping[str, Json], key: str) -> list[dict[str, Json]]:
    """The objects of a list; SDK and users write arbitrary values, so everything else is omitted."""
    items = metadata.get(key)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _number(value: Json) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
