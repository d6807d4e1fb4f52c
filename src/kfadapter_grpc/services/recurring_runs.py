"""The RecurringRunService."""

from __future__ import annotations

from kfadapter.v1.recurring_run_pb2_grpc import RecurringRunServiceServicer
from kfadapter_grpc.contract import recurring_runs as contract
from kfadapter_grpc.kfp.recurring_runs import RecurringRuns
from kfadapter_grpc.services.responses import deletion, listing, unary


class RecurringRunServicer(RecurringRunServiceServicer):
    def __init__(self, recurring_runs: RecurringRuns, default_namespace: str = "") -> None:
        self.kfp = recurring_runs
        self.namespace = default_namespace

    Create = unary(contract.CreateRecurringRunRequest, lambda self, request, call: self.kfp.create(request, call))
    Get = unary(
        contract.GetRecurringRunRequest, lambda self, request, call: self.kfp.get(request.recurring_run_id, call)
    )
    List = listing(
        contract.ListRecurringRunsRequest, lambda self, request, page, call: self.kfp.list(request, page, call)
    )
    Enable = unary(
        contract.EnableRecurringRunRequest, lambda self, request, call: self.kfp.enable(request.recurring_run_id, call)
    )
    Disable = unary(
        contract.DisableRecurringRunRequest,
        lambda self, request, call: self.kfp.disable(request.recurring_run_id, call),
    )
    Delete = deletion(
        contract.DeleteRecurringRunRequest,
        lambda self, request, call: self.kfp.delete(
            request.recurring_run_id, call, allow_missing=request.allow_missing
        ),
    )
