"""Unpacks gzip piece by piece, with a bound on how much it unpacks."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from kfadapter_grpc.upload.limits import ensure_wanted, unpacked_too_large
from kfadapter_grpc.upload.member import damaged
from kfadapter_grpc.upload.refusal import refusal

if TYPE_CHECKING:
    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.upload.text import Readable

_PIECE = 1 << 16
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class Gunzip:
    """The unpacked bytes of a gzip file."""

    def __init__(self, stream: Readable, call: Call, most: int) -> None:
        """Unpacks at most `most` bytes."""
        self._stream = stream
        self._call = call
        self._most = most
        self._left = most
        self._inflate = zlib.decompressobj(_GZIP_WINDOW)
        self._packed = b""

    def read(self, size: int) -> bytes:
        """Reads up to `size` bytes; none at the end.

        Raises:
            InvalidPipelineFileError: The file is damaged.
            UploadTooLargeError: It holds more than it may.
        """
        while not self._inflate.eof:
            piece = self._unpack(min(size, _PIECE))
            if piece:
                self._left -= len(piece)
                if self._left < 0:
                    raise unpacked_too_large(self._most)
                return piece
        if self._inflate.unused_data or self._stream.read(1):
            raise refusal("The gzip file goes on behind its end. Pack it as one piece, with `tar czf`.")
        return b""

    def read_exactly(self, size: int) -> bytes:
        """Reads `size` bytes, or fewer at the end."""
        pieces: list[bytes] = []
        while size and (piece := self.read(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def skip(self, size: int) -> None:
        """Passes over `size` bytes."""
        while size:
            piece = self.read(size)
            if not piece:
                raise damaged("tar.gz", "its end is missing")
            size -= len(piece)

    def _unpack(self, size: int) -> bytes:
        ensure_wanted(self._call)
        packed = self._packed or self._stream.read(_PIECE)
        try:
            piece = self._inflate.decompress(packed, size)
        except zlib.error as error:
            raise damaged("tar.gz", "it cannot be unpacked") from error
        if not (packed or piece or self._inflate.eof):
            raise damaged("tar.gz", "its end is missing")
        self._packed = self._inflate.unconsumed_tail
        return piece
