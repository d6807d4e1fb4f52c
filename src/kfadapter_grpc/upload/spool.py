"""Receives the bytes of an upload, compares them with what was announced, and hands them on as they arrive."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import grpc

from kfadapter_grpc.contract.errors import ChecksumMismatchError, InvalidUploadError
from kfadapter_grpc.spool import Spool
from kfadapter_grpc.upload.limits import arrived_too_late, call_cancelled, ensure_wanted, too_large

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.upload.limits import UploadLimits

_CANCELLATION_SECONDS = 0.02
"""How long the end of a stream of unknown size is doubted.

Of a call that the client cancelled before it had sent everything, gRPC reports in a seventh of the cases the end of the
stream first, as if the client had sent all, and the cancellation afterwards: of 206 at most 0.2 ms later, and 17.5 ms
if two threads of the process compute. There is no positive sign of the end, so that only time shows what is true, and
every request to KFP looks again. An announced size or checksum shows whether all has
arrived: then nothing is waited for.
"""


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


class Arriving:
    """The bytes of an upload as a stream: what is read was kept in the spool before.

    Args:
        spool: Where the bytes are kept.
        chunks: The bytes, split in any way.
        limits: What the upload may cost.
        total_bytes: The announced size, if one was announced.
        sha256: The announced checksum, if one was announced.
        call: The call that the upload belongs to.
    """

    def __init__(
        self,
        spool: UploadSpool,
        chunks: Iterable[bytes],
        limits: UploadLimits,
        *,
        total_bytes: int | None,
        sha256: bytes | None,
        call: Call,
    ) -> None:
        if total_bytes is not None and total_bytes > limits.max_bytes:
            raise too_large(limits.max_bytes, total_bytes)
        self._spool = spool
        self._total_bytes = total_bytes
        self._sha256 = sha256
        self._chunks = self._receive(chunks, call)
        self._position = 0

    def read(self, size: int, /) -> bytes:
        """Reads up to `size` bytes, after waiting for the next chunk if none is left; none at the end.

        Raises:
            UploadTooLargeError: There are more bytes than the limit.
            InvalidUploadError: There are more or fewer bytes than announced, or none.
            ChecksumMismatchError: The bytes are not those announced.
            CallCancelledError: The client cancelled.
            KfpTimeoutError: The deadline passed first.
            InternalError: The disk is full or broken.
        """
        if self._position == self._spool.size:
            next(self._chunks, None)
        piece = self._spool.read_at(self._position, size)
        self._position += len(piece)
        return piece

    def restart(self) -> None:
        """Begins to read anew."""
        self._position = 0

    def complete(self) -> None:
        """Receives all that is still to come; reading goes on where it was.

        Raises:
            AdapterError: As for `read`.
        """
        for _ in self._chunks:
            pass

    def _receive(self, chunks: Iterable[bytes], call: Call) -> Iterator[None]:
        """Keeps one chunk after the other, and compares them with what was announced."""
        for chunk in _while_wanted(chunks, call):
            call.usage.add_received(len(chunk))
            self._spool.write(chunk)
            if self._total_bytes is not None and self._spool.size > self._total_bytes:
                raise InvalidUploadError(
                    f"The metadata say total_bytes={self._total_bytes}, and more than that arrived. "
                    "Correct total_bytes.",
                    metadata={"total_bytes": str(self._total_bytes)},
                )
            if chunk:
                yield
        _ensure_complete(self._spool, self._total_bytes)
        _ensure_checksum(self._spool.sha256, self._sha256)
        if self._total_bytes is None and self._sha256 is None and call.cancelled_within(_CANCELLATION_SECONDS):
            raise call_cancelled()


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
