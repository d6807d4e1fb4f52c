"""The page as a process: served by uvicorn on a thread until SIGTERM or SIGINT."""

import asyncio
import logging
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

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
"""How long answers that are on their way have to leave when the server stops; live pages never end by themselves."""
MAX_REQUESTS = 200
"""How many connections are served at once; further ones get 503."""
IDLE_SECONDS = 30
"""How long a connection may be without a request, also with half the head of one."""


def run(client: Client, options: ConsoleOptions) -> None:
    """Serves until SIGTERM or SIGINT, and closes the client. Main thread only."""
    with ExitStack() as stages:
        listener = stages.enter_context(closing(bound_socket(options.listen, "--listen")))
        host = split_address(options.listen)[0]
        signals = stages.enter_context(StopSignals())
        app = make_app(
            client,
            hosts=[options.host or host],
            read_only=options.read_only,
            max_upload_bytes=options.max_upload_bytes,
        )
        tls = _tls(options) if options.tls_certificate else None
        stages.enter_context(serving(app, listener, tls))
        stages.enter_context(closing(client))  # first of all, as that ends the calls of live pages
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"{'https' if tls else 'http'}://{shown}:{listener.getsockname()[1]}\n")
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
        limit_concurrency=MAX_REQUESTS,
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
    """A connection that is closed if no request begins in time: uvicorn bounds the time between requests only."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(IDLE_SECONDS, self._close_if_idle, None)

    def _close_if_idle(self, last: RequestResponseCycle | None) -> None:
        """Closes the connection if no request began since `last`, and that one has been answered."""
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
