from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NoReturn, cast

import grpc
import grpc_testing
import pytest
from structlog.testing import capture_logs
from tests.contract.running import WAIT_SECONDS, Gate, Scripted, eventually, failure

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc import methods
from kfadapter_grpc.contract.errors import KfpTimeoutError, OverloadedError, PipelineNotFoundError
from kfadapter_grpc.interceptors.calls import REQUEST_ID_KEY, caller_seconds, current_call
from kfadapter_grpc.methods import READ_SECONDS, VERSION_KEY
from kfadapter_grpc.services.pipelines import PipelineServicer
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.version import installed_version

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from tests.contract.conftest import Serve

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.pipelines import PipelineFile
    from kfadapter_grpc.kfp.pipelines import Pipelines

GET = pb.GetPipelineRequest(name="hello")


def seeing(calls: list[Call]) -> Scripted:
    """Makes a servicer whose Get records its call."""

    def get(context: grpc.ServicerContext) -> pb.Pipeline:
        calls.append(current_call(context))
        return pb.Pipeline()

    return Scripted(get=get)


@pytest.mark.parametrize("sent", ["a", "Build.7_of:main-1", "x" * 128])
def test_request_id_of_the_caller(serve: Serve, sent: str) -> None:
    """A request id sent by the caller identifies the call, and is returned."""
    calls: list[Call] = []
    _, call = serve(seeing(calls)).stub.Get.with_call(GET, metadata=((REQUEST_ID_KEY, sent),))
    assert dict(call.trailing_metadata() or ())[REQUEST_ID_KEY] == sent == calls[0].request_id


@pytest.mark.parametrize("sent", ["", "x" * 129, "two words", "a/b", "a;b"])
def test_bad_request_id_is_replaced(serve: Serve, sent: str) -> None:
    """An invalid request id is replaced by a new one."""
    calls: list[Call] = []
    _, call = serve(seeing(calls)).stub.Get.with_call(GET, metadata=((REQUEST_ID_KEY, sent),))
    told_id = dict(call.trailing_metadata() or ())[REQUEST_ID_KEY]
    assert told_id == calls[0].request_id != sent
    assert len(told_id) == 32


def test_only_responses_have_the_version(serve: Serve) -> None:
    """Trailers include the adapter's version if the call succeeds, and omit it if the call is rejected."""
    running = serve(seeing([]))
    _, call = running.stub.Get.with_call(GET)
    assert dict(call.trailing_metadata() or ())[VERSION_KEY] == installed_version()
    with pytest.raises(grpc.RpcError) as caught:
        running.stub.List(pb.ListPipelinesRequest())
    assert isinstance(caught.value, grpc.Call)
    trailers = dict(caught.value.trailing_metadata() or ())
    assert VERSION_KEY not in trailers
    assert REQUEST_ID_KEY in trailers


def test_request_ids_differ(serve: Serve) -> None:
    """Every call without a request id gets one of its own."""
    calls: list[Call] = []
    stub = serve(seeing(calls)).stub
    for _ in range(20):
        stub.Get(GET)
    assert len({call.request_id for call in calls}) == 20


def test_request_id_of_a_failure(serve: Serve) -> None:
    """A failed call returns its request id in the trailers and in the details."""

    def get(_: grpc.ServicerContext) -> pb.Pipeline:
        raise PipelineNotFoundError("no such pipeline", resource_name="hello")

    stub = serve(Scripted(get=get)).stub
    it = failure(lambda: stub.Get(GET, metadata=((REQUEST_ID_KEY, "mine"),)))
    assert (it.trailers[REQUEST_ID_KEY], it.request_id) == ("mine", "mine")


def test_default_deadline(serve: Serve) -> None:
    """A call without a deadline has that of its method."""
    calls: list[Call] = []
    serve(seeing(calls)).stub.Get(GET)
    assert READ_SECONDS - 5 < calls[0].remaining() <= READ_SECONDS


def test_deadline_of_the_caller(serve: Serve) -> None:
    """A caller's own deadline takes precedence over the default, and can be distinguished from it."""
    seen: list[tuple[float | None, float]] = []

    def get(context: grpc.ServicerContext) -> pb.Pipeline:
        seen.append((caller_seconds(context), current_call(context).remaining()))
        return pb.Pipeline()

    stub = serve(Scripted(get=get)).stub
    stub.Get(GET, timeout=500)
    stub.Get(GET)
    (own, remaining), (none, _) = seen
    assert own is not None
    assert 490 < own <= 502  # on the wire a timeout is rounded up, to three digits
    assert abs(own - remaining) < 1
    assert none is None


def test_deadline_of_a_millisecond(serve: Serve) -> None:
    """A call with a deadline of 1 ms finishes in time, and the server continues."""
    gate = Gate()

    def get(context: grpc.ServicerContext) -> pb.Pipeline:
        gate.hold(context)
        return pb.Pipeline()

    running = serve(Scripted(get=get))
    with pytest.raises(grpc.RpcError) as caught:
        running.stub.Get(GET, timeout=0.001)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: running.server.admission.count() == 0)
    gate.opened.set()
    assert running.stub.Get(GET) == pb.Pipeline()


@pytest.mark.slow
def test_deadline_reached_in_the_server_is_logged(serve: Serve) -> None:
    """A unary call that exceeds its caller's deadline is logged with DEADLINE_EXCEEDED."""

    def get(context: grpc.ServicerContext) -> pb.Pipeline:
        Gate().hold(context)
        return pb.Pipeline()

    def try_calls() -> list[MutableMapping[str, Any]]:
        # A call that is delayed on its way never reaches the server, and is not logged there.
        with pytest.raises(grpc.RpcError):
            stub.Get(GET, timeout=1)
        return [line for line in lines if line["event"] == "call"]

    with capture_logs() as lines:
        stub = serve(Scripted(get=get)).stub
        line = eventually(try_calls)[0]
    assert line["code"] == "DEADLINE_EXCEEDED"


def test_cancelled_call_is_reported(serve: Serve) -> None:
    """The servicer is notified when the client cancels the call."""
    working, cancelled = threading.Event(), threading.Event()

    def get(context: grpc.ServicerContext) -> pb.Pipeline:
        call = current_call(context)
        call.on_cancel(cancelled.set)
        working.set()
        assert cancelled.wait(WAIT_SECONDS)
        assert call.cancelled
        return pb.Pipeline()

    with capture_logs() as lines:
        future = serve(Scripted(get=get)).stub.Get.future(GET)
        assert working.wait(WAIT_SECONDS)
        future.cancel()
        line = eventually(lambda: [line for line in lines if line["event"] == "call"])[0]
    assert (line["code"], line["log_level"]) == ("CANCELLED", "info")


@pytest.mark.parametrize("announces", [True, False])
@pytest.mark.parametrize("attempt", range(10))
def test_upload_cancelled_before_its_end(serve: Serve, attempt: int, announces: bool) -> None:
    """If the client cancels before it has sent everything, no version is stored, even if the size was announced."""
    del attempt
    stored: list[bytes] = []
    ended, sent = threading.Event(), threading.Event()
    first = pb.UploadPipelineMetadata(name="x", total_bytes=len(b"a: 1\nb: 2\n") if announces else None)

    class Repository:
        """Records what it receives."""

        def upload(self, _request: object, file: PipelineFile, _call: Call) -> NoReturn:
            """Records the bytes."""
            stored.append(file.stream.read())
            raise OverloadedError("not today")

    def half() -> Iterator[pb.UploadPipelineRequest]:
        yield pb.UploadPipelineRequest(metadata=first)
        yield pb.UploadPipelineRequest(chunk=b"a: 1\n")
        sent.set()
        ended.wait(WAIT_SECONDS)

    with capture_logs() as lines:
        future = serve(PipelineServicer(cast("Pipelines", Repository()), UploadLimits())).stub.Upload.future(half())
        assert sent.wait(WAIT_SECONDS)
        future.cancel()
        line = eventually(lambda: [line for line in lines if line["event"] == "call"])[0]
    ended.set()
    assert stored == []
    assert line["code"] in {"CANCELLED", "INVALID_ARGUMENT"}  # the latter if gRPC ends the stream first


def test_stalled_upload_ends(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload without a deadline that sends nothing ends with its default deadline."""
    monkeypatch.setattr(methods, "UPLOAD_SECONDS", 0.2)
    ended = threading.Event()

    def nothing() -> Iterator[pb.UploadPipelineRequest]:
        ended.wait(WAIT_SECONDS)
        yield from ()

    running = serve(Scripted())
    with capture_logs() as lines:
        future = running.stub.Upload.future(nothing())
        assert isinstance(future.exception(timeout=WAIT_SECONDS), grpc.RpcError)
        line = eventually(lambda: [line for line in lines if line["event"] == "call"])[0]
    ended.set()
    assert (line["code"], line["reason"]) == ("DEADLINE_EXCEEDED", "KFP_TIMEOUT")
    assert future.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "did not arrive in time" in str(future.details())
    assert running.server.admission.count() == 0


@pytest.mark.slow
def test_extended_upload_continues(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload whose deadline was extended outlives the default one."""
    monkeypatch.setattr(methods, "UPLOAD_SECONDS", 2.0)

    def upload(_: Iterator[pb.UploadPipelineRequest], context: grpc.ServicerContext) -> pb.UploadPipelineResponse:
        call = current_call(context)
        call.extend(WAIT_SECONDS)
        cancelled = threading.Event()
        call.on_cancel(cancelled.set)
        assert not cancelled.wait(2.5)
        return pb.UploadPipelineResponse(bytes=1)

    assert serve(Scripted(upload=upload)).stub.Upload(iter(())).bytes == 1


def refuse(request: pb.UploadPipelineRequest) -> NoReturn:
    """Fails a call while the client has more to send."""
    raise OverloadedError(f"not today: {request}")


def test_no_thread_is_left(serve: Serve) -> None:
    """The threads that read or watch a stream end with it."""
    stub = serve(Scripted()).stub
    stub.Upload(iter(()))
    refusing = serve(Scripted(upload=lambda requests, _: refuse(next(requests)))).stub
    with pytest.raises(grpc.RpcError):
        refusing.Upload(iter([pb.UploadPipelineRequest()] * 3))
    list(stub.Download(pb.DownloadPipelineRequest(name="x")))
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name in {"deadline", "requests"}])


def test_log_line_of_a_success(serve: Serve) -> None:
    """A call leaves one log line with what an operator needs."""
    with capture_logs() as lines:
        serve(Scripted()).stub.Get(GET, metadata=((REQUEST_ID_KEY, "mine"),))
    (line,) = [line for line in lines if line["event"] == "call"]
    seconds, peer, kfp_seconds = line.pop("seconds"), line.pop("peer"), line.pop("kfp_seconds")
    assert line == {
        "event": "call",
        "log_level": "info",
        "request_id": "mine",
        "method": "/kfadapter.v1.PipelineService/Get",
        "code": "OK",
        "kfp_requests": 0,
    }
    assert kfp_seconds == 0
    assert 0 <= seconds < WAIT_SECONDS
    assert peer.startswith("ipv4:127.0.0.1:")


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (PipelineNotFoundError("x"), "info"),
        (KfpTimeoutError("x"), "warning"),
        (OverloadedError("x"), "warning"),
    ],
)
def test_log_level_of_a_failure(serve: Serve, error: Exception, level: str) -> None:
    """The caller's errors are logged as info, faults of the server as warnings."""

    def get(_: grpc.ServicerContext) -> pb.Pipeline:
        raise error

    with capture_logs() as lines:
        it = failure(lambda: serve(Scripted(get=get)).stub.Get(GET))
    (line,) = [line for line in lines if line["event"] == "call"]
    assert (line["log_level"], line["reason"], line["code"]) == (level, it.reason, it.code.name)


def test_call_without_an_interceptor() -> None:
    """Under grpcio-testing, where no interceptor runs, a servicer still finds a call."""
    calls: list[Call] = []
    service = pb.DESCRIPTOR.services_by_name["PipelineService"]
    clock = grpc_testing.strict_real_time()
    server = grpc_testing.server_from_dictionary({service: seeing(calls)}, clock)
    metadata = ((REQUEST_ID_KEY, "mine"),)
    rpc = server.invoke_unary_unary(service.methods_by_name["Get"], metadata, GET, 100)
    _, _, code, _ = rpc.termination()
    assert code == grpc.StatusCode.OK
    assert calls[0].request_id == "mine"
    assert 90 < calls[0].remaining() <= 100
