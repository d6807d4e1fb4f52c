"""Where lines leave and enter: a column for each side of each item and each net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kfadapter_grpc.graph.nets import Net

_ROOMY = 4
"""Columns between two lines at one side of a box, if it is wide enough; at least 2."""


@dataclass(frozen=True, slots=True)
class Pins:
    """The columns of a net: where it leaves what is above, and where it enters what is below."""

    tops: tuple[int, ...]
    bottoms: tuple[int, ...]


def width_for(ports: int) -> int:
    """Tells how wide a line must be that so many nets enter; a box needs one more on each side."""
    return max(2 * ports - 1, 1)


def pins(
    nets: Sequence[Net], middles: Mapping[int, int], halves: Mapping[int, int], passing: frozenset[int]
) -> list[Pins]:
    """Finds the columns of all nets between two rows.

    Args:
        nets: The nets.
        middles: The column of each item's middle.
        halves: How far the ports of each item may be from its middle.
        passing: The items that are passing lines; a net leaves these in the middle.
    """
    leaving = _side([net.tops for net in nets], [net.bottoms for net in nets], middles, halves)
    entering = _side([net.bottoms for net in nets], [net.tops for net in nets], middles, halves)
    found = []
    for number, net in enumerate(nets):
        tops = tuple(leaving[item, number] for item in net.tops)
        bottoms = tuple(entering[item, number] for item in net.bottoms)
        found.append(Pins(tops, bottoms))
    play = {item: 0 if item in passing else half for item, half in halves.items()}
    counts = _counts(nets)
    return [_straight(net, pin, middles, play, counts) for net, pin in zip(nets, found, strict=True)]


def _side(
    own: Sequence[Sequence[int]],
    others: Sequence[Sequence[int]],
    middles: Mapping[int, int],
    halves: Mapping[int, int],
) -> dict[tuple[int, int], int]:
    """Spreads the nets of one side over each item, in the order of what is at their other ends."""
    at: dict[int, list[int]] = {}
    for number, items in enumerate(own):
        for item in items:
            at.setdefault(item, []).append(number)
    far = [sum(middles[item] for item in items) / len(items) for items in others]
    ports = {}
    for item, numbers in at.items():
        step = min(_ROOMY, 2 * halves[item] // max(len(numbers) - 1, 1)) // 2 * 2
        first = middles[item] - step * (len(numbers) - 1) // 2
        for place, number in enumerate(sorted(numbers, key=far.__getitem__)):
            ports[item, number] = first + step * place
    return ports


def _counts(nets: Sequence[Net]) -> dict[tuple[bool, int], int]:
    """Counts the nets at each side of each item."""
    counts: dict[tuple[bool, int], int] = {}
    for net in nets:
        for side in [(True, item) for item in net.tops] + [(False, item) for item in net.bottoms]:
            counts[side] = counts.get(side, 0) + 1
    return counts


def _straight(
    net: Net,
    pin: Pins,
    middles: Mapping[int, int],
    play: Mapping[int, int],
    counts: Mapping[tuple[bool, int], int],
) -> Pins:
    """Makes a line between two items straight where both have room for that."""
    if len(pin.tops) > 1 or len(pin.bottoms) > 1:
        return pin
    ranges = []
    for side, item, column in ((True, net.tops[0], pin.tops[0]), (False, net.bottoms[0], pin.bottoms[0])):
        alone = counts[side, item] == 1
        low, high = (middles[item] - play[item], middles[item] + play[item]) if alone else (column, column)
        ranges.append((low, high))
    low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
    if low > high:
        return pin
    column = min(max((pin.tops[0] + pin.bottoms[0]) // 2, low), high)
    return Pins((column,), (column,))
