"""The order of items within their rows, with few crossings."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.graph.lanes import Lanes, Link

_SWEEPS = 4
_FEW_LINKS = 2000
"""Up to so many links neighbours are also tried the other way round."""


def untangled(lanes: Lanes) -> list[list[int]]:
    """Orders each row by where its lines come from, then by where they go to, and keeps the best order seen."""
    rows = [list(row) for row in lanes.rows]
    ups, downs = _neighbours(lanes.links)
    best, fewest = [list(row) for row in rows], _crossings(rows, lanes.links)
    for sweep in range(2 * _SWEEPS):
        if not fewest and sweep > 1:
            break
        _sweep(rows, ups if sweep % 2 == 0 else downs, downwards=sweep % 2 == 0)
        if sum(map(len, lanes.links)) <= _FEW_LINKS:
            _swap(rows, ups, downs)
        count = _crossings(rows, lanes.links)
        if count < fewest or not sweep:
            best, fewest = [list(row) for row in rows], count
    return best


def _neighbours(links: Sequence[Sequence[Link]]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    ups: dict[int, list[int]] = {}
    downs: dict[int, list[int]] = {}
    for up, down in (link for channel in links for link in channel):
        ups.setdefault(down, []).append(up)
        downs.setdefault(up, []).append(down)
    return ups, downs


def _sweep(rows: list[list[int]], towards: dict[int, list[int]], *, downwards: bool) -> None:
    """Puts each item below, or above, the middle of its neighbours."""
    numbers = range(1, len(rows)) if downwards else range(len(rows) - 2, -1, -1)
    for number in numbers:
        fixed = rows[number - 1 if downwards else number + 1]
        places = {item: (place + 0.5) / len(fixed) for place, item in enumerate(fixed)}
        own = {item: (place + 0.5) / len(rows[number]) for place, item in enumerate(rows[number])}
        middles = {item: _middle(towards.get(item, ()), places, own[item]) for item in rows[number]}
        rows[number].sort(key=middles.__getitem__)


def _middle(neighbours: Sequence[int], places: dict[int, float], own: float) -> float:
    return sum(places[item] for item in neighbours) / len(neighbours) if neighbours else own


def _swap(rows: list[list[int]], ups: dict[int, list[int]], downs: dict[int, list[int]]) -> None:
    """Turns neighbours round where that saves crossings."""
    for number, row in enumerate(rows):
        above = {item: place for place, item in enumerate(rows[number - 1])} if number else {}
        below = {item: place for place, item in enumerate(rows[number + 1])} if number + 1 < len(rows) else {}
        for place in range(len(row) - 1):
            left, right = row[place : place + 2]
            gain = _gain(left, right, ups, above) + _gain(left, right, downs, below)
            if gain > 0:
                row[place : place + 2] = [right, left]


def _gain(left: int, right: int, towards: dict[int, list[int]], places: dict[int, int]) -> int:
    """Counts the crossings of two neighbours as they stand, less those if they are turned round."""
    lefts = [places[item] for item in towards.get(left, ())]
    rights = [places[item] for item in towards.get(right, ())]
    return sum((a > b) - (a < b) for a in lefts for b in rights)


def _crossings(rows: Sequence[Sequence[int]], links: Sequence[Sequence[Link]]) -> int:
    total = 0
    for row, below, channel in zip(rows, rows[1:], links, strict=False):
        places = {item: place for place, item in enumerate(row)} | {item: place for place, item in enumerate(below)}
        seen: list[int] = []
        for _, down in sorted((places[up], places[down]) for up, down in channel):
            total += len(seen) - bisect_right(seen, down)
            insort(seen, down)
    return total
