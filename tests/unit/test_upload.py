from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.transcripts import PIPELINES, made_file
from tests.unit.uploading import not_a_pipeline, receive, refused, targz, zipped

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import (
    AdapterError,
    CallCancelledError,
    ChecksumMismatchError,
    InternalError,
    InvalidPipelineFileError,
    InvalidUploadError,
    KfpTimeoutError,
    UploadTooLargeError,
)
from kfadapter_grpc.contract.pipelines import FileKind
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.upload.receive import receive_file

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO = (PIPELINES / "hello_world.yaml").read_bytes()
ALL_PIPELINES = sorted(PIPELINES.glob("*.yaml"))
SMALL_MEMORY = UploadLimits(memory_bytes=100)


def _in_pieces(content: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(content)]
    return [content[start:end] for start, end in itertools.pairwise(places)]


@given(st.lists(st.integers(0, len(HELLO))), st.sampled_from([UploadLimits(), SMALL_MEMORY]))
def test_any_chunking(cuts: list[int], limits: UploadLimits) -> None:
    """However a file is split, bytes, size, checksum and kind are the same, in memory or on disk."""
    file = receive(_in_pieces(HELLO, cuts), limits, total_bytes=len(HELLO), sha256=hashlib.sha256(HELLO).digest())
    assert (file.content, file.size, file.kind) == (HELLO, len(HELLO), FileKind.YAML)
    assert file.sha256 == hashlib.sha256(HELLO).digest()


@pytest.mark.slow
@given(st.binary(max_size=300), st.lists(st.integers(0, 300)))
def test_any_bytes(content: bytes, cuts: list[int]) -> None:
    """Any bytes are either accepted unchanged or rejected as the caller's fault."""
    with suppress(InvalidPipelineFileError, InvalidUploadError):
        assert receive(_in_pieces(content, cuts), SMALL_MEMORY).content == content


@pytest.mark.parametrize("path", ALL_PIPELINES, ids=lambda path: path.stem)
def test_real_pipelines(path: Path) -> None:
    """Every real pipeline is accepted as YAML, JSON, zip and tar.gz, and its kind is detected from its content."""
    text = path.read_bytes()
    as_json = b"\n---\n".join(json.dumps(part).encode() for part in yaml.safe_load_all(text))
    expected = {
        FileKind.YAML: text,
        FileKind.JSON: as_json,
        FileKind.ZIP: zipped(("pipeline.yaml", text)),
        FileKind.TAR_GZ: targz(("pipeline.yaml", text)),
    }
    for kind, content in expected.items():
        assert receive(content).kind is kind


def test_byte_order_mark() -> None:
    """A byte order mark before the text is ignored."""
    assert receive(b"\xef\xbb\xbf" + HELLO).kind is FileKind.YAML
    assert receive(b'\xef\xbb\xbf \n{"a": 1}').kind is FileKind.JSON


@pytest.mark.parametrize(
    "note",
    ["empty file", "not YAML", "YAML but not a pipeline", "YAML list", "binary", "zip without members", "broken zip"],
)
def test_recorded_bad_files(note: str) -> None:
    """Files that make a KFP server hang or fail to parse are rejected before they reach KFP."""
    not_a_pipeline(made_file(note))


@pytest.mark.parametrize(
    "note",
    [
        "JSON file",
        "pipeline without name",
        "pipeline without root",
        "unknown schema version",
        "capitals in the spec's name",
        "zip",
        "tar.gz",
        "zip with another member name",
        "zip with two members, none named pipeline.yaml",
        "Argo workflow (KFP v1)",
        "100 characters in name are fine; see status",
    ],
)
def test_recorded_files_of_right_syntax(note: str) -> None:
    """Files with valid syntax pass; KFP validates the pipeline."""
    content = made_file(note)
    assert receive(content).content == content


def test_recorded_large_file() -> None:
    """A file over KFP's limit is rejected with the limit."""
    assert refused(made_file("33 MiB"), UploadTooLargeError).metadata == {"limit_bytes": "33554432"}


def test_limit_while_receiving() -> None:
    """The upload ends as soon as the limit is exceeded; the rest is not read."""

    def chunks() -> Iterator[bytes]:
        yield b"x" * 60
        yield b"x" * 60
        pytest.fail("went on reading behind the limit")

    with pytest.raises(UploadTooLargeError, match="100") as caught:
        receive(chunks(), UploadLimits(max_bytes=100))
    assert caught.value.metadata == {"limit_bytes": "100"}


def test_exactly_the_limit() -> None:
    """A file of exactly the limit is accepted."""
    assert receive(HELLO, UploadLimits(max_bytes=len(HELLO))).size == len(HELLO)


def test_announced_too_large() -> None:
    """An announced size over the limit is rejected before any byte is read."""
    with pytest.raises(UploadTooLargeError) as caught:
        receive(iter(lambda: pytest.fail("read"), b""), UploadLimits(max_bytes=100), total_bytes=101)
    assert caught.value.metadata == {"limit_bytes": "100", "size_bytes": "101"}


@pytest.mark.parametrize("announced", [len(HELLO) - 1, len(HELLO) + 1, 0])
def test_wrong_size(announced: int) -> None:
    """More or fewer bytes than announced are rejected, with the announced number."""
    with pytest.raises(InvalidUploadError, match=f"total_bytes={announced}"):
        receive(HELLO, total_bytes=announced)


@pytest.mark.parametrize("chunks", [[], [b""], [b"", b""]])
def test_no_bytes(chunks: list[bytes]) -> None:
    """An upload without any byte is rejected."""
    with pytest.raises(InvalidUploadError, match="No bytes"):
        receive(chunks)


def test_wrong_checksum() -> None:
    """Bytes with another checksum than announced are rejected, with both checksums."""
    expected = bytes(32)
    with pytest.raises(ChecksumMismatchError) as caught:
        receive(HELLO, sha256=expected)
    actual = hashlib.sha256(HELLO).hexdigest()
    assert caught.value.metadata == {"expected_sha256": expected.hex(), "actual_sha256": actual}


def test_cancelled_while_receiving() -> None:
    """When the client disconnects, no further chunk is read."""
    call = Call("test", 60)

    def chunks() -> Iterator[bytes]:
        yield b"a: "
        call.cancel()
        yield b"1"
        pytest.fail("went on reading")

    with pytest.raises(CallCancelledError):
        receive(chunks(), call=call)


def test_stream_ended_by_grpc() -> None:
    """If gRPC ends the request stream, the client cancelled the call, or its deadline passed."""

    def chunks() -> Iterator[bytes]:
        yield b"a: "
        raise grpc.RpcError

    with pytest.raises(CallCancelledError):
        receive(chunks())


def test_deadline_while_receiving() -> None:
    """An upload that does not arrive in time is reported as timed out."""
    with pytest.raises(KfpTimeoutError, match="did not arrive in time"):
        receive(HELLO, call=Call("test", 0))


def test_cancelled_while_checking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of a large file ends when the client disconnects."""
    call = Call("test", 60)
    seen = 0

    def cancel_soon(_call: Call) -> bool:
        nonlocal seen
        seen += 1
        return seen > 8

    monkeypatch.setattr(Call, "cancelled", property(cancel_soon))
    with pytest.raises(CallCancelledError):
        receive(b"a:\n" + b"- b\n" * 100_000, call=call)


def test_fault_of_the_callers_chunks() -> None:
    """An error raised while the chunks are read is not changed."""

    def chunks() -> Iterator[bytes]:
        yield b"a: "
        raise InvalidUploadError("metadata came twice")

    with pytest.raises(InvalidUploadError, match="twice"):
        receive(chunks())


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc/self/fd")
@pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
def test_nothing_is_left(tmp_path: Path, memory_bytes: int) -> None:
    """No file name appears in the directory, and no descriptor stays open after success or failure."""
    limits = UploadLimits(memory_bytes=memory_bytes, directory=tmp_path, max_bytes=100_000)
    before = _open_descriptors()
    for content in (HELLO, b"{[}", b"x" * 100_001, zipped(("a.yaml", HELLO)), targz(("a.yaml", b"{["))):
        try:
            with receive_file([content], limits, total_bytes=None, sha256=None, call=Call("test", 60)) as file:
                assert file.stream.read() == content
                assert not list(tmp_path.iterdir())
        except AdapterError:
            pass
        assert not list(tmp_path.iterdir())
        assert _open_descriptors() == before


def test_closed_when_the_block_fails() -> None:
    """An error inside the block closes the file too."""
    files = []

    def fail_inside() -> None:
        with receive_file([HELLO], SMALL_MEMORY, total_bytes=None, sha256=None, call=Call("test", 60)) as file:
            files.append(file)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert files[0].stream.closed


def test_default_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without an upload directory, large files are stored in `TMPDIR`."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(InternalError):
        receive(HELLO, SMALL_MEMORY)
    monkeypatch.delenv("TMPDIR")
    assert receive(HELLO, SMALL_MEMORY).content == HELLO


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO])
def test_disk_faults(monkeypatch: pytest.MonkeyPatch, fault: int) -> None:
    """A full or broken disk is the adapter's fault, and no path is reported."""

    def broken(**_options: object) -> object:
        raise OSError(fault, os.strerror(fault), "/secret/path")

    monkeypatch.setattr("tempfile.TemporaryFile", broken)
    with pytest.raises(InternalError) as caught:
        receive(HELLO, SMALL_MEMORY)
    assert "disk" in caught.value.message
    assert "/secret" not in caught.value.message


@pytest.mark.slow
def test_memory_stays_flat() -> None:
    """An upload of 30 MiB takes less than 4 MiB of memory."""
    lines = b"# one of many lines that hold nothing but a comment\n" * 1024
    structure = b"- {name: a, value: [1, 2, 3], text: 'some text'}\n" * 8
    count = (30 << 20) // (len(lines) + len(structure))
    tracemalloc.start()
    try:
        file_chunks = itertools.chain([b"list:\n"], itertools.repeat(structure + lines, count))
        with receive_file(file_chunks, UploadLimits(), total_bytes=None, sha256=None, call=Call("test", 60)) as file:
            assert file.size > 29 << 20
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
