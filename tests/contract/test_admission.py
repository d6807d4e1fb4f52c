from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.contract.conftest import OWN_CONNECTION
from tests.contract.running import WAIT_SECONDS, Gate, Reported, Running, Scripted, eventually, failure, reported

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter_grpc.methods import CallKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.conftest import Serve

BOUNDS = {CallKind.UNARY: "max_unary_calls", CallKind.UPLOAD: "max_uploads", CallKind.STREAM: "max_streams"}


def holding(gate: Gate) -> Scripted:
    """Makes a servicer that holds every call until the gate opens."""

    def get(context: grpc.ServicerContext) -> pb.Pipeline:
        gate.hold(context)
        return pb.Pipeline(name="done")

    def upload(_: Iterator[pb.UploadPipelineRequest], context: grpc.ServicerContext) -> pb.UploadPipelineResponse:
        gate.hold(context)
        return pb.UploadPipelineResponse(bytes=1)

    def download(context: grpc.ServicerContext) -> Iterator[pb.DownloadPipelineResponse]:
        gate.hold(context)
        yield pb.DownloadPipelineResponse(chunk=b"done")

    return Scripted(get, upload, download)


def call(running: Running, kind: CallKind) -> object:
    """Makes a call of a kind and waits until it has finished."""
    if kind is CallKind.UNARY:
        return running.stub.Get(pb.GetPipelineRequest(), timeout=WAIT_SECONDS)
    if kind is CallKind.UPLOAD:
        return running.stub.Upload(iter(()), timeout=WAIT_SECONDS)
    return list(running.stub.Download(pb.DownloadPipelineRequest(), timeout=WAIT_SECONDS))


@pytest.mark.parametrize("kind", BOUNDS)
def test_bound(serve: Serve, kind: CallKind) -> None:
    """Beyond the limit of its kind a call is rejected at once, with the name of the limit and when to retry."""
    gate = Gate()
    running = serve(holding(gate), lambda: True, **{BOUNDS[kind]: 2})
    with ThreadPoolExecutor(2) as callers:
        held = [callers.submit(call, running, kind) for _ in range(2)]
        gate.await_call()
        gate.await_call()
        it = failure(lambda: call(running, kind))
        gate.opened.set()
        assert all(one.result(WAIT_SECONDS) for one in held)
    assert (it.code, it.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert it.metadata == {"bound": BOUNDS[kind], "limit": "2"}
    assert it.retry_after
    assert BOUNDS[kind] in it.message
    assert call(running, kind)


@pytest.mark.parametrize("kind", BOUNDS)
def test_bounds_are_separate(serve: Serve, kind: CallKind) -> None:
    """Calls of one kind take no slot of another kind."""
    gate = Gate()
    running = serve(holding(gate), lambda: True, **dict.fromkeys(BOUNDS.values(), 1))
    with ThreadPoolExecutor(3) as callers:
        held = [callers.submit(call, running, each) for each in BOUNDS]
        for _ in held:
            gate.await_call()
        assert running.server.admission.inflight()[kind] == 1
        gate.opened.set()
        assert all(one.result(WAIT_SECONDS) for one in held)


@pytest.mark.parametrize("kind", BOUNDS)
def test_one_caller_leaves_places_to_others(serve: Serve, kind: CallKind) -> None:
    """The last quarter of the slots is denied to a caller that holds a quarter, and given to one other caller."""
    gate = Gate()
    running = serve(holding(gate), lambda: True, **{BOUNDS[kind]: 4})
    with (
        ThreadPoolExecutor(4) as callers,
        grpc.insecure_channel(running.server.address, OWN_CONNECTION) as channel,
        grpc.insecure_channel(running.server.address, OWN_CONNECTION) as third_channel,
    ):
        other = Running(running.server, channel, PipelineServiceStub(channel))
        third = Running(running.server, third_channel, PipelineServiceStub(third_channel))
        held = [callers.submit(call, running, kind) for _ in range(3)]
        for _ in held:
            gate.await_call()
        it = failure(lambda: call(running, kind))
        held.append(callers.submit(call, other, kind))
        gate.await_call()
        assert failure(lambda: call(third, kind)).reason == "OVERLOADED"
        gate.opened.set()
        assert all(one.result(WAIT_SECONDS) for one in held)
    assert (it.reason, it.metadata) == ("OVERLOADED", {"bound": BOUNDS[kind], "limit": "4"})
    assert it.retry_after
    assert "reserved for other callers" in it.message
    assert call(running, kind)


def test_failed_call_gives_back_its_place(serve: Serve) -> None:
    """A slot is free again after a call that failed."""

    def get(_: grpc.ServicerContext) -> pb.Pipeline:
        raise RuntimeError("a fault")

    running = serve(Scripted(get=get), max_unary_calls=1)
    reasons = [failure(lambda: running.stub.Get(pb.GetPipelineRequest())).reason for _ in range(3)]
    assert reasons == ["INTERNAL"] * 3
    assert running.server.admission.count() == 0


class Draining:
    """A drain that continues in a thread of its own."""

    def __init__(self, running: Running) -> None:
        self._result: list[bool] = []
        self._thread = threading.Thread(target=lambda: self._result.append(running.server.drain()))
        self._thread.start()

    def result(self) -> bool:
        """Waits until it has finished."""
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive()
        return self._result[0]


def refusal(running: Running) -> Reported:
    """Makes uploads until one is rejected."""

    def refused() -> Reported | None:
        try:
            call(running, CallKind.UPLOAD)
        except grpc.RpcError as error:
            return reported(error)
        return None

    answer = eventually(refused)
    assert answer is not None
    return answer


def test_drain(serve: Serve) -> None:
    """While the server drains, the in-flight call finishes and a new one is rejected with DRAINING."""
    gate = Gate()
    running = serve(Scripted(get=holding(gate)._get))
    with ThreadPoolExecutor(1) as callers:
        held = callers.submit(call, running, CallKind.UNARY)
        gate.await_call()
        draining = Draining(running)
        it = refusal(running)
        assert (it.code, it.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert it.retry_after
        gate.opened.set()
        assert held.result(WAIT_SECONDS) == pb.Pipeline(name="done")
        assert draining.result()


def test_end_of_the_grace(serve: Serve) -> None:
    """A call that does not finish within the grace period is cancelled by stop."""
    gate = Gate()
    running = serve(holding(gate), grace_seconds=0)
    with ThreadPoolExecutor(1) as callers:
        held = callers.submit(call, running, CallKind.UNARY)
        gate.await_call()
        assert not running.server.drain()
        running.server.stop()
        assert isinstance(held.exception(WAIT_SECONDS), grpc.RpcError)
    eventually(lambda: running.server.admission.count() == 0)


def test_stop_leaves_no_threads(serve: Serve) -> None:
    """A server that has stopped leaves no thread behind."""
    before = set(threading.enumerate())
    running = serve(Scripted())
    call(running, CallKind.UNARY)
    running.server.stop()
    running.channel.close()
    eventually(lambda: not [thread for thread in threading.enumerate() if thread not in before])
