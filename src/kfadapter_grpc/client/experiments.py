"""Experiments."""

from __future__ import annotations

from kfadapter_grpc.client.connection import Pages
from kfadapter_grpc.client.resource import Resource
from kfadapter_grpc.contract.experiments import (
    ArchiveExperimentRequest,
    CreateExperimentRequest,
    DeleteExperimentRequest,
    Experiment,
    ExperimentRef,
    GetExperimentRequest,
    ListExperimentsRequest,
    UnarchiveExperimentRequest,
)


class Experiments(Resource):
    """The calls of ExperimentService (docs/reference/api/experiment.md).

    Those for one experiment raise ExperimentNotFoundError if it does not exist.
    """

    def create(self, name: str, *, description: str = "", allow_existing: bool = False) -> Experiment:
        """Creates an experiment; with `allow_existing`, returns the one of this name if it exists.

        Raises:
            ExperimentExistsError: The name is in use, and `allow_existing` is not set.
        """
        return self._call(CreateExperimentRequest(name, description, allow_existing), Experiment)

    def get(self, name: str = "", *, experiment_id: str = "") -> Experiment:
        """Gets one experiment by name or by id.

        Raises:
            AmbiguousNameError: Several experiments have this name; use an id.
        """
        return self._call(GetExperimentRequest(ExperimentRef(experiment_id, name)), Experiment)

    def list(
        self, *, name_contains: str = "", archived: bool = False, order_by: str = "", page_size: int = 0
    ) -> Pages[Experiment]:
        """Yields all experiments that match, either unarchived or archived ones, requesting pages as they are needed.

        `name_contains` is case-sensitive. `order_by` is `created_at`, `name` or `experiment_id`, with ` desc` for
        descending order.
        """
        request = ListExperimentsRequest(name_contains, archived, page_size=page_size, order_by=order_by)
        return self._list(request, Experiment)

    def archive(self, experiment_id: str) -> Experiment:
        """Archives an experiment, with its runs."""
        return self._call(ArchiveExperimentRequest(experiment_id), Experiment)

    def unarchive(self, experiment_id: str) -> Experiment:
        """Unarchives an experiment; its runs stay archived."""
        return self._call(UnarchiveExperimentRequest(experiment_id), Experiment)

    def delete(self, experiment_id: str, *, allow_missing: bool = False) -> bool:
        """Deletes an experiment; with `allow_missing` it need not exist. Returns whether it existed.

        Its runs are kept, without an experiment.
        """
        return self._run(self._deleted(DeleteExperimentRequest(experiment_id, allow_missing), "experiment_id"))
