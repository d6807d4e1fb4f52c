"""Reads what a request about runs names: a pipeline, its version, an experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kfadapter.v1 import recurring_run_pb2, run_pb2
from kfadapter_grpc.contract.experiments import MAX_EXPERIMENT_NAME, ExperimentRef
from kfadapter_grpc.contract.pipelines import MAX_PIPELINE_NAME, MAX_VERSION_NAME, PipelineRef, VersionRef

if TYPE_CHECKING:
    from kfadapter_grpc.services.requests.checks import Checks

CreatesRuns: TypeAlias = run_pb2.CreateRunRequest | recurring_run_pb2.CreateRecurringRunRequest
"""A request that names a pipeline, and may name a version of it and an experiment."""
NamesExperiment: TypeAlias = CreatesRuns | run_pb2.RunFilter | recurring_run_pb2.ListRecurringRunsRequest
"""A message that may name an experiment."""


def pipeline_ref(checks: Checks, request: CreatesRuns, namespace: str) -> PipelineRef:
    """Reads which pipeline is meant, in `namespace`."""
    if request.pipeline_id:
        checks.id("pipeline_id", request.pipeline_id)
    elif request.pipeline_name:
        checks.text("pipeline_name", request.pipeline_name, MAX_PIPELINE_NAME)
    else:
        checks.add("pipeline", "set pipeline_id or pipeline_name, not empty, to say which pipeline")
    return PipelineRef(request.pipeline_id, request.pipeline_name, namespace)


def version_ref(checks: Checks, request: CreatesRuns) -> VersionRef:
    """Reads which version is meant; with none named, the latest."""
    if request.pipeline_version_id:
        checks.id("pipeline_version_id", request.pipeline_version_id)
    elif request.version_name:
        checks.text("version_name", request.version_name, MAX_VERSION_NAME)
    elif request.WhichOneof("version"):
        checks.add("version", "set pipeline_version_id or version_name, not empty, or leave both out")
    return VersionRef(request.pipeline_version_id, request.version_name)


def try_experiment_ref(
    checks: Checks, message: NamesExperiment, namespace: str, prefix: str = ""
) -> ExperimentRef | None:
    """Reads which experiment is meant, in `namespace`; None where none is named. `prefix` stands before the fields."""
    if message.experiment_id:
        checks.id(f"{prefix}experiment_id", message.experiment_id)
    elif message.experiment_name:
        checks.text(f"{prefix}experiment_name", message.experiment_name, MAX_EXPERIMENT_NAME)
    elif message.WhichOneof("experiment"):
        checks.add(f"{prefix}experiment", "set experiment_id or experiment_name, not empty, or leave both out")
    else:
        return None
    return ExperimentRef(message.experiment_id, message.experiment_name, namespace)
