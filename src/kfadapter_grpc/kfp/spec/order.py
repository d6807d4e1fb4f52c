"""The order in which the tasks of a group can run."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def in_order(depends: Mapping[str, Sequence[str]]) -> list[str]:
    """Puts names behind those they depend on; where they are free, as they were declared.

    Args:
        depends: Each name with the names it depends on, all of them keys too, in declared order.

    Returns:
        All names. Where they depend on each other in a circle, the first declared one of those left comes first, though
        what it depends on comes after it.
    """
    place = {name: number for number, name in enumerate(depends)}
    followers: dict[str, list[str]] = {name: [] for name in depends}
    waits = {name: len(before) for name, before in depends.items()}
    for name, before in depends.items():
        for one in before:
            followers[one].append(name)
    return _released(list(depends), place, followers, waits)


def _released(
    names: list[str], place: Mapping[str, int], followers: Mapping[str, Sequence[str]], waits: dict[str, int]
) -> list[str]:
    ready = [place[name] for name in names if not waits[name]]  # sorted, so a heap
    ordered: dict[str, None] = {}
    left = iter(names)
    while len(ordered) < len(names):
        name = names[heapq.heappop(ready)] if ready else next(one for one in left if one not in ordered)
        ordered[name] = None
        for follower in followers[name]:
            waits[follower] -= 1
            if not waits[follower] and follower not in ordered:
                heapq.heappush(ready, place[follower])
    return list(ordered)


def without_circles(depends: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Orders the names, and drops what would have to run after the one that depends on it.

    Returns:
        The names in the order of `in_order`, each with those of its dependencies that come before it.
    """
    place = {name: number for number, name in enumerate(in_order(depends))}
    return {name: tuple(one for one in depends[name] if place[one] < place[name]) for name in place}
