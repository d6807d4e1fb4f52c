from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.client import CannotConnectError, Client, IfExists
from kfadapter_grpc.client.upload import CHUNK_BYTES, UploadMessages
from kfadapter_grpc.contract.errors import (
    AdapterError,
    DrainingError,
    InvalidPipelineFileError,
    KfpTimeoutError,
    KfpUnavailableError,
)
from kfadapter_grpc.methods import upload_seconds

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.fake_adapter import FakeAdapter

BODY = b"pipeline: 1\n" * 60_000
"""Three chunks, the last one short."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of three chunks."""
    path = tmp_path / "train.yaml"
    path.write_bytes(BODY)
    return path


def uploads(fake: FakeAdapter) -> list[pb.UploadPipelineMetadata]:
    """The metadata of all uploads that arrived."""
    return [request for request in fake.requests if isinstance(request, pb.UploadPipelineMetadata)]


def test_a_file_is_announced_and_streamed(client: Client, fake: FakeAdapter, file: Path) -> None:
    """Size and checksum are sent first, then the bytes in chunks; the receipt reports what arrived."""
    reported: list[tuple[int, int | None]] = []
    receipt = client.pipelines.upload(
        file,
        name="train",
        version_name="v1",
        description="설명",
        display_name="Train",
        tags={"team": "a"},
        code_source_url="https://example.org/x",
        if_exists=IfExists.SKIP_IF_SAME,
        progress=lambda sent, total: reported.append((sent, total)),
    )
    digest = hashlib.sha256(BODY).hexdigest()
    (sent,) = uploads(fake)
    assert (sent.total_bytes, sent.sha256) == (len(BODY), digest)
    assert (sent.name, sent.version_name, sent.description, sent.display_name) == ("train", "v1", "설명", "Train")
    assert (dict(sent.tags), sent.if_exists) == ({"team": "a"}, pb.IF_EXISTS_SKIP_IF_SAME)
    assert sent.code_source_url == "https://example.org/x"
    assert fake.chunks == [CHUNK_BYTES, CHUNK_BYTES, len(BODY) - 2 * CHUNK_BYTES]
    assert reported == [(CHUNK_BYTES, len(BODY)), (2 * CHUNK_BYTES, len(BODY)), (len(BODY), len(BODY))]
    assert (receipt.size, receipt.sha256, receipt.pipeline_created) == (len(BODY), digest, True)
    assert receipt.request_id == sent.request_id


def test_every_upload_has_an_id_of_its_own(client: Client, fake: FakeAdapter, file: Path) -> None:
    """Each upload gets its own request id; a given one is used."""
    client.pipelines.upload(file, name="train")
    client.pipelines.upload(str(file), name="train")
    client.pipelines.upload(file, name="train", request_id="mine")
    first, second, third = (sent.request_id for sent in uploads(fake))
    assert first
    assert first != second
    assert third == "mine"


def test_a_stream_is_sent_as_it_comes(client: Client, fake: FakeAdapter) -> None:
    """For a stream nothing is announced, its total is unknown, and it stays open."""
    stream = io.BytesIO(BODY)
    reported: list[int | None] = []
    receipt = client.pipelines.upload(stream, name="train", progress=lambda _, total: reported.append(total))
    (sent,) = uploads(fake)
    assert (sent.HasField("total_bytes"), sent.sha256) == (False, "")
    assert receipt.sha256 == hashlib.sha256(BODY).hexdigest()
    assert (reported, stream.closed) == ([None] * 3, False)


def test_an_upload_may_take_longer_the_larger_it_is(client: Client, fake: FakeAdapter, file: Path) -> None:
    """The deadline grows with the size, as in the contract."""
    client.pipelines.upload(file, name="train")
    wanted = upload_seconds(len(BODY))
    assert fake.time_remaining is not None
    assert wanted - 5 < fake.time_remaining <= wanted + 3


@pytest.mark.parametrize("error", [KfpUnavailableError, DrainingError])
def test_a_file_is_sent_again_under_the_same_id(
    error: type[AdapterError], client: Client, fake: FakeAdapter, file: Path
) -> None:
    """An upload of unknown outcome is retried with the same request id and all of its bytes."""
    fake.failures = [error("away", retry_after=0.01)] * 2
    receipt = client.pipelines.upload(file, name="train")
    assert receipt.size == len(BODY)
    assert [sent.request_id for sent in uploads(fake)] == [receipt.request_id] * 3


def test_a_file_is_not_sent_for_ever(client: Client, fake: FakeAdapter, file: Path) -> None:
    """After two retries the error is reported."""
    fake.failures = [KfpUnavailableError("away", retry_after=0.01)] * 5
    with pytest.raises(KfpUnavailableError):
        client.pipelines.upload(file, name="train")
    assert fake.calls == ["Upload"] * 3


@pytest.mark.parametrize("error", [InvalidPipelineFileError, KfpTimeoutError])
def test_what_repetition_cannot_mend_is_not_repeated(
    error: type[AdapterError], client: Client, fake: FakeAdapter, file: Path
) -> None:
    """Errors that a retry cannot resolve end the upload at once."""
    fake.failures = [error("no")]
    with pytest.raises(error):
        client.pipelines.upload(file, name="train")
    assert fake.calls == ["Upload"]


def test_a_stream_is_not_repeated(client: Client, fake: FakeAdapter) -> None:
    """A stream cannot be read twice, so its upload is not retried and the error is reported."""
    fake.failures = [DrainingError("bye", retry_after=0.01)]
    with pytest.raises(DrainingError):
        client.pipelines.upload(io.BytesIO(BODY), name="train")
    assert fake.calls == ["Upload"]


def test_a_missing_file_is_an_os_error(client: Client, fake: FakeAdapter, tmp_path: Path) -> None:
    """Nothing is sent for a missing file."""
    with pytest.raises(FileNotFoundError):
        client.pipelines.upload(tmp_path / "absent.yaml", name="train")
    assert fake.calls == []


def test_a_failing_stream_reports_its_own_error(client: Client) -> None:
    """An error raised while reading is propagated as it is, not as gRPC reports it."""

    class Torn(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            message = f"no {size} bytes any more"
            raise OSError(message)

    with pytest.raises(OSError, match="no 262144 bytes any more"):
        client.pipelines.upload(Torn(), name="train")


def test_a_progress_callback_can_end_the_upload(client: Client, file: Path) -> None:
    """An exception raised by the callback is propagated."""

    def stop(sent: int, total: int | None) -> None:
        message = f"enough after {sent} of {total}"
        raise InterruptedError(message)

    with pytest.raises(InterruptedError, match="enough after 262144"):
        client.pipelines.upload(file, name="train", progress=stop)


def test_a_stopped_stream_reads_no_more() -> None:
    """After stop the file is not read, so that it can be closed while gRPC still holds the iterator."""
    stream = io.BytesIO(BODY)
    messages = UploadMessages(pb.UploadPipelineMetadata(name="x"), cast("BinaryIO", stream), None)
    assert next(messages).metadata.name == "x"
    next(messages)
    messages.stop_and_wait()
    stream.close()
    assert list(messages) == []


def test_no_server_is_reported_after_a_few_tries(file: Path) -> None:
    """If no server is listening, the upload soon fails with CannotConnectError."""
    with Client("127.0.0.1:1") as client, pytest.raises(CannotConnectError):
        client.pipelines.upload(file, name="train")
