"""Processes are killed during work: what was acknowledged is kept, nothing is left half-done, and work continues."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.e2e.conftest import PROGRAM, ROOT, SECONDS, serve
from tests.transcripts import PIPELINES

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter_embedded.process import start
from kfadapter_grpc.client import Client, KfpUnavailableError, PipelineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO = (PIPELINES / "hello_world.yaml").read_bytes()


@pytest.fixture
def name() -> str:
    """A unique name."""
    return f"killed-{uuid.uuid4().hex[:12]}"


@pytest.mark.slow
def test_kill_9_of_the_adapter_in_the_middle_of_an_upload(
    embedded_url: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gets UNAVAILABLE; no file and no pipeline are left; the next adapter accepts the upload."""
    monkeypatch.setenv("KFADAPTER_UPLOAD_DIR", str(tmp_path))
    half_sent, killed = threading.Event(), threading.Event()

    def messages() -> Iterator[pb.UploadPipelineRequest]:
        yield pb.UploadPipelineRequest(metadata=pb.UploadPipelineMetadata(name=name))
        yield pb.UploadPipelineRequest(chunk=b"#" * 2_000_000)
        half_sent.set()
        killed.wait(SECONDS)

    with serve(embedded_url) as adapter, grpc.insecure_channel(adapter.target) as channel:
        call = PipelineServiceStub(channel).Upload.future(messages(), timeout=SECONDS)
        assert half_sent.wait(SECONDS)
        os.kill(adapter.process.pid, signal.SIGKILL)
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        killed.set()
    assert list(tmp_path.iterdir()) == []
    with serve(embedded_url) as adapter, Client(adapter.target) as client:
        with pytest.raises(PipelineNotFoundError):
            client.pipelines.get(name)
        assert client.pipelines.upload(PIPELINES / "hello_world.yaml", name=name).pipeline_created
        client.pipelines.delete(name)


@pytest.mark.slow
def test_kfp_gone_and_back(tmp_path: Path, name: str) -> None:
    """While KFP is unreachable calls report that and the adapter runs on; once KFP is back with its data, they work."""
    with start(tmp_path) as kfp:
        url, port = kfp.url, int(kfp.url.rpartition(":")[2])
        with serve(url) as adapter, Client(adapter.target) as client:
            first = client.pipelines.upload(PIPELINES / "hello_world.yaml", name=name)
            os.kill(kfp.pid, signal.SIGKILL)
            kfp.stop()
            with pytest.raises(KfpUnavailableError):
                client.pipelines.get(name)
            with pytest.raises(KfpUnavailableError):
                client.pipelines.upload(PIPELINES / "sleeps.yaml", name=name)
            with start(tmp_path, port):
                assert client.pipelines.get(name).pipeline_id == first.pipeline.pipeline_id
                assert client.pipelines.upload(PIPELINES / "sleeps.yaml", name=name).version.name == "2"


def test_a_client_killed_in_the_middle(embedded_url: str, name: str) -> None:
    """A client killed while it uploads leaves nothing behind, and the adapter continues."""
    reading, writing = os.pipe()
    with serve(embedded_url) as adapter, Client(adapter.target) as client:
        command = [PROGRAM, "--target", adapter.target, "upload", "-", "--name", name]
        uploading = subprocess.Popen(command, stdin=reading, cwd=ROOT, stderr=subprocess.DEVNULL)
        os.close(reading)
        os.write(writing, HELLO[:1000])
        uploading.kill()
        uploading.wait(SECONDS)
        os.close(writing)
        with pytest.raises(PipelineNotFoundError):
            client.pipelines.get(name)
        assert len(list(Path(f"/proc/{adapter.process.pid}/fd").iterdir())) < 60
