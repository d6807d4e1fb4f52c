"""Recurring runs."""

from __future__ import annotations

from collections.abc import Mapping

from kfadapter_grpc.client.connection import Pages
from kfadapter_grpc.client.resource import Resource
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.parameters import check_sendable
from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
from kfadapter_grpc.contract.recurring_runs import (
    CreateRecurringRunRequest,
    DeleteRecurringRunRequest,
    DisableRecurringRunRequest,
    EnableRecurringRunRequest,
    GetRecurringRunRequest,
    ListRecurringRunsRequest,
    RecurringRun,
    Schedule,
)
from kfadapter_grpc.contract.spec import Json


class RecurringRuns(Resource):
    """The calls of RecurringRunService (docs/reference/api/recurring_run.md).

    Those for one raise RecurringRunNotFoundError if it does not exist.
    """

    def create(
        self,
        pipeline_name: str = "",
        *,
        schedule: Schedule,
        pipeline_id: str = "",
        version_name: str = "",
        pipeline_version_id: str = "",
        experiment_name: str = "",
        experiment_id: str = "",
        parameters: Mapping[str, Json] | None = None,
        display_name: str = "",
        description: str = "",
        max_concurrency: int = 1,
        catch_up: bool = False,
        enabled: bool = True,
        service_account: str = "",
    ) -> RecurringRun:
        """Creates a recurring run of a pipeline and its current latest version, unless another one is named.

        Pipeline, version and experiment (`Default`) are identified by name or by id. At most `max_concurrency` of its
        runs, 1 to 10, are active at once; with `catch_up`, runs that were missed are started, too.

        Raises:
            PipelineNotFoundError, VersionNotFoundError, ExperimentNotFoundError: It does not exist.
            AmbiguousNameError: Several experiments have this name; use an id.
            ParameterMissingError, ParameterUnknownError, ParameterTypeError: The parameters are invalid.
            InvalidFieldError: A value cannot be encoded, such as NaN.
        """
        request = CreateRecurringRunRequest(
            pipeline=PipelineRef(pipeline_id, pipeline_name),
            version=VersionRef(pipeline_version_id, version_name),
            experiment=ExperimentRef(experiment_id, experiment_name),
            schedule=schedule,
            parameters=check_sendable(parameters or {}),
            display_name=display_name,
            description=description,
            max_concurrency=max_concurrency,
            catch_up=catch_up,
            disabled=not enabled,
            service_account=service_account,
        )
        return self._call(request, RecurringRun)

    def get(self, recurring_run_id: str) -> RecurringRun:
        """Gets one recurring run."""
        return self._call(GetRecurringRunRequest(recurring_run_id), RecurringRun)

    def list(
        self, *, experiment_name: str = "", experiment_id: str = "", order_by: str = "", page_size: int = 0
    ) -> Pages[RecurringRun]:
        """Yields all recurring runs, or those of an experiment, requesting pages as they are needed.

        `order_by` is `created_at`, `display_name` or `recurring_run_id`, with ` desc` for descending order.

        Raises:
            ExperimentNotFoundError: The experiment does not exist.
            AmbiguousNameError: Several experiments have this name; use an id.
        """
        experiment = ExperimentRef(experiment_id, experiment_name)
        request = ListRecurringRunsRequest(experiment, page_size=page_size, order_by=order_by)
        return self._list(request, RecurringRun)

    def enable(self, recurring_run_id: str) -> RecurringRun:
        """Enables a recurring run."""
        return self._call(EnableRecurringRunRequest(recurring_run_id), RecurringRun)

    def disable(self, recurring_run_id: str) -> RecurringRun:
        """Disables a recurring run; runs that it started continue."""
        return self._call(DisableRecurringRunRequest(recurring_run_id), RecurringRun)

    def delete(self, recurring_run_id: str, *, allow_missing: bool = False) -> bool:
        """Deletes a recurring run; with `allow_missing` it need not exist. Returns whether it existed.

        Runs that it started are kept.
        """
        return self._run(self._deleted(DeleteRecurringRunRequest(recurring_run_id, allow_missing), "recurring_run_id"))
