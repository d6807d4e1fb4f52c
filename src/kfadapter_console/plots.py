"""The plots of metrics as data; `macros.html` draws them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import groupby, pairwise
from typing import TypeAlias

from kfadapter_grpc.client import ConfusionMatrix, MetricsSlice, RocPoint, Run, RunArtifact
from kfadapter_grpc.contract.run_paths import paths_of

MAX_CATEGORIES = 30
SIZE = 300
"""Pixels of each axis."""
_MAX_POINTS = 500
"""Of one curve; more could not be distinguished."""
_SHADES = 5
_SYMBOLS = "●■◆▲▼○□◇△▽"
"""The markers of ten series, so that colour alone never distinguishes them."""
Point: TypeAlias = tuple[float, float]
Tick: TypeAlias = tuple[float, str]
"""The position in pixels, and the label."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over two axes; each line and each entry of the legend has the number and the symbol of its series."""

    title: str
    x_name: str
    x_ticks: Sequence[Tick]
    y_name: str
    y_ticks: Sequence[Tick]
    lines: Sequence[tuple[int, str, Sequence[Point]]]
    legend: Sequence[tuple[int, str, str]]
    has_diagonal: bool = False


@dataclass(frozen=True, slots=True)
class Matrix:
    """A confusion matrix; each cell has its count, a shade from 0 to 5 for its share of the row, and a description."""

    title: str
    categories: Sequence[str]
    rows: Sequence[Sequence[tuple[float | None, int, str]]]
    omitted: int


def metric_chart(name: str, values: Sequence[tuple[str, float | None]]) -> Chart:
    """Plots a metric over named runs, numbered from left to right."""
    known = [value for _, value in values if value is not None and math.isfinite(value)]
    steps = ticks(min(known), max(known)) if known else []
    columns = [((number - 0.5) * SIZE / len(values), str(number)) for number in range(1, len(values) + 1)]
    points = [
        (x, _from_top(value, steps)) if value is not None and math.isfinite(value) else None
        for (x, _), (_, value) in zip(columns, values, strict=True)
    ]
    lines = [[point for point in group if point] for is_known, group in groupby(points, key=bool) if is_known]
    labels = [f"{run}: {'no value' if value is None else f'{value:.12g}'}" for run, value in values]
    return Chart(
        f"{name} over runs",
        "Run",
        columns,
        name,
        [(_from_top(step, steps), f"{step:.12g}") for step in map(float, steps)],
        [(0, _SYMBOLS[0], line) for line in lines],
        [(0, f"{number}.", text) for number, text in enumerate(labels, 1)],
    )


def roc_chart(title: str, curves: Sequence[tuple[str, Sequence[RocPoint]]]) -> Chart:
    """Plots named ROC curves with the area under each; points outside of [0, 1] are left out."""
    lines: list[tuple[int, str, Sequence[Point]]] = []
    legend: list[tuple[int, str, str]] = []
    for number, (name, curve) in enumerate(curves):
        rates, area, symbol = _rates(curve), auc(curve), _SYMBOLS[number % len(_SYMBOLS)]
        points = [(round(x * SIZE, 1), round((1 - y) * SIZE, 1)) for x, y in rates]
        lines.append((number, symbol, [*points[: -1 : len(points) // _MAX_POINTS + 1], *points[-1:]]))
        label = "no points" if area is None else f"AUC {area:.4f}"
        label += f", {len(curve) - len(rates)} points left out" if len(rates) < len(curve) else ""
        legend.append((number, symbol, f"{name}: {label}"))
    steps = [(step * SIZE / 5, f"{step / 5:g}") for step in range(6)]
    falling = [(SIZE - position, label) for position, label in steps]
    return Chart(title, "False positive rate", steps, "True positive rate", falling, lines, legend, has_diagonal=True)


def auc(curve: Sequence[RocPoint]) -> float | None:
    """Returns the area under a ROC curve by trapezoids, from (0, 0) to (1, 1); None without points."""
    rates = _rates(curve)
    whole = pairwise([(0.0, 0.0), *rates, (1.0, 1.0)])
    return sum((x - last_x) * (y + last_y) / 2 for (last_x, last_y), (x, y) in whole) if rates else None


def _rates(curve: Sequence[RocPoint]) -> list[Point]:
    """Returns the points of a curve in [0, 1] from left to right."""
    rates = ((point.false_positive_rate, point.true_positive_rate) for point in curve)
    return sorted((x, y) for x, y in rates if 0 <= x <= 1 and 0 <= y <= 1)


def confusion(title: str, matrix: ConfusionMatrix) -> Matrix:
    """Shades the counts of the first 30 categories of a confusion matrix by their share of their row."""
    size = max(len(matrix.categories), len(matrix.rows), *(len(row.counts) for row in matrix.rows), 0)
    numbered = (f"#{number}" for number in range(len(matrix.categories) + 1, size + 1))
    names = [*matrix.categories, *numbered][:MAX_CATEGORIES]
    rows: list[list[tuple[float | None, int, str]]] = []
    for index, actual in enumerate(names):
        counts = matrix.rows[index].counts if index < len(matrix.rows) else ()
        total = sum(count for count in counts if count > 0)
        rows.append([])
        for predicted, count in zip(names, (*counts, *[None] * size), strict=False):
            share = count / total if count and 0 < count <= total < math.inf else 0.0
            description = f"actual {actual}, predicted {predicted}: {share:.1%} of the row"
            rows[-1].append((count, math.ceil(share * _SHADES), description))
    return Matrix(title, names, rows, size - len(names))


def plots_of(artifacts: Iterable[tuple[str, RunArtifact]]) -> Iterator[Chart | Matrix]:
    """Yields the plots of named artifacts."""
    for name, metrics in classifications(artifacts):
        if metrics.roc_curve:
            yield roc_chart(name, [("ROC curve", metrics.roc_curve)])
        if metrics.confusion_matrix:
            yield confusion(name, metrics.confusion_matrix)


def artifacts_of(run: Run) -> Iterator[tuple[str, RunArtifact]]:
    """Yields the artifacts that tasks made, by task and output; groups only pass theirs on."""
    paths = paths_of(run.tasks)
    for task in run.tasks:
        for output in task.outputs:
            made = (artifact for artifact in output.artifacts if artifact.task_id == task.task_id)
            yield from ((f"{paths[task.task_id]}/{output.name}", artifact) for artifact in made)


def classifications(artifacts: Iterable[tuple[str, RunArtifact]]) -> Iterator[tuple[str, RunArtifact | MetricsSlice]]:
    """Yields what may have a ROC curve or a confusion matrix: named artifacts and their slices."""
    for name, artifact in artifacts:
        yield name, artifact
        yield from ((f"{name}/{part.slice}", part) for part in artifact.slices)


def ticks(low: float, high: float, count: int = 5) -> list[Decimal]:
    """Returns about `count` round numbers, the first at most `low` and the last at least `high`."""
    least, greatest = Decimal(str(low)), Decimal(str(high))
    if least == greatest:
        margin = abs(least) / 10 or Decimal(1)
        least, greatest = least - margin, greatest + margin
    raw = (greatest - least) / count
    step = next(step for each in (1, 2, 5, 10) if (step := Decimal(each).scaleb(raw.adjusted())) >= raw)
    first = int((least / step).to_integral_value(ROUND_FLOOR))
    last = int((greatest / step).to_integral_value(ROUND_CEILING))
    return [number * step for number in range(first, last + 1)]


def _from_top(value: float, steps: Sequence[Decimal]) -> float:
    """Returns the distance of a value from the upper end of an axis with these ticks, in pixels."""
    return round(float((steps[-1] - Decimal(str(value))) / (steps[-1] - steps[0])) * SIZE, 1)
