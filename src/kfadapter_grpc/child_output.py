"""Reads the output of a child process."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import IO

TAIL_BYTES = 8 << 10
"""The number of bytes kept of the end of a child's output."""
_TAIL_SECONDS = 1.0


class Tail:
    """Reads a stream to its end on its own thread, so that the writer never blocks, and keeps the last part."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._kept = b""
        self._thread = threading.Thread(target=self._read, name="tail", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """Waits briefly for the end: a process that the writer started may hold the stream open."""
        self._thread.join(_TAIL_SECONDS)
        return self._kept.decode(errors="replace").strip()

    def _read(self) -> None:
        # The stream may have been closed if the child has ended.
        with contextlib.suppress(OSError, ValueError), self._stream as stream:
            while piece := os.read(stream.fileno(), TAIL_BYTES):
                self._kept = (self._kept + piece)[-TAIL_BYTES:]


def piped(stream: IO[bytes] | None) -> IO[bytes]:
    """The stream of a child that was started with this pipe."""
    if stream is None:
        raise TypeError("the child was started without this pipe")
    return stream
