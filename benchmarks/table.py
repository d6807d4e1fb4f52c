"""Results as a table for terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.results import Figure, Finding, Row

_EXACT_BELOW = 10
_ONE_DIGIT_BELOW = 100


def number(value: float) -> str:
    """Formats a number; larger numbers have fewer decimals."""
    if abs(value) < _EXACT_BELOW:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < _ONE_DIGIT_BELOW else f"{value:.0f}"


def lines(row: Row) -> Iterator[str]:
    """Yields a row's title, its figures, and its findings."""
    yield f"{row.what} ({row.unit})"
    width = max(len(text) for text in (*(f.side for f in row.figures), *(f.what for f in row.findings)))
    for figure in row.figures:
        yield f"  {figure.side:<{width}}  {_figure(figure)}"
    for finding in row.findings:
        yield f"  {finding.what:<{width}}  {number(finding.value):>8} {finding.unit}{verdict(finding, '   ')}"


def verdict(finding: Finding, before: str = "") -> str:
    """Returns the goal and whether it is met; empty without a goal."""
    return f"{before}goal: {finding.goal}, {'met' if finding.met else 'MISSED'}" if finding.goal else ""


def _figure(figure: Figure) -> str:
    if figure.count == 1:
        return f"{number(figure.p50):>8}"
    return f"p50 {number(figure.p50):>8}   p90 {number(figure.p90):>8}   n {figure.count}"
