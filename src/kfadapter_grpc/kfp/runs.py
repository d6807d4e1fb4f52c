"""Runs, kept by KFP."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import timezone
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.labels import LINE_START, label_key_text, label_text
from kfadapter_grpc.contract.listing import Page, StorageState, View
from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
from kfadapter_grpc.contract.runs import Run, RunState
from kfadapter_grpc.contract.values import json_text
from kfadapter_grpc.kfp.error_table import Context
from kfadapter_grpc.kfp.rest import KfpPage, ListQuery, explained, gather
from kfadapter_grpc.kfp.run_creation import RunCreator
from kfadapter_grpc.kfp.run_reader import context_of
from kfadapter_grpc.kfp.transport import NotSentError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.listing import Order, PageRequest
    from kfadapter_grpc.contract.repository import ExperimentRepository
    from kfadapter_grpc.contract.runs import CreateRunRequest, RunFilter, RunTask
    from kfadapter_grpc.kfp.api import RunApi
    from kfadapter_grpc.kfp.logs import KfpRunLogs
    from kfadapter_grpc.kfp.pipelines import Pipelines
    from kfadapter_grpc.kfp.rest import Predicate
    from kfadapter_grpc.kfp.run_nodes import RunNodes
    from kfadapter_grpc.kfp.run_reader import RunReader
    from kfadapter_grpc.kfp.wire.runs import RunJson

_SORT_KEYS = {"created_at": "created_at", "finished_at": "finished_at", "display_name": "name", "run_id": "id"}
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_PAUSE_FACTOR = 1.5
_MARGIN_SECONDS = 0.5
"""What is left of a call's time for its last look and the answer."""
_ENDED_BADLY = frozenset({RunState.FAILED, RunState.CANCELED})
_MOST_LOG_TAILS = 20
_WITHOUT_NAME = (
    errors.PipelineNotFoundError,
    errors.VersionNotFoundError,
    errors.ExperimentNotFoundError,
    errors.KfpRejectedCredentialsError,
    errors.PermissionDeniedError,
)
"""Where a name is left empty: what it names is gone, or is somebody else's."""


class KfpRunRepository:
    """The `RunRepository` before KFP. Safe to use from many threads."""

    def __init__(
        self,
        api: RunApi,
        reader: RunReader,
        logs: KfpRunLogs,
        *,
        pipelines: Pipelines,
        experiments: ExperimentRepository,
    ) -> None:
        self._api = api
        self._reader = reader
        self._logs = logs
        self._pipelines = pipelines
        self._experiments = experiments
        self._creator = RunCreator(api, pipelines, experiments)

    def create(self, request: CreateRunRequest, call: Call) -> Run:
        """Starts a run, once for each request id."""
        return self._creator.create(request, call)

    def get(self, run_id: str, view: View, call: Call) -> Run:
        """Gets one run; FULL costs up to four further calls, for its tasks and for names."""
        found = self._reader.get(run_id, call)
        if view is View.BASIC:
            return self._reader.basic(found)
        nodes = self._reader.nodes(found, call)
        run = self._reader.whole(found, nodes)
        return replace(
            run,
            tasks=self._with_log_tails(run, nodes, call),
            pipeline_name=self._name_of(lambda: self._pipeline_name(run, call)),
            pipeline_version_name=self._name_of(lambda: self._version_name(run, call)),
            experiment_name=self._name_of(lambda: self._experiment_name(run, call)),
        )

    def list(self, where: RunFilter, page: PageRequest, call: Call) -> Page[Run]:
        """Lists runs; the filters that KFP does not know, or not exactly, are applied to what it answers."""
        experiment_id = self._experiment_id(where, call)
        asked = tuple(predicates(where))
        values = {"experiment_id": experiment_id} if experiment_id else {}
        context = Context(resource=experiment_id, values=values)

        def fetch(size: int, token: str) -> KfpPage[Run]:
            query = ListQuery(size, token, _sort(page.order), asked)
            with explained(context):
                found = self._api.list(query, experiment_id, where.namespace, call)
            matching = [run for run in map(self._reader.basic, found.runs) if matches(where, run)]
            return KfpPage(matching, found.next_page_token, found.total_size)

        result = gather(fetch, _weight, page.size, page.token)
        if where.experiment is not None and not (page.token or result.items or result.next_token):
            self._experiments.get(where.experiment, call)  # KFP may not say that it is not there
        return replace(result, total_size=None) if _is_inexact(where) else result

    def terminate(
        self, run_id: str, wait_seconds: float, call: Call, seen: Callable[[Run], None] = lambda _: None
    ) -> Run:
        """Stops a run, and waits for its end; one that is over or stopping is left as it is."""
        try:
            with explained(context_of(run_id)):
                self._api.terminate(run_id, call)
        except NotSentError:
            raise
        except (errors.KfpError, errors.KfpUnavailableError):
            found = self._reader.get(run_id, call)
            if not _is_ending(found):
                raise
        else:
            found = self._reader.get(run_id, call)
        seen(self._reader.basic(found))
        found = self._until_over(found, wait_seconds, call)
        if found.known_state is RunState.FAILED:  # its history may not tell that it was terminated
            return replace(self._reader.whole(found, self._reader.nodes(found, call)), tasks=())
        return self._reader.basic(found)

    def retry(self, run_id: str, call: Call) -> Run:
        """Runs a failed run again, from the tasks that failed."""
        try:
            with explained(context_of(run_id)):
                self._api.retry(run_id, call)
        except NotSentError:
            raise
        except errors.RunNotRetryableError as error:
            found = self._reader.get(run_id, call)
            if found.state != RunState.FAILED.value:
                raise _not_failed(found) from error
            raise
        except errors.KfpUnavailableError:
            found = self._reader.get(run_id, call)
            if found.state not in {RunState.PENDING.value, RunState.RUNNING.value}:
                raise
            return self._reader.basic(found)
        return self._reader.basic(self._reader.get(run_id, call))

    def archive(self, run_id: str, call: Call) -> Run:
        """Puts a run away."""
        return self._store(run_id, StorageState.ARCHIVED, self._api.archive, call)

    def unarchive(self, run_id: str, call: Call) -> Run:
        """Takes a run back."""
        return self._store(run_id, StorageState.AVAILABLE, self._api.unarchive, call)

    def delete(self, run_id: str, call: Call, *, allow_missing: bool) -> bool:
        """Deletes a run; after a broken answer, looks whether it is gone."""
        try:
            self._delete(run_id, call)
        except errors.RunNotFoundError:
            if allow_missing:
                return False
            raise
        return True

    def _delete(self, run_id: str, call: Call) -> None:
        try:
            with explained(context_of(run_id)):
                self._api.delete(run_id, call)
        except NotSentError:
            raise
        except errors.KfpUnavailableError:
            try:
                self._reader.get(run_id, call)
            except errors.RunNotFoundError:
                return
            raise

    def _store(self, run_id: str, wanted: StorageState, change: Callable[[str, Call], None], call: Call) -> Run:
        """Puts away or takes back; after a failure, looks whether it is done."""
        try:
            with explained(context_of(run_id)):
                change(run_id, call)
        except NotSentError:
            raise
        except (errors.KfpError, errors.KfpUnavailableError):
            found = self._reader.basic(self._reader.get(run_id, call))
            if found.storage_state is not wanted:
                raise
            return found
        return self._reader.basic(self._reader.get(run_id, call))

    def _until_over(self, found: RunJson, wait_seconds: float, call: Call) -> RunJson:
        """Asks now and then until a run is over, or there is no more time for it."""
        end = time.monotonic() + min(wait_seconds, call.remaining() - _MARGIN_SECONDS)
        pause = _FIRST_PAUSE_SECONDS
        while not found.known_state.is_over and (left := end - time.monotonic()) > 0:
            if call.cancelled_within(min(pause, left)):
                raise errors.CallCancelledError("the caller went away")
            with suppress(errors.KfpUnavailableError):  # it may come back while there is time
                found = self._reader.get(found.run_id, call)
            pause = min(pause * _PAUSE_FACTOR, _LONGEST_PAUSE_SECONDS)
        return found

    def _with_log_tails(self, run: Run, nodes: RunNodes, call: Call) -> tuple[RunTask, ...]:
        """Adds to failed tasks, up to a number of them, the last lines that they wrote."""
        failed = [task.task_id for task in run.tasks if task.state is RunState.FAILED and nodes.pods(task.task_id)]
        pods = {task_id: nodes.pods(task_id)[-1] for task_id in failed[:_MOST_LOG_TAILS]}
        if not pods:
            return run.tasks
        tails = self._logs.tails(run.run_id, pods, call)
        return tuple(replace(task, log_tail=tails.get(task.task_id, "")) for task in run.tasks)

    # --- names --------------------------------------------------------------------------------------------------

    def _name_of(self, look: Callable[[], str]) -> str:
        try:
            return look()
        except _WITHOUT_NAME:
            return ""

    def _pipeline_name(self, run: Run, call: Call) -> str:
        ref = PipelineRef(pipeline_id=run.pipeline_id)
        return self._pipelines.get(ref, View.BASIC, call).name if run.pipeline_id else ""

    def _version_name(self, run: Run, call: Call) -> str:
        if not (run.pipeline_id and run.pipeline_version_id):
            return ""
        ref = VersionRef(run.pipeline_version_id)
        return self._pipelines.versions.find(run.pipeline_id, ref, call).record().name

    def _experiment_name(self, run: Run, call: Call) -> str:
        return self._experiments.get(ExperimentRef(run.experiment_id), call).name if run.experiment_id else ""

    def _experiment_id(self, where: RunFilter, call: Call) -> str:
        if where.experiment is None:
            return ""
        return where.experiment.experiment_id or self._experiments.get(where.experiment, call).experiment_id


def _is_ending(run: RunJson) -> bool:
    return run.known_state.is_over or run.known_state is RunState.CANCELING


def _not_failed(run: RunJson) -> errors.RunNotRetryableError:
    return errors.RunNotRetryableError(
        f"run {run.run_id} is {run.state}; only a failed run can be retried. Start a new run",
        metadata={"run_id": run.run_id, "state": run.state},
        resource_name=run.run_id,
    )


def _sort(order: Order) -> str:
    return _SORT_KEYS[order.field] + (" desc" if order.descending else " asc")


def _is_inexact(where: RunFilter) -> bool:
    """Whether KFP's total counts runs that do not match."""
    inexact = (
        where.display_name_contains,
        where.labels,
        where.label_keys,
        where.pipeline_id,
        where.pipeline_version_id,
        where.states and where.states != _asked_states(where),
    )
    return any(inexact)


def matches(where: RunFilter, run: Run) -> bool:
    """Compares exactly what KFP compares loosely or not at all."""
    return (
        (not where.states or run.state in where.states)
        and where.display_name_contains in run.display_name
        and where.labels.items() <= run.labels.items()
        and where.label_keys <= run.labels.keys()
        and where.pipeline_id.lower() in {"", run.pipeline_id.lower()}
        and where.pipeline_version_id.lower() in {"", run.pipeline_version_id.lower()}
    )


def predicates(where: RunFilter) -> list[Predicate]:
    """What KFP is asked for a filter; it may find more than matches."""
    operation = "EQUALS" if where.archived else "NOT_EQUALS"
    asked: list[Predicate] = [
        {"operation": operation, "key": "storage_state", "string_value": StorageState.ARCHIVED.value}
    ]
    if where.states:
        states = sorted(state.value for state in _asked_states(where))
        asked.append({"operation": "IN", "key": "state", "string_values": {"values": states}})
    asked += [_after(key, at) for key, at in _moments(where).items() if at is not None]
    if where.recurring_run_id:  # as a query parameter KFP ignores it
        asked.append({"operation": "EQUALS", "key": "recurring_run_id", "string_value": where.recurring_run_id})
    if where.display_name_contains:
        asked.append(_holds("display_name", where.display_name_contains))
    return asked + [_holds("description", text) for text in _label_texts(where)]


def _asked_states(where: RunFilter) -> frozenset[RunState]:
    """KFP ends runs that were terminated as FAILED; their history tells them apart."""
    return where.states | _ENDED_BADLY if where.states & _ENDED_BADLY else where.states


def _moments(where: RunFilter) -> dict[str, datetime | None]:
    return {"created_at": where.created_after, "finished_at": where.finished_after}


def _after(key: str, at: datetime) -> Predicate:
    moment = at.astimezone(timezone.utc).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    return {"operation": "GREATER_THAN", "key": key, "timestamp_value": moment}


def _holds(key: str, text: str) -> Predicate:
    return {"operation": "IS_SUBSTRING", "key": key, "string_value": text}


def _label_texts(where: RunFilter) -> list[str]:
    """What stands in the description of every run that has the labels. KFP's LIKE takes backslashes for its own."""
    texts = [label_text(key, value) for key, value in sorted(where.labels.items())]
    texts += map(label_key_text, sorted(where.label_keys))
    return [text for text in texts if "\\" not in text] or ([LINE_START] if texts else [])


def _weight(item: Run) -> int:
    texts = (item.description, item.display_name, item.error, item.service_account, *item.warnings)
    history = sum(80 + 4 * len(one.error) for one in item.state_history)
    return 500 + 4 * sum(map(len, texts)) + 4 * len(json_text([item.parameters, item.labels])) + history
