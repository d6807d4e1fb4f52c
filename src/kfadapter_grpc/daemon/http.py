"""HTTP of processes that speak no gRPC: uvicorn on a thread, and its TLS. Needs uvicorn, which their extras bring."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp

STOP_SECONDS = 1
"""How long responses in flight have to complete when serving ends."""


@contextmanager
def serving(
    app: ASGIApp,
    listener: socket.socket,
    name: str,
    tls: ssl.SSLContext | None = None,
    *,
    http: Any = "h11",  # noqa: ANN401  a protocol, or what makes one
    **limits: Any,  # noqa: ANN401  options of uvicorn
) -> Iterator[None]:
    """Serves an application on a listening socket, on a thread of this name, while entered."""
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        loop="asyncio",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        **limits,
    )
    config.load()
    config.ssl = tls
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(2 * STOP_SECONDS + 1)


def tls_context(certificate: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """Reads a server's certificate, and the CAs of client certificates if they are required.

    Raises:
        ValueError: The files cannot be read, or are invalid.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
        if client_ca is not None:
            context.load_verify_locations(cafile=client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise ValueError(f"{certificate} and {key} cannot be used: {error}") from None
    # A resumed session would not present its certificate again.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context
