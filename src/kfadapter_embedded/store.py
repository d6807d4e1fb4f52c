"""The durable store of the embedded KFP: one database, and what is kept in it, area by area."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .database import Database
from .experiment_store import ExperimentStore
from .pipeline_store import PipelineStore
from .progress_store import ProgressStore
from .recurring_run_store import RecurringRunStore
from .run_store import RunStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Store:
    """Everything that the embedded KFP keeps. Every method may be called from any thread, and blocks.

    Attributes:
        pipelines: pipelines and their versions.
        experiments: experiments.
        runs: runs, and what they execute.
        progress: the states of runs and their tasks, and what these have put out.
        recurring_runs: recurring runs.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Opens the database, making or migrating it.

        Args:
            path: the file.
            clock: tells the seconds since 1970.

        Raises:
            StoreError: the file is no such database, or of a newer program.
        """
        self._database = Database(path)
        self.pipelines = PipelineStore(self._database, clock)
        self.experiments = ExperimentStore(self._database, clock)
        self.runs = RunStore(self._database, clock)
        self.progress = ProgressStore(self._database, clock)
        self.recurring_runs = RecurringRunStore(self._database, clock)

    def close(self) -> None:
        """Closes what no other thread uses at the moment."""
        self._database.close()
