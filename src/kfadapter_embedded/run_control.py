"""What can be done with runs: each step is written down first, and then the executor is told."""

from __future__ import annotations

import json
import logging
import sqlite3
from typing import TYPE_CHECKING

from .errors import context, exhausted, failed_precondition, invalid_input, not_found
from .execution import Job, State
from .records import OVER
from .run_requests import duplicate, not_retryable
from .run_store import RunExistsError

if TYPE_CHECKING:
    from .execution import Executor
    from .records import NewRun, Run
    from .run_folders import RunFolders
    from .store import Store

_log = logging.getLogger(__name__)
_CUT_OFF = "the embedded KFP was stopped in the middle of this run; a retry executes it anew"
_GIB = 1 << 30


class RunControl:
    """Runs of a store, and the executor that executes them. Every method blocks, and may be called from any thread.

    Attributes:
        folders: where the runs' files are.
    """

    def __init__(self, store: Store, folders: RunFolders, executor: Executor, *, most_file_bytes: int) -> None:
        """Takes over.

        Args:
            store: where runs are kept.
            folders: where their files are.
            executor: what executes them.
            most_file_bytes: how much the files of all runs may take before new runs are refused.
        """
        self._store = store
        self.folders = folders
        self._executor = executor
        self._most_file_bytes = most_file_bytes

    def resume(self) -> None:
        """Goes on after a start: runs that were cut off have failed, those that wait are submitted again."""
        self._store.progress.cut_off(_CUT_OFF)
        self.folders.keep_only(self._store.runs.ids())
        for run_id in self._store.runs.waiting():
            run = self._store.runs.try_get(run_id)
            if run:
                self._submit(run)

    def create(self, new: NewRun) -> Run:
        """Makes a run and has it executed.

        Raises:
            KfpError: its id is taken, or the files of runs take too much room.
        """
        with context("Failed to create a new run"):
            self._check_room()
            # The processes of a run of this id that was deleted must be gone before there is another.
            if self.folders.is_ending(new.id):
                raise duplicate(new)
            try:
                run = self._store.runs.create(new)
            except RunExistsError:
                raise duplicate(new) from None
        self._submit(run)
        return run

    def get(self, run_id: str, *layers: str) -> Run:
        """The run with this id.

        Args:
            run_id: which.
            layers: what KFP says around the error if there is none, from the outside in.

        Raises:
            KfpError: there is none.
        """
        run = self._store.runs.try_get(run_id)
        if run is None:
            error = not_found(f"Run {run_id} not found")
            error.text = ": ".join((*layers, f"Failed to fetch run {run_id}", error.text))
            raise error
        return run

    def terminate(self, run_id: str) -> None:
        """Ends a run.

        Raises:
            KfpError: there is none, or it is over or being ended already.
        """
        outer = "Failed to terminate a run"
        self.get(run_id, outer, f"Failed to terminate run {run_id} due to error fetching the run")
        if not self._store.progress.cancel(run_id):
            with context(outer), context(f"Failed to terminate run {run_id}"):
                raise invalid_input(f"Failed to terminate a run {run_id}. Row not found")
        self._executor.terminate(run_id)

    def retry(self, run_id: str) -> None:
        """Has a failed run executed anew.

        Raises:
            KfpError: there is none, or it has not failed.
        """
        outer = "Failed to retry a run"
        run = self.get(run_id, outer, f"Failed to retry run {run_id} due to error fetching the run")
        with context(outer):
            self._check_room()
            if not self._store.progress.retry(run_id):
                raise not_retryable(run)
        self._submit(run)

    def archive(self, run_id: str) -> None:
        """Puts a run into the archive.

        Raises:
            KfpError: there is none.
        """
        self.get(run_id, "Failed to archive a run", f"Failed to archive run {run_id} as it failed to be retrieved")
        self._store.runs.archive(run_id, archived=True)

    def unarchive(self, run_id: str) -> None:
        """Takes a run out of the archive.

        Raises:
            KfpError: there is none, or its experiment is archived.
        """
        outer = "Failed to unarchive a run"
        run = self.get(run_id, outer, f"Failed to unarchive run {run_id} as it does not exist")
        experiment = self._store.experiments.try_get(run.experiment_id)
        if experiment and experiment.archived:
            words = f"Failed to unarchive run {run_id} as experiment {experiment.id} must be un-archived first"
            with context(outer):
                raise failed_precondition(words, "Unarchive the experiment first to allow the run to be restored")
        self._store.runs.archive(run_id, archived=False)

    def delete(self, run_id: str) -> None:
        """Deletes a run and its files; one that is being executed is ended first.

        Raises:
            KfpError: there is none.
        """
        run = self.get(run_id, "Failed to delete a run", f"Failed to delete run {run_id} as it does not exist")
        self.folders.hold(run_id)
        if self._deleted(run) in OVER:
            self.folders.remove(run_id)
        else:
            # The executor tells when it has ended, and then its files go.
            self._executor.terminate(run_id)

    def _deleted(self, run: Run) -> State | None:
        """Deletes it from the store; tells the state that it was in, `None` if it is gone already.

        On a full disk the files of a run that is over go first: they make the room that even this takes.
        """
        try:
            return self._store.runs.delete(run.id)
        except sqlite3.OperationalError:
            if run.state not in OVER:
                self.folders.release(run.id)
                raise
            self.folders.remove(run.id)
            return self._store.runs.delete(run.id)

    def _submit(self, run: Run) -> None:
        spec = self._store.runs.try_spec(run.id)
        if spec is None:
            return  # deleted in the meantime
        try:
            folder = self.folders.make(run.id)
        except OSError as error:
            _log.warning("no folder for run %s: %s", run.id, error)
            self._store.progress.end(run.id, State.FAILED, f"no folder can be made for it: {error.strerror}")
            return
        self._executor.submit(Job(run.id, spec.encode(), json.loads(run.config.parameters), folder))
        now = self._store.runs.try_get(run.id)
        if now is None or now.state is State.CANCELING:
            # Asked for before the executor knew of it.
            self._executor.terminate(run.id)

    def _check_room(self) -> None:
        used, largest = self._store.runs.file_size(), self._store.runs.try_largest()
        if largest and used >= self._most_file_bytes:
            raise exhausted(
                f"the files of runs take {used / _GIB:.1f} GiB in {self.folders.root}, and only "
                f"{self._most_file_bytes / _GIB:.1f} GiB are allowed: delete runs that are not needed any more, and "
                f"their files go with them (most are of run {largest.id}, {largest.display_name})"
            )
