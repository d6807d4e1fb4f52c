"""The gateway as a process: served by uvicorn on a thread, stopped by signals."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, cast

import structlog
import uvicorn

from kfadapter_grpc.addresses import is_loopback, split_address
from kfadapter_grpc.auth.reloaded_files import Refresher, Reloaded
from kfadapter_grpc.daemon.listening import bound_socket
from kfadapter_grpc.daemon.log import logging_to_stderr
from kfadapter_grpc.daemon.metrics_endpoint import MetricsEndpoint
from kfadapter_grpc.daemon.signals import StopSignals
from kfadapter_grpc.metrics import catalog
from kfadapter_oran.legacy_http import limits
from kfadapter_oran.legacy_http.app import LegacyHttp
from kfadapter_oran.legacy_http.connections import Connection, Connections

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger
    from typing_extensions import Self

    from kfadapter_grpc.client import Client
    from kfadapter_oran.legacy_http.command import GatewayOptions

OPTION = "--listen"
"""The option for the address."""
STOP_SECONDS = 1
"""How long responses in flight have to complete when the server stops."""


def run(client: Client, options: GatewayOptions, tls: Reloaded[ssl.SSLContext] | None) -> None:
    """Serves until SIGTERM or SIGINT, then drains within the grace period. Main thread only.

    Args:
        client: The client of the adapter; closed at the end.
        options: The options of the gateway.
        tls: The server's TLS configuration; None for plain text.

    Raises:
        ServerStartError: An address cannot be bound.
    """
    with ExitStack() as stages:
        stages.enter_context(logging_to_stderr(options.log_format, options.log_level))
        logging.getLogger("grpc._channel").setLevel(logging.CRITICAL)  # it reports truncated forms, as we do
        log: FilteringBoundLogger = structlog.get_logger()
        stages.enter_context(closing(client))
        registry = catalog.new_registry()
        requests = catalog.LEGACY_HTTP.counter(registry)
        metrics = stages.enter_context(MetricsEndpoint(options.metrics_listen, registry))
        signals = stages.enter_context(StopSignals())
        app = LegacyHttp(
            client,
            max_upload_bytes=options.max_upload_bytes,
            observe=lambda route, status: requests.labels(route, str(status)).inc(),
        )
        server = stages.enter_context(LegacyHttpServer(options.listen, app, (lambda: tls.value) if tls else None))
        if tls:
            refresher = Refresher([tls.refresh])
            refresher.start()
            stages.callback(refresher.stop)
        elif not is_loopback(split_address(options.listen)[0]):
            log.warning("no TLS: requests and their tokens can be read in transit")
        log.info("serving", address=server.address, adapter=client.target, metrics=metrics.address)
        log.info("end this process once all callers use gRPC instead of the Flask adapter's HTTP routes")
        log.info("draining", signal=signals.wait())
        time.sleep(options.drain_seconds)
        if not app.drain(options.grace_seconds):
            log.warning("the grace period has ended; requests in flight are cancelled")


def tls_context(certificate: Path, key: Path, client_ca: Path | None) -> Reloaded[ssl.SSLContext]:
    """Reads the server's certificate and the CAs of client certificates; re-reads changed files.

    Raises:
        OSError: A file cannot be read.
        ValueError: The files are invalid.
    """

    def made(*_contents: bytes) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")
            if client_ca is not None:
                context.load_verify_locations(cafile=client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except ssl.SSLError as error:
            raise ValueError(f"{certificate} and {key} cannot be used: {error}") from None
        # A resumed session would not present its certificate again.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        return context

    return Reloaded("the certificate", [certificate, key, *([client_ca] if client_ca else [])], made)


class LegacyHttpServer:
    """Serves the application while entered, on its own thread.

    Attributes:
        address: The listen address, HOST:PORT; with the bound port once entered.
        connections: The open connections.
    """

    def __init__(self, listen: str, app: LegacyHttp, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
        """Listens on HOST:PORT when entered; `tls` returns the context of each new connection."""
        self.address = listen
        self.connections = Connections()
        self._app = app
        protocol = partial(Connection, app, self.connections, tls)
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                app,
                http=cast("type[asyncio.Protocol]", protocol),
                ws="none",
                loop="asyncio",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=limits.MAX_HEAD_BYTES,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )

    def __enter__(self) -> Self:
        """Listens.

        Raises:
            ServerStartError: The address cannot be bound.
        """
        listener = bound_socket(self.address, OPTION)
        self.address = f"{self.address.rpartition(':')[0]}:{listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._uvicorn.run, args=([listener],), name="legacy-http", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._app.drain(0)
        self._app.close()
        self._uvicorn.should_exit = True
        self._thread.join(2 * STOP_SECONDS + 1)
