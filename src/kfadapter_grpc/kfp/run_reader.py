"""Runs as KFP serves them: the run from v2beta1, and its tasks from the source that this KFP has.

Each source of tasks has a reader that makes `RunNodes`: `native_tasks` of the API of the KFP that follows 2.17,
`workflow_tasks` of the Argo manifest in v1beta1.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaiting
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.run_outputs import RunArtifact
from kfadapter_grpc.contract.runs import Run, RunSource, RunSources, RunSourceState, RunState
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.error_table import Context
from kfadapter_grpc.kfp.failures import KfpFailureError, Operation
from kfadapter_grpc.kfp.mlmd.store import OutputsReader
from kfadapter_grpc.kfp.native_tasks import NO_SUCH_ROUTE, REMEMBERED_SECONDS, NativeApi, NativeReader, NativeTaskJson
from kfadapter_grpc.kfp.rest import V2, ListQuery, Rest, explained, segment
from kfadapter_grpc.kfp.run_json import OneRunJson, RunJson, RunListJson
from kfadapter_grpc.kfp.run_nodes import RunNodes, metrics_of
from kfadapter_grpc.kfp.spec_tasks import RunSpecs, SpecTasks, with_unstarted
from kfadapter_grpc.kfp.transport import Request
from kfadapter_grpc.kfp.versions import Versions
from kfadapter_grpc.kfp.workflow_tasks import read_nodes

T = TypeVar("T")

RUNS = f"{V2}/runs"
_THREADS = 32
_V1_RUNS = "/apis/v1beta1/runs"
_OPTIONAL_SECONDS = 2.0
"""How much longer than the run itself a source may take without which the rest of the run is known."""
_NO_CONTEXT = Context()
_REFUSALS = (errors.PermissionDeniedError, errors.KfpRejectedCredentialsError)
_OUTAGES = (errors.KfpUnavailableError, errors.KfpTimeoutError)
_AVAILABLE = RunSource(RunSourceState.AVAILABLE)
_IN_MLMD = RunSource(
    RunSourceState.NOT_CONFIGURED,
    "this Kubeflow Pipelines keeps inputs, outputs and metrics in ML Metadata; set mlmd_address to read them",
)
_NO_MANIFEST = RunSource(
    RunSourceState.NOT_SERVED,
    "this Kubeflow Pipelines, or a proxy before it, serves neither tasks of runs nor /apis/v1beta1/runs",
)
_NO_OUTPUTS = RunSource(
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

    def read(self, *, is_over: bool) -> RunNodes:
        text = self.pipeline_runtime.workflow_manifest
        metrics: dict[str, dict[str, float]] = {}
        for metric in self.run.metrics:
            metrics.setdefault(metric.node_id, {})[metric.name] = metric.number_value
        return read_nodes(text, is_over=is_over, metrics=metrics) if text else RunNodes()


class RunReader:
    """Reads runs. Safe to use from many threads."""

    def __init__(self, rest: Rest, outputs: OutputsReader | None = None) -> None:
        self._rest = rest
        self._outputs = outputs or OutputsReader(None)
        self._specs = RunSpecs(Versions(rest))
        self._manifest_not_served_until = 0.0
        self._native = NativeApi(rest)
        self._threads = ThreadPoolExecutor(_THREADS, "run-reads")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def start(self, work: Callable[[Call], T], call: Call, seconds: float = _OPTIONAL_SECONDS) -> Callable[[], T]:
        """Starts work in the background.

        The returned function waits for the result, for some seconds at most, or does the work if no thread was free.
        It raises KfpTimeoutError.
        """
        part = call.detached(call.remaining())
        call.on_cancel(part.cancel)
        future = self._threads.submit(work, part)

        def result() -> T:
            if future.cancel():
                with call.within(seconds) as own:
                    return work(own)
            try:
                return future.result(seconds)
            except StillWaiting:
                part.cancel()
                raise errors.KfpTimeoutError("Kubeflow Pipelines did not answer in time") from None

        return result

    def get(self, run_id: str, call: Call) -> OneRunJson:
        request, context = Request("GET", run_path(run_id)), Context.by_id("run_id", run_id)
        run = self._rest.ask(Operation.GET_RUN, request, OneRunJson, call, context)
        self._learn_from(run)
        return run

    def _learn_from(self, run: RunJson) -> None:
        """Records what a run shows: only with the native API it has a number of tasks, only without it nodes."""
        if run.task_count or run.run_details:
            self._native.learn(is_served=run.task_count > 0)

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
        page = self._rest.ask(Operation.LIST_RUNS, request, RunListJson, call, context)
        for run in page.items[:1]:
            self._learn_from(run)
        return page

    def with_nodes(self, run: RunJson, nodes: RunNodes) -> Run:
        record = run.record()
        state = RunState.CANCELED if record.state is RunState.FAILED and nodes.is_terminated else record.state
        etag = run.with_tasks(record.etag, nodes.etag)
        if nodes.warnings:  # a pending pod changes nothing in v2beta1, but is an update for watches with tasks
            digest = hashlib.sha256("\n".join(nodes.warnings).encode("utf-8", "replace")).hexdigest()
            etag = f"{etag}+{digest[:8]}"
        unreadable = (f"tasks are unavailable: {nodes.unreadable}",) if nodes.unreadable else ()
        return replace(
            record,
            state=state,
            error=(record.error or nodes.failure_message(record.run_id)) if state is RunState.FAILED else "",
            tasks=nodes.tasks,
            metrics=metrics_of(nodes.tasks),
            sources=nodes.sources,
            warnings=(*record.warnings, *nodes.warnings, *unreadable),
            etag=etag,
        )

    def read(
        self,
        run_id: str,
        call: Call,
        *,
        for_logs: bool = False,
        is_needed: bool = False,
        on_run: Callable[[OneRunJson], object] = lambda _: None,
    ) -> tuple[OneRunJson, RunNodes]:
        """Gets a run and its tasks; tasks that are unreadable never fail the run, nor do late ones.

        `for_logs` all information about pods is needed, and no tasks that have not started; `is_needed` makes an outage
        fail the call, as it does for logs, so that it is repeated; `on_run` receives the run before its tasks are read.
        """
        is_needed = is_needed or for_logs
        tasks = manifest = None  # requests that need not wait for the run
        if self._native.was_served:
            tasks = self._tasks(run_id, call, is_needed=is_needed)
        elif not for_logs:
            manifest = self._manifest(run_id, call, is_needed=is_needed)
        run = self.get(run_id, call)
        on_run(run)
        nodes = None
        if run.task_count:
            tasks = tasks or self._tasks(run_id, call, is_needed=is_needed)
            nodes = self._native_nodes(run, tasks, call, for_logs=for_logs, is_needed=is_needed)
        return run, nodes or self._argo_nodes(run, manifest, call, for_logs=for_logs, is_needed=is_needed)

    def _tasks(self, run_id: str, call: Call, *, is_needed: bool) -> Callable[[], Sequence[NativeTaskJson] | None]:
        seconds = call.remaining() if is_needed else _OPTIONAL_SECONDS
        return self.start(lambda part: self._native.tasks(run_id, part, Context.by_id("run_id", run_id)), call, seconds)

    def _manifest(self, run_id: str, call: Call, *, is_needed: bool) -> Callable[[], _ManifestJson | None]:
        seconds = call.remaining() if is_needed else _OPTIONAL_SECONDS
        return self.start(partial(self._read_manifest, run_id), call, seconds)

    def _argo_nodes(
        self,
        run: OneRunJson,
        started: Callable[[], _ManifestJson | None] | None,
        call: Call,
        *,
        for_logs: bool,
        is_needed: bool,
    ) -> RunNodes:
        """Reads the tasks from the Argo Workflow, which may be on its way, their outputs from ML Metadata."""
        run_id, is_over, recorded = run.run_id, run.effective_state.is_over, None
        if run.nodes and not for_logs and self._outputs.has_store:  # not before KFP has shown the run to the caller
            recorded = self.start(partial(self._outputs.read, run_id), call, call.remaining())  # it has its own limit
        manifest, error = _try_read(started or self._manifest(run_id, call, is_needed=is_needed), is_needed=is_needed)
        ended_at = manifest.run.finished_at if manifest else None
        if is_over and started and ended_at and known_time(ended_at) is None:  # it ended in between
            manifest, error = _try_read(self._manifest(run_id, call, is_needed=is_needed), is_needed=is_needed)
        if error is not None:
            nodes = _unreadable(error)
        elif manifest is not None:
            nodes = manifest.read(is_over=is_over)
        else:
            return RunNodes(message=run.failure_message(), sources=RunSources(_NO_MANIFEST, _NO_MANIFEST, _NO_MANIFEST))
        if for_logs:
            return nodes
        is_native = bool(nodes.tasks) and self._native.is_served(call)
        nodes = replace(nodes, sources=_sources(run, nodes, is_native=is_native))
        nodes = self._outputs.complete(run_id, nodes, call, recorded)
        if run.state == RunState.SUCCEEDED.value and not nodes.tasks:
            return nodes
        return with_unstarted(nodes, self._spec(run, call), is_over=is_over)

    def recorded_logs(self, run_id: str, task_id: str, call: Call) -> Sequence[tuple[RunArtifact, str]]:
        """Reads which logs of a task ML Metadata has, as `RunNodes.logs` returns them; gets the run again first."""
        if not self._outputs.has_store:
            return ()
        _, nodes = self.read(run_id, call, for_logs=True)
        return self._outputs.complete(run_id, nodes, call).logs(task_id)

    def _spec(self, run: OneRunJson, call: Call) -> SpecTasks:
        return self._specs.tasks(*run.origin, bytes(run.pipeline_spec), call)

    def _native_nodes(
        self,
        run: OneRunJson,
        started: Callable[[], Sequence[NativeTaskJson] | None],
        call: Call,
        *,
        for_logs: bool,
        is_needed: bool,
    ) -> RunNodes | None:
        """Reads the tasks from the native API; None if this KFP no longer has it, or has no tasks of this run."""
        argo, manifest, argo_error, state = RunNodes(), None, None, run.effective_state
        if for_logs or state is not RunState.SUCCEEDED:
            try:
                manifest = self._manifest(run.run_id, call, is_needed=False)()
            except errors.AdapterError as error:
                argo_error = error
            argo = manifest.read(is_over=state.is_over) if manifest else argo
        tasks, tasks_error = _try_read(started, is_needed=is_needed)
        if tasks_error is not None:
            nodes = _unreadable(tasks_error)
            return replace(nodes, sources=_sources(run, nodes, is_native=True))
        if not tasks:
            return None
        unreadable = argo_error.message if argo_error else argo.unreadable
        argo = replace(argo, unreadable="")
        logs = RunSource(RunSourceState.UNREACHABLE, unreadable) if unreadable else _AVAILABLE
        spec = self._spec(run, call)
        nodes = NativeReader(tasks, run.run_id, state, spec, argo).read()
        nodes = replace(nodes, sources=RunSources(_AVAILABLE, _AVAILABLE, logs))
        return nodes if for_logs else with_unstarted(nodes, spec, is_over=state.is_over)

    def _read_manifest(self, run_id: str, call: Call) -> _ManifestJson | None:
        """Gets the Argo Workflow of a run, without nodes before the first report; None if this KFP serves none."""
        if time.monotonic() < self._manifest_not_served_until:
            return None
        request = Request("GET", f"{_V1_RUNS}/{segment(run_id)}")
        with explained(Context.by_id("run_id", run_id)):
            try:
                return self._rest.ask_raw(Operation.GET_RUN, request, _ManifestJson, call)
            except KfpFailureError as error:
                if error.failure.text != NO_SUCH_ROUTE:
                    raise
                self._manifest_not_served_until = time.monotonic() + REMEMBERED_SECONDS
                return None


def _try_read(read: Callable[[], T | None], *, is_needed: bool) -> tuple[T | None, errors.AdapterError | None]:
    """What was read, or why it cannot be; an outage is raised if it is needed."""
    try:
        return read(), None
    except (errors.KfpError, *_REFUSALS) as error:
        return None, error
    except _OUTAGES as error:
        if is_needed:
            raise
        return None, error


def _unreadable(error: errors.AdapterError) -> RunNodes:
    return RunNodes(unreadable=error.message, refused=error if isinstance(error, _REFUSALS) else None)


def _sources(run: RunJson, nodes: RunNodes, *, is_native: bool) -> RunSources:
    tasks = RunSource(RunSourceState.UNREACHABLE, nodes.unreadable) if nodes.unreadable else _AVAILABLE
    outputs = tasks
    if nodes.steps and not is_native:
        outputs = _IN_MLMD
    elif nodes.steps and run.state == RunState.SUCCEEDED.value:
        outputs = _NO_OUTPUTS
    return RunSources(tasks, outputs, tasks)


def run_path(run_id: str) -> str:
    return f"{RUNS}/{segment(run_id)}"
