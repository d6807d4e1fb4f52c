"""The graph as text: boxes and lines on a canvas of cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from operator import or_

from rich.cells import cell_len

from kfadapter_grpc.graph.layout import Box, Fit, Layout, layout
from kfadapter_grpc.graph.model import Graph
from kfadapter_grpc.graph.part import TooWideError, Wire

LABELS = (48, 28, 16, 8)
"""The maximum widths of text in boxes to try, in this order."""
_UP, _RIGHT, _DOWN, _LEFT = 1, 2, 4, 8
_ACROSS, _ALONG = _LEFT | _RIGHT, _UP | _DOWN


@dataclass(frozen=True, slots=True)
class Style:
    """The characters of a drawing.

    Attributes:
        lines: The character for each set of directions (bits: up 1, right 2, down 4, left 8).
        group: The corners of a group's box: upper left, upper right, lower left, lower right.
    """

    lines: str
    group: str
    arrow: str
    mark: str
    bullet: str


UNICODE = Style(lines=" │─└││┌├─┘─┴┐┤┬┼", group="╭╮╰╯", arrow="▼", mark="…", bullet="•")
ASCII = Style(lines=" |-+||++-+-+++++", group="++++", arrow="v", mark="...", bullet="*")


def try_text(graph: Graph, width: int, style: Style) -> list[str] | None:
    """Draws a graph as lines no wider than `width`; None if impossible."""
    for label in LABELS:
        with suppress(TooWideError):
            drawing = layout(graph, Fit(width, label, style.mark, must_fit=True))
            if drawing.width <= width:
                return draw(drawing, style)
    return None


def draw(drawing: Layout, style: Style) -> list[str]:
    """Draws a layout; at a crossing the vertical line interrupts the horizontal one."""
    canvas = _Canvas(drawing.width, drawing.height, style)
    for box in drawing.boxes:
        canvas.box(box)
    for wire in drawing.wires:
        canvas.wire(wire)
    return canvas.lines()


class _Canvas:
    """Cells with the directions of the lines through them."""

    def __init__(self, width: int, height: int, style: Style) -> None:
        self._style = style
        self._cells = [[" "] * width for _ in range(height)]
        self._lines: dict[tuple[int, int], list[int]] = {}
        self._arrows: list[tuple[int, int]] = []

    def box(self, box: Box) -> None:
        """Draws the frame of a box and its text."""
        right, bottom = box.x + box.width - 1, box.y + box.height - 1
        corners = ((box.x, box.y), (right, box.y), (box.x, bottom), (right, bottom))
        for start, end in ((0, 1), (2, 3), (0, 2), (1, 3)):
            self._draw((corners[start], corners[end]))
        if box.is_group:
            for (x, y), char in zip(corners, self._style.group, strict=True):
                self._put(x, y, char)
            self._put(box.x + 2, box.y, f" {box.lines[0]} ")
        for number, line in enumerate(box.lines):
            if not box.is_group:
                self._put(box.x + (box.width - cell_len(line)) // 2, box.y + 1 + number, line)
            elif number:
                self._put(box.x + 3, box.y + number, line)

    def wire(self, wire: Wire) -> None:
        if wire.bus is None:
            self._draw((wire.starts[0], (wire.ends[0].x, wire.ends[0].y)))
        else:
            columns = [x for x, _ in wire.starts] + [end.x for end in wire.ends]
            self._draw(
                ((min(columns), wire.bus), (max(columns), wire.bus)),
                *(((x, y), (x, wire.bus)) for x, y in wire.starts),
                *(((end.x, wire.bus), (end.x, end.y)) for end in wire.ends),
            )
        self._arrows += [(end.x, end.y) for end in wire.ends if end.arrow]

    def lines(self) -> list[str]:
        for (x, y), masks in self._lines.items():
            if self._cells[y][x] == " ":
                self._cells[y][x] = self._style.lines[_seen(masks)]
        for x, y in self._arrows:
            self._cells[y][x] = self._style.arrow
        return ["".join(row).rstrip() for row in self._cells]

    def _draw(self, *lines: tuple[tuple[int, int], tuple[int, int]]) -> None:
        """Draws connected straight lines, each to the right or down."""
        paths: dict[tuple[int, int], int] = defaultdict(int)
        for (x, y), (right, bottom) in lines:
            for column in range(x, right):
                paths[column, y] |= _RIGHT
                paths[column + 1, y] |= _LEFT
            for row in range(y, bottom):
                paths[x, row] |= _DOWN
                paths[x, row + 1] |= _UP
        for cell, mask in paths.items():
            self._lines.setdefault(cell, []).append(mask)

    def _put(self, x: int, y: int, text: str) -> None:
        """Writes a text; wide characters also take the next cell."""
        self._cells[y][x : x + cell_len(text)] = [text] + [""] * (cell_len(text) - 1)


def _seen(masks: Sequence[int]) -> int:
    """The visible directions: all, but at a crossing only those of the vertical line."""
    if sorted(masks) == sorted((_ACROSS, _ALONG)):
        return _ALONG
    return reduce(or_, masks)
