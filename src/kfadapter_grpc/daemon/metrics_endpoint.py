"""Serves metrics, and health where there is some to tell, over HTTP, on a port and a thread of its own.

Nothing that others do there may hold up calls: one thread, few connections at a time, each for a short time, and no
more than a part of a core for writing metrics. Who connects and says nothing makes room for those who come after.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

import structlog

from kfadapter_grpc.daemon.listening import bound_socket

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from structlog.typing import FilteringBoundLogger
    from typing_extensions import Self

OPTION = "--metrics-listen"
"""The option that tells the address."""
PATH = "/metrics"
"""Where metrics are."""
HEALTH_PATH = "/healthz"
"""Where health is."""
MAX_CONNECTIONS = 32
"""How many connections are served at once."""
MAX_REQUEST_BYTES = 16 * 1024
"""How long a request may be."""
REQUEST_SECONDS = 5.0
"""How long a request may take to arrive."""
ANSWER_SECONDS = 10.0
"""How long an answer may take to leave."""
REST = 4
"""After metrics were written, none are for so many times as long as that took: a fifth of a core goes there at most."""
_STOP_SECONDS = 1.0
_SILENT = True
_TEXT = "text/plain; charset=utf-8"

Answer: TypeAlias = "tuple[HTTPStatus, str, bytes]"
"""Status, content type and body."""


class MetricsEndpoint:
    """Answers `GET /metrics` while it is entered.

    Attributes:
        address: Where it listens, HOST:PORT; with the bound port once it is entered.
    """

    def __init__(
        self,
        listen: str,
        render: Callable[[str], tuple[bytes, str]],
        health: Callable[[], tuple[bool, bytes]] | None = None,
    ) -> None:
        """Will listen on HOST:PORT.

        Args:
            listen: Where.
            render: Makes the body and its content type, as an `Accept` header wants them.
            health: Tells whether all is well, and a JSON document that says more; None: health is told elsewhere.
        """
        self.address = listen
        self._render = render
        self._health = health
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._open: dict[asyncio.StreamWriter, bool] = {}
        self._turn = asyncio.Lock()
        self._stopped = asyncio.Event()
        self._log: FilteringBoundLogger = structlog.get_logger()

    def __enter__(self) -> Self:
        """Listens.

        Raises:
            ServerStartError: The address cannot be listened on.
        """
        self._listener = bound_socket(self.address, OPTION)
        self.address = f"{self.address.rpartition(':')[0]}:{self._listener.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._listener, limit=MAX_REQUEST_BYTES)
        await self._stopped.wait()
        server.close()
        for writer in self._open:
            writer.transport.abort()
        if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=_STOP_SECONDS / 2)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # Of what goes wrong on a connection its peer hears, by its end, and nobody else.
            with suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                if self._makes_room():
                    self._open[writer] = _SILENT
                    request = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), REQUEST_SECONDS)
                    self._open[writer] = not _SILENT
                    await self._answer(request, writer)
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()  # what was to be sent has been

    def _makes_room(self) -> bool:
        """Whether there is a place; where all are taken, who has been silent for longest loses his."""
        if len(self._open) < MAX_CONNECTIONS:
            return True
        longest = next((writer for writer, silent in self._open.items() if silent), None)
        if longest is None:
            return False
        del self._open[longest]
        longest.transport.abort()
        return True

    async def _answer(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        method, path, accept = _read(request)
        status, content_type, body = await self._answer_to(method, path, accept)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.transport.set_write_buffer_limits(0)  # so that drain waits until the system has taken everything
        writer.write(head.encode() + (b"" if method == "HEAD" else body))
        await asyncio.wait_for(writer.drain(), ANSWER_SECONDS)

    async def _answer_to(self, method: str, path: str, accept: str) -> Answer:
        if not path:
            return HTTPStatus.BAD_REQUEST, _TEXT, b"this is no request of HTTP/1\n"
        if path != PATH and (path != HEALTH_PATH or self._health is None):
            return HTTPStatus.NOT_FOUND, _TEXT, f"metrics are at {PATH}\n".encode()
        if method not in {"GET", "HEAD"}:
            return HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"metrics can only be read\n"
        await self._turn.acquire()
        began = time.monotonic()
        try:
            return self._told_health() if path == HEALTH_PATH else self._metrics(accept)
        except Exception:  # noqa: BLE001 - whoever asks must hear that something is wrong
            self._log.exception("metrics cannot be written")
            return HTTPStatus.INTERNAL_SERVER_ERROR, _TEXT, b"metrics cannot be written; see the log\n"
        finally:
            self._loop.call_later((time.monotonic() - began) * REST, self._turn.release)

    def _metrics(self, accept: str) -> Answer:
        body, content_type = self._render(accept)
        return HTTPStatus.OK, content_type, body

    def _told_health(self) -> Answer:
        well, body = self._health() if self._health else (False, b"")
        return HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, "application/json", body


def _read(request: bytes) -> tuple[str, str, str]:
    """Tells method, path without query, and the `Accept` header; the path is empty where it is no HTTP/1."""
    first, *lines = request.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    target, _, protocol = rest.rpartition(" ")
    headers = (line.partition(":") for line in lines)
    accept = next((value.strip() for name, _, value in headers if name.lower() == "accept"), "")
    return method, target.partition("?")[0] if protocol.startswith("HTTP/1.") else "", accept
