"""The ExperimentService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter.v1 import experiment_pb2 as pb
from kfadapter.v1.experiment_pb2_grpc import ExperimentServiceServicer
from kfadapter_grpc.codec import read_request
from kfadapter_grpc.contract import experiments as contract
from kfadapter_grpc.interceptors import current_call
from kfadapter_grpc.services.answers import message, page, page_token

if TYPE_CHECKING:
    import grpc

    from kfadapter_grpc.kfp.experiments import Experiments


class ExperimentServicer(ExperimentServiceServicer):
    """Serves the calls of `kfadapter.v1.ExperimentService`."""

    def __init__(self, experiments: Experiments, default_namespace: str = "") -> None:
        self._experiments = experiments
        self._namespace = default_namespace

    def Create(self, request: pb.CreateExperimentRequest, context: grpc.ServicerContext) -> pb.Experiment:
        """Creates an experiment."""
        wanted = read_request(request, contract.CreateExperimentRequest, self._namespace)
        return message(self._experiments.create(wanted, current_call(context)), pb.Experiment)

    def Get(self, request: pb.GetExperimentRequest, context: grpc.ServicerContext) -> pb.Experiment:
        """Gets an experiment by id or by name."""
        wanted = read_request(request, contract.GetExperimentRequest, self._namespace)
        return message(self._experiments.get(wanted.experiment, current_call(context)), pb.Experiment)

    def List(self, request: pb.ListExperimentsRequest, context: grpc.ServicerContext) -> pb.ListExperimentsResponse:
        """Lists experiments."""
        wanted = read_request(request, contract.ListExperimentsRequest, self._namespace)
        found = self._experiments.list(wanted, wanted.page(page_token(request)), current_call(context))
        return page(found, pb.ListExperimentsResponse, request)

    def Archive(self, request: pb.ArchiveExperimentRequest, context: grpc.ServicerContext) -> pb.Experiment:
        """Archives an experiment."""
        wanted = read_request(request, contract.ArchiveExperimentRequest)
        return message(self._experiments.archive(wanted.experiment_id, current_call(context)), pb.Experiment)

    def Unarchive(self, request: pb.UnarchiveExperimentRequest, context: grpc.ServicerContext) -> pb.Experiment:
        """Unarchives an experiment."""
        wanted = read_request(request, contract.UnarchiveExperimentRequest)
        return message(self._experiments.unarchive(wanted.experiment_id, current_call(context)), pb.Experiment)

    def Delete(self, request: pb.DeleteExperimentRequest, context: grpc.ServicerContext) -> pb.DeleteExperimentResponse:
        """Deletes an experiment."""
        wanted = read_request(request, contract.DeleteExperimentRequest)
        call = current_call(context)
        deleted = self._experiments.delete(wanted.experiment_id, call, allow_missing=wanted.allow_missing)
        return pb.DeleteExperimentResponse(experiment_id=wanted.experiment_id if deleted else "")
