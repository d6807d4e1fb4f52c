"""The ExperimentService."""

from __future__ import annotations

from kfadapter.v1.experiment_pb2_grpc import ExperimentServiceServicer
from kfadapter_grpc.contract import experiments as contract
from kfadapter_grpc.kfp.experiments import Experiments
from kfadapter_grpc.services.responses import deletion, listing, unary


class ExperimentServicer(ExperimentServiceServicer):
    def __init__(self, experiments: Experiments, default_namespace: str = "") -> None:
        self.kfp = experiments
        self.namespace = default_namespace

    Create = unary(contract.CreateExperimentRequest, lambda self, request, call: self.kfp.create(request, call))
    Get = unary(contract.GetExperimentRequest, lambda self, request, call: self.kfp.get(request.experiment, call))
    List = listing(
        contract.ListExperimentsRequest, lambda self, request, page, call: self.kfp.list(request, page, call)
    )
    Archive = unary(
        contract.ArchiveExperimentRequest, lambda self, request, call: self.kfp.archive(request.experiment_id, call)
    )
    Unarchive = unary(
        contract.UnarchiveExperimentRequest, lambda self, request, call: self.kfp.unarchive(request.experiment_id, call)
    )
    Delete = deletion(
        contract.DeleteExperimentRequest,
        lambda self, request, call: self.kfp.delete(request.experiment_id, call, allow_missing=request.allow_missing),
    )
