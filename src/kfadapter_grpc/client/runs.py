"""Runs: starting, finding, watching and changing them, and reading the logs of their tasks."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, TypedDict

from kfadapter_grpc.client.connection import MARGIN_SECONDS, Resource, new_request_id, repeated
from kfadapter_grpc.client.metrics import metrics_table
from kfadapter_grpc.client.watch import wait, watch
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
    TerminateRunRequest,
    UnarchiveRunRequest,
    run_id_for,
)
from kfadapter_grpc.contract.watches import RunIds, WatchRunsRequest
from kfadapter_grpc.methods import METHOD_OF_REQUEST, WRITE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from datetime import datetime

    from typing_extensions import Unpack

    from kfadapter_grpc.client.connection import Pages
    from kfadapter_grpc.client.metrics import Rows
    from kfadapter_grpc.contract.runs import RunState
    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.contract.watches import RunEvent


class RunsWhere(TypedDict, total=False):
    """Which runs, as `Runs.list` has it."""

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
    """The calls of RunService."""

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
        """Starts a run. The call is repeated, at most twice, when the adapter or KFP becomes unreachable in between.

        Args:
            pipeline_name: The pipeline's name.
            pipeline_id: Its id, instead.
            version_name: The version's name; defaults to the latest.
            pipeline_version_id: Its id, instead.
            experiment_name: The experiment's name; defaults to `Default`.
            experiment_id: Its id, instead.
            create_experiment: Create the experiment if there is none of this name.
            parameters: The values, each of its declared type.
            display_name: What people see; defaults to the pipeline's name and the time.
            description: What it is for; with the labels up to 255 bytes of UTF-8.
            labels: Small texts of your own, by which runs can be found again.
            request_id: The idempotency key; defaults to a new one.
            validate_only: Only check: nothing is started.
            caching: False keeps tasks from using results of earlier runs.
            service_account: The Kubernetes service account of the tasks; empty means KFP's own.

        Raises:
            PipelineNotFoundError, VersionNotFoundError, ExperimentNotFoundError: One that is named does not exist.
            AmbiguousNameError: Several experiments have this name; use an id.
            ParameterMissingError, ParameterUnknownError, ParameterTypeError: The values do not fit the declaration.
            InvalidFieldError: A value holds what the wire cannot carry, such as NaN.
            RequestIdReusedError: This request id started another run before.
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
        return repeated(lambda: self._ask(request, Run))

    def id_for(self, request_id: str, *, namespace: str = "") -> str:
        """Returns the id of the run that `create` makes under a request id, before it is made or afterwards.

        Args:
            request_id: The request id.
            namespace: The run's namespace; by default the client's. Where the client has none but the adapter is
                configured with one, that one must be given.
        """
        return run_id_for(request_id, namespace or self._namespace)

    def get(self, run_id: str, *, view: View = View.FULL) -> Run:
        """Gets one run; with `View.FULL` also its tasks, and the names of its pipeline, version and experiment.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return self._ask(GetRunRequest(run_id, view), Run)

    def list(self, *, order_by: str = "", page_size: int = 0, **where: Unpack[RunsWhere]) -> Pages[Run]:
        """Yields all runs that match, without their tasks, requesting pages as they are needed.

        Args:
            experiment_name: Only runs of this experiment.
            experiment_id: The same, by its id.
            states: Only runs in one of these states.
            created_after: Only runs made after this moment.
            finished_after: Only runs that were over after this moment.
            display_name_contains: Only runs whose display name holds this text; letter case counts.
            labels: Only runs that have all of these labels.
            label_keys: Only runs that have labels with all of these keys, whatever their values.
            pipeline_id: Only runs of this pipeline; the adapter reads run after run for it.
            pipeline_version_id: Only runs of this version; likewise.
            recurring_run_id: Only runs that this recurring run made.
            archived: Archived ones, instead of those that are not.
            order_by: `created_at`, `finished_at`, `display_name` or `run_id`, with ` desc` for the other direction.
            page_size: Items per request; 0 leaves it to the adapter.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
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
        """Returns the scalar metrics of all runs that match as a table, which `pandas.DataFrame` takes as it is.

        A column is named by its metric (`accuracy`), or, where several tasks of the table have one of this name, by
        task and metric (`train/accuracy`), or by task, output and metric.

        Args:
            parameters: The run parameters that become columns.
            order_by: As of `list`.
            limit: How many runs at most, the first in this order; 0 means all.
            on_warning: Called for each run whose metrics could not be read, with the reason.
            **where: Which runs, as of `list`.

        Returns:
            A row for each run: `run_id`, `display_name`, `state`, `created_at`, the parameters, then the metrics;
            None where a run has no such value.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
            AmbiguousNameError: Several experiments have this name; use an id.
        """
        size = min(limit, MAX_RUNS)
        request = ListMetricsRequest(self._where(**where), page_size=size, order_by=order_by)
        found = list(islice(self._list(request, MetricsOfRun), limit or None))
        for run in found:
            if on_warning and run.source and run.source.state.is_missing:
                on_warning(f"run {run.run_id}: {run.source.message}")
        return metrics_table(found, tuple(parameters))

    def _where(
        self,
        *,
        experiment_name: str = "",
        experiment_id: str = "",
        states: Iterable[RunState] = (),
        created_after: datetime | None = None,
        finished_after: datetime | None = None,
        display_name_contains: str = "",
        labels: Mapping[str, str] | None = None,
        label_keys: Iterable[str] = (),
        pipeline_id: str = "",
        pipeline_version_id: str = "",
        recurring_run_id: str = "",
        archived: bool = False,
    ) -> RunFilter:
        """Makes the filter of a listing."""
        return self._here(
            RunFilter(
                ExperimentRef(experiment_id, experiment_name),
                states=frozenset(states),
                created_after=created_after,
                finished_after=finished_after,
                display_name_contains=display_name_contains,
                labels=labels or {},
                label_keys=frozenset(label_keys),
                pipeline_id=pipeline_id,
                pipeline_version_id=pipeline_version_id,
                recurring_run_id=recurring_run_id,
                archived=archived,
            )
        )

    def terminate(self, run_id: str, *, wait: float = 0) -> Run:
        """Stops a run; one that has finished or is stopping is left as it is.

        Args:
            run_id: Which.
            wait: For how many seconds to wait until it has stopped, at most 3600.

        Returns:
            The run as it is then, over or not.

        Raises:
            RunNotFoundError: There is no such run.
        """
        request = TerminateRunRequest(run_id, timedelta(milliseconds=round(wait * 1000)) if wait else None)
        return self._ask(request, Run, WRITE_SECONDS + wait + MARGIN_SECONDS)

    def retry(self, run_id: str) -> Run:
        """Runs a failed run again, from the tasks that failed.

        Raises:
            RunNotFoundError: There is no such run.
            RunNotRetryableError: It did not fail, or KFP no longer holds what it takes.
        """
        return self._ask(RetryRunRequest(run_id), Run)

    def archive(self, run_id: str) -> Run:
        """Archives a run.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return self._ask(ArchiveRunRequest(run_id), Run)

    def unarchive(self, run_id: str) -> Run:
        """Unarchives a run.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return self._ask(UnarchiveRunRequest(run_id), Run)

    def delete(self, run_id: str, *, allow_missing: bool = False) -> bool:
        """Deletes a run. A run in progress continues in the cluster: terminate it first.

        Args:
            run_id: Which.
            allow_missing: Succeed where there is no such run.

        Returns:
            Whether there was one.

        Raises:
            RunNotFoundError: There is no such run, and `allow_missing` is not set.
        """
        return bool(self._connection.unary(DeleteRunRequest(run_id, allow_missing)).run_id)

    def watch(
        self,
        run_ids: str | Iterable[str] = (),
        *,
        where: RunFilter | None = None,
        tasks: bool = False,
        known_etags: Mapping[str, str] | None = None,
    ) -> Generator[RunEvent, None, None]:
        """Yields what happens to runs: first each one as it is now, then whenever one has changed.

        It is resumed automatically, without repeating events, when the adapter shuts down or the connection
        breaks; it fails only if no adapter has responded 10 times in a row. It has no deadline. To end it, close it,
        or leave the loop and drop it.

        Args:
            run_ids: These runs, at most 1000; it ends when all have finished or were deleted.
            where: Instead, the runs that match, also those made later; it does not end by itself.
            tasks: Include tasks; a change of a task is then a change of the run.
            known_etags: The etags that you hold, by run id: runs that still have them are not sent at first.

        Raises:
            InvalidFieldError: Neither ids nor a filter are given, or both, or too many ids.
            ExperimentNotFoundError: There is no such experiment.
        """
        ids = [run_ids] if isinstance(run_ids, str) else list(run_ids)
        if bool(ids) == (where is not None):
            raise InvalidFieldError.of("what", "give either the ids of runs or a filter, and not both")
        what = self._here(RunIds(tuple(ids)) if where is None else where)
        return watch(self._connection, WatchRunsRequest(what, known_etags or {}, tasks))

    def wait(self, run_id: str, *, timeout: float | None = None) -> Run:
        """Waits until a run has finished; returns it as it is then, without its tasks.

        Args:
            run_id: Which.
            timeout: How many seconds to wait at most; without a limit by default.

        Raises:
            RunNotFoundError: There is no such run, or it was deleted meanwhile.
            DeadlineError: It was not over in time; it goes on.
        """
        return wait(self._connection, self._here(RunIds((run_id,))), timeout)

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
        """Yields the log of a task in pieces, which may end anywhere in a line.

        Args:
            run_id: The run.
            task: The task, by its name, its id in the run or its path.
            follow: Continue until the task has ended; no deadline ends that.
            attempt: Which attempt of a retried task, counted from 1; the last one by default.
            iteration_index: Which iteration of the innermost loop, counted from 0, where the name alone is ambiguous.
            on_note: Called at the end of a log that is not complete, with the reason.

        Raises:
            RunNotFoundError: No such run.
            TaskNotFoundError: The run has no such task, or the task has not begun.
            InvalidFieldError: There is no such attempt, or several tasks have this name.
            UnsupportedByKfpError: The log is not available; the message says why and where to find it.
        """
        request = ReadLogsRequest(run_id, task, follow, attempt, iteration_index)
        seconds = None if follow else METHOD_OF_REQUEST[type(request).__name__].default_seconds
        for message in self._connection.server_stream(request, seconds):
            if message.chunk:
                yield message.chunk
            if message.note and on_note is not None:
                on_note(message.note)
