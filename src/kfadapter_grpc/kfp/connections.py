"""Connections to one KFP: plain or TLS, kept open for reuse, and what their failures mean."""

from __future__ import annotations

import socket
import ssl
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import certifi

if TYPE_CHECKING:
    from kfadapter_grpc.kfp.exchange import Exchange

MAX_IDLE_SECONDS = 60.0
"""How long an idle connection is kept: some networks drop idle connections silently."""
EXPECTS_HTTPS = "the server at the address of Kubeflow Pipelines (KFADAPTER_KFP_URL) expects TLS: use https:, not http:"
"""For an http: address whose port expects TLS."""
_MIN_CONNECT_SECONDS = 0.001
_PEEK = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)
_PLAIN = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})
"""OpenSSL's errors for a response that is not TLS."""


class NotConnectedError(ConnectionError):
    """The connection could not be established."""


class TlsError(NotConnectedError):
    """One of the two sides rejects the other's certificate or TLS settings."""


class IncompleteResponseError(ConnectionError):
    """The connection was closed before the response was complete."""


class NoResponseError(IncompleteResponseError):
    """The connection was closed before a response began."""


class NotHttpError(IncompleteResponseError):
    """The response is not HTTP/1.1."""


class TlsExpectedError(NotHttpError):
    """The response is a TLS alert to a plain-text request."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files in PEM form. They are read again when they have changed, so that renewal needs no restart.

    Attributes:
        ca: The CAs for KFP's certificate; None: those of Mozilla.
        certificate: The client certificate with its intermediate certificates; None: no client certificate.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class Connections:
    """Idle connections to one KFP. Safe to use from many threads; constructing it opens none.

    Proxies from environment variables are not used: KFP is inside the cluster, or has an address of its own.
    """

    def __init__(self, url: str, tls: TlsFiles, max_idle: int) -> None:
        parts = urlsplit(url)
        self._tls = tls if parts.scheme == "https" else None
        name = (parts.hostname or "").encode("idna").decode("ascii") if not url.isascii() else parts.hostname or ""
        self._address = name, parts.port or (80 if self._tls is None else 443)
        self._max_idle = max_idle
        self._idle: deque[tuple[socket.socket, float]] = deque()
        self._closed = False
        self._context: tuple[object, ssl.SSLContext] | None = None
        self.host = (f"[{name}]" if ":" in name else name) + (f":{parts.port}" if parts.port else "")
        self.path = parts.path

    def open(self, exchange: Exchange, seconds: float, *, fresh: bool) -> socket.socket:
        """Takes an idle connection, or connects within `seconds`; from here on the exchange can end it.

        A server may close an idle connection just when the next request is on its way. The outcome of such a
        request is unknown, so one that must not be repeated is better sent over a fresh connection, which replaces
        the connection that has been idle for longest.
        """
        if fresh:
            with suppress(IndexError):
                self._idle.popleft()[0].close()
        elif (idle := self._take_idle()) is not None:
            try:
                exchange.use(idle)
            except ConnectionAbortedError:
                idle.close()
                raise
            return idle
        return self._connect(exchange, max(seconds, _MIN_CONNECT_SECONDS))

    def release(self, connection: socket.socket, *, reusable: bool) -> None:
        """Keeps a connection for the next request, if that is possible."""
        if not reusable or self._closed or len(self._idle) >= self._max_idle:
            connection.close()
        else:
            self._idle.append((connection, time.monotonic()))

    def close(self) -> None:
        self._closed = True
        while self._idle:
            with suppress(IndexError):  # another thread was faster
                self._idle.pop()[0].close()

    def _take_idle(self) -> socket.socket | None:
        """Takes the most recently used connection, unless the server has closed it, or it was idle for too long."""
        while True:
            try:
                connection, since = self._idle.pop()
            except IndexError:
                return None
            if time.monotonic() - since < MAX_IDLE_SECONDS and _is_idle(connection):
                return connection
            connection.close()

    def _connect(self, exchange: Exchange, seconds: float) -> socket.socket:
        try:
            connection = socket.create_connection(self._address, seconds)
        except (OSError, ValueError) as error:
            raise NotConnectedError from error
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                context = self._tls_context(self._tls)
                name = self._address[0]
                connection = context.wrap_socket(connection, server_hostname=name, do_handshake_on_connect=False)
            exchange.use(connection)
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            connection.settimeout(None)  # an exchange ends at its deadline; a timeout would cost a poll each time
        except BaseException as error:
            connection.close()
            if isinstance(error, ConnectionAbortedError):
                raise
            if isinstance(error, ssl.SSLError | ConnectionResetError):  # only TLS is spoken before a request
                raise TlsError from error
            if isinstance(error, OSError | ValueError):
                raise NotConnectedError from error
            raise
        return connection

    def _tls_context(self, files: TlsFiles) -> ssl.SSLContext:
        """The context for the current files; reading the CAs takes longer than connecting."""
        stamp = tuple(file_stamp(path) for path in (files.ca, files.certificate, files.key) if path is not None)
        if self._context is None or self._context[0] != stamp:
            context = ssl.create_default_context(cafile=files.ca or certifi.where())
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.hostname_checks_common_name = False
            context.set_alpn_protocols(["http/1.1"])
            if files.certificate is not None:
                context.load_cert_chain(files.certificate, files.key)
            self._context = stamp, context
        return self._context[1]


def _is_idle(connection: socket.socket) -> bool:
    """Whether nothing has arrived: a closed connection, or one with unrequested data, cannot be used again."""
    try:
        # The base class's method: that of a TLS socket takes no flags.
        socket.socket.recv(connection, 1, _PEEK)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def file_stamp(path: Path) -> tuple[int, ...]:
    """Changes with a file's content. Kubernetes replaces a link above the file, which this follows."""
    status = path.stat()
    return status.st_ino, status.st_dev, status.st_mtime_ns, status.st_size


def is_plain_text(error: BaseException | None) -> bool:
    return isinstance(error, ssl.SSLError) and error.reason in _PLAIN


def error_message(error: Exception, scheme: str) -> str:
    """What failed, and what to check; `scheme` is that of KFP's address."""
    if isinstance(error, TlsError | ssl.SSLError):  # with TLS 1.3 a server that rejects our certificate reports it late
        return _tls_error_message(error.__cause__ if isinstance(error, TlsError) else error)
    if isinstance(error, NotConnectedError):
        return "Kubeflow Pipelines cannot be reached: it does not accept connections; try again later"
    if isinstance(error, TlsExpectedError):
        return EXPECTS_HTTPS
    if isinstance(error, NotHttpError):
        return "the server at the address of Kubeflow Pipelines does not speak HTTP/1.1; check KFADAPTER_KFP_URL"
    if isinstance(error, NoResponseError):
        text = "the connection to Kubeflow Pipelines was closed before the response; try again later"
        hint = "; if this persists, the port may expect TLS: check whether KFADAPTER_KFP_URL should begin with https:"
        return text + (hint if scheme == "http" else "")
    return "the connection to Kubeflow Pipelines broke before the response was complete"


def _tls_error_message(cause: BaseException | None) -> str:
    """The TLS library's own message; it contains no secrets."""
    if is_plain_text(cause):
        return (
            "the server at the address of Kubeflow Pipelines (KFADAPTER_KFP_URL) does not speak TLS: use http:, "
            "not https:"
        )
    if isinstance(cause, ssl.SSLEOFError | ConnectionResetError):
        return (
            "the connection to Kubeflow Pipelines was closed while TLS was set up; the adapter's operator should check "
            "whether KFADAPTER_KFP_URL should begin with http:, and KFADAPTER_KFP_CA_FILE and "
            "KFADAPTER_KFP_CLIENT_CERTIFICATE"
        )
    why = getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or "no reason given"
    return (
        f"there is no TLS with Kubeflow Pipelines, as one side does not accept the other ({why}); "
        "the adapter's operator should check KFADAPTER_KFP_CA_FILE and KFADAPTER_KFP_CLIENT_CERTIFICATE"
    )
