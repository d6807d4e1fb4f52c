"""Messages of experiments to domain models and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter.v1 import common_pb2
from kfadapter_grpc.client.messages import moment
from kfadapter_grpc.domain.experiments import Experiment
from kfadapter_grpc.domain.models import Page, StorageState

if TYPE_CHECKING:
    from kfadapter.v1 import experiment_pb2

STORAGE_STATES = {
    common_pb2.STORAGE_STATE_AVAILABLE: StorageState.AVAILABLE,
    common_pb2.STORAGE_STATE_ARCHIVED: StorageState.ARCHIVED,
}
"""Whether something is put away, by its value on the wire."""


def experiment(message: experiment_pb2.Experiment) -> Experiment:
    """Reads an experiment."""
    return Experiment(
        experiment_id=message.experiment_id,
        name=message.name,
        description=message.description,
        created_at=moment(message, "created_at"),
        last_run_created_at=moment(message, "last_run_created_at"),
        storage_state=STORAGE_STATES.get(message.storage_state, StorageState.UNKNOWN),
        namespace=message.namespace,
    )


def experiment_page(message: experiment_pb2.ListExperimentsResponse) -> Page[Experiment]:
    """Reads a page of experiments."""
    total = message.total_size if message.HasField("total_size") else None
    return Page(tuple(experiment(item) for item in message.experiments), message.next_page_token, total)
