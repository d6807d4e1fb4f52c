"""Runs and their tasks in KFP's JSON."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, cast

import msgspec

from kfadapter_grpc.contract.labels import ORIGIN_LABEL, split_labels
from kfadapter_grpc.contract.runs import Run, RunState, RunStateChange
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.experiments import storage_state
from kfadapter_grpc.kfp.inline_spec import read_origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kfadapter_grpc.contract.spec import Json

_ETAG_CHARACTERS = 20
_NO_STATE = frozenset({"", "RUNTIME_STATE_UNSPECIFIED"})
_RUNNING = RunState.RUNNING.value
STUCK_AFTER = timedelta(seconds=30)
"""After how long a pod that has not started is worth a closer look, or a warning."""


class StatusJson(msgspec.Struct):
    """Why something failed."""

    code: int = 0
    message: str = ""


class StateChangeJson(msgspec.Struct):
    """A state and when it began."""

    update_time: datetime | None = None
    state: str = ""
    error: StatusJson | None = None


class ReferenceJson(msgspec.Struct):
    """Which version a run was started from."""

    pipeline_id: str = ""
    pipeline_version_id: str = ""


class RuntimeConfigJson(msgspec.Struct):
    """What a run was given."""

    parameters: dict[str, object] = {}


class ArtifactIdsJson(msgspec.Struct):
    """Artifacts by KFP's numbers, which are texts in its JSON."""

    artifact_ids: list[str | int] = []


class ArtifactJson(msgspec.Struct):
    """An artifact as the embedded KFP tells it."""

    name: str = ""
    type: str = ""
    uri: str = ""
    metadata: dict[str, object] = {}


class OutputsJson(msgspec.Struct):
    """What a task made, as the embedded KFP tells it; KFP's own API has no place for values."""

    parameters: dict[str, object] = {}
    artifacts: list[ArtifactJson] = []


class ChildJson(msgspec.Struct):
    """A node below another one."""

    pod_name: str = ""
    task_id: str = ""


class TaskJson(msgspec.Struct):
    """A node of a run's workflow: a task, or one of KFP's own."""

    display_name: str = ""
    task_id: str = ""
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    state: str = ""
    error: StatusJson | None = None
    state_history: list[StateChangeJson] = []
    pod_name: str = ""
    child_tasks: list[ChildJson] = []
    outputs: dict[str, ArtifactIdsJson] = {}
    kfadapter_outputs: OutputsJson | None = None

    @property
    def run_state(self) -> RunState:
        """Its state."""
        return state_of(self.state)

    @property
    def words(self) -> str:
        """Why it failed, as far as KFP says."""
        if self.error and self.error.message:
            return self.error.message
        told = (change.error.message for change in reversed(self.state_history) if change.error)
        return next((text for text in told if text), "")


class RunDetailsJson(msgspec.Struct):
    """What is known of a run's tasks."""

    task_details: list[TaskJson] = []


class RunJson(msgspec.Struct):
    """A run. Its inline spec, if it has one, is skipped."""

    run_id: str
    experiment_id: str = ""
    display_name: str = ""
    storage_state: str = ""
    description: str = ""
    pipeline_version_id: str = ""
    pipeline_version_reference: ReferenceJson | None = None
    runtime_config: RuntimeConfigJson | None = None
    service_account: str = ""
    created_at: datetime | None = None
    scheduled_at: datetime | None = None
    finished_at: datetime | None = None
    state: str = ""
    error: StatusJson | None = None
    run_details: RunDetailsJson | None = None
    recurring_run_id: str = ""
    state_history: list[StateChangeJson] = []
    kfadapter_unread: list[str] = []

    @property
    def nodes(self) -> Sequence[TaskJson]:
        """The nodes of its workflow, KFP's own among them."""
        return self.run_details.task_details if self.run_details else ()

    @property
    def parameters(self) -> Mapping[str, Json]:
        """What it was given."""
        return cast("Mapping[str, Json]", self.runtime_config.parameters if self.runtime_config else {})

    @property
    def origin(self) -> tuple[str, str]:
        """The ids of the pipeline and the version that it was started from; empty where it was from a file."""
        found = self.pipeline_version_reference or ReferenceJson("", self.pipeline_version_id)
        if found.pipeline_id or found.pipeline_version_id:
            return found.pipeline_id, found.pipeline_version_id
        return read_origin(split_labels(self.description)[1].get(ORIGIN_LABEL, ""))

    @property
    def known_state(self) -> RunState:
        """Its state as far as its history tells: KFP ends a run that was terminated as FAILED."""
        state = state_of(self.state)
        past = [change.state for change in self.state_history]
        since_running = past[::-1][: past[::-1].index(_RUNNING)] if _RUNNING in past else past
        stopped = state is RunState.FAILED and RunState.CANCELING.value in since_running
        return RunState.CANCELED if stopped else state

    @property
    def is_waiting(self) -> bool:
        """Whether a pod of it has been pending for a while, as far as v2beta1 tells."""
        latest = datetime.now(timezone.utc) - STUCK_AFTER
        pending = RunState.PENDING.value
        return any(node.state == pending and node.start_time and node.start_time < latest for node in self.nodes)

    def to_domain(self, error: str) -> Run:
        """As the rest of the program knows it; why it failed is read from elsewhere, and so are its tasks."""
        description, labels = split_labels(self.description)
        labels.pop(ORIGIN_LABEL, None)
        pipeline_id, version_id = self.origin
        return Run(
            run_id=self.run_id,
            display_name=self.display_name,
            state=self.known_state,
            error=error,
            pipeline_id=pipeline_id,
            pipeline_version_id=version_id,
            experiment_id=self.experiment_id,
            parameters=self.parameters,
            description=description,
            labels=labels,
            created_at=known_time(self.created_at),
            finished_at=known_time(self.finished_at),
            scheduled_at=known_time(self.scheduled_at),
            state_history=history_of(self.state_history),
            service_account=self.service_account,
            storage_state=storage_state(self.storage_state),
            recurring_run_id=self.recurring_run_id,
            etag=self.etag(),
            warnings=tuple(self._warnings()),
        )

    def _warnings(self) -> Iterator[str]:
        yield from self.kfadapter_unread
        if self.state not in _NO_STATE and state_of(self.state) is RunState.UNKNOWN:
            yield f"state: '{self.state[:80]}' is unknown to this adapter"

    def etag(self) -> str:
        """Names its condition: the same as long as nothing of its state, its tasks and its archiving changes."""
        # Lists leave outputs out, which come with a change of state anyway.
        nodes = [
            (one.task_id, one.display_name, one.state, one.words, one.start_time, one.end_time, one.state_history)
            for one in sorted(self.nodes, key=lambda node: (node.task_id, node.display_name))
        ]
        parts = (self.state, self.storage_state, self.error, self.finished_at, self.state_history, nodes)
        digest = hashlib.sha256(msgspec.json.encode(parts))
        return digest.hexdigest()[:_ETAG_CHARACTERS]


class RuntimeJson(msgspec.Struct):
    """What v1beta1 says of a run's execution."""

    workflow_manifest: str = ""


class RunManifestJson(msgspec.Struct):
    """A run in v1beta1, of which only the Argo Workflow is read."""

    pipeline_runtime: RuntimeJson = msgspec.field(default_factory=RuntimeJson)


class RunListJson(msgspec.Struct):
    """A list of runs; an empty one is `{}`."""

    runs: list[RunJson] = []
    total_size: int = 0
    next_page_token: str = ""


def state_of(text: str) -> RunState:
    """Reads a state; one that is not known is UNKNOWN."""
    try:
        return RunState(text)
    except ValueError:
        return RunState.UNKNOWN


def history_of(changes: Sequence[StateChangeJson]) -> tuple[RunStateChange, ...]:
    """Reads the states that something went through."""
    return tuple(
        RunStateChange(state_of(one.state), known_time(one.update_time), one.error.message if one.error else "")
        for one in changes
    )
