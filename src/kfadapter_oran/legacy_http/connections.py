"""Limits on connections, around uvicorn's HTTP/1.1 protocol: their number, and the time for a request's head."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from kfadapter_oran.legacy_http import limits

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from kfadapter_oran.legacy_http.app import LegacyHttp


class Connections:
    """The open connections of a server."""

    def __init__(self) -> None:
        self._open: dict[Connection, str] = {}  # oldest first
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection, peer: str) -> bool:
        """Adds a connection; if all slots are in use, the one that has been idle for longest is closed."""
        share = limits.MAX_CONNECTIONS // limits.SHARE
        left = limits.MAX_CONNECTIONS - len(self._open)
        if not (left > share or (left and self._counts[peer] < share)):
            idle = next((other for other in self._open if other.cycle is None), None)
            if idle is None:
                return False
            self.remove(idle)
            idle.transport.abort()
        self._open[connection] = peer
        self._counts[peer] += 1
        return True

    def remove(self, connection: Connection) -> None:
        """Removes a connection. Idempotent."""
        if connection in self._open:
            self._counts -= Counter([self._open.pop(connection)])


class Connection(H11Protocol):
    """One connection: TLS, if any, one request, and its response, each with a time limit."""

    transport: asyncio.Transport

    def __init__(
        self,
        app: LegacyHttp,
        connections: Connections,
        tls: Callable[[], ssl.SSLContext] | None,
        **uvicorn: Any,  # noqa: ANN401 - uvicorn's own business
    ) -> None:
        """A connection of `connections`; `tls` returns the context for new ones."""
        super().__init__(**uvicorn)
        self._legacy = app
        self._connections = connections
        self._tls = tls
        self._peer = ""
        self._has_received = self._rejected = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._response_timer: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._early_data = bytearray()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts; a connection beyond the limit is closed immediately."""
        super().connection_made(transport)
        self._peer = str(transport.get_extra_info("peername")[0])
        if not self._connections.add(self, self._peer):
            self.transport.abort()
            return
        self._head_timer = self.loop.call_later(limits.HEAD_SECONDS, self._head_timed_out)
        if self._tls is not None:
            transport.pause_reading()
            self._handshake = self.loop.create_task(self._start_tls(transport, self._tls()))

    def connection_lost(self, exc: Exception | None) -> None:
        """Cleans up after the connection."""
        self._connections.remove(self)
        for timer in (self._head_timer, self._response_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Processes received data; data after a rejected request is dropped."""
        if self._rejected:
            return
        if self._handshake is not None:  # the end of the handshake delivers data before the transport for the response
            self._early_data += data
            return
        self._has_received = True
        super().data_received(data)
        if self.cycle is not None and self._head_timer is not None:
            self._head_timer.cancel()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Handles that the client sends no more; without TLS it may still wait for the response."""
        if self._rejected or self.cycle is None or self.scheme == "https":
            return False
        self.cycle.more_body = False  # readers of an incomplete body detect that it is incomplete
        self.cycle.message_event.set()
        return True

    def pause_writing(self) -> None:
        """Limits the time to send a response."""
        super().pause_writing()
        self._limit_response(limits.RESPONSE_SECONDS)

    def on_response_complete(self) -> None:
        """Limits the time to send the rest of a response."""
        super().on_response_complete()
        self._limit_response(limits.RESPONSE_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Responds to a malformed request, with h11's message."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else HTTPStatus.BAD_REQUEST
        self._reject(status, f"the request cannot be read: {error or msg}")

    async def _start_tls(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        try:
            secured = await self.loop.start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=limits.HEAD_SECONDS
            )
        except (OSError, asyncio.TimeoutError) as error:
            self.connection_lost(error)
            return
        if secured is not None:  # otherwise the connection was lost right after the handshake
            super().connection_made(secured)
            self._handshake = None
            if self._early_data:
                self.data_received(bytes(self._early_data))

    def _head_timed_out(self) -> None:
        if self._has_received:
            self._reject(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time")
        else:
            self.transport.abort()

    def _limit_response(self, seconds: float) -> None:
        if self._response_timer is None:
            self._response_timer = self.loop.call_later(seconds, self.transport.abort)

    def _reject(self, status: int, message: str) -> None:
        """Responds, and drops further data for a while: many clients read only after sending everything."""
        self._rejected = True
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.abort()
            return
        response = self._legacy.refusal(status, message, self._peer)
        reason = HTTPStatus(status).phrase.encode("ascii")
        head = h11.Response(status_code=status, headers=response.raw_headers, reason=reason)
        for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._limit_response(limits.LINGER_SECONDS)
