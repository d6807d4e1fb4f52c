"""Signals that stop a process."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

INTERRUPTED = 130
"""The exit code after a second SIGINT."""


class StopSignals:
    """Catches SIGTERM and SIGINT while entered; a SIGINT after the first signal exits immediately.

    Python runs a handler when the main thread next executes Python code; one that waits for a lock may never do
    so. Hence a thread reads what the interpreter itself writes when a signal arrives.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._first: str = ""
        self._received = threading.Event()
        self._handlers: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno())
        for number in _STOPPING:
            self._handlers[number] = signal.signal(number, lambda *_: None)
        threading.Thread(target=self._read, name="signals", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._writer.close()

    def wait(self) -> str:
        """Waits for the first signal; returns its name."""
        self._received.wait()
        return self._first

    def _read(self) -> None:
        with self._reader:
            while received := self._reader.recv(1):
                number = received[0]
                if number == signal.SIGINT and self._received.is_set():
                    os._exit(INTERRUPTED)
                if number in _STOPPING and not self._received.is_set():
                    self._first = signal.Signals(number).name
                    self._received.set()


_STOPPING = (signal.SIGTERM, signal.SIGINT)
