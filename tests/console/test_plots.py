"""Pictures of metrics: well-formed, inside their frames, readable as text, without scripts and styles."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kfadapter_console.plots import MAX_CATEGORIES, auc, confusion_plot, metric_plot, roc_plot, ticks
from kfadapter_grpc.client import ConfusionMatrix, ConfusionRow, RocPoint

_SVG = "{http://www.w3.org/2000/svg}"
_HOSTILE = "<img src=x onerror=alert(1)>\"'&\0\x1b[31m\ud800"
_numbers = st.floats() | st.none()
_texts = st.text(max_size=60) | st.just(_HOSTILE)


def _parsed(svg: str) -> ET.Element:
    """Parses a picture; checks that it has a title, a description and classes only, and that texts are inside."""
    root = ET.fromstring(svg)  # noqa: S314  made by us
    assert (root.get("role"), root[0].tag, root[1].tag) == ("img", f"{_SVG}title", f"{_SVG}desc")
    allowed = {"svg", "title", "desc", "g", "rect", "path", "text"}
    for one in root.iter():
        assert one.tag.removeprefix(_SVG) in allowed
        assert not [name for name in one.attrib if name.startswith("on") or name in {"style", "href"}]
    for one in root.iter(f"{_SVG}text"):
        assert 0 <= float(one.attrib["x"]) <= float(root.attrib["width"])
        assert 0 <= float(one.attrib["y"]) <= float(root.attrib["height"])
    return root


def _frame(root: ET.Element) -> tuple[float, float, float, float]:
    (frame,) = root.iterfind(f".//{_SVG}rect[@class='frame']")
    x, y, width, height = (float(frame.attrib[name]) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def _markers(root: ET.Element) -> list[tuple[float, float]]:
    found = [one.attrib["transform"][10:-1].split() for one in root.iterfind(f".//{_SVG}path[@class='marker']")]
    return [(float(x), float(y)) for x, y in found]


def _texts_of(root: ET.Element) -> list[str]:
    return [one.text or "" for one in root.iterfind(f".//{_SVG}text")]


@settings(max_examples=50)
@given(st.lists(st.tuples(_texts, _numbers), max_size=12), _texts)
def test_metric_is_inside_its_frame(points: list[tuple[str, float | None]], name: str) -> None:
    """Each finite value has a marker within the frame, in the order of the values; the others have a text."""
    root = _parsed(metric_plot(name, points))
    left, top, right, bottom = _frame(root)
    markers = _markers(root)
    known = [value for _, value in points if value is not None and math.isfinite(value)]
    assert len(markers) == len(known)
    assert all(left <= x <= right and top <= y <= bottom for x, y in markers)
    ordered = [x for _, (x, _) in sorted(zip(known, markers, strict=True))]
    assert ordered == sorted(ordered)
    values = [one.text for one in root.iterfind(f".//{_SVG}text[@class='value']")]
    assert values == ["no value" if value is None else f"{value:.6g}" for _, value in points]


def test_metric_in_words() -> None:
    """A missing value interrupts the line; NaN and infinite ones are named; long names are cut, with a title."""
    name = "아주 긴 이름의 실행 " * 5
    points = [("a", 0.25), ("b", 0.5), ("c", None), ("d", math.nan), ("e", math.inf), (name, 0.75)]
    root = _parsed(metric_plot("accuracy", points))
    assert len(root.findall(f".//{_SVG}path[@class='line']")) == 1
    values = [one.text for one in root.iterfind(f".//{_SVG}text[@class='value']")]
    assert values == ["0.25", "0.5", "no value", "nan", "inf", "0.75"]
    assert name.strip() in {one.text for one in root.iter(f"{_SVG}title")}
    assert name.strip() not in _texts_of(root)


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
    root = _parsed(roc_plot(curves))
    left, top, right, bottom = _frame(root)
    for line in root.iterfind(f".//{_SVG}path[@class='line']"):
        places = [tuple(map(float, place.split())) for place in line.attrib["d"][1:].split("L")]
        of_legend = all(x < left and y > bottom for x, y in places)
        assert of_legend or all(left <= x <= right and top <= y <= bottom for x, y in places)
    areas = [area for _, points in curves if (area := auc(points)) is not None]
    assert all(-1e-9 <= area <= 1 + 1e-9 for area in areas)
    assert len(root.findall(f"{_SVG}g")) == len(curves)


def test_roc_in_words() -> None:
    """The area is that of the trapezoids; odd points are left out and counted; the eleventh curve is named."""
    perfect = [RocPoint(1, 0, 0), RocPoint(0.5, 0, 1), RocPoint(0, 1, 1)]
    chance = [RocPoint(0, 1, 1), RocPoint(1, 0, 0)]
    odd = [*chance, RocPoint(0, math.nan, 1), RocPoint(0, 2, 1)]
    texts = _texts_of(_parsed(roc_plot([("perfect", perfect), ("chance", chance), ("odd", odd), ("none", [])])))
    assert texts[-4:] == [
        "perfect: AUC 1.0000",
        "chance: AUC 0.5000",
        "odd: AUC 0.5000, 2 points left out",
        "none: no points",
    ]
    assert auc([RocPoint(0.5, 0.5, 0.8)]) == pytest.approx(0.65)


def test_roc_of_many_points_is_small() -> None:
    """Ten curves of 20,000 points make a small picture that still ends where they end."""
    steps = 20_000
    curve = [RocPoint(0, at / steps, (at / steps) ** 0.5) for at in range(steps + 1)]
    svg = roc_plot([(f"r{at}", curve) for at in range(10)])
    assert len(svg) < 150_000
    left, top, right, bottom = _frame(_parsed(svg))
    assert f"M{left} {bottom}" in svg
    assert f"L{right} {top}" in svg
    assert auc(curve) == pytest.approx(2 / 3, abs=1e-4)


_rows = st.builds(ConfusionRow, st.lists(st.floats(), max_size=6).map(tuple))
_matrices = st.builds(ConfusionMatrix, st.lists(_texts, max_size=32).map(tuple), st.lists(_rows, max_size=6).map(tuple))


@settings(max_examples=30)
@given(_matrices)
def test_confusion_of_any_shape(matrix: ConfusionMatrix) -> None:
    """Matrices whose names, rows and columns differ in number are drawn as squares."""
    root = _parsed(confusion_plot(matrix))
    cells = root.findall(f".//{_SVG}rect")
    assert len(cells) == math.isqrt(len(cells)) ** 2 <= MAX_CATEGORIES**2


def test_confusion_in_words() -> None:
    """Each cell has its count, its share of the row in the title and a shade; large counts are short."""
    matrix = ConfusionMatrix(("고양이 " * 12, "dog"), (ConfusionRow((8, 2)), ConfusionRow((0, 1_234_567))))
    root = _parsed(confusion_plot(matrix))
    cells = [one for one in root.iterfind(f"{_SVG}g") if one.get("class", "").startswith("shade-")]
    assert [one.get("class") for one in cells] == ["shade-4", "shade-1", "shade-0", "shade-5"]
    assert [one.findtext(f"{_SVG}text") for one in cells] == ["8", "2", "0", "1235k"]
    cat = ("고양이 " * 12).strip()
    assert cells[1].findtext(f"{_SVG}title") == f"actual {cat}, predicted dog: 2 (20.0% of the row)"
    assert root.findtext(f"{_SVG}desc", "").endswith("actual dog, predicted dog: 1234567")
    many = ConfusionMatrix(tuple(f"c{at}" for at in range(32)))
    assert _texts_of(_parsed(confusion_plot(many)))[-1] == "2 more categories are not shown"
