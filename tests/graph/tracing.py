"""Reads a drawing by following its lines from box to box, always down or sideways, never up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.graph.text import UNICODE, draw

if TYPE_CHECKING:
    from kfadapter_grpc.graph.layout import Box, Layout
    from kfadapter_grpc.graph.model import Graph

Move = tuple[int, int]
Edge = tuple[str, str]
UP, RIGHT, DOWN, LEFT = (0, -1), (1, 0), (0, 1), (-1, 0)
_BACK = {UP: DOWN, RIGHT: LEFT, DOWN: UP, LEFT: RIGHT}
_LEADS: dict[str, set[Move]] = {
    "│": {UP, DOWN}, "─": {LEFT, RIGHT}, "└": {UP, RIGHT}, "┘": {UP, LEFT}, "┌": {DOWN, RIGHT}, "┐": {DOWN, LEFT},
    "├": {UP, DOWN, RIGHT}, "┤": {UP, DOWN, LEFT}, "┴": {UP, LEFT, RIGHT}, "┬": {DOWN, LEFT, RIGHT},
    "┼": {UP, DOWN, LEFT, RIGHT},
}  # fmt: skip


def edges_of(graph: Graph) -> set[Edge]:
    """Names the edges of a graph and of its groups, by titles."""
    own = {(graph.nodes[up].title, graph.nodes[down].title) for up, down in graph.edges}
    return own.union(*(edges_of(node.inside) for node in graph.nodes))


def edges_seen(found: Layout) -> set[Edge]:
    """Names the edges that the lines of a drawing show. Titles must be in ASCII: each character is a cell."""
    lines = [line.ljust(found.width) for line in draw(found, UNICODE)]
    return {(box.node.title, title) for box in found.boxes for title in _from(box, lines, found)}


def _from(box: Box, lines: list[str], found: Layout) -> set[str]:
    """Follows all lines that leave a box."""
    bottom = box.y + box.height - 1
    waiting = [(x, bottom, DOWN) for x in range(box.x, box.x + box.width) if lines[bottom][x] == "┬"]
    seen, reached = set(waiting), set()
    while waiting:
        x, y, move = waiting.pop()
        x, y = x + move[0], y + move[1]
        char = lines[y][x]
        if char == UNICODE.arrow:
            reached.add(_below(x, y, found))
            continue
        new = {(x, y, leaving) for leaving in _ways_on(char, move)} - seen
        seen |= new
        waiting += new
    return reached


def _ways_on(char: str, move: Move) -> set[Move]:
    if char == "│" and move in (LEFT, RIGHT):
        return {move}  # it passes below the vertical line
    leads = _LEADS[char]
    assert _BACK[move] in leads, f"a line ends at {char!r}"
    return leads - {_BACK[move], UP}


def _below(x: int, y: int, found: Layout) -> str:
    (box,) = [box for box in found.boxes if box.y == y + 1 and box.x < x < box.x + box.width - 1]
    return box.node.title
