"""Keeps the bytes of an upload until they are passed on: in memory while small, in an unlinked file otherwise."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import grpc

from kfadapter_grpc.domain.errors import ChecksumMismatchError, InternalError, InvalidUploadError
from kfadapter_grpc.upload.limits import arrived_too_late, call_cancelled, ensure_wanted, too_large

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kfadapter_grpc.domain.call import Call
    from kfadapter_grpc.upload.limits import UploadLimits

_REAL_DISK = "/var/tmp"  # noqa: S108 - only unlinked files are made there; unlike /tmp it is not in memory


class Spool:
    """The bytes that have arrived, their number and their checksum. Once closed, nothing is left of them.

    Attributes:
        stream: The bytes.
        size: How many there are.
    """

    def __init__(self, limits: UploadLimits) -> None:
        self.stream: BinaryIO = io.BytesIO()
        self.size = 0
        self._limits = limits
        self._in_memory = True
        self._digest = hashlib.sha256()

    def close(self) -> None:
        """Drops the bytes."""
        with suppress(OSError):  # what could not be written is not needed any more
            self.stream.close()

    @property
    def sha256(self) -> bytes:
        """The checksum of all bytes so far."""
        return self._digest.digest()

    def write(self, chunk: bytes) -> None:
        """Appends `chunk`.

        Raises:
            UploadTooLargeError: There are more bytes than allowed now.
            InternalError: The disk is full or broken.
        """
        self.size += len(chunk)
        if self.size > self._limits.max_bytes:
            raise too_large(self._limits.max_bytes)
        self._digest.update(chunk)
        with disk_faults():
            if self._in_memory and self.size > self._limits.memory_bytes:
                self._move_to_disk()
            self.stream.write(chunk)

    def rewind(self) -> None:
        """Goes back to the first byte."""
        with disk_faults():
            self.stream.seek(0)

    def _move_to_disk(self) -> None:
        kept = self.stream
        kept.seek(0)
        self.stream = tempfile.TemporaryFile(dir=_directory(self._limits))  # noqa: SIM115 - closed by `close`
        self._in_memory = False
        self.stream.write(kept.read())


def receive(
    spool: Spool,
    chunks: Iterable[bytes],
    limits: UploadLimits,
    *,
    total_bytes: int | None,
    sha256: bytes | None,
    call: Call,
) -> None:
    """Writes all chunks to the spool and compares them with what was announced.

    Raises:
        UploadTooLargeError: There are more bytes than the limit, or more were announced.
        InvalidUploadError: There are more or fewer bytes than announced, or none.
        ChecksumMismatchError: The bytes are not those announced.
        CallCancelledError: The caller went away.
        KfpTimeoutError: The deadline passed first.
        InternalError: The disk is full or broken.
    """
    if total_bytes is not None and total_bytes > limits.max_bytes:
        raise too_large(limits.max_bytes, total_bytes)
    for chunk in _while_wanted(chunks, call):
        spool.write(chunk)
        if total_bytes is not None and spool.size > total_bytes:
            raise InvalidUploadError(
                f"The metadata say total_bytes={total_bytes}, and more than that arrived. Correct total_bytes.",
                metadata={"total_bytes": str(total_bytes)},
            )
    _ensure_complete(spool, total_bytes)
    _ensure_checksum(spool.sha256, sha256)


@contextmanager
def disk_faults() -> Iterator[None]:
    """Turns a fault of the disk inside the block into an error that tells no paths."""
    try:
        yield
    except OSError as error:
        raise InternalError(
            "The adapter's disk is full or failed while the upload was stored. Nothing reached Kubeflow Pipelines. "
            "Try again later; if it stays so, tell the operator."
        ) from error


def _while_wanted(chunks: Iterable[bytes], call: Call) -> Iterator[bytes]:
    """Yields the chunks as long as somebody waits for the call."""
    ensure_wanted(call)
    try:
        for chunk in chunks:
            ensure_wanted(call)
            yield chunk
    except grpc.RpcError as error:
        # gRPC ends the stream of a call that is over this way, before anybody is told why.
        raise arrived_too_late() if call.remaining() <= 0 else call_cancelled() from error
    ensure_wanted(call)


def _ensure_complete(spool: Spool, total_bytes: int | None) -> None:
    if total_bytes is not None and spool.size < total_bytes:
        raise InvalidUploadError(
            f"The metadata say total_bytes={total_bytes}, but {spool.size} arrived. "
            "Send the whole file, or correct total_bytes.",
            metadata={"total_bytes": str(total_bytes), "received_bytes": str(spool.size)},
        )
    if not spool.size:
        raise InvalidUploadError("No bytes of a file arrived. Send the file in chunks after the metadata.")


def _ensure_checksum(actual: bytes, expected: bytes | None) -> None:
    if expected is not None and actual != expected:
        raise ChecksumMismatchError(
            f"The bytes that arrived have the SHA-256 {actual.hex()}, announced was {expected.hex()}. "
            "Send the file again.",
            metadata={"expected_sha256": expected.hex(), "actual_sha256": actual.hex()},
        )


def _directory(limits: UploadLimits) -> Path | None:
    if limits.directory is not None:
        return limits.directory
    if "TMPDIR" not in os.environ and os.access(_REAL_DISK, os.W_OK | os.X_OK):
        return Path(_REAL_DISK)
    return None
