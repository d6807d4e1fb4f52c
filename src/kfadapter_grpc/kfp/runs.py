"""Runs in KFP."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.labels import LINE_START, label_key_text, label_text
from kfadapter_grpc.contract.listing import Page, PageRequest, StorageState, View
from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
from kfadapter_grpc.contract.runs import Run, RunFilter, RunState, RunTask
from kfadapter_grpc.kfp.error_table import Context
from kfadapter_grpc.kfp.experiments import Experiments, storage_filter
from kfadapter_grpc.kfp.failures import Operation
from kfadapter_grpc.kfp.logs import RunLogs
from kfadapter_grpc.kfp.pipelines import Pipelines
from kfadapter_grpc.kfp.rest import (
    ListQuery,
    Predicate,
    Rest,
    after,
    contains,
    equals,
    paginate,
    record_weight,
    sort_by,
)
from kfadapter_grpc.kfp.run_creation import RunCreator
from kfadapter_grpc.kfp.run_json import OneRunJson, RunJson
from kfadapter_grpc.kfp.run_nodes import RunNodes
from kfadapter_grpc.kfp.run_reader import RunReader, run_path
from kfadapter_grpc.kfp.transport import ResponseTooLargeError
from kfadapter_grpc.kfp.writes import ensure_changed, ensure_deleted

_SORT_KEYS = {"created_at": "created_at", "finished_at": "finished_at", "display_name": "name", "run_id": "id"}
_FIRST_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 5.0
_PAUSE_FACTOR = 1.5
_MARGIN_SECONDS = 0.5
"""The part of a call's time that is reserved for its last poll and the response."""
_MAX_LOG_TAILS = 20
_MAX_WITH_TASKS = 20
"""How many runs are read with their tasks at once, where lists of KFP contain them only on request."""
_ENDED_BADLY = frozenset({RunState.FAILED, RunState.CANCELED})
_UNCLEAR = (errors.KfpError, errors.KfpUnavailableError)
"""Failures of a change after which the run is checked: it may have been changed already."""
_NO_NAME = (
    errors.PipelineNotFoundError,
    errors.VersionNotFoundError,
    errors.ExperimentNotFoundError,
    errors.KfpRejectedCredentialsError,
    errors.PermissionDeniedError,
    *_UNCLEAR,
    errors.KfpTimeoutError,
)
"""A name is left empty if the resource was deleted, or the caller may not see it, or it cannot be read."""


class Runs:
    """The runs of KFP; `create` starts one. Safe to use from many threads."""

    def __init__(
        self,
        rest: Rest,
        reader: RunReader,
        *,
        logs: RunLogs,
        pipelines: Pipelines,
        experiments: Experiments,
    ) -> None:
        self._rest = rest
        self._reader = reader
        self._logs = logs
        self._pipelines = pipelines
        self._experiments = experiments
        self.create = RunCreator(rest, reader, pipelines, experiments).create

    def get(self, run_id: str, view: View, call: Call) -> Run:
        """Gets a run; FULL costs up to four further requests, for its tasks and for names."""
        if view is View.BASIC:
            return self._reader.get(run_id, call).record()
        names: dict[str, Callable[[], str]] = {}
        run, nodes = self._reader.read(run_id, call, on_run=lambda record: names.update(self._names(record, call)))
        record = self._reader.with_nodes(run, nodes)
        record = replace(record, tasks=self._with_log_tails(record, nodes, call))
        return replace(record, **{field: name() for field, name in names.items()})  # type: ignore[arg-type] # all are texts

    def _names(self, run: RunJson, call: Call) -> dict[str, Callable[[], str]]:
        """Starts looking up the names of a run's pipeline, version and experiment, by the fields of a run."""
        pipelines, (pipeline_id, version_id) = self._pipelines, run.origin
        lookups: dict[str, tuple[str, Callable[[Call], str]]] = {
            "pipeline_name": (
                pipeline_id,
                lambda part: pipelines.get(PipelineRef(pipeline_id), View.BASIC, part).name,
            ),
            "pipeline_version_name": (
                pipeline_id and version_id,
                lambda part: pipelines.versions.find(pipeline_id, VersionRef(version_id), part).record().name,
            ),
            "experiment_name": (
                run.experiment_id,
                lambda part: self._experiments.get(ExperimentRef(run.experiment_id), part).name,
            ),
        }
        return {
            field: partial(_name, self._reader.start(lookup, call))
            for field, (known_id, lookup) in lookups.items()
            if known_id
        }

    def _with_log_tails(self, run: Run, nodes: RunNodes, call: Call) -> tuple[RunTask, ...]:
        failed = [task.task_id for task in run.tasks if task.state is RunState.FAILED and nodes.pods(task.task_id)]
        pods = {task_id: nodes.pods(task_id)[-1] for task_id in failed[:_MAX_LOG_TAILS]}
        if not pods:
            return run.tasks
        tails = self._logs.tails(run.run_id, pods, call)
        return tuple(replace(task, log_tail=tails.get(task.task_id, "")) for task in run.tasks)

    def list(self, filter_: RunFilter, page: PageRequest, call: Call) -> Page[Run]:
        """Lists runs; filters that KFP does not know, or not exactly, are applied to its results."""
        ref = filter_.experiment
        experiment_id = (ref.experiment_id or self.experiment_id(ref, call)) if ref else ""
        result = self._pages(filter_, experiment_id, page, call)
        if ref is not None and not (page.token or result.items or result.next_token):
            self._experiments.get(ref, call)  # KFP may not report that it does not exist
        return result

    def _pages(
        self, filter_: RunFilter, experiment_id: str, page: PageRequest, call: Call, *, is_bounded: bool = True
    ) -> Page[Run]:
        values = {"experiment_id": experiment_id} if experiment_id else {}
        context = Context(resource=experiment_id, values=values)

        return paginate(
            lambda query: self._reader.list(
                query, call, experiment_id=experiment_id, namespace=filter_.namespace, context=context
            ),
            lambda items: (run for run in (item.record() for item in items) if _matches(filter_, run)),
            ListQuery(page.size, page.token, sort_by(page.order, _SORT_KEYS), tuple(_predicates(filter_))),
            is_exact=not _is_inexact(filter_),
            weigh=record_weight if is_bounded else lambda _: 0,
        )

    def terminate(
        self, run_id: str, wait_seconds: float, call: Call, on_run: Callable[[Run], None] = lambda _: None
    ) -> Run:
        """Terminates a run, and waits until it has finished; no-op if it has finished or is stopping.

        `on_run` receives the run as it was before the wait.
        """
        run = self._changed(
            run_id,
            Operation.TERMINATE_RUN,
            lambda run: run.effective_state.is_over or run.effective_state is RunState.CANCELING,
            call,
        )
        on_run(run.record())
        run = self._wait_finished(run, wait_seconds, call)
        if run.effective_state is RunState.FAILED:  # its history may not show that it was terminated
            return replace(self._reader.with_nodes(*self._reader.read(run_id, call, for_logs=True)), tasks=())
        return run.record()

    def _wait_finished(self, run: OneRunJson, wait_seconds: float, call: Call) -> OneRunJson:
        end = time.monotonic() + min(wait_seconds, call.remaining() - _MARGIN_SECONDS)
        pause = _FIRST_PAUSE_SECONDS
        while not run.effective_state.is_over and (seconds := end - time.monotonic()) > 0:
            call.pause(min(pause, seconds))
            with suppress(errors.KfpUnavailableError):  # KFP may recover while there is time
                run = self._reader.get(run.run_id, call)
            pause = min(pause * _PAUSE_FACTOR, _MAX_PAUSE_SECONDS)
        return run

    def retry(self, run_id: str, call: Call) -> Run:
        active = {RunState.PENDING.value, RunState.RUNNING.value}
        unclear = (errors.KfpUnavailableError,)
        try:
            result = self._changed(run_id, Operation.RETRY_RUN, lambda run: run.state in active, call, unclear=unclear)
        except errors.RunNotRetryableError as error:
            result = self._reader.get(run_id, call)
            if result.state == RunState.FAILED.value:
                raise
            raise errors.RunNotRetryableError(
                f"run {run_id} is {result.state}; only a failed run can be retried. Start a new run",
                metadata={"run_id": run_id, "state": result.state},
                resource_name=run_id,
            ) from error
        return result.record()

    def archive(self, run_id: str, call: Call) -> Run:
        return self._store(run_id, Operation.ARCHIVE_RUN, StorageState.ARCHIVED, call)

    def unarchive(self, run_id: str, call: Call) -> Run:
        return self._store(run_id, Operation.UNARCHIVE_RUN, StorageState.AVAILABLE, call)

    def _store(self, run_id: str, operation: Operation, expected: StorageState, call: Call) -> Run:
        return self._changed(run_id, operation, lambda run: run.storage_state == expected.value, call).record()

    def _changed(
        self,
        run_id: str,
        operation: Operation,
        is_changed: Callable[[RunJson], bool],
        call: Call,
        *,
        unclear: tuple[type[errors.AdapterError], ...] = _UNCLEAR,
    ) -> OneRunJson:
        return ensure_changed(
            lambda: self._rest.act(operation, run_path(run_id), call, Context.by_id("run_id", run_id)),
            lambda: self._reader.get(run_id, call),
            is_changed,
            unclear,
        )

    def delete(self, run_id: str, call: Call, *, allow_missing: bool) -> bool:
        path, context = run_path(run_id), Context.by_id("run_id", run_id)
        return ensure_deleted(
            lambda: self._rest.delete(Operation.DELETE_RUN, path, call, context),
            lambda: self._reader.get(run_id, call),
            errors.RunNotFoundError,
            allow_missing=allow_missing,
        )

    # --- for watches --------------------------------------------------------------------------------------------
    # A list of runs has everything of each run. So watches list only runs whose state differs from the known one, or a
    # single one of many runs that are counted.

    def experiment_id(self, ref: ExperimentRef, call: Call) -> str:
        return self._experiments.get(ref, call).experiment_id

    def list_newest(self, filter_: RunFilter, limit: int, call: Call) -> Sequence[Run]:
        """Lists the newest runs that match; its experiment must be named by id."""
        experiment_id = filter_.experiment.experiment_id if filter_.experiment else ""
        return self._pages(filter_, experiment_id, PageRequest(limit), call, is_bounded=False).items

    def read(self, run_ids: Sequence[str], namespace: str, call: Call) -> tuple[Sequence[Run], Sequence[str]]:
        """Reads runs, and the ids of those of which a pod has been pending for a while; missing runs are omitted."""
        runs = self._all(run_ids, (), namespace, call, with_tasks=len(run_ids) <= _MAX_WITH_TASKS)
        return [run.record() for run in runs], [run.run_id for run in runs if run.is_waiting]

    def in_other_state(self, run_ids: Sequence[str], state: RunState, namespace: str, call: Call) -> Sequence[Run]:
        """Reads those of the runs that are in another state; KFP may report a canceled run as FAILED."""
        same = [RunState.CANCELED, RunState.FAILED] if state is RunState.CANCELED else [state]
        other = [{**equals("state", known.value), "operation": "NOT_EQUALS"} for known in same]
        return [run.record() for run in self._all(run_ids, other, namespace, call)]

    def count(self, run_ids: Sequence[str], namespace: str, call: Call, *, archived: bool) -> int:
        storage = storage_filter(archived=archived)
        query = ListQuery(1, predicates=(_id_in(run_ids), storage))
        total = self._reader.list(query, call, namespace=namespace).total_size
        return total if total >= 0 else len(self._all(run_ids, (storage,), namespace, call))

    def get_complete(self, run_id: str, call: Call) -> Run:
        return self._reader.with_nodes(*self._reader.read(run_id, call, is_needed=True))

    def get_with_nodes(self, run_id: str, call: Call) -> tuple[Run, RunNodes]:
        """Reads one run as `get_complete` does, and its nodes. Fails if KFP shows the run, but not its tasks."""
        run, nodes = self._reader.read(run_id, call)
        if nodes.refused is not None:
            raise nodes.refused
        return self._reader.with_nodes(run, nodes), nodes

    def _all(
        self,
        run_ids: Sequence[str],
        predicates: Sequence[Predicate],
        namespace: str,
        call: Call,
        *,
        with_tasks: bool = False,
    ) -> Sequence[RunJson]:
        """Reads all matching runs; recursively in halves if they are too large together."""
        token = ""
        runs: list[RunJson] = []
        try:
            while True:
                query = ListQuery(len(run_ids), token, predicates=(_id_in(run_ids), *predicates))
                page = self._reader.list(query, call, namespace=namespace, with_tasks=with_tasks)
                runs += page.items
                token = page.next_page_token
                if not token:
                    return runs
        except ResponseTooLargeError:
            if len(run_ids) == 1:
                raise
        half = len(run_ids) // 2
        halves = (run_ids[:half], run_ids[half:])
        return [run for ids in halves for run in self._all(ids, predicates, namespace, call, with_tasks=with_tasks)]


def _name(lookup: Callable[[], str]) -> str:
    with suppress(*_NO_NAME):
        return lookup()
    return ""


# --- filters --------------------------------------------------------------------------------------------------


def _id_in(run_ids: Sequence[str]) -> Predicate:
    return {"operation": "IN", "key": "run_id", "string_values": {"values": list(run_ids)}}


def _predicates(filter_: RunFilter) -> list[Predicate]:
    """The predicates of a filter that KFP evaluates; the result may contain more than matches."""
    predicates = [storage_filter(archived=filter_.archived)]
    if filter_.states:
        states = sorted(state.value for state in _states(filter_))
        predicates.append({"operation": "IN", "key": "state", "string_values": {"values": states}})
    moments = {"created_at": filter_.created_after, "finished_at": filter_.finished_after}
    predicates += [after(key, at) for key, at in moments.items() if at is not None]
    if filter_.recurring_run_id:  # KFP ignores it as a query parameter
        predicates.append(equals("recurring_run_id", filter_.recurring_run_id))
    if filter_.display_name_contains:
        predicates.append(contains("display_name", filter_.display_name_contains))
    return predicates + [contains("description", text) for text in _label_texts(filter_)]


def _matches(filter_: RunFilter, run: Run) -> bool:
    return (
        (not filter_.states or run.state in filter_.states)
        and filter_.display_name_contains in run.display_name
        and filter_.labels.items() <= run.labels.items()
        and filter_.label_keys <= run.labels.keys()
        and filter_.pipeline_id.lower() in {"", run.pipeline_id.lower()}
        and filter_.pipeline_version_id.lower() in {"", run.pipeline_version_id.lower()}
    )


def _is_inexact(filter_: RunFilter) -> bool:
    """Whether KFP's total counts runs that do not match."""
    inexact = (
        filter_.display_name_contains,
        filter_.labels,
        filter_.label_keys,
        filter_.pipeline_id,
        filter_.pipeline_version_id,
        filter_.states and filter_.states != _states(filter_),
    )
    return any(inexact)


def _states(filter_: RunFilter) -> frozenset[RunState]:
    """KFP ends runs that were terminated as FAILED; their history shows which."""
    return filter_.states | _ENDED_BADLY if filter_.states & _ENDED_BADLY else filter_.states


def _label_texts(filter_: RunFilter) -> list[str]:
    """A substring of the description of every run with the labels. KFP's LIKE treats backslashes as its own escapes."""
    texts = [label_text(key, value) for key, value in sorted(filter_.labels.items())]
    texts += map(label_key_text, sorted(filter_.label_keys))
    return [text for text in texts if "\\" not in text] or ([LINE_START] if texts else [])
