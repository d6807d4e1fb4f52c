"""Calls of ExperimentService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter.v1 import common_pb2, experiment_pb2
from kfadapter.v1.experiment_pb2_grpc import ExperimentServiceStub
from kfadapter_grpc.client.calls import Calls, at_most_one
from kfadapter_grpc.codec import to_page, to_record
from kfadapter_grpc.contract.experiments import Experiment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.contract.listing import Page


class ExperimentCalls(Calls):
    """Makes, finds, puts away and deletes experiments."""

    def create_experiment(self, name: str, *, description: str = "", allow_existing: bool = False) -> Experiment:
        """Makes an experiment.

        Args:
            name: Its name, 1 to 128 characters.
            description: What it is for, up to 255 bytes of UTF-8.
            allow_existing: Return the experiment of this name if there is one.

        Raises:
            ExperimentExistsError: The name is taken, and `allow_existing` is not set.
        """
        request = experiment_pb2.CreateExperimentRequest(
            name=name, description=description, allow_existing=allow_existing, namespace=self._namespace
        )
        return to_record(self._connection.unary(self._experiments.Create, request), Experiment)

    def get_experiment(self, name: str = "", *, experiment_id: str = "") -> Experiment:
        """Gets one experiment by name or by id.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
            AmbiguousNameError: Several experiments have this name; use an id.
        """
        request = experiment_pb2.GetExperimentRequest(
            **at_most_one("experiment", name=name, experiment_id=experiment_id), namespace=self._namespace
        )
        return to_record(self._connection.unary(self._experiments.Get, request), Experiment)

    def list_experiments(
        self, *, name_contains: str = "", archived: bool = False, order_by: str = "", page_size: int = 0
    ) -> Iterator[Experiment]:
        """Yields all experiments that match, asking for page after page as they are needed.

        Args:
            name_contains: Only experiments whose name holds this text; letter case counts.
            archived: Those that are put away, instead of those that are not.
            order_by: `created_at`, `name` or `experiment_id`, with ` desc` for the other direction.
            page_size: How many to ask for at a time; 0 leaves it to the adapter.
        """
        token = ""
        while True:
            page = self.list_experiments_page(
                name_contains=name_contains,
                archived=archived,
                order_by=order_by,
                page_size=page_size,
                page_token=token,
            )
            yield from page.items
            token = page.next_token
            if not token:
                return

    def list_experiments_page(
        self,
        *,
        name_contains: str = "",
        archived: bool = False,
        order_by: str = "",
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[Experiment]:
        """Gets one page of experiments; the arguments are those of `list_experiments`, the token the page before's."""
        request = experiment_pb2.ListExperimentsRequest(
            page_size=page_size,
            page_token=page_token,
            order_by=order_by,
            name_contains=name_contains,
            storage_state=common_pb2.STORAGE_STATE_ARCHIVED if archived else common_pb2.STORAGE_STATE_AVAILABLE,
            namespace=self._namespace,
        )
        return to_page(self._connection.unary(self._experiments.List, request), Experiment)

    def archive_experiment(self, experiment_id: str) -> Experiment:
        """Puts an experiment away, with its runs.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
        """
        request = experiment_pb2.ArchiveExperimentRequest(experiment_id=experiment_id)
        return to_record(self._connection.unary(self._experiments.Archive, request), Experiment)

    def unarchive_experiment(self, experiment_id: str) -> Experiment:
        """Takes an experiment back from the archive; its runs stay there.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
        """
        request = experiment_pb2.UnarchiveExperimentRequest(experiment_id=experiment_id)
        return to_record(self._connection.unary(self._experiments.Unarchive, request), Experiment)

    def delete_experiment(self, experiment_id: str, *, allow_missing: bool = False) -> bool:
        """Deletes an experiment; its runs stay, and belong to none.

        Args:
            experiment_id: Which.
            allow_missing: Succeed where there is no such experiment.

        Returns:
            Whether there was one.

        Raises:
            ExperimentNotFoundError: There is no such experiment, and `allow_missing` is not set.
        """
        request = experiment_pb2.DeleteExperimentRequest(experiment_id=experiment_id, allow_missing=allow_missing)
        return bool(self._connection.unary(self._experiments.Delete, request).experiment_id)

    @property
    def _experiments(self) -> ExperimentServiceStub:
        return self._connection.stub(ExperimentServiceStub)
