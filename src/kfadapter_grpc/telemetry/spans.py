"""The spans of what the adapter sends for a call: to KFP, to ML Metadata, to an object store.

Callers get spans from here. Nothing of OpenTelemetry is imported unless the call is traced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.telemetry.traces import SentSpan, Trace


def sent_span(call: Call, name: str, attributes: Mapping[str, str | int]) -> SentSpan | None:
    """Begins the span of a request that is sent for a call; None if the call is not traced."""
    return None if call.trace is None else cast("Trace", call.trace).sent(name, attributes)


def rpc_attributes(method: str) -> dict[str, str | int]:
    """The attributes of both ends of a gRPC call, by the method's name without a slash in front."""
    return {"rpc.system.name": "grpc", "rpc.method": method}
