"""The column of each item: near its neighbours above and below, in the order of its row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.graph.lanes import Link

_SWEEPS = 6
_STRAIGHT = 8.0
"""How much more a line that passes wants to be straight than a box wants to be in the middle."""


@dataclass(frozen=True, slots=True)
class Row:
    """Items beside each other.

    Attributes:
        items: The items from left to right.
        steps: How far each middle must be from the one before; the first from the left edge.
        end: How far the right edge is from the last middle.
    """

    items: tuple[int, ...]
    steps: tuple[int, ...]
    end: int

    @property
    def width(self) -> int:
        """The least width that it needs."""
        return sum(self.steps) + self.end + 1


def columns(
    rows: Sequence[Row], links: Sequence[Sequence[Link]], passing: frozenset[int], limit: int
) -> dict[int, int]:
    """Finds the column of each item's middle, from 0.

    Args:
        rows: The rows, from top to bottom.
        links: The links below each row.
        passing: The items that are passing lines.
        limit: How wide all may be, if that is enough.
    """
    room = max(row.width for row in rows)
    room = max(room, min(limit, room + 8))
    ups, downs = _pulls(links, passing)
    found: dict[int, float] = {}
    for row in rows:
        found.update(_settled(row, dict.fromkeys(row.items, room / 2), {}, room))
    for _ in range(_SWEEPS):
        _sweep(rows, [ups], found, room)
        _sweep(rows[::-1], [downs], found, room)
    _sweep(rows, [ups, downs], found, room)
    _sweep(rows[::-1], [ups, downs], found, room)
    _sweep(rows, [ups, downs], found, room)
    whole = {item: int(column) for item, column in found.items()}
    _straighten(rows, links, passing, whole, room)
    return whole


Pulls = dict[int, list[tuple[int, float]]]
"""The neighbours of each item, and how much each pulls."""


def _pulls(links: Sequence[Sequence[Link]], passing: frozenset[int]) -> tuple[Pulls, Pulls]:
    ups: Pulls = {}
    downs: Pulls = {}
    for up, down in (link for channel in links for link in channel):
        weight = _STRAIGHT if up in passing and down in passing else 1.0
        ups.setdefault(down, []).append((up, weight))
        downs.setdefault(up, []).append((down, weight))
    return ups, downs


def _sweep(rows: Sequence[Row], pulls: Sequence[Pulls], found: dict[int, float], room: int) -> None:
    for row in rows:
        wants, weights = {}, {}
        for item in row.items:
            pulling = [(found[other], weight) for some in pulls for other, weight in some.get(item, ())]
            weights[item] = sum(weight for _, weight in pulling) or 0.1
            wants[item] = sum(at * weight for at, weight in pulling) / weights[item] if pulling else found[item]
        found.update(_settled(row, wants, weights, room))


def _settled(row: Row, wants: dict[int, float], weights: dict[int, float], room: int) -> dict[int, float]:
    """Places a row as near to what its items want as their order and width allow (least squares, on whole columns)."""
    offsets, offset = [], 0
    for step in row.steps:
        offset += step
        offsets.append(offset)
    blocks: list[tuple[float, float, int]] = []  # where, how heavy, how many items
    for item, offset in zip(row.items, offsets, strict=True):
        block = (wants[item] - offset, weights.get(item, 1.0), 1)
        while blocks and blocks[-1][0] > block[0]:
            block = _joined(blocks.pop(), block)
        blocks.append(block)
    most = room - row.width
    shifts = [round(min(max(at, 0), most)) for at, _, count in blocks for _ in range(count)]
    return {item: float(at + offset) for item, at, offset in zip(row.items, shifts, offsets, strict=True)}


def _joined(left: tuple[float, float, int], right: tuple[float, float, int]) -> tuple[float, float, int]:
    weight = left[1] + right[1]
    return (left[0] * left[1] + right[0] * right[1]) / weight, weight, left[2] + right[2]


def _straighten(
    rows: Sequence[Row], links: Sequence[Sequence[Link]], passing: frozenset[int], found: dict[int, int], room: int
) -> None:
    """Takes small bends out of passing lines, as far as there is room beside them."""
    places = {item: (row, place) for row in rows for place, item in enumerate(row.items)}
    following = {up: down for channel in links for up, down in channel if {up, down} <= passing}
    begun = set(following.values())
    for item in sorted(passing - begun):
        chain = [item]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        _align(chain, places, found, room)


def _align(chain: Sequence[int], places: dict[int, tuple[Row, int]], found: dict[int, int], room: int) -> None:
    """Puts as many items in a row as possible into one column, then the next ones."""
    members: list[int] = []
    low, high = 0, room - 1
    for item in chain:
        least, most = _play(*places[item], found, room)
        if members and max(low, least) > min(high, most):
            _put(members, low, high, found)
            members, low, high = [], 0, room - 1
        members.append(item)
        low, high = max(low, least), min(high, most)
    _put(members, low, high, found)


def _put(members: Sequence[int], low: int, high: int, found: dict[int, int]) -> None:
    column = sorted(found[item] for item in members)[len(members) // 2]
    for item in members:
        found[item] = min(max(column, low), high)


def _play(row: Row, place: int, found: dict[int, int], room: int) -> tuple[int, int]:
    """Tells how far an item may move to the left and to the right."""
    least = row.steps[place] + (found[row.items[place - 1]] if place else 0)
    if place + 1 < len(row.items):
        return least, found[row.items[place + 1]] - row.steps[place + 1]
    return least, room - 1 - row.end
