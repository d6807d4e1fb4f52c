"""The rows of a part: boxes and lines that pass, how wide each is, and where it stands."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.graph.columns import Row, columns
from kfadapter_grpc.graph.crossings import untangled
from kfadapter_grpc.graph.layers import GAP
from kfadapter_grpc.graph.nets import nets
from kfadapter_grpc.graph.ports import width_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kfadapter_grpc.graph.lanes import Lanes

LANE_GAP = 1
"""Cells beside a line that passes a row."""


@dataclass(frozen=True, slots=True)
class Size:
    """Columns and rows of a box."""

    width: int
    height: int


class Plan:
    """The rows of a part.

    Attributes:
        lanes: The items: boxes, and lines that pass.
        rows: The items of each row, from left to right.
        passing: The items that are passing lines.
        nets: The lines below each row.
        entering: How many nets enter each item.
        widths: How wide each item is; all are odd.
        middles: The column of each item's middle, once they have places.
        columns: How many columns the rows take then.
    """

    def __init__(self, found: Lanes, sizes: Mapping[int, Size]) -> None:
        self._sizes = sizes
        self.lanes = found
        self.rows = found.rows
        self.passing = frozenset(item for item, node in enumerate(found.nodes) if node is None)
        self.nets = [nets(links, self.passing) for links in found.links]
        self.entering = Counter(item for channel in self.nets for net in channel for item in net.bottoms)
        leaving = Counter(item for channel in self.nets for net in channel for item in net.tops)
        self.widths = {
            item: self._width(node, max(self.entering[item], leaving[item])) for item, node in enumerate(found.nodes)
        }
        self.middles: dict[int, int] = {}
        self.columns = 0

    @property
    def width(self) -> int:
        """The least width of all rows."""
        return max(self._row(row).width for row in self.rows)

    def _width(self, node: int | None, ports: int) -> int:
        return width_for(ports) if node is None else max(width_for(ports) + 2, self._sizes[node].width)

    def height(self, item: int) -> int:
        """Tells how many rows of cells an item takes."""
        node = self.lanes.nodes[item]
        return 1 if node is None else self._sizes[node].height

    def _row(self, items: Sequence[int]) -> Row:
        halves = [self.widths[item] // 2 for item in items]
        steps = [halves[0]]
        for place in range(1, len(items)):
            lane = items[place] in self.passing or items[place - 1] in self.passing
            steps.append(halves[place - 1] + halves[place] + 1 + (LANE_GAP if lane else GAP))
        return Row(tuple(items), tuple(steps), halves[-1])

    def place(self, limit: int) -> None:
        """Orders the items of each row, and gives them columns."""
        self.rows = untangled(self.lanes)
        self.middles = columns([self._row(row) for row in self.rows], self.lanes.links, self.passing, limit)
        self.columns = max(middle + self.widths[item] // 2 for item, middle in self.middles.items()) + 1

    def reach(self, item: int) -> int:
        """Tells how far from its middle lines may enter or leave an item."""
        return self.widths[item] // 2 - (item not in self.passing)

    def is_merged(self, item: int) -> bool:
        """Tells whether several nets enter a passing line."""
        return item in self.passing and self.entering[item] > 1
