"""Inputs and outputs of the tasks of a run: parameters, artifacts and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kfadapter_grpc.contract.spec import Json


@dataclass(frozen=True, slots=True)
class RocPoint:
    """A point of a ROC curve; rates are between 0 and 1."""

    threshold: float = 0.0
    false_positive_rate: float = 0.0
    true_positive_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class ConfusionRow:
    """An actual category: how often each category was predicted."""

    counts: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfusionMatrix:
    """A confusion matrix; rows and counts are in the order of the categories."""

    categories: tuple[str, ...] = ()
    rows: tuple[ConfusionRow, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricsSlice:
    """The metrics of a slice of the data."""

    slice: str = ""
    roc_curve: tuple[RocPoint, ...] = ()
    confusion_matrix: ConfusionMatrix | None = None


@dataclass(frozen=True, slots=True)
class RunArtifact:
    """A file, a folder or metrics that a task made."""

    type: str = ""
    uri: str = ""
    metadata: Mapping[str, Json] = field(default_factory=dict)
    artifact_id: str = ""
    name: str = ""
    run_id: str = ""
    task_id: str = ""
    created_at: datetime | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    roc_curve: tuple[RocPoint, ...] = ()
    confusion_matrix: ConfusionMatrix | None = None
    slices: tuple[MetricsSlice, ...] = ()
    task: str = ""


@dataclass(frozen=True, slots=True)
class RunInput:
    """An input of a task: a parameter's value, or artifacts."""

    name: str
    value: Json = field(default=None, metadata={"present": "has_value"})
    artifacts: tuple[RunArtifact, ...] = ()
    source_task: str = ""
    source_output: str = ""
    has_value: bool = True


@dataclass(frozen=True, slots=True)
class RunOutput:
    """An output of a task: artifacts, or, if there are none, a parameter's value."""

    name: str
    value: Json = None
    artifact: RunArtifact | None = field(default=None, metadata={"first_of": "artifacts"})
    artifacts: tuple[RunArtifact, ...] = ()

    @classmethod
    def of(cls, name: str, *artifacts: RunArtifact) -> RunOutput:
        """Makes the output that consists of these artifacts, at least one."""
        return cls(name, artifact=artifacts[0], artifacts=artifacts)

    def in_json(self, document: dict[str, Json]) -> dict[str, Json]:
        for key in ("artifact", "artifacts") if self.artifact is None else ("value",):
            del document[key]
        return document


@dataclass(frozen=True, slots=True)
class RunMetric:
    """A scalar metric that a task logged; `task` is its path."""

    name: str
    value: float = 0.0
    task: str = ""
    output: str = ""
