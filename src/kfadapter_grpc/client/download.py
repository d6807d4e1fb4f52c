"""What becomes of the messages of a download: bytes in a file or a stream, compared with what was announced."""

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
    """What was downloaded.

    Attributes:
        size: How many bytes.
        sha256: Their checksum in lower-case hex, compared with the adapter's.
    """

    size: int
    sha256: str


class Reception:
    """Takes one download in.

    Attributes:
        begun: Whether bytes have been written, so that the download cannot begin anew.
    """

    def __init__(self, target: BinaryIO, progress: Callable[[int, int | None], None] | None) -> None:
        """Will write to `target`; `progress` is called with the bytes so far and the total."""
        self.begun = False
        self._target = target
        self._progress = progress

    def take(self, messages: Iterator[pipeline_pb2.DownloadPipelineResponse]) -> DownloadReceipt:
        """Writes what arrives, to the end of the stream.

        Raises:
            AdapterError: The call failed.
            ChecksumMismatchError: What arrived is not what was announced.
            OSError: It cannot be written.
        """
        first = next(messages, None)
        if first is None or first.WhichOneof("payload") != "info":
            fault = "the answer does not begin with the size and the checksum of what follows"
            raise CallFailedError(fault, status=StatusCode.UNKNOWN, request_id="", metadata={})
        digest, size = hashlib.sha256(), 0
        for message in messages:
            self.begun = True
            digest.update(message.chunk)
            size += len(message.chunk)
            write_all(self._target, message.chunk)
            if self._progress is not None:
                self._progress(size, first.info.total_bytes)
        receipt = DownloadReceipt(size, digest.hexdigest())
        _compare(receipt, DownloadReceipt(first.info.total_bytes, first.info.sha256))
        return receipt


def write_all(target: BinaryIO, chunk: bytes) -> int:
    """Writes all of a chunk, of which an unbuffered stream may take a part at a time; returns its size."""
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
    """Gives a stream to write a file to, which takes the place of `path` only when the block ends well.

    Until then a file beside it holds the bytes; of a block that fails, or is interrupted, nothing is left. A file that
    was there keeps its permissions, a link keeps leading to it. A device or a pipe is written to as it is.

    Raises:
        OSError: It cannot be written.
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
        error.filename = str(path)  # which is what the caller knows
        raise
