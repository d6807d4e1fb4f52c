"""The ExperimentService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter.v1 import experiment_pb2 as pb
from kfadapter.v1.experiment_pb2_grpc import ExperimentServiceServicer
from kfadapter_grpc.interceptors import current_call
from kfadapter_grpc.services.messages import message, page
from kfadapter_grpc.services.requests import experiments as requests
from kfadapter_grpc.services.requests import pages

if TYPE_CHECKING:
    import grpc

    from kfadapter_grpc.contract.repository import ExperimentRepository


class ExperimentServicer(ExperimentServiceServicer):
    """Answers the calls of `kfadapter.v1.ExperimentService`."""

    def __init__(self, experiments: ExperimentRepository, default_namespace: str = "") -> None:
        self._experiments = experiments
        self._namespace = default_namespace

    def Create(self, request: pb.CreateExperimentRequest, context: grpc.ServicerContext) -> pb.Experiment:
        """Makes an experiment."""
        wanted = requests.create(request, self._namespace)
        return message(self._experiments.create(wanted, current_call(context)), pb.Experiment)

    def Get(self, request: pb.GetExperimentRequest, context: grpc.ServicerContext) -> pb.Experiment:
        """Gets one experiment by id or by name."""
        ref = requests.experiment_ref(request, self._namespace)
        return message(self._experiments.get(ref, current_call(context)), pb.Experiment)

    def List(self, request: pb.ListExperimentsRequest, context: grpc.ServicerContext) -> pb.ListExperimentsResponse:
        """Lists experiments."""
        where = requests.experiment_filter(request, self._namespace)
        wanted = pages.page(request, "name", "experiment_id")
        found = self._experiments.list(where, wanted, current_call(context))
        return page(found, pb.ListExperimentsResponse, pages.next_page_token(found.next_token, request))

    def Archive(self, request: pb.ArchiveExperimentRequest, context: grpc.ServicerContext) -> pb.Experiment:
        """Puts an experiment away."""
        experiment_id = requests.experiment_id(request)
        return message(self._experiments.archive(experiment_id, current_call(context)), pb.Experiment)

    def Unarchive(self, request: pb.UnarchiveExperimentRequest, context: grpc.ServicerContext) -> pb.Experiment:
        """Takes an experiment back from the archive."""
        experiment_id = requests.experiment_id(request)
        return message(self._experiments.unarchive(experiment_id, current_call(context)), pb.Experiment)

    def Delete(self, request: pb.DeleteExperimentRequest, context: grpc.ServicerContext) -> pb.DeleteExperimentResponse:
        """Deletes an experiment."""
        experiment_id = requests.experiment_id(request)
        call = current_call(context)
        deleted = self._experiments.delete(experiment_id, call, allow_missing=request.allow_missing)
        return pb.DeleteExperimentResponse(experiment_id=experiment_id if deleted else "")
