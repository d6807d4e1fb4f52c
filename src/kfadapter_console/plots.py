"""Metrics as pictures: SVG with classes only, whose colours, dashes and fonts are in `console.css`.

Series differ by dash and marker as well as by colour, and every value is in the text. Names are cut to fit; the
whole ones are in titles. All text passes through `Markup.format`, which escapes it.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from markupsafe import Markup
from rich.cells import cell_len

from kfadapter_grpc.graph.model import middle_cut, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kfadapter_grpc.client import ConfusionMatrix, RocPoint

MAX_CATEGORIES = 30
_MARGIN, _ROW, _AXIS = 12, 24, 300
"""Pixels around a plot, of a row, and of an axis."""
_CELL = 7
"""Pixels of a terminal cell of text, a little more than it needs."""
_NAME_CELLS = 28
_MAX_POINTS, _MAX_MARKERS = 500, 40
"""Of one curve; more could not be told apart."""
_SHADES = 5
_MARKERS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z",
    "M-3.5-3.5h7v7h-7Z",
    "M0-5L5 0 0 5-5 0Z",
    "M0-4.5L4.5 3.5h-9Z",
    "M0 4.5L4.5-3.5h-9Z",
)
"""Series 5 to 9 have the same markers, hollow."""
_LINE = Markup('<path class="{}" d="M{:g} {:g}L{:g} {:g}"/>')
_SHADED = Markup(
    '<g class="shade-{}"><title>{}</title><rect class="cell" x="{}" y="{}" width="{}" height="{}"/>'
    '<text x="{}" y="{}" text-anchor="middle">{}</text></g>'
)


def metric_plot(name: str, points: Sequence[tuple[str, float | None]]) -> Markup:
    """Draws a metric over named runs, a row for each from top to bottom; None is no value."""
    known = [value for _, value in points if value is not None and math.isfinite(value)]
    marks = ticks(min(known), max(known)) if known else []
    digits = next((some for some in (6, 9, 12) if len({f"{one:.{some}g}" for one in known}) == len({*known})), 17)
    left = _MARGIN + _width(label for label, _ in points)
    bottom = _MARGIN + len(points) * _ROW
    drawn = [*_axis(marks, left, bottom, len(points) * _ROW)]
    texts = ["no value" if value is None else f"{value:.{digits}g}" for _, value in points]
    said, before = list[str](), None
    for row, ((label, value), shown) in enumerate(zip(points, texts, strict=True)):
        y = _MARGIN + (row + 0.5) * _ROW
        said.append(f"{one_line(label)}: {shown}")
        drawn.append(_text(_cut(label), left - 8, y + 4, "end", whole=label))
        drawn.append(_text(shown, left + _AXIS + 10, y + 4, "start", style="value", whole=str(value)))
        x = left + _AXIS * _share(value, marks) if value is not None and math.isfinite(value) else None
        if x is not None:
            drawn += [_LINE.format("line", *before, x, y)] if before else []
            drawn.append(_marker(0, x, y))
        before = (x, y) if x is not None else None
    drawn.append(_text(_cut(name), left + _AXIS / 2, bottom + 36, "middle", style="axis-name", whole=name))
    series = Markup('<g class="series-0">{}</g>').format(Markup().join(drawn))
    return _svg(
        "metric",
        (left + _AXIS + max(90, _width(texts) + 10), bottom + 36 + _MARGIN),
        f"{name} over runs",
        said,
        [series],
    )


def roc_plot(curves: Sequence[tuple[str, Sequence[RocPoint]]], title: str = "ROC curves") -> Markup:
    """Draws named ROC curves over each other, with the area under each; points that are no rates are left out."""
    left, bottom, marks = _MARGIN + 48, _MARGIN + _AXIS, ticks(0, 1)
    drawn = [*_axis(marks, left, bottom, _AXIS)]
    for mark in marks:
        y = bottom - _AXIS * _share(mark, marks)
        drawn += [_LINE.format("grid", left, y, left + _AXIS, y), _text(f"{float(mark):g}", left - 8, y + 4, "end")]
    drawn.append(_LINE.format("chance", left, bottom, left + _AXIS, _MARGIN))
    drawn.append(_text("False positive rate", left + _AXIS / 2, bottom + 36, "middle", style="axis-name"))
    drawn.append(_text("True positive rate", left - 42, bottom - _AXIS / 2, "middle", style="axis-name", up=True))
    said, y = list[str](), bottom + 60
    for series, (name, points) in enumerate(curves):
        rates, area = _rates(points), auc(points)
        words = "no points" if area is None else f"AUC {area:.4f}"
        words += f", {len(points) - len(rates)} points left out" if len(rates) < len(points) else ""
        said.append(f"{one_line(name)}: {words}")
        places = _thinned([(round(left + x * _AXIS, 1), round(bottom - y * _AXIS, 1)) for x, y in rates], _MAX_POINTS)
        curve = Markup('<path class="line" d="M{}"/>').format("L".join(f"{x} {y}" for x, y in places))
        markers = (_marker(series, *place) for place in _thinned(places, _MAX_MARKERS))
        legend = (
            _LINE.format("line", _MARGIN, y, _MARGIN + 36, y),
            _marker(series, _MARGIN + 18, y),
            _text(f"{_cut(name)}: {words}", _MARGIN + 46, y + 4, "start", whole=said[-1]),
        )
        parts = Markup().join((curve if places else "", *markers, *legend))
        drawn.append(Markup('<g class="series-{}"><title>{}</title>{}</g>').format(series % 10, said[-1], parts))
        y += _ROW
    return _svg("roc", (left + _AXIS + 150, y), title, said, drawn)


def auc(points: Sequence[RocPoint]) -> float | None:
    """Returns the area under a ROC curve by trapezoids, from (0, 0) to (1, 1); None without points."""
    rates = _rates(points)
    whole = pairwise([(0.0, 0.0), *rates, (1.0, 1.0)])
    return sum((x - last_x) * (y + last_y) / 2 for (last_x, last_y), (x, y) in whole) if rates else None


def confusion_plot(matrix: ConfusionMatrix, title: str = "Confusion matrix") -> Markup:
    """Draws a confusion matrix: counts, shaded by their share of their row; of more than 30 categories the first."""
    rows = [row.counts for row in matrix.rows]
    size = max(len(matrix.categories), len(rows), *map(len, rows), 0)
    numbered = (f"#{at + 1}" for at in range(len(matrix.categories), size))
    names = [*map(one_line, matrix.categories), *numbered][:MAX_CATEGORIES]
    are_few = len(names) <= 10  # noqa: PLR2004  larger cells and all counts in words would be too much for a page
    side, width = 48 if are_few else 36, _width(names)
    left, top, edge = _MARGIN + 20 + width, _MARGIN + 20 + max(width, side), len(names) * side
    drawn = [_text("Predicted", left + edge / 2, _MARGIN + 8, "middle", style="axis-name")]
    drawn.append(_text("Actual", _MARGIN + 8, top + edge / 2, "middle", style="axis-name", up=True))
    said = list[str]()
    for row, (actual, y) in enumerate(zip(names, range(top, top + edge, side), strict=True)):
        drawn.append(_text(_cut(actual), left + (row + 0.5) * side + 4, top - 6, "start", up=True, whole=actual))
        drawn.append(_text(_cut(actual), left - 8, y + side / 2 + 4, "end", whole=actual))
        counts = rows[row] if row < len(rows) else ()
        total = sum(count for count in counts if count > 0)
        for column, (predicted, x) in enumerate(zip(names, range(left, left + edge, side), strict=True)):
            count = counts[column] if column < len(counts) else None
            share = count / total if count and 0 < count <= total < math.inf else 0.0
            whole = f"actual {actual}, predicted {predicted}: {'–' if count is None else f'{count:.15g}'}"
            said += [whole] if count and (are_few or row == column) else []
            shade, middle = min(math.ceil(share * _SHADES), _SHADES), (x + side // 2, y + side // 2 + 4)
            told = f"{whole} ({share:.1%} of the row)"
            drawn.append(
                _SHADED.format(shade, told, x, y, side, side, *middle, "–" if count is None else _count(count))
            )
    if size > MAX_CATEGORIES:
        said.append(f"{size - MAX_CATEGORIES} more categories are not shown")
        drawn.append(_text(said[-1], _MARGIN, top + edge + 20, "start"))
    return _svg("confusion", (max(left + edge + _MARGIN, 240), top + edge + _MARGIN + _ROW), title, said, drawn)


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


def _share(value: float | Decimal, marks: Sequence[Decimal]) -> float:
    """Where a value is between the first and the last mark, from 0 to 1."""
    return float((Decimal(str(value)) - marks[0]) / (marks[-1] - marks[0]))


def _count(count: float) -> str:
    """A count that fits a cell."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= 10 * size:
            return f"{count / size:.0f}{unit}"
    return f"{count:.4g}"


def _rates(points: Sequence[RocPoint]) -> list[tuple[float, float]]:
    """The points of a curve from left to right, without those that are no rates."""
    rates = ((one.false_positive_rate, one.true_positive_rate) for one in points)
    return sorted((x, y) for x, y in rates if 0 <= x <= 1 and 0 <= y <= 1)


def _thinned(places: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """About so many places, the first and the last among them, none twice in a row."""
    apart = [place for place, _ in groupby(places)]
    return [*apart[: -1 : len(apart) // most + 1], *apart[-1:]]


def _cut(name: str) -> str:
    return middle_cut(one_line(name), _NAME_CELLS, "…")


def _width(names: Iterable[str]) -> int:
    """Pixels of the longest of these names, as it is shown."""
    return max((cell_len(_cut(name)) for name in names), default=0) * _CELL + 8


def _text(words: str, x: float, y: float, anchor: str, *, style: str = "", up: bool = False, whole: str = "") -> Markup:
    """A text, from bottom to top if `up`; `whole` is what it stands for."""
    turn = Markup(' transform="rotate(-90 {:g} {:g})"').format(x, y) if up else ""
    title = Markup("<title>{}</title>").format(one_line(whole)) if whole and whole != words else ""
    text = Markup('<text class="{}" x="{:g}" y="{:g}" text-anchor="{}"{}>{}{}</text>')
    return text.format(style or "words", x, y, anchor, turn, one_line(words), title)


def _marker(series: int, x: float, y: float) -> Markup:
    shape = _MARKERS[series % len(_MARKERS)]
    return Markup('<path class="marker" transform="translate({:g} {:g})" d="{}"/>').format(x, y, shape)


def _axis(marks: Sequence[Decimal], left: float, bottom: float, height: float) -> Iterator[Markup]:
    """The frame, the lines of the horizontal axis and its numbers; only the outer ones if not all fit."""
    box = Markup('<rect class="frame" x="{:g}" y="{:g}" width="{}" height="{:g}"/>')
    yield box.format(left, bottom - height, _AXIS, height)
    shown = [f"{float(mark):.12g}" for mark in marks]
    fit = len("".join(shown)) * _CELL < _AXIS
    for mark, number in zip(marks, shown, strict=True):
        x = left + _AXIS * _share(mark, marks)
        yield _LINE.format("grid", x, bottom - height, x, bottom)
        if fit or mark in {marks[0], marks[-1]}:
            yield _text(number, x, bottom + 17, "middle")


def _svg(kind: str, size: tuple[float, float], title: str, said: Sequence[str], drawn: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="plot {}" width="{:g}" height="{:g}" viewBox="0 0 {:g} {:g}" '
        'role="img"><title>{}</title><desc>{}</desc>{}</svg>'
    ).format(kind, *size, *size, one_line(title), "; ".join(said) or "no values", Markup().join(drawn))
