"""Calls of RunService."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from kfadapter.v1 import common_pb2, run_pb2
from kfadapter.v1.run_pb2_grpc import RunServiceStub
from kfadapter_grpc.client.calls import Calls, set_at_most_one
from kfadapter_grpc.client.connection import MARGIN_SECONDS, new_request_id
from kfadapter_grpc.client.errors import CannotConnectError
from kfadapter_grpc.client.messages import set_parameters, timestamp
from kfadapter_grpc.codec import to_page, to_record
from kfadapter_grpc.contract.errors import DrainingError, KfpUnavailableError
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.runs import Run, run_id_for
from kfadapter_grpc.methods import WRITE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from kfadapter_grpc.contract.listing import Page
    from kfadapter_grpc.contract.runs import RunState
    from kfadapter_grpc.contract.spec import Json

_REPEATS = 2
_MAX_PAUSE_SECONDS = 2.0
_OUTCOME_UNKNOWN = (CannotConnectError, DrainingError, KfpUnavailableError)


class RunCalls(Calls):
    """Starts, finds, stops, retries, puts away and deletes runs."""

    def create_run(
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
        """Starts a run. The call is repeated, at most twice, when the adapter or KFP goes away in between.

        Args:
            pipeline_name: The pipeline's name.
            pipeline_id: The pipeline's id, instead of its name.
            version_name: The version's name; by default the latest version is taken.
            pipeline_version_id: Its id, instead.
            experiment_name: The experiment's name; `Default` by default.
            experiment_id: Its id, instead.
            create_experiment: Make the experiment if there is none of this name.
            parameters: The values, each of its declared type.
            display_name: What people see; by default the pipeline's name and the time.
            description: What it is for; with the labels up to 255 bytes of UTF-8.
            labels: Small texts of your own, by which runs can be found again.
            request_id: Under which the call may be repeated, also by another process; by default a new one.
            validate_only: Only check: nothing is started.
            caching: False keeps tasks from using results of earlier runs.
            service_account: The Kubernetes service account of the tasks; empty means KFP's own.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
            VersionNotFoundError: It has no such version, or none at all.
            ExperimentNotFoundError: There is no such experiment, and `create_experiment` is not set.
            AmbiguousNameError: Several experiments have this name; use an id.
            ParameterMissingError: A parameter without default has no value.
            ParameterUnknownError: The pipeline declares no such parameter.
            ParameterTypeError: A value is not of the declared type.
            InvalidFieldError: A value holds what the wire cannot carry, such as NaN.
            RequestIdReusedError: This request id started another run before.
        """
        request = run_pb2.CreateRunRequest(
            display_name=display_name,
            description=description,
            labels=labels,
            request_id=request_id or ("" if validate_only else new_request_id()),
            validate_only=validate_only,
            create_experiment=create_experiment,
            caching_enabled=None if caching else False,
            service_account=service_account,
            namespace=self._namespace,
        )
        set_at_most_one(request, "pipeline", pipeline_name=pipeline_name, pipeline_id=pipeline_id)
        set_at_most_one(request, "version", version_name=version_name, pipeline_version_id=pipeline_version_id)
        set_at_most_one(request, "experiment", experiment_name=experiment_name, experiment_id=experiment_id)
        set_parameters(request.parameters, parameters or {})
        return to_record(self._create(request, _REPEATS), Run)

    def run_id_for(self, request_id: str, *, namespace: str = "") -> str:
        """Tells the id of the run that `create_run` makes under a request id, before it is made or afterwards.

        Args:
            request_id: The request id.
            namespace: The run's namespace; by default the client's. Where the client has none but the adapter is
                configured with one, that one must be given.
        """
        return run_id_for(request_id, namespace or self._namespace)

    def get_run(self, run_id: str, *, view: View = View.FULL) -> Run:
        """Gets one run; with `View.FULL` also its tasks, and the names of its pipeline, version and experiment.

        Raises:
            RunNotFoundError: There is no such run.
        """
        request = run_pb2.GetRunRequest(run_id=run_id, view=common_pb2.View.Value(f"VIEW_{view.name}"))
        return to_record(self._connection.unary(self._runs.Get, request), Run)

    def list_runs(
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
        order_by: str = "",
        page_size: int = 0,
    ) -> Iterator[Run]:
        """Yields all runs that match, without their tasks, asking for page after page as they are needed.

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
            archived: Those that are put away, instead of those that are not.
            order_by: `created_at`, `finished_at`, `display_name` or `run_id`, with ` desc` for the other direction.
            page_size: How many to ask for at a time; 0 leaves it to the adapter.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
            AmbiguousNameError: Several experiments have this name; use an id.
        """
        chosen, keys, token = tuple(states), tuple(label_keys), ""
        while True:
            page = self.list_runs_page(
                experiment_name=experiment_name,
                experiment_id=experiment_id,
                states=chosen,
                created_after=created_after,
                finished_after=finished_after,
                display_name_contains=display_name_contains,
                labels=labels,
                label_keys=keys,
                pipeline_id=pipeline_id,
                pipeline_version_id=pipeline_version_id,
                recurring_run_id=recurring_run_id,
                archived=archived,
                order_by=order_by,
                page_size=page_size,
                page_token=token,
            )
            yield from page.items
            token = page.next_token
            if not token:
                return

    def list_runs_page(
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
        order_by: str = "",
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[Run]:
        """Gets one page of runs; the arguments are those of `list_runs`, the token is the page before's."""
        where = run_pb2.RunFilter(
            states=[run_pb2.RunState.Value(f"RUN_STATE_{state.name}") for state in states],
            created_after=timestamp(created_after, "created_after"),
            finished_after=timestamp(finished_after, "finished_after"),
            display_name_contains=display_name_contains,
            labels=labels,
            label_keys=label_keys,
            pipeline_id=pipeline_id,
            pipeline_version_id=pipeline_version_id,
            recurring_run_id=recurring_run_id,
            storage_state=common_pb2.STORAGE_STATE_ARCHIVED if archived else common_pb2.STORAGE_STATE_AVAILABLE,
            namespace=self._namespace,
        )
        set_at_most_one(where, "experiment", experiment_name=experiment_name, experiment_id=experiment_id)
        request = run_pb2.ListRunsRequest(page_size=page_size, page_token=page_token, order_by=order_by, filter=where)
        return to_page(self._connection.unary(self._runs.List, request), Run)

    def terminate_run(self, run_id: str, *, wait: float = 0) -> Run:
        """Stops a run; one that is over or stopping already is left as it is.

        Args:
            run_id: Which.
            wait: For how many seconds to wait until it has stopped, at most 3600.

        Returns:
            The run as it is then, over or not.

        Raises:
            RunNotFoundError: There is no such run.
        """
        request = run_pb2.TerminateRunRequest(run_id=run_id)
        if wait:
            duration = Duration()
            duration.FromMilliseconds(round(wait * 1000))
            request.wait.CopyFrom(duration)
        seconds = WRITE_SECONDS + wait + MARGIN_SECONDS
        return to_record(self._connection.call(self._runs.Terminate, request, seconds), Run)

    def retry_run(self, run_id: str) -> Run:
        """Runs a failed run again, from the tasks that failed.

        Raises:
            RunNotFoundError: There is no such run.
            RunNotRetryableError: It did not fail, or KFP no longer holds what it takes.
        """
        request = run_pb2.RetryRunRequest(run_id=run_id)
        return to_record(self._connection.unary(self._runs.Retry, request), Run)

    def archive_run(self, run_id: str) -> Run:
        """Puts a run away.

        Raises:
            RunNotFoundError: There is no such run.
        """
        request = run_pb2.ArchiveRunRequest(run_id=run_id)
        return to_record(self._connection.unary(self._runs.Archive, request), Run)

    def unarchive_run(self, run_id: str) -> Run:
        """Takes a run back from the archive.

        Raises:
            RunNotFoundError: There is no such run.
        """
        request = run_pb2.UnarchiveRunRequest(run_id=run_id)
        return to_record(self._connection.unary(self._runs.Unarchive, request), Run)

    def delete_run(self, run_id: str, *, allow_missing: bool = False) -> bool:
        """Deletes a run; one that is not over goes on in the cluster, unseen.

        Args:
            run_id: Which.
            allow_missing: Succeed where there is no such run.

        Returns:
            Whether there was one.

        Raises:
            RunNotFoundError: There is no such run, and `allow_missing` is not set.
        """
        request = run_pb2.DeleteRunRequest(run_id=run_id, allow_missing=allow_missing)
        return bool(self._connection.unary(self._runs.Delete, request).run_id)

    def _create(self, request: run_pb2.CreateRunRequest, repeats: int) -> run_pb2.Run:
        """Sends it, and again under the same request id while its outcome is not known."""
        try:
            return self._connection.unary(self._runs.Create, request)
        except _OUTCOME_UNKNOWN as error:
            if repeats == 0:
                raise
            time.sleep(min(error.retry_after or 0.0, _MAX_PAUSE_SECONDS))
        return self._create(request, repeats - 1)

    @property
    def _runs(self) -> RunServiceStub:
        return self._connection.stub(RunServiceStub)
