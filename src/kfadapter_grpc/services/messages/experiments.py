"""Makes messages of experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter.v1 import common_pb2
from kfadapter.v1 import experiment_pb2 as pb
from kfadapter_grpc.domain.models import StorageState
from kfadapter_grpc.services.messages.sizes import shortened
from kfadapter_grpc.services.messages.values import timestamp

if TYPE_CHECKING:
    from kfadapter_grpc.domain.experiments import Experiment
    from kfadapter_grpc.domain.models import Page

STORAGE_STATES = {
    StorageState.UNKNOWN: common_pb2.STORAGE_STATE_UNSPECIFIED,
    StorageState.AVAILABLE: common_pb2.STORAGE_STATE_AVAILABLE,
    StorageState.ARCHIVED: common_pb2.STORAGE_STATE_ARCHIVED,
}
"""Whether something is put away, on the wire."""


def experiment(item: Experiment) -> pb.Experiment:
    """An experiment."""
    message = pb.Experiment(
        experiment_id=item.experiment_id,
        name=item.name,
        description=item.description,
        created_at=timestamp(item.created_at),
        last_run_created_at=timestamp(item.last_run_created_at),
        storage_state=STORAGE_STATES[item.storage_state],
        namespace=item.namespace,
    )
    shortened(message)
    return message


def experiments_page(page: Page[Experiment], next_page_token: str) -> pb.ListExperimentsResponse:
    """A page of experiments."""
    return pb.ListExperimentsResponse(
        experiments=map(experiment, page.items), next_page_token=next_page_token, total_size=page.total_size
    )


def delete_response(experiment_id: str, *, deleted: bool) -> pb.DeleteExperimentResponse:
    """What a deletion removed."""
    return pb.DeleteExperimentResponse(experiment_id=experiment_id if deleted else "")
