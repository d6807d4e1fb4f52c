"""A run that is followed: how it stands, and what has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.domain.runs import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.domain.runs import Run, RunTask


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
        self._told: dict[str, RunState] = {}
        self._told_run = RunState.UNKNOWN
        self._stopping = _is_stopped(run)

    def take(self, run: Run) -> list[RunTask]:
        """Takes a run as it is now; tells which tasks have another state than when it was last asked."""
        self.run = run
        self._stopping = self._stopping or _is_stopped(run)
        changed = [task for task in run.tasks if self._told.get(task.task_id or task.name) is not task.state]
        self._told.update({task.task_id or task.name: task.state for task in changed})
        return changed

    def takes_state(self) -> bool:
        """Whether the run has another state than when this was last asked."""
        changed = self._told_run is not self.run.state
        self._told_run = self.run.state
        return changed

    @property
    def was_stopped(self) -> bool:
        """Whether a termination ended it. Some servers call that a failure; only who saw it stop knows better."""
        return self.run.state is RunState.CANCELED or (self.run.state is RunState.FAILED and self._stopping)

    @property
    def has_failed(self) -> bool:
        """Whether it ended with a fault of its own."""
        return self.run.state is RunState.FAILED and not self.was_stopped and not self.gone


def _is_stopped(run: Run) -> bool:
    states = {run.state, *(change.state for change in run.state_history)}
    return bool(states & {RunState.CANCELING, RunState.CANCELED})
