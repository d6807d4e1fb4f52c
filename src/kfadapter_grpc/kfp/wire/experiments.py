"""Experiments in KFP's JSON."""

from __future__ import annotations

from datetime import datetime

import msgspec

from kfadapter_grpc.contract.experiments import Experiment
from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.kfp.decoding import known_time


class ExperimentJson(msgspec.Struct):
    """An experiment; its display name is the unique one."""

    experiment_id: str
    display_name: str = ""
    description: str = ""
    created_at: datetime | None = None
    last_run_created_at: datetime | None = None
    storage_state: str = ""
    namespace: str = ""

    def to_domain(self) -> Experiment:
        """As the rest of the program knows it."""
        return Experiment(
            experiment_id=self.experiment_id,
            name=self.display_name,
            description=self.description,
            created_at=known_time(self.created_at),
            last_run_created_at=known_time(self.last_run_created_at),
            storage_state=storage_state(self.storage_state),
            namespace=self.namespace,
        )


class ExperimentListJson(msgspec.Struct):
    """A list of experiments; an empty one is `{}`."""

    experiments: list[ExperimentJson] = []
    total_size: int = 0
    next_page_token: str = ""


def storage_state(text: str) -> StorageState:
    """Reads whether something is put away."""
    try:
        return StorageState(text)
    except ValueError:
        return StorageState.UNKNOWN
