"""A TCP proxy whose lines can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

_PIECE_BYTES = 64 * 1024


class CuttingProxy:
    """Passes connections on to a server on loopback, until it is told to cut them.

    Attributes:
        url: Its address, in place of the server's.
        cuts: How many connections were cut.
    """

    def __init__(self, url: str, cut_after: Callable[[], int | None] = lambda: None) -> None:
        """Stands before the server of `url`.

        Args:
            url: Where the server is.
            cut_after: Tells for each new connection after how many bytes, in both directions, it is cut; None: never.
        """
        parts = urlsplit(url)
        self._server = (parts.hostname or "", parts.port or 80)
        self._cut_after = cut_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0
        self._lock = threading.Lock()
        self._lines: set[_Line] = set()
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)

    @property
    def target(self) -> str:
        """Its address as HOST:PORT."""
        return self.url.removeprefix("http://")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.cut()

    def cut(self) -> None:
        """Cuts all connections that are open."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.cut()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server, timeout=5)
            except OSError:
                caller.close()
                continue
            server.settimeout(None)
            line = _Line(caller, server, self._cut_after())
            with self._lock:
                self._lines.add(line)
            for source, sink in ((caller, server), (server, caller)):
                threading.Thread(target=self._pass, args=(line, source, sink), daemon=True).start()

    def _pass(self, line: _Line, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE_BYTES):
                sink.sendall(line.allowed(data))
                if line.spent:
                    line.cut()
                    break
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        with self._lock:
            self.cuts += line.finished()
            self._lines.discard(line)


class _Line:
    """A connection on both sides of the proxy."""

    def __init__(self, caller: socket.socket, server: socket.socket, left: int | None) -> None:
        self._sides = (caller, server)
        self._left = left
        self._lock = threading.Lock()
        self._directions = len(self._sides)
        self._was_cut = False

    @property
    def spent(self) -> bool:
        """Whether all bytes that it may pass have passed."""
        return self._left == 0

    def allowed(self, data: bytes) -> bytes:
        """The part of the bytes that may still pass."""
        with self._lock:
            if self._left is None:
                return data
            data = data[: self._left]
            self._left -= len(data)
            return data

    def cut(self) -> None:
        """Ends it on both sides at once, with what was on its way lost."""
        self._was_cut = True
        for side in self._sides:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def finished(self) -> bool:
        """Notes that one direction has ended; closes the sockets after the second, and tells whether it was cut."""
        with self._lock:
            self._directions -= 1
            last = not self._directions
        if last:
            for side in self._sides:
                side.close()
        return last and self._was_cut
