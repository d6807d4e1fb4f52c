"""Watched runs, drawn to given sizes; and what running tasks write, cut to a line each."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, cast

import pytest
from rich.cells import cell_len

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.logs import MAX_STREAMS, LogTails, own_lines
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.run_tree import ASCII, UNICODE, Marks, short_error, task_lines
from kfadapter_grpc.cli.watch import WatchedRun, _raise_outcome, render
from kfadapter_grpc.contract.errors import UnsupportedByKfpError
from kfadapter_grpc.contract.runs import Run, RunState, RunStateChange, RunTask
from kfadapter_grpc.contract.spec import Task, TaskKind
from kfadapter_grpc.folding import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kfadapter_grpc.client import Client

BEGUN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
NOW = BEGUN + timedelta(seconds=75)
DECLARED = (Task("준비"), Task("loop", kind=TaskKind.LOOP, tasks=(Task("fit"),)), Task("report"))


def task(name: str, state: RunState, seconds: int | None = None, error: str = "") -> RunTask:
    """Returns a task that started with the run, and has finished if a time is given."""
    end = None if seconds is None else BEGUN + timedelta(seconds=seconds)
    return RunTask(name, f"id-{name}", state, error, BEGUN, end, kind=TaskKind.CONTAINER)


LOOP = replace(task("loop", RunState.RUNNING), kind=TaskKind.LOOP)


def fit(index: int, state: RunState, seconds: int | None = None, error: str = "") -> RunTask:
    """Returns the only task of an iteration of `LOOP`."""
    made = replace(task("fit", state, seconds, error), task_id=f"fit{index}", parent_task_id=LOOP.task_id)
    return replace(made, iteration_index=index)


def running(*tasks: RunTask) -> Run:
    """Returns a run in progress."""
    return Run("r", "훈련", RunState.RUNNING, created_at=BEGUN, tasks=tasks)


TASKS = (
    task("준비", RunState.SUCCEEDED, 3),
    LOOP,
    fit(0, RunState.FAILED, 9, "Traceback ...\nRuntimeError: broken\n"),
    fit(1, RunState.RUNNING),
    fit(2, RunState.SUCCEEDED, 5),
)


def drawn(
    *runs: Run,
    size: tuple[int, int] = (80, 24),
    marks: Marks = UNICODE,
    tails: Mapping[str, str] | None = None,
    missing: str = "",
) -> list[str]:
    """Draws runs."""
    followed = [WatchedRun(run, DECLARED) for run in runs]
    return [line.text for line in render(followed, NOW, size, marks, tails=tails, missing=missing)]


def test_a_run_is_folded() -> None:
    """A loop is one line with counts, below it only what failed; wide characters keep the columns aligned."""
    assert drawn(running(*TASKS)) == [
        "훈련  RUNNING  1m15s  1 of 3 tasks",
        "✓ 준비      SUCCEEDED      3s",
        "● loop      [2/3, 1 running, 1 failed]  1m15s",
        "✗   fit[0]  FAILED         9s  RuntimeError: broken",
        "· report    PENDING",
    ]


def test_groups_are_folded_and_hanging_tasks_are_not() -> None:
    """Groups count their tasks; a pod that does not start is shown with its reason; attempts and caching, too."""
    group = replace(task("evaluate", RunState.RUNNING), kind=TaskKind.DAG)
    inside = replace(task("plot", RunState.RUNNING), parent_task_id=group.task_id)
    done = replace(task("score", RunState.SUCCEEDED, 3), parent_task_id=group.task_id)
    other = replace(group, name="deploy", task_id="deploy", display_name="배포")
    pending = replace(task("pull", RunState.PENDING), started_at=None, parent_task_id="deploy")
    run = running(
        replace(task("준비", RunState.SUCCEEDED, 3), cached=True),
        replace(task("again", RunState.RUNNING), attempts=2),
        group,
        inside,
        done,
        other,
        replace(pending, warnings=("ImagePullBackOff: no such image",)),
        replace(task("omitted", RunState.OMITTED), started_at=None),
    )
    run = replace(run, warnings=("task 'deploy/pull': ImagePullBackOff: no such image",))
    lines = [line.text for line in render([WatchedRun(run)], NOW, (80, 24), UNICODE)]
    assert lines == [
        "훈련  RUNNING  1m15s  3 of 6 tasks  1 warning",
        "✓ 준비      SUCCEEDED      3s  cached",
        "● again     RUNNING     1m15s  2 attempts",
        "● evaluate  [1/2, 1 running]  1m15s",
        "● 배포      [0/1, 1 hanging]  1m15s",
        "!   pull    PENDING    ImagePullBackOff: no such image",
        "- omitted   OMITTED",
    ]


def test_ascii_alone_will_do() -> None:
    """With the ASCII marks no other character is used."""
    assert [line[0] for line in drawn(running(*TASKS), marks=ASCII)[1:]] == ["+", "*", "x", "."]
    assert drawn(running(*TASKS), marks=ASCII, size=(30, 3))[1:] == [
        "* loop      [2/3, 1 running...",
        "... 1 failed, 1 pending, 1...",
    ]


@pytest.mark.parametrize("width", [8, 20, 33, 80, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 24])
@pytest.mark.parametrize("marks", [UNICODE, ASCII])
def test_a_picture_fits_into_any_window(width: int, height: int, marks: Marks, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tasks there are, and however long or wide their names, it is never taller or wider."""
    if marks is ASCII:
        monkeypatch.setattr(output, "encodable", lambda text: text.encode("ascii", "backslashreplace").decode())
    long = [replace(task("이름이" * 40, RunState.FAILED, 3, "원인 " * 90), task_id=str(number)) for number in range(30)]
    run = replace(running(*TASKS, *long), display_name="아주 긴 이름 " * 20)
    lines = drawn(
        run, run, size=(width, height), marks=marks, tails={"fit1": "손실 " * 50}, missing="Kubeflow Pipelines"
    )
    assert len(lines) == height
    assert all(cell_len(line) <= width for line in lines)
    assert marks is UNICODE or all(map(str.isascii, lines))


def test_priorities_in_a_small_window() -> None:
    """Failed tasks stay before running ones, those before logs, pending and finished ones; the others are counted."""
    assert drawn(running(*TASKS), size=(80, 4), tails={"fit1": "epoch 3"}) == [
        "훈련  RUNNING  1m15s  1 of 3 tasks",
        "● loop      [2/3, 1 running, 1 failed]  1m15s",
        "✗   fit[0]  FAILED         9s  RuntimeError: broken",
        "… 1 pending, 1 succeeded not shown",
    ]
    assert drawn(running(*TASKS), running(), running(), size=(80, 2))[1:] == [
        "… 2 runs, 1 running, 1 failed, 7 pending, 1 succeeded not shown"
    ]


def test_many_failed_iterations_are_not_all_shown() -> None:
    """Of a loop at most the first ten iterations that failed are shown; its own line counts all of them."""
    fits = [fit(index, RunState.FAILED, 3) for index in range(2000)]
    lines = drawn(running(LOOP, *fits))
    assert lines[1] == "● loop      [2000/2000, 2000 failed]  1m15s"
    assert [line.split()[1] for line in lines[2:12]] == [f"fit[{index}]" for index in range(10)]
    assert len(lines) == 14
    assert len(list(task_lines(rows_of(running(LOOP, *fits)), NOW, UNICODE, unfolds=True))) == 2001


def test_the_last_line_of_a_log() -> None:
    """It stands below its task, or below the folded group that the task is in, and is cut to the width."""
    tails = {"fit1": "epoch 3 loss=0.0312 " * 9, "id-준비": "finished"}
    assert drawn(running(*TASKS), tails=tails, size=(40, 24))[2:4] == [
        "● loop      [2/3, 1 running, 1 failed]…",
        "    fit[1] | epoch 3 loss=0.0312 epoch…",
    ]
    alone = drawn(running(task("준비", RunState.RUNNING)), tails={"id-준비": "읽는 중"})
    assert alone[1:3] == ["● 준비    RUNNING     1m15s", "    | 읽는 중"]


def test_an_unreachable_kfp_is_reported_first() -> None:
    """While Kubeflow Pipelines is unreachable, the first line reports it."""
    assert (
        drawn(running(*TASKS), missing="Kubeflow Pipelines")[0] == "Kubeflow Pipelines is unreachable; waiting for it"
    )


def test_an_error_may_not_steer_the_terminal() -> None:
    """Control characters are escaped, and long errors are cut with a mark."""
    assert short_error("a\n\x1b[2Jb", UNICODE) == "\\x1b[2Jb"
    assert short_error("x" * 500, UNICODE).endswith("x…")
    assert not short_error("", UNICODE)


def test_a_retried_run_is_judged_by_its_end() -> None:
    """A run that succeeded after a retry counts as succeeded, though its history contains a termination."""
    history = (RunStateChange(RunState.CANCELED),)
    _raise_outcome([WatchedRun(Run("r", state=RunState.SUCCEEDED, state_history=history))], ClientOptions())
    with pytest.raises(CommandError, match="was cancelled"):
        _raise_outcome([WatchedRun(Run("r", state=RunState.CANCELED))], ClientOptions())


def test_only_changes_are_reported() -> None:
    """Only tasks and runs whose state or problem changed are reported."""
    one = WatchedRun(running())
    assert [changed.name for changed in one.update(running(*TASKS[:2]))] == ["준비", "loop"]
    assert one.has_new_state()
    assert [changed.task_id for changed in one.update(running(*TASKS[:4]))] == ["fit0", "fit1"]
    assert not one.has_new_state()
    pending = replace(task("pull", RunState.PENDING), warnings=("ImagePullBackOff",))
    assert not one.update(running(*TASKS[:3], replace(TASKS[3], warnings=("otherwise on a cluster",))))
    assert [changed.name for changed in one.update(running(*TASKS[:4], pending))] == ["pull"]
    assert not one.update(running(*TASKS[:4], pending))


def test_libraries_are_left_out_of_the_last_line() -> None:
    """What KFP, pip and urllib3 write is only in the log itself; a progress bar is read as it is drawn anew."""
    log = """\
[kfadapter: runs as a process, not in image python:3.11]
[notice] A new release of pip is available: 24.0 -> 25.1
WARNING: Running pip as the 'root' user can result in broken permissions
[KFP Executor 2026-11-30 10:07:09,781 INFO]: Looking for component `step` in ...
[KFP Executor 2026-11-30 10:07:09,782 INFO]: Got executor_input:
{
    "inputs": {"parameterValues": {"i": 1}}
}
I1130 10:07:09.781 12 launcher_v2.go:90] input ComponentSpec:{
/usr/lib/python3.11/site-packages/urllib3/__init__.py:35: NotOpenSSLWarning: urllib3 v2 only supports OpenSSL
  warnings.warn(
DEBUG:urllib3.connectionpool:Starting new HTTPS connection (1): index.example:443
WARNING: 학습률이 크다
{"loss": 1}

 10%|█\r 20%|██\r100%|\x1b[2J\r
 not ended"""
    pieces = [log.encode()[begin : begin + 7] for begin in range(0, len(log.encode()), 7)]
    assert list(own_lines(pieces)) == ["WARNING: 학습률이 크다", '{"loss": 1}', "10%|█", "20%|██", "100%|\\x1b[2J"]


class Logs:
    """Stands for a client whose logs have one line each, and end when they may; those of `refused` cannot be read."""

    def __init__(self, *refused: str) -> None:
        self.runs = self
        self.refused = refused
        self.may_end = threading.Event()
        self.began = threading.Semaphore(0)
        self.read: list[str] = []

    def read_logs(self, run_id: str, task: str, *, follow: bool) -> Iterator[bytes]:
        """Yields a line, and waits."""
        assert follow
        self.read.append(task)
        if task in self.refused:
            raise UnsupportedByKfpError("no logs")
        yield f"{run_id} {task}\n".encode()
        self.began.release()
        assert self.may_end.wait(60)


def wait_for_logs() -> None:
    """Waits until all logs have been read."""
    for thread in threading.enumerate():
        if thread.name == "log-tail":
            thread.join(60)


def test_a_bounded_number_of_logs_is_read() -> None:
    """Eight logs are read at once; the others have their turn when those have ended."""
    logs = Logs()
    tails = LogTails(cast("Client", logs))
    run = running(LOOP, *(fit(index, RunState.RUNNING) for index in range(12)), task("준비", RunState.SUCCEEDED, 3))
    tails.follow(run)
    for _ in range(MAX_STREAMS):
        assert logs.began.acquire(timeout=60)
    first = [f"fit{index}" for index in range(MAX_STREAMS)]
    assert sorted(logs.read) == first
    assert tails.lines == {task_id: f"r {task_id}" for task_id in first}
    logs.may_end.set()
    wait_for_logs()
    assert not tails.lines
    tails.follow(run)
    wait_for_logs()
    assert sorted(logs.read[MAX_STREAMS:]) == ["fit10", "fit11", "fit8", "fit9"]


def test_logs_that_cannot_be_read_are_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    """A log that KFP does not serve has no line, is not requested again, and makes no noise."""
    logs = Logs("fit0")
    tails = LogTails(cast("Client", logs))
    for _ in range(2):
        tails.follow(running(LOOP, fit(0, RunState.RUNNING)))
        wait_for_logs()
    assert not tails.lines
    assert logs.read == ["fit0"]
    assert capfd.readouterr() == ("", "")
