from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from kfadapter_grpc.cli.drawing import Followed
from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.run_tree import (
    ASCII,
    UNICODE,
    planned_paths,
    run_line,
    short_error,
    task_lines,
)
from kfadapter_grpc.cli.watch import _judge
from kfadapter_grpc.contract.runs import Run, RunState, RunStateChange, RunTask
from kfadapter_grpc.contract.spec import Task, TaskKind

BEGUN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
NOW = BEGUN + timedelta(seconds=75)
PLANNED = planned_paths([Task("준비"), Task("loop", tasks=(Task("fit"),)), Task("report")])


def task(name: str, state: RunState, seconds: int | None = None, error: str = "") -> RunTask:
    """Returns a task that started with the run, and has finished if a time is given."""
    end = None if seconds is None else BEGUN + timedelta(seconds=seconds)
    return RunTask(name, f"id-{name}", state, error, BEGUN, end)


def running(*tasks: RunTask) -> Run:
    """Returns a run in progress."""
    return Run("r", "훈련", RunState.RUNNING, created_at=BEGUN, tasks=tasks)


TASKS = (
    task("준비", RunState.SUCCEEDED, 3),
    task("loop", RunState.RUNNING),
    task("loop[0]/fit", RunState.FAILED, 9, "Traceback ...\nRuntimeError: broken\n"),
    task("loop[1]/fit", RunState.RUNNING),
)


def test_tasks_are_a_tree() -> None:
    """Nested tasks are indented; wide characters keep the columns aligned; errors take one line."""
    assert task_lines(running(*TASKS), PLANNED, NOW, UNICODE) == [
        "✓ 준비      SUCCEEDED      3s",
        "● loop      RUNNING     1m15s",
        "✗   fit[0]  FAILED         9s  RuntimeError: broken",
        "●   fit[1]  RUNNING     1m15s",
        "· report    waiting",
    ]


def test_tasks_of_a_cluster() -> None:
    """Groups have their authors' names, iterations follow tasks; warnings, attempts and caching are shown."""
    loop = replace(task("for-loop-1", RunState.RUNNING), display_name="each", kind=TaskKind.LOOP)
    inside = replace(task("fit", RunState.SUCCEEDED, 3), parent_task_id=loop.task_id, kind=TaskKind.CONTAINER)
    fits = [
        replace(inside, task_id="a", iteration_index=0, cached=True),
        replace(inside, task_id="b", iteration_index=1, attempts=2, state=RunState.RUNNING, finished_at=None),
    ]
    stuck = replace(task("pull", RunState.PENDING), started_at=None, warnings=("ImagePullBackOff: no such image",))
    omitted = replace(task("report", RunState.OMITTED), started_at=None)
    planned = planned_paths([Task("for-loop-1", tasks=(Task("fit"),)), Task("pull"), Task("report"), Task("last")])
    assert task_lines(running(loop, *fits, stuck, omitted), planned, NOW, UNICODE) == [
        "● each      RUNNING     1m15s",
        "✓   fit[0]  SUCCEEDED      3s  cached",
        "●   fit[1]  RUNNING     1m15s  2 attempts",
        "· pull      PENDING    ImagePullBackOff: no such image",
        "- report    OMITTED",
        "· last      waiting",
    ]


def test_ascii_alone_will_do() -> None:
    """With the ASCII marks no other character is used."""
    marks = [line[0] for line in task_lines(running(*TASKS), PLANNED, NOW, ASCII)]
    assert marks == ["+", "*", "x", "*", "."]


def test_progress_counts_what_has_no_others_inside() -> None:
    """A looped task counts once, and ends with the loop, so that the total is constant; waiting tasks count too."""
    assert run_line(running(*TASKS), NOW, PLANNED) == "훈련  RUNNING  1m15s  1 of 3 tasks"
    ended = [replace(one, state=RunState.SUCCEEDED, finished_at=NOW) for one in TASKS]
    assert run_line(running(*TASKS[:1], TASKS[1], *ended[2:]), NOW, PLANNED) == "훈련  RUNNING  1m15s  1 of 3 tasks"
    assert run_line(running(*ended), NOW, PLANNED) == "훈련  RUNNING  1m15s  2 of 3 tasks"


def test_many_iterations_are_counted() -> None:
    """Of many iterations the failed and running ones have a line each, the others are counted on one line."""
    states = [RunState.SUCCEEDED] * 30 + [RunState.FAILED, RunState.RUNNING]
    fits = [
        task(f"loop[{index}]/fit", state, None if state is RunState.RUNNING else index, "broken" * (index == 30))
        for index, state in enumerate(states)
    ]
    assert task_lines(running(*TASKS[:2], *fits), PLANNED, NOW, UNICODE, most_iterations=3) == [
        "✓ 준비       SUCCEEDED      3s",
        "● loop       RUNNING     1m15s",
        "✓   fit      SUCCEEDED  30 iterations  0s to 29s",
        "✗   fit[30]  FAILED        30s  broken",
        "●   fit[31]  RUNNING     1m15s",
        "· report     waiting",
    ]
    assert len(task_lines(running(*TASKS[:2], *fits), PLANNED, NOW, UNICODE)) == 35


def test_a_run_that_is_over_waits_for_nothing() -> None:
    """In a finished run, tasks that never started are not shown as waiting."""
    over = Run("r", "x", RunState.FAILED, tasks=(task("준비", RunState.FAILED, 3),))
    assert len(task_lines(over, PLANNED, NOW, UNICODE)) == 1


def test_names_without_a_path_are_known_too() -> None:
    """A task that a server reports by its name only, without a path, is not shown as waiting."""
    lines = task_lines(running(task("fit", RunState.RUNNING)), ["loop/fit", "report"], NOW, UNICODE)
    assert [line.split()[1] for line in lines] == ["fit", "report"]


def test_an_error_may_not_steer_the_terminal() -> None:
    """Control characters are escaped, and long errors are cut with a mark."""
    assert short_error("a\n\x1b[2Jb", "…") == "\\x1b[2Jb"
    assert short_error("x" * 500, "…").endswith("x…")
    assert short_error("", "…") == ""


def test_a_retried_run_is_judged_by_its_end() -> None:
    """A run that succeeded after a retry counts as succeeded, though its history contains a termination."""
    history = (RunStateChange(RunState.CANCELED),)
    _judge([Followed(Run("r", state=RunState.SUCCEEDED, state_history=history))], ClientOptions())
    with pytest.raises(CommandError, match="was cancelled"):
        _judge([Followed(Run("r", state=RunState.CANCELED))], ClientOptions())


def test_only_changes_are_told() -> None:
    """Only tasks and runs whose state changed are reported."""
    one = Followed(running())
    assert [changed.name for changed in one.take(running(*TASKS[:2]))] == ["준비", "loop"]
    assert one.takes_state()
    assert [changed.name for changed in one.take(running(*TASKS))] == ["loop[0]/fit", "loop[1]/fit"]
    assert not one.takes_state()
