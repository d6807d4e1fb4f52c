from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]
from tests.contract.running import WAIT_SECONDS, Running, Scripted, eventually

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.methods import SERVICES
from kfadapter_grpc.server.side_services import MAX_STREAMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.conftest import Serve

LIST = reflection_pb2.ServerReflectionRequest(list_services="")


def listed(running: Running) -> set[str]:
    """Lists the services by reflection."""
    stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    answer = next(stub.ServerReflectionInfo(iter([LIST]), timeout=WAIT_SECONDS))
    return {service.name for service in answer.list_services_response.service}


def test_reflection_lists_the_services(serve: Serve) -> None:
    """Reflection lists every service of the contract, and health."""
    assert {*SERVICES, "grpc.health.v1.Health"} <= listed(serve(Scripted()))


def test_reflection_can_be_switched_off(serve: Serve) -> None:
    """With reflection disabled, services cannot be listed."""
    with pytest.raises(grpc.RpcError) as caught:
        listed(serve(Scripted(), reflection=False))
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_held_streams_leave_threads_for_others(serve: Serve) -> None:
    """Open reflection streams block neither calls nor, after they have ended, further reflection."""
    running = serve(Scripted(), max_unary_calls=1, max_uploads=1, max_streams=1)
    leave = threading.Event()

    def questions() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield LIST
        leave.wait(WAIT_SECONDS)

    stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    held = [stub.ServerReflectionInfo(questions(), timeout=WAIT_SECONDS) for _ in range(MAX_STREAMS)]
    assert all(next(stream).HasField("list_services_response") for stream in held)
    with pytest.raises(grpc.RpcError) as caught:
        listed(running)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert running.stub.Get(pb.GetPipelineRequest(name="x"), timeout=WAIT_SECONDS).name == "x"
    leave.set()
    assert [list(stream) for stream in held] == [[]] * MAX_STREAMS
    assert eventually(lambda: listed(running))
