"""The tasks of a run as lines: finished, running, and not started."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len, set_cell_size

from kfadapter_grpc.cli.output import is_utf8
from kfadapter_grpc.cli.text import one_line
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.folding import shown_state
from kfadapter_grpc.times import shown_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from kfadapter_grpc.contract.runs import Run, RunTask
    from kfadapter_grpc.contract.spec import Task

LONGEST_ERROR = 160
"""How many columns an error may take on a task's line; the whole of it is printed at the end."""
_GAP = "  "
_INDENT = 2
_ITERATION = re.compile(r"\[\d+\]")
_FOLDED = frozenset({RunState.SUCCEEDED, RunState.SKIPPED, RunState.OMITTED})
WAITING = "waiting"
"""What stands for the state of a task that has not begun."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks before tasks.

    Attributes:
        states: By the state of a task.
        waiting: For tasks that have not started.
        cut: For text that is cut off.
    """

    states: Mapping[RunState, str]
    waiting: str
    cut: str


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
ASCII = Marks(
    {
        RunState.SUCCEEDED: "+",
        RunState.FAILED: "x",
        RunState.RUNNING: "*",
        RunState.SKIPPED: "-",
        RunState.OMITTED: "-",
        RunState.CANCELING: "#",
        RunState.CANCELED: "#",
    },
    ".",
    "...",
)


def marks_for(stream: TextIO | None = None) -> Marks:
    """Returns the marks that a stream, by default stdout, can encode."""
    return UNICODE if is_utf8(stream) else ASCII


@dataclass(frozen=True, slots=True)
class _Row:
    """A displayed task; `task` is None if it has not started, and the first of several `iterations`."""

    path: tuple[str, ...]
    task: RunTask | None = None
    label: str = ""
    iterations: tuple[RunTask, ...] = ()

    @property
    def declared(self) -> tuple[str, ...]:
        """The path of the declared task, without iterations."""
        return tuple(_ITERATION.sub("", part) for part in self.path)


def run_line(run: Run, now: datetime, planned: Sequence[str] = ()) -> str:
    """Returns the status of a run: its name, state, time, and how many of its tasks have finished.

    Args:
        run: The run.
        now: The end of the elapsed time of an unfinished run.
        planned: The paths of the tasks that the pipeline declares.
    """
    words = [one_line(run.display_name) or run.run_id, shown_state(run.state)]
    if run.created_at is not None:
        words.append(shown_duration((run.finished_at or now) - run.created_at))
    return _GAP.join([*words, *_progress(run, planned)])


def task_lines(
    run: Run,
    planned: Sequence[str],
    now: datetime,
    marks: Marks,
    shown: Callable[[str], str] = str,
    *,
    most_iterations: int = sys.maxsize,
) -> list[str]:
    """Draws the tasks, nested ones below their groups, each with its state, its time, and why it failed.

    Args:
        run: The run with its tasks.
        planned: The paths of the tasks that the pipeline declares; those that have not started are shown as waiting.
        now: The end of the elapsed time of an unfinished task.
        marks: The marks before the tasks.
        shown: Returns a text as the output will show it, so that its width is known.
        most_iterations: More iterations than this with the same outcome, except failures, are counted on one line.
    """
    rows = _ordered([*_counted(_begun(run), most_iterations), *_waiting(run, planned)])
    names = [shown(" " * _INDENT * (len(row.path) - 1) + one_line(row.label or row.path[-1])) for row in rows]
    widest = max(map(cell_len, names), default=0)
    return [_line(row, set_cell_size(name, widest), now, marks) for row, name in zip(rows, names, strict=True)]


def planned_paths(tasks: Iterable[Task], before: str = "") -> list[str]:
    """Lists the tasks that a pipeline declares, nested ones with a path, as runs name them."""
    paths: list[str] = []
    for task in tasks:
        path = f"{before}{task.name}"
        paths.append(path)
        paths += planned_paths(task.tasks, f"{path}/")
    return paths


def _times(lengths: Sequence[timedelta]) -> str:
    """The shortest and the longest duration of tasks."""
    shown = list(dict.fromkeys(shown_duration(one) for one in (min(lengths), max(lengths)))) if lengths else []
    return " to ".join(shown)


def short_error(text: str, cut: str) -> str:
    """Returns the last line of an error, which in a traceback is the error itself."""
    lines = [line for line in text.splitlines() if line.strip()]
    last = one_line(lines[-1]) if lines else ""
    if cell_len(last) <= LONGEST_ERROR:
        return last
    return set_cell_size(last, LONGEST_ERROR - cell_len(cut)).rstrip() + cut


def _line(row: _Row, name: str, now: datetime, marks: Marks) -> str:
    task = row.task
    if task is None:
        return f"{marks.waiting} {name}{_GAP}{WAITING}"
    words = [f"{marks.states.get(task.state, marks.waiting)} {name}", f"{shown_state(task.state):<9}"]
    if row.iterations:
        times = [one.finished_at - one.started_at for one in row.iterations if one.started_at and one.finished_at]
        words += [f"{len(row.iterations)} iterations", _times(times)]
        return _GAP.join(words).rstrip()
    if task.started_at is not None:
        words.append(f"{shown_duration((task.finished_at or now) - task.started_at):>6}")
    if task.cached:
        words.append("cached")
    if task.attempts > 1:
        words.append(f"{task.attempts} attempts")
    words += [short_error(text, marks.cut) for text in (task.error, *task.warnings) if text]
    return _GAP.join(words).rstrip()


def _progress(run: Run, planned: Sequence[str]) -> list[str]:
    """Counts leaf tasks. All iterations of a loop count as one task, which finishes with the loop."""
    rows = [*_begun(run), *_waiting(run, planned)]
    running = {row.declared for row in rows if row.task is None or not row.task.state.is_over}
    leaves = {row.declared: row.path != row.declared for row in _leaves(rows)}
    over = sum(
        not running & ({path[:length] for length in range(1, len(path))} | {path} if in_loop else {path})
        for path, in_loop in leaves.items()
    )
    if not leaves:
        return []
    return [f"{over} of {len(leaves)} {'task' if len(leaves) == 1 else 'tasks'}"]


def _leaves(rows: Sequence[_Row]) -> Iterator[_Row]:
    groups = {row.path[:length] for row in rows for length in range(1, len(row.path))}
    yield from (row for row in rows if row.path not in groups)


def _begun(run: Run) -> list[_Row]:
    """Arranges the tasks that KFP reports, each with its display name."""
    paths = TaskPaths(run.tasks)
    rows = []
    for task in run.tasks:
        parts = paths.parts(task)
        path = _path("/".join(str(part._replace(shown=part.name)) for part in parts))
        shown = parts[-1].shown
        rows.append(_Row(path, task, "" if shown == task.name else shown + path[-1].removeprefix(task.name)))
    return rows


def _counted(rows: Sequence[_Row], most: int) -> Iterator[_Row]:
    """Merges the iterations of a task with the same outcome, if there are more than the limit."""
    alike: dict[tuple[tuple[str, ...], RunState], list[RunTask]] = {}
    for row in rows:
        if row.task and row.path != row.declared and row.task.state in _FOLDED:
            alike.setdefault((row.declared, row.task.state), []).append(row.task)
    for row in rows:
        tasks = alike.get((row.declared, row.task.state), []) if row.task and row.path != row.declared else []
        if len(tasks) <= most:
            yield row
        elif tasks[0] is row.task:
            yield _Row(row.declared, row.task, row.label, tuple(tasks))


def _waiting(run: Run, planned: Sequence[str]) -> list[_Row]:
    """Returns the tasks that have not started, unless the run has finished. Some servers name tasks without a path."""
    if run.state.is_over:
        return []
    begun = {"/".join(row.declared) for row in _begun(run)}
    begun |= {name.rpartition("/")[2] for name in begun}
    return [_Row(_path(path)) for path in planned if path not in begun and path.rpartition("/")[2] not in begun]


def _path(name: str) -> tuple[str, ...]:
    """Splits a name; the iterations of loops that a task is in follow its own name: `fit[0]`."""
    *groups, last = [part for part in name.split("/") if part] or [name]
    iterations = "".join(found for group in groups for found in _ITERATION.findall(group))
    return (*(_ITERATION.sub("", group) for group in groups), last + iterations)


def _ordered(rows: Sequence[_Row]) -> list[_Row]:
    """Puts tasks below their groups, otherwise in the given order."""
    places: dict[tuple[str, ...], int] = {}
    for row in rows:
        for length in range(1, len(row.path) + 1):
            places.setdefault(row.path[:length], len(places))
    return sorted(rows, key=lambda row: [places[row.path[:length]] for length in range(1, len(row.path) + 1)])
