"""Experiments: groups of runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, ClassVar

from kfadapter_grpc.contract.checks import MAX_COLUMN_BYTES, Id, Namespace, column, text
from kfadapter_grpc.contract.listing import ListRequest, StorageState

MAX_EXPERIMENT_NAME = 128
DEFAULT_EXPERIMENT = "Default"


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment. Times are in UTC; `last_run_created_at` is None if no runs yet."""

    experiment_id: str
    name: str
    description: str = ""
    created_at: datetime | None = None
    last_run_created_at: datetime | None = None
    storage_state: StorageState = StorageState.UNKNOWN
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class ExperimentRef:
    """Identifies an experiment: by `experiment_id`, or by `name` in `namespace`. One of the two is set."""

    experiment_id: Id = ""
    name: Annotated[str, text(MAX_EXPERIMENT_NAME)] = ""
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.experiment_id}" if self.experiment_id else f"'{self.name}'"


@dataclass(frozen=True, slots=True)
class CreateExperimentRequest:
    name: Annotated[str, text(MAX_EXPERIMENT_NAME, required="give the experiment a name")]
    description: Annotated[str, column(MAX_COLUMN_BYTES)] = ""
    allow_existing: bool = False
    namespace: Namespace = ""


@dataclass(frozen=True, slots=True)
class GetExperimentRequest:
    experiment: ExperimentRef
    namespace: Namespace = ""


@dataclass(frozen=True, slots=True)
class ListExperimentsRequest(ListRequest):
    """Lists experiments; all filters that are set must match."""

    ORDERS: ClassVar[tuple[str, ...]] = ("created_at", "name", "experiment_id")

    name_contains: Annotated[str, text(MAX_EXPERIMENT_NAME)] = ""
    archived: bool = field(default=False, metadata={"wire": "storage_state"})
    namespace: Namespace = ""


@dataclass(frozen=True, slots=True)
class _OneExperiment:
    experiment_id: Id


class ArchiveExperimentRequest(_OneExperiment):
    """Archives an experiment."""


class UnarchiveExperimentRequest(_OneExperiment):
    """Unarchives an experiment."""


@dataclass(frozen=True, slots=True)
class DeleteExperimentRequest:
    experiment_id: Id
    allow_missing: bool = False
