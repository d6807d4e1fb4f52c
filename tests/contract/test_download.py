"""Download over the wire: info first, then the bytes; a client that disconnects or stalls leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import grpc
import pytest
import yaml
from tests.connecting import connect
from tests.contract.running import WAIT_SECONDS, eventually, failure, reported
from tests.repository.test_faults import ID, VERSION, VERSION_JSON
from tests.scripted_kfp import ScriptedKfp, answers, stalls

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc import methods
from kfadapter_grpc.contract.errors import InternalError
from kfadapter_grpc.contract.pipelines import PipelineDownload
from kfadapter_grpc.services import pipelines as pipeline_service
from kfadapter_grpc.services.pipelines import PipelineServicer
from kfadapter_grpc.upload.limits import UploadLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.conftest import Serve
    from tests.contract.running import Running

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.pipelines import PipelineRef, VersionRef
    from kfadapter_grpc.kfp.pipelines import Pipelines

REQUEST = pb.DownloadPipelineRequest(pipeline_id=ID, pipeline_version_id=VERSION)
GET = rf"/pipelines/{ID}/versions/{VERSION}$"
SPEC = {"pipelineInfo": {"name": "이름"}, "root": {"dag": {}}}
LARGE = {**SPEC, "text": ['한글\n"\\' * 1000] * 600}
DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture
def adapter(serve: Serve, kfp: ScriptedKfp, tmp_path: Path) -> Iterator[Running]:
    """An adapter in front of it, which spools into an empty folder."""
    limits = UploadLimits(directory=tmp_path, memory_bytes=0)
    backend = connect(kfp.url, place=limits.place)
    yield serve(PipelineServicer(backend.pipelines, limits))
    backend.close()


@dataclass
class FakeRepository:
    """Downloads that a test can inspect.

    Attributes:
        size: The announced number of bytes.
        breaks_at: The offset at which reading fails.
        taken: How many bytes have been read.
        closed: Set when the bytes are no longer needed.
    """

    size: int
    breaks_at: int | None = None
    taken: int = 0
    closed: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def download(self, ref: PipelineRef, version: VersionRef, call: Call) -> Iterator[PipelineDownload]:
        """Returns itself as the stream."""
        del ref, version, call
        try:
            yield PipelineDownload(self, self.size, b"\0" * 32)
        finally:
            self.closed.set()

    def read(self, size: int, /) -> bytes:
        """Reads zeros."""
        if self.breaks_at is not None and self.taken >= self.breaks_at:
            raise InternalError("the disk broke")
        piece = bytes(min(size, self.size - self.taken))
        self.taken += len(piece)
        return piece


def before(serve: Serve, repository: FakeRepository) -> Running:
    """An adapter whose downloads come from the test."""
    return serve(PipelineServicer(cast("Pipelines", repository), UploadLimits()))


def answer(spec: object) -> bytes:
    """KFP's response for a version."""
    return json.dumps({**VERSION_JSON, "pipeline_spec": spec}, ensure_ascii=False).encode()


@pytest.mark.parametrize("spec", [SPEC, LARGE], ids=["small", "large"])
def test_info_then_chunks(adapter: Running, kfp: ScriptedKfp, tmp_path: Path, spec: dict[str, object]) -> None:
    """The first message has the size and checksum of exactly the bytes in the others, none of which is too large."""
    kfp.on("GET", GET, answers(200, answer({"pipeline_spec": spec, "platform_spec": {"platforms": {}}})))
    first, *others = adapter.stub.Download(REQUEST, timeout=60)
    data = b"".join(message.chunk for message in others)
    assert first.info == pb.DownloadInfo(total_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    assert {message.WhichOneof("payload") for message in others} == {"chunk"}
    assert max(len(message.chunk) for message in others) <= 1 << 20
    assert list(yaml.load_all(data, yaml.CSafeLoader)) == [spec, {"platforms": {}}]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (pb.DownloadPipelineRequest(), ["pipeline"]),
        (pb.DownloadPipelineRequest(name=""), ["pipeline"]),
        (pb.DownloadPipelineRequest(pipeline_id="x"), ["pipeline_id"]),
        (pb.DownloadPipelineRequest(name="x", version_name=""), ["version"]),
        (pb.DownloadPipelineRequest(name="x", pipeline_version_id="2"), ["pipeline_version_id"]),
        (pb.DownloadPipelineRequest(name="x", namespace="!"), ["namespace"]),
    ],
)
def test_wrong_requests(
    adapter: Running, kfp: ScriptedKfp, request_: pb.DownloadPipelineRequest, fields: list[str]
) -> None:
    """An invalid request is rejected with the field's name, and KFP is not called."""
    error = failure(lambda: list(adapter.stub.Download(request_)))
    assert (error.reason, [name for name, _ in error.violations]) == ("INVALID_FIELD", fields)
    assert kfp.requests == []


def test_kfps_faults_come_before_any_message(adapter: Running, kfp: ScriptedKfp) -> None:
    """A truncated response is KFP_ERROR, and not even the info is sent."""
    kfp.on("GET", GET, answers(200, answer(LARGE)[:-5]))
    stream = adapter.stub.Download(REQUEST)
    error = failure(lambda: next(stream))
    assert error.reason == "KFP_ERROR"
    assert "not JSON" in error.message


def test_a_fault_on_the_way_ends_the_stream(serve: Serve) -> None:
    """If reading the disk fails in the middle, the stream ends with an error and not as if it were complete."""
    repository = FakeRepository(1 << 22, breaks_at=1 << 20)
    arrived: list[pb.DownloadPipelineResponse] = []
    with pytest.raises(grpc.RpcError) as caught:
        arrived.extend(before(serve, repository).stub.Download(REQUEST))
    assert reported(caught.value).reason == "INTERNAL"
    assert repository.closed.wait(WAIT_SECONDS)


@pytest.mark.slow
@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="needs /proc/self/fd")
def test_a_disconnect_leaves_nothing(adapter: Running, kfp: ScriptedKfp, tmp_path: Path) -> None:
    """Clients that cancel in the middle leave no open file, no file on the disk and no slot taken."""
    kfp.on("GET", GET, answers(200, answer(LARGE)))
    list(adapter.stub.Download(REQUEST))
    assert adapter.server.admission.wait_idle(WAIT_SECONDS)
    usual = len(list(DESCRIPTORS.iterdir()))
    for _ in range(5):
        stream = adapter.stub.Download(REQUEST)
        assert next(stream).info.total_bytes
        stream.cancel()
    assert adapter.server.admission.wait_idle(WAIT_SECONDS)
    eventually(lambda: len(list(DESCRIPTORS.iterdir())) <= usual)
    assert list(tmp_path.iterdir()) == []


def test_an_early_disconnect_ends_the_work(adapter: Running, kfp: ScriptedKfp, tmp_path: Path) -> None:
    """A client that disconnects while KFP is still responding frees the slot at once."""
    whole = answer(LARGE)
    kfp.on("GET", GET, stalls(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + whole))
    stream = adapter.stub.Download(REQUEST)
    eventually(lambda: kfp.requests)
    stream.cancel()
    assert adapter.server.admission.wait_idle(WAIT_SECONDS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_server_does_not_run_ahead(serve: Serve) -> None:
    """If the client does not read, the server prepares only what fits in flight; the call ends with the deadline."""
    repository = FakeRepository(1 << 40)
    stream = before(serve, repository).stub.Download(REQUEST, timeout=2)
    assert next(stream).info.total_bytes == 1 << 40
    assert repository.closed.wait(WAIT_SECONDS)
    assert 0 < repository.taken < 1 << 26


@pytest.mark.slow
def test_a_caller_without_deadline_gets_one(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sets no deadline and does not read does not hold the bytes forever."""
    monkeypatch.setattr(methods, "DOWNLOAD_SECONDS", 2.0)
    monkeypatch.setattr(pipeline_service, "download_seconds", lambda _size: 0.3)
    repository = FakeRepository(1 << 40)
    running = before(serve, repository)
    stream = running.stub.Download(REQUEST)
    assert repository.closed.wait(WAIT_SECONDS)
    assert 0 < repository.taken < repository.size
    stream.cancel()
    assert running.server.admission.wait_idle(WAIT_SECONDS)


def test_a_large_file_has_more_time_than_a_small_one() -> None:
    """The default deadline grows with the size, as an upload's does."""
    assert methods.download_seconds(30_000_000) == methods.download_seconds(0) + 60
    (download,) = [method for method in methods.METHODS.values() if method.name == "Download"]
    assert download.default_seconds == methods.DOWNLOAD_SECONDS > methods.READ_SECONDS
