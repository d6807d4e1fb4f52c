"""Positions connected boxes, and the lines between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kfadapter_grpc.graph.columns import LANE_GAP, Pins, Plan, Size, pins
from kfadapter_grpc.graph.rows import GAP, Edge, Lanes, lanes, layers

_FEW = 24
"""The maximum number of nets whose order is optimized for few crossings."""


@dataclass(frozen=True, slots=True)
class Trunk:
    """The horizontal part of a net, or of a half of a split net, in one row.

    Attributes:
        tops: The columns where it is entered from above.
        bottoms: The columns where it goes down.
        from_trunk: Whether it continues another trunk of its net, at its only top.
        to_trunk: Whether another trunk of its net continues it, at its only bottom.
    """

    net: int
    tops: tuple[int, ...]
    bottoms: tuple[int, ...]
    from_trunk: bool = False
    to_trunk: bool = False

    @property
    def low(self) -> int:
        return min(self.tops + self.bottoms)

    @property
    def high(self) -> int:
        return max(self.tops + self.bottoms)

    def crossed_above(self, lower: Trunk) -> int:
        return sum(self.low <= column <= self.high for column in lower.tops) + sum(
            lower.low <= column <= lower.high for column in self.bottoms
        )


def _tracks(pins: Sequence[Pins], width: int) -> list[tuple[Trunk, int]]:
    """Assigns a row, from 0, to each net that is not straight; a net in a cycle with others gets two.

    `width` is the number of columns; one more on the right may be used.
    """
    trunks = [Trunk(net, *pin) for net, pin in enumerate(pins) if len({*pin.tops, *pin.bottoms}) > 1]
    used = {column for pin in pins for column in pin.tops + pin.bottoms}
    placed: list[tuple[Trunk, int]] = []
    for trunk in _ordered(trunks, used, width):
        touching = (at for other, at in placed if trunk.low - 1 <= other.high and other.low - 1 <= trunk.high)
        placed.append((trunk, max(touching, default=-1) + 1))
    return placed


def _ordered(trunks: Sequence[Trunk], used: set[int], width: int) -> list[Trunk]:
    """Orders the trunks from top to bottom.

    A trunk that ends in a column must be above the one that begins there. If that is a cycle, one trunk is
    split; no other trunk depends on its lower half, so each is split at most once.
    """
    waiting = list(trunks)
    entering = {column: trunk for trunk in trunks for column in trunk.tops}
    ordered = []
    while waiting:
        free = [trunk for trunk in waiting if all(entering.get(column, trunk) is trunk for column in trunk.bottoms)]
        if free:
            # With many nets, crossings are not minimized.
            chosen = min(free, key=lambda trunk: _added_crossings(trunk, waiting)) if len(waiting) <= _FEW else free[0]
            waiting.remove(chosen)
        else:
            whole = next(trunk for trunk in waiting if not trunk.from_trunk)
            chosen, lower = _split(whole, used, width)
            waiting[waiting.index(whole)] = lower
        ordered.append(chosen)
        for column in chosen.tops:
            entering.pop(column, None)
    return ordered


def _added_crossings(trunk: Trunk, others: Sequence[Trunk]) -> int:
    """Counts the crossings of a trunk with others if it is above them, minus those if it is below."""
    return sum(trunk.crossed_above(other) - other.crossed_above(trunk) for other in others)


def _split(trunk: Trunk, used: set[int], width: int) -> tuple[Trunk, Trunk]:
    """Splits a trunk at a free column, so that its upper half depends on no other."""
    middle = (trunk.low + trunk.high) // 2
    free = [column for column in range(width) if column not in used]
    column = min(free, key=lambda column: abs(column - middle), default=max(used) + 1)
    used.add(column)
    upper = Trunk(trunk.net, trunk.tops, (column,), from_trunk=trunk.from_trunk, to_trunk=True)
    return upper, Trunk(trunk.net, (column,), trunk.bottoms, from_trunk=True, to_trunk=trunk.to_trunk)


_RESERVES = (0, 6, 12, 24, 40)
"""The numbers of columns to try to reserve for passing lines."""


class TooWideError(Exception):
    """A part does not fit into the required width."""


@dataclass(frozen=True, slots=True)
class End:
    """Where a line ends: in a box, with an arrowhead, or in the line that continues it."""

    x: int
    y: int
    arrow: bool


@dataclass(frozen=True, slots=True)
class Wire:
    """Lines from each of several starts down to each of several ends.

    Attributes:
        starts: Column and row where they begin: the lower border of a box, or the end of another wire.
        bus: The row of their horizontal part; if None there is one start and, straight below, one end.
    """

    starts: tuple[tuple[int, int], ...]
    bus: int | None
    ends: tuple[End, ...]

    def moved(self, x: int, y: int) -> Wire:
        return Wire(
            tuple((column + x, row + y) for column, row in self.starts),
            None if self.bus is None else self.bus + y,
            tuple(replace(end, x=end.x + x, y=end.y + y) for end in self.ends),
        )


@dataclass(slots=True)
class Placed:
    """A positioned part, with the upper left corners of its nodes' boxes."""

    corners: dict[int, tuple[int, int]] = field(default_factory=dict)
    widths: dict[int, int] = field(default_factory=dict)
    wires: tuple[Wire, ...] = ()
    width: int = 0
    height: int = 0


def placed_part(
    nodes: Sequence[int], edges: Sequence[Edge], sizes: Mapping[int, Size], limit: int, *, must_fit: bool
) -> Placed:
    """Positions boxes and lines. Raises TooWideError if it must fit and does not."""
    lanes = _layered(nodes, edges, sizes, limit)
    if must_fit and _widest(lanes, sizes, LANE_GAP) > limit:
        raise TooWideError
    plan = Plan(lanes, sizes)
    if must_fit and plan.width > limit:
        raise TooWideError
    plan.place(limit)
    return _drawn(plan)


def _layered(nodes: Sequence[int], edges: Sequence[Edge], sizes: Mapping[int, Size], limit: int) -> Lanes:
    """Puts nodes and the lines that pass them into rows that fit, if possible."""
    widths = {node: size.width for node, size in sizes.items()}
    for reserve in _RESERVES:
        layered = lanes(layers(nodes, edges, widths, limit - reserve), edges)
        if _widest(layered, sizes, GAP) <= limit:
            break
    return layered


def _widest(lanes: Lanes, sizes: Mapping[int, Size], gap: int) -> int:
    """The width of the widest row, if each passing line takes one column, and each box a gap."""
    widths = [1 + LANE_GAP if node is None else sizes[node].width + gap for node in lanes.nodes]
    return max(sum(widths[item] for item in row) for row in lanes.rows) - gap


def _drawn(plan: Plan) -> Placed:
    """Draws rows from top to bottom, with the lines below each, and nothing to the left of the first column."""
    placed, wires, y = Placed(), list[Wire](), 0
    for number, row in enumerate(plan.rows):
        top = y
        for item in row:
            node, middle, width = plan.lanes.nodes[item], plan.middles[item], plan.widths[item]
            left = middle - width // 2
            if node is not None:
                placed.corners[node], placed.widths[node] = (left, top), width
            elif plan.is_merged(item):
                starts = tuple((column, top - 1) for column in range(left, left + width, 2))
                wires.append(Wire(starts, top, (End(middle, top, arrow=False),)))
        y += max(map(plan.height, row))
        if number < len(plan.nets) and plan.nets[number]:
            below, y = _channel(plan, number, top, y)
            wires += below
    edges = [(x, x + placed.widths[node] - 1) for node, (x, _) in placed.corners.items()]
    edges += [(x, x) for wire in wires for x in (*(x for x, _ in wire.starts), *(end.x for end in wire.ends))]
    first = min(low for low, _ in edges)
    placed.width, placed.height = max(high for _, high in edges) - first + 1, y
    placed.corners = {node: (x - first, y) for node, (x, y) in placed.corners.items()}
    placed.wires = tuple(wire.moved(-first, 0) for wire in wires)
    return placed


def _channel(plan: Plan, number: int, top: int, y: int) -> tuple[list[Wire], int]:
    """Draws the lines between two rows of a plan, of which `number` is the upper one.

    In rows of cells: that row begins at `top`, the lines at `y`. Returns them, and where the lower row begins.
    """
    channel = plan.nets[number]
    reach = {item: plan.reach(item) for row in plan.rows[number : number + 2] for item in row}
    all_pins = pins(channel, plan.middles, reach, plan.passing)
    trunks = _tracks(all_pins, plan.columns)
    arrows = y + max((row + 1 for _, row in trunks), default=0)
    levels = {(trunk.net, trunk.from_trunk): y + row for trunk, row in trunks}

    def starts(trunk: Trunk) -> tuple[tuple[int, int], ...]:
        if trunk.from_trunk:
            return ((trunk.tops[0], levels[trunk.net, True]),)
        items = zip(channel[trunk.net].tops, trunk.tops, strict=True)
        return tuple((column, top + plan.exit_row(item)) for item, column in items)

    def ends(trunk: Trunk) -> tuple[End, ...]:
        if trunk.to_trunk:
            return (End(trunk.bottoms[0], levels[trunk.net, True], arrow=False),)
        items = zip(channel[trunk.net].bottoms, trunk.bottoms, strict=True)
        return tuple(End(column, arrows, arrow=item not in plan.passing) for item, column in items)

    wires = [Wire(starts(trunk), levels[trunk.net, trunk.from_trunk], ends(trunk)) for trunk, _ in trunks]
    straight = (Trunk(net, *pin) for net, pin in enumerate(all_pins) if (net, False) not in levels)
    return [*wires, *(Wire(starts(trunk), None, ends(trunk)) for trunk in straight)], arrows + 1
