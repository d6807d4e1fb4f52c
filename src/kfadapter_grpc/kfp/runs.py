"""Runs in KFP."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.labels import LINE_START, label_key_text, label_text
from kfadapter_grpc.contract.listing import PageRequest, StorageState, View
from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.contract.values import json_text
from kfadapter_grpc.kfp.error_table import Context
from kfadapter_grpc.kfp.experiments import stored
from kfadapter_grpc.kfp.failures import Operation
from kfadapter_grpc.kfp.rest import KfpPage, ListQuery, collect_page, contains, equals, later, sort_by
from kfadapter_grpc.kfp.run_creation import RunCreator
from kfadapter_grpc.kfp.run_reader import run_path
from kfadapter_grpc.kfp.transport import ResponseTooLargeError
from kfadapter_grpc.kfp.writes import ensure_changed, ensure_deleted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.listing import Page
    from kfadapter_grpc.contract.runs import Run, RunFilter, RunTask
    from kfadapter_grpc.kfp.experiments import Experiments
    from kfadapter_grpc.kfp.logs import RunLogs
    from kfadapter_grpc.kfp.pipelines import Pipelines
    from kfadapter_grpc.kfp.rest import Predicate, Rest
    from kfadapter_grpc.kfp.run_json import OneRunJson, RunJson
    from kfadapter_grpc.kfp.run_nodes import RunNodes
    from kfadapter_grpc.kfp.run_reader import RunReader

_SORT_KEYS = {"created_at": "created_at", "finished_at": "finished_at", "display_name": "name", "run_id": "id"}
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_PAUSE_FACTOR = 1.5
_MARGIN_SECONDS = 0.5
"""The part of a call's time that is reserved for its last poll and the response."""
_MOST_LOG_TAILS = 20
_MOST_WITH_TASKS = 20
"""How many runs are read with their tasks at once, where lists of KFP contain them only on request."""
_ENDED_BADLY = frozenset({RunState.FAILED, RunState.CANCELED})
_UNCLEAR = (errors.KfpError, errors.KfpUnavailableError)
"""Failures of a change after which the run is checked: it may have been changed already."""
_NAMELESS = (
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
        found, nodes = self._reader.read(run_id, call, seen=lambda run: names.update(self._names(run, call)))
        run = self._reader.whole(found, nodes)
        run = replace(run, tasks=self._with_log_tails(run, nodes, call))
        return replace(run, **{field: name() for field, name in names.items()})  # type: ignore[arg-type] # all are texts

    def _names(self, found: RunJson, call: Call) -> dict[str, Callable[[], str]]:
        """Starts looking up the names of a run's pipeline, version and experiment, by the fields of a run."""
        pipelines, (pipeline_id, version_id) = self._pipelines, found.origin
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
                found.experiment_id,
                lambda part: self._experiments.get(ExperimentRef(found.experiment_id), part).name,
            ),
        }
        return {
            field: partial(_name, self._reader.ahead(look, call))
            for field, (known_id, look) in lookups.items()
            if known_id
        }

    def _with_log_tails(self, run: Run, nodes: RunNodes, call: Call) -> tuple[RunTask, ...]:
        """Adds their last log lines to failed tasks, up to a number of tasks."""
        failed = [task.task_id for task in run.tasks if task.state is RunState.FAILED and nodes.pods(task.task_id)]
        pods = {task_id: nodes.pods(task_id)[-1] for task_id in failed[:_MOST_LOG_TAILS]}
        if not pods:
            return run.tasks
        tails = self._logs.tails(run.run_id, pods, call)
        return tuple(replace(task, log_tail=tails.get(task.task_id, "")) for task in run.tasks)

    def list(self, where: RunFilter, page: PageRequest, call: Call) -> Page[Run]:
        """Lists runs; filters that KFP does not know, or not exactly, are applied to its results."""
        ref = where.experiment
        experiment_id = (ref.experiment_id or self.experiment_id(ref, call)) if ref else ""
        found = self._pages(where, experiment_id, page, _weight, call)
        if ref is not None and not (page.token or found.items or found.next_token):
            self._experiments.get(ref, call)  # KFP may not report that it does not exist
        return replace(found, total_size=None) if _is_inexact(where) else found

    def _pages(
        self, where: RunFilter, experiment_id: str, page: PageRequest, weight: Callable[[Run], int], call: Call
    ) -> Page[Run]:
        predicates = tuple(_predicates_of(where))
        values = {"experiment_id": experiment_id} if experiment_id else {}
        context = Context(resource=experiment_id, values=values)

        def fetch(size: int, token: str) -> KfpPage[Run]:
            query = ListQuery(size, token, sort_by(page.order, _SORT_KEYS), predicates)
            found = self._reader.list(
                query, call, experiment_id=experiment_id, namespace=where.namespace, context=context
            )
            matching = [run for run in (item.record() for item in found.runs) if _matches(where, run)]
            return KfpPage(matching, found.next_page_token, found.total_size)

        return collect_page(fetch, weight, page.size, page.token)

    def terminate(
        self, run_id: str, wait_seconds: float, call: Call, seen: Callable[[Run], None] = lambda _: None
    ) -> Run:
        """Terminates a run, and waits until it has finished; no-op if it has finished or is stopping.

        `seen` receives the run as it was before the wait.
        """
        found = self._changed(run_id, Operation.TERMINATE_RUN, _is_ending, call)
        seen(found.record())
        found = self._finished(found, wait_seconds, call)
        if found.effective_state is RunState.FAILED:  # its history may not show that it was terminated
            return replace(self._reader.whole(*self._reader.read(run_id, call, for_logs=True)), tasks=())
        return found.record()

    def _finished(self, found: OneRunJson, wait_seconds: float, call: Call) -> OneRunJson:
        end = time.monotonic() + min(wait_seconds, call.remaining() - _MARGIN_SECONDS)
        pause = _FIRST_PAUSE_SECONDS
        while not found.effective_state.is_over and (left := end - time.monotonic()) > 0:
            if call.cancelled_within(min(pause, left)):
                raise errors.CallCancelledError("the client cancelled the call")
            with suppress(errors.KfpUnavailableError):  # KFP may recover while there is time
                found = self._reader.get(found.run_id, call)
            pause = min(pause * _PAUSE_FACTOR, _LONGEST_PAUSE_SECONDS)
        return found

    def retry(self, run_id: str, call: Call) -> Run:
        going = {RunState.PENDING.value, RunState.RUNNING.value}
        unclear = (errors.KfpUnavailableError,)
        try:
            found = self._changed(run_id, Operation.RETRY_RUN, lambda run: run.state in going, call, unclear=unclear)
        except errors.RunNotRetryableError as error:
            found = self._reader.get(run_id, call)
            if found.state == RunState.FAILED.value:
                raise
            raise errors.RunNotRetryableError(
                f"run {run_id} is {found.state}; only a failed run can be retried. Start a new run",
                metadata={"run_id": run_id, "state": found.state},
                resource_name=run_id,
            ) from error
        return found.record()

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

    def made(self, where: RunFilter, limit: int, call: Call) -> Sequence[Run]:
        """Lists the newest runs that match; its experiment must be named by id."""
        experiment_id = where.experiment.experiment_id if where.experiment else ""
        return self._pages(where, experiment_id, PageRequest(limit), lambda _: 0, call).items

    def read(self, run_ids: Sequence[str], namespace: str, call: Call) -> tuple[Sequence[Run], Sequence[str]]:
        """Reads runs, and the ids of those of which a pod has been pending for a while; missing runs are omitted."""
        found = self._all(run_ids, (), namespace, call, with_tasks=len(run_ids) <= _MOST_WITH_TASKS)
        return [run.record() for run in found], [run.run_id for run in found if run.is_waiting]

    def in_other_state(self, run_ids: Sequence[str], state: RunState, namespace: str, call: Call) -> Sequence[Run]:
        """Reads those of the runs that are in another state; KFP may report a canceled run as FAILED."""
        same = [RunState.CANCELED, RunState.FAILED] if state is RunState.CANCELED else [state]
        other = [{**equals("state", one.value), "operation": "NOT_EQUALS"} for one in same]
        return [run.record() for run in self._all(run_ids, other, namespace, call)]

    def count(self, run_ids: Sequence[str], namespace: str, call: Call, *, archived: bool) -> int:
        where = stored(archived=archived)
        query = ListQuery(1, predicates=(_one_of(run_ids), where))
        total = self._reader.list(query, call, namespace=namespace).total_size
        return total if total >= 0 else len(self._all(run_ids, (where,), namespace, call))

    def get_complete(self, run_id: str, call: Call) -> Run:
        return self._reader.whole(*self._reader.read(run_id, call, is_needed=True))

    def get_with_nodes(self, run_id: str, call: Call) -> tuple[Run, RunNodes]:
        """Reads one run as `get_complete` does, and its nodes. Fails if KFP shows the run, but not its tasks."""
        found, nodes = self._reader.read(run_id, call)
        if nodes.refused is not None:
            raise nodes.refused
        return self._reader.whole(found, nodes), nodes

    def _all(
        self,
        run_ids: Sequence[str],
        others: Sequence[Predicate],
        namespace: str,
        call: Call,
        *,
        with_tasks: bool = False,
    ) -> Sequence[RunJson]:
        """Reads all matching runs; recursively in halves if they are too large together."""
        token = ""
        found: list[RunJson] = []
        try:
            while True:
                query = ListQuery(len(run_ids), token, predicates=(_one_of(run_ids), *others))
                page = self._reader.list(query, call, namespace=namespace, with_tasks=with_tasks)
                found += page.runs
                token = page.next_page_token
                if not token:
                    return found
        except ResponseTooLargeError:
            if len(run_ids) == 1:
                raise
        half = len(run_ids) // 2
        halves = (run_ids[:half], run_ids[half:])
        return [run for ids in halves for run in self._all(ids, others, namespace, call, with_tasks=with_tasks)]


def _is_ending(run: RunJson) -> bool:
    return run.effective_state.is_over or run.effective_state is RunState.CANCELING


def _name(look: Callable[[], str]) -> str:
    with suppress(*_NAMELESS):
        return look()
    return ""


# --- filters --------------------------------------------------------------------------------------------------


def _one_of(run_ids: Sequence[str]) -> Predicate:
    return {"operation": "IN", "key": "run_id", "string_values": {"values": list(run_ids)}}


def _predicates_of(where: RunFilter) -> list[Predicate]:
    """The predicates of a filter that KFP evaluates; the result may contain more than matches."""
    predicates = [stored(archived=where.archived)]
    if where.states:
        states = sorted(state.value for state in _states(where))
        predicates.append({"operation": "IN", "key": "state", "string_values": {"values": states}})
    moments = {"created_at": where.created_after, "finished_at": where.finished_after}
    predicates += [later(key, at) for key, at in moments.items() if at is not None]
    if where.recurring_run_id:  # KFP ignores it as a query parameter
        predicates.append(equals("recurring_run_id", where.recurring_run_id))
    if where.display_name_contains:
        predicates.append(contains("display_name", where.display_name_contains))
    return predicates + [contains("description", text) for text in _label_texts(where)]


def _matches(where: RunFilter, run: Run) -> bool:
    return (
        (not where.states or run.state in where.states)
        and where.display_name_contains in run.display_name
        and where.labels.items() <= run.labels.items()
        and where.label_keys <= run.labels.keys()
        and where.pipeline_id.lower() in {"", run.pipeline_id.lower()}
        and where.pipeline_version_id.lower() in {"", run.pipeline_version_id.lower()}
    )


def _is_inexact(where: RunFilter) -> bool:
    """Whether KFP's total counts runs that do not match."""
    inexact = (
        where.display_name_contains,
        where.labels,
        where.label_keys,
        where.pipeline_id,
        where.pipeline_version_id,
        where.states and where.states != _states(where),
    )
    return any(inexact)


def _states(where: RunFilter) -> frozenset[RunState]:
    """KFP ends runs that were terminated as FAILED; their history shows which."""
    return where.states | _ENDED_BADLY if where.states & _ENDED_BADLY else where.states


def _label_texts(where: RunFilter) -> list[str]:
    """A substring of the description of every run with the labels. KFP's LIKE treats backslashes as its own escapes."""
    texts = [label_text(key, value) for key, value in sorted(where.labels.items())]
    texts += map(label_key_text, sorted(where.label_keys))
    return [text for text in texts if "\\" not in text] or ([LINE_START] if texts else [])


def _weight(item: Run) -> int:
    texts = (item.description, item.display_name, item.error, item.service_account, *item.warnings)
    history = sum(80 + 4 * len(one.error) for one in item.state_history)
    return 500 + 4 * sum(map(len, texts)) + 4 * len(json_text([item.parameters, item.labels])) + history
