"""The pool of runners, with a fake runner that prints the real one's lines."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.embedded.run_file import Watcher

from kfadapter_embedded.execution import WHOLE, Job, State, TaskReport
from kfadapter_embedded.runner_pool import RunnerPool

if TYPE_CHECKING:
    from collections.abc import Iterator

FAKE = (sys.executable, str(Path(__file__).with_name("fake_runner.py")))
RUNNING = ("say", {"name": "a", "state": "RUNNING"})
DONE = ("say", {"name": "", "state": "SUCCEEDED", "error": ""})
FOREVER = ("forever", "")
TERMINATED = "terminated on request"


@dataclass
class Stage:
    """A pool, its observer, and a folder for its runs."""

    pool: RunnerPool
    watcher: Watcher
    folder: Path

    def play(self, run_id: str, *steps: tuple[str, object]) -> None:
        """Submits a run with these steps as its script."""
        folder = self.folder / run_id
        folder.mkdir()
        self.pool.submit(Job(run_id, b"{}", {"play": steps}, folder))

    def end(self, run_id: str = "run") -> tuple[State, str]:
        """Waits for the end of a run."""
        return self.watcher.wait_end(run_id)

    def wait_started(self, *run_ids: str) -> None:
        """Waits until these have started."""
        with self.watcher.changed:
            assert self.watcher.changed.wait_for(lambda: set(run_ids) <= set(self.watcher.started), 100)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A pool that executes two runs at once."""
    watcher = Watcher()
    pool = RunnerPool(watcher.report, most_at_once=2, command=FAKE)
    yield Stage(pool, watcher, tmp_path)
    pool.close()


def test_reports(stage: Stage) -> None:
    """The runner's reports of tasks are passed on completely and in order, then the end."""
    details = {"display_name": "훈련", "outputs": {"parameters": [{"parameter_key": "n", "value": 1}]}}
    done = {"name": "훈련", "state": "SUCCEEDED", "attempts": 1, "details": details}
    stage.play("run", ("say", {"name": "훈련", "state": "RUNNING"}), ("say", done), DONE)
    assert stage.end() == (State.SUCCEEDED, "")
    assert stage.watcher.reports == [
        TaskReport("훈련", State.RUNNING),
        TaskReport("훈련", State.SUCCEEDED, attempts=1, details=details),
    ]


@pytest.mark.parametrize("strict", [False, True])
def test_strictness(tmp_path: Path, strict: bool) -> None:
    """Each runner gets the server's strictness, and its warnings are passed on."""
    watcher = Watcher()
    pool = RunnerPool(watcher.report, strict=strict, command=FAKE)
    said = {"name": "a", "state": "SUCCEEDED", "warnings": ["다르다"]}
    pool.submit(Job("run", b"{}", {"play": [("say", said), ("say strictness", ""), DONE]}, tmp_path))
    assert watcher.wait_end("run") == (State.SUCCEEDED, "")
    pool.close()
    assert watcher.reports == [
        TaskReport("a", State.SUCCEEDED, warnings=("다르다",)),
        TaskReport(f"strict {strict}", State.SUCCEEDED),
    ]


def test_failure(stage: Stage) -> None:
    """A failed run has the runner's message."""
    stage.play("run", ("say", {"name": "", "state": "FAILED", "error": "task a failed: 지금"}))
    assert stage.end() == (State.FAILED, "task a failed: 지금")


SILENT_ENDS = [
    ([("complain", "no room"), ("exit", 3)], "its runner ended without a result (exit code 3): no room"),
    ([("exit", 0)], "its runner ended without a result (exit code 0)"),
    ([("die", 9)], "its runner ended without a result (signal 9, SIGKILL)"),
]


@pytest.mark.parametrize(("steps", "error"), SILENT_ENDS)
def test_runner_that_ends_unexpectedly(stage: Stage, steps: list[tuple[str, object]], error: str) -> None:
    """A runner that ends early fails the run, and its running task, with all that is known about the cause."""
    stage.play("run", RUNNING, *steps)
    assert stage.end() == (State.FAILED, error)
    assert stage.watcher.last("a") == TaskReport("a", State.FAILED, error)


@pytest.mark.parametrize(
    "step", [("raw", "no JSON"), ("raw", "[1]"), ("say", {"name": "a", "state": "ODD"}), ("large line", 9 << 20)]
)
def test_nonsense(stage: Stage, step: tuple[str, object]) -> None:
    """A runner with invalid output is ended, and the run fails."""
    stage.play("run", step, FOREVER)
    state, error = stage.end()
    assert state is State.FAILED
    assert error.startswith("this server could not run it: ")


def test_much_on_stderr(stage: Stage) -> None:
    """A runner with much output on stderr is not blocked; the end of it is kept."""
    stage.play("run", *[("complain", "x" * 100_000)] * 10, ("complain", "the end"), ("exit", 1))
    _, error = stage.end()
    assert error.endswith("the end")
    assert len(error) < 10_000


def test_so_many_at_once(stage: Stage) -> None:
    """A third run waits until one of two has finished, and is then executed."""
    go = stage.folder / "go"
    for name in ("first", "second"):
        stage.play(name, ("wait for", str(go)), DONE)
    stage.play("third", DONE)
    stage.wait_started("first", "second")
    assert "third" not in stage.watcher.started
    go.touch()
    assert stage.end("third") == (State.SUCCEEDED, "")
    assert stage.watcher.started[-1] == "third"


def test_terminate(stage: Stage) -> None:
    """A terminated run is CANCELED, with the task that was running; others continue."""
    stage.play("run", RUNNING, FOREVER)
    stage.watcher.wait_task("a", State.RUNNING)
    stage.pool.terminate("run")
    stage.pool.terminate("run")
    assert stage.end() == (State.CANCELED, TERMINATED)
    assert stage.watcher.reports[-1] == TaskReport("a", State.CANCELED, TERMINATED)
    stage.play("next", DONE)
    assert stage.end("next") == (State.SUCCEEDED, "")


def test_failure_that_comes_of_the_termination(stage: Stage) -> None:
    """A task that fails because its run is terminated is CANCELED, whatever its runner reports at that time."""
    failed = {"name": "a", "state": "FAILED", "error": "signal 15"}
    stage.play("run", ("at SIGTERM say", failed), RUNNING, FOREVER)
    stage.watcher.wait_task("a", State.RUNNING)
    stage.pool.terminate("run")
    assert stage.end() == (State.CANCELED, TERMINATED)
    assert [report.state for report in stage.watcher.reports] == [State.RUNNING, State.CANCELED]


@pytest.mark.slow
def test_terminate_a_stubborn_runner(stage: Stage) -> None:
    """A runner that ignores SIGTERM is killed."""
    stage.play("run", ("ignore SIGTERM", ""), RUNNING, FOREVER)
    stage.watcher.wait_task("a", State.RUNNING)
    stage.pool.terminate("run")
    assert stage.end() == (State.CANCELED, TERMINATED)


def test_terminate_a_waiting_run(stage: Stage) -> None:
    """A waiting run that is terminated is CANCELED without having started."""
    for name in ("first", "second"):
        stage.play(name, FOREVER)
    stage.play("third", DONE)
    stage.pool.terminate("third")
    assert stage.end("third") == (State.CANCELED, TERMINATED)
    assert "third" not in stage.watcher.started


def test_terminate_nobody(stage: Stage) -> None:
    """Terminating a finished or unknown run has no effect."""
    stage.play("run", DONE)
    stage.end()
    stage.pool.terminate("run")
    stage.pool.terminate("unknown")
    stage.pool.close()
    assert stage.watcher.ends == {"run": (State.SUCCEEDED, "")}


def test_close(stage: Stage) -> None:
    """Closing ends running runs as FAILED, cut off, and leaves waiting ones unchanged."""
    for name in ("first", "second"):
        stage.play(name, FOREVER)
    stage.play("third", DONE)
    stage.wait_started("first", "second")
    stage.pool.close()
    cut_off = (State.FAILED, "cut off: the embedded KFP was stopped while it ran")
    assert stage.watcher.ends == {"first": cut_off, "second": cut_off}
    stage.pool.submit(Job("late", b"{}", {}, stage.folder))
    assert "late" not in stage.watcher.started


def test_folder_that_is_not_there(stage: Stage) -> None:
    """A run whose folder is missing fails with a message, and the pool continues."""
    stage.pool.submit(Job("run", b"{}", {}, stage.folder / "nowhere"))
    state, error = stage.end()
    assert state is State.FAILED
    assert error.startswith("this server could not run it: ")
    stage.play("next", DONE)
    assert stage.end("next") == (State.SUCCEEDED, "")


class _Forgetful(Watcher):
    """An observer that fails to store any report of tasks."""

    def report(self, run_id: str, report: TaskReport) -> None:
        if report.name != WHOLE:
            raise OSError(f"the disk is full, {report.name} is lost")
        super().report(run_id, report)


def test_observer_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A report that cannot be stored is logged; the run continues to its end."""
    watcher = _Forgetful()
    pool = RunnerPool(watcher.report, most_at_once=1, command=FAKE)
    Stage(pool, watcher, tmp_path).play("run", RUNNING, DONE)
    assert watcher.wait_end("run") == (State.SUCCEEDED, "")
    pool.close()
    assert "a run's progress could not be stored" in caplog.text


class _Insistent(Watcher):
    """An observer that submits a run again as soon as it has failed."""

    pool: RunnerPool
    jobs: list[Job]

    def report(self, run_id: str, report: TaskReport) -> None:
        if report == TaskReport(WHOLE, State.FAILED, "again") and self.jobs:
            self.pool.submit(self.jobs.pop())
        else:
            super().report(run_id, report)


def test_submitted_again_at_once(tmp_path: Path) -> None:
    """A run may be submitted again when its end is reported, and is executed each time."""
    watcher = _Insistent()
    watcher.pool = RunnerPool(watcher.report, most_at_once=2, command=FAKE)
    job = Job("run", b"{}", {"play": [("say", {"name": "", "state": "FAILED", "error": "again"})]}, tmp_path)
    watcher.jobs = [job] * 4
    watcher.pool.submit(job)
    assert watcher.wait_end("run") == (State.FAILED, "again")
    assert watcher.started == ["run"] * 5
    watcher.pool.close()


def test_parameters_that_are_no_json(stage: Stage) -> None:
    """A run that cannot be passed to its runner fails, and the pool continues."""
    stage.pool.submit(Job("run", b"{}", {"x": object()}, stage.folder))
    state, error = stage.end()
    assert (state, error) == (State.FAILED, "this server could not run it; its log has the reason")
    stage.play("next", DONE)
    assert stage.end("next") == (State.SUCCEEDED, "")
