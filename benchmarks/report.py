"""Writes the figures of a run into docs/benchmarks.md, between its markers, and draws the chart next to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.chart import draw
from benchmarks.table import number, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.results import Figure, Finding, Results, Row

DOCS = Path(__file__).resolve().parent.parent / "docs"
"""Where both are written."""
_PART = "<!-- {name}: made by scripts/benchmark --markdown -->\n"
_END = "<!-- end of {name} -->"


def write_document(results: Results, folder: Path = DOCS) -> None:
    """Rewrites the generated parts of `benchmarks.md`, and `benchmarks.svg`."""
    page = folder / "benchmarks.md"
    text = page.read_text(encoding="utf-8")
    for name, lines in (("goals", _goals(results)), ("machine", _machine(results)), ("figures", _figures(results))):
        text = _replaced(text, name, "\n".join(lines))
    page.write_text(text, encoding="utf-8")
    (folder / "benchmarks.svg").write_text(draw(results.rows), encoding="utf-8")


def _replaced(text: str, name: str, part: str) -> str:
    begin, end = _PART.format(name=name), _END.format(name=name)
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        message = f"docs/benchmarks.md has no part '{name}'"
        raise ValueError(message)
    return f"{before}{begin}\n{part}\n\n{end}{after}"


def _goals(results: Results) -> Iterator[str]:
    """The goals, and whether they are met."""
    yield from _head("What", "Compared", "Goal", "Found", "")
    for row in results.rows:
        for finding in row.findings:
            if finding.goal:
                met = "met" if finding.met else "**missed**"
                yield _cells(row.what, finding.what, finding.goal, _value(finding), met)


def _machine(results: Results) -> Iterator[str]:
    yield from _head("", "")
    for key, value in results.facts.items():
        yield _cells(key, f"`{value}`" if key == "Command" else value)
    for name, why in results.failures.items():
        yield _cells(f"failed: {name}", why.replace("\n", " "))


def _figures(results: Results) -> Iterator[str]:
    """One table for each benchmark."""
    for benchmark in dict.fromkeys(row.benchmark for row in results.rows):
        yield f"### {benchmark.replace('_', ' ').capitalize()}"
        yield ""
        yield from _head("", "Unit", "Side", "p50", "p90", "n", "Compared")
        for row in results.rows:
            if row.benchmark == benchmark:
                yield from _table_rows(row)
        yield ""


def _table_rows(row: Row) -> Iterator[str]:
    """A row for each side; a comparison is in the row of its first side."""
    for index, figure in enumerate(row.figures):
        compared = "; ".join(_compared(one) for one in row.findings if _is_of(one, figure))
        what, unit = ("", "") if index else (row.what, row.unit)
        p90 = number(figure.p90) if figure.count > 1 else ""
        yield _cells(what, unit, figure.side, number(figure.p50), p90, str(figure.count), compared)


def _is_of(finding: Finding, figure: Figure) -> bool:
    first, _, _ = finding.what.replace(" - ", " / ").partition(" / ")
    return first == figure.side


def _compared(finding: Finding) -> str:
    return f"{finding.what}: {_value(finding)}{verdict(finding, ', ')}"


def _value(finding: Finding) -> str:
    return f"{number(finding.value)} {finding.unit}"


def _head(*titles: str) -> Iterator[str]:
    yield _cells(*titles)
    yield "|" + "---|" * len(titles)


def _cells(*texts: str) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"
