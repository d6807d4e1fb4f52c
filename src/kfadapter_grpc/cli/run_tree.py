"""A run as lines of text: its tasks, folded, and as many of them as fit."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len, set_cell_size

from kfadapter_grpc.cli.output import is_utf8
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.contract.spec import TaskKind
from kfadapter_grpc.folding import Row, progress, shown_state
from kfadapter_grpc.folding import counted as counted_rows
from kfadapter_grpc.graph.model import truncate
from kfadapter_grpc.printable import counted, one_line
from kfadapter_grpc.times import elapsed, shown_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from kfadapter_grpc.contract.runs import Run

MAX_ERROR = 160
"""The maximum width of an error on a task's line; the whole error is printed at the end."""
MAX_NAME = 40
"""The maximum width of a name; less on a narrow terminal."""
MAX_ITERATIONS = 10
"""The maximum number of iterations of a loop that are shown because they failed or hang."""
HANGING = "!"
"""The mark before a task whose pod does not start."""
_GAP = "  "
_INDENT = "  "


@dataclass(frozen=True, slots=True)
class Marks:
    """The symbols before tasks, by state; before tasks that have not started; the ellipsis."""

    states: Mapping[RunState, str]
    waiting: str
    ellipsis: str


UNICODE = Marks(
    {
        RunState.SUCCEEDED: "✓",
        RunState.FAILED: "✗",
        RunState.RUNNING: "●",
        RunState.SKIPPED: "-",
        RunState.OMITTED: "-",
        RunState.CANCELING: "◼",
        RunState.CANCELED: "◼",
    },
    "·",
    "…",
)
_ASCII_OF = {"✓": "+", "✗": "x", "●": "*", "◼": "#"}
ASCII = Marks({state: _ASCII_OF.get(mark, mark) for state, mark in UNICODE.states.items()}, ".", "...")


def marks_for(stream: TextIO | None = None) -> Marks:
    """Returns the marks that a stream, by default stdout, can encode."""
    return UNICODE if is_utf8(stream) else ASCII


class Rank(enum.IntEnum):
    """The importance of a line; in a small window, lines with the highest numbers are omitted first."""

    RUN = 0
    PROBLEM = 1
    RUNNING = 2
    LOG = 3
    PENDING = 4
    FINISHED = 5


@dataclass(frozen=True, slots=True)
class Line:
    """A line; `state` is that of its run or task, UNKNOWN for a line of a log."""

    text: str
    rank: Rank
    state: RunState = RunState.UNKNOWN


def run_line(run: Run, rows: Sequence[Row], now: datetime, marks: Marks, width: int = 0) -> Line:
    """Returns the status of a run: its name, state, time, how many of its tasks have finished, and of warnings."""
    columns = [shorten(one_line(run.display_name) or run.run_id, _max_name(width), marks), shown_state(run.state)]
    took = elapsed(run.created_at, run.finished_at, now, is_over=run.state.is_over)
    columns += [shown_duration(took)] if took is not None else []
    finished, total = progress(rows)
    if total:
        columns.append(f"{finished} of {counted(total, 'task')}")
    if run.warnings:
        columns.append(counted(len(run.warnings), "warning"))
    return Line(_GAP.join(columns), Rank.RUN, run.state)


def task_lines(
    rows: Sequence[Row],
    now: datetime,
    marks: Marks,
    encode: Callable[[str], str] = str,
    *,
    width: int = 0,
    unfolds: bool = False,
    tails: Mapping[str, str] | None = None,
) -> Iterator[Line]:
    """Yields the tasks, nested ones below their groups, each with its state, its time until `now`, and why it failed.

    `encode` returns a text as the output will show it. The `width` limits that of names; 0: unlimited. All groups are
    unfolded, or only where one failed or hangs. `tails` has the last line of the logs of tasks, by their id.
    """
    visible = list(_visible_rows(rows, 0, unfolds=unfolds))
    longest = _max_name(width)
    names = [encode(_INDENT * depth + shorten(one_line(row.name), longest, marks)) for depth, row, _ in visible]
    widest = max(map(cell_len, names), default=0)
    for (depth, row, hidden), name in zip(visible, names, strict=True):
        mark = HANGING if row.hangs else marks.states.get(row.state, marks.waiting)
        columns = [f"{mark} {set_cell_size(name, widest)}", *_columns(row, now, marks)]
        yield Line(encode(_GAP.join(columns).rstrip()), _rank(row), row.state)
        for path, tail in _log_lines(row, hidden, tails, "") if tails else ():
            yield Line(encode(_INDENT * (depth + 2) + f"{path} | {tail}".lstrip()), Rank.LOG)


def _max_name(width: int) -> int:
    return min(MAX_NAME, max(width // 2, 8)) if width else 0


def _visible_rows(rows: Sequence[Row], depth: int, *, unfolds: bool) -> Iterator[tuple[int, Row, Sequence[Row]]]:
    """Yields the visible rows, how deep they are, and the rows inside that are hidden.

    Of an unfolded loop only the first iterations that failed or hang are visible; its own line counts all.
    """
    for row in rows:
        visible = row.rows if unfolds or row.is_unfolded else ()
        if row.kind is TaskKind.LOOP and not unfolds:
            visible = tuple(islice((inner for inner in visible if inner.needs_attention), MAX_ITERATIONS))
        paths = {inner.path for inner in visible}
        yield depth, row, [inner for inner in row.rows if inner.path not in paths]
        yield from _visible_rows(visible, depth + 1, unfolds=unfolds)


def _rank(row: Row) -> Rank:
    if row.needs_attention:
        return Rank.PROBLEM
    if row.state.is_over:
        return Rank.FINISHED
    return Rank.PENDING if row.state is RunState.PENDING else Rank.RUNNING


def _columns(row: Row, now: datetime, marks: Marks) -> Iterator[str]:
    took = elapsed(row.started_at, row.finished_at, now, is_over=row.state.is_over)
    time = "" if took is None else shown_duration(took)
    if row.rows and row.state is not RunState.PENDING:
        yield f"[{counted_rows(row)}]"
        yield time
    else:
        yield f"{shown_state(row.state):<9}"
        if time:
            yield f"{time:>6}"
    if row.task and row.task.cached:
        yield "cached"
    if row.task and row.task.attempts > 1:
        yield f"{row.task.attempts} attempts"
    if row.problem:
        yield short_error(row.problem, marks)


def _log_lines(row: Row, hidden: Sequence[Row], tails: Mapping[str, str], path: str) -> Iterator[tuple[str, str]]:
    """Yields the last lines of the logs of a task and of those hidden in it, with their paths below it."""
    tail = tails.get(row.task.task_id) if row.task and row.state is RunState.RUNNING else None
    if tail is not None:  # one look: the threads that read logs change `tails` meanwhile
        yield path, tail
    for inner in hidden:
        is_iteration = row.kind is TaskKind.LOOP and inner.task is None  # its name has that of the loop
        above = path.rpartition("/")[0] if is_iteration else path
        yield from _log_lines(inner, inner.rows, tails, f"{above}/{inner.name}".removeprefix("/"))


def fit(lines: Sequence[Line], width: int, height: int, marks: Marks) -> list[Line]:
    """Returns the lines that fit; if some do not, the most important ones, and a line that counts the others."""
    visible, height = list(lines), max(height, 1)
    if len(lines) > height:
        by_rank = sorted(range(len(lines)), key=lambda index: lines[index].rank)
        visible = [lines[index] for index in sorted(by_rank[: height - 1])]
        counts = Counter(_noun(lines[index]) for index in by_rank[height - 1 :])
        summary = ", ".join(f"{number} {word}" for word, number in counts.items() if word)
        visible.append(Line(f"{marks.ellipsis} {summary or 'more lines'} not shown", Rank.RUN))
    return [replace(line, text=shorten(line.text, width, marks)) for line in visible]


def _noun(line: Line) -> str:
    if line.rank is Rank.LOG:
        return ""
    return "runs" if line.rank is Rank.RUN else shown_state(line.state).lower()


def short_error(text: str, marks: Marks) -> str:
    """Returns the last line of an error: of a traceback, the error itself."""
    lines = [line for line in text.splitlines() if line.strip()]
    return shorten(one_line(lines[-1]) if lines else "", MAX_ERROR, marks)


def shorten(text: str, width: int, marks: Marks) -> str:
    """Shortens a text to a number of columns, and marks the cut; 0 for no limit."""
    return truncate(text, width, marks.ellipsis) if width else text
