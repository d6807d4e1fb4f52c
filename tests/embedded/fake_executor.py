"""An executor that does what a test tells it, or plays the same to every run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_embedded.execution import State, TaskReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_embedded.execution import Job, Observer


class FakeExecutor:
    """Executes nothing, and reports what it is told to.

    Attributes:
        observer: who is told.
        jobs: what has been submitted.
        terminated: the runs that were to be ended.
        playing: the tasks' reports that every run goes through as soon as it is submitted, to its success; `None`
            leaves runs waiting.
    """

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.jobs: list[Job] = []
        self.terminated: list[str] = []
        self.playing: Sequence[TaskReport] | None = None

    def submit(self, job: Job) -> None:
        """Keeps the job, and plays."""
        self.jobs.append(job)
        if self.playing is not None:
            self.observer.run_started(job.run_id)
            for report in self.playing:
                self.observer.task_changed(job.run_id, report)
            self.observer.run_ended(job.run_id, State.SUCCEEDED, "")

    def terminate(self, run_id: str) -> None:
        """Keeps the id; the run goes on until the test ends it."""
        self.terminated.append(run_id)

    def close(self) -> None:
        """Does nothing."""

    def start(self, run_id: str, *running: str) -> None:
        """The run begins, and tasks with it."""
        self.observer.run_started(run_id)
        for name in running:
            self.observer.task_changed(run_id, TaskReport(name, State.RUNNING))

    def end_task(self, run_id: str, name: str, state: State, error: str = "") -> None:
        """A task ends."""
        self.observer.task_changed(run_id, TaskReport(name, state, error))

    def end(self, run_id: str, state: State, error: str = "") -> None:
        """The run ends."""
        self.observer.run_ended(run_id, state, error)
