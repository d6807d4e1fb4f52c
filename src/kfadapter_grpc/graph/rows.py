"""The rows of boxes, their order, and the lines between them."""

from __future__ import annotations

import itertools
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Edge = tuple[int, int]
Neighbors = dict[int, list[int]]
GAP = 2
"""Cells between two boxes of a layer."""


def parts(count: int, edges: Iterable[Edge]) -> list[list[int]]:
    """Splits nodes into unconnected parts, in the order of the first node of each."""
    leader = list(range(count))

    def leader_of(node: int) -> int:
        while leader[node] != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for up, down in edges:
        first, second = sorted((leader_of(up), leader_of(down)))
        leader[second] = first
    groups: dict[int, list[int]] = {}
    for node in range(count):
        groups.setdefault(leader_of(node), []).append(node)
    return list(groups.values())


def layers(nodes: Sequence[int], edges: Sequence[Edge], widths: Mapping[int, int], limit: int) -> list[list[int]]:
    """Puts each node below its dependencies; a layer wider than the limit is split into several."""
    parents: Neighbors = {node: [] for node in nodes}
    children: Neighbors = {node: [] for node in nodes}
    for up, down in edges:
        parents[down].append(up)
        children[up].append(down)
    ranks = _ranks(nodes, parents, children)
    by_rank: dict[int, list[int]] = {}
    for node in nodes:
        by_rank.setdefault(ranks[node], []).append(node)
    return [row for rank in sorted(by_rank) for row in _rows(by_rank[rank], widths, limit)]


def _ranks(nodes: Sequence[int], parents: Neighbors, children: Neighbors) -> dict[int, int]:
    """Returns the layer of each node; a node without dependencies is right above its first dependent."""
    ranks: dict[int, int] = {}
    missing = {node: len(parents[node]) for node in nodes}
    ready = [node for node in nodes if not missing[node]]
    for node in ready:
        ranks[node] = max((ranks[up] + 1 for up in parents[node]), default=0)
        for down in children[node]:
            missing[down] -= 1
            if not missing[down]:
                ready.append(down)
    for node in nodes:
        if children[node] and not parents[node]:
            ranks[node] = min(ranks[down] for down in children[node]) - 1
    return ranks


def _rows(layer: Sequence[int], widths: Mapping[int, int], limit: int) -> list[list[int]]:
    """Splits a layer into rows that fit, of about the same length."""
    for rows in range(1, len(layer)):
        ends = [len(layer) * row // rows for row in range(rows + 1)]
        broken = [list(layer[begin:end]) for begin, end in itertools.pairwise(ends)]
        if all(sum(widths[node] + GAP for node in row) - GAP <= limit for row in broken):
            return broken
    return [[node] for node in layer]


Link = tuple[int, int]


@dataclass(slots=True)
class Lanes:
    """The rows of a part: the node of each item, None for a passing line, and the links below each row."""

    nodes: list[int | None] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    links: list[list[Link]] = field(default_factory=list)

    def add(self, node: int | None, row: int) -> int:
        self.nodes.append(node)
        self.rows[row].append(len(self.nodes) - 1)
        return len(self.nodes) - 1


def lanes(layers: Sequence[Sequence[int]], edges: Sequence[Edge]) -> Lanes:
    """Adds passing lines: a line that crosses a layer is an item there, as a box is.

    Lines with the same remaining targets are merged where they pass, whatever their sources: each source
    has all of these edges, so the drawing shows no edge that does not exist.
    """
    lanes_of_part = Lanes(rows=[[] for _ in layers], links=[[] for _ in layers])
    items = {node: lanes_of_part.add(node, row) for row, layer in enumerate(layers) for node in layer}
    goals: dict[int, int] = dict.fromkeys(items, 0)  # sets of nodes, as bit masks
    for up, down in edges:
        goals[up] |= 1 << down
    passing: dict[int, int] = {}  # the passing lines, by their target nodes
    for row, links in enumerate(lanes_of_part.links[:-1]):
        carriers = [(items[node], goals[node]) for node in layers[row] if goals[node]]
        carriers += [(item, goal) for goal, item in passing.items()]
        passing = {}
        reached = sum(1 << node for node in layers[row + 1])
        for carrier, goal in carriers:
            links += [(carrier, items[node]) for node in layers[row + 1] if goal >> node & 1]
            if rest := goal & ~reached:
                if rest not in passing:
                    passing[rest] = lanes_of_part.add(None, row + 1)
                links.append((carrier, passing[rest]))
    return lanes_of_part


@dataclass(frozen=True, slots=True)
class Net:
    """Lines from each of the items above to each of the items below."""

    tops: tuple[int, ...]
    bottoms: tuple[int, ...]


def nets(links: Sequence[Link], passing: frozenset[int]) -> list[Net]:
    """Groups the links between two rows into few nets; of `passing` lines in the upper row, each is in one net."""
    numbers = {item: number for number, item in enumerate(sorted({item for link in links for item in link}))}
    items = list(numbers)
    groups = parts(len(items), [(numbers[up], numbers[down]) for up, down in links])
    group_of = {items[number]: place for place, group in enumerate(groups) for number in group}
    divided: dict[int, list[Link]] = defaultdict(list)
    for link in links:
        divided[group_of[link[0]]].append(link)
    return [net for place in sorted(divided) for net in _fewest_nets(divided[place], passing)]


def _fewest_nets(links: Sequence[Link], passing: frozenset[int]) -> list[Net]:
    """Groups links by their sources or by their targets, whichever needs fewer nets."""
    by_source = [Net(tuple(tops), bottoms) for bottoms, tops in _by_neighbors(links).items()]
    upwards = [(down, up) for up, down in links]
    by_target = [Net(tops, tuple(bottoms)) for tops, bottoms in _by_neighbors(upwards).items()]
    leaving = [item for net in by_target for item in net.tops if item in passing]
    if len(by_target) < len(by_source) and len(leaving) == len(set(leaving)):
        return by_target
    return by_source


def _by_neighbors(links: Sequence[Link]) -> dict[tuple[int, ...], list[int]]:
    """Groups the items that are linked to exactly the same others."""
    others: dict[int, list[int]] = defaultdict(list)
    for item, other in links:
        others[item].append(other)
    grouped: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for item, linked in others.items():
        grouped[tuple(sorted(linked))].append(item)
    return grouped


_SWEEPS = 4
_FEW_LINKS = 2000
"""The maximum number of links for which swaps of neighbours are tried."""


def ordered(lanes: Lanes) -> list[list[int]]:
    """Orders each row by the sources of its lines, then by their targets, and keeps the best order found."""
    rows = [list(row) for row in lanes.rows]
    parents: Neighbors = defaultdict(list)
    children: Neighbors = defaultdict(list)
    for up, down in itertools.chain(*lanes.links):
        parents[down].append(up)
        children[up].append(down)
    best, fewest = [list(row) for row in rows], _crossings(rows, lanes.links)
    for sweep in range(2 * _SWEEPS):
        if not fewest and sweep > 1:
            break
        pairs = list(itertools.pairwise(rows))
        for fixed, row in pairs if sweep % 2 == 0 else [(below, row) for row, below in reversed(pairs)]:
            _sort_by_barycenter(row, fixed, parents if sweep % 2 == 0 else children)
        if sum(map(len, lanes.links)) <= _FEW_LINKS:
            _transpose(rows, parents, children)
        count = _crossings(rows, lanes.links)
        if count < fewest or not sweep:
            best, fewest = [list(row) for row in rows], count
    return best


def _sort_by_barycenter(row: list[int], fixed: Sequence[int], neighbors: Neighbors) -> None:
    """Sorts the items of a row by the middle of their neighbours above, or below."""
    places = {item: (place + 0.5) / len(fixed) for place, item in enumerate(fixed)}
    middles = {item: (place + 0.5) / len(row) for place, item in enumerate(row)}
    for item in row:
        if linked := neighbors.get(item):
            middles[item] = sum(places[other] for other in linked) / len(linked)
    row.sort(key=middles.__getitem__)


def _transpose(rows: list[list[int]], parents: Neighbors, children: Neighbors) -> None:
    """Swaps adjacent items where that saves crossings."""
    for number, row in enumerate(rows):
        above = {item: place for place, item in enumerate(rows[number - 1])} if number else {}
        below = {item: place for place, item in enumerate(rows[number + 1])} if number + 1 < len(rows) else {}
        for place in range(len(row) - 1):
            left, right = row[place : place + 2]
            gain = _gain(left, right, parents, above) + _gain(left, right, children, below)
            if gain > 0:
                row[place : place + 2] = [right, left]


def _gain(left: int, right: int, neighbors: Neighbors, places: Mapping[int, int]) -> int:
    """Counts the crossings of two adjacent items, minus those if they were swapped."""
    lefts = [places[item] for item in neighbors.get(left, ())]
    rights = [places[item] for item in neighbors.get(right, ())]
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
