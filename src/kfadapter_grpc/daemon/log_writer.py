"""Writes log lines on a thread of its own: no call waits for whoever reads the log."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

import structlog

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

MOST_LINES = 10_000
"""How many lines wait at most while nobody reads them."""
_GATHER_SECONDS = 0.02
"""How long lines are gathered: one write for many lines, where a write for each cost a fifth of a short call."""
_CLOSE_SECONDS = 2.0


class LogWriter:
    """A text stream for log lines; a context manager that writes what waits when it is left.

    What is written while too many lines wait is dropped, and a line says how many were. After the end, lines are
    written at once.

    Attributes:
        dropped: How many lines have been dropped so far.
    """

    def __init__(self, stream: TextIO, most_lines: int = MOST_LINES) -> None:
        """Writes to `stream`, which belongs to the caller."""
        self._stream = stream
        self._most_lines = most_lines
        self._lines: deque[str] = deque()
        self.dropped = self._told_dropped = 0
        self._waiting = threading.Event()
        self._closed = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._waiting.set()
        self._thread.join(_CLOSE_SECONDS)

    def write(self, text: str) -> int:
        """Takes a text that ends with a line break."""
        if len(self._lines) < self._most_lines:
            self._lines.append(text)
        else:
            self.dropped += 1
        if self._closed.is_set():
            self._write_waiting()
        elif not self._waiting.is_set():
            self._waiting.set()
        return len(text)

    def flush(self) -> None:
        """Does nothing: lines are on their way as soon as they are taken."""

    def _run(self) -> None:
        while not self._closed.is_set():
            self._waiting.wait()
            self._closed.wait(_GATHER_SECONDS)
            self._waiting.clear()
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        if not self._writing.acquire(timeout=_CLOSE_SECONDS):
            return  # nobody reads
        try:
            text = "".join(self._lines.popleft() for _ in range(len(self._lines)))
            dropped = self.dropped - self._told_dropped
            self._told_dropped += dropped
            with suppress(OSError, ValueError):  # a log that cannot be written ends no call
                self._stream.write(text)
                self._stream.flush()
        finally:
            self._writing.release()
        if dropped:
            structlog.get_logger().warning("log lines were dropped, as nobody read them", lines=dropped)
