"""The columns of boxes, and of the lines that leave or enter them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kfadapter_grpc.graph.rows import GAP, Lanes, Link, Net, nets, ordered

_SWEEPS = 6
_STRAIGHT = 8.0
"""The weight of a straight passing line, relative to a centred box."""


@dataclass(frozen=True, slots=True)
class Row:
    """Items side by side.

    Attributes:
        steps: The distance of each middle from the previous one; of the first from the left edge.
        end: The distance of the right edge from the last middle.
    """

    items: tuple[int, ...]
    steps: tuple[int, ...]
    end: int

    @property
    def width(self) -> int:
        return sum(self.steps) + self.end + 1


def columns(
    rows: Sequence[Row], links: Sequence[Sequence[Link]], passing: frozenset[int], limit: int
) -> dict[int, int]:
    """Returns the column of each item's middle, from 0."""
    room = max(row.width for row in rows)
    room = max(room, min(limit, room + 8))
    parents, children = _neighbors(links, passing)
    middles: dict[int, float] = {}
    for row in rows:
        middles.update(_place(row, dict.fromkeys(row.items, room / 2), {}, room))
    both = [parents, children]
    for order, sides in [(1, [parents]), (-1, [children])] * _SWEEPS + [(1, both), (-1, both), (1, both)]:
        _sweep(rows[::order], sides, middles, room)
    rounded = {item: int(column) for item, column in middles.items()}
    _straighten(rows, links, passing, rounded, room)
    return rounded


Neighbors = dict[int, list[tuple[int, float]]]


def _neighbors(links: Sequence[Sequence[Link]], passing: frozenset[int]) -> tuple[Neighbors, Neighbors]:
    parents: Neighbors = {}
    children: Neighbors = {}
    for up, down in (link for channel in links for link in channel):
        weight = _STRAIGHT if up in passing and down in passing else 1.0
        parents.setdefault(down, []).append((up, weight))
        children.setdefault(up, []).append((down, weight))
    return parents, children


def _sweep(rows: Sequence[Row], sides: Sequence[Neighbors], middles: dict[int, float], room: int) -> None:
    for row in rows:
        targets, weights = {}, {}
        for item in row.items:
            neighbors = [(middles[other], weight) for side in sides for other, weight in side.get(item, ())]
            weights[item] = sum(weight for _, weight in neighbors) or 0.1
            targets[item] = sum(at * weight for at, weight in neighbors) / weights[item] if neighbors else middles[item]
        middles.update(_place(row, targets, weights, room))


def _place(row: Row, targets: Mapping[int, float], weights: Mapping[int, float], room: int) -> dict[int, float]:
    """Positions a row's items as close to their preferred columns as order and widths allow (integer least squares)."""
    offsets = list(itertools.accumulate(row.steps))
    blocks: list[tuple[float, float, int]] = []  # column, weight, number of items
    for item, offset in zip(row.items, offsets, strict=True):
        mean, weight, count = targets[item] - offset, weights.get(item, 1.0), 1
        while blocks and blocks[-1][0] > mean:
            left, heavy, more = blocks.pop()
            mean, weight = (left * heavy + mean * weight) / (heavy + weight), heavy + weight
            count += more
        blocks.append((mean, weight, count))
    most = room - row.width
    shifts = [round(min(max(at, 0), most)) for at, _, count in blocks for _ in range(count)]
    return {item: float(at + offset) for item, at, offset in zip(row.items, shifts, offsets, strict=True)}


def _straighten(
    rows: Sequence[Row], links: Sequence[Sequence[Link]], passing: frozenset[int], middles: dict[int, int], room: int
) -> None:
    """Straightens small bends of passing lines, as far as there is space.

    Puts as many consecutive items as possible into one column, then the next ones.
    """
    places = {item: (row, place) for row in rows for place, item in enumerate(row.items)}
    following = {up: down for up, down in itertools.chain(*links) if {up, down} <= passing}
    for item in sorted(passing - set(following.values())):
        members, low, high = list[int](), 0, room - 1
        at: int | None = item
        while at is not None:
            least, most = _free_range(*places[at], middles, room)
            if members and max(low, least) > min(high, most):
                _align(members, low, high, middles)
                members, low, high = [], 0, room - 1
            members.append(at)
            low, high = max(low, least), min(high, most)
            at = following.get(at)
        _align(members, low, high, middles)


def _align(members: Sequence[int], low: int, high: int, middles: dict[int, int]) -> None:
    column = sorted(middles[item] for item in members)[len(members) // 2]
    for item in members:
        middles[item] = min(max(column, low), high)


def _free_range(row: Row, place: int, middles: dict[int, int], room: int) -> tuple[int, int]:
    """The leftmost and rightmost column that an item may move to."""
    least = row.steps[place] + (middles[row.items[place - 1]] if place else 0)
    if place + 1 < len(row.items):
        return least, middles[row.items[place + 1]] - row.steps[place + 1]
    return least, room - 1 - row.end


_PORT_STEP = 4
"""Columns between two lines at one side of a box, if it is wide enough; at least 2."""


class Pins(NamedTuple):
    """The columns of a net: where it leaves the items above, and where it enters the items below."""

    tops: tuple[int, ...]
    bottoms: tuple[int, ...]


def width_for(ports: int) -> int:
    """The width of a line that this many nets can enter; a box needs one more on each side."""
    return max(2 * ports - 1, 1)


def pins(
    nets: Sequence[Net], middles: Mapping[int, int], halves: Mapping[int, int], passing: frozenset[int]
) -> list[Pins]:
    """Returns the columns of all nets between two rows."""
    tops, bottoms = [net.tops for net in nets], [net.bottoms for net in nets]
    leaving, entering = _side(tops, bottoms, middles, halves), _side(bottoms, tops, middles, halves)
    leavers, enterers = Counter(itertools.chain(*tops)), Counter(itertools.chain(*bottoms))
    all_pins = []
    for number, net in enumerate(nets):
        pin = Pins(
            tuple(leaving[item, number] for item in net.tops), tuple(entering[item, number] for item in net.bottoms)
        )
        if len(pin.tops) == len(pin.bottoms) == 1:
            # A line between two items is straight if both have space for it.
            ranges = []
            for item, column, alone in (
                (net.tops[0], pin.tops[0], leavers[net.tops[0]] == 1),
                (net.bottoms[0], pin.bottoms[0], enterers[net.bottoms[0]] == 1),
            ):
                reach = 0 if item in passing else halves[item]
                ranges.append((middles[item] - reach, middles[item] + reach) if alone else (column, column))
            low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
            if low <= high:
                column = min(max((pin.tops[0] + pin.bottoms[0]) // 2, low), high)
                pin = Pins((column,), (column,))
        all_pins.append(pin)
    return all_pins


def _side(
    own: Sequence[Sequence[int]], others: Sequence[Sequence[int]], middles: Mapping[int, int], halves: Mapping[int, int]
) -> dict[tuple[int, int], int]:
    """Spreads the nets of one side over each item, in the order of their other ends."""
    positions: dict[int, list[int]] = {}
    for number, items in enumerate(own):
        for item in items:
            positions.setdefault(item, []).append(number)
    far = [sum(middles[item] for item in items) / len(items) for items in others]
    ports = {}
    for item, numbers in positions.items():
        step = min(_PORT_STEP, 2 * halves[item] // max(len(numbers) - 1, 1)) // 2 * 2
        first = middles[item] - step * (len(numbers) - 1) // 2
        for place, number in enumerate(sorted(numbers, key=far.__getitem__)):
            ports[item, number] = first + step * place
    return ports


LANE_GAP = 1
"""Cells beside a line that passes a row."""


@dataclass(frozen=True, slots=True)
class Size:
    width: int
    height: int


class Plan:
    """The rows of a part.

    Attributes:
        lanes: The items: boxes and passing lines.
        passing: The items that are passing lines.
        widths: The width of each item; always odd.
    """

    def __init__(self, lanes: Lanes, sizes: Mapping[int, Size]) -> None:
        self._sizes = sizes
        self.lanes = lanes
        self.rows = lanes.rows
        self.passing = frozenset(item for item, node in enumerate(lanes.nodes) if node is None)
        self.nets = [nets(links, self.passing) for links in lanes.links]
        self.entering = Counter(item for channel in self.nets for net in channel for item in net.bottoms)
        leaving = Counter(item for channel in self.nets for net in channel for item in net.tops)
        self.widths = {
            item: self._width(node, max(self.entering[item], leaving[item])) for item, node in enumerate(lanes.nodes)
        }
        self.middles: dict[int, int] = {}
        self.columns = 0

    @property
    def width(self) -> int:
        return max(self._row(row).width for row in self.rows)

    def _width(self, node: int | None, ports: int) -> int:
        return width_for(ports) if node is None else max(width_for(ports) + 2, self._sizes[node].width)

    def height(self, item: int) -> int:
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
        """Orders the items of each row, and assigns columns."""
        self.rows = ordered(self.lanes)
        self.middles = columns([self._row(row) for row in self.rows], self.lanes.links, self.passing, limit)
        self.columns = max(middle + self.widths[item] // 2 for item, middle in self.middles.items()) + 1

    def reach(self, item: int) -> int:
        """The maximum distance from its middle at which lines may enter or leave an item."""
        return self.widths[item] // 2 - (item not in self.passing)

    def exit_row(self, item: int) -> int:
        """The row of an item in which lines begin: a box's lower border, or the entry of a passing line."""
        if item in self.passing:
            return 0 if self.is_merged(item) else -1
        return self.height(item) - 1

    def is_merged(self, item: int) -> bool:
        return item in self.passing and self.entering[item] > 1
