"""From the chunks of an upload to a checked file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

import grpc
import yaml

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.pipelines import ByteStream, FileKind, PipelineFile
from kfadapter_grpc.spool import Spool, disk_faults
from kfadapter_grpc.upload.archives import open_member
from kfadapter_grpc.upload.file_kind import HEAD_BYTES, detect_kind, ensure_text
from kfadapter_grpc.upload.limits import LATE, UploadLimits, quoted, too_large
from kfadapter_grpc.upload.syntax import check_syntax, find_faulty_key, find_wide_character
from kfadapter_grpc.upload.text import CheckedText, is_plain_yaml

_EXPLANATION_SECONDS = 10.0
"""How long the position of a fault is searched for after KFP rejected a file."""
_CANCELLATION_SECONDS = 0.02
"""How long the end of a stream of unknown size is doubted.

For a call that the client cancelled before it had sent everything, gRPC reports in a seventh of the cases the end of
the stream first, as if the client had sent all, and the cancellation afterwards: in 206 cases at most 0.2 ms later, and
17.5 ms if two threads of the process compute. There is no positive sign of the end, so only time shows which is true,
and every request to KFP checks again. An announced size or checksum shows whether everything has
arrived: then there is no wait.
"""


@contextmanager
def receive_file(
    chunks: Iterable[bytes],
    limits: UploadLimits,
    *,
    total_bytes: int | None,
    sha256: bytes | None,
    call: Call,
) -> Iterator[PipelineFile]:
    """Receives a file, detects its kind, and checks its syntax, that of a text while it arrives.

    The file exists within the block only; nothing remains of it afterwards, whatever happened. If the block raises that
    KFP rejected the file, or failed, without its position, the position is searched for and raised with the error.

    The size and the checksum are those that were announced, if any. The work ends when the call does.
    """
    if total_bytes is not None and total_bytes > limits.max_bytes:
        raise too_large(limits.max_bytes, total_bytes)
    with closing(Spool(limits.place)) as spool:
        incoming = _IncomingFile(spool, chunks, limits, total_bytes=total_bytes, sha256=sha256, call=call)
        try:
            with disk_faults():
                kind = _checked_kind(spool, incoming, limits, call)
        except errors.InvalidPipelineFileError:
            incoming.complete()  # a fault of the transfer explains one of the file, and is reported instead
            raise
        digest = incoming.complete()
        spool.rewind()
        file = PipelineFile(spool.stream, spool.size, digest, kind)
        try:
            yield file
        except (errors.InvalidPipelineFileError, errors.KfpError) as error:
            located = _locate_fault(error, file, limits, call.detached(_EXPLANATION_SECONDS))
            if located is None:
                raise
            raise located from error


class _IncomingFile:
    """The bytes of an upload as a stream: everything that is read was stored in the spool before."""

    def __init__(
        self,
        spool: Spool,
        chunks: Iterable[bytes],
        limits: UploadLimits,
        *,
        total_bytes: int | None,
        sha256: bytes | None,
        call: Call,
    ) -> None:
        self._spool = spool
        self._max_bytes = limits.max_bytes
        self._total_bytes = total_bytes
        self._sha256 = sha256
        self._digest = hashlib.sha256()
        self._chunks = self._receive(chunks, call)
        self._position = 0

    def read(self, size: int, /) -> bytes:
        """Reads up to `size` bytes, after waiting for the next chunk if none is left; none at the end.

        Raises as `receive_file` does, except for the contents of the file.
        """
        chunk = b""
        if self._position == self._spool.size:
            chunk = next(self._chunks, b"")
        if len(chunk) > size or self._position + len(chunk) < self._spool.size:
            chunk = self._spool.read_at(self._position, size)
        self._position += len(chunk)
        return chunk

    def restart(self) -> None:
        self._position = 0

    def complete(self) -> bytes:
        """Receives the rest, and returns the checksum; reading continues at its position. Raises as `read` does."""
        for _ in self._chunks:
            pass
        return self._digest.digest()

    def _receive(self, chunks: Iterable[bytes], call: Call) -> Iterator[bytes]:
        call.ensure_active(LATE)
        try:
            for chunk in chunks:
                call.ensure_active(LATE)
                call.usage.add_received(len(chunk))
                self._keep(chunk)
                if chunk:
                    yield chunk
        except grpc.RpcError as error:
            # gRPC ends the stream of a call that has ended this way, before it reports why.
            raise errors.KfpTimeoutError(LATE) if call.remaining() <= 0 else _cancelled() from error
        call.ensure_active(LATE)
        self._ensure_complete()
        if self._total_bytes is None and self._sha256 is None and call.cancelled_within(_CANCELLATION_SECONDS):
            raise _cancelled()

    def _keep(self, chunk: bytes) -> None:
        size = self._spool.size + len(chunk)
        if size > self._max_bytes:
            raise too_large(self._max_bytes)
        self._digest.update(chunk)
        self._spool.write(chunk)
        if self._total_bytes is not None and size > self._total_bytes:
            raise errors.InvalidUploadError(
                f"The metadata say total_bytes={self._total_bytes}, and more than that arrived. Correct total_bytes.",
                metadata={"total_bytes": str(self._total_bytes)},
            )

    def _ensure_complete(self) -> None:
        size, actual, expected = self._spool.size, self._digest.digest(), self._sha256
        if self._total_bytes is not None and size < self._total_bytes:
            raise errors.InvalidUploadError(
                f"The metadata say total_bytes={self._total_bytes}, but {size} arrived. "
                "Send the whole file, or correct total_bytes.",
                metadata={"total_bytes": str(self._total_bytes), "received_bytes": str(size)},
            )
        if not size:
            raise errors.InvalidUploadError("No bytes of a file arrived. Send the file in chunks after the metadata.")
        if expected is not None and actual != expected:
            raise errors.ChecksumMismatchError(
                f"The bytes that arrived have the SHA-256 {actual.hex()}, announced was {expected.hex()}. "
                "Send the file again.",
                metadata={"expected_sha256": expected.hex(), "actual_sha256": actual.hex()},
            )


def _cancelled() -> errors.CallCancelledError:
    return errors.CallCancelledError("The client cancelled the call before the upload was complete.")


def _checked_kind(spool: Spool, incoming: _IncomingFile, limits: UploadLimits, call: Call) -> FileKind:
    kind = detect_kind(_read_head(incoming))
    if kind in {FileKind.ZIP, FileKind.TAR_GZ}:
        incoming.complete()
        spool.rewind()
        name, stream = open_member(kind, spool.stream, limits, call)
        _check_member(quoted(name), stream, call)
        return kind
    incoming.restart()
    if kind is FileKind.JSON or not is_plain_yaml(incoming, call):
        incoming.restart()
        with closing(CheckedText(incoming, call, complete=incoming.complete)) as text:
            check_syntax(text, call)
    return kind


def _read_head(stream: ByteStream) -> bytes:
    head = b""
    while len(head) < HEAD_BYTES and (chunk := stream.read(HEAD_BYTES - len(head))):
        head += chunk
    return head


def _check_member(name: str, stream: ByteStream, call: Call) -> None:
    try:
        head = _read_head(stream)
        ensure_text(head, "it")
        with closing(CheckedText(stream, call, head=head)) as text:
            check_syntax(text, call)
    except errors.InvalidPipelineFileError as error:
        metadata = {**error.metadata, "member": name}
        raise errors.InvalidPipelineFileError(f"{name} in the archive: {error.message}", metadata=metadata) from error


def _locate_fault(
    error: errors.AdapterError, file: PipelineFile, limits: UploadLimits, call: Call
) -> errors.AdapterError | None:
    """Finds what in the file explains why KFP rejected it, or failed to store it, if KFP's message does not."""
    if isinstance(error, errors.InvalidPipelineFileError) and "unknown template format" in error.message:
        find = find_faulty_key
    elif "(upload" in error.message and error.metadata.get("kfp_status") == "500":
        find = find_wide_character
    else:
        return None
    try:
        file.stream.seek(0)
        stream: ByteStream = file.stream
        if file.kind in {FileKind.ZIP, FileKind.TAR_GZ}:
            _, stream = open_member(file.kind, file.stream, limits, call)
        with closing(CheckedText(stream, call)) as text:
            fault = find(text, call)
    except (errors.AdapterError, yaml.YAMLError, OSError):
        return None
    return fault and errors.InvalidPipelineFileError(fault.message, metadata={**error.metadata, **fault.metadata})
