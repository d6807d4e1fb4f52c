"""Calls of RecurringRunService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter.v1 import recurring_run_pb2
from kfadapter.v1.recurring_run_pb2_grpc import RecurringRunServiceStub
from kfadapter_grpc.client.calls import Calls, at_most_one, set_at_most_one
from kfadapter_grpc.client.messages import set_parameters, timestamp
from kfadapter_grpc.codec import duration, to_page, to_record
from kfadapter_grpc.contract.recurring_runs import CronSchedule, RecurringRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kfadapter_grpc.contract.listing import Page
    from kfadapter_grpc.contract.recurring_runs import Schedule
    from kfadapter_grpc.contract.spec import Json


class RecurringRunCalls(Calls):
    """Makes, finds, switches and deletes recurring runs."""

    def create_recurring_run(
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
        """Makes a recurring run.

        Args:
            pipeline_name: The pipeline's name.
            schedule: When runs are started.
            pipeline_id: The pipeline's id, instead of its name.
            version_name: The version's name; by default the latest version of now is taken.
            pipeline_version_id: Its id, instead.
            experiment_name: The experiment's name; `Default` by default.
            experiment_id: Its id, instead.
            parameters: The values for its runs, each of its declared type.
            display_name: What people see; by default the pipeline's name and the schedule.
            description: What it is for, up to 255 bytes of UTF-8.
            max_concurrency: How many of its runs there may be at once, 1 to 10.
            catch_up: Make up for missed starts.
            enabled: Whether it starts runs from the beginning.
            service_account: The Kubernetes service account of the tasks; empty means KFP's own.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
            VersionNotFoundError: It has no such version, or none at all.
            ExperimentNotFoundError: There is no such experiment.
            AmbiguousNameError: Several experiments have this name; use an id.
            ParameterMissingError: A parameter without default has no value.
            ParameterUnknownError: The pipeline declares no such parameter.
            ParameterTypeError: A value is not of the declared type.
            InvalidFieldError: A value holds what the wire cannot carry, such as NaN.
        """
        request = recurring_run_pb2.CreateRecurringRunRequest(
            display_name=display_name,
            description=description,
            max_concurrency=max_concurrency,
            catch_up=catch_up,
            disabled=not enabled,
            service_account=service_account,
            namespace=self._namespace,
        )
        set_at_most_one(request, "pipeline", pipeline_name=pipeline_name, pipeline_id=pipeline_id)
        set_at_most_one(request, "version", version_name=version_name, pipeline_version_id=pipeline_version_id)
        set_at_most_one(request, "experiment", experiment_name=experiment_name, experiment_id=experiment_id)
        set_parameters(request.parameters, parameters or {})
        _set_schedule(request, schedule)
        return to_record(self._connection.unary(self._recurring_runs.Create, request), RecurringRun)

    def get_recurring_run(self, recurring_run_id: str) -> RecurringRun:
        """Gets one recurring run.

        Raises:
            RecurringRunNotFoundError: There is no such recurring run.
        """
        request = recurring_run_pb2.GetRecurringRunRequest(recurring_run_id=recurring_run_id)
        return to_record(self._connection.unary(self._recurring_runs.Get, request), RecurringRun)

    def list_recurring_runs(
        self, *, experiment_name: str = "", experiment_id: str = "", order_by: str = "", page_size: int = 0
    ) -> Iterator[RecurringRun]:
        """Yields all recurring runs that match, asking for page after page as they are needed.

        Args:
            experiment_name: Only those of this experiment.
            experiment_id: The same, by its id.
            order_by: `created_at`, `display_name` or `recurring_run_id`, with ` desc` for the other direction.
            page_size: How many to ask for at a time; 0 leaves it to the adapter.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
            AmbiguousNameError: Several experiments have this name; use an id.
        """
        token = ""
        while True:
            page = self.list_recurring_runs_page(
                experiment_name=experiment_name,
                experiment_id=experiment_id,
                order_by=order_by,
                page_size=page_size,
                page_token=token,
            )
            yield from page.items
            token = page.next_token
            if not token:
                return

    def list_recurring_runs_page(
        self,
        *,
        experiment_name: str = "",
        experiment_id: str = "",
        order_by: str = "",
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[RecurringRun]:
        """Gets one page of recurring runs, as `list_recurring_runs`; the token is the page before's."""
        request = recurring_run_pb2.ListRecurringRunsRequest(
            **at_most_one("experiment", experiment_name=experiment_name, experiment_id=experiment_id),
            page_size=page_size,
            page_token=page_token,
            order_by=order_by,
            namespace=self._namespace,
        )
        return to_page(self._connection.unary(self._recurring_runs.List, request), RecurringRun)

    def enable_recurring_run(self, recurring_run_id: str) -> RecurringRun:
        """Switches a recurring run on.

        Raises:
            RecurringRunNotFoundError: There is no such recurring run.
        """
        request = recurring_run_pb2.EnableRecurringRunRequest(recurring_run_id=recurring_run_id)
        return to_record(self._connection.unary(self._recurring_runs.Enable, request), RecurringRun)

    def disable_recurring_run(self, recurring_run_id: str) -> RecurringRun:
        """Switches a recurring run off; runs that it has started go on.

        Raises:
            RecurringRunNotFoundError: There is no such recurring run.
        """
        request = recurring_run_pb2.DisableRecurringRunRequest(recurring_run_id=recurring_run_id)
        return to_record(self._connection.unary(self._recurring_runs.Disable, request), RecurringRun)

    def delete_recurring_run(self, recurring_run_id: str, *, allow_missing: bool = False) -> bool:
        """Deletes a recurring run; runs that it has started stay.

        Args:
            recurring_run_id: Which.
            allow_missing: Succeed where there is no such recurring run.

        Returns:
            Whether there was one.

        Raises:
            RecurringRunNotFoundError: There is no such recurring run, and `allow_missing` is not set.
        """
        request = recurring_run_pb2.DeleteRecurringRunRequest(
            recurring_run_id=recurring_run_id, allow_missing=allow_missing
        )
        return bool(self._connection.unary(self._recurring_runs.Delete, request).recurring_run_id)

    @property
    def _recurring_runs(self) -> RecurringRunServiceStub:
        return self._connection.stub(RecurringRunServiceStub)


def _set_schedule(request: recurring_run_pb2.CreateRecurringRunRequest, schedule: Schedule) -> None:
    """Puts a schedule into a request.

    Raises:
        InvalidFieldError: A time of it lies outside of the years 1 to 9999.
    """
    start_at, end_at = timestamp(schedule.start_at, "start_at"), timestamp(schedule.end_at, "end_at")
    if isinstance(schedule, CronSchedule):
        cron = recurring_run_pb2.CronSchedule(cron=schedule.cron, start_at=start_at, end_at=end_at)
        request.cron.CopyFrom(cron)
        return
    every = duration(schedule.interval)
    request.interval.CopyFrom(recurring_run_pb2.IntervalSchedule(interval=every, start_at=start_at, end_at=end_at))
