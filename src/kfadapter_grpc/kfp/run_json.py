"""Runs as v2beta1 has them."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING, cast

import msgspec

from kfadapter_grpc.contract.labels import ORIGIN_LABEL, split_labels
from kfadapter_grpc.contract.runs import Run, RunState
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.experiments import storage_state
from kfadapter_grpc.kfp.inline_spec import read_origin
from kfadapter_grpc.kfp.native_tasks import TaskStateJson, etag_of
from kfadapter_grpc.kfp.run_nodes import STUCK_AFTER
from kfadapter_grpc.kfp.task_details import (
    StateChangeJson,
    StatusJson,
    TaskJson,
    first_failure,
    history_of,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kfadapter_grpc.contract.spec import Json

_ETAG_CHARACTERS = 20
_NO_STATE = frozenset({"", "RUNTIME_STATE_UNSPECIFIED"})
_RUNNING = RunState.RUNNING.value


class _ReferenceJson(msgspec.Struct):
    pipeline_id: str = ""
    pipeline_version_id: str = ""


class _RuntimeConfigJson(msgspec.Struct):
    parameters: dict[str, object] = {}


class _RunDetailsJson(msgspec.Struct):
    task_details: list[TaskJson] = []


class RunJson(msgspec.Struct):
    """A run; `tasks` of the native API are in lists that request them."""

    run_id: str
    experiment_id: str = ""
    display_name: str = ""
    storage_state: str = ""
    description: str = ""
    pipeline_version_id: str = ""
    pipeline_version_reference: _ReferenceJson | None = None
    runtime_config: _RuntimeConfigJson | None = None
    service_account: str = ""
    created_at: datetime | None = None
    scheduled_at: datetime | None = None
    finished_at: datetime | None = None
    state: str = ""
    error: StatusJson | None = None
    run_details: _RunDetailsJson | None = None
    recurring_run_id: str = ""
    state_history: list[StateChangeJson] = []
    task_count: int = 0
    tasks: list[TaskStateJson] = []
    kfadapter_unread: list[str] = []

    @property
    def nodes(self) -> Sequence[TaskJson]:
        """The nodes of its workflow, including KFP's own."""
        return self.run_details.task_details if self.run_details else ()

    @property
    def parameters(self) -> Mapping[str, Json]:
        """Its parameters."""
        return cast("Mapping[str, Json]", self.runtime_config.parameters if self.runtime_config else {})

    @property
    def origin(self) -> tuple[str, str]:
        """The ids of the pipeline and the version that it was started from; empty if it was started from a file."""
        found = self.pipeline_version_reference or _ReferenceJson("", self.pipeline_version_id)
        if found.pipeline_id or found.pipeline_version_id:
            return found.pipeline_id, found.pipeline_version_id
        return read_origin(split_labels(self.description)[1].get(ORIGIN_LABEL, ""))

    @property
    def known_state(self) -> RunState:
        """Its state, corrected by its history: KFP ends a run that was terminated as FAILED."""
        state = state_of(self.state)
        past = [change.state for change in self.state_history]
        since_running = past[::-1][: past[::-1].index(_RUNNING)] if _RUNNING in past else past
        stopped = state is RunState.FAILED and RunState.CANCELING.value in since_running
        return RunState.CANCELED if stopped else state

    @property
    def is_waiting(self) -> bool:
        """Whether a pod of it may have been pending for a while, as far as v2beta1 shows.

        The native API has no running pods of tasks, and a run has no tasks before its first pods have run.
        """
        latest = datetime.now(timezone.utc) - STUCK_AFTER
        since = [node.start_time for node in self.nodes if node.state == RunState.PENDING.value]
        since += [one.create_time for one in self.tasks if one.state == _RUNNING and one.type != "ROOT"]
        if not self.nodes and not self.task_count and not state_of(self.state).is_over:
            since.append(self.created_at)
        return any(at is not None and at < latest for at in since)

    def record(self) -> Run:
        """The run as a record of the contract, as far as v2beta1 shows: of a failure mostly nothing."""
        description, labels = split_labels(self.description)
        origin = labels.pop(ORIGIN_LABEL, "")
        pipeline_id, version_id = self.origin
        return Run(
            run_id=self.run_id,
            display_name=self.display_name,
            state=self.known_state,
            error=self.why_failed(),
            pipeline_id=pipeline_id,
            pipeline_version_id=version_id,
            experiment_id=self.experiment_id,
            parameters=self.parameters,
            description=description,
            labels=labels,
            caching_disabled=bool(origin),
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

    def why_failed(self) -> str:
        """Why it failed: its own message, or that of the task that failed first; empty if there is none."""
        if self.known_state is not RunState.FAILED:
            return ""
        if self.error and self.error.message:
            return self.error.message
        return first_failure(self.nodes)

    def _warnings(self) -> Iterator[str]:
        yield from self.kfadapter_unread
        if self.state not in _NO_STATE and state_of(self.state) is RunState.UNKNOWN:
            yield f"state: '{self.state[:80]}' is unknown to this adapter"

    def etag(self) -> str:
        """Identifies its condition: changes when its state, its tasks or its storage state change."""
        # Lists omit outputs, which only change together with a state.
        nodes = [
            (one.task_id, one.display_name, one.state, one.words, one.start_time, one.end_time, one.state_history)
            for one in sorted(self.nodes, key=lambda node: (node.task_id, node.display_name))
            if not self.task_count  # the native API's tasks come separately
        ]
        parts: list[object] = [self.state, self.storage_state, self.error, self.finished_at, self.state_history, nodes]
        parts += [self.task_count] if self.task_count else []
        etag = hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:_ETAG_CHARACTERS]
        return self.with_tasks(etag, etag_of(self.tasks) if self.tasks else "")

    def with_tasks(self, etag: str, of_tasks: str) -> str:
        """Adds what identifies the tasks; those of a finished run do not change, unless its state does."""
        return f"{etag}+{of_tasks}" if of_tasks and not state_of(self.state).is_over else etag


class OneRunJson(RunJson):
    """A run that was read alone: with its spec if it was started from a file."""

    pipeline_spec: msgspec.Raw = msgspec.Raw()


class RunListJson(msgspec.Struct):
    """A list of runs, whose inline specs are skipped; an empty one is `{}`."""

    runs: list[RunJson] = []
    total_size: int = 0
    next_page_token: str = ""
