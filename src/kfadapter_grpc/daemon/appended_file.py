"""A file, or an open descriptor, that lines are appended to, whatever happens to the disk."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import structlog

STREAMS = {"-": 2, "stderr": 2, "stdout": 1}
"""The descriptors of names that are no paths."""
_MODE = 0o600


class AppendedFile:
    """Appends whole lines. One that cannot be written is counted, and the first of a row is logged.

    A file that was moved or removed, as by logrotate, is made anew.
    """

    def __init__(self, name: str) -> None:
        """Opens a path, or one of `STREAMS`. Raises OSError if the file cannot be opened."""
        self._path = None if name in STREAMS else Path(name)
        self._descriptor = STREAMS[name] if self._path is None else _opened(self._path)
        self._failing = False
        self._torn = False
        self.lost = 0

    def write(self, text: str) -> int:
        """Appends lines; never raises."""
        data = text.encode("utf-8", "replace")
        try:
            self._follow()
            rest = b"\n" + data if self._torn else data
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
                self._torn = bool(rest)
        except OSError as error:
            self.lost += data.count(b"\n")
            if not self._failing:
                structlog.get_logger().error("the audit log cannot be written; its lines are lost", why=error.strerror)
            self._failing = True
        else:
            if self._failing:
                structlog.get_logger().warning("the audit log is written again", lost=self.lost)
            self._failing = False
        return len(text)

    def flush(self) -> None:
        """No-op: every write is one to the system."""

    def close(self) -> None:
        if self._path is not None:
            with suppress(OSError):
                os.close(self._descriptor)

    def _follow(self) -> None:
        """Reopens the path if it is another file now."""
        if self._path is None:
            return
        ours = os.fstat(self._descriptor)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            there = None
        if there is None or (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev):
            new = _opened(self._path)
            os.close(self._descriptor)
            self._descriptor, self._torn = new, False


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
