"""Writes the messages of a download to a file or a stream, and compares them with what was announced."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from grpc import StatusCode

from kfadapter_grpc.client.errors import CallFailedError
from kfadapter_grpc.contract.errors import ChecksumMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kfadapter.v1 import pipeline_pb2


@dataclass(frozen=True, slots=True)
class DownloadReceipt:
    """A finished download.

    Attributes:
        size: Size in bytes.
        sha256: Their checksum in lower-case hex, compared with the adapter's.
    """

    size: int
    sha256: str


class Reception:
    """Receives one download.

    Attributes:
        begun: Whether bytes have been written, so that the download cannot be restarted.
    """

    def __init__(self, target: BinaryIO, progress: Callable[[int, int | None], None] | None) -> None:
        """Writes to `target`; `progress` is called with the bytes so far and the total."""
        self.begun = False
        self._target = target
        self._progress = progress
        self._announced: DownloadReceipt | None = None
        self._digest, self._size = hashlib.sha256(), 0

    def take(self, message: pipeline_pb2.DownloadPipelineResponse) -> None:
        """Takes the announcement, or writes the bytes of a later message.

        Raises:
            CallFailedError: Nothing was announced.
            OSError: Writing fails.
        """
        if message.WhichOneof("payload") == "info":
            self._announced = DownloadReceipt(message.info.total_bytes, message.info.sha256)
            return
        announced = self._expected()
        self.begun = True
        self._digest.update(message.chunk)
        self._size += write_all(self._target, message.chunk)
        if self._progress is not None:
            self._progress(self._size, announced.size)

    def receipt(self) -> DownloadReceipt:
        """Returns the receipt, once the stream has ended.

        Raises:
            CallFailedError: Nothing was announced.
            ChecksumMismatchError: The received bytes differ from what was announced.
        """
        receipt = DownloadReceipt(self._size, self._digest.hexdigest())
        _compare(receipt, self._expected())
        return receipt

    def _expected(self) -> DownloadReceipt:
        if self._announced is None:
            fault = "the answer does not begin with the size and the checksum of what follows"
            raise CallFailedError(fault, status=StatusCode.UNKNOWN, request_id="", metadata={})
        return self._announced


def write_all(target: BinaryIO, chunk: bytes) -> int:
    """Writes a whole chunk, even if an unbuffered stream accepts only parts; returns its size."""
    rest = memoryview(chunk)
    while rest:
        taken = target.write(rest)
        if not taken:
            raise BlockingIOError(errno.EAGAIN, "the stream takes no more bytes now")
        rest = rest[taken:]
    return len(chunk)


def _compare(arrived: DownloadReceipt, announced: DownloadReceipt) -> None:
    if arrived == announced:
        return
    raise ChecksumMismatchError(
        f"what arrived is not what was announced: {arrived.size} bytes with the SHA-256 {arrived.sha256} instead of "
        f"{announced.size} with {announced.sha256}; download it again",
        metadata={
            "expected_sha256": announced.sha256,
            "actual_sha256": arrived.sha256,
            "total_bytes": str(announced.size),
            "received_bytes": str(arrived.size),
        },
    )


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Yields a stream to write a file to, which replaces `path` only if the block succeeds.

    Until then a file next to it holds the bytes; it is removed if the block fails or is interrupted. An existing file
    keeps its permissions, and links to it stay valid. A device or a pipe is written to directly.

    Raises:
        OSError: Writing fails.
    """
    final = Path(os.path.realpath(path))
    if final.exists() and not final.is_file():
        with final.open("wb") as stream:
            yield stream
        return
    beside = final.with_name(f".{final.name[:100]}.{secrets.token_hex(6)}")
    try:
        with _opened(beside, path) as stream:
            yield stream
        if final.exists():
            shutil.copymode(final, beside)
        beside.replace(final)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _opened(beside: Path, path: Path) -> BinaryIO:
    try:
        return beside.open("xb")
    except OSError as error:
        error.filename = str(path)  # the path that the caller passed
        raise
