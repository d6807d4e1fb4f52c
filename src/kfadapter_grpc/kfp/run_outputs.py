"""Artifacts and metrics of a run as records of the contract, whichever source they come from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from kfadapter_grpc.contract.run_outputs import (
    ConfusionMatrix,
    ConfusionRow,
    MetricsSlice,
    RocPoint,
    RunArtifact,
    RunMetric,
)
from kfadapter_grpc.contract.run_paths import paths_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from kfadapter_grpc.contract.runs import RunTask
    from kfadapter_grpc.contract.spec import Json

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


def schema_title(kind: str) -> str:
    """Returns the title of a schema for a type of KFP's artifact API (`Model`) or a title (`system.Model`)."""
    return kind if "." in kind or not kind else _TITLES.get(kind, f"system.{kind}")


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

    The three types of metrics are those of KFP's SDK, as the launcher stores them: numbers by name;
    `confidenceMetrics` and `confusionMatrix`; `evaluationSlices` with both.
    """
    title = schema_title(kind)
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
