"""One servicer for each service: message to record, one call into kfp/, record to message. No I/O, no KFP terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kfadapter.v1 import (
    artifact_pb2_grpc,
    experiment_pb2_grpc,
    identity_pb2_grpc,
    pipeline_pb2_grpc,
    recurring_run_pb2_grpc,
    run_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

Servicer: TypeAlias = (
    pipeline_pb2_grpc.PipelineServiceServicer
    | run_pb2_grpc.RunServiceServicer
    | artifact_pb2_grpc.ArtifactServiceServicer
    | experiment_pb2_grpc.ExperimentServiceServicer
    | recurring_run_pb2_grpc.RecurringRunServiceServicer
    | identity_pb2_grpc.IdentityServiceServicer
)
"""Serves the calls of one service."""

_ADD: dict[type[object], Callable[..., None]] = {
    pipeline_pb2_grpc.PipelineServiceServicer: pipeline_pb2_grpc.add_PipelineServiceServicer_to_server,
    run_pb2_grpc.RunServiceServicer: run_pb2_grpc.add_RunServiceServicer_to_server,
    artifact_pb2_grpc.ArtifactServiceServicer: artifact_pb2_grpc.add_ArtifactServiceServicer_to_server,
    experiment_pb2_grpc.ExperimentServiceServicer: experiment_pb2_grpc.add_ExperimentServiceServicer_to_server,
    recurring_run_pb2_grpc.RecurringRunServiceServicer: (
        recurring_run_pb2_grpc.add_RecurringRunServiceServicer_to_server
    ),
    identity_pb2_grpc.IdentityServiceServicer: identity_pb2_grpc.add_IdentityServiceServicer_to_server,
}


def add_servicer(servicer: Servicer, server: grpc.Server) -> None:
    next(add for kind, add in _ADD.items() if isinstance(servicer, kind))(servicer, server)
