"""Listens for HTTP, on a thread of its own with an event loop, and answers requests on a pool of threads."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from kfadapter_oran.legacy_http import limits
from kfadapter_oran.legacy_http.exchange import Exchange
from kfadapter_oran.legacy_http.request import RequestHandling

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from kfadapter_grpc.interceptors.in_process import InProcess

SHARE = 4
"""One of so many parts of the connections is kept from an address that has the others."""
_PAUSE_SECONDS = 0.1
_STOP_SECONDS = 2.0


class LegacyHttp:
    """Answers the Flask adapter's routes from `start` to `stop`.

    Attributes:
        address: Where it listens, HOST:PORT; with the bound port once it has started.
    """

    def __init__(
        self,
        listen: str,
        calls: InProcess,
        *,
        places: int,
        max_upload_bytes: int,
        tls: Callable[[], ssl.SSLContext] | None = None,
        observe: Callable[[str, int], None] = lambda _route, _status: None,
    ) -> None:
        """Will listen on HOST:PORT.

        Args:
            listen: The address.
            calls: Makes calls of the adapter's services.
            places: How many requests may call at once.
            max_upload_bytes: The largest file that is taken.
            tls: Tells what new connections are shown; None: plain text.
            observe: Is told the route and the status of each answer.
        """
        self.address = listen
        self._tls = tls
        self._threads = ThreadPoolExecutor(places, thread_name_prefix="http")
        self._handling = RequestHandling(calls, self._threads, places, max_upload_bytes, observe)
        self._thread = threading.Thread(target=self._run, name="legacy-http", daemon=True)
        self._open: dict[asyncio.Task[None], tuple[str, Exchange | None]] = {}
        self._held: Counter[str] = Counter()
        self._log: FilteringBoundLogger = structlog.get_logger()

    def start(self, listener: socket.socket) -> None:
        """Takes connections at a socket that listens on the address, and closes it at the end."""
        self._listener = listener
        self._listener.setblocking(False)
        self.address = f"{self.address.rpartition(':')[0]}:{self._listener.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread.start()

    def drain(self) -> None:
        """Refuses new requests from now on; those that are being answered go on."""
        self._handling.drain()

    def wait_idle(self, seconds: float) -> bool:
        """Waits until no request is being answered, at most `seconds`; tells whether that came true."""
        return self._handling.wait_idle(seconds)

    def stop(self) -> None:
        """Ends, and all connections with it. Harmless when repeated."""
        self.drain()
        if self._thread.is_alive():
            with suppress(RuntimeError):  # it has ended meanwhile
                self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(_STOP_SECONDS)
        self._threads.shutdown(wait=False)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        accepting = asyncio.create_task(self._accept())
        await self._stopped.wait()
        accepting.cancel()
        self._listener.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}  # those who read files for threads, too
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_STOP_SECONDS / 2)

    async def _accept(self) -> None:
        while True:
            try:
                connection, address = await self._loop.sock_accept(self._listener)
            except OSError as error:  # a connection that is gone already, or no file descriptor that is free
                self._log.warning("a connection could not be taken", why=error.strerror)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            peer = str(address[0])
            if not self._makes_room(peer):
                connection.close()
                continue
            task = asyncio.create_task(self._connected(connection, peer))
            self._open[task] = peer, None
            self._held[peer] += 1
            task.add_done_callback(self._forget)
            await asyncio.sleep(0)  # while others wait to be accepted, nothing else here would give way

    def _makes_room(self, peer: str) -> bool:
        """Whether there is a place; where all are taken, who has been silent for longest loses his."""
        share = limits.MAX_CONNECTIONS // SHARE
        left = limits.MAX_CONNECTIONS - len(self._open)
        if left > share or (left and self._held[peer] < share):
            return True
        idle = (task for task, (_, exchange) in self._open.items() if exchange is None or not exchange.method)
        longest = next(idle, None)
        if longest is None:
            return False
        self._leave(longest)
        longest.cancel()
        return True

    def _leave(self, task: asyncio.Task[None]) -> None:
        if task in self._open:
            peer, _ = self._open.pop(task)
            self._held[peer] -= 1
            if not self._held[peer]:
                del self._held[peer]

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._leave(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._log.error("a connection could not be served", exc_info=fault)

    async def _connected(self, connection: socket.socket, peer: str) -> None:
        """Serves one connection. Of what goes wrong on it its peer hears, by its end, and nobody else."""
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        context = self._tls() if self._tls else None
        with suppress(OSError, asyncio.TimeoutError):
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=context,
                ssl_handshake_timeout=limits.HEAD_SECONDS if context else None,
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            try:
                exchange = Exchange(reader, writer)
                task = asyncio.current_task()
                if task in self._open:
                    self._open[task] = peer, exchange
                await self._handling.handle(exchange, peer, transport.get_extra_info("ssl_object"))
            finally:
                writer.transport.abort()
