"""What pictures of metrics show; `plots.html` draws it."""

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
Place: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its name, and its marks with their places in pixels."""

    name: str
    marks: Sequence[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over two axes; each line and each entry of the legend has the number and the symbol of its series."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[tuple[int, str, Sequence[Place]]]
    legend: Sequence[tuple[int, str, str]]
    has_diagonal: bool = False


@dataclass(frozen=True, slots=True)
class Matrix:
    """A confusion matrix; each cell has its count, a shade from 0 to 5 for its share of the row, and words."""

    title: str
    categories: Sequence[str]
    rows: Sequence[Sequence[tuple[float | None, int, str]]]
    left_out: int


def metric_chart(name: str, points: Sequence[tuple[str, float | None]]) -> Chart:
    """Draws a metric over named runs, numbered from left to right; None is no value."""
    known = [value for _, value in points if value is not None and math.isfinite(value)]
    marks = ticks(min(known), max(known)) if known else []
    digits = next((some for some in (6, 9, 12) if len({f"{one:.{some}g}" for one in known}) == len({*known})), 17)
    columns = [((number - 0.5) * SIZE / len(points), str(number)) for number in range(1, len(points) + 1)]
    places = [
        (x, _down(value, marks)) if value is not None and math.isfinite(value) else None
        for (x, _), (_, value) in zip(columns, points, strict=True)
    ]
    lines = [[place for place in some if place] for _, some in groupby(places, key=bool)]
    words = [f"{run}: {'no value' if value is None else f'{value:.{digits}g}'}" for run, value in points]
    return Chart(
        f"{name} over runs",
        Axis("Run", columns),
        Axis(name, [(_down(mark, marks), _number(mark)) for mark in marks]),
        [(0, _SYMBOLS[0], line) for line in lines if line],
        [(0, f"{number}.", text) for number, text in enumerate(words, 1)],
    )


def roc_chart(title: str, curves: Sequence[tuple[str, Sequence[RocPoint]]]) -> Chart:
    """Draws named ROC curves over each other, with the area under each; points that are no rates are left out."""
    lines: list[tuple[int, str, Sequence[Place]]] = []
    legend: list[tuple[int, str, str]] = []
    for number, (name, points) in enumerate(curves):
        rates, area, symbol = _rates(points), auc(points), _SYMBOLS[number % len(_SYMBOLS)]
        places = [(round(x * SIZE, 1), round((1 - y) * SIZE, 1)) for x, y in rates]
        lines.append((number, symbol, [*places[: -1 : len(places) // _MAX_POINTS + 1], *places[-1:]]))
        words = "no points" if area is None else f"AUC {area:.4f}"
        words += f", {len(points) - len(rates)} points left out" if len(rates) < len(points) else ""
        legend.append((number, symbol, f"{name}: {words}"))
    marks = ticks(0, 1)
    x = Axis("False positive rate", [(float(mark) * SIZE, _number(mark)) for mark in marks])
    y = Axis("True positive rate", [(_down(mark, marks), _number(mark)) for mark in marks])
    return Chart(title, x, y, lines, legend, has_diagonal=True)


def auc(points: Sequence[RocPoint]) -> float | None:
    """Returns the area under a ROC curve by trapezoids, from (0, 0) to (1, 1); None without points."""
    rates = _rates(points)
    whole = pairwise([(0.0, 0.0), *rates, (1.0, 1.0)])
    return sum((x - last_x) * (y + last_y) / 2 for (last_x, last_y), (x, y) in whole) if rates else None


def confusion(title: str, matrix: ConfusionMatrix) -> Matrix:
    """Shades the counts of a confusion matrix by their share of their row; of more than 30 categories the first."""
    size = max(len(matrix.categories), len(matrix.rows), *(len(row.counts) for row in matrix.rows), 0)
    numbered = (f"#{number}" for number in range(len(matrix.categories) + 1, size + 1))
    names = [*matrix.categories, *numbered][:MAX_CATEGORIES]
    rows: list[list[tuple[float | None, int, str]]] = []
    for at, actual in enumerate(names):
        counts = matrix.rows[at].counts if at < len(matrix.rows) else ()
        total = sum(count for count in counts if count > 0)
        rows.append([])
        for predicted, count in zip(names, (*counts, *[None] * size), strict=False):
            share = count / total if count and 0 < count <= total < math.inf else 0.0
            words = f"actual {actual}, predicted {predicted}: {share:.1%} of the row"
            rows[-1].append((count, math.ceil(share * _SHADES), words))
    return Matrix(title, names, rows, size - len(names))


def pictures_of(found: Iterable[tuple[str, RunArtifact]]) -> Iterator[Chart | Matrix]:
    """Yields the pictures of named artifacts."""
    for name, one in classifications(found):
        if one.roc_curve:
            yield roc_chart(name, [("ROC curve", one.roc_curve)])
        if one.confusion_matrix:
            yield confusion(name, one.confusion_matrix)


def outputs_of(run: Run) -> Iterator[tuple[str, RunArtifact]]:
    """Yields the artifacts that tasks made, by task and output; groups only pass theirs on."""
    paths = paths_of(run.tasks)
    for task in run.tasks:
        for output in task.outputs:
            made = (one for one in output.artifacts if one.task_id == task.task_id)
            yield from ((f"{paths[task.task_id]}/{output.name}", one) for one in made)


def classifications(found: Iterable[tuple[str, RunArtifact]]) -> Iterator[tuple[str, RunArtifact | MetricsSlice]]:
    """Yields what may have a ROC curve or a confusion matrix: named artifacts and their slices."""
    for name, artifact in found:
        yield name, artifact
        yield from ((f"{name}/{one.slice}", one) for one in artifact.slices)


def ticks(low: float, high: float, most: int = 5) -> list[Decimal]:
    """Returns round numbers, about `most` of them, the first at most `low` and the last at least `high`."""
    least, greatest = Decimal(str(low)), Decimal(str(high))
    if least == greatest:
        pad = abs(least) / 10 or Decimal(1)
        least, greatest = least - pad, greatest + pad
    raw = (greatest - least) / most
    steps = (Decimal(each).scaleb(raw.adjusted()) for each in (1, 2, 5, 10))
    step = next(each for each in steps if each >= raw)
    first = int((least / step).to_integral_value(ROUND_FLOOR))
    last = int((greatest / step).to_integral_value(ROUND_CEILING))
    return [number * step for number in range(first, last + 1)]


def _down(value: float | Decimal, marks: Sequence[Decimal]) -> float:
    """The place of a value on a vertical axis with these marks, from its upper end."""
    return round(float((marks[-1] - Decimal(str(value))) / (marks[-1] - marks[0])) * SIZE, 1)


def _number(mark: Decimal) -> str:
    return f"{float(mark):.12g}"


def _rates(points: Sequence[RocPoint]) -> list[tuple[float, float]]:
    """The points of a curve from left to right, without those that are no rates."""
    rates = ((one.false_positive_rate, one.true_positive_rate) for one in points)
    return sorted((x, y) for x, y in rates if 0 <= x <= 1 and 0 <= y <= 1)
