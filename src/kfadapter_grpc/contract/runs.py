"""Runs: pipelines that are, were or will be executed."""

from __future__ import annotations

import enum
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, ClassVar, TypeAlias

from kfadapter_grpc.contract.checks import Faults, Namespace, OptionalId, RequestId, column, pattern, text, within
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.labels import (
    MAX_DESCRIPTION_BYTES,
    ORIGIN_CHARACTERS,
    ORIGIN_LABEL,
    RESERVED_PREFIX,
    with_labels,
)
from kfadapter_grpc.contract.listing import MAX_INT32, ListRequest, StorageState, View
from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
from kfadapter_grpc.contract.run_outputs import RunInput, RunMetric, RunOutput
from kfadapter_grpc.contract.spec import Json, TaskKind

MAX_RUN_NAME_BYTES = 255
"""Maximum of UTF-8 bytes in a run's display name (KFP's column)."""
_NAMESPACE = uuid.UUID("6f0f6c3e-3f0b-5d0a-9c55-5b1f6b1c7a10")
"""Our namespace of UUIDs: no other program derives ids from it. It must never change."""
MAX_WAIT = timedelta(hours=1)
MAX_TASK_PATH = 4096
_SERVICE_ACCOUNT = "(?=.{1,253}$)[a-z0-9]([a-z0-9.-]*[a-z0-9])?"
_NO_SERVICE_ACCOUNT = "'{}' is not the name of a Kubernetes service account"
_NO_ATTEMPT = "is {}; attempts are counted from 1, and 0 is the last one"
RUN_ID = re.compile(r"[.:_-]*[A-Za-z0-9][A-Za-z0-9.:_-]{0,190}")
"""The format of the ids of runs: KFP accepts others than UUIDs, too."""
_NO_RUN_ID = "'{}' is not the id of a run, which is mostly a UUID; List returns the ids"


def _run_id(value: str) -> Iterator[str]:
    if not RUN_ID.fullmatch(value):
        yield _NO_RUN_ID.format(value[:80])


RunId: TypeAlias = Annotated[str, _run_id]
OptionalRunId: TypeAlias = Annotated[str, pattern(RUN_ID.pattern, _NO_RUN_ID)]
"""The same, or empty."""


class RunState(enum.Enum):
    """The state of a run or of a task; the values are KFP's, and OMITTED, for tasks only, is Argo's."""

    UNKNOWN = ""
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    CANCELING = "CANCELING"
    CANCELED = "CANCELED"
    PAUSED = "PAUSED"
    OMITTED = "OMITTED"

    @property
    def is_over(self) -> bool:
        """Whether it is terminal, unless the run is retried."""
        return self in _OVER


_OVER = frozenset({RunState.SUCCEEDED, RunState.SKIPPED, RunState.FAILED, RunState.CANCELED, RunState.OMITTED})


@dataclass(frozen=True, slots=True)
class RunStateChange:
    """A state, its start in UTC, and its reason, if KFP reports one."""

    state: RunState
    at: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class RunTask:
    """A task of a run. Times are in UTC, None if it has not started or not finished."""

    name: str
    task_id: str = ""
    state: RunState = RunState.UNKNOWN
    error: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    pod_name: str = ""
    state_history: tuple[RunStateChange, ...] = ()
    outputs: tuple[RunOutput, ...] = ()
    display_name: str = ""
    kind: TaskKind = TaskKind.UNKNOWN
    parent_task_id: str = ""
    iteration_index: int | None = None
    attempts: int = 0
    cached: bool = False
    warnings: tuple[str, ...] = ()
    log_tail: str = ""
    inputs: tuple[RunInput, ...] = ()


class RunSourceState(enum.Enum):
    """Whether a source of information about a run could be read."""

    UNKNOWN = ""
    AVAILABLE = "available"
    NOT_CONFIGURED = "not_configured"
    NOT_SERVED = "not_served"
    UNREACHABLE = "unreachable"

    @property
    def is_missing(self) -> bool:
        return self not in {RunSourceState.UNKNOWN, RunSourceState.AVAILABLE}


@dataclass(frozen=True, slots=True)
class RunSource:
    """A source of information about a run, and what its state means, in one sentence."""

    state: RunSourceState = RunSourceState.UNKNOWN
    message: str = ""


@dataclass(frozen=True, slots=True)
class RunSources:
    """The sources of information about a run; None if it was not read."""

    tasks: RunSource | None = None
    outputs: RunSource | None = None
    logs: RunSource | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run. Times are in UTC; tasks, and names of pipeline, version and experiment, are set with `View.FULL` only."""

    NOT_LISTED: ClassVar[tuple[str, ...]] = (
        "pipeline_name",
        "pipeline_version_name",
        "experiment_name",
        "tasks",
        "sources",
        "metrics",
    )

    run_id: str
    display_name: str = ""
    state: RunState = RunState.UNKNOWN
    error: str = ""
    pipeline_id: str = ""
    pipeline_name: str = ""
    pipeline_version_id: str = ""
    pipeline_version_name: str = ""
    experiment_id: str = ""
    experiment_name: str = ""
    parameters: Mapping[str, Json] = field(default_factory=dict)
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    finished_at: datetime | None = None
    scheduled_at: datetime | None = None
    state_history: tuple[RunStateChange, ...] = ()
    tasks: tuple[RunTask, ...] = ()
    service_account: str = ""
    storage_state: StorageState = StorageState.UNKNOWN
    recurring_run_id: str = ""
    etag: str = ""
    warnings: tuple[str, ...] = ()
    sources: RunSources | None = None
    metrics: tuple[RunMetric, ...] = ()
    caching_disabled: bool = False


@dataclass(frozen=True, slots=True)
class LogNote:
    """The last part of an incomplete log: why it is incomplete."""

    text: str


LogPiece: TypeAlias = "bytes | LogNote"


@dataclass(frozen=True, slots=True)
class CreateRunRequest:
    pipeline: PipelineRef
    version: VersionRef = field(default_factory=VersionRef)
    experiment: ExperimentRef | None = None
    parameters: Mapping[str, Json] = field(default_factory=dict)
    display_name: Annotated[str, text(MAX_RUN_NAME_BYTES), column(MAX_RUN_NAME_BYTES)] = ""
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    request_id: RequestId = ""
    validate_only: bool = False
    create_experiment: bool = False
    caching_enabled: bool | None = None
    service_account: Annotated[str, pattern(_SERVICE_ACCOUNT, _NO_SERVICE_ACCOUNT)] = ""
    namespace: Namespace = ""

    @property
    def caching(self) -> bool:
        return self.caching_enabled is not False

    def check(self) -> Faults:
        """Checks the description and the labels, which KFP keeps in one column."""
        reserved = {} if self.caching else {ORIGIN_LABEL: "x" * ORIGIN_CHARACTERS}
        size = len(with_labels(self.description, {**self.labels, **reserved}).encode())
        if size > MAX_DESCRIPTION_BYTES:
            further = " and what is noted for caching_enabled" if reserved else ""
            name = "labels" if self.labels and not self.description else "description"
            text = f"description and labels{further} take {size} bytes of UTF-8 together"
            yield name, f"{text}; at most {MAX_DESCRIPTION_BYTES} fit"
        if "\0" in self.description:
            yield "description", "holds a NUL character; remove it"
        for key in self.labels:
            if not key or key.startswith(RESERVED_PREFIX):
                yield "labels", f"the key '{key[:80]}' is empty or begins with '{RESERVED_PREFIX}', which is reserved"
        if self.caching_enabled:
            yield "caching_enabled", "can only be false; omit it to use the settings of the pipeline's tasks"


@dataclass(frozen=True, slots=True)
class GetRunRequest:
    run_id: RunId
    view: View = View.BASIC


def _states(values: frozenset[RunState]) -> Iterator[str]:
    if values & {RunState.UNKNOWN, RunState.OMITTED}:
        yield "has a state that no run is in; use RUN_STATE_PENDING, _RUNNING and so on"


def _labels(values: Mapping[str, str]) -> Iterator[str]:
    return column(MAX_DESCRIPTION_BYTES)(with_labels("", values))


def _label_keys(values: frozenset[str]) -> Iterator[str]:
    return _labels(dict.fromkeys(values, ""))


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; all filters that are set must match. `experiment` is None for the runs of all experiments."""

    experiment: ExperimentRef | None = None
    states: Annotated[frozenset[RunState], _states] = frozenset()
    created_after: datetime | None = None
    finished_after: datetime | None = None
    display_name_contains: Annotated[str, text(MAX_RUN_NAME_BYTES)] = ""
    labels: Annotated[Mapping[str, str], _labels] = field(default_factory=dict)
    label_keys: Annotated[frozenset[str], _label_keys] = frozenset()
    pipeline_id: OptionalId = ""
    pipeline_version_id: OptionalId = ""
    recurring_run_id: OptionalId = ""
    archived: bool = field(default=False, metadata={"wire": "storage_state"})
    namespace: Namespace = ""


@dataclass(frozen=True, slots=True)
class ListRunsRequest(ListRequest):
    ORDERS: ClassVar[tuple[str, ...]] = ("created_at", "finished_at", "display_name", "run_id")

    filter: RunFilter = field(default_factory=RunFilter)


@dataclass(frozen=True, slots=True)
class ReadLogsRequest:
    """Reads the log of a task, by its name, id or path; attempt 0 is the last one."""

    run_id: RunId
    task: Annotated[str, text(MAX_TASK_PATH, required="set the task; Get returns their names")]
    follow: bool = False
    attempt: Annotated[int, within(0, MAX_INT32, _NO_ATTEMPT)] = 0
    iteration_index: Annotated[int | None, within(0, MAX_INT32, "is {}; iterations are counted from 0")] = None


def _wait(value: timedelta | None) -> Iterator[str]:
    if value is not None and not timedelta() <= value <= MAX_WAIT:
        yield f"is {value.total_seconds():g} s; use 0 s to {MAX_WAIT.total_seconds():g} s (an hour), or omit it"


@dataclass(frozen=True, slots=True)
class TerminateRunRequest:
    """Terminates a run, and waits for up to `wait` until it has finished."""

    run_id: RunId
    wait: Annotated[timedelta | None, _wait] = None


@dataclass(frozen=True, slots=True)
class _OneRun:
    run_id: RunId


class RetryRunRequest(_OneRun):
    """Retries a failed run."""


class ArchiveRunRequest(_OneRun):
    """Archives a run."""


class UnarchiveRunRequest(_OneRun):
    """Unarchives a run."""


@dataclass(frozen=True, slots=True)
class DeleteRunRequest:
    run_id: RunId
    allow_missing: bool = False


def run_id_for(request_id: str, namespace: str = "") -> str:
    """Returns the id of the run that Create makes under a request id.

    `namespace` is the run's in KFP; empty if neither the adapter's settings nor the call name one.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{namespace}/{request_id}"))
