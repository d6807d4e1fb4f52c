"""Runs: pipelines that are, were or will be executed, independent of the wire."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.contract.spec import TaskKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from kfadapter_grpc.contract.experiments import ExperimentRef
    from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
    from kfadapter_grpc.contract.spec import Json

MAX_RUN_NAME_BYTES = 255
"""Bytes of UTF-8 in a run's display name (KFP's column)."""
_NAMESPACE = uuid.UUID("6f0f6c3e-3f0b-5d0a-9c55-5b1f6b1c7a10")
"""Ours: no other program makes ids from it. It must never change."""


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
        """Whether nothing happens any more, unless the run is retried."""
        return self in _OVER


_OVER = frozenset({RunState.SUCCEEDED, RunState.SKIPPED, RunState.FAILED, RunState.CANCELED, RunState.OMITTED})


@dataclass(frozen=True, slots=True)
class RunStateChange:
    """A state, when it began, in UTC, and why, where KFP says."""

    state: RunState
    at: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class RunArtifact:
    """A file or data set that a task made.

    Attributes:
        type: The schema's title (`system.Metrics`); empty where KFP does not say.
        uri: Where it lies; empty where KFP does not say.
        metadata: What is known of it, metrics among others.
    """

    type: str = ""
    uri: str = ""
    metadata: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunOutput:
    """Something that a task made: an artifact, or, where there is none, a parameter's value."""

    name: str
    value: Json = None
    artifact: RunArtifact | None = None


@dataclass(frozen=True, slots=True)
class RunTask:
    """A task of a run. Times are in UTC, None where it has not begun or is not over.

    Attributes:
        name: Its name in the pipeline.
        task_id: KFP's id of it.
        state: Its state.
        error: Why it failed, in words.
        started_at: When it began.
        finished_at: When it was over.
        pod_name: The pod that it runs in, as far as KFP says.
        state_history: The states that it went through, oldest first.
        outputs: What it made, where KFP tells.
        display_name: The name that its author set for people; empty if none is known.
        kind: A container, an importer, or a group of tasks.
        parent_task_id: The group that it belongs to; empty at the top of the pipeline.
        iteration_index: Which iteration of the innermost loop, counted from 0; None outside of loops.
        attempts: How many times its container, or else its driver, was started.
        cached: Whether the result of an earlier run was used.
        warnings: What people should know although it did not fail.
        log_tail: The last lines of its log, if it failed.
    """

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


@dataclass(frozen=True, slots=True)
class Run:
    """A run. Times are in UTC; names of pipeline, version and experiment, and the tasks, come with `View.FULL` only.

    Attributes:
        run_id: KFP's id.
        display_name: What people see.
        state: Its state.
        error: Why it failed, in words; empty if it did not.
        pipeline_id: The pipeline; empty if it was started from a file.
        pipeline_name: That pipeline's name; empty if the pipeline is gone.
        pipeline_version_id: The version; empty if it was started from a file.
        pipeline_version_name: That version's name; empty if the version is gone.
        experiment_id: The experiment that it belongs to.
        experiment_name: That experiment's name.
        parameters: What it was given.
        description: What it is for, without the labels.
        labels: The callers' own labels.
        created_at: When it was made.
        finished_at: When it was over.
        scheduled_at: When it was to begin.
        state_history: The states that it went through, oldest first.
        tasks: Its tasks, in the order in which they began.
        service_account: The Kubernetes service account of its tasks.
        storage_state: Whether it is archived.
        recurring_run_id: The recurring run that made it; empty if a caller did.
        etag: Changes whenever the run's state, tasks or archiving change.
        warnings: What people should know although nothing failed.
    """

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


@dataclass(frozen=True, slots=True)
class LogNote:
    """Comes last in a log that is not complete, and says why."""

    text: str


LogPiece: TypeAlias = "bytes | LogNote"
"""The next bytes of a log, or what is to be said of it."""


@dataclass(frozen=True, slots=True)
class CreateRun:
    """How a run is to be started; everything but the parameters is checked already.

    Attributes:
        pipeline: Which pipeline.
        version: Which version; the latest where none is named.
        experiment: In which experiment; None for the default one.
        parameters: The values; whole numbers may be floats.
        display_name: What people see; one is made where it is empty.
        description: What it is for.
        labels: The caller's own labels.
        request_id: Under which the call may be repeated; empty where it may not.
        validate_only: Only check.
        create_experiment: Make the experiment if there is none of this name.
        caching: Whether results of earlier runs may be used; False: they may not, whatever the tasks say.
        service_account: The Kubernetes service account of the tasks; empty means KFP's own.
        namespace: Where; empty where there are no namespaces.
    """

    pipeline: PipelineRef
    version: VersionRef
    experiment: ExperimentRef | None = None
    parameters: Mapping[str, Json] = field(default_factory=dict)
    display_name: str = ""
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    validate_only: bool = False
    create_experiment: bool = False
    caching: bool = True
    service_account: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; all that are set must match. `experiment` is None for those of all."""

    experiment: ExperimentRef | None = None
    states: frozenset[RunState] = frozenset()
    created_after: datetime | None = None
    finished_after: datetime | None = None
    display_name_contains: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    label_keys: frozenset[str] = frozenset()
    pipeline_id: str = ""
    pipeline_version_id: str = ""
    recurring_run_id: str = ""
    archived: bool = False
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class RunChanged:
    """A run as it is now; its tasks come along only where they were asked for.

    Attributes:
        run: The run.
        observed_at: When the adapter saw it, in UTC.
    """

    run: Run
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class RunGone:
    """A run that was deleted, or never existed.

    Attributes:
        run_id: Its id.
        observed_at: When the adapter saw it, in UTC.
    """

    run_id: str
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing happened; the watch lives.

    Attributes:
        kfp_reachable: Whether KFP answered the adapter the last time it was asked.
        observed_at: When the adapter said so, in UTC.
    """

    kfp_reachable: bool
    observed_at: datetime


RunEvent: TypeAlias = "RunChanged | RunGone | Heartbeat"
"""Something that a watch tells."""


def run_id_for(request_id: str, namespace: str = "") -> str:
    """Tells the id of the run that Create makes under a request id.

    Args:
        request_id: The request id.
        namespace: The run's namespace in KFP; empty where the adapter has none configured and the call names none.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{namespace}/{request_id}"))
