"""How the page is served; and `python -m kfadapter_console.process SOCKET TARGET MAX_UPLOAD_BYTES`.

That is the page as a child of `kfadapter dev`. SOCKET is the number of an inherited listening socket. It is served
until the parent closes standard input, or dies. Neither adapter nor page requires a token: both are on loopback.
"""

import asyncio
import logging
import os
import socket
import ssl
import sys
from contextlib import AbstractContextManager, closing

from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from kfadapter_console.app import make_app
from kfadapter_grpc.client import Client
from kfadapter_grpc.client.credentials import TOKEN_FILE_VARIABLE, TOKEN_VARIABLE
from kfadapter_grpc.daemon import http

MAX_CONNECTIONS = 200
"""Further ones get 503."""
IDLE_SECONDS = 30
"""How long a connection may be without a complete head of a request."""


def serving(app: ASGIApp, listener: socket.socket, tls: ssl.SSLContext | None = None) -> AbstractContextManager[None]:
    """Serves an application on a listening socket while entered."""
    # It repeats the traceback of what app.py logs with the request, and reports every malformed request.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    limits = {"limit_concurrency": MAX_CONNECTIONS, "timeout_keep_alive": IDLE_SECONDS}
    return http.serving(app, listener, "page", tls, http=_Connection, **limits)


class _Connection(H11Protocol):
    """Closes the connection if no request begins in time: uvicorn limits the time between requests only."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(IDLE_SECONDS, self._close_if_idle, None)

    def _close_if_idle(self, last: RequestResponseCycle | None) -> None:
        """Closes the connection if no request began since `last`, and that one is complete."""
        if self.cycle is last and (last is None or last.response_complete):
            self.transport.abort()
        elif not self.transport.is_closing():
            self.loop.call_later(IDLE_SECONDS, self._close_if_idle, self.cycle)


def main() -> None:
    number, target, max_upload_bytes = sys.argv[1:]
    for name in (TOKEN_VARIABLE, TOKEN_FILE_VARIABLE):
        os.environ.pop(name, None)
    client = Client(target, tls=False)
    app = make_app(client, hosts=[], max_upload_bytes=int(max_upload_bytes))
    with closing(client), serving(app, socket.socket(fileno=int(number))):
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
