"""Runs as KFP serves them: the run from v2beta1, and its tasks from the source that this KFP has.

Each source of tasks has a reader that makes `RunNodes`: `native_tasks` of the API of the KFP that follows 2.17,
`workflow_tasks` of the Argo manifest in v1beta1.
"""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.runs import Run, RunSource, RunSources, RunSourceState, RunState
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.error_table import Context
from kfadapter_grpc.kfp.failures import KfpFailureError, NotAnApiError, Operation
from kfadapter_grpc.kfp.mlmd.store import OutputsReader
from kfadapter_grpc.kfp.native_tasks import NativeReader, NativeTasksJson
from kfadapter_grpc.kfp.rest import V2, KfpPage, explained, gather, segment, set_only
from kfadapter_grpc.kfp.run_json import OneRunJson, RunListJson
from kfadapter_grpc.kfp.run_nodes import RunNodes
from kfadapter_grpc.kfp.run_outputs import metrics_of
from kfadapter_grpc.kfp.spec_tasks import RunSpecs, with_unstarted
from kfadapter_grpc.kfp.transport import AnswerTooLargeError, Request
from kfadapter_grpc.kfp.versions import Versions
from kfadapter_grpc.kfp.workflow_tasks import read_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.run_outputs import RunArtifact
    from kfadapter_grpc.kfp.native_tasks import NativeTaskJson
    from kfadapter_grpc.kfp.rest import ListQuery, Rest
    from kfadapter_grpc.kfp.run_json import RunJson
    from kfadapter_grpc.kfp.spec_tasks import SpecTasks

MAX_TASKS = 10_000
NO_SUCH_ROUTE = "Not Found"
"""KFP's response if the address does not exist; for a missing resource the response says more."""
REMEMBERED_SECONDS = 300.0
"""How long the result of the check is valid: KFP may be upgraded while the adapter runs."""
_PROBE_SECONDS = 2.0
_PROBED = f"{V2}/artifact_tasks"
"""Where this API is served, KFP rejects a request without a filter at once, with any credentials."""


class NativeApi:
    """The native API of one KFP. Safe to use from many threads."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._is_served, self._until = False, 0.0

    @property
    def was_served(self) -> bool:
        return self._is_served

    def learn(self, *, is_served: bool) -> None:
        self._is_served, self._until = is_served, time.monotonic() + REMEMBERED_SECONDS

    def is_served(self, call: Call) -> bool:
        """Whether it is served; checks with a request if no response has shown it for a while."""
        if time.monotonic() >= self._until:
            try:
                with call.within(_PROBE_SECONDS) as part:
                    self._rest.ask_raw(Operation.PROBE, Request("GET", _PROBED), object, part)
            except KfpFailureError as error:
                if error.failure.status == HTTPStatus.BAD_REQUEST or error.failure.text == NO_SUCH_ROUTE:
                    self.learn(is_served=error.failure.status == HTTPStatus.BAD_REQUEST)
            except (errors.AdapterError, NotAnApiError):
                return False
        return self._is_served

    def tasks(self, run_id: str, call: Call, context: Context) -> Sequence[NativeTaskJson] | None:
        """Lists the tasks of a run, each once; None if the API is no longer served."""

        def fetch(size: int, token: str) -> KfpPage[NativeTaskJson]:
            query = set_only({"page_size": str(size), "page_token": token})
            request = Request("GET", f"{V2}/runs/{segment(run_id)}/tasks", list(query.items()))
            page = self._rest.ask_raw(Operation.GET_RUN, request, NativeTasksJson, call)
            return KfpPage(page.tasks, page.next_page_token, len(page.tasks))

        with explained(context):
            try:
                found = gather(fetch, lambda _: 0, MAX_TASKS, "", rounds=MAX_TASKS)
            except KfpFailureError as error:
                if error.failure.text != NO_SUCH_ROUTE:
                    raise
                self._until = 0.0
                return None
        if found.next_token and len(found.items) < MAX_TASKS:
            raise AnswerTooLargeError(f"a task of run {run_id} is too large to be read")
        return tuple({one.task_id: one for one in found.items}.values())


T = TypeVar("T")

RUNS = f"{V2}/runs"
_THREADS = 32
_V1_RUNS = "/apis/v1beta1/runs"
_OPTIONAL_SECONDS = 2.0
"""The time limit for a source without which the tasks of a run are known, too."""
_NO_CONTEXT = Context()
_REFUSALS = (errors.PermissionDeniedError, errors.KfpRejectedCredentialsError)
_AVAILABLE = RunSource(RunSourceState.AVAILABLE)
_IN_MLMD = RunSource(
    RunSourceState.NOT_CONFIGURED,
    "this Kubeflow Pipelines keeps inputs, outputs and metrics in ML Metadata; set mlmd_address to read them",
)
_NO_MANIFEST = RunSource(
    RunSourceState.NOT_SERVED,
    "this Kubeflow Pipelines, or a proxy before it, serves neither tasks of runs nor /apis/v1beta1/runs",
)
_OF_EARLIER_KFP = RunSource(
    RunSourceState.NOT_SERVED, "the run was made before Kubeflow Pipelines was upgraded, which serves no outputs of it"
)


class _RuntimeJson(msgspec.Struct):
    workflow_manifest: str = ""


class _MetricJson(msgspec.Struct):
    name: str = ""
    node_id: str = ""
    number_value: float = 0.0


class _V1RunJson(msgspec.Struct):
    finished_at: datetime | None = None
    metrics: list[_MetricJson] = []


class _ManifestJson(msgspec.Struct):
    """A run in v1beta1, with the Argo Workflow, and the metrics of a file of KFP v1."""

    pipeline_runtime: _RuntimeJson = msgspec.field(default_factory=_RuntimeJson)
    run: _V1RunJson = msgspec.field(default_factory=_V1RunJson)

    @property
    def is_unfinished(self) -> bool:
        """Whether the run had not finished when this was read."""
        return self.run.finished_at is not None and known_time(self.run.finished_at) is None

    def read(self, *, is_over: bool) -> RunNodes:
        text = self.pipeline_runtime.workflow_manifest
        metrics: dict[str, dict[str, float]] = {}
        for one in self.run.metrics:
            metrics.setdefault(one.node_id, {})[one.name] = one.number_value
        return read_nodes(text, is_over=is_over, metrics=metrics) if text else RunNodes()


_Manifest: TypeAlias = "tuple[_ManifestJson | None, errors.AdapterError | None]"


class RunReader:
    """Reads runs. Safe to use from many threads."""

    def __init__(self, rest: Rest, outputs: OutputsReader | None = None) -> None:
        """Reads from KFP, and outputs from ML Metadata."""
        self._rest = rest
        self._outputs = outputs or OutputsReader(None)
        self._specs = RunSpecs(Versions(rest))
        self._manifest_not_served_until = 0.0
        self._native = NativeApi(rest)
        self._threads = ThreadPoolExecutor(_THREADS, "run-reads")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def ahead(self, work: Callable[[], T]) -> Callable[[], T]:
        """Starts work in the background; the returned function gets its result, or does it if no thread was free."""
        future = self._threads.submit(work)
        return lambda: work() if future.cancel() else future.result()

    def get(self, run_id: str, call: Call) -> OneRunJson:
        """Gets a run from v2beta1."""
        request, context = Request("GET", run_path(run_id)), context_of(run_id)
        found = self._rest.ask(Operation.GET_RUN, request, OneRunJson, call, context)
        self._learn_from(found)
        return found

    def _learn_from(self, found: RunJson) -> None:
        """Records what a run shows: only with the native API it has a number of tasks, only without it nodes."""
        if found.task_count or found.run_details:
            self._native.learn(is_served=found.task_count > 0)

    def list(
        self,
        query: ListQuery,
        call: Call,
        *,
        experiment_id: str = "",
        namespace: str = "",
        context: Context = _NO_CONTEXT,
        with_tasks: bool = False,
    ) -> RunListJson:
        """Lists runs of an experiment, or else of a namespace, with their inline specs.

        Their nodes are always included up to 2.17; the tasks of the native API only `with_tasks`.
        """
        scope = {"experiment_id": experiment_id} if experiment_id else {"namespace": namespace}
        scope |= {"view": "FULL"} if with_tasks and self._native.was_served else {}
        request = Request("GET", RUNS, query.pairs(**scope))
        found = self._rest.ask(Operation.LIST_RUNS, request, RunListJson, call, context)
        for run in found.runs[:1]:
            self._learn_from(run)
        return found

    def whole(self, found: RunJson, nodes: RunNodes) -> Run:
        """The run with its tasks, its actual end, and why it failed."""
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
            etag=_with_warnings(found.with_tasks(run.etag, nodes.etag), nodes.warnings),
        )

    def read(
        self, run_id: str, call: Call, *, for_logs: bool = False, seen: Callable[[OneRunJson], object] = lambda _: None
    ) -> tuple[OneRunJson, RunNodes]:
        """Gets a run and its tasks; unreadable tasks never fail the run.

        `for_logs` all information about pods is needed, and no tasks that have not started; `seen` receives the run
        before its tasks are read.
        """
        tasks_of = manifest_of = None
        if self._native.was_served:
            tasks_of = self.ahead(partial(self._tasks, run_id, call))
        elif not for_logs:
            manifest_of = self.ahead(partial(self._readable_manifest, run_id, call))
        found = self.get(run_id, call)
        seen(found)
        return found, self.nodes(found, call, for_logs=for_logs, tasks_of=tasks_of, manifest_of=manifest_of)

    def _tasks(self, run_id: str, call: Call) -> Sequence[NativeTaskJson] | None:
        return self._native.tasks(run_id, call, context_of(run_id))

    def nodes(
        self,
        found: OneRunJson,
        call: Call,
        *,
        for_logs: bool = False,
        tasks_of: Callable[[], Sequence[NativeTaskJson] | None] | None = None,
        manifest_of: Callable[[], _Manifest] | None = None,
    ) -> RunNodes:
        """Reads the tasks of a run; `tasks_of` and `manifest_of` return the results of reads in progress."""
        if found.task_count:
            tasks_of = tasks_of or partial(self._tasks, found.run_id, call)
            native = self._native_nodes(found, tasks_of, call, for_logs=for_logs)
            if native is not None:
                return native
        recorded = None
        if found.nodes and not for_logs and self._outputs.has_store:  # not before KFP has shown the run to the caller
            recorded = self.ahead(partial(self._outputs.read, found.run_id, call))
        manifest, failed = manifest_of() if manifest_of else self._readable_manifest(found.run_id, call)
        if found.known_state.is_over and manifest_of and manifest and manifest.is_unfinished:  # it ended in between
            manifest, failed = self._readable_manifest(found.run_id, call)
        if failed is not None:
            nodes = _unreadable(failed)
        elif manifest is not None:
            nodes = manifest.read(is_over=found.known_state.is_over)
        else:
            return RunNodes(message=found.why_failed(), sources=RunSources(_NO_MANIFEST, _NO_MANIFEST, _NO_MANIFEST))
        if for_logs:
            return nodes
        is_native = bool(nodes.tasks) and self._native.is_served(call)
        nodes = replace(nodes, sources=_sources(found, nodes, is_native=is_native))
        nodes = self._outputs.complete(found.run_id, nodes, call, recorded)
        if found.state == RunState.SUCCEEDED.value and not nodes.tasks:
            return nodes
        return with_unstarted(nodes, self._spec(found, call), is_over=found.known_state.is_over)

    def recorded_logs(self, run_id: str, task_id: str, call: Call) -> Sequence[tuple[RunArtifact, str]]:
        """Reads which logs of a task ML Metadata has, as `RunNodes.logs` returns them; gets the run again first."""
        if not self._outputs.has_store:
            return ()
        _, nodes = self.read(run_id, call, for_logs=True)
        return self._outputs.complete(run_id, nodes, call).logs(task_id)

    def _spec(self, found: OneRunJson, call: Call) -> SpecTasks:
        return self._specs.tasks(*found.origin, bytes(found.pipeline_spec), call)

    def _native_nodes(
        self, found: OneRunJson, tasks_of: Callable[[], Sequence[NativeTaskJson] | None], call: Call, *, for_logs: bool
    ) -> RunNodes | None:
        """Reads the tasks from the native API; None if this KFP no longer has it, or has no tasks of this run."""
        argo, manifest, failed = RunNodes(), None, None
        state = found.known_state
        if for_logs or state is not RunState.SUCCEEDED:
            try:
                with call.within(_OPTIONAL_SECONDS) as part:
                    manifest, failed = self._readable_manifest(found.run_id, part)
            except errors.AdapterError as error:
                failed = error
            argo = manifest.read(is_over=found.known_state.is_over) if manifest else argo
        try:
            tasks = tasks_of()
        except (errors.KfpError, *_REFUSALS) as error:
            nodes = _unreadable(error)
            return replace(nodes, sources=_sources(found, nodes, is_native=True))
        if not tasks:
            return None
        unreadable = failed.message if failed else argo.unreadable
        argo = replace(argo, unreadable="")
        logs = RunSource(RunSourceState.UNREACHABLE, unreadable) if unreadable else _AVAILABLE
        spec = self._spec(found, call)
        nodes = NativeReader(tasks, found.run_id, state, spec, argo).read()
        nodes = replace(nodes, sources=RunSources(_AVAILABLE, _AVAILABLE, logs))
        return nodes if for_logs else with_unstarted(nodes, spec, is_over=state.is_over)

    def _readable_manifest(self, run_id: str, call: Call) -> _Manifest:
        """Gets the Argo Workflow of a run, or why it cannot be read; neither of them if this KFP serves none."""
        try:
            with explained(context_of(run_id)):
                return self._manifest(run_id, call), None
        except (errors.KfpError, *_REFUSALS) as error:
            return None, error

    def _manifest(self, run_id: str, call: Call) -> _ManifestJson | None:
        """Gets the Argo Workflow of a run, without nodes before the first report; None if this KFP serves none."""
        if time.monotonic() < self._manifest_not_served_until:
            return None
        request = Request("GET", f"{_V1_RUNS}/{segment(run_id)}")
        try:
            return self._rest.ask_raw(Operation.GET_RUN, request, _ManifestJson, call)
        except KfpFailureError as error:
            if error.failure.text != NO_SUCH_ROUTE:
                raise
            self._manifest_not_served_until = time.monotonic() + REMEMBERED_SECONDS
            return None


def _unreadable(error: errors.AdapterError) -> RunNodes:
    return RunNodes(unreadable=error.message, refused=error if isinstance(error, _REFUSALS) else None)


def _sources(found: RunJson, nodes: RunNodes, *, is_native: bool) -> RunSources:
    """The sources of a run without native tasks."""
    tasks = RunSource(RunSourceState.UNREACHABLE, nodes.unreadable) if nodes.unreadable else _AVAILABLE
    outputs = tasks
    if nodes.steps and not is_native:
        outputs = _IN_MLMD
    elif nodes.steps and found.state == RunState.SUCCEEDED.value:
        outputs = _OF_EARLIER_KFP
    return RunSources(tasks, outputs, tasks)


def run_path(run_id: str) -> str:
    return f"{RUNS}/{segment(run_id)}"


def context_of(run_id: str) -> Context:
    return Context(subject=f"{run_id}", resource=run_id, values={"run_id": run_id})


def _with_warnings(etag: str, warnings: tuple[str, ...]) -> str:
    """A pending pod changes nothing in v2beta1, but is an update for watches with tasks."""
    if not warnings:
        return etag
    digest = hashlib.sha256("\n".join(warnings).encode("utf-8", "replace")).hexdigest()
    return f"{etag}+{digest[:8]}"
