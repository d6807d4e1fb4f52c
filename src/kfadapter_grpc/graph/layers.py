"""Which tasks stand beside each other: parts that hang together, and in each part one layer below the other."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Edge = tuple[int, int]
GAP = 2
"""Cells between two boxes of a layer."""


def parts(count: int, edges: Iterable[Edge]) -> list[list[int]]:
    """Divides nodes into parts without an edge between them, in the order of the first node of each."""
    leader = list(range(count))
    for up, down in edges:
        first, second = sorted((_leader(leader, up), _leader(leader, down)))
        leader[second] = first
    found: dict[int, list[int]] = {}
    for node in range(count):
        found.setdefault(_leader(leader, node), []).append(node)
    return list(found.values())


def layers(nodes: Sequence[int], edges: Sequence[Edge], widths: Mapping[int, int], limit: int) -> list[list[int]]:
    """Puts each node below all that it waits for; a layer that is wider than the limit becomes several.

    Args:
        nodes: The nodes of one part.
        edges: The edges between them, without circles.
        widths: How wide each node's box is.
        limit: How wide a layer may be.
    """
    ups: dict[int, list[int]] = {node: [] for node in nodes}
    downs: dict[int, list[int]] = {node: [] for node in nodes}
    for up, down in edges:
        ups[down].append(up)
        downs[up].append(down)
    ranks = _ranks(nodes, ups, downs)
    found: dict[int, list[int]] = {}
    for node in nodes:
        found.setdefault(ranks[node], []).append(node)
    return [row for rank in sorted(found) for row in _rows(found[rank], widths, limit)]


def _leader(leader: list[int], node: int) -> int:
    while leader[node] != node:
        leader[node] = leader[leader[node]]
        node = leader[node]
    return node


def _ranks(nodes: Sequence[int], ups: dict[int, list[int]], downs: dict[int, list[int]]) -> dict[int, int]:
    """Counts the steps that must come before each node; what waits for nothing stands right above its first user."""
    ranks: dict[int, int] = {}
    missing = {node: len(ups[node]) for node in nodes}
    ready = [node for node in nodes if not missing[node]]
    for node in ready:
        ranks[node] = max((ranks[up] + 1 for up in ups[node]), default=0)
        for down in downs[node]:
            missing[down] -= 1
            if not missing[down]:
                ready.append(down)
    for node in nodes:
        if downs[node] and not ups[node]:
            ranks[node] = min(ranks[down] for down in downs[node]) - 1
    return ranks


def _rows(layer: Sequence[int], widths: Mapping[int, int], limit: int) -> list[list[int]]:
    """Breaks a layer into rows that fit, of about the same length."""
    rows = 1
    while rows < len(layer):
        broken = _broken(layer, rows)
        if all(sum(widths[node] + GAP for node in row) - GAP <= limit for row in broken):
            return broken
        rows += 1
    return [[node] for node in layer]


def _broken(layer: Sequence[int], rows: int) -> list[list[int]]:
    ends = [len(layer) * row // rows for row in range(rows + 1)]
    return [list(layer[begin:end]) for begin, end in itertools.pairwise(ends)]
