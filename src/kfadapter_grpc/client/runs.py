"""Runs: starting, finding, watching and changing them, and reading the logs of their tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from kfadapter_grpc.client.connection import MARGIN_SECONDS, Pages, new_request_id
from kfadapter_grpc.client.metrics import Rows, metrics_table
from kfadapter_grpc.client.resource import Resource
from kfadapter_grpc.client.watch import wait, watch
from kfadapter_grpc.codec import to_page
from kfadapter_grpc.contract.artifacts import MAX_RUNS, ListMetricsRequest, MetricsOfRun
from kfadapter_grpc.contract.errors import InvalidFieldError
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.parameters import check_sendable
from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
from kfadapter_grpc.contract.runs import (
    ArchiveRunRequest,
    CreateRunRequest,
    DeleteRunRequest,
    GetRunRequest,
    ListRunsRequest,
    ReadLogsRequest,
    RetryRunRequest,
    Run,
    RunFilter,
    RunState,
    TerminateRunRequest,
    UnarchiveRunRequest,
    run_id_for,
)
from kfadapter_grpc.contract.spec import Json
from kfadapter_grpc.contract.watches import RunEvent, RunIds, WatchRunsRequest
from kfadapter_grpc.methods import METHOD_OF_REQUEST, WRITE_SECONDS

if TYPE_CHECKING:
    from typing_extensions import Unpack


class RunsWhere(TypedDict, total=False):
    """A filter of runs, with the arguments of `Runs.list`."""

    experiment_name: str
    experiment_id: str
    states: Iterable[RunState]
    created_after: datetime | None
    finished_after: datetime | None
    display_name_contains: str
    labels: Mapping[str, str] | None
    label_keys: Iterable[str]
    pipeline_id: str
    pipeline_version_id: str
    recurring_run_id: str
    archived: bool


class Runs(Resource):
    """The calls of RunService (docs/reference/api/run.md).

    Those for one run raise RunNotFoundError if it does not exist.
    """

    def create(
        self,
        pipeline_name: str = "",
        *,
        pipeline_id: str = "",
        version_name: str = "",
        pipeline_version_id: str = "",
        experiment_name: str = "",
        experiment_id: str = "",
        create_experiment: bool = False,
        parameters: Mapping[str, Json] | None = None,
        display_name: str = "",
        description: str = "",
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
        validate_only: bool = False,
        caching: bool = True,
        service_account: str = "",
    ) -> Run:
        """Starts a run of a pipeline and its latest version, unless another one is named, in the experiment `Default`.

        Each is identified by its name or its id. The call is retried, at most twice, if the adapter or KFP becomes
        unreachable, with the same `request_id`, the idempotency key. Without `caching`, tasks reuse no results of
        earlier runs. Description and labels have room for 255 bytes of UTF-8 together.

        Raises:
            PipelineNotFoundError, VersionNotFoundError, ExperimentNotFoundError: It does not exist.
            AmbiguousNameError: Several experiments have this name; use an id.
            ParameterMissingError, ParameterUnknownError, ParameterTypeError: The parameters are invalid.
            InvalidFieldError: A value cannot be encoded, such as NaN.
            RequestIdReusedError: This request id was used for another run.
        """
        request = CreateRunRequest(
            pipeline=PipelineRef(pipeline_id, pipeline_name),
            version=VersionRef(pipeline_version_id, version_name),
            experiment=ExperimentRef(experiment_id, experiment_name),
            parameters=check_sendable(parameters or {}),
            display_name=display_name,
            description=description,
            labels=labels or {},
            request_id=request_id or ("" if validate_only else new_request_id()),
            validate_only=validate_only,
            create_experiment=create_experiment,
            caching_enabled=None if caching else False,
            service_account=service_account,
        )
        return self._run(self._with_retries(lambda: self._record(request, Run)))

    def id_for(self, request_id: str, *, namespace: str = "") -> str:
        """Returns the id of the run that `create` starts with a request id, before or after the call.

        If only the adapter has a namespace configured, and this client none, pass that one.
        """
        return run_id_for(request_id, namespace or self._namespace)

    def get(self, run_id: str, *, view: View = View.FULL) -> Run:
        """Gets one run; with `View.FULL` also its tasks, and the names of its pipeline, version and experiment."""
        return self._call(GetRunRequest(run_id, view), Run)

    def list(self, *, order_by: str = "", page_size: int = 0, **where: Unpack[RunsWhere]) -> Pages[Run]:
        """Yields all runs that match all filters, without their tasks, requesting pages as they are needed.

        `display_name_contains` is case-sensitive. A filter by pipeline or version makes the adapter read all runs.
        `order_by` is `created_at`, `finished_at`, `display_name` or `run_id`, with ` desc` for descending order.

        Raises:
            ExperimentNotFoundError: The experiment does not exist.
            AmbiguousNameError: Several experiments have this name; use an id.
        """
        return self._list(ListRunsRequest(self._where(**where), page_size=page_size, order_by=order_by), Run)

    def metrics(
        self,
        *,
        parameters: Iterable[str] = (),
        order_by: str = "",
        limit: int = 0,
        on_warning: Callable[[str], None] | None = None,
        **where: Unpack[RunsWhere],
    ) -> Rows:
        """Returns the scalar metrics of the runs that match as a table, which `pandas.DataFrame` accepts.

        Each run is a row: `run_id`, `display_name`, `state`, `created_at`, the named run parameters, then the metrics;
        None if a run has no such value. A column is named after its metric (`accuracy`) or, if several tasks of the
        table have one of this name, after task and metric (`train/accuracy`), or task, output and metric.

        Args:
            parameters: The run parameters that become columns.
            order_by: As in `list`.
            limit: Maximum number of runs, the first in this order; 0 means all.
            on_warning: Called for each run whose metrics could not be read, with the reason.
            **where: The filter, as in `list`, with its errors.
        """
        size = min(limit, MAX_RUNS)
        request = ListMetricsRequest(self._where(**where), page_size=size, order_by=order_by)
        return self._run(self._metrics(request, limit, tuple(parameters), on_warning))

    async def _metrics(
        self,
        request: ListMetricsRequest,
        limit: int,
        parameters: Sequence[str],
        on_warning: Callable[[str], None] | None,
    ) -> Rows:
        runs: list[MetricsOfRun] = []
        is_more = True
        while is_more:
            page = to_page(await self._response(request), MetricsOfRun)
            runs += page.items
            request = replace(request, page_token=page.next_token)
            is_more = page.next_token != "" and not 0 < limit <= len(runs)
        return metrics_table(runs[: limit or None], parameters, on_warning)

    def _where(self, **where: Unpack[RunsWhere]) -> RunFilter:
        """Returns the filter of a listing, whose other fields are named as the arguments are."""
        fields: dict[str, Any] = dict(where)
        experiment = ExperimentRef(fields.pop("experiment_id", ""), fields.pop("experiment_name", ""))
        for name, make in (("states", frozenset), ("label_keys", frozenset), ("labels", dict)):
            fields[name] = make(fields.get(name) or ())
        return self._with_namespace(RunFilter(experiment, **fields))

    def terminate(self, run_id: str, *, wait: float = 0) -> Run:
        """Terminates a run; no-op if it has finished or is stopping.

        Waits up to `wait` seconds, at most 3600, for it to finish; returns the run at that time, finished or not.
        """
        request = TerminateRunRequest(run_id, timedelta(milliseconds=round(wait * 1000)) if wait else None)
        return self._call(request, Run, WRITE_SECONDS + wait + MARGIN_SECONDS)

    def retry(self, run_id: str) -> Run:
        """Retries a failed run from the failed tasks.

        Raises:
            RunNotRetryableError: It did not fail, or KFP no longer has the data for a retry.
        """
        return self._call(RetryRunRequest(run_id), Run)

    def archive(self, run_id: str) -> Run:
        """Archives a run."""
        return self._call(ArchiveRunRequest(run_id), Run)

    def unarchive(self, run_id: str) -> Run:
        """Unarchives a run."""
        return self._call(UnarchiveRunRequest(run_id), Run)

    def delete(self, run_id: str, *, allow_missing: bool = False) -> bool:
        """Deletes a run; with `allow_missing` it need not exist. Returns whether it existed.

        A run in progress continues in the cluster: terminate it first.
        """
        return self._run(self._deleted(DeleteRunRequest(run_id, allow_missing), "run_id"))

    def watch(
        self,
        run_ids: str | Iterable[str] = (),
        *,
        where: RunFilter | None = None,
        tasks: bool = False,
        known_etags: Mapping[str, str] | None = None,
        on_connection: Callable[[bool], None] | None = None,
    ) -> Generator[RunEvent, None, None]:
        """Yields events of runs: first the current state of each run, then each change.

        It is resumed automatically, without repeating events, when the adapter shuts down or the connection
        breaks; it fails only after 10 attempts in a row without a response. It has no deadline. To end it, close it,
        or leave the loop and drop it.

        Args:
            run_ids: Ids of at most 1000 runs; the watch ends when all have finished or were deleted.
            where: A filter instead, which also matches new runs; the watch does not end by itself.
            tasks: Include tasks; a change of a task then counts as a change of the run.
            known_etags: Known etags by run id: runs that still have them are not sent at first.
            on_connection: Called with False when reconnecting has failed, and with True when the stream continues.

        Raises:
            InvalidFieldError: Neither ids nor a filter were passed, or both, or too many ids.
            ExperimentNotFoundError: The experiment does not exist.
        """
        ids = [run_ids] if isinstance(run_ids, str) else list(run_ids)
        if bool(ids) == (where is not None):
            raise InvalidFieldError.of("what", "give either the ids of runs or a filter, and not both")
        selection = self._with_namespace(RunIds(tuple(ids)) if where is None else where)
        request = WatchRunsRequest(selection, known_etags or {}, tasks)
        return self._each(watch(self._connection, request, on_connection=on_connection))

    def wait(self, run_id: str, *, timeout: float | None = None) -> Run:
        """Waits until a run has finished, for `timeout` seconds at most; returns it without its tasks.

        Raises:
            RunNotFoundError: The run does not exist, or was deleted meanwhile.
            DeadlineError: It did not finish in time; it continues.
        """
        return self._run(wait(self._connection, self._with_namespace(RunIds((run_id,))), timeout))

    def read_logs(
        self,
        run_id: str,
        task: str,
        *,
        follow: bool = False,
        attempt: int = 0,
        iteration_index: int | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> Iterator[bytes]:
        """Yields the log of a task, by its name, id or path, in pieces, which may end anywhere in a line.

        With `follow` until the task has finished, without a deadline. `attempt` counts from 1; the default is the last
        one. `iteration_index` is that of the innermost loop, if the name alone is ambiguous. `on_note` is called at the
        end of an incomplete log, with the reason.

        Raises:
            TaskNotFoundError: The task does not exist in the run, or has not started.
            InvalidFieldError: The attempt does not exist, or several tasks have this name.
            UnsupportedByKfpError: The log is not available; the message has the reason and where to find it.
        """
        return self._each(self._log(ReadLogsRequest(run_id, task, follow, attempt, iteration_index), on_note))

    async def _log(
        self, request: ReadLogsRequest, on_note: Callable[[str], None] | None
    ) -> AsyncGenerator[bytes, None]:
        seconds = METHOD_OF_REQUEST[type(request).__name__].default_seconds + MARGIN_SECONDS
        timeout_for = None if request.follow else self._connection.timeout_for(seconds)
        async with aclosing(self._connection.stream(request, timeout_for)) as messages:
            async for message in messages:
                if message.chunk:
                    yield message.chunk
                if message.note and on_note is not None:
                    on_note(message.note)
