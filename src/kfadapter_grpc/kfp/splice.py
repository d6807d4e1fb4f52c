"""Reads ranges of a stream, and texts between them, as one stream."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, BinaryIO

from kfadapter_grpc.spool import disk_faults

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kfadapter_grpc.kfp.json_ranges import Range


class Splice:
    """The parts of a stream, one after the other. Nobody else may read the stream meanwhile."""

    def __init__(self, source: BinaryIO, parts: Iterable[Range | bytes]) -> None:
        """Will read `parts`: ranges are those of `source`, bytes stand for themselves."""
        self._source = source
        self._parts = deque(parts)
        self._at = 0  # how much of the first part has been read

    def read(self, size: int) -> bytes:
        """Reads the next `size` bytes; fewer at the end, none behind it.

        Raises:
            InternalError: The disk is broken.
        """
        read = b""
        while self._parts and len(read) < size:
            piece = self._piece(self._parts[0], size - len(read))
            read = read + piece if read else piece
            self._at += len(piece)
            if not piece:
                self._parts.popleft()
                self._at = 0
        return read

    def _piece(self, part: Range | bytes, size: int) -> bytes:
        if isinstance(part, bytes):
            return part[self._at : self._at + size]
        with disk_faults():
            self._source.seek(part.begin + self._at)
            return self._source.read(min(size, part.end - part.begin - self._at))
