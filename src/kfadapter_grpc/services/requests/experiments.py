"""Reads requests about experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.contract.experiments import (
    MAX_COLUMN_BYTES,
    MAX_EXPERIMENT_NAME,
    CreateExperiment,
    ExperimentFilter,
    ExperimentRef,
)
from kfadapter_grpc.services.requests.checks import Checks

if TYPE_CHECKING:
    from kfadapter.v1 import experiment_pb2 as pb


def create(request: pb.CreateExperimentRequest, default_namespace: str) -> CreateExperiment:
    """Reads how an experiment is to be made.

    Raises:
        InvalidFieldError: Fields are wrong; all of them are named.
    """
    checks = Checks()
    if not request.name.strip():
        checks.add("name", "is empty; give the experiment a name")
    checks.text("name", request.name, MAX_EXPERIMENT_NAME)
    checks.bytes("description", request.description, MAX_COLUMN_BYTES)
    checks.namespace("namespace", request.namespace)
    checks.raise_any()
    return CreateExperiment(
        request.name, request.description, request.allow_existing, request.namespace or default_namespace
    )


def experiment_ref(request: pb.GetExperimentRequest, default_namespace: str) -> ExperimentRef:
    """Reads which experiment is meant.

    Raises:
        InvalidFieldError: None is named, or not in a way that can be right.
    """
    checks = Checks()
    if request.experiment_id:
        checks.id("experiment_id", request.experiment_id)
    elif request.name:
        checks.text("name", request.name, MAX_EXPERIMENT_NAME)
    else:
        checks.add("experiment", "set experiment_id or name, not empty, to say which experiment")
    checks.namespace("namespace", request.namespace)
    checks.raise_any()
    return ExperimentRef(request.experiment_id, request.name, request.namespace or default_namespace)


def experiment_id(
    request: pb.ArchiveExperimentRequest | pb.UnarchiveExperimentRequest | pb.DeleteExperimentRequest,
) -> str:
    """Reads the id of an experiment.

    Raises:
        InvalidFieldError: There is none, or it can be none.
    """
    checks = Checks()
    checks.id("experiment_id", request.experiment_id)
    checks.raise_any()
    return request.experiment_id


def experiment_filter(request: pb.ListExperimentsRequest, default_namespace: str) -> ExperimentFilter:
    """Reads which experiments are wanted.

    Raises:
        InvalidFieldError: A filter is wrong.
    """
    checks = Checks()
    checks.text("name_contains", request.name_contains, MAX_EXPERIMENT_NAME)
    checks.namespace("namespace", request.namespace)
    archived = checks.archived("storage_state", request.storage_state)
    checks.raise_any()
    return ExperimentFilter(request.name_contains, archived, request.namespace or default_namespace)
