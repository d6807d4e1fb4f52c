"""The RecurringRunService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter.v1 import recurring_run_pb2 as pb
from kfadapter.v1.recurring_run_pb2_grpc import RecurringRunServiceServicer
from kfadapter_grpc.interceptors import current_call
from kfadapter_grpc.services.messages import message, page
from kfadapter_grpc.services.requests import pages
from kfadapter_grpc.services.requests import recurring_runs as requests

if TYPE_CHECKING:
    import grpc

    from kfadapter_grpc.contract.repository import RecurringRunRepository


class RecurringRunServicer(RecurringRunServiceServicer):
    """Answers the calls of `kfadapter.v1.RecurringRunService`."""

    def __init__(self, recurring_runs: RecurringRunRepository, default_namespace: str = "") -> None:
        self._recurring_runs = recurring_runs
        self._namespace = default_namespace

    def Create(self, request: pb.CreateRecurringRunRequest, context: grpc.ServicerContext) -> pb.RecurringRun:
        """Makes a recurring run."""
        wanted = requests.create(request, self._namespace)
        return message(self._recurring_runs.create(wanted, current_call(context)), pb.RecurringRun)

    def Get(self, request: pb.GetRecurringRunRequest, context: grpc.ServicerContext) -> pb.RecurringRun:
        """Gets one recurring run."""
        recurring_run_id = requests.recurring_run_id(request)
        return message(self._recurring_runs.get(recurring_run_id, current_call(context)), pb.RecurringRun)

    def List(self, request: pb.ListRecurringRunsRequest, context: grpc.ServicerContext) -> pb.ListRecurringRunsResponse:
        """Lists recurring runs."""
        where = requests.recurring_run_filter(request, self._namespace)
        wanted = pages.page(request, "display_name", "recurring_run_id")
        found = self._recurring_runs.list(where, wanted, current_call(context))
        return page(found, pb.ListRecurringRunsResponse, pages.next_page_token(found.next_token, request))

    def Enable(self, request: pb.EnableRecurringRunRequest, context: grpc.ServicerContext) -> pb.RecurringRun:
        """Switches a recurring run on."""
        recurring_run_id = requests.recurring_run_id(request)
        return message(self._recurring_runs.enable(recurring_run_id, current_call(context)), pb.RecurringRun)

    def Disable(self, request: pb.DisableRecurringRunRequest, context: grpc.ServicerContext) -> pb.RecurringRun:
        """Switches a recurring run off."""
        recurring_run_id = requests.recurring_run_id(request)
        return message(self._recurring_runs.disable(recurring_run_id, current_call(context)), pb.RecurringRun)

    def Delete(
        self, request: pb.DeleteRecurringRunRequest, context: grpc.ServicerContext
    ) -> pb.DeleteRecurringRunResponse:
        """Deletes a recurring run."""
        recurring_run_id = requests.recurring_run_id(request)
        call = current_call(context)
        deleted = self._recurring_runs.delete(recurring_run_id, call, allow_missing=request.allow_missing)
        return pb.DeleteRecurringRunResponse(recurring_run_id=recurring_run_id if deleted else "")
