"""Asks an adapter whether it serves (grpc.health.v1)."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from kfadapter_grpc.client.connection import Connection

HEALTH_SECONDS = 3.0
"""How long a health check may take unless a timeout was set: who asks wants to know now."""


class HealthStatus(enum.Enum):
    """What an adapter says of its own health, or of one of its services'."""

    SERVING = "SERVING"
    """It takes calls."""
    NOT_SERVING = "NOT_SERVING"
    """It does not: it is shutting down, or what it needs is away."""


def check(connection: Connection, service: str) -> HealthStatus:
    """Asks for the health of `service`; empty means the server as a whole.

    Raises:
        CallFailedError: The adapter knows no such service (status NOT_FOUND), or answers no health checks.
        AdapterError: The call failed.
    """
    with connection.channel_to_any() as channel:
        rpc = health_pb2_grpc.HealthStub(channel).Check
        reply = connection.call(rpc, health_pb2.HealthCheckRequest(service=service), HEALTH_SECONDS)
    serving = reply.status == health_pb2.HealthCheckResponse.SERVING
    return HealthStatus.SERVING if serving else HealthStatus.NOT_SERVING
