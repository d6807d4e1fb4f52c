"""The graph as SVG: the same positions as in the terminal, with each cell some pixels wide and high."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from textwrap import indent
from xml.sax.saxutils import escape

from kfadapter_grpc.contract.spec import TaskKind
from kfadapter_grpc.graph.documents import sentences
from kfadapter_grpc.graph.layout import DOCUMENT, Box, Layout, layout
from kfadapter_grpc.graph.model import Graph, Node
from kfadapter_grpc.graph.part import End, Wire
from kfadapter_grpc.printable import one_line

_WIDTH = 8
"""Pixels; a character of 13 pixels in a monospaced font is 7.8 wide."""
_HEIGHT = 18
_MARGIN = 16
_CORNER = 5.0
_BRIDGE = 3.0
_HEAD = 7.0
_NAMESPACE = "http://www.w3.org/2000/svg"
_INSETS = {False: (0.3, 0.3), True: (0.1, 0.35)}
"""How much of its first and last row a box leaves free: one task, and a group."""
_QUOTE = {'"': "&quot;"}
_CLASSES = {
    TaskKind.CONDITION: "condition",
    TaskKind.LOOP: "loop",
    TaskKind.EXIT_HANDLER: "finally",
    TaskKind.IMPORTER: "importer",
}
STYLE = """\
.graph text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", D2Coding,
  "Noto Sans Mono CJK KR", "Noto Sans CJK KR", "Noto Sans KR", "Apple SD Gothic Neo", "Malgun Gothic",
  monospace; fill: #1f2328; }
.graph .words { font-size: 11px; fill: #57606a; }
.graph .heading { font-size: 12px; fill: #424a53; }
.graph .page { fill: #ffffff; }
.graph .task { fill: #ffffff; stroke: #57606a; stroke-width: 1.2; }
.graph .group { fill: #57606a; fill-opacity: 0.06; stroke: #8c959f; }
.graph .closed { stroke-width: 3; }
.graph .condition { stroke: #bf8700; } .graph .group.condition { fill: #bf8700; }
.graph .loop { stroke: #8250df; } .graph .group.loop { fill: #8250df; }
.graph .finally { stroke: #1a7f37; stroke-dasharray: 5 3; }
.graph .importer { stroke: #0969da; }
.graph .line { fill: none; stroke: #6e7781; stroke-width: 1.4; stroke-linecap: round; }
.graph .head { fill: #6e7781; }
.graph .succeeded { stroke: #1a7f37; } .graph .task.succeeded { fill: #eefbf1; }
.graph .failed { stroke: #b3261e; stroke-width: 2; } .graph .task.failed { fill: #ffebe9; }
.graph .running { stroke: #0969da; stroke-width: 2; } .graph .task.running { fill: #ddf0ff; }
.graph .canceled, .graph .canceling, .graph .paused { stroke: #8a5a00; } .graph .task.canceled { fill: #fff8e5; }
.graph .skipped, .graph .omitted, .graph .waiting, .graph .pending { stroke: #8c959f; stroke-dasharray: 3 3; }
.graph .cached { stroke-dasharray: 8 3; }
.graph a { cursor: pointer; } .graph a:hover text { text-decoration: underline; }
.graph a:focus { outline: none; } .graph a:focus-visible rect { stroke: #0b5fae; stroke-width: 4; }
@media (prefers-color-scheme: dark) {
  .graph text { fill: #e6edf3; } .graph .words { fill: #9198a1; } .graph .heading { fill: #c5ccd3; }
  .graph .page { fill: #0d1117; } .graph .task { fill: #161b22; stroke: #9198a1; }
  .graph .group { fill: #9198a1; fill-opacity: 0.1; stroke: #6e7681; }
  .graph .condition { stroke: #d29922; } .graph .group.condition { fill: #d29922; }
  .graph .loop { stroke: #a371f7; } .graph .group.loop { fill: #a371f7; }
  .graph .finally { stroke: #3fb950; } .graph .importer { stroke: #58a6ff; }
  .graph .line { stroke: #8b949e; } .graph .head { fill: #8b949e; }
  .graph .succeeded { stroke: #3fb950; } .graph .task.succeeded { fill: #0f2417; }
  .graph .failed { stroke: #ff8a80; } .graph .task.failed { fill: #331517; }
  .graph .running { stroke: #79c0ff; } .graph .task.running { fill: #0c2740; }
  .graph .canceled, .graph .canceling, .graph .paused { stroke: #e3b341; } .graph .task.canceled { fill: #2a2210; }
  .graph .skipped, .graph .omitted, .graph .waiting, .graph .pending { stroke: #6e7681; }
  .graph a:focus-visible rect { stroke: #6cb6ff; }
}
"""
"""The style sheet of a graph; a page whose Content-Security-Policy allows no inline styles serves it itself."""


def svg(
    graph: Graph,
    title: str,
    *,
    embedded: bool = False,
    states: Mapping[tuple[str, ...], str] | None = None,
    link: Callable[[Node], str] = lambda _: "",
    ids: str = "box-",
) -> str:
    """Draws a graph without scripts, for light and dark pages.

    Args:
        graph: The tasks.
        title: The description, for screen readers.
        embedded: Omit what a standalone document needs: background, `STYLE`, and the XML namespace.
        states: CSS classes of boxes by the path of their task, such as `failed`.
        link: Returns where the box of a task leads to; no link if empty.
        ids: Precedes the path of a task in the id of its link; unique among the graphs of a page.
    """
    drawing = _layout(graph)
    width = drawing.width * _WIDTH + 2 * _MARGIN
    height = drawing.height * _HEIGHT + 2 * _MARGIN
    size = f'width="{width}" height="{height}"'
    boxes = list(_boxes(drawing, states or {}, link, ids))
    role = "group" if any("<a " in box for box in boxes) else "img"
    namespace = "" if embedded else f' xmlns="{_NAMESPACE}"'
    alone = ["  <style>", indent(STYLE.rstrip(), "    "), "  </style>", f'  <rect class="page" {size} rx="8"/>']
    return "\n".join(
        [
            f'<svg{namespace} class="graph" {size} viewBox="0 0 {width} {height}" role="{role}">',
            f"  <title>{escape(one_line(title))}</title>",
            f"  <desc>{escape('. '.join(sentences(graph, DOCUMENT.mark)) or 'no tasks')}</desc>",
            *([] if embedded else alone),
            f'  <g transform="translate({_MARGIN} {_MARGIN})">',
            *boxes,
            *_lines(drawing),
            "  </g>",
            "</svg>\n",
        ]
    )


@lru_cache(maxsize=32)
def _layout(graph: Graph) -> Layout:
    """Lays a graph out; cached, as pages draw the same one again, and 300 tasks take half a second."""
    return layout(graph, DOCUMENT)


def _top_of(box: Box) -> float:
    """The upper edge of a box, in pixels."""
    return (box.y + _INSETS[box.is_group][0]) * _HEIGHT


def _bottom_of(box: Box) -> float:
    """The lower edge of a box, in pixels."""
    return (box.y + box.height - _INSETS[box.is_group][1]) * _HEIGHT


def _boxes(
    drawing: Layout, states: Mapping[tuple[str, ...], str], link: Callable[[Node], str], ids: str
) -> Iterator[str]:
    for box in drawing.boxes:
        kind = "group" if box.is_group else "task"
        closed = "closed" if box.node.is_closed else ""
        css_classes = " ".join(filter(None, (kind, closed, _CLASSES.get(box.node.kind), states.get(box.node.path))))
        if href := link(box.node):
            label = ", ".join((box.node.title, *box.node.details))
            name = escape(ids + "/".join(box.node.path), _QUOTE)
            yield f'    <a id="{name}" href="{escape(href, _QUOTE)}"><title>{escape(label)}</title>'
        yield (
            f'    <rect class="{escape(css_classes, _QUOTE)}" x="{(box.x + 0.5) * _WIDTH:g}" y="{_top_of(box):g}" '
            f'width="{(box.width - 1) * _WIDTH}" height="{_bottom_of(box) - _top_of(box):g}" rx="6"/>'
        )
        for number, line in enumerate(box.lines):
            x: float
            if box.is_group:
                x, y, style = (box.x + 2) * _WIDTH, _top_of(box) + 14 + number * _HEIGHT, 'class="heading" '
            else:
                x, y = (box.x + box.width / 2) * _WIDTH, (box.y + 1 + number) * _HEIGHT + 13.5
                style = 'class="words" ' if number else ""
            anchor = "" if box.is_group else ' text-anchor="middle"'
            yield f'    <text {style}x="{x:g}" y="{y:g}"{anchor}>{escape(line)}</text>'
        if href:
            yield "    </a>"


def _lines(drawing: Layout) -> Iterator[str]:
    """Draws each wire as one path, so that overlaps appear once, then the arrowheads."""
    pen = _Pen(drawing)
    for wire in drawing.wires:
        yield f'    <path class="line" d="{"".join(pen.path(wire, start, end) for start, end in _pairs(wire))}"/>'
    for end in (end for wire in drawing.wires for end in wire.ends if end.arrow):
        x, y = _x(end.x), pen.tip(end)
        yield f'    <path class="head" d="M{x - _HEAD / 2 - 0.5:g} {y - _HEAD:g}h{_HEAD + 1:g}L{x:g} {y:g}Z"/>'


def _x(column: int) -> float:
    return (column + 0.5) * _WIDTH


def _y(row: int) -> float:
    return (row + 0.5) * _HEIGHT


def _pairs(wire: Wire) -> Iterator[tuple[tuple[int, int], End]]:
    """Yields as many paths from a start to an end as are needed to show all lines."""
    starts, ends = sorted(wire.starts), sorted(wire.ends, key=lambda end: end.x)
    yield from ((start, ends[0]) for start in starts)
    if len(ends) > 1:
        yield from ((start, ends[-1]) for start in starts)
    for start in dict.fromkeys((starts[0], starts[-1])):
        yield from ((start, end) for end in ends[1:-1])


class _Pen:
    """Draws lines: rounded at corners, with a small bridge at crossings."""

    def __init__(self, drawing: Layout) -> None:
        self._tops: dict[tuple[int, int], float] = {}
        self._bottoms: dict[tuple[int, int], float] = {}
        for box in drawing.boxes:
            columns = range(box.x, box.x + box.width)
            self._tops.update(dict.fromkeys(((x, box.y - 1) for x in columns), _top_of(box)))
            self._bottoms.update(dict.fromkeys(((x, box.y + box.height - 1) for x in columns), _bottom_of(box)))
        # For each row with horizontal lines, the columns where vertical lines cross it.
        rows = sorted({wire.bus for wire in drawing.wires if wire.bus is not None})
        self._verticals: dict[int, list[int]] = {row: [] for row in rows}
        down = {way for wire in drawing.wires for way in _vertical_lines(wire)}
        for x, low, high in down:
            for row in rows[bisect_right(rows, low) : bisect_left(rows, high)]:
                self._verticals[row].append(x)
        self._verticals = {row: sorted(set(columns)) for row, columns in self._verticals.items()}

    def tip(self, end: End) -> float:
        """Where a line ends, including its head."""
        return self._tops[end.x, end.y] if end.arrow else _y(end.y)

    def path(self, wire: Wire, start: tuple[int, int], end: End) -> str:
        left, right = _x(start[0]), _x(end.x)
        first_y = self._bottoms.get(start, _y(start[1]))
        last_y = self.tip(end) - (_HEAD - 1 if end.arrow else 0)
        if wire.bus is None or start[0] == end.x:
            return f"M{left:g} {first_y:g}V{last_y:g}"
        level, way = _y(wire.bus), 1 if right > left else -1
        first = min(_CORNER, level - first_y)
        last = min(_CORNER, max(last_y - level, 0))
        columns = self._verticals[wire.bus]
        low, high = sorted((start[0], end.x))
        crossed = columns[bisect_right(columns, low) : bisect_left(columns, high)][::way]
        bridges = "".join(
            f"H{_x(column) - way * _BRIDGE:g}a{_BRIDGE:g} {_BRIDGE:g} 0 0 {int(way > 0)} {way * 2 * _BRIDGE:g} 0"
            for column in crossed
        )
        return (
            f"M{left:g} {first_y:g}V{level - first:g}q0 {first:g} {way * first:g} {first:g}{bridges}"
            f"H{right - way * last:g}q{way * last:g} 0 {way * last:g} {last:g}V{last_y:g}"
        )


def _vertical_lines(wire: Wire) -> Iterator[tuple[int, int, int]]:
    if wire.bus is None:
        yield wire.starts[0][0], wire.starts[0][1], wire.ends[0].y
        return
    yield from ((x, y, wire.bus) for x, y in wire.starts)
    yield from ((end.x, wire.bus, end.y) for end in wire.ends)
