"""The tasks of a run as a tree, and merged into the tasks that a pipeline declares."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from kfadapter_grpc.contract.run_outputs import RunInput
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import Run, RunState, RunTask
from kfadapter_grpc.contract.spec import Task, TaskKind
from kfadapter_grpc.folding import combined, folded_tasks, merged_tasks, progress, rows_of, tasks_in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kfadapter_grpc.folding import Row

BEGUN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
NOW = BEGUN + timedelta(seconds=75)
OMITTED, PENDING, RUNNING, SKIPPED = RunState.OMITTED, RunState.PENDING, RunState.RUNNING, RunState.SKIPPED
SUCCEEDED, FAILED, CANCELED = RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELED


def task(name: str, state: RunState, seconds: int | None = None) -> RunTask:
    """Returns a container task that started with the run, and finished if a time is given."""
    end = None if seconds is None else BEGUN + timedelta(seconds=seconds)
    return RunTask(name, f"id-{name}", state, "", BEGUN, end, kind=TaskKind.CONTAINER)


LOOP = replace(task("for-loop-1", RUNNING), display_name="each", kind=TaskKind.LOOP)


def iteration(name: str, index: int, state: RunState, seconds: int | None = None) -> RunTask:
    """Returns a task of an iteration of `LOOP`."""
    made = replace(task(name, state, seconds), task_id=f"{name}{index}", parent_task_id=LOOP.task_id)
    return replace(made, iteration_index=index)


def run_of(*tasks: RunTask, state: RunState = RUNNING) -> Run:
    """Returns a run with these tasks."""
    return Run("r", "훈련", state, created_at=BEGUN, tasks=tasks)


def outline(rows: Sequence[Row], depth: int = 0) -> Iterator[str]:
    """Yields the names of rows and their states, indented; `+` marks those that are unfolded."""
    for row in rows:
        yield f"{'  ' * depth}{row.name} {row.state.value}{' +' if row.is_unfolded else ''}"
        yield from outline(row.rows, depth + 1)


def test_iterations_with_one_task_are_that_task() -> None:
    """A loop with one task inside has a row for each iteration, by its index, and a path that names the task."""
    run = run_of(LOOP, iteration("fit", 1, RUNNING), iteration("fit", 0, SUCCEEDED, 3))
    (loop,) = rows_of(run)
    assert list(outline([loop])) == ["each RUNNING", "  fit[0] SUCCEEDED", "  fit[1] RUNNING"]
    assert [row.path for row in loop.rows] == ["each[0]/fit", "each[1]/fit"]
    assert all(TaskPaths(run.tasks).find(row.path) is row.task for row in loop.rows)
    assert loop.rows[0].names == ("for-loop-1", "fit")


def test_iterations_with_several_tasks_have_rows_of_their_own() -> None:
    """The state and the times of such an iteration follow from its tasks."""
    tasks = [iteration("fit", 0, SUCCEEDED, 3), iteration("fit", 1, SUCCEEDED, 4), iteration("check", 0, SKIPPED, 9)]
    (loop,) = rows_of(run_of(LOOP, *tasks, iteration("check", 1, PENDING)))
    assert list(outline(loop.rows)) == [
        "each[0] SUCCEEDED",
        "  fit SUCCEEDED",
        "  check SKIPPED",
        "each[1] RUNNING",
        "  fit SUCCEEDED",
        "  check PENDING",
    ]
    assert loop.counts == Counter({SUCCEEDED: 1, RUNNING: 1})
    assert [(row.path, row.task, row.finished_at) for row in loop.rows] == [
        ("each[0]", None, BEGUN + timedelta(seconds=9)),
        ("each[1]", None, None),
    ]


def test_tasks_in_the_order_of_the_tree() -> None:
    """Groups precede their tasks, and iterations follow each other, whichever task started first."""
    fits = [iteration("fit", index, SUCCEEDED, 3) for index in (2, 0, 1)]
    found = tasks_in_order(run_of(task("report", SUCCEEDED, 4), *fits, LOOP))
    assert [one.task_id for one in found] == ["id-report", "id-for-loop-1", "fit0", "fit1", "fit2"]


def test_a_task_of_an_unknown_iteration() -> None:
    """Such a task belongs to none of the iterations; in the next KFP it is one whose driver failed in each of them."""
    lost = replace(task("check", FAILED, 2), parent_task_id=LOOP.task_id)
    (loop,) = rows_of(run_of(LOOP, iteration("fit", 0, SUCCEEDED, 3), iteration("fit", 1, SUCCEEDED, 4), lost))
    assert list(outline(loop.rows)) == ["fit[0] SUCCEEDED", "fit[1] SUCCEEDED", "check FAILED"]
    assert (loop.rows[-1].path, loop.total) == ("each/check", 3)


def test_what_failed_and_what_hangs_is_unfolded() -> None:
    """Groups around a failed task, and around a pending one with a warning, are unfolded; others are folded."""
    inner = replace(LOOP, task_id="id-inner", name="for-loop-2", display_name="inner", parent_task_id=LOOP.task_id)
    hanging = replace(iteration("pull", 2, PENDING), warnings=("ImagePullBackOff: no such image",))
    tasks = [
        LOOP,
        replace(inner, iteration_index=0),
        replace(iteration("fit", 5, FAILED, 3), parent_task_id="id-inner", error="broken"),
        replace(LOOP, task_id="id-good", name="good", display_name=""),
        replace(iteration("fit", 0, SUCCEEDED, 3), parent_task_id="id-good"),
        replace(LOOP, task_id="id-stuck", name="stuck", display_name=""),
        replace(hanging, parent_task_id="id-stuck"),
        replace(task("warned", RUNNING), warnings=("otherwise on a cluster",)),
    ]
    assert list(outline(rows_of(run_of(*tasks)))) == [
        "each RUNNING +",
        "  inner[0] RUNNING +",
        "    fit[5] FAILED",
        "good RUNNING",
        "  fit[0] SUCCEEDED",
        "stuck RUNNING +",
        "  pull[2] PENDING",
        "warned RUNNING",
    ]
    each, _, stuck, warned = rows_of(run_of(*tasks))
    assert each.rows[0].rows[0].problem == "broken"
    assert stuck.rows[0].hangs
    assert (stuck.rows[0].problem, warned.problem) == ("ImagePullBackOff: no such image", "")


@pytest.mark.parametrize(
    ("inputs", "declared", "total"),
    [
        ((), (), 4),
        ((RunInput("pipelinechannel--xs", list(range(40))),), (), 40),
        ((RunInput("pipelinechannel--xs", [1]), RunInput("pipelinechannel--ys", [1, 2])), (), 4),
        ((RunInput("pipelinechannel--xs", [1] * 9), RunInput("pipelinechannel--ys", [1, 2])), ("xs",), 9),
        ((), ('[1, 2, 3, "사과", 5]',), 5),
        ((), ("[1, 2,",), 4),
        ((RunInput("pipelinechannel--xs", [1, 2]),), (), 4),
    ],
)
def test_the_number_of_iterations_to_come(inputs: tuple[RunInput, ...], declared: tuple[str, ...], total: int) -> None:
    """A loop has as many as the list that it runs over, as far as that is known, and at least those it has had."""
    loop = replace(LOOP, inputs=inputs)
    spec = [Task("for-loop-1", kind=TaskKind.LOOP, loop_items=items) for items in declared]
    (row,) = rows_of(run_of(loop, iteration("fit", 3, RUNNING)), spec)
    assert row.total == total


def test_declared_tasks_are_pending() -> None:
    """Declared tasks that KFP does not report are pending rows, while their group and the run continue."""
    group = (Task("fit"), Task("check", display_name="검사"))
    declared = [Task("준비"), Task("group", kind=TaskKind.DAG, tasks=group), Task("report")]
    running = replace(task("group", RUNNING), kind=TaskKind.DAG)
    inside = replace(task("fit", RUNNING), parent_task_id="id-group")
    rows = rows_of(run_of(task("준비", SUCCEEDED, 3), running, inside), declared)
    assert list(outline(rows)) == [
        "준비 SUCCEEDED",
        "group RUNNING",
        "  fit RUNNING",
        "  검사 PENDING",
        "report PENDING",
    ]
    assert rows[1].rows[1].task is None
    assert progress(rows) == (1, 4)
    assert progress(rows_of(run_of(task("준비", SUCCEEDED, 3)), declared)) == (1, 4)
    assert [row.name for row in rows_of(run_of(task("준비", FAILED, 3), state=FAILED), declared)] == ["준비"]
    skipped = replace(running, state=SKIPPED)
    assert not rows_of(run_of(skipped), declared[1:2])[0].rows


def test_a_loop_counts_as_one_task() -> None:
    """All iterations of a loop count once, and finish with it, so that the total does not grow."""
    fits = [iteration("fit", index, SUCCEEDED, 3) for index in range(5)]
    assert progress(rows_of(run_of(LOOP, *fits, task("report", PENDING)))) == (0, 2)
    assert progress(rows_of(run_of(replace(LOOP, state=SUCCEEDED), *fits, task("report", PENDING)))) == (1, 2)


def test_malformed_parents_lose_no_task() -> None:
    """Tasks whose parent is unknown, or the task itself, are at the top."""
    tasks = [replace(task("a", RUNNING), parent_task_id="gone"), replace(task("b", RUNNING), parent_task_id="id-b")]
    assert list(outline(rows_of(run_of(*tasks)))) == ["a RUNNING", "b RUNNING"]


@pytest.mark.parametrize(
    ("states", "state"),
    [
        ([SUCCEEDED, FAILED, RUNNING], FAILED),
        ([SUCCEEDED, PENDING], RUNNING),
        ([PENDING, PENDING], PENDING),
        ([SUCCEEDED, CANCELED], CANCELED),
        ([SKIPPED, OMITTED], SKIPPED),
        ([SKIPPED, SUCCEEDED], SUCCEEDED),
        ([], RunState.UNKNOWN),
    ],
)
def test_the_state_of_several_tasks(states: list[RunState], state: RunState) -> None:
    """It fails with the first of them, runs while any does, and succeeds if any has."""
    assert combined(states) is state


def test_outcomes_of_declared_tasks() -> None:
    """Iterations of a loop are merged, with counts and the shortest and longest duration; the loop has their number."""
    ends = ((SUCCEEDED, 3), (SUCCEEDED, 9), (FAILED, 5))
    fits = [iteration("fit", index, *end) for index, end in enumerate(ends)]
    again = replace(task("준비", SUCCEEDED, 3), attempts=2, cached=True)
    waiting = replace(task("report", OMITTED), started_at=None)
    loop = replace(LOOP, state=FAILED, finished_at=BEGUN + timedelta(seconds=20))
    found = merged_tasks(run_of(again, loop, *fits, waiting))
    assert {path: one.words(NOW) for path, one in found.items()} == {
        ("준비",): "SUCCEEDED, 3s, cached, 2 attempts",
        ("for-loop-1",): "FAILED, 20s, 3 iterations",
        ("for-loop-1", "fit"): "2 SUCCEEDED, 1 FAILED, 3s to 9s",
        ("report",): "OMITTED",
    }
    assert found["for-loop-1", "fit"].state is FAILED
    going = merged_tasks(run_of(LOOP, *fits[2:], iteration("fit", 3, RUNNING)))
    assert going["for-loop-1", "fit"].words(NOW) == "1 FAILED, 1 RUNNING, 5s to 1m15s"


def test_a_task_whose_end_is_unknown() -> None:
    """A finished task without an end has no duration, instead of one that grows."""
    (lost,) = merged_tasks(run_of(task("nap", CANCELED), state=CANCELED)).values()
    assert lost.words(NOW) == "CANCELED"


def test_declared_tasks_of_a_run() -> None:
    """A run's tasks form a pipeline: iterations are merged, and groups depend on the producers of their inputs."""
    loop = replace(LOOP, state=SUCCEEDED)
    data, model = RunInput("data", source_task="준비"), RunInput("model", source_task="fit")
    fits = [replace(iteration("fit", index, SUCCEEDED, 3), inputs=(data,)) for index in range(3)]
    checks = [replace(one, name="check", task_id=f"c{one.task_id}", inputs=(model, data)) for one in fits]
    report = replace(task("report", SUCCEEDED, 9), inputs=(RunInput("all", source_task="for-loop-1"),))
    foreign = replace(task("other", SUCCEEDED, 9), inputs=(RunInput("x", source_task="not there"),))
    container = TaskKind.CONTAINER
    inside = (Task("fit", kind=container), Task("check", kind=container, depends_on=("fit",)))
    assert folded_tasks(run_of(task("준비", SUCCEEDED, 3), loop, *fits, *checks, report, foreign)) == (
        Task("준비", kind=container),
        Task("for-loop-1", kind=TaskKind.LOOP, depends_on=("준비",), tasks=inside, display_name="each"),
        Task("report", kind=container, depends_on=("for-loop-1",)),
        Task("other", kind=container),
    )
