"""Archived logs in KFP's responses: base64 in JSON, compressed or not."""

from __future__ import annotations

import base64
import gzip
import io
import itertools
import json
import tarfile
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from tests.transcripts import DATA

from kfadapter_grpc.kfp import log_sources
from kfadapter_grpc.kfp.log_sources import NoLogError, log_in

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = '학습 끝\n\n{"level": "info"}\r\n'.encode() * 3000
MIB = 1024 * 1024


def tar_of(text: bytes) -> bytes:
    """A tar file with one log in it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo("main.log")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    return file.getvalue()


def answer(file: bytes, size: int = 1000) -> Iterator[bytes]:
    """KFP's response, in pieces."""
    data = b'{"data":"' + base64.b64encode(file) + b'"}'
    return iter([data[begin : begin + size] for begin in range(0, len(data), size)])


@pytest.mark.parametrize("size", [7, 1000, 1_000_000])
@pytest.mark.parametrize(
    ("file", "text"),
    [
        pytest.param(TEXT, TEXT, id="as it is"),
        pytest.param(gzip.compress(TEXT), TEXT, id="gzip"),
        pytest.param(tar_of(TEXT), TEXT, id="tar"),
        pytest.param(tar_of(b""), b"", id="empty file in tar"),
        pytest.param(gzip.compress(b"x"), b"x", id="one byte in gzip"),
        pytest.param(b"x", b"x", id="one byte"),
        pytest.param(b"", b"", id="empty"),
    ],
)
def test_files(file: bytes, text: bytes, size: int) -> None:
    """A log is read as it was written, however it is compressed and however the response is split."""
    assert b"".join(log_in(answer(file, size))) == text


def test_recorded_responses() -> None:
    """The recorded responses are read."""
    steps = json.loads((DATA / "transcripts" / "logs.json").read_text("utf-8"))["steps"]
    answers = [step["response"] for step in steps if "main-logs:read" in step.get("request", {}).get("path", "")]
    bodies = [json.dumps(one["json"]).encode() for one in answers if one["status"] == 200 and "json" in one]
    assert [b"".join(log_in([body])) for body in bodies] == [b"line one\nline two\n"] * 3


@pytest.mark.parametrize("body", [b"{}", b' {"data" : ""} '])
def test_empty_responses(body: bytes) -> None:
    """A response without data is an empty log."""
    assert b"".join(log_in([body])) == b""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"data":"' + base64.b64encode(TEXT), "cut short"),
        (b'{"data":"' + base64.b64encode(gzip.compress(TEXT)[:-4]) + b'"}', "cut short"),
        (b'{"data":"' + base64.b64encode(b"\x1f\x8bnothing") + b'"}', "damaged"),
        (b'{"data":"abc', "cut short"),
        (b"<html>", "no archived log"),
        (b" " * 10_000, "no archived log"),
    ],
)
def test_broken_responses(body: bytes, words: str) -> None:
    """KFP breaks off without an error in its status; truncated or damaged data is not mistaken for a complete log."""
    with pytest.raises(NoLogError, match=words):
        b"".join(log_in([body]))


def test_memory() -> None:
    """Memory does not grow with the log: 256 MiB, compressed a thousandfold, need less than 2 MiB."""
    packed = gzip.compress(b"\0" * 256 * MIB, 1)
    body = answer(packed, 100_000)
    del packed
    tracemalloc.start()
    try:
        size = sum(map(len, log_in(body)))
        assert size == 256 * MIB
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()


def test_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed log that grows beyond the limit ends with an error."""
    monkeypatch.setattr(log_sources, "MAX_UNPACKED_BYTES", MIB)
    with pytest.raises(NoLogError, match="larger than"):
        list(itertools.islice(log_in(answer(gzip.compress(b"\0" * 2 * MIB))), 1000))
