"""From the chunks of an upload to a checked file."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from kfadapter_grpc.domain.errors import InvalidPipelineFileError
from kfadapter_grpc.domain.models import FileKind, PipelineFile
from kfadapter_grpc.spool import disk_faults
from kfadapter_grpc.upload.kind import HEAD_BYTES, ensure_text, kind_of
from kfadapter_grpc.upload.refusal import quoted
from kfadapter_grpc.upload.spool import UploadSpool, receive
from kfadapter_grpc.upload.syntax import check_syntax
from kfadapter_grpc.upload.tar_archive import tar_member
from kfadapter_grpc.upload.text import CheckedText
from kfadapter_grpc.upload.zip_archive import zip_member

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kfadapter_grpc.domain.call import Call
    from kfadapter_grpc.upload.limits import UploadLimits
    from kfadapter_grpc.upload.member import Member
    from kfadapter_grpc.upload.text import Readable


@contextmanager
def received(
    chunks: Iterable[bytes],
    limits: UploadLimits,
    *,
    total_bytes: int | None,
    sha256: bytes | None,
    call: Call,
) -> Iterator[PipelineFile]:
    """Receives a file, tells what it is and checks its syntax.

    The file is good for the block; after it, whatever happened, nothing is left of it.

    Args:
        chunks: The bytes, split in any way.
        limits: What the upload may cost.
        total_bytes: The announced size, if one was announced.
        sha256: The announced checksum, 32 bytes, if one was announced.
        call: Whom the work is for; it ends when the call does.

    Yields:
        The file, its stream at position 0.

    Raises:
        UploadTooLargeError: The file, or what an archive unpacks to, is larger than the limit.
        InvalidUploadError: There are more or fewer bytes than announced, or none.
        ChecksumMismatchError: The bytes are not those announced.
        InvalidPipelineFileError: The file is not one that KFP can read.
        CallCancelledError: The caller went away.
        KfpTimeoutError: The deadline passed first.
        InternalError: The disk is full or broken.
    """
    with closing(UploadSpool(limits)) as spool:
        receive(spool, chunks, limits, total_bytes=total_bytes, sha256=sha256, call=call)
        with disk_faults():
            kind = _checked_kind(spool, limits, call)
        spool.rewind()
        yield PipelineFile(spool.stream, spool.size, spool.sha256, kind)


def _checked_kind(spool: UploadSpool, limits: UploadLimits, call: Call) -> FileKind:
    spool.rewind()
    head = spool.stream.read(HEAD_BYTES)
    spool.rewind()
    kind = kind_of(head)
    if kind is FileKind.ZIP:
        with zip_member(spool.stream, limits) as member:
            _check_member(member, limits, call)
    elif kind is FileKind.TAR_GZ:
        _check_member(tar_member(spool.stream, limits, call), limits, call)
    else:
        _check_text(spool.stream, spool.size, limits, call)
    return kind


def _check_member(member: Member, limits: UploadLimits, call: Call) -> None:
    name = quoted(member.name)
    try:
        head = member.stream.read(HEAD_BYTES)
        ensure_text(head, "it")
        _check_text(_Rejoined(head, member.stream), member.size, limits, call)
    except InvalidPipelineFileError as error:
        metadata = {**error.metadata, "member": name}
        raise InvalidPipelineFileError(f"{name} in the archive: {error.message}", metadata=metadata) from error


class _Rejoined:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int) -> bytes:
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        return self._rest.read(size)


def _check_text(stream: Readable, size: int, limits: UploadLimits, call: Call) -> None:
    with closing(CheckedText(stream, call)) as text:
        if size > limits.syntax_check_bytes:
            text.drain()
        else:
            check_syntax(text, call)
