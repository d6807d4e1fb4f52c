"""The rows between two layers: which net runs across in which of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kfadapter_grpc.graph.ports import Pins

_FEW = 24
"""Up to so many nets their order is chosen so that few lines cross."""


@dataclass(frozen=True, slots=True)
class Run:
    """A net, or a part of one, that runs across in one row.

    Attributes:
        net: The number of the net.
        tops: The columns where it comes from above.
        bottoms: The columns where it goes down.
        from_run: Whether it comes from another run of its net, at its only top.
        to_run: Whether it goes to another run of its net, at its only bottom.
    """

    net: int
    tops: tuple[int, ...]
    bottoms: tuple[int, ...]
    from_run: bool = False
    to_run: bool = False

    @property
    def low(self) -> int:
        """The first column."""
        return min(self.tops + self.bottoms)

    @property
    def high(self) -> int:
        """The last column."""
        return max(self.tops + self.bottoms)


def tracks(pins: Sequence[Pins], width: int) -> list[tuple[Run, int]]:
    """Gives each net that is not straight a row, from 0; a net that would run in a ring with others gets two.

    Args:
        pins: The columns of all nets.
        width: How many columns there are; one more on the right may be taken.
    """
    runs = [Run(number, pin.tops, pin.bottoms) for number, pin in enumerate(pins) if not _is_straight(pin)]
    used = {column for pin in pins for column in pin.tops + pin.bottoms}
    ordered = _ordered(runs, used, width)
    placed: list[tuple[Run, int]] = []
    for run in ordered:
        row = max((at + 1 for other, at in placed if _touch(run, other)), default=0)
        placed.append((run, row))
    return placed


def _is_straight(pin: Pins) -> bool:
    return len({*pin.tops, *pin.bottoms}) == 1


def _touch(run: Run, other: Run) -> bool:
    """Tells whether two runs cannot be in one row."""
    return run.low - 1 <= other.high and other.low - 1 <= run.high


def _ordered(runs: Sequence[Run], used: set[int], width: int) -> list[Run]:
    """Orders the runs from top to bottom.

    A run that comes down in a column must be above the one that goes on down there. Where that is a ring, one run is
    divided; its lower half lets nobody wait, so each is divided once at most.
    """
    waiting = list(runs)
    coming = {column: run for run in runs for column in run.tops}
    ordered = []
    while waiting:
        free = [run for run in waiting if all(coming.get(column, run) is run for column in run.bottoms)]
        if free:
            chosen = _chosen(free, waiting)
            waiting.remove(chosen)
        else:
            whole = next(run for run in waiting if not run.from_run)
            chosen, lower = _split(whole, used, width)
            waiting[waiting.index(whole)] = lower
        ordered.append(chosen)
        for column in chosen.tops:
            coming.pop(column, None)
    return ordered


def _chosen(free: Sequence[Run], waiting: Sequence[Run]) -> Run:
    """Chooses the run that crosses the others least if it is above them."""
    if len(waiting) > _FEW:
        return free[0]
    return min(free, key=lambda run: sum(_crossed(run, other) - _crossed(other, run) for other in waiting))


def _crossed(upper: Run, lower: Run) -> int:
    """Counts the crossings of two runs, one above the other."""
    return _within(lower.tops, upper) + _within(upper.bottoms, lower)


def _within(columns: Iterable[int], run: Run) -> int:
    return sum(run.low <= column <= run.high for column in columns)


def _split(run: Run, used: set[int], width: int) -> tuple[Run, Run]:
    """Divides a run at a column that is free, so that its upper half waits for nobody."""
    middle = (run.low + run.high) // 2
    free = [column for column in range(width) if column not in used]
    column = min(free, key=lambda column: abs(column - middle), default=max(used) + 1)
    used.add(column)
    upper = Run(run.net, run.tops, (column,), from_run=run.from_run, to_run=True)
    return upper, Run(run.net, (column,), run.bottoms, from_run=True, to_run=run.to_run)
