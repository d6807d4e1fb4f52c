"""The place of boxes that hang together, and the lines between them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kfadapter_grpc.graph.lanes import lanes
from kfadapter_grpc.graph.layers import GAP, layers
from kfadapter_grpc.graph.plan import LANE_GAP, Plan
from kfadapter_grpc.graph.ports import pins
from kfadapter_grpc.graph.tracks import tracks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kfadapter_grpc.graph.lanes import Lanes
    from kfadapter_grpc.graph.layers import Edge
    from kfadapter_grpc.graph.nets import Net
    from kfadapter_grpc.graph.plan import Size
    from kfadapter_grpc.graph.tracks import Run

_RESERVES = (0, 6, 12, 24, 40)
"""How many columns of a row are tried to be left to lines that pass."""


class TooWideError(Exception):
    """A part does not fit into the width that it must fit into."""


@dataclass(frozen=True, slots=True)
class End:
    """Where a line ends: in a box, with an arrow head, or in the line that goes on from there."""

    x: int
    y: int
    arrow: bool


@dataclass(frozen=True, slots=True)
class Wire:
    """Lines from each of several places down to each of others.

    Attributes:
        starts: Column and row where they begin: the lower border of a box, or the end of another wire.
        bus: The row in which they run across; without one there is one start and, straight below, one end.
        ends: Where they end.
    """

    starts: tuple[tuple[int, int], ...]
    bus: int | None
    ends: tuple[End, ...]

    def moved(self, x: int, y: int) -> Wire:
        """Moves it to another place."""
        return Wire(
            tuple((column + x, row + y) for column, row in self.starts),
            None if self.bus is None else self.bus + y,
            tuple(replace(end, x=end.x + x, y=end.y + y) for end in self.ends),
        )


@dataclass(slots=True)
class Placed:
    """What became of a part.

    Attributes:
        corners: The upper left corner of each node's box.
        widths: How wide each box has to be.
        wires: The lines.
        width: How wide all is.
        height: How high all is.
    """

    corners: dict[int, tuple[int, int]] = field(default_factory=dict)
    widths: dict[int, int] = field(default_factory=dict)
    wires: tuple[Wire, ...] = ()
    width: int = 0
    height: int = 0


def placed_part(
    nodes: Sequence[int], edges: Sequence[Edge], sizes: Mapping[int, Size], limit: int, *, must_fit: bool
) -> Placed:
    """Places boxes and lines.

    Args:
        nodes: Nodes that hang together.
        edges: The edges between them.
        sizes: How large their boxes are; widths are odd.
        limit: How wide all should become.
        must_fit: Whether it is of no use if it becomes wider.

    Raises:
        TooWideError: It must fit and does not.
    """
    found = _layered(nodes, edges, sizes, limit)
    if must_fit and _widest(found, sizes, LANE_GAP) > limit:
        raise TooWideError
    plan = Plan(found, sizes)
    if must_fit and plan.width > limit:
        raise TooWideError
    plan.place(limit)
    return _Drawing(plan).placed()


def _layered(nodes: Sequence[int], edges: Sequence[Edge], sizes: Mapping[int, Size], limit: int) -> Lanes:
    """Puts nodes into rows that fit, together with the lines that pass them, if there is a way."""
    widths = {node: size.width for node, size in sizes.items()}
    for reserve in _RESERVES:
        found = lanes(layers(nodes, edges, widths, limit - reserve), edges)
        if _widest(found, sizes, GAP) <= limit:
            break
    return found


def _widest(found: Lanes, sizes: Mapping[int, Size], gap: int) -> int:
    """Tells how wide the widest row is, if each line that passes takes one column, and each box a gap."""
    widths = [1 + LANE_GAP if node is None else sizes[node].width + gap for node in found.nodes]
    return max(sum(widths[item] for item in row) for row in found.rows) - gap


class _Drawing:
    """A part whose rows are drawn from top to bottom, with the lines below each."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._wires: list[Wire] = []
        self._tops: list[int] = []
        y = 0
        for number, row in enumerate(plan.rows):
            self._tops.append(y)
            self._merge(number, y)
            y += max(plan.height(item) for item in row)
            y += self._channel(number, y) if number < len(plan.nets) else 0
        self._height = y

    def _merge(self, number: int, y: int) -> None:
        """Joins the lines that enter one passing line."""
        for item in self._plan.rows[number]:
            if self._plan.is_merged(item):
                half = self._plan.widths[item] // 2
                middle = self._plan.middles[item]
                starts = tuple((column, y - 1) for column in range(middle - half, middle + half + 1, 2))
                self._wires.append(Wire(starts, y, (End(middle, y, arrow=False),)))

    def _channel(self, number: int, y: int) -> int:
        """Draws the lines between two rows; tells how many rows of cells they take."""
        channel = self._plan.nets[number]
        reach = {item: self._plan.reach(item) for row in self._plan.rows[number : number + 2] for item in row}
        found = pins(channel, self._plan.middles, reach, self._plan.passing)
        runs = tracks(found, self._plan.columns)
        arrows = y + max((row + 1 for _, row in runs), default=0)
        levels = {(run.net, run.from_run): y + row for run, row in runs}
        for run, _ in runs:
            self._wires.append(self._run(number, run, levels, arrows))
        for place, (net, pin) in enumerate(zip(channel, found, strict=True)):
            if (place, False) not in levels:
                starts, ends = self._starts(number, net, pin.tops), self._ends(net, pin.bottoms, arrows)
                self._wires.append(Wire(starts, None, ends))
        return arrows - y + 1 if channel else 0

    def _run(self, number: int, run: Run, levels: Mapping[tuple[int, bool], int], arrows: int) -> Wire:
        """Draws a net that runs across, or the half of one."""
        net = self._plan.nets[number][run.net]
        if run.from_run:
            starts: tuple[tuple[int, int], ...] = ((run.tops[0], levels[run.net, True]),)
        else:
            starts = self._starts(number, net, run.tops)
        if run.to_run:
            ends: tuple[End, ...] = (End(run.bottoms[0], levels[run.net, True], arrow=False),)
        else:
            ends = self._ends(net, run.bottoms, arrows)
        return Wire(starts, levels[run.net, run.from_run], ends)

    def _starts(self, number: int, net: Net, columns: Sequence[int]) -> tuple[tuple[int, int], ...]:
        return tuple(
            (column, self._tops[number] + self._foot(item)) for item, column in zip(net.tops, columns, strict=True)
        )

    def _foot(self, item: int) -> int:
        """Tells in which row of an item lines begin: in a box's lower border, or where a passing line came in."""
        if item in self._plan.passing:
            return 0 if self._plan.is_merged(item) else -1
        return self._plan.height(item) - 1

    def _ends(self, net: Net, columns: Sequence[int], y: int) -> tuple[End, ...]:
        return tuple(
            End(column, y, arrow=item not in self._plan.passing)
            for item, column in zip(net.bottoms, columns, strict=True)
        )

    def placed(self) -> Placed:
        """Tells the places, with nothing left of the first column."""
        found = Placed(height=self._height)
        for number, row in enumerate(self._plan.rows):
            for item in row:
                node = self._plan.lanes.nodes[item]
                if node is not None:
                    found.corners[node] = (self._plan.middles[item] - self._plan.widths[item] // 2, self._tops[number])
                    found.widths[node] = self._plan.widths[item]
        return _trimmed(found, self._wires)


def _trimmed(found: Placed, wires: Sequence[Wire]) -> Placed:
    """Cuts off empty columns."""
    edges = [(x, x + found.widths[node] - 1) for node, (x, _) in found.corners.items()]
    edges += [(x, x) for wire in wires for x in (*(x for x, _ in wire.starts), *(end.x for end in wire.ends))]
    left = min(low for low, _ in edges)
    found.width = max(high for _, high in edges) - left + 1
    found.corners = {node: (x - left, y) for node, (x, y) in found.corners.items()}
    found.wires = tuple(wire.moved(-left, 0) for wire in wires)
    return found
