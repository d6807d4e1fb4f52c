from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.contract.running import WAIT_SECONDS, Gate, Scripted, eventually

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.client import Client, HealthStatus
from kfadapter_grpc.client.errors import CannotConnectError

if TYPE_CHECKING:
    import grpc
    from tests.contract.conftest import Serve


def named(name: str) -> Scripted:
    """Makes a servicer that returns its own name."""
    return Scripted(get=lambda _: pb.Pipeline(name=name))


def names(client: Client, calls: int = 20) -> set[str]:
    """Makes calls, and returns the names of the servers that responded."""
    return {client.pipelines.get("x").name for _ in range(calls)}


def test_adapters_behind_one_name_take_turns(serve: Serve) -> None:
    """The client library calls every adapter behind the name that it was given."""
    one, other = serve(named("one")), serve(named("other"))
    with Client(f"ipv4:{one.server.address},{other.server.address}") as client:
        eventually(lambda: names(client) == {"one", "other"})


def test_an_adapter_that_drains_is_left_alone(serve: Serve) -> None:
    """While one adapter drains with a call in flight, the client library calls the other one, and no call fails."""
    gate = Gate()

    def upload(_: object, context: grpc.ServicerContext) -> pb.UploadPipelineResponse:
        gate.hold(context)
        return pb.UploadPipelineResponse(bytes=1)

    leaving = serve(Scripted(get=lambda _: pb.Pipeline(name="leaving"), upload=upload), drain_seconds=600)
    staying = serve(named("staying"))
    with (
        Client(f"ipv4:{leaving.server.address},{staying.server.address}") as client,
        ThreadPoolExecutor(2) as threads,
    ):
        held = threads.submit(leaving.stub.Upload, iter(()), timeout=WAIT_SECONDS)
        gate.await_call()
        eventually(lambda: names(client) == {"leaving", "staying"})
        draining = threads.submit(leaving.server.drain)
        eventually(lambda: names(client) == {"staying"})
        gate.opened.set()
        assert held.result(WAIT_SECONDS).bytes == 1
        leaving.server.stop()
        assert draining.result(WAIT_SECONDS)


@pytest.mark.slow
def test_an_adapter_that_does_not_serve_is_named(serve: Serve) -> None:
    """If no adapter is serving, a call reports that; their health can still be checked."""
    running = serve(named("x"), lambda: False, ready_needs_kfp=True)
    with Client(running.server.address) as client:
        assert client.health() is HealthStatus.NOT_SERVING
        with pytest.raises(CannotConnectError, match="reports NOT_SERVING"):
            client.pipelines.get("x")
