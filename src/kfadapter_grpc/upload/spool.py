"""Takes the bytes of an upload in, and compares them with what was announced."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import grpc

from kfadapter_grpc.domain.errors import ChecksumMismatchError, InvalidUploadError
from kfadapter_grpc.spool import Spool
from kfadapter_grpc.upload.limits import arrived_too_late, call_cancelled, ensure_wanted, too_large

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kfadapter_grpc.domain.call import Call
    from kfadapter_grpc.upload.limits import UploadLimits


class UploadSpool(Spool):
    """The bytes of an upload that have arrived, no more than are allowed, and their checksum."""

    def __init__(self, limits: UploadLimits) -> None:
        super().__init__(limits.place)
        self._max_bytes = limits.max_bytes
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> bytes:
        """The checksum of all bytes so far."""
        return self._digest.digest()

    def write(self, chunk: bytes) -> None:
        """Appends `chunk`.

        Raises:
            UploadTooLargeError: There would be more bytes than allowed.
            InternalError: The disk is full or broken.
        """
        if self.size + len(chunk) > self._max_bytes:
            raise too_large(self._max_bytes)
        self._digest.update(chunk)
        super().write(chunk)


def receive(
    spool: UploadSpool,
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
        call.usage.add_received(len(chunk))
        spool.write(chunk)
        if total_bytes is not None and spool.size > total_bytes:
            raise InvalidUploadError(
                f"The metadata say total_bytes={total_bytes}, and more than that arrived. Correct total_bytes.",
                metadata={"total_bytes": str(total_bytes)},
            )
    _ensure_complete(spool, total_bytes)
    _ensure_checksum(spool.sha256, sha256)


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


def _ensure_complete(spool: UploadSpool, total_bytes: int | None) -> None:
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
