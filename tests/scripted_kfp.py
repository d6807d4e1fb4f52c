"""A KFP that misbehaves on purpose: a test scripts each route, down to single bytes."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

_MAX_STALL_SECONDS = 60.0


@dataclass(frozen=True)
class Received:
    """A request as received; `body` is the part of it that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Connection:
    """The connection that a behaviour may use."""

    sock: socket.socket
    closing: threading.Event

    def send(self, data: bytes) -> None:
        """Sends bytes."""
        self.sock.sendall(data)

    def wait(self, seconds: float) -> None:
        """Waits some seconds, or until the server is closed."""
        self.closing.wait(seconds)


Behaviour: TypeAlias = "Callable[[Connection, Received], bool]"
"""Answers a request; true keeps the connection for the next one."""


def answers(
    status: int, body: object = None, *, content_type: str = "application/json", headers: dict[str, str] | None = None
) -> Behaviour:
    """Answers immediately: `body` is JSON, or raw bytes."""
    data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    return sends(
        head(status, {"Content-Length": str(len(data)), "Content-Type": content_type, **(headers or {})}) + data
    )


def head(status: int, headers: dict[str, str]) -> bytes:
    """Returns the head of a response."""
    lines = [f"HTTP/1.1 {status} X", *(f"{key}: {value}" for key, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def sends(data: bytes, *, then_close: bool = False) -> Behaviour:
    """Sends raw bytes."""

    def behaviour(connection: Connection, _: Received) -> bool:
        connection.send(data)
        return not then_close

    return behaviour


def stalls(data: bytes = b"") -> Behaviour:
    """Sends some bytes, then nothing, and keeps the connection open."""

    def behaviour(connection: Connection, _: Received) -> bool:
        connection.send(data)
        connection.wait(_MAX_STALL_SECONDS)
        return False

    return behaviour


def drips(data: bytes, seconds: float = 0.02) -> Behaviour:
    """Sends a byte from time to time, so that no single read is ever slow."""

    def behaviour(connection: Connection, _: Received) -> bool:
        for byte in data:
            if connection.closing.is_set():
                break
            connection.send(bytes([byte]))
            connection.wait(seconds)
        return False

    return behaviour


def resets(data: bytes = b"") -> Behaviour:
    """Sends some bytes, then resets the TCP connection."""

    def behaviour(connection: Connection, _: Received) -> bool:
        connection.send(data)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    return behaviour


def after(seconds: float, behaviour: Behaviour) -> Behaviour:
    """Delays a behaviour."""

    def late(connection: Connection, received: Received) -> bool:
        connection.wait(seconds)
        return behaviour(connection, received)

    return late


@dataclass
class _Route:
    method: str
    pattern: re.Pattern[str]
    behaviours: list[Behaviour]
    reads_body: bool = True
    used: int = 0

    def next(self) -> Behaviour:
        behaviour = self.behaviours[min(self.used, len(self.behaviours) - 1)]
        self.used += 1
        return behaviour


@dataclass
class ScriptedKfp:
    """The server: routes are tried in order; unmatched requests get 599.

    Attributes:
        requests: The requests, in order.
        tls: The TLS context of the server; None for plain HTTP. May be replaced while the server runs.
    """

    requests: list[Received] = field(default_factory=list)
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self._routes: list[_Route] = []
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"

    def on(self, method: str, pattern: str, *behaviours: Behaviour, reads_body: bool = True) -> ScriptedKfp:
        """Answers requests with these behaviours in turn; the last one is repeated."""
        self._routes.append(_Route(method, re.compile(pattern), list(behaviours), reads_body))
        return self

    def first(self, method: str, pattern: str, *behaviours: Behaviour) -> ScriptedKfp:
        """The same as `on`, but tried before all routes so far."""
        self.on(method, pattern, *behaviours)
        self._routes.insert(0, self._routes.pop())
        return self

    def paths(self, method: str) -> list[str]:
        """Returns the paths of the requests of one method, in order."""
        return [request.path for request in self.requests if request.method == method]

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sockets, threads = list(self._sockets), list(self._threads)
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in threads:
            thread.join(5)

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.append(sock)
            self._start(lambda sock=sock: self._serve(sock))  # type: ignore[misc]

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError), self._secured(sock) as secured:
            line = secured.makefile("rb")
            while not self._closing.is_set() and self._serve_one(Connection(secured, self._closing), line):
                pass

    def _secured(self, sock: socket.socket) -> socket.socket:
        if self.tls is None:
            return sock
        with suppress(OSError):  # a client rejected in the handshake sends no request
            sock = self.tls.wrap_socket(sock, server_side=True)
            with self._lock:
                self._sockets.append(sock)
        return sock

    def _serve_one(self, connection: Connection, line: object) -> bool:
        first = line.readline().decode().split()  # type: ignore[attr-defined]
        if not first:
            return False
        headers: dict[str, str] = {}
        while (text := line.readline().decode().strip()) != "":  # type: ignore[attr-defined]
            key, _, value = text.partition(":")
            headers[key.strip().lower()] = value.strip()
        method, path = first[0], first[1]
        route = next((r for r in self._routes if r.method == method and r.pattern.search(path)), None)
        length = int(headers.get("content-length", "0"))
        body = line.read(length) if route is None or route.reads_body else b""  # type: ignore[attr-defined]
        received = Received(method, path, headers, body)
        self.requests.append(received)
        return (route.next() if route else answers(599, {"message": f"no route for {method} {path}"}))(
            connection, received
        )
