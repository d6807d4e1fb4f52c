"""Pictures of metrics: inside their frames, readable as text, without scripts and styles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.console.visiting import Html

from kfadapter_console.page import TEMPLATES
from kfadapter_console.plots import MAX_CATEGORIES, SIZE, auc, confusion, metric_chart, roc_chart, ticks
from kfadapter_grpc.client import ConfusionMatrix, ConfusionRow, RocPoint

if TYPE_CHECKING:
    from kfadapter_console.plots import Chart, Matrix

_HOSTILE = "<img src=x onerror=alert(1)>\"'&\0\x1b[31m"
_numbers = st.floats() | st.none()
_texts = st.text(max_size=60) | st.just(_HOSTILE)


def _drawn(plot: Chart | Matrix) -> str:
    """Draws a plot; `Html` checks that no text becomes markup."""
    text = str(TEMPLATES.get_template("macros.html").make_module().plot(plot))  # type: ignore[attr-defined]
    Html(text)
    return text


def _words(chart: Chart) -> list[str]:
    return [words for _, _, words in chart.legend]


@settings(max_examples=50)
@given(st.lists(st.tuples(_texts, _numbers), max_size=12), _texts)
def test_metric_is_inside_its_frame(points: list[tuple[str, float | None]], name: str) -> None:
    """Each finite value has a place within the frame, in the order of the values; the others have a text."""
    chart = metric_chart(name, points)
    places = [place for _, _, line in chart.lines for place in line]
    known = [value for _, value in points if value is not None and math.isfinite(value)]
    assert len(places) == len(known)
    assert all(0 <= x <= SIZE and 0 <= y <= SIZE for x, y in places)
    ordered = [y for _, (_, y) in sorted(zip(known, places, strict=True), key=lambda one: one[0])]
    assert ordered == sorted(ordered, reverse=True)
    assert len(_words(chart)) == len(points)
    _drawn(chart)


def test_metric_in_words() -> None:
    """A missing value interrupts the line; NaN and infinite ones are named."""
    points = [("a", 0.25), ("b", 0.5), ("c", None), ("d", math.nan), ("e", math.inf), ("f", 0.75)]
    chart = metric_chart("accuracy", points)
    assert [len(line) for _, _, line in chart.lines] == [2, 1]
    assert _words(chart) == ["a: 0.25", "b: 0.5", "c: no value", "d: nan", "e: inf", "f: 0.75"]
    assert "accuracy over runs" in _drawn(chart)
    assert _words(metric_chart("loss", [("a", 0.1), ("b", 0.100000001)])) == ["a: 0.1", "b: 0.100000001"]


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (0.93, 0.95, ["0.93", "0.935", "0.94", "0.945", "0.95"]),
        (7, 7, ["6", "6.5", "7", "7.5", "8"]),
        (0, 0, ["-1", "-0.5", "0", "0.5", "1"]),
        (-1234, 99_000, ["-50000", "0", "50000", "100000"]),
        (0, 3e12, ["0", "1e+12", "2e+12", "3e+12"]),
    ],
)
def test_ticks(low: float, high: float, shown: list[str]) -> None:
    """Ticks are multiples of 1, 2 or 5 times a power of ten around the values."""
    assert [f"{float(one):g}" for one in ticks(low, high)] == shown


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_ticks_enclose(one: float, other: float) -> None:
    """Ticks rise, are few, and enclose the values, whatever their size."""
    found = ticks(min(one, other), max(one, other))
    assert found == sorted(set(found))
    assert 2 <= len(found) <= 8
    assert float(found[0]) <= min(one, other) <= max(one, other) <= float(found[-1])


_points = st.builds(RocPoint, st.floats(), st.floats(0, 1) | st.floats(), st.floats(0, 1) | st.floats())


@settings(max_examples=50)
@given(st.lists(st.tuples(_texts, st.lists(_points, max_size=30)), max_size=12))
def test_roc_is_inside_its_frame(curves: list[tuple[str, list[RocPoint]]]) -> None:
    """Whatever was recorded, curves stay in their frame, and the legend has an area between 0 and 1."""
    chart = roc_chart("curves", curves)
    assert all(0 <= x <= SIZE and 0 <= y <= SIZE for _, _, line in chart.lines for x, y in line)
    areas = [area for _, points in curves if (area := auc(points)) is not None]
    assert all(-1e-9 <= area <= 1 + 1e-9 for area in areas)
    assert len(_words(chart)) == len(curves)
    _drawn(chart)


def test_roc_in_words() -> None:
    """The area is that of the trapezoids; odd points are left out and counted; ten curves have ten symbols."""
    perfect = [RocPoint(1, 0, 0), RocPoint(0.5, 0, 1), RocPoint(0, 1, 1)]
    chance = [RocPoint(0, 1, 1), RocPoint(1, 0, 0)]
    odd = [*chance, RocPoint(0, math.nan, 1), RocPoint(0, 2, 1)]
    chart = roc_chart("curves", [("perfect", perfect), ("chance", chance), ("odd", odd), ("none", [])])
    assert _words(chart) == [
        "perfect: AUC 1.0000",
        "chance: AUC 0.5000",
        "odd: AUC 0.5000, 2 points left out",
        "none: no points",
    ]
    assert auc([RocPoint(0.5, 0.5, 0.8)]) == pytest.approx(0.65)
    assert len({symbol for _, symbol, _ in roc_chart("ten", [("", chance)] * 10).legend}) == 10


def test_roc_of_many_points_is_small() -> None:
    """Ten curves of 20,000 points make a small picture that still ends where they end."""
    steps = 20_000
    curve = [RocPoint(0, at / steps, (at / steps) ** 0.5) for at in range(steps + 1)]
    chart = roc_chart("curves", [(f"r{at}", curve) for at in range(10)])
    assert len(_drawn(chart)) < 150_000
    assert (chart.lines[0][2][0], chart.lines[0][2][-1]) == ((0, SIZE), (SIZE, 0))
    assert auc(curve) == pytest.approx(2 / 3, abs=1e-4)


_rows = st.builds(ConfusionRow, st.lists(st.floats(), max_size=6).map(tuple))
_matrices = st.builds(ConfusionMatrix, st.lists(_texts, max_size=32).map(tuple), st.lists(_rows, max_size=6).map(tuple))


@settings(max_examples=30)
@given(_matrices)
def test_confusion_of_any_shape(matrix: ConfusionMatrix) -> None:
    """Matrices whose names, rows and columns differ in number are drawn as squares."""
    made = confusion("matrix", matrix)
    assert {len(made.categories)} >= {len(made.rows), *map(len, made.rows)}
    assert len(made.categories) <= MAX_CATEGORIES
    _drawn(made)


def test_confusion_in_words() -> None:
    """Each cell has its count, a shade, and its share of the row in words; of many categories the first are shown."""
    matrix = ConfusionMatrix(("고양이", "dog"), (ConfusionRow((8, 2)), ConfusionRow((0, 1_234_567))))
    text = _drawn(confusion("matrix", matrix))
    for cell in (
        'class="shade-4"',
        ">8</td>",
        'class="shade-1"',
        'class="shade-0"',
        'class="shade-5"',
        ">1234567</td>",
    ):
        assert cell in text
    assert 'title="actual 고양이, predicted dog: 20.0% of the row">2</td>' in text
    many = _drawn(confusion("matrix", ConfusionMatrix(tuple(f"c{at}" for at in range(32)))))
    assert "2 more are not shown" in many
    assert ">c31</th>" not in many
