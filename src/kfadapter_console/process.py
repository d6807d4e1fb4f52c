"""The page as a process: served by uvicorn until SIGTERM or SIGINT."""

from __future__ import annotations

import ssl
import sys
import threading
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import uvicorn

from kfadapter_console.app import make_app
from kfadapter_grpc.addresses import split_address
from kfadapter_grpc.daemon.listening import bound_socket
from kfadapter_grpc.daemon.signals import StopSignals
from kfadapter_grpc.setting_sources import SettingsError

if TYPE_CHECKING:
    from kfadapter_console.command import ConsoleOptions
    from kfadapter_grpc.client import Client

STOP_SECONDS = 1
"""How long answers that are on their way have to leave when the server stops; live pages never end by themselves."""
MAX_REQUESTS = 200
"""How many connections are served at once; further ones get 503."""
IDLE_SECONDS = 30
"""How long a connection without a request stays open."""


def run(client: Client, options: ConsoleOptions) -> None:
    """Serves until SIGTERM or SIGINT. Main thread only.

    Args:
        client: The client of the adapter; closed at the end.
        options: The options of the page.

    Raises:
        ServerStartError: The address cannot be bound.
        SettingsError: The certificate or its key cannot be used.
    """
    with ExitStack() as stages:
        stages.enter_context(closing(client))
        listener = stages.enter_context(closing(bound_socket(options.listen, "--listen")))
        host, port = split_address(options.listen)[0], listener.getsockname()[1]
        signals = stages.enter_context(StopSignals())
        app = make_app(
            client,
            hosts=[options.host or host],
            read_only=options.read_only,
            max_upload_bytes=options.max_upload_bytes,
            secure=options.tls_certificate is not None,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                ws="none",
                loop="asyncio",
                http="h11",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MAX_REQUESTS,
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        server.config.load()
        if options.tls_certificate and options.tls_key:
            server.config.ssl = _tls(options)
        thread = threading.Thread(target=server.run, args=([listener],), name="console", daemon=True)
        thread.start()
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"{'https' if options.tls_certificate else 'http'}://{shown}:{port}\n")
        sys.stdout.flush()
        signals.wait()
        server.should_exit = True
        thread.join(2 * STOP_SECONDS + 1)


def _tls(options: ConsoleOptions) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(str(options.tls_certificate), str(options.tls_key), password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"{options.tls_certificate} and {options.tls_key} cannot be used: {error}") from None
    return context
