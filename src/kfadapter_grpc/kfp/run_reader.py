"""Runs as KFP serves them: what v2beta1 says of them, and their tasks from where this KFP has them.

Each source of tasks has a reader that makes `RunNodes`: `workflow_tasks` of the Argo manifest in v1beta1,
`task_details` of v2beta1 itself.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, cast

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.labels import ORIGIN_LABEL, split_labels
from kfadapter_grpc.contract.runs import Run, RunState
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.error_table import Context
from kfadapter_grpc.kfp.experiments import storage_state
from kfadapter_grpc.kfp.failures import KfpFailureError, Operation
from kfadapter_grpc.kfp.inline_spec import read_origin
from kfadapter_grpc.kfp.rest import V2, explained, segment
from kfadapter_grpc.kfp.run_nodes import STUCK_AFTER, RunNodes
from kfadapter_grpc.kfp.run_outputs import metrics_of
from kfadapter_grpc.kfp.task_details import (
    StateChangeJson,
    StatusJson,
    TaskJson,
    first_failure,
    history_of,
    read_task_details,
    state_of,
)
from kfadapter_grpc.kfp.transport import Request
from kfadapter_grpc.kfp.workflow_tasks import read_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.kfp.rest import ListQuery, Rest

RUNS = f"{V2}/runs"
_V1_RUNS = "/apis/v1beta1/runs"
_NO_SUCH_ROUTE = "Not Found"
"""What KFP answers if it has no such address; of a run that does not exist it says more."""
_NOT_SERVED_SECONDS = 300.0
_ETAG_CHARACTERS = 20
_NO_STATE = frozenset({"", "RUNTIME_STATE_UNSPECIFIED"})
_RUNNING = RunState.RUNNING.value
_NO_CONTEXT = Context()


class _ReferenceJson(msgspec.Struct):
    pipeline_id: str = ""
    pipeline_version_id: str = ""


class _RuntimeConfigJson(msgspec.Struct):
    parameters: dict[str, object] = {}


class _RunDetailsJson(msgspec.Struct):
    task_details: list[TaskJson] = []


class RunJson(msgspec.Struct):
    """A run. Its inline spec, if it has one, is skipped."""

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
    kfadapter_unread: list[str] = []

    @property
    def nodes(self) -> Sequence[TaskJson]:
        """The nodes of its workflow, KFP's own among them."""
        return self.run_details.task_details if self.run_details else ()

    @property
    def parameters(self) -> Mapping[str, Json]:
        """Its parameters."""
        return cast("Mapping[str, Json]", self.runtime_config.parameters if self.runtime_config else {})

    @property
    def origin(self) -> tuple[str, str]:
        """The ids of the pipeline and the version that it was started from; empty if it was from a file."""
        found = self.pipeline_version_reference or _ReferenceJson("", self.pipeline_version_id)
        if found.pipeline_id or found.pipeline_version_id:
            return found.pipeline_id, found.pipeline_version_id
        return read_origin(split_labels(self.description)[1].get(ORIGIN_LABEL, ""))

    @property
    def known_state(self) -> RunState:
        """Its state as far as its history shows: KFP ends a run that was terminated as FAILED."""
        state = state_of(self.state)
        past = [change.state for change in self.state_history]
        since_running = past[::-1][: past[::-1].index(_RUNNING)] if _RUNNING in past else past
        stopped = state is RunState.FAILED and RunState.CANCELING.value in since_running
        return RunState.CANCELED if stopped else state

    @property
    def is_waiting(self) -> bool:
        """Whether a pod of it has been pending for a while, as far as v2beta1 says."""
        latest = datetime.now(timezone.utc) - STUCK_AFTER
        pending = RunState.PENDING.value
        return any(node.state == pending and node.start_time and node.start_time < latest for node in self.nodes)

    def record(self) -> Run:
        """The run as the contract has it, as far as v2beta1 says: of a failure that is mostly nothing."""
        description, labels = split_labels(self.description)
        labels.pop(ORIGIN_LABEL, None)
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
        """Why it failed: its own words, or those of the task that failed first; empty if there are none."""
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
        """Identifies its condition: changes when its state, its tasks or its archiving do."""
        # Lists leave outputs out, which come with a change of state anyway.
        nodes = [
            (one.task_id, one.display_name, one.state, one.words, one.start_time, one.end_time, one.state_history)
            for one in sorted(self.nodes, key=lambda node: (node.task_id, node.display_name))
        ]
        parts = (self.state, self.storage_state, self.error, self.finished_at, self.state_history, nodes)
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:_ETAG_CHARACTERS]


class RunListJson(msgspec.Struct):
    """A list of runs; an empty one is `{}`."""

    runs: list[RunJson] = []
    total_size: int = 0
    next_page_token: str = ""


class _RuntimeJson(msgspec.Struct):
    workflow_manifest: str = ""


class _ManifestJson(msgspec.Struct):
    """A run in v1beta1, of which only the Argo Workflow is read."""

    pipeline_runtime: _RuntimeJson = msgspec.field(default_factory=_RuntimeJson)


class RunReader:
    """Reads runs. Safe to use from many threads."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._not_served_until = 0.0

    def get(self, run_id: str, call: Call) -> RunJson:
        """Gets a run from v2beta1."""
        return self._rest.ask(Operation.GET_RUN, Request("GET", run_path(run_id)), RunJson, call, context_of(run_id))

    def list(
        self,
        query: ListQuery,
        call: Call,
        *,
        experiment_id: str = "",
        namespace: str = "",
        context: Context = _NO_CONTEXT,
    ) -> RunListJson:
        """Lists runs of an experiment, or else of a namespace, with their tasks and inline specs."""
        scope = {"experiment_id": experiment_id} if experiment_id else {"namespace": namespace}
        request = Request("GET", RUNS, query.pairs(**scope))
        return self._rest.ask(Operation.LIST_RUNS, request, RunListJson, call, context)

    def whole(self, found: RunJson, nodes: RunNodes) -> Run:
        """The run with its tasks, its true end, and why it failed."""
        run = found.record()
        state = RunState.CANCELED if run.state is RunState.FAILED and nodes.is_terminated else run.state
        unreadable = (f"tasks are unavailable: {nodes.unreadable}",) if nodes.unreadable else ()
        return replace(
            run,
            state=state,
            error=(run.error or nodes.why_failed(run.run_id)) if state is RunState.FAILED else "",
            tasks=nodes.tasks,
            metrics=metrics_of(nodes.tasks),
            sources=nodes.sources,
            warnings=(*run.warnings, *nodes.warnings, *unreadable),
            etag=_with_warnings(run.etag, nodes.warnings),
        )

    def nodes(self, found: RunJson, call: Call) -> RunNodes:
        """Reads the nodes of a run; what cannot be read never fails the run."""
        if time.monotonic() < self._not_served_until:
            return read_task_details(found.nodes, found.why_failed())
        try:
            with explained(context_of(found.run_id)):
                manifest = self._manifest(found.run_id, call)
        except errors.KfpError as error:
            return RunNodes(unreadable=error.message)
        if manifest is None:
            return read_task_details(found.nodes, found.why_failed())
        return read_nodes(manifest, is_over=found.known_state.is_over) if manifest else RunNodes()

    def _manifest(self, run_id: str, call: Call) -> str | None:
        """Gets the Argo Workflow of a run as JSON; empty before the first report, None if this KFP serves none."""
        request = Request("GET", f"{_V1_RUNS}/{segment(run_id)}")
        try:
            found = self._rest.ask_raw(Operation.GET_RUN, request, _ManifestJson, call)
        except KfpFailureError as error:
            if error.failure.text != _NO_SUCH_ROUTE:
                raise
            self._not_served_until = time.monotonic() + _NOT_SERVED_SECONDS
            return None
        return found.pipeline_runtime.workflow_manifest


def run_path(run_id: str) -> str:
    """The path of a run."""
    return f"{RUNS}/{segment(run_id)}"


def context_of(run_id: str) -> Context:
    """The context of a call about a run."""
    return Context(subject=f"{run_id}", resource=run_id, values={"run_id": run_id})


def _with_warnings(etag: str, warnings: tuple[str, ...]) -> str:
    """What is waiting changes nothing of what v2beta1 says, but is news to watches with tasks."""
    if not warnings:
        return etag
    digest = hashlib.sha256("\n".join(warnings).encode("utf-8", "replace")).hexdigest()
    return f"{etag}+{digest[:8]}"
