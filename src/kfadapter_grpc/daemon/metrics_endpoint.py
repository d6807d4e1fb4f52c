"""Serves metrics, and health if there is any to report, over HTTP on its own port.

Requests there must not delay calls: few connections at a time, each for a short time, and only a fraction
of a core for writing metrics. An idle connection is closed in favour of the next one.
"""

from __future__ import annotations

import io
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import make_wsgi_app

from kfadapter_grpc.addresses import OFF
from kfadapter_grpc.daemon.listening import bound_address, bound_socket

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from prometheus_client.registry import Collector
    from structlog.typing import FilteringBoundLogger
    from typing_extensions import Self

OPTION = "--metrics-listen"
PATH = "/metrics"
HEALTH_PATH = "/healthz"
MAX_CONNECTIONS = 32
MAX_REQUEST_BYTES = 16 * 1024
REQUEST_SECONDS = 5.0
RESPONSE_SECONDS = 10.0
PAUSE_FACTOR = 4
"""After metrics were written, none are for so many times as long as that took: a fifth of a core goes there at most."""
_POLL_SECONDS = 0.1
_STOP_SECONDS = 1.0
_REQUEST_LINE = re.compile(rb"\S+ \S+ HTTP/1\.\d\r?\n")
_TEXT = "text/plain; charset=utf-8"


class MetricsEndpoint:
    """Serves `GET /metrics` while the context is entered; its `address` then has the bound port, or is `off`."""

    def __init__(self, listen: str, metrics: Collector, health: Callable[[], tuple[bool, bytes]] | None = None) -> None:
        """Configures the endpoint; only the requested metrics are collected.

        `listen` is HOST:PORT, or `off`. `health` returns whether the process is healthy, and details as JSON.
        """
        self.address = listen or OFF
        self._metrics = make_wsgi_app(metrics, disable_compression=True)
        self._health = health
        self._collecting = threading.Lock()
        self._paused_until = 0.0
        self._log: FilteringBoundLogger = structlog.get_logger()

    def __enter__(self) -> Self:
        """Listens. Raises ServerStartError if the address cannot be bound."""
        if self.address == OFF:
            return self
        listener = bound_socket(self.address, OPTION)
        self.address = bound_address(self.address, listener)
        self._server = _Server(listener, self._respond)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="metrics", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.address == OFF:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_STOP_SECONDS)

    def _respond(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The application: one request at a time, with pauses."""
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path != PATH and (path != HEALTH_PATH or self._health is None):
            status, content_type, body = HTTPStatus.NOT_FOUND, _TEXT, f"metrics are at {PATH}\n".encode()
        elif method not in {"GET", "HEAD"}:
            status, content_type, body = HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"metrics can only be read\n"
        else:
            status, content_type, body = self._collect(environ)
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [b"" if method == "HEAD" else body]

    def _collect(self, environ: WSGIEnvironment) -> tuple[HTTPStatus, str, bytes]:
        with self._collecting:
            time.sleep(max(0.0, self._paused_until - time.monotonic()))
            started = time.monotonic()
            try:
                if environ["PATH_INFO"] == HEALTH_PATH and self._health:
                    well, body = self._health()
                    status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
                    return status, "application/json", body
                headers: list[tuple[str, str]] = []
                request = {**environ, "REQUEST_METHOD": "GET"}
                body = b"".join(self._metrics(request, lambda _, given: headers.extend(given)))
                return HTTPStatus.OK, dict(headers)["Content-Type"], body
            except Exception:  # noqa: BLE001 - a scrape must show that something is wrong
                self._log.exception("metrics cannot be written")
                return HTTPStatus.INTERNAL_SERVER_ERROR, _TEXT, b"metrics cannot be written; see the log\n"
            finally:
                now = time.monotonic()
                self._paused_until = now + (now - started) * PAUSE_FACTOR


class _Server(ThreadingMixIn, WSGIServer):
    """Serves each connection on its own thread, a bounded number at a time."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, app: WSGIApplication) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()[:2]
        self.setup_environ()
        self.set_app(app)
        self._lock = threading.Lock()
        self.open: dict[socket.socket, float | None] = {}
        """When each connection was opened, oldest first; None once its request has arrived."""

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Accepts a connection; if all slots are in use, the connection that has been idle for longest is closed."""
        with self._lock:
            if len(self.open) >= MAX_CONNECTIONS:
                silent = next((connection for connection, since in self.open.items() if since is not None), None)
                if silent is None:
                    request.close()
                    return
                del self.open[silent]
                _end(silent)
            self.open[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Closes connections whose requests do not arrive in time."""
        with self._lock:
            late = time.monotonic() - REQUEST_SECONDS
            for connection in [
                connection for connection, since in self.open.items() if since is not None and since < late
            ]:
                _end(connection)

    def mark_received(self, request: socket.socket) -> None:
        """Records that a request has arrived; its connection is no longer closed in favour of others."""
        with self._lock:
            if request in self.open:
                self.open[request] = None

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with self._lock:
            self.open.pop(request, None)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            for connection in self.open:
                _end(connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """Reports nothing: an error on a connection just closes it."""


class _Handler(WSGIRequestHandler):
    """Reads one request, within limits."""

    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """Responds to a request whose head is complete."""
        head, line = bytearray(), b""
        while (line := self.rfile.readline(MAX_REQUEST_BYTES - len(head))) not in (b"", b"\r\n", b"\n"):
            head += line
        if not line:  # the end of the connection, or the limit
            return
        cast("_Server", self.server).mark_received(self.connection)
        self.connection.settimeout(RESPONSE_SECONDS)
        if not _REQUEST_LINE.match(head):
            self.command, self.requestline, self.request_version = "", "", self.protocol_version
            self.send_error(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1")
            return
        self.rfile = io.BufferedReader(io.BytesIO(head + line))
        super().handle()

    def address_string(self) -> str:
        """Returns the address, without a reverse DNS lookup."""
        return str(self.client_address[0])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Logs nothing."""


def _end(connection: socket.socket) -> None:
    with suppress(OSError):  # it is already closed
        connection.shutdown(socket.SHUT_RDWR)
