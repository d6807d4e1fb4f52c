"""What applies to the whole server: health, reflection, every RPC with documented errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]
from tests.conformance.calling import CALL_SECONDS
from tests.contract.running import failure

from kfadapter_grpc.methods import METHODS

if TYPE_CHECKING:
    from tests.conformance.calling import Api

SERVICES = sorted({method.service for method in METHODS.values()})
TAKES_NOTHING = frozenset({"List", "ListMetrics", "WhoAmI"})
"""The methods for which an empty request is a good one."""


@pytest.mark.parametrize("service", ["", "kfp", *SERVICES])
def test_health(api: Api, service: str) -> None:
    """The server, each of its services, and the KFP behind it are SERVING."""
    request = health_pb2.HealthCheckRequest(service=service)
    answer = health_pb2_grpc.HealthStub(api.channel).Check(request, timeout=CALL_SECONDS)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection(api: Api) -> None:
    """All services are listed, so that grpcurl needs no proto files."""
    stub = reflection_pb2_grpc.ServerReflectionStub(api.channel)
    requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    (answer,) = stub.ServerReflectionInfo(requests, timeout=CALL_SECONDS)
    assert set(SERVICES) <= {one.name for one in answer.list_services_response.service}


@pytest.mark.parametrize("path", sorted(METHODS))
def test_an_empty_request(api: Api, path: str) -> None:
    """Every RPC is implemented; it answers an empty request, or reports what is wrong with it, with a request id."""
    method = METHODS[path]
    make: Any = api.channel
    if method.client_streaming:
        upload = make.stream_unary(path)
        reported = failure(lambda: upload(iter([]), timeout=CALL_SECONDS))
    elif method.server_streaming:
        stream = make.unary_stream(path)
        reported = failure(lambda: list(stream(b"", timeout=CALL_SECONDS)))
    elif method.name in TAKES_NOTHING:
        make.unary_unary(path)(b"", timeout=CALL_SECONDS)
        return
    else:
        unary = make.unary_unary(path)
        reported = failure(lambda: unary(b"", timeout=CALL_SECONDS))
    assert reported.code is grpc.StatusCode.INVALID_ARGUMENT
    assert reported.reason in {"INVALID_FIELD", "INVALID_UPLOAD"}
    assert reported.request_id
