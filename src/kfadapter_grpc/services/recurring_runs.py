"""The RecurringRunService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter.v1 import recurring_run_pb2 as pb
from kfadapter.v1.recurring_run_pb2_grpc import RecurringRunServiceServicer
from kfadapter_grpc.codec import read_request
from kfadapter_grpc.contract import recurring_runs as contract
from kfadapter_grpc.interceptors import current_call
from kfadapter_grpc.services.answers import message, page, page_token

if TYPE_CHECKING:
    import grpc

    from kfadapter_grpc.kfp.recurring_runs import RecurringRuns


class RecurringRunServicer(RecurringRunServiceServicer):
    """Serves the calls of `kfadapter.v1.RecurringRunService`."""

    def __init__(self, recurring_runs: RecurringRuns, default_namespace: str = "") -> None:
        self._recurring_runs = recurring_runs
        self._namespace = default_namespace

    def Create(self, request: pb.CreateRecurringRunRequest, context: grpc.ServicerContext) -> pb.RecurringRun:
        """Creates a recurring run."""
        wanted = read_request(request, contract.CreateRecurringRunRequest, self._namespace)
        return message(self._recurring_runs.create(wanted, current_call(context)), pb.RecurringRun)

    def Get(self, request: pb.GetRecurringRunRequest, context: grpc.ServicerContext) -> pb.RecurringRun:
        """Gets a recurring run."""
        wanted = read_request(request, contract.GetRecurringRunRequest)
        return message(self._recurring_runs.get(wanted.recurring_run_id, current_call(context)), pb.RecurringRun)

    def List(self, request: pb.ListRecurringRunsRequest, context: grpc.ServicerContext) -> pb.ListRecurringRunsResponse:
        """Lists recurring runs."""
        wanted = read_request(request, contract.ListRecurringRunsRequest, self._namespace)
        found = self._recurring_runs.list(wanted, wanted.page(page_token(request)), current_call(context))
        return page(found, pb.ListRecurringRunsResponse, request)

    def Enable(self, request: pb.EnableRecurringRunRequest, context: grpc.ServicerContext) -> pb.RecurringRun:
        """Enables a recurring run."""
        wanted = read_request(request, contract.EnableRecurringRunRequest)
        return message(self._recurring_runs.enable(wanted.recurring_run_id, current_call(context)), pb.RecurringRun)

    def Disable(self, request: pb.DisableRecurringRunRequest, context: grpc.ServicerContext) -> pb.RecurringRun:
        """Disables a recurring run."""
        wanted = read_request(request, contract.DisableRecurringRunRequest)
        return message(self._recurring_runs.disable(wanted.recurring_run_id, current_call(context)), pb.RecurringRun)

    def Delete(
        self, request: pb.DeleteRecurringRunRequest, context: grpc.ServicerContext
    ) -> pb.DeleteRecurringRunResponse:
        """Deletes a recurring run."""
        wanted = read_request(request, contract.DeleteRecurringRunRequest)
        call = current_call(context)
        deleted = self._recurring_runs.delete(wanted.recurring_run_id, call, allow_missing=wanted.allow_missing)
        return pb.DeleteRecurringRunResponse(recurring_run_id=wanted.recurring_run_id if deleted else "")
