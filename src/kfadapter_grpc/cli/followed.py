"""A run that is followed: how it stands, and what has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.contract.runs import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.contract.runs import Run, RunTask


class Followed:
    """A run as it was last seen.

    Attributes:
        run: The run, with its tasks.
        planned: The paths of the tasks that its pipeline declares.
        gone: Whether it was deleted.
    """

    def __init__(self, run: Run, planned: Sequence[str] = ()) -> None:
        self.run = run
        self.planned = planned
        self.gone = False
        self._told: dict[str, tuple[RunState, tuple[str, ...]]] = {}
        self._told_run = RunState.UNKNOWN

    def take(self, run: Run) -> list[RunTask]:
        """Takes a run as it is now; returns the tasks whose state or warnings have changed."""
        self.run = run
        now = {task.task_id or task.name: (task.state, task.warnings) for task in run.tasks}
        changed = [task for task in run.tasks if self._told.get(key := task.task_id or task.name) != now[key]]
        self._told = now
        return changed

    def takes_state(self) -> bool:
        """Whether the run has another state than when this was last asked."""
        changed = self._told_run is not self.run.state
        self._told_run = self.run.state
        return changed

    @property
    def was_stopped(self) -> bool:
        """Whether a termination ended it."""
        return self.run.state is RunState.CANCELED

    @property
    def has_failed(self) -> bool:
        """Whether it ended with a fault of its own."""
        return self.run.state is RunState.FAILED and not self.gone
