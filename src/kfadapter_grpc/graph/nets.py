"""Lines that may share their way without being mistaken for others."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.graph.layers import parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.graph.lanes import Link


@dataclass(frozen=True, slots=True)
class Net:
    """Lines from each of the items above to each of the items below."""

    tops: tuple[int, ...]
    bottoms: tuple[int, ...]


def nets(links: Sequence[Link], passing: frozenset[int]) -> list[Net]:
    """Gathers the links between two rows into few nets.

    Args:
        links: The links.
        passing: The items that are passing lines: above, these take part in one net each.
    """
    numbers = {item: number for number, item in enumerate(sorted({item for link in links for item in link}))}
    items = list(numbers)
    groups = parts(len(items), [(numbers[up], numbers[down]) for up, down in links])
    group_of = {items[number]: place for place, group in enumerate(groups) for number in group}
    divided: dict[int, list[Link]] = defaultdict(list)
    for link in links:
        divided[group_of[link[0]]].append(link)
    return [net for place in sorted(divided) for net in _fewest(divided[place], passing)]


def _fewest(links: Sequence[Link], passing: frozenset[int]) -> list[Net]:
    """Gathers links by their sources or by their targets, whichever needs fewer nets."""
    by_source = [Net(tuple(ups), downs) for downs, ups in _alike(links).items()]
    by_target = [Net(ups, tuple(downs)) for ups, downs in _alike([(down, up) for up, down in links]).items()]
    leaving = [item for net in by_target for item in net.tops if item in passing]
    if len(by_target) < len(by_source) and len(leaving) == len(set(leaving)):
        return by_target
    return by_source


def _alike(links: Sequence[Link]) -> dict[tuple[int, ...], list[int]]:
    """Gathers the items that are linked to exactly the same others."""
    others: dict[int, list[int]] = defaultdict(list)
    for item, other in links:
        others[item].append(other)
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for item, found in others.items():
        alike[tuple(sorted(found))].append(item)
    return alike
