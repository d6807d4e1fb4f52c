"""Draws the chart: the time of each side relative to plain HTTP, as bars from 1 on a logarithmic scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from benchmarks.results import RATE
from benchmarks.sides import ADAPTER, HTTP, SDK
from benchmarks.table import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.results import Row

WIDTH = 860
"""Of the picture, in pixels."""
_LEFT, _RIGHT, _TOP = 300, 90, 74
_BAR, _GAP, _GROUP_GAP = 14, 3, 16
_TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)

# Colours with enough contrast on white and on black; lighter on dark pages.
_STYLE = """\
<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 15px; font-weight: 600; }
.quiet { fill: #59636e; font-size: 12px; }
.paper { fill: #ffffff; }
.grid { stroke: #d1d9e0; }
.one { stroke: #59636e; stroke-width: 1.5; }
.base { fill: #59636e; }
.adapter { fill: #0969da; }
.sdk { fill: #bc4c00; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .quiet { fill: #9198a1; }
  .paper { fill: #0d1117; }
  .grid { stroke: #3d444d; }
  .one { stroke: #9198a1; }
  .base { fill: #9198a1; }
  .adapter { fill: #4493f8; }
  .sdk { fill: #db6d28; }
}
</style>"""
_CLASSES = {ADAPTER: "adapter", SDK: "sdk"}


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        side: The side.
        times: Its time relative to plain HTTP; below 1 it is faster.
    """

    side: str
    times: float


def draw(rows: Iterable[Row]) -> str:
    """Draws the rows marked for the chart that have a figure of plain HTTP."""
    groups = [(row.what, _bars(row)) for row in rows if row.chart]
    heights = [len(bars) * (_BAR + _GAP) + _GROUP_GAP for _, bars in groups]
    height = _TOP + sum(heights) + 34
    scale = _Scale([bar.times for _, bars in groups for bar in bars])
    parts = [*_frame(height), *_legend(), *scale.lines(height - 34)]
    top = _TOP
    for (what, bars), taken in zip(groups, heights, strict=True):
        parts += _group(what, bars, top, scale)
        top += taken
    return "\n".join([*parts, "</svg>", ""])


def _bars(row: Row) -> list[Bar]:
    sides = [figure.side for figure in row.figures if figure.side in _CLASSES]
    base = row.p50(HTTP)
    times = {side: base / row.p50(side) if row.unit == RATE else row.p50(side) / base for side in sides}
    return [Bar(side, times[side]) for side in _CLASSES if side in times]


class _Scale:
    """The position of a ratio: logarithmic, wide enough for all ratios."""

    def __init__(self, values: Sequence[float]) -> None:
        low, high = min([*values, 1.0]), max([*values, 1.0])
        self._ticks = [tick for tick in _TICKS if low / 2.5 < tick < high * 2.5 or tick == 1]
        self._low, self._high = math.log(min(low, self._ticks[0])), math.log(max(high, self._ticks[-1]))

    def x(self, value: float) -> float:
        part = (math.log(value) - self._low) / (self._high - self._low)
        return _LEFT + part * (WIDTH - _LEFT - _RIGHT)

    def lines(self, bottom: float) -> Iterator[str]:
        for tick in self._ticks:
            x, kind = self.x(tick), "one" if tick == 1 else "grid"
            yield f'<line class="{kind}" x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{bottom}"/>'
            yield f'<text class="quiet" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>'


def _frame(height: int) -> Iterator[str]:
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title">'
    yield '<title id="title">Time beside plain HTTP, for the adapter and kfp.Client</title>'
    yield _STYLE
    yield f'<rect class="paper" width="{WIDTH}" height="{height}"/>'


def _legend() -> Iterator[str]:
    yield '<text class="title" x="16" y="26">Time beside plain HTTP (1 x); left of the line is faster</text>'
    x = 16
    for side, kind in _CLASSES.items():
        yield f'<rect class="{kind}" x="{x}" y="38" width="12" height="12"/>'
        yield f'<text x="{x + 18}" y="49">{side}</text>'
        x += 110
    yield f'<rect class="base" x="{x}" y="43" width="12" height="2"/>'
    yield f'<text x="{x + 18}" y="49">{HTTP}</text>'


def _group(what: str, bars: Sequence[Bar], top: float, scale: _Scale) -> Iterator[str]:
    middle = top + len(bars) * (_BAR + _GAP) / 2 + 3
    yield f'<text x="{_LEFT - 12}" y="{middle:.1f}" text-anchor="end">{escape(what)}</text>'
    for bar in bars:
        yield from _bar(bar, top, scale)
        top += _BAR + _GAP


def _bar(bar: Bar, top: float, scale: _Scale) -> Iterator[str]:
    one, end = scale.x(1), scale.x(bar.times)
    left, width = min(one, end), max(abs(end - one), 1.0)
    yield f'<rect class="{_CLASSES[bar.side]}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}"/>'
    # To the right of the bar even if the bar points to the left, where the names are.
    yield f'<text class="quiet" x="{max(one, end) + 5:.1f}" y="{top + 11}">{number(bar.times)} x</text>'
