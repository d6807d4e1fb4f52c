"""From the chunks of an upload to a checked file."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, BinaryIO

import yaml

from kfadapter_grpc.contract.errors import AdapterError, InvalidPipelineFileError, KfpError
from kfadapter_grpc.contract.pipelines import FileKind, PipelineFile
from kfadapter_grpc.spool import disk_faults
from kfadapter_grpc.upload.block_style import BlockStyle
from kfadapter_grpc.upload.explanation import faulty_key, wide_character
from kfadapter_grpc.upload.kind import HEAD_BYTES, ensure_text, kind_of
from kfadapter_grpc.upload.refusal import quoted
from kfadapter_grpc.upload.spool import Arriving, UploadSpool
from kfadapter_grpc.upload.syntax import check_plain_syntax, check_syntax
from kfadapter_grpc.upload.tar_archive import tar_member
from kfadapter_grpc.upload.text import CheckedText
from kfadapter_grpc.upload.zip_archive import zip_member

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.upload.limits import UploadLimits
    from kfadapter_grpc.upload.member import Member
    from kfadapter_grpc.upload.text import Readable

_EXPLANATION_SECONDS = 10.0
"""How long the place of a fault is looked for after KFP refused a file."""


@contextmanager
def received(
    chunks: Iterable[bytes],
    limits: UploadLimits,
    *,
    total_bytes: int | None,
    sha256: bytes | None,
    call: Call,
) -> Iterator[PipelineFile]:
    """Receives a file, detects what it is, and checks its syntax, that of a text while it arrives.

    The file exists within the block only; nothing is left of it afterwards, whatever happened. If the block raises that
    KFP refused the file, or failed, without naming the place, the place is looked for and raised with the error.

    Args:
        chunks: The bytes, split in any way.
        limits: What the upload may cost.
        total_bytes: The announced size, if one was announced.
        sha256: The announced checksum, 32 bytes, if one was announced.
        call: The call that the upload belongs to; the work ends when it does.

    Yields:
        The file, its stream at position 0.

    Raises:
        UploadTooLargeError: The file, or what an archive unpacks to, is larger than the limit.
        InvalidUploadError: There are more or fewer bytes than announced, or none.
        ChecksumMismatchError: The bytes are not those announced.
        InvalidPipelineFileError: The file is not one that KFP can read.
        CallCancelledError: The client cancelled.
        KfpTimeoutError: The deadline passed first.
        InternalError: The disk is full or broken.
    """
    with closing(UploadSpool(limits)) as spool:
        arriving = Arriving(spool, chunks, limits, total_bytes=total_bytes, sha256=sha256, call=call)
        try:
            with disk_faults():
                kind = _checked_kind(spool, arriving, limits, call)
        except InvalidPipelineFileError:
            arriving.complete()  # a fault of the transfer explains one of the file, and is reported in its place
            raise
        arriving.complete()
        spool.rewind()
        file = PipelineFile(spool.stream, spool.size, spool.sha256, kind)
        try:
            yield file
        except (InvalidPipelineFileError, KfpError) as error:
            place = _try_place(error, file, limits, call.apart(_EXPLANATION_SECONDS))
            if place is None:
                raise
            raise place from error


def _try_place(error: AdapterError, file: PipelineFile, limits: UploadLimits, call: Call) -> AdapterError | None:
    """Finds what in the file explains why KFP refused it, or failed to store it, if KFP's words leave that open."""
    if isinstance(error, InvalidPipelineFileError) and "unknown template format" in error.message:
        find = faulty_key
    elif "(upload" in error.message and error.metadata.get("kfp_status") == "500":
        find = wide_character
    else:
        return None
    try:
        file.stream.seek(0)
        with _opened(file.kind, file.stream, limits, call) as stream, closing(CheckedText(stream, call)) as text:
            found = find(text, call)
    except (AdapterError, yaml.YAMLError, OSError):
        return None
    return found and InvalidPipelineFileError(found.message, metadata={**error.metadata, **found.metadata})


@contextmanager
def _opened(kind: FileKind, stream: BinaryIO, limits: UploadLimits, call: Call) -> Iterator[Readable]:
    """Opens the text of a file that was checked."""
    if kind is FileKind.ZIP:
        with zip_member(stream, limits) as member:
            yield member.stream
    else:
        yield tar_member(stream, limits, call).stream if kind is FileKind.TAR_GZ else stream


def _checked_kind(spool: UploadSpool, arriving: Arriving, limits: UploadLimits, call: Call) -> FileKind:
    """Checks a file: a text while it arrives, an archive once all of it is there."""
    head = _read_head(arriving)
    kind = kind_of(head)
    if kind in {FileKind.ZIP, FileKind.TAR_GZ}:
        arriving.complete()
        spool.rewind()
        if kind is FileKind.TAR_GZ:
            _check_member(tar_member(spool.stream, limits, call), call)
        else:
            with zip_member(spool.stream, limits) as member:
                _check_member(member, call)
    else:
        _check_arriving(arriving, call)
    return kind


def _check_arriving(arriving: Arriving, call: Call) -> None:
    """Checks a text while it arrives: without its parts if it is plain, otherwise from its beginning with them."""
    arriving.restart()
    with closing(CheckedText(arriving, call, style=BlockStyle())) as text:
        if check_plain_syntax(text):
            return
    arriving.restart()
    with closing(CheckedText(arriving, call, arriving.complete)) as text:
        check_syntax(text, call)


def _read_head(stream: Readable) -> bytes:
    head = b""
    while len(head) < HEAD_BYTES and (piece := stream.read(HEAD_BYTES - len(head))):
        head += piece
    return head


def _check_member(member: Member, call: Call) -> None:
    name = quoted(member.name)
    try:
        head = _read_head(member.stream)
        ensure_text(head, "it")
        with closing(CheckedText(_Rejoined(head, member.stream), call)) as text:
            check_syntax(text, call)
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
