"""Artifacts: requests, and the contents of responses with their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, ClassVar

from kfadapter_grpc.contract.checks import Faults, text, within
from kfadapter_grpc.contract.listing import ListRequest, PageOfListRequest
from kfadapter_grpc.contract.run_outputs import RunMetric
from kfadapter_grpc.contract.runs import (
    MAX_TASK_PATH,
    ListRunsRequest,
    OptionalRunId,
    RunFilter,
    RunId,
    RunSource,
    RunState,
)
from kfadapter_grpc.contract.spec import Json

MAX_RUNS = 100
"""How many runs are read for one page."""
MAX_ENTRIES = 10_000
"""How many files of a folder are listed."""
MAX_INT64 = 2**63 - 1
_MAX_NAME = 1024
_MAX_PATH = 4096
_NO_SIZE = "is {}; bytes are counted from 0"
_ArtifactId = Annotated[str, text(_MAX_NAME, required="set the artifact_id; List returns the ids")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListArtifactsRequest(PageOfListRequest):
    """Lists the artifacts of a run, or of the runs that match the filter."""

    run_id: OptionalRunId = ""
    filter: RunFilter = field(default_factory=RunFilter)
    task: Annotated[str, text(MAX_TASK_PATH)] = ""
    type: Annotated[str, text(_MAX_NAME)] = ""
    name: Annotated[str, text(_MAX_NAME)] = ""

    def check(self) -> Faults:
        if self.run_id and self.filter != RunFilter(namespace=self.filter.namespace):
            yield "filter", "selects runs, and so does run_id; leave one of them out"


@dataclass(frozen=True, slots=True)
class GetArtifactRequest:
    run_id: RunId
    artifact_id: _ArtifactId


@dataclass(frozen=True, slots=True)
class ReadArtifactRequest:
    """Reads the bytes of an artifact, or of the file at `path` in it; a length of 0 means all."""

    run_id: RunId
    artifact_id: _ArtifactId
    path: Annotated[str, text(_MAX_PATH)] = ""
    offset: Annotated[int, within(0, MAX_INT64, _NO_SIZE)] = 0
    length: Annotated[int, within(0, MAX_INT64, _NO_SIZE)] = 0


@dataclass(frozen=True, slots=True)
class ArtifactEntry:
    """A file of a folder, by its path inside, and its size in bytes."""

    path: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class ArtifactContent:
    """Describes the bytes that follow."""

    name: str
    media_type: str = ""
    size: int | None = None
    is_directory: bool = False
    entries: tuple[ArtifactEntry, ...] = ()
    entry_count: int = 0
    stored_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ListMetricsRequest(ListRequest):
    ORDERS: ClassVar[tuple[str, ...]] = ListRunsRequest.ORDERS

    filter: RunFilter = field(default_factory=RunFilter)


@dataclass(frozen=True, slots=True)
class MetricsOfRun:
    """The scalar metrics of a run, and whether they could be read."""

    run_id: str
    display_name: str = ""
    state: RunState = RunState.UNKNOWN
    created_at: datetime | None = None
    parameters: Mapping[str, Json] = field(default_factory=dict)
    metrics: tuple[RunMetric, ...] = ()
    source: RunSource | None = None
