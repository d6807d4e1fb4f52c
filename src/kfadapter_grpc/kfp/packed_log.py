"""Reads an archived log out of KFP's answer: base64 in JSON, and in that perhaps gzip, and in that perhaps tar.

Everything is done piece by piece: what is kept does not grow with the log, however well it is packed.
"""

from __future__ import annotations

import binascii
import re
import tarfile
import zlib
from itertools import chain
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.log_errors import NoLogError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_UNPACKED_BYTES = 16 * 1024**3
"""How much a packed log may become."""
_PIECE_BYTES = 64 * 1024
_MAX_HEAD_BYTES = 1024
_HEAD = re.compile(rb'\s*\{\s*"data"\s*:\s*"')
_EMPTY = re.compile(rb"\s*\{\s*\}\s*")
_GZIP = b"\x1f\x8b"
_CUT = "the archived log is cut short"


def log_in(answer: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the log that is in an answer of KFP's `main-logs:read`.

    Raises:
        NoLogError: The answer is no such answer, or ends too early; KFP says 200 before it reads the file.
    """
    first, file = _peek(_decoded(answer), len(_GZIP))
    if not first.startswith(_GZIP):
        yield from file
        return
    first, unpacked = _peek(_unzipped(file), tarfile.BLOCKSIZE)
    size = _size_in_tar(first)
    yield from unpacked if size is None else _cut_out(unpacked, tarfile.BLOCKSIZE, size)


def _decoded(answer: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the bytes that are in the field `data` of a JSON object with nothing else."""
    pieces, head = iter(answer), b""
    while (found := _HEAD.match(head)) is None:
        piece = next(pieces, b"")
        head += piece
        if not piece and _EMPTY.fullmatch(head):
            return
        if not piece or len(head) > _MAX_HEAD_BYTES + len(piece):
            raise NoLogError("Kubeflow Pipelines answered something else than an archived log")
    left = b""
    for piece in chain((head[found.end() :],), pieces):
        text, quote, _ = (left + piece).partition(b'"')
        whole = len(text) if quote else len(text) // 4 * 4
        left = text[whole:]
        try:
            yield binascii.a2b_base64(text[:whole])
        except binascii.Error:
            raise NoLogError(_CUT) from None
        if quote:
            return
    raise NoLogError(_CUT)


def _unzipped(packed: Iterable[bytes]) -> Iterator[bytes]:
    """Yields what gzip packed, at most `_PIECE_BYTES` at once."""
    inflater, size = zlib.decompressobj(zlib.MAX_WBITS | 16), 0
    try:
        for piece in packed:
            data = inflater.decompress(piece, _PIECE_BYTES)
            while data:
                size += len(data)
                if size > MAX_UNPACKED_BYTES:
                    raise NoLogError(f"the archived log is larger than {MAX_UNPACKED_BYTES} bytes")
                yield data
                data = inflater.decompress(inflater.unconsumed_tail, _PIECE_BYTES)
    except zlib.error:
        raise NoLogError("the archived log is damaged") from None
    if not inflater.eof:
        raise NoLogError(_CUT)


def _size_in_tar(head: bytes) -> int | None:
    """The size of the file behind a header of tar; None if this is none."""
    try:
        info = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    return info.size if info.isreg() else None


def _cut_out(pieces: Iterable[bytes], start: int, size: int) -> Iterator[bytes]:
    """Yields `size` bytes from `start` on."""
    skip, left = start, size
    for piece in pieces:
        data = piece[skip : skip + left]
        skip = max(0, skip - len(piece))
        left -= len(data)
        if data:
            yield data
        if not left:
            return
    if left:
        raise NoLogError(_CUT)


def _peek(pieces: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, and all of them again."""
    first = b""
    while len(first) < size and (piece := next(pieces, None)) is not None:
        first += piece
    return first[:size], chain((first,) if first else (), pieces)
