"""Has a server answer with a servicer, whichever service it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kfadapter.v1 import experiment_pb2_grpc, pipeline_pb2_grpc, recurring_run_pb2_grpc, run_pb2_grpc

if TYPE_CHECKING:
    import grpc

Servicer: TypeAlias = (
    pipeline_pb2_grpc.PipelineServiceServicer
    | run_pb2_grpc.RunServiceServicer
    | experiment_pb2_grpc.ExperimentServiceServicer
    | recurring_run_pb2_grpc.RecurringRunServiceServicer
)
"""Answers the calls of one service."""


def add_servicer(servicer: Servicer, server: grpc.Server) -> None:
    """Has `server` answer the calls of the servicer's service with it."""
    match servicer:
        case pipeline_pb2_grpc.PipelineServiceServicer():
            pipeline_pb2_grpc.add_PipelineServiceServicer_to_server(servicer, server)
        case run_pb2_grpc.RunServiceServicer():
            run_pb2_grpc.add_RunServiceServicer_to_server(servicer, server)
        case experiment_pb2_grpc.ExperimentServiceServicer():
            experiment_pb2_grpc.add_ExperimentServiceServicer_to_server(servicer, server)
        case recurring_run_pb2_grpc.RecurringRunServiceServicer():
            recurring_run_pb2_grpc.add_RecurringRunServiceServicer_to_server(servicer, server)
