"""Calls that a process makes of its own servicers: the same layers, answers and errors as over gRPC."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc
import pytest
from structlog.testing import capture_logs
from tests.contract.running import WAIT_SECONDS, Gate, Scripted, failure

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter_grpc.contract.errors import PipelineNotFoundError
from kfadapter_grpc.interceptors.in_process import Peer
from kfadapter_grpc.interceptors.request_id import _current

if TYPE_CHECKING:
    from tests.contract.conftest import Serve
    from tests.contract.running import Running

GET = pb.GetPipelineRequest(name="hello")
METADATA = (("x-request-id", "r-1"),)


def stub_of(running: Running, peer: str = "http:10.0.0.7") -> PipelineServiceStub:
    """Calls the server's own servicers in somebody's name."""
    return PipelineServiceStub(running.server._in_process.channel(Peer(peer)))


def test_answers_and_what_comes_beside_them(serve: Serve) -> None:
    """An answer comes with the trailers that it has over gRPC, and the call has its line in the log."""
    running = serve(Scripted())
    with capture_logs() as lines:
        answer, call = stub_of(running).Get.with_call(GET, metadata=METADATA, timeout=WAIT_SECONDS)
        _, over_grpc = running.stub.Get.with_call(GET, metadata=METADATA, timeout=WAIT_SECONDS)
    assert answer.name == "hello"
    assert dict(call.trailing_metadata() or ()) == dict(over_grpc.trailing_metadata() or ())
    assert (lines[0]["peer"], lines[0]["request_id"], lines[0]["code"]) == ("http:10.0.0.7", "r-1", "OK")


def test_errors(serve: Serve) -> None:
    """An error has the code, the words and all details that it has over gRPC."""

    def get(_: grpc.ServicerContext) -> pb.Pipeline:
        raise PipelineNotFoundError("there is none", metadata={"name": "x"}, resource_name="x")

    running = serve(Scripted(get=get))
    inside, outside = (
        failure(lambda stub=stub: stub.Get(GET, metadata=METADATA))  # type: ignore[misc]
        for stub in (stub_of(running), running.stub)
    )
    assert (inside.code, inside.reason, inside.metadata) == (outside.code, outside.reason, outside.metadata)
    assert (inside.message, inside.resource, inside.request_id) == (outside.message, outside.resource, "r-1")


def test_faults_tell_nothing(serve: Serve) -> None:
    """What is no error of the contract is INTERNAL, with the request id alone."""

    def get(_: grpc.ServicerContext) -> pb.Pipeline:
        raise RuntimeError("secret")

    told = failure(lambda: stub_of(serve(Scripted(get=get))).Get(GET, metadata=METADATA))
    assert (told.code, told.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "secret" not in told.message


def test_a_stream_of_requests(serve: Serve) -> None:
    """A stream is read to its end."""
    chunks = (pb.UploadPipelineRequest(chunk=b"abc") for _ in range(3))
    assert stub_of(serve(Scripted())).Upload(chunks).bytes == 9


def test_a_call_leaves_nothing_on_its_thread(serve: Serve) -> None:
    """What a call is known by while it is served is not known any more on the thread that made it."""
    stub_of(serve(Scripted())).Get(GET)
    assert _current.get(None) is None


def test_calls_are_cancelled_when_the_server_stops(serve: Serve) -> None:
    """A call that is running when the server stops is cancelled, as those over gRPC are."""
    gate = Gate()

    def get(context: grpc.ServicerContext) -> pb.Pipeline:
        gate.hold(context)
        return pb.Pipeline(name="late" if context.is_active() else "cancelled")

    running = serve(Scripted(get=get))
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(stub_of(running).Get(GET).name))
    thread.start()
    gate.await_call()
    running.server.stop()
    thread.join(WAIT_SECONDS)
    assert answers == ["cancelled"]


def test_a_method_without_stream_only(serve: Serve) -> None:
    """A stream of answers cannot be had in this way, and is refused."""
    with pytest.raises(grpc.RpcError):
        stub_of(serve(Scripted())).Download(pb.DownloadPipelineRequest(name="x"))
