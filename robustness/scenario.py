"""What a proof is made of."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure and what it must be.

    Attributes:
        what: What was counted or measured, with its unit.
        found: The figure.
        bound: What it must be, in words; empty for a figure that only informs.
        holds: Whether it is so.
    """

    what: str
    found: str
    bound: str = ""
    holds: bool = True


@dataclass(frozen=True, slots=True)
class Stage:
    """What a scenario works with.

    Attributes:
        folder: An empty folder of its own, removed afterwards.
        short: Whether to do as little as shows something.
        seed: Of all that is left to chance.
        renew: Whether to write the tables of docs/robustness.md anew, instead of comparing them with what was found.
    """

    folder: Path
    short: bool
    seed: int
    renew: bool = False

    @property
    def home(self) -> Path:
        """An empty home folder for processes."""
        return self.folder / "home"

    @property
    def slack(self) -> float:
        """By how much times may be longer than in a whole run: a short one shares its machine with others."""
        return 4.0 if self.short else 1.0

    def chance(self, *names: object) -> random.Random:
        """Random numbers that follow from the seed and `names`."""
        return random.Random(repr((self.seed, *names)))  # noqa: S311 - to be repeated, not to be secret

    def scaled(self, whole: int, short: int) -> int:
        """How much to do."""
        return short if self.short else whole


@dataclass(frozen=True, slots=True)
class Scenario:
    """A proof.

    Attributes:
        name: What to call it by.
        proves: The sentence that it shows to be true.
        not_covered: What it does not show, in words.
        run: Does it, and yields what it finds.
    """

    name: str
    proves: str
    not_covered: str
    run: Callable[[Stage], Iterator[Finding]]


def exactly(what: str, found: object, wanted: object) -> Finding:
    """A figure that must be one value."""
    return Finding(what, str(found), f"exactly {wanted}", found == wanted)


def at_most(what: str, found: float, bound: float, unit: str = "") -> Finding:
    """A figure that must not be larger."""
    return Finding(what, _number(found, unit), f"at most {_number(bound, unit)}", found <= bound)


def at_least(what: str, found: float, bound: float, unit: str = "") -> Finding:
    """A figure that must not be smaller."""
    return Finding(what, _number(found, unit), f"at least {_number(bound, unit)}", found >= bound)


def told(what: str, found: float, unit: str = "") -> Finding:
    """A figure that only informs."""
    return Finding(what, _number(found, unit))


def _number(value: float, unit: str) -> str:
    text = f"{value:.3g}" if value != int(value) or abs(value) >= 1e6 else str(int(value))  # noqa: PLR2004 - readable
    return f"{text} {unit}".rstrip()
