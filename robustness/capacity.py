"""An adapter whose places bound what it can serve, and how much that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.processes import Adapter, stand_in

from robustness.callers import in_turn

if TYPE_CHECKING:
    from contextlib import ExitStack

    from robustness.scenario import Stage

MEASURED_SECONDS = 3.0
"""For how long calls are made to measure."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An adapter, and what it can do.

    Attributes:
        adapter: The adapter.
        places: Unary calls that it may serve at once.
        calls: How many seconds each call took while every place was taken by one caller's calls in turn.
    """

    adapter: Adapter
    places: int
    calls: list[float]

    @property
    def capacity(self) -> float:
        """Calls that it can serve in a second."""
        return len(self.calls) / MEASURED_SECONDS

    def again(self) -> list[float]:
        """Measures once more; tells how many seconds each call took."""
        return in_turn(self.adapter.target, self.places, MEASURED_SECONDS)


def measured(stack: ExitStack, stage: Stage, *, places: int, kfp_seconds: float) -> Measured:
    """Starts an adapter before a KFP that takes so long for each answer, until `stack` ends, and measures it."""
    url = stack.enter_context(stand_in(stage.home, kfp_seconds))
    adapter = stack.enter_context(Adapter(url, stage.home, "--max-unary-calls", str(places)))
    adapter.wait()
    return Measured(adapter, places, in_turn(adapter.target, places, MEASURED_SECONDS))
