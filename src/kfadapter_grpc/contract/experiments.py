"""Experiments: groups of runs, independent of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.listing import StorageState

if TYPE_CHECKING:
    from datetime import datetime

MAX_EXPERIMENT_NAME = 128
"""Characters in an experiment's name (KFP's limit)."""
MAX_COLUMN_BYTES = 255
"""Bytes of UTF-8 in the description of an experiment, run or recurring run, and in a display name (KFP's columns)."""
DEFAULT_EXPERIMENT = "Default"
"""The name of the experiment that is meant where none is named."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment. Times are in UTC; `last_run_created_at` is None if there is no run yet."""

    experiment_id: str
    name: str
    description: str = ""
    created_at: datetime | None = None
    last_run_created_at: datetime | None = None
    storage_state: StorageState = StorageState.UNKNOWN
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class ExperimentRef:
    """Names an experiment: by `experiment_id`, or by `name` in `namespace`. One of the two is set."""

    experiment_id: str = ""
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        """Says it as a message does."""
        return f"with id {self.experiment_id}" if self.experiment_id else f"named '{self.name}'"


@dataclass(frozen=True, slots=True)
class ExperimentFilter:
    """Which experiments to list; all that are set must match."""

    name_contains: str = ""
    archived: bool = False
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class CreateExperiment:
    """How an experiment is to be made. Name and description are checked already."""

    name: str
    description: str = ""
    allow_existing: bool = False
    namespace: str = ""
