"""The gateway as a process: served by uvicorn on a thread, stopped by signals."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog

from kfadapter_grpc.addresses import is_loopback, split_address
from kfadapter_grpc.auth.reloaded_files import Refresher, Reloaded
from kfadapter_grpc.daemon import http
from kfadapter_grpc.daemon.listening import bound_address, bound_socket
from kfadapter_grpc.daemon.log import logging_to_stderr
from kfadapter_grpc.daemon.metrics_endpoint import MetricsEndpoint
from kfadapter_grpc.daemon.signals import StopSignals
from kfadapter_grpc.metrics import catalog
from kfadapter_oran.legacy_http import limits
from kfadapter_oran.legacy_http.app import LegacyHttp
from kfadapter_oran.legacy_http.connections import Connection, Connections

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from kfadapter_grpc.client import Client
    from kfadapter_oran.legacy_http.command import GatewayOptions

OPTION = "--listen"
"""The option for the address."""


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
        address = stages.enter_context(serving(options.listen, app, (lambda: tls.value) if tls else None))
        if tls:
            refresher = Refresher([tls.refresh])
            refresher.start()
            stages.callback(refresher.stop)
        elif not is_loopback(split_address(options.listen)[0]):
            log.warning("no TLS: requests and their tokens can be read in transit")
        log.info("serving", address=address, adapter=client.target, metrics=metrics.address)
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
    files = [certificate, key, *([client_ca] if client_ca else [])]
    return Reloaded("the certificate", files, lambda *_: http.tls_context(certificate, key, client_ca))


@contextmanager
def serving(
    listen: str,
    app: LegacyHttp,
    tls: Callable[[], ssl.SSLContext] | None = None,
    connections: Connections | None = None,
) -> Iterator[str]:
    """Serves the application, and closes it at the end; yields the address, HOST:PORT, with the bound port.

    Args:
        listen: HOST:PORT.
        app: The application.
        tls: Returns the context of each new connection; None for plain text.
        connections: Gets the open connections.

    Raises:
        ServerStartError: The address cannot be bound.
    """
    protocol = partial(Connection, app, Connections() if connections is None else connections, tls)
    with (
        closing(bound_socket(listen, OPTION)) as listener,
        http.serving(app, listener, "legacy-http", http=protocol, h11_max_incomplete_event_size=limits.MAX_HEAD_BYTES),
        closing(app),
    ):
        yield bound_address(listen, listener)
        app.drain(0)
