"""The RecurringRunService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter.v1.recurring_run_pb2_grpc import RecurringRunServiceServicer
from kfadapter_grpc.contract import recurring_runs as contract
from kfadapter_grpc.services.answers import deletion, listing, unary

if TYPE_CHECKING:
    from kfadapter_grpc.kfp.recurring_runs import RecurringRuns


class RecurringRunServicer(RecurringRunServiceServicer):
    def __init__(self, recurring_runs: RecurringRuns, default_namespace: str = "") -> None:
        self.kfp = recurring_runs
        self.namespace = default_namespace

    Create = unary(contract.CreateRecurringRunRequest, lambda it, wanted, call: it.kfp.create(wanted, call))
    Get = unary(contract.GetRecurringRunRequest, lambda it, wanted, call: it.kfp.get(wanted.recurring_run_id, call))
    List = listing(contract.ListRecurringRunsRequest, lambda it, wanted, page, call: it.kfp.list(wanted, page, call))
    Enable = unary(
        contract.EnableRecurringRunRequest, lambda it, wanted, call: it.kfp.enable(wanted.recurring_run_id, call)
    )
    Disable = unary(
        contract.DisableRecurringRunRequest, lambda it, wanted, call: it.kfp.disable(wanted.recurring_run_id, call)
    )
    Delete = deletion(
        contract.DeleteRecurringRunRequest,
        lambda it, wanted, call: it.kfp.delete(wanted.recurring_run_id, call, allow_missing=wanted.allow_missing),
    )
