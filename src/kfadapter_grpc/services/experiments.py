"""The ExperimentService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter.v1.experiment_pb2_grpc import ExperimentServiceServicer
from kfadapter_grpc.contract import experiments as contract
from kfadapter_grpc.services.answers import deletion, listing, unary

if TYPE_CHECKING:
    from kfadapter_grpc.kfp.experiments import Experiments


class ExperimentServicer(ExperimentServiceServicer):
    def __init__(self, experiments: Experiments, default_namespace: str = "") -> None:
        self.kfp = experiments
        self.namespace = default_namespace

    Create = unary(contract.CreateExperimentRequest, lambda it, wanted, call: it.kfp.create(wanted, call))
    Get = unary(contract.GetExperimentRequest, lambda it, wanted, call: it.kfp.get(wanted.experiment, call))
    List = listing(contract.ListExperimentsRequest, lambda it, wanted, page, call: it.kfp.list(wanted, page, call))
    Archive = unary(
        contract.ArchiveExperimentRequest, lambda it, wanted, call: it.kfp.archive(wanted.experiment_id, call)
    )
    Unarchive = unary(
        contract.UnarchiveExperimentRequest, lambda it, wanted, call: it.kfp.unarchive(wanted.experiment_id, call)
    )
    Delete = deletion(
        contract.DeleteExperimentRequest,
        lambda it, wanted, call: it.kfp.delete(wanted.experiment_id, call, allow_missing=wanted.allow_missing),
    )
