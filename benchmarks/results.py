"""The results of a run: rows with the figures of each side, and the findings."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

RATE = "calls/s"
"""The unit of rates: the more the better; of everything else less is better."""


@dataclass(frozen=True, slots=True)
class Figure:
    """The measurements of one side.

    Attributes:
        side: The side.
        p50: The median.
        p90: The 90th percentile.
        count: The number of measurements.
    """

    side: str
    p50: float
    p90: float
    count: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding from the figures of a row.

    Attributes:
        what: Its name, such as "adapter / plain HTTP".
        value: The ratio or difference.
        unit: `x` for a ratio.
        goal: The goal (design section 12) as text; empty if none.
        met: Whether the goal is met; None without a goal.
    """

    what: str
    value: float
    unit: str
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Attributes:
        benchmark: The name of its benchmark.
        what: The measured operation.
        unit: The unit of its figures.
        figures: One for each side.
        findings: The findings from them.
        chart: Whether the chart shows it.
    """

    benchmark: str
    what: str
    unit: str
    figures: tuple[Figure, ...]
    findings: tuple[Finding, ...] = ()
    chart: bool = False

    def p50(self, side: str) -> float:
        """The median of one side."""
        return next(figure.p50 for figure in self.figures if figure.side == side)


@dataclass(frozen=True, slots=True)
class Results:
    """The results of a run.

    Attributes:
        facts: The machine, the versions, the date, the command.
        rows: The comparisons.
        failures: The failed benchmarks, and why they failed.
    """

    facts: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes them as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Reads what `write` wrote."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(found["facts"], [_row(row) for row in found["rows"]], found["failures"])


def _row(found: dict[str, Any]) -> Row:
    figures = tuple(Figure(**one) for one in found.pop("figures"))
    findings = tuple(Finding(**one) for one in found.pop("findings"))
    return Row(**found, figures=figures, findings=findings)


def figure(side: str, values: Iterable[float], *, scale: float = 1.0, more_is_better: bool = False) -> Figure:
    """Summarizes measurements, each multiplied by `scale`."""
    ordered = sorted((value * scale for value in values), reverse=more_is_better)
    return Figure(side, statistics.median(ordered), _nine_of_ten(ordered), len(ordered))


def _nine_of_ten(ordered: Sequence[float]) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.9))]


def ratio(row: Row, side: str, other: str, goal: str = "", *, at_most: float = 0, at_least: float = 0) -> Finding:
    """Compares the medians of two sides."""
    value = row.p50(side) / row.p50(other)
    return Finding(f"{side} / {other}", value, "x", goal, _met(value, at_most, at_least))


def added(row: Row, side: str, other: str, goal: str = "", *, at_most: float = 0) -> Finding:
    """Returns how much more one side takes than another."""
    value = row.p50(side) - row.p50(other)
    return Finding(f"{side} - {other}", value, row.unit, goal, _met(value, at_most, 0))


def absolute(row: Row, side: str, goal: str, *, at_most: float) -> Finding:
    """Compares one side's median with a goal."""
    value = row.p50(side)
    return Finding(side, value, row.unit, goal, _met(value, at_most, 0))


def _met(value: float, at_most: float, at_least: float) -> bool | None:
    if not at_most and not at_least:
        return None
    return (not at_most or value <= at_most) and value >= at_least
