"""The picture as SVG: the same places as in the terminal, with each cell some pixels wide and high."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from kfadapter_grpc.contract.spec import TaskKind
from kfadapter_grpc.graph.layout import DOCUMENT, layout
from kfadapter_grpc.graph.outline import sentences
from kfadapter_grpc.graph.strokes import strokes
from kfadapter_grpc.graph.words import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.graph.layout import Box, Layout
    from kfadapter_grpc.graph.model import Graph

CELL_WIDTH = 8
"""Pixels; a character of 13 pixels in a monospaced font is 7.8 wide."""
CELL_HEIGHT = 18
MARGIN = 16
_NAMESPACE = "http://www.w3.org/2000/svg"
_INSETS = {False: (0.3, 0.3), True: (0.1, 0.35)}
"""How much of its first and last row a box leaves free: one task, and a group."""
_CLASSES = {
    TaskKind.CONDITION: "condition",
    TaskKind.LOOP: "loop",
    TaskKind.EXIT_HANDLER: "finally",
    TaskKind.IMPORTER: "importer",
}
_STYLE = """\
  <style>
    text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", D2Coding,
      "Noto Sans Mono CJK KR", "Noto Sans CJK KR", "Noto Sans KR", "Apple SD Gothic Neo", "Malgun Gothic",
      monospace; fill: #1f2328; }
    text.words { font-size: 11px; fill: #57606a; }
    text.heading { font-size: 12px; fill: #424a53; }
    .page { fill: #ffffff; }
    .task { fill: #ffffff; stroke: #57606a; stroke-width: 1.2; }
    .group { fill: #57606a; fill-opacity: 0.06; stroke: #8c959f; }
    .condition { stroke: #bf8700; } .group.condition { fill: #bf8700; }
    .loop { stroke: #8250df; } .group.loop { fill: #8250df; }
    .finally { stroke: #1a7f37; stroke-dasharray: 5 3; }
    .importer { stroke: #0969da; }
    .line { fill: none; stroke: #6e7781; stroke-width: 1.4; stroke-linecap: round; }
    .head { fill: #6e7781; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; } text.words { fill: #9198a1; } text.heading { fill: #c5ccd3; }
      .page { fill: #0d1117; } .task { fill: #161b22; stroke: #9198a1; }
      .group { fill: #9198a1; fill-opacity: 0.1; stroke: #6e7681; }
      .condition { stroke: #d29922; } .group.condition { fill: #d29922; }
      .loop { stroke: #a371f7; } .group.loop { fill: #a371f7; }
      .finally { stroke: #3fb950; } .importer { stroke: #58a6ff; }
      .line { stroke: #8b949e; } .head { fill: #8b949e; }
    }
  </style>"""


def svg(graph: Graph, title: str) -> str:
    """Draws a graph as a document of its own, without scripts, for light and dark pages.

    Args:
        graph: The tasks.
        title: What the picture shows, for those who do not see it.
    """
    found = layout(graph, DOCUMENT)
    width = found.width * CELL_WIDTH + 2 * MARGIN
    height = found.height * CELL_HEIGHT + 2 * MARGIN
    return "\n".join(
        [
            f'<svg xmlns="{_NAMESPACE}" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">',
            f"  <title>{escape(one_line(title))}</title>",
            f"  <desc>{escape('. '.join(sentences(graph, DOCUMENT.mark)) or 'no tasks')}</desc>",
            _STYLE,
            f'  <rect class="page" width="{width}" height="{height}" rx="8"/>',
            f'  <g transform="translate({MARGIN} {MARGIN})">',
            *_boxes(found),
            *_lines(found),
            "  </g>",
            "</svg>\n",
        ]
    )


def top_of(box: Box) -> float:
    """Tells where a box begins, in pixels."""
    return (box.y + _INSETS[box.is_group][0]) * CELL_HEIGHT


def bottom_of(box: Box) -> float:
    """Tells where a box ends, in pixels."""
    return (box.y + box.height - _INSETS[box.is_group][1]) * CELL_HEIGHT


def _boxes(found: Layout) -> Iterator[str]:
    for box in found.boxes:
        kind = "group" if box.is_group else "task"
        classes = " ".join(name for name in (kind, _CLASSES.get(box.node.kind, "")) if name)
        yield (
            f'    <rect class="{classes}" x="{(box.x + 0.5) * CELL_WIDTH:g}" y="{top_of(box):g}" '
            f'width="{(box.width - 1) * CELL_WIDTH}" height="{bottom_of(box) - top_of(box):g}" rx="6"/>'
        )
        yield from _heading(box) if box.is_group else _words(box)


def _heading(box: Box) -> Iterator[str]:
    for number, line in enumerate(box.lines):
        x, y = (box.x + 2) * CELL_WIDTH, top_of(box) + 14 + number * CELL_HEIGHT
        yield f'    <text class="heading" x="{x}" y="{y:g}">{escape(line)}</text>'


def _words(box: Box) -> Iterator[str]:
    for number, line in enumerate(box.lines):
        x, y = (box.x + box.width / 2) * CELL_WIDTH, (box.y + 1 + number) * CELL_HEIGHT + 13.5
        kind = ' class="words"' if number else ""
        yield f'    <text{kind} x="{x:g}" y="{y:g}" text-anchor="middle">{escape(line)}</text>'


def _lines(found: Layout) -> Iterator[str]:
    tops = {(x, box.y - 1): top_of(box) for box in found.boxes for x in range(box.x, box.x + box.width)}
    bottoms = {
        (x, box.y + box.height - 1): bottom_of(box) for box in found.boxes for x in range(box.x, box.x + box.width)
    }
    drawn = strokes(found.wires, tops, bottoms, (CELL_WIDTH, CELL_HEIGHT))
    yield from (f'    <path class="line" d="{path}"/>' for path in drawn.paths)
    yield from (f'    <path class="head" d="{path}"/>' for path in drawn.heads)
