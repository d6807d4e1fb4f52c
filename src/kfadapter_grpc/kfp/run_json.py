"""Runs as v2beta1 has them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import cast

import msgspec

from kfadapter_grpc.contract.labels import ORIGIN_CHARACTERS, ORIGIN_LABEL, split_labels
from kfadapter_grpc.contract.runs import Run, RunState, RunStateChange
from kfadapter_grpc.contract.spec import Json
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.experiments import storage_state
from kfadapter_grpc.kfp.rest import ListJson
from kfadapter_grpc.kfp.run_nodes import STUCK_AFTER

_DRIVER = "-driver"
_WORKFLOW_NODES = frozenset({"root", "root-driver-dag", "entrypoint"})
_ITERATION = re.compile(r"iteration-item|iteration-iterations(\(.*\))?")
_EXECUTOR = "executor"
_LATEST = datetime.max.replace(tzinfo=timezone.utc)
_STATES = {one.value: one for one in RunState}


class StatusJson(msgspec.Struct):
    code: int = 0
    message: str = ""


class StateChangeJson(msgspec.Struct):
    update_time: datetime | None = None
    state: str = ""
    error: StatusJson | None = None


class _ChildJson(msgspec.Struct):
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
    child_tasks: list[_ChildJson] = []

    @property
    def run_state(self) -> RunState:
        return state_of(self.state)

    @property
    def failure_text(self) -> str:
        if self.error and self.error.message:
            return self.error.message
        messages = (change.error.message for change in reversed(self.state_history) if change.error)
        return next((text for text in messages if text), "")


def state_of(text: str) -> RunState:
    """Converts KFP's state; UNKNOWN if KFP's value is unknown."""
    return _STATES.get(text, RunState.UNKNOWN)


def history_of(changes: Sequence[StateChangeJson]) -> tuple[RunStateChange, ...]:
    return tuple(
        RunStateChange(state_of(one.state), known_time(one.update_time), one.error.message if one.error else "")
        for one in changes
    )


class _Nodes:
    """The nodes of one run, as lists have them: the only information there about why it failed.

    For a task `greet` there is also `greet-driver`, which decides whether and how it runs, and `executor`, its
    container; further `root`, the groups of a loop's iterations, and the workflow itself. Users know `greet`: a message
    of one of KFP's own nodes belongs to the task that it serves.
    """

    def __init__(self, nodes: Sequence[TaskJson]) -> None:
        self._nodes = nodes
        self._names = {node.display_name for node in nodes}
        self._parents = {
            key: node for node in nodes for child in node.child_tasks for key in (child.pod_name, child.task_id) if key
        }

    def failure_message(self, node: TaskJson) -> str:
        name = self._served_task(node) if self._is_internal(node) else node.display_name
        verb = "could not be started" if self._is_internal(node) and self._is_driver(node) else "failed"
        return f"task '{name}' {verb}: {node.failure_text}" if name else f"the run failed: {node.failure_text}"

    def _is_internal(self, node: TaskJson) -> bool:
        name = node.display_name
        if self._is_driver(node) or _ITERATION.fullmatch(name) or self._is_workflow(node):
            return True
        return name in _WORKFLOW_NODES or (name == _EXECUTOR and _EXECUTOR + _DRIVER not in self._names)

    def _is_driver(self, node: TaskJson) -> bool:
        """A task of the author's may be named like a driver; then it has a driver of its own."""
        name = node.display_name
        return name.endswith(_DRIVER) and name + _DRIVER not in self._names

    def _is_workflow(self, node: TaskJson) -> bool:
        """The workflow itself has the name with which the pods below it begin."""
        pods = re.compile(rf"{re.escape(node.display_name)}-\d+")
        return any(pods.fullmatch(child.pod_name) for child in node.child_tasks)

    def _served_task(self, node: TaskJson) -> str:
        name = node.display_name.removesuffix(_DRIVER) if self._is_driver(node) else ""
        if name and name not in _WORKFLOW_NODES and not _ITERATION.fullmatch(name) and name != "iteration":
            return name
        if self._is_workflow(node) or node.display_name in _WORKFLOW_NODES or name in _WORKFLOW_NODES:
            return ""
        parent = self._parents.get(node.pod_name) or self._parents.get(node.task_id)
        for _ in self._nodes:  # no deeper than there are nodes, whatever KFP returns
            if parent is None or not self._is_internal(parent):
                break
            parent = self._parents.get(parent.pod_name) or self._parents.get(parent.task_id)
        return parent.display_name if parent is not None and not self._is_internal(parent) else ""


_ETAG_CHARACTERS, _TASKS_ETAG_CHARACTERS = 20, 12
_NO_STATE = frozenset({"", "RUNTIME_STATE_UNSPECIFIED"})
_RUNNING = RunState.RUNNING.value


class TaskStateJson(msgspec.Struct):
    """A task of the native API, with the fields that show whether something has changed."""

    task_id: str
    type: str = ""
    create_time: datetime | None = None
    end_time: datetime | None = None
    state: str = ""


def etag_of(tasks: Sequence[TaskStateJson]) -> str:
    parts = sorted((task.task_id, task.state, str(task.end_time)) for task in tasks)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:_TASKS_ETAG_CHARACTERS]


class ReferenceJson(msgspec.Struct):
    pipeline_id: str = ""
    pipeline_version_id: str = ""


class RuntimeConfigJson(msgspec.Struct):
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
    pipeline_version_reference: ReferenceJson | None = None
    runtime_config: RuntimeConfigJson | None = None
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
        return self.run_details.task_details if self.run_details else ()

    @property
    def parameters(self) -> Mapping[str, Json]:
        return cast("Mapping[str, Json]", self.runtime_config.parameters if self.runtime_config else {})

    @property
    def origin(self) -> tuple[str, str]:
        """The ids of the pipeline and the version that it was started from; empty if it was started from a file."""
        reference = self.pipeline_version_reference or ReferenceJson("", self.pipeline_version_id)
        if reference.pipeline_id or reference.pipeline_version_id:
            return reference.pipeline_id, reference.pipeline_version_id
        return read_origin(split_labels(self.description)[1].get(ORIGIN_LABEL, ""))

    @property
    def effective_state(self) -> RunState:
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
            state=self.effective_state,
            error=self.failure_message(),
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

    def failure_message(self) -> str:
        """Why it failed: its own message, or that of the task (not the group) that failed first; empty if unknown."""
        if self.effective_state is not RunState.FAILED:
            return ""
        if self.error and self.error.message:
            return self.error.message
        failed = [node for node in self.nodes if node.run_state is RunState.FAILED and node.failure_text]
        if not failed:
            return ""
        first = min(failed, key=lambda node: (bool(node.child_tasks), known_time(node.end_time) or _LATEST))
        return _Nodes(self.nodes).failure_message(first)

    def _warnings(self) -> Iterator[str]:
        yield from self.kfadapter_unread
        if self.state not in _NO_STATE and state_of(self.state) is RunState.UNKNOWN:
            yield f"state: '{self.state[:80]}' is unknown to this adapter"

    def etag(self) -> str:
        """Identifies its condition: changes when its state, its tasks or its storage state change."""
        # Lists omit outputs, which only change together with a state.
        nodes = [
            (one.task_id, one.display_name, one.state, one.error, one.start_time, one.end_time, one.state_history)
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


def origin_text(pipeline_id: str, version_id: str) -> str:
    """The two ids as the label holds them: descriptions are short."""
    raw = uuid.UUID(pipeline_id).bytes + uuid.UUID(version_id).bytes
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_origin(text: str) -> tuple[str, str]:
    """The two ids from the label; empty if it contains something else."""
    try:
        raw = base64.b64decode(text + "=", altchars=b"-_", validate=True) if len(text) == ORIGIN_CHARACTERS else b""
    except (binascii.Error, ValueError):
        raw = b""
    if not raw:
        return "", ""
    return str(uuid.UUID(bytes=raw[:16])), str(uuid.UUID(bytes=raw[16:]))


class OneRunJson(RunJson):
    """A run that was read alone: with its spec if it was started from a file."""

    pipeline_spec: msgspec.Raw = msgspec.Raw()


class RunListJson(ListJson[RunJson]):
    """A list of runs, whose inline specs are skipped."""

    items: list[RunJson] = msgspec.field(default_factory=list, name="runs")
