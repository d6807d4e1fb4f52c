"""PipelineService over a real connection, in front of an embedded KFP: common mistakes, and the errors for them."""

from __future__ import annotations

import threading
import time
import uuid
from typing import TYPE_CHECKING, TypeAlias

import grpc
import pytest
from tests.connecting import connect
from tests.scripted_kfp import ScriptedKfp, answers, stalls
from tests.transcripts import PIPELINES

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.client import Client
from kfadapter_grpc.client.errors import error_from_rpc
from kfadapter_grpc.contract import errors
from kfadapter_grpc.services.pipelines import PipelineServicer
from kfadapter_grpc.upload.limits import UploadLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.contract.conftest import Serve
    from tests.contract.running import Running

    from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub

_ListRequest: TypeAlias = pb.ListPipelinesRequest | pb.ListPipelineVersionsRequest

HELLO = (PIPELINES / "hello_world.yaml").read_bytes()
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def adapter(serve: Serve, embedded_url: str, tmp_path: Path) -> Iterator[Running]:
    """An adapter in front of the embedded KFP, which spools into an empty folder."""
    backend = connect(embedded_url)
    servicer = PipelineServicer(backend.pipelines, UploadLimits(directory=tmp_path))
    yield serve(servicer, backend.is_alive)
    backend.close()


@pytest.fixture
def stub(adapter: Running) -> PipelineServiceStub:
    """Its stub."""
    return adapter.stub


@pytest.fixture
def name() -> str:
    """A pipeline's name that no other test uses."""
    return f"pipeline-{uuid.uuid4().hex[:12]}"


def metadata(name: str, **fields: object) -> pb.UploadPipelineRequest:
    """The first message of an upload."""
    return pb.UploadPipelineRequest(metadata=pb.UploadPipelineMetadata(name=name, **fields))  # type: ignore[arg-type]


def chunk(data: bytes) -> pb.UploadPipelineRequest:
    """A further message of an upload."""
    return pb.UploadPipelineRequest(chunk=data)


def upload(stub: PipelineServiceStub, name: str, data: bytes = HELLO, **fields: object) -> pb.UploadPipelineResponse:
    """Uploads some bytes in two chunks."""
    messages = [metadata(name, **fields), chunk(data[:1000]), chunk(data[1000:])]
    return stub.Upload(iter(messages), timeout=60)


def _list(stub: PipelineServiceStub, request: _ListRequest) -> object:
    return stub.List(request) if isinstance(request, pb.ListPipelinesRequest) else stub.ListVersions(request)


def failure(attempt: Callable[[], object]) -> errors.AdapterError:
    """Makes a call that must fail, and reads its error."""
    with pytest.raises(grpc.RpcError) as caught:
        attempt()
    error = error_from_rpc(caught.value, target="", request_id="")
    assert error.request_id
    assert error.code is caught.value.code()
    return error


def fields(error: errors.AdapterError) -> list[str]:
    """The fields that an error names."""
    return [violation.field for violation in error.violations]


@pytest.mark.parametrize(
    "messages",
    [
        [metadata("x"), chunk(HELLO), metadata("x")],
        [metadata("x", sha256="0" * 64), chunk(HELLO)],
        [metadata("x"), chunk(b"\x89PNG\r\n\x1a\n" + bytes(1 << 20))],
    ],
)
def test_a_refused_upload_leaves_no_file(
    stub: PipelineServiceStub, tmp_path: Path, messages: list[pb.UploadPipelineRequest]
) -> None:
    """A rejected upload leaves no file on the adapter's disk."""
    failure(lambda: stub.Upload(iter(messages), timeout=30))
    assert list(tmp_path.iterdir()) == []


def test_a_deadline_of_a_millisecond(serve: Serve) -> None:
    """DEADLINE_EXCEEDED, and the server continues."""
    with ScriptedKfp() as kfp:
        kfp.on("GET", "", stalls())
        backend = connect(kfp.url)
        stub = serve(PipelineServicer(backend.pipelines, UploadLimits())).stub
        with pytest.raises(grpc.RpcError) as caught:
            stub.Get(pb.GetPipelineRequest(name="x"), timeout=0.001)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        kfp.first("GET", "", answers(503))
        assert failure(lambda: stub.Get(pb.GetPipelineRequest(name="x"))).reason == "KFP_UNAVAILABLE"
        backend.close()


def test_a_client_that_disconnects_in_the_middle(adapter: Running, tmp_path: Path, name: str) -> None:
    """Its call ends, its file is removed, and no pipeline is created."""
    started = time.monotonic()

    def messages() -> Iterator[pb.UploadPipelineRequest]:
        yield metadata(name)
        yield chunk(HELLO[:1000])
        while adapter.server.admission.count() == 0 and time.monotonic() < started + 10:
            time.sleep(0.01)
        called.wait(10)
        future.cancel()

    called = threading.Event()
    future = adapter.stub.Upload.future(messages())
    called.set()
    with pytest.raises(grpc.FutureCancelledError):
        future.result(timeout=20)
    assert adapter.server.admission.wait_idle(10)
    assert list(tmp_path.iterdir()) == []
    assert failure(lambda: adapter.stub.Get(pb.GetPipelineRequest(name=name))).reason == "PIPELINE_NOT_FOUND"


def test_an_unreachable_kfp_is_not_called_repeatedly(serve: Serve) -> None:
    """The adapter has retried the read already, so its error stops the client's retry policy."""
    with ScriptedKfp() as kfp:
        kfp.on("GET", "", answers(503))
        backend = connect(kfp.url)
        running = serve(PipelineServicer(backend.pipelines, UploadLimits()))
        with Client(running.server.address) as client, pytest.raises(errors.KfpUnavailableError):
            client.pipelines.get("x")
        assert len(kfp.requests) == 3
        backend.close()
