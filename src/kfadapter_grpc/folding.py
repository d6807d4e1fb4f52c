"""The tasks of a run as a tree, whose loops and groups are folded except where something failed or hangs."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.contract.spec import Task, TaskKind
from kfadapter_grpc.times import elapsed, shown_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from kfadapter_grpc.contract.runs import Run, RunTask

_CHANNEL = "pipelinechannel--"
"""The prefix of the inputs that the compiler gives to a loop."""
_COUNTED = (
    RunState.RUNNING,
    RunState.FAILED,
    RunState.CANCELING,
    RunState.CANCELED,
    RunState.SKIPPED,
    RunState.OMITTED,
    RunState.PAUSED,
)
"""The states that are counted beside a folded group, in this order."""
_FIRST_OF = (RunState.FAILED, RunState.CANCELING, RunState.RUNNING)
_LAST_OF = (RunState.CANCELED, RunState.SUCCEEDED, RunState.SKIPPED, RunState.OMITTED)


@dataclass(frozen=True, slots=True)
class Row:
    """A task of a run, one iteration of a loop, or a declared task that has not started.

    Attributes:
        path: The path that names the task, such as `each[1]/train`; of an iteration, `each[1]`.
        names: The names of the declared task and its groups, outermost first; empty for an iteration.
        name: How it is shown below its group, such as `train`, or `train[3]` for the only task of an iteration.
        task: The task; None for an iteration, and for a task that KFP does not report yet.
        total: How many rows there will be in the end, as far as known.
        is_unfolded: Whether something inside failed or hangs, so that it should be unfolded.
    """

    path: str
    names: tuple[str, ...]
    name: str
    kind: TaskKind
    state: RunState
    task: RunTask | None = None
    rows: tuple[Row, ...] = ()
    total: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    problem: str = ""
    is_unfolded: bool = False

    @property
    def counts(self) -> Counter[RunState]:
        return Counter(row.state for row in self.rows)

    @property
    def hangs(self) -> bool:
        """Whether its pod does not start, as for want of an image or a node."""
        return self.state is RunState.PENDING and bool(self.problem)

    @property
    def needs_attention(self) -> bool:
        """Whether it failed or hangs, or something inside did."""
        return self.is_unfolded or self.hangs or self.state is RunState.FAILED


def rows_of(run: Run, declared: Sequence[Task] = ()) -> tuple[Row, ...]:
    """Arranges the tasks of a run as a tree, in the order in which they started, iterations by their index.

    Of the declared tasks, those that have not started follow, while their group runs.
    """
    return _Rows(run).inside("", declared, (), "", waits=not run.state.is_over)


def tasks_in_order(run: Run) -> Iterator[RunTask]:
    """Returns the tasks of a run in the order of its tree."""
    return (row.task for row in flat(rows_of(run)) if row.task is not None)


def flat(rows: Iterable[Row]) -> Iterator[Row]:
    """Yields rows, each before those inside it."""
    for row in rows:
        yield row
        yield from flat(row.rows)


class _Rows:
    def __init__(self, run: Run) -> None:
        self._paths = TaskPaths(run.tasks)
        ids = {task.task_id for task in run.tasks}
        self._inside: dict[str, list[RunTask]] = {}
        for task in run.tasks:
            parent = task.parent_task_id
            self._inside.setdefault(parent if parent in ids and parent != task.task_id else "", []).append(task)

    def inside(
        self, group: str, declared: Sequence[Task], names: tuple[str, ...], path: str, *, waits: bool
    ) -> tuple[Row, ...]:
        """Returns the rows of a group by its id; of the whole run without one."""
        return self._of(self._inside.get(group, ()), declared, names, path, waits=waits)

    def _of(
        self, tasks: Iterable[RunTask], declared: Sequence[Task], names: tuple[str, ...], path: str, *, waits: bool
    ) -> tuple[Row, ...]:
        by_name = {one.name: one for one in declared}
        rows = [self._row(task, by_name.get(task.name), names, path) for task in tasks]
        started = {row.names[-1] for row in rows}
        rows += [_waiting(one, names, path) for one in declared if waits and one.name not in started]
        return tuple(rows)

    def _row(self, task: RunTask, declared: Task | None, names: tuple[str, ...], path: str) -> Row:
        name = str(self._paths.parts(task)[-1])
        names, path = (*names, task.name), path + name
        inside = declared.tasks if declared else ()
        waits = not task.state.is_over
        if task.kind is TaskKind.LOOP:
            rows = self._iterations(task, inside, names, path, waits=waits)
            indices = [one.iteration_index for one in self._inside.get(task.task_id, ())]
            total = max([_expected(task, declared), *(one + 1 for one in indices if one is not None)])
            total += indices.count(None)
        else:
            rows = self.inside(task.task_id, inside, names, f"{path}/", waits=waits)
            total = len(rows)
        return Row(
            path,
            names,
            name,
            task.kind,
            task.state,
            task,
            rows,
            total,
            task.started_at,
            task.finished_at,
            problem=problem_of(task),
            is_unfolded=any(row.needs_attention for row in rows),
        )

    def _iterations(
        self, loop: RunTask, declared: Sequence[Task], names: tuple[str, ...], path: str, *, waits: bool
    ) -> tuple[Row, ...]:
        """Returns the iterations of a loop; if each has a single task, that task stands for it.

        Tasks of which KFP does not report the iteration follow: in the next KFP those whose driver failed.
        """
        by_index: dict[int | None, list[RunTask]] = {}
        for task in self._inside.get(loop.task_id, ()):
            by_index.setdefault(task.iteration_index, []).append(task)
        others = self._of(by_index.pop(None, ()), (), names, f"{path}/", waits=False)
        found = {
            index: self._of(tasks, declared, names, f"{path}[{index}]/", waits=waits)
            for index, tasks in sorted(by_index.items())
        }
        if all(len(rows) == 1 for rows in found.values()):
            rows = [replace(rows[0], name=f"{rows[0].name}[{index}]") for index, rows in found.items()]
        else:
            rows = [_iteration(f"{path}[{index}]", rows) for index, rows in found.items()]
        return (*rows, *others)


def _iteration(path: str, rows: tuple[Row, ...]) -> Row:
    state = combined(row.state for row in rows)
    finished = [row.finished_at for row in rows if row.finished_at]
    return Row(
        path,
        (),
        path.rpartition("/")[2],
        TaskKind.UNKNOWN,
        state,
        rows=rows,
        total=len(rows),
        started_at=min((row.started_at for row in rows if row.started_at), default=None),
        finished_at=max(finished, default=None) if all(row.state.is_over for row in rows) else None,
        is_unfolded=any(row.needs_attention for row in rows),
    )


def _waiting(task: Task, names: tuple[str, ...], path: str) -> Row:
    """Returns the row of a declared task that has not started."""
    names = (*names, task.name)
    inside = () if task.kind is TaskKind.LOOP else task.tasks
    rows = tuple(_waiting(one, names, f"{path}{task.name}/") for one in inside)
    return Row(
        path + task.name, names, task.display_name or task.name, task.kind, RunState.PENDING, None, rows, len(rows)
    )


def _expected(loop: RunTask, declared: Task | None) -> int:
    """Returns how many iterations a loop will have by the list that it runs over; 0 if that is unknown."""
    source = declared.loop_items if declared else ""
    lists = {one.name.removeprefix(_CHANNEL): one.value for one in loop.inputs if isinstance(one.value, list)}
    items = lists.get(source, next(iter(lists.values())) if len(lists) == 1 else None)
    if items is None and source.startswith("["):
        with suppress(ValueError):
            items = json.loads(source)
    return len(items) if items is not None else 0


def problem_of(task: RunTask) -> str:
    """Returns why a task failed, or why its pod does not start: KFP reports that as a warning of a pending task."""
    return task.warnings[0] if task.state is RunState.PENDING and task.warnings else task.error


def progress(rows: Sequence[Row]) -> tuple[int, int]:
    """Returns how many tasks have finished, and of how many. A loop counts as one, which finishes with the loop."""
    finished = total = 0
    for row in rows:
        is_group = row.rows and row.kind is not TaskKind.LOOP
        done, of = progress(row.rows) if is_group else (int(row.state.is_over), 1)
        finished, total = finished + done, total + of
    return finished, total


def counted(row: Row) -> str:
    """Counts the rows of a loop or a group: `12/300, 4 running, 1 failed`.

    If a group holds just another one, what is inside that one is counted.
    """
    while row.kind is not TaskKind.LOOP and len(row.rows) == 1 and row.rows[0].rows:
        (row,) = row.rows
    counts = row.counts
    words = [f"{sum(number for state, number in counts.items() if state.is_over)}/{row.total}"]
    words += [f"{counts[state]} {state.value.lower()}" for state in _COUNTED if counts[state]]
    hanging = sum(one.hangs for one in row.rows)
    return ", ".join([*words, f"{hanging} hanging"] if hanging else words)


def combined(states: Iterable[RunState]) -> RunState:
    """Returns the state of a group whose tasks have these states: it has failed as soon as one of them has."""
    found = set(states)
    for state in _FIRST_OF:
        if state in found:
            return state
    if not all(state.is_over for state in found):
        return RunState.RUNNING if any(state.is_over for state in found) else RunState.PENDING
    return next((state for state in _LAST_OF if state in found), RunState.UNKNOWN)


# --- for a picture of the pipeline -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of a declared task: one task of the run, or one for each iteration of the loops around it.

    Attributes:
        iterations: How many iterations it has had itself, if it is a single loop.
    """

    tasks: tuple[RunTask, ...]
    iterations: int = 0

    @property
    def state(self) -> RunState:
        return combined(task.state for task in self.tasks)

    @property
    def counts(self) -> Counter[RunState]:
        return Counter(task.state for task in self.tasks)

    def words(self, now: datetime) -> str:
        """Describes the outcome; `now` is the end of the elapsed time of unfinished tasks."""
        one = len(self.tasks) == 1
        words = [shown_state(state) if one else f"{n} {shown_state(state)}" for state, n in self.counts.most_common()]
        known = (elapsed(one.started_at, one.finished_at, now, is_over=one.state.is_over) for one in self.tasks)
        times = [time for time in known if time is not None]
        shortest, longest = (shown_duration(min(times)), shown_duration(max(times))) if times else ("", "")
        words += [shortest if shortest == longest else f"{shortest} to {longest}"]
        words += ["cached"] if all(task.cached for task in self.tasks) else []
        words += [f"{self.tasks[0].attempts} attempts"] if one and self.tasks[0].attempts > 1 else []
        words += [f"{self.iterations} iterations"] if self.iterations else []
        return ", ".join(filter(None, words))


def merged_tasks(run: Run) -> Mapping[tuple[str, ...], Merged]:
    """Returns what became of each declared task, by its name and those of its groups, outermost first."""
    paths = TaskPaths(run.tasks)
    found: dict[tuple[str, ...], list[RunTask]] = {}
    iterations: dict[str, set[int]] = {}
    for task in run.tasks:
        found.setdefault(tuple(part.name for part in paths.parts(task)), []).append(task)
        if task.iteration_index is not None:
            iterations.setdefault(task.parent_task_id, set()).add(task.iteration_index)
    return {
        path: Merged(
            tuple(tasks),
            len(iterations.get(tasks[0].task_id, ())) if len(tasks) == 1 and tasks[0].kind is TaskKind.LOOP else 0,
        )
        for path, tasks in found.items()
    }


def folded_tasks(run: Run) -> tuple[Task, ...]:
    """Reconstructs declared tasks from those of a run; the iterations of a loop become one.

    In a run, dependencies are known only from outputs that a task uses.
    """
    found = merged_tasks(run)
    awaited: dict[tuple[str, ...], dict[str, None]] = {}
    inside: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for path, merged in found.items():
        inside.setdefault(path[:-1], []).append(path)
        around = [path[:length] for length in range(len(path), 0, -1)]
        for source in [one.source_task for task in merged.tasks for one in task.inputs if one.source_task]:
            beside = (one for one in around if one[-1] != source and (*one[:-1], source) in found)
            if (waiting := next(beside, None)) is not None:
                awaited.setdefault(waiting, {})[source] = None

    def tasks_of(group: tuple[str, ...]) -> tuple[Task, ...]:
        return tuple(
            Task(
                path[-1],
                kind=found[path].tasks[0].kind,
                depends_on=tuple(awaited.get(path, ())),
                tasks=tasks_of(path),
                display_name=found[path].tasks[0].display_name,
            )
            for path in inside.get(group, ())
        )

    return tasks_of(())


def shown_state(state: RunState) -> str:
    """Returns the name of a state, also of an unknown one."""
    return state.value or "UNKNOWN"
