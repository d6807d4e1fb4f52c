"""An executor scripted by a test, or with the same script for every run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_embedded.execution import WHOLE, State, TaskReport
from kfadapter_embedded.runner_pool import RunnerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kfadapter_embedded.execution import Job


class FakeExecutor(RunnerPool):
    """Executes nothing, and reports what it is scripted to.

    Attributes:
        report: called with each report.
        jobs: the submitted jobs.
        terminated: the runs to terminate.
        playing: the tasks' reports of every run as soon as it is submitted, before it succeeds; `None`
            leaves runs waiting.
    """

    def __init__(self, report: Callable[[str, TaskReport], None]) -> None:
        super().__init__(report)
        self.report = report
        self.jobs: list[Job] = []
        self.terminated: list[str] = []
        self.playing: Sequence[TaskReport] | None = None

    def submit(self, job: Job) -> None:
        """Stores the job, and plays its script."""
        self.jobs.append(job)
        if self.playing is not None:
            self.start(job.run_id)
            for report in self.playing:
                self.report(job.run_id, report)
            self.end(job.run_id, State.SUCCEEDED)

    def terminate(self, run_id: str) -> None:
        """Stores the id; the run continues until the test ends it."""
        self.terminated.append(run_id)

    def start(self, run_id: str, *running: str) -> None:
        """The run starts, and tasks with it."""
        self.report(run_id, TaskReport(WHOLE, State.RUNNING))
        for name in running:
            self.report(run_id, TaskReport(name, State.RUNNING))

    def end_task(self, run_id: str, name: str, state: State, error: str = "") -> None:
        """A task ends."""
        self.report(run_id, TaskReport(name, state, error, attempts=int(state is not State.SKIPPED)))

    def end(self, run_id: str, state: State, error: str = "") -> None:
        """The run ends."""
        self.report(run_id, TaskReport(WHOLE, state, error))
