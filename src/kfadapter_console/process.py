"""The page as a process: served by uvicorn on a thread until SIGTERM or SIGINT."""

import asyncio
import logging
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from kfadapter_console.app import make_app
from kfadapter_console.command import ConsoleOptions
from kfadapter_grpc.addresses import split_address
from kfadapter_grpc.client import Client
from kfadapter_grpc.daemon.listening import bound_socket
from kfadapter_grpc.daemon.signals import StopSignals
from kfadapter_grpc.setting_sources import SettingsError

STOP_SECONDS = 1
"""The grace period of in-flight requests."""
MAX_CONNECTIONS = 200
"""Further ones get 503."""
IDLE_SECONDS = 30
"""How long a connection may be without a complete head of a request."""


def run(client: Client, options: ConsoleOptions) -> None:
    """Serves until SIGTERM or SIGINT, and closes the client. Main thread only."""
    host, tls = split_address(options.listen)[0], _tls(options) if options.tls_certificate else None
    app = make_app(
        client, hosts=[options.host or host], read_only=options.read_only, max_upload_bytes=options.max_upload_bytes
    )
    with (
        closing(client),
        closing(bound_socket(options.listen, "--listen")) as listener,
        StopSignals() as signals,
        serving(app, listener, tls),
    ):
        name = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"{'https' if tls else 'http'}://{name}:{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        signals.wait()


@contextmanager
def serving(app: ASGIApp, listener: socket.socket, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """Serves an application on a listening socket while entered."""
    config = uvicorn.Config(
        app,
        ws="none",
        loop="asyncio",
        http=_Connection,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    config.load()
    config.ssl = tls
    # It repeats the traceback of what app.py logs with the request, and reports every malformed request.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="page", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(2 * STOP_SECONDS + 1)


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


def _tls(options: ConsoleOptions) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(str(options.tls_certificate), str(options.tls_key), password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"{options.tls_certificate} and {options.tls_key} cannot be used: {error}") from None
    return context
