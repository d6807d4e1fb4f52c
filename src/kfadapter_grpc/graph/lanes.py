"""Lines that pass layers: where one crosses a layer, it takes a place there as a box does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.graph.layers import Edge

Link = tuple[int, int]
"""A line from an item to one of the row below."""


@dataclass(slots=True)
class Lanes:
    """The rows of a part.

    Attributes:
        nodes: For each item the node it is, or None for a line that passes.
        rows: The items of each row.
        links: The lines below each row.
    """

    nodes: list[int | None] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    links: list[list[Link]] = field(default_factory=list)

    def add(self, node: int | None, row: int) -> int:
        """Adds an item to a row."""
        self.nodes.append(node)
        self.rows[row].append(len(self.nodes) - 1)
        return len(self.nodes) - 1


def lanes(layers: Sequence[Sequence[int]], edges: Sequence[Edge]) -> Lanes:
    """Lets lines pass layers.

    Lines that still go to the same nodes become one where they pass, whatever they come from: each of their sources
    has all of these edges, so nobody can read an edge out of it that is not there.
    """
    made = Lanes(rows=[[] for _ in layers], links=[[] for _ in layers])
    items = {node: made.add(node, row) for row, layer in enumerate(layers) for node in layer}
    goals: dict[int, int] = dict.fromkeys(items, 0)  # sets of nodes, as bits
    for up, down in edges:
        goals[up] |= 1 << down
    passing: dict[int, int] = {}
    for row in range(len(layers) - 1):
        carriers = [(items[node], goals[node]) for node in layers[row] if goals[node]]
        carriers += [(item, goal) for goal, item in passing.items()]
        passing = _pass(made, row, carriers, {node: items[node] for node in layers[row + 1]})
    return made


def _pass(made: Lanes, row: int, carriers: Sequence[tuple[int, int]], below: dict[int, int]) -> dict[int, int]:
    """Links the items of a row to those below; tells the lines that pass on, by the nodes they go to."""
    passing: dict[int, int] = {}
    reached = sum(1 << node for node in below)
    for carrier, goal in carriers:
        made.links[row] += [(carrier, item) for node, item in below.items() if goal >> node & 1]
        if rest := goal & ~reached:
            if rest not in passing:
                passing[rest] = made.add(None, row + 1)
            made.links[row].append((carrier, passing[rest]))
    return passing
