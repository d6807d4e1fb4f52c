"""Positions every box and line in terminal cells; nested boxes are laid out from the inside out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len

from kfadapter_grpc.graph.columns import Size
from kfadapter_grpc.graph.model import Graph, Node, truncate_middle, wrap_few
from kfadapter_grpc.graph.part import Wire, placed_part
from kfadapter_grpc.graph.rows import GAP, parts

FRAME = 4
"""The cells that a box needs in width beyond its contents."""
_TITLE_FRAME = 6
_MIN_LABEL = 3


@dataclass(frozen=True, slots=True)
class Fit:
    """The space for a layout: `label` is the maximum width of text in a box; if it `must_fit`, no wider one is made."""

    width: int
    label: int
    mark: str = "…"
    must_fit: bool = False

    @property
    def inside(self) -> Fit:
        return replace(self, width=self.width - FRAME)

    @property
    def label_width(self) -> int:
        return max(min(self.label, self.width - FRAME), _MIN_LABEL)


DOCUMENT = Fit(width=150, label=60)
"""The preferred size of a picture in a document."""


@dataclass(frozen=True, slots=True)
class Box:
    """A positioned box.

    Attributes:
        width: In columns, including borders.
        lines: Its lines of text; the first line of a group is in the upper border.
        depth: The number of boxes around it.
    """

    x: int
    y: int
    width: int
    height: int
    lines: tuple[str, ...]
    node: Node
    depth: int = 0

    @property
    def is_group(self) -> bool:
        return bool(self.node.inside.nodes)


@dataclass(frozen=True, slots=True)
class Layout:
    """Boxes, outer ones first, and lines."""

    width: int = 0
    height: int = 0
    boxes: tuple[Box, ...] = ()
    wires: tuple[Wire, ...] = ()

    def moved(self, x: int, y: int, deeper: int = 0) -> Layout:
        boxes = tuple(replace(box, x=box.x + x, y=box.y + y, depth=box.depth + deeper) for box in self.boxes)
        return replace(self, boxes=boxes, wires=tuple(wire.moved(x, y) for wire in self.wires))


def layout(graph: Graph, fit: Fit) -> Layout:
    """Lays a graph out. If it must fit and does not, raises TooWideError; else it may become wider than `fit`."""
    drawn = [_node_layout(node, fit) for node in graph.nodes]
    laid_out = []
    for part in parts(len(graph.nodes), graph.edges):
        inside = set(part)
        edges = [edge for edge in graph.edges if edge[0] in inside] if len(part) > 1 else []
        laid_out.append(_part_layout(part, edges, drawn, fit))
    return _shelved(laid_out, fit.width)


def in_order(graph: Graph, fit: Fit) -> Graph:
    """Sorts tasks by the position of their boxes in a layout: from top to bottom, then from left to right."""
    places = {id(box.node): (box.y, box.x) for box in layout(graph, fit).boxes}
    return _sorted(graph, places)


def _sorted(graph: Graph, places: Mapping[int, tuple[int, int]]) -> Graph:
    order = sorted(range(len(graph.nodes)), key=lambda number: places[id(graph.nodes[number])])
    new = {old: number for number, old in enumerate(order)}
    nodes = [replace(graph.nodes[old], inside=_sorted(graph.nodes[old].inside, places)) for old in order]
    return replace(graph, nodes=tuple(nodes), edges=tuple(sorted((new[up], new[down]) for up, down in graph.edges)))


def _node_layout(node: Node, fit: Fit) -> Layout:
    """Lays out one box with its contents, at the origin; its width is odd.

    The description of a group is in its border, or below it if too long.
    """
    if not node.inside.nodes:
        lines = _label(node, fit.label_width, fit)
        return _box_layout(Box(0, 0, (max(map(cell_len, lines)) + FRAME) | 1, len(lines) + 2, lines, node))
    inner = layout(node.inside, fit.inside)
    label_width = max(min(fit.width - _TITLE_FRAME - 1, fit.label), _MIN_LABEL)
    heading = f"{node.title}: {', '.join(node.details)}" if node.details else node.title
    lines = (heading,) if cell_len(heading) <= label_width else _label(node, label_width, fit)
    width = max(inner.width + FRAME, max(map(cell_len, lines)) + _TITLE_FRAME) | 1
    box = Box(0, 0, width, inner.height + len(lines) + 1, lines, node)
    return _joined([_box_layout(box), inner.moved((width - inner.width) // 2, len(lines), deeper=1)])


def _label(node: Node, label_width: int, fit: Fit) -> tuple[str, ...]:
    wrapped = (line for word in node.details for line in wrap_few(word, label_width, fit.mark))
    return (truncate_middle(node.title, label_width, fit.mark), *wrapped)


def _box_layout(box: Box) -> Layout:
    return Layout(box.width, box.height, (box,))


def _part_layout(part: Sequence[int], edges: Sequence[tuple[int, int]], drawn: Sequence[Layout], fit: Fit) -> Layout:
    """Lays out connected nodes."""
    sizes = {node: Size(drawn[node].boxes[0].width, drawn[node].height) for node in part}
    placed = placed_part(part, edges, sizes, fit.width, must_fit=fit.must_fit)
    moved = [_widened(drawn[node], placed.widths[node]).moved(*placed.corners[node]) for node in part]
    joined = _joined([*moved, Layout(wires=placed.wires)])
    return replace(joined, width=placed.width, height=placed.height)


def _widened(drawn: Layout, width: int) -> Layout:
    """Widens a box, as needed for many lines."""
    box, *rest = drawn.boxes
    if box.width >= width:
        return drawn
    inside = replace(drawn, boxes=tuple(rest)).moved((width - box.width) // 2, 0)
    return _joined([_box_layout(replace(box, width=width)), inside])


def _joined(some: Iterable[Layout]) -> Layout:
    kept = list(some)
    return Layout(
        max(part.width for part in kept),
        max(part.height for part in kept),
        tuple(box for part in kept for box in part.boxes),
        tuple(wire for part in kept for wire in part.wires),
    )


def _shelved(layouts: Sequence[Layout], limit: int) -> Layout:
    """Places parts side by side while they fit, then below."""
    x = y = height = 0
    placed = [Layout()]
    for part in layouts:
        if x and x + part.width > limit:
            x, y = 0, y + height
            height = 0
        placed.append(replace(part.moved(x, y), width=x + part.width, height=y + part.height))
        x, height = x + part.width + GAP, max(height, part.height)
    return _joined(placed)
