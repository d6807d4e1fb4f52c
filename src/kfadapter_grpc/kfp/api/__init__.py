"""KFP's REST API, one method per endpoint that is used: typed answers, or `KfpFailureError` with what KFP said.

Nothing is decided here; what a failure means to a caller is `error_table`'s business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.api.asking import (
    V2,
    ApiArea,
    KfpFailureError,
    ListQuery,
    NotAnApiError,
    Operation,
    Predicate,
)
from kfadapter_grpc.kfp.api.experiments import ExperimentApi
from kfadapter_grpc.kfp.api.pipelines import PipelineApi, UploadForm
from kfadapter_grpc.kfp.api.recurring_runs import RecurringRunApi
from kfadapter_grpc.kfp.api.runs import RunApi
from kfadapter_grpc.kfp.transport import Request, Transport

if TYPE_CHECKING:
    from kfadapter_grpc.contract.call import Call

__all__ = [
    "ExperimentApi",
    "KfpApi",
    "KfpFailureError",
    "ListQuery",
    "NotAnApiError",
    "Operation",
    "PipelineApi",
    "Predicate",
    "RecurringRunApi",
    "RunApi",
    "UploadForm",
]


class KfpApi(ApiArea):
    """All endpoints, by area. Safe to use from many threads.

    Attributes:
        pipelines: Those of pipelines and versions.
        runs: Those of runs.
        experiments: Those of experiments.
        recurring_runs: Those of recurring runs.
    """

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self.pipelines = PipelineApi(transport)
        self.runs = RunApi(transport)
        self.experiments = ExperimentApi(transport)
        self.recurring_runs = RecurringRunApi(transport)

    def health(self, call: Call) -> None:
        """Asks whether the server is well."""
        self._ask(Operation.HEALTH, Request("GET", f"{V2}/healthz", public=True), dict[str, object], call)
