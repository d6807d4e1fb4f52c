"""How wide the columns of a table are where the terminal is too narrow for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = 3
"""Columns between two cells."""


@dataclass(frozen=True, slots=True)
class Step:
    """One way to save room.

    Attributes:
        title: The column that gives way.
        least: How narrow it may become; 0 leaves it out.
    """

    title: str
    least: int


def try_fit(natural: dict[str, int], steps: Sequence[Step], room: int, mark: int) -> dict[str, int] | None:
    """Takes one step after the other until the columns fit; None if they do not after the last.

    Args:
        natural: How wide each column would be.
        steps: What gives way, and in which order.
        room: The width of the terminal.
        mark: The width of what stands for columns that are left out.
    """
    widths = dict(natural)
    if _total(widths, mark) <= room:
        return widths
    for step in steps:
        excess = _total(widths, mark) - room
        width = widths[step.title]
        widths[step.title] = max(min(step.least, width), width - excess) if step.least else 0
        if _total(widths, mark) <= room:
            return widths
    return None


def _total(widths: dict[str, int], mark: int) -> int:
    shown = [width for width in widths.values() if width]
    if len(shown) < len(widths):
        shown.append(mark)
    return sum(shown) + GAP * (len(shown) - 1)
