from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.client.fake_adapter import bare_status

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.client import (
    CallFailedError,
    CannotConnectError,
    ChecksumMismatchError,
    Client,
    DownloadReceipt,
    DrainingError,
    KfpError,
    VersionNotFoundError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.fake_adapter import FakeAdapter

DATA = "한글 {}\n".encode() * 1000
RECEIPT = DownloadReceipt(len(DATA), hashlib.sha256(DATA).hexdigest())
AWAY = bare_status(grpc.StatusCode.UNAVAILABLE, "gone")


@pytest.fixture(autouse=True)
def _file(fake: FakeAdapter) -> None:
    fake.add("train")
    fake.file = DATA


def test_to_a_stream_with_progress(client: Client, fake: FakeAdapter) -> None:
    """The bytes go to the stream, which stays open; progress reports bytes received and total."""
    target, reported = io.BytesIO(), list[tuple[int, int | None]]()
    receipt = client.pipelines.download("train", to=target, progress=lambda done, total: reported.append((done, total)))
    assert (receipt, target.getvalue()) == (RECEIPT, DATA)
    assert reported[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in reported] == sorted(done for done, _ in reported)
    assert isinstance(fake.requests[-1], pb.DownloadPipelineRequest)


def test_to_a_path(client: Client, tmp_path: Path) -> None:
    """The file has all bytes, no other file is left, and its permissions are those of any new file."""
    path = tmp_path / "파일.json"
    assert client.pipelines.download("train", to=path) == RECEIPT
    assert path.read_bytes() == DATA
    (tmp_path / "usual").write_bytes(b"")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["usual", "파일.json"]


def test_a_file_that_is_there_is_replaced(client: Client, tmp_path: Path) -> None:
    """An existing file keeps its permissions, and a symbolic link keeps pointing to it."""
    path, link = tmp_path / "a", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to(path)
    client.pipelines.download("train", to=link)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode), link.is_symlink()) == (DATA, 0o640, True)


def test_a_pipe_is_written_to(client: Client, tmp_path: Path) -> None:
    """A target that is not a regular file is written to, not replaced."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    client.pipelines.download("train", to=pipe)
    reader.join(30)
    assert read == [DATA]
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    "announced",
    [
        pb.DownloadInfo(total_bytes=RECEIPT.size + 1, sha256=RECEIPT.sha256),
        pb.DownloadInfo(total_bytes=RECEIPT.size, sha256="00" * 32),
        pb.DownloadInfo(),
    ],
)
def test_what_is_not_as_announced_is_an_error(
    client: Client, fake: FakeAdapter, tmp_path: Path, announced: pb.DownloadInfo
) -> None:
    """Missing or different bytes never look like success: the existing file is kept."""
    fake.download_info = announced
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(ChecksumMismatchError, match="download it again") as caught:
        client.pipelines.download("train", to=path)
    assert caught.value.metadata["actual_sha256"] == RECEIPT.sha256
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("file", [DATA, b""])
def test_a_cut_stream_is_an_error(client: Client, fake: FakeAdapter, tmp_path: Path, file: bytes) -> None:
    """A connection that breaks after the last byte is an error, and leaves no file; bytes are not fetched twice."""
    fake.file = file
    fake.late_failures = [AWAY] * 9
    with pytest.raises(CannotConnectError):
        client.pipelines.download("train", to=tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    assert fake.calls == ["Download"] * (1 if file else 3)


def test_begun_anew_before_any_byte(client: Client, fake: FakeAdapter) -> None:
    """If the adapter becomes unavailable before bytes have arrived, the download is retried."""
    fake.failures = [DrainingError("shutting down")]
    target = io.BytesIO()
    assert client.pipelines.download("train", to=target) == RECEIPT
    assert target.getvalue() == DATA
    assert fake.calls == ["Download"] * 2


def test_an_adapters_error_comes_as_its_class(client: Client, fake: FakeAdapter, tmp_path: Path) -> None:
    """Errors keep their class and reason, and leave no file."""
    with pytest.raises(VersionNotFoundError):
        client.pipelines.download("train", version_name="9", to=tmp_path / "a")
    fake.failures = [KfpError("no JSON")]
    with pytest.raises(KfpError):
        client.pipelines.download("train", to=tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_breaks_ends_the_call(client: Client, fake: FakeAdapter) -> None:
    """An exception raised by the target is propagated, and the adapter stops sending."""

    class Full(io.BytesIO):
        def write(self, _data: object) -> int:
            raise OSError(28, "No space left on device")

    fake.hold.clear()
    with pytest.raises(OSError, match="No space"):
        client.pipelines.download("train", to=Full())
    assert fake.download_ended.wait(30)


def test_an_interruption_leaves_no_file(client: Client, tmp_path: Path) -> None:
    """Ctrl-C in the middle removes what has arrived so far."""

    def interrupt(_done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.pipelines.download("train", to=tmp_path / "a", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_no_folder_to_write_to(client: Client, fake: FakeAdapter, tmp_path: Path) -> None:
    """If the file cannot be created, the error has its own name, and nothing is requested."""
    with pytest.raises(FileNotFoundError) as caught:
        client.pipelines.download("train", to=tmp_path / "missing" / "a")
    assert caught.value.filename == str(tmp_path / "missing" / "a")
    with pytest.raises(IsADirectoryError):
        client.pipelines.download("train", to=tmp_path)
    assert fake.calls == []


@pytest.mark.parametrize("file", [DATA, b""])
def test_a_foreign_response(client: Client, fake: FakeAdapter, file: bytes) -> None:
    """A stream that is empty or does not begin with the info is not accepted as a download."""
    fake.announces, fake.file = False, file
    target = io.BytesIO()
    with pytest.raises(CallFailedError, match="does not begin"):
        client.pipelines.download("train", to=target)
    assert target.getvalue() == b""
