"""Runs as KFP serves them: what v2beta1 says of them, and their tasks from where this KFP has them.

Each source of tasks has a reader that makes `RunNodes`: `native_tasks` of the API of the KFP that follows 2.17,
`workflow_tasks` of the Argo manifest in v1beta1, `task_details` of v2beta1 itself.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from datetime import datetime, timezone
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.labels import ORIGIN_LABEL, split_labels
from kfadapter_grpc.contract.runs import Run, RunSource, RunSources, RunSourceState, RunState
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.error_table import Context, explain, explain_page
from kfadapter_grpc.kfp.experiments import storage_state
from kfadapter_grpc.kfp.failures import KfpFailureError, NotAnApiError, Operation
from kfadapter_grpc.kfp.inline_spec import read_origin
from kfadapter_grpc.kfp.mlmd.reader import OutputsReader
from kfadapter_grpc.kfp.native_tasks import NativeTaskJson, NativeTasksJson, read_native_tasks
from kfadapter_grpc.kfp.rest import MAX_KFP_PAGE, V2, explained, segment, set_only, smaller
from kfadapter_grpc.kfp.run_nodes import STUCK_AFTER, RunNodes
from kfadapter_grpc.kfp.run_outputs import metrics_of
from kfadapter_grpc.kfp.spec_tasks import RunSpecs, with_unstarted
from kfadapter_grpc.kfp.task_details import (
    StateChangeJson,
    StatusJson,
    TaskJson,
    first_failure,
    history_of,
    read_task_details,
    state_of,
)
from kfadapter_grpc.kfp.transport import AnswerTooLargeError, Request
from kfadapter_grpc.kfp.versions import Versions
from kfadapter_grpc.kfp.workflow_tasks import read_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.kfp.rest import ListQuery, Rest
    from kfadapter_grpc.kfp.spec_tasks import SpecTasks


RUNS = f"{V2}/runs"
_V1_RUNS = "/apis/v1beta1/runs"
_ARTIFACT_TASKS = f"{V2}/artifact_tasks"
"""Without a filter KFP refuses it at once where it has this API."""
MAX_TASKS = 10_000
"""How many tasks of a run are read."""
_NO_SUCH_ROUTE = "Not Found"
"""What KFP answers if it has no such address; of a run that does not exist it says more."""
_REMEMBERED_SECONDS = 300.0
"""For how long it is known what this KFP serves: it may be upgraded while the adapter runs."""
_OPTIONAL_SECONDS = 2.0
"""How long a source may take without which the tasks of a run are known, too."""
_ETAG_CHARACTERS = 20
_NO_STATE = frozenset({"", "RUNTIME_STATE_UNSPECIFIED"})
_RUNNING = RunState.RUNNING.value
_NO_CONTEXT = Context()
_AVAILABLE = RunSource(RunSourceState.AVAILABLE)
_IN_MLMD = RunSource(
    RunSourceState.NOT_CONFIGURED,
    "this Kubeflow Pipelines keeps inputs, outputs and metrics in ML Metadata; set mlmd_address to read them",
)
_OF_EARLIER_KFP = RunSource(
    RunSourceState.NOT_SERVED, "the run was made before Kubeflow Pipelines was upgraded, which serves no outputs of it"
)


class _ReferenceJson(msgspec.Struct):
    pipeline_id: str = ""
    pipeline_version_id: str = ""


class _RuntimeConfigJson(msgspec.Struct):
    parameters: dict[str, object] = {}


class _RunDetailsJson(msgspec.Struct):
    task_details: list[TaskJson] = []


class RunJson(msgspec.Struct):
    """A run."""

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


class OneRunJson(RunJson):
    """A run that was read alone: with its spec if it was started from a file."""

    pipeline_spec: msgspec.Raw = msgspec.Raw()


class RunListJson(msgspec.Struct):
    """A list of runs, whose inline specs are skipped; an empty one is `{}`."""

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

    def __init__(self, rest: Rest, outputs: OutputsReader | None = None) -> None:
        """Will ask KFP, and for outputs ML Metadata."""
        self._rest = rest
        self._outputs = outputs or OutputsReader(None)
        self._specs = RunSpecs(Versions(rest))
        self._manifest_not_served_until = 0.0
        self._is_native, self._is_native_until = False, 0.0

    def get(self, run_id: str, call: Call) -> OneRunJson:
        """Gets a run from v2beta1."""
        return self._rest.ask(Operation.GET_RUN, Request("GET", run_path(run_id)), OneRunJson, call, context_of(run_id))

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

    def nodes(self, found: OneRunJson, call: Call, *, for_logs: bool = False) -> RunNodes:
        """Reads the tasks of a run; what cannot be read never fails the run.

        Args:
            found: The run.
            call: For which call.
            for_logs: Whether everything is needed that is known of pods, and nothing but what has begun.
        """
        nodes = self._native_nodes(found, call, for_logs=for_logs) if found.task_count else None
        if nodes is not None:
            return nodes
        manifest, unreadable = self._readable_manifest(found.run_id, call)
        if manifest is None and not unreadable:
            return read_task_details(found.nodes, found.why_failed())
        nodes = RunNodes(unreadable=unreadable) if manifest is None else _read_manifest(found, manifest)
        if for_logs:
            return nodes
        is_native = bool(nodes.tasks) and self._serves_tasks(found, call)
        nodes = replace(nodes, sources=_sources(found, nodes, is_native=is_native))
        nodes = self._outputs.complete(found.run_id, nodes, call)
        if found.state == RunState.SUCCEEDED.value and not nodes.tasks:
            return nodes
        return with_unstarted(nodes, self._spec(found, call), is_over=found.known_state.is_over)

    def _spec(self, found: OneRunJson, call: Call) -> SpecTasks:
        return self._specs.tasks(*found.origin, bytes(found.pipeline_spec), call)

    # --- the native API ---------------------------------------------------------------------------------------------

    def _serves_tasks(self, found: RunJson, call: Call) -> bool:
        """Whether this KFP has the native API: shown by the run, or else asked for and remembered for a while."""
        if found.task_count or found.run_details:
            self._remember(is_native=found.task_count > 0)
        elif time.monotonic() >= self._is_native_until:
            try:
                with call.within(_OPTIONAL_SECONDS) as part:
                    self._rest.ask_raw(Operation.PROBE, Request("GET", _ARTIFACT_TASKS), object, part)
            except KfpFailureError as error:
                if error.failure.status == HTTPStatus.BAD_REQUEST or error.failure.text == _NO_SUCH_ROUTE:
                    self._remember(is_native=error.failure.status == HTTPStatus.BAD_REQUEST)
            except (errors.AdapterError, NotAnApiError):
                return False
        return self._is_native

    def _remember(self, *, is_native: bool) -> None:
        self._is_native, self._is_native_until = is_native, time.monotonic() + _REMEMBERED_SECONDS

    def _native_nodes(self, found: OneRunJson, call: Call, *, for_logs: bool) -> RunNodes | None:
        """Reads the tasks from the native API; None if this KFP has none any more, or none of this run."""
        argo, unreadable = RunNodes(), ""
        state = found.known_state
        if for_logs or state is not RunState.SUCCEEDED:
            try:
                with call.within(_OPTIONAL_SECONDS) as part:
                    manifest, unreadable = self._readable_manifest(found.run_id, part)
            except errors.AdapterError as error:
                manifest, unreadable = None, error.message
            argo = _read_manifest(found, manifest) if manifest else argo
        try:
            tasks = self._tasks(found.run_id, call)
        except KfpFailureError as error:
            if error.failure.text == _NO_SUCH_ROUTE:
                self._is_native_until = 0.0
                return None
            why = explain(error, context_of(found.run_id))
            if not isinstance(why, errors.KfpError | errors.PermissionDeniedError):
                raise why from error
            return _unreadable(found, why.message)
        except NotAnApiError as error:
            return _unreadable(found, explain_page(error).message)
        if not tasks:
            return None
        unreadable = unreadable or argo.unreadable
        argo = replace(argo, unreadable="")
        logs = RunSource(RunSourceState.UNREACHABLE, unreadable) if unreadable else _AVAILABLE
        spec = self._spec(found, call)
        nodes = read_native_tasks(tasks, found.run_id, state, spec, argo)
        nodes = replace(nodes, sources=RunSources(_AVAILABLE, _AVAILABLE, logs))
        return nodes if for_logs else with_unstarted(nodes, spec, is_over=state.is_over)

    def _tasks(self, run_id: str, call: Call) -> Sequence[NativeTaskJson]:
        """Lists the tasks of a run, each once; pages are smaller where tasks turn out to be large."""
        found: dict[str, NativeTaskJson] = {}
        size, token = MAX_KFP_PAGE, ""
        while True:
            query = set_only({"page_size": str(size), "page_token": token})
            request = Request("GET", f"{run_path(run_id)}/tasks", list(query.items()))
            try:
                page = self._rest.ask_raw(Operation.GET_RUN, request, NativeTasksJson, call)
            except AnswerTooLargeError:
                if size == 1:
                    raise
                size = smaller(size)
                continue
            found |= {one.task_id: one for one in page.tasks}
            token = page.next_page_token
            if not token or len(found) >= MAX_TASKS:
                return tuple(found.values())

    # --- the manifest -----------------------------------------------------------------------------------------------

    def _readable_manifest(self, run_id: str, call: Call) -> tuple[str | None, str]:
        """Gets the Argo Workflow of a run, or why it cannot be read; neither of them if this KFP serves none."""
        try:
            with explained(context_of(run_id)):
                return self._manifest(run_id, call), ""
        except errors.KfpError as error:
            return None, error.message

    def _manifest(self, run_id: str, call: Call) -> str | None:
        """Gets the Argo Workflow of a run as JSON; empty before the first report, None if this KFP serves none."""
        if time.monotonic() < self._manifest_not_served_until:
            return None
        request = Request("GET", f"{_V1_RUNS}/{segment(run_id)}")
        try:
            found = self._rest.ask_raw(Operation.GET_RUN, request, _ManifestJson, call)
        except KfpFailureError as error:
            if error.failure.text != _NO_SUCH_ROUTE:
                raise
            self._manifest_not_served_until = time.monotonic() + _REMEMBERED_SECONDS
            return None
        return found.pipeline_runtime.workflow_manifest


def _read_manifest(found: RunJson, manifest: str) -> RunNodes:
    return read_nodes(manifest, is_over=found.known_state.is_over) if manifest else RunNodes()


def _unreadable(found: RunJson, why: str) -> RunNodes:
    nodes = RunNodes(unreadable=why)
    return replace(nodes, sources=_sources(found, nodes, is_native=True))


def _sources(found: RunJson, nodes: RunNodes, *, is_native: bool) -> RunSources:
    """The sources of a run without native tasks."""
    tasks = RunSource(RunSourceState.UNREACHABLE, nodes.unreadable) if nodes.unreadable else _AVAILABLE
    outputs = tasks
    if nodes.tasks and not is_native:
        outputs = _IN_MLMD
    elif nodes.tasks and found.state == RunState.SUCCEEDED.value:
        outputs = _OF_EARLIER_KFP
    return RunSources(tasks, outputs, tasks)


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
