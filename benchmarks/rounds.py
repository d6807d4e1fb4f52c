"""Interleaving: the sides alternate in short rounds, so that fluctuations of the machine affect all equally."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from benchmarks.results import RATE, Row, figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from benchmarks.caller import Outcome

T = TypeVar("T")


def take_turns(sides: Mapping[str, Callable[[], T]], rounds: int, *, warm_up: bool = True) -> dict[str, list[T]]:
    """Runs every side once per round, each round starting with another one.

    Args:
        sides: The action of each side.
        rounds: The number of measured rounds.
        warm_up: Whether to run one more round first, which does not count.
    """
    names = list(sides)
    found: dict[str, list[T]] = {name: [] for name in names}
    for number in range(-1 if warm_up else 0, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            outcome = sides[name]()
            if number >= 0:
                found[name].append(outcome)
    return found


def times(benchmark: str, what: str, found: Mapping[str, Iterable[Outcome]], *, chart: bool = False) -> Row:
    """Returns a row with the durations of calls, in ms."""
    figures = (figure(side, _seconds(outcomes), scale=1000) for side, outcomes in found.items())
    return Row(benchmark, what, "ms", tuple(figures), chart=chart)


def rates(benchmark: str, what: str, found: Mapping[str, Iterable[Outcome]], *, chart: bool = False) -> Row:
    """Returns a row with the calls per second."""
    figures = (figure(side, (one.rate for one in outcomes), more_is_better=True) for side, outcomes in found.items())
    return Row(benchmark, what, RATE, tuple(figures), chart=chart)


def _seconds(outcomes: Iterable[Outcome]) -> Iterable[float]:
    return chain.from_iterable(outcome.seconds for outcome in outcomes)
