"""Sends requests to KFP and reads the responses, within limits.

Everything above knows `Request` and `Response` only, so the transport can be replaced.

Rules kept here: a request ends at the deadline of its call, or when the client cancels, whatever the server does;
redirects are returned, not followed; only reads are retried; a write or a retry goes over a newly opened
connection; a response is read up to a limit. One exception: KFP has not processed a request that it rejects with 401,
so that is repeated once, read or write, if there are other credentials by then.
"""

from __future__ import annotations

import random
import ssl
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlencode, urlsplit

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.kfp.connections import Connections, NotConnectedError, TlsFiles, error_message
from kfadapter_grpc.kfp.credentials import Credentials
from kfadapter_grpc.kfp.exchange import Exchange, KfpObserver, ResponseReader, TimerThread, request_head, send
from kfadapter_grpc.spool import Spool
from kfadapter_grpc.telemetry.spans import sent_span

if TYPE_CHECKING:
    import socket

    from kfadapter_grpc.telemetry.traces import SentSpan

Query: TypeAlias = Sequence[tuple[str, str]]


MAX_RESPONSE_BYTES = 128 * 1024 * 1024
"""More than any response of KFP to a request of ours (a spec of 32 MiB grows as JSON)."""

_CONNECT_SECONDS = 5.0
_READ_ATTEMPTS = 3
_RETRY_STATUS = frozenset({429, 502, 503, 504})
BACKOFF_SECONDS = (0.05, 0.2)
"""The bounds of the first pause before a read is retried; each further one is twice as long."""
_MAX_BACKOFF_SECONDS = 2.0
_LATE = "Kubeflow Pipelines did not respond within the deadline; allow more time and try again"


class NotSentError(errors.KfpUnavailableError):
    """The connection to KFP could not be established: the request has had no effect."""


class ResponseTooLargeError(errors.KfpError):
    """The response is larger than the limit of the request."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to KFP.

    Attributes:
        path: The path after the host, quoted.
        query: The query's keys and values, not quoted.
        body: The bytes to send, or an iterable of them, from the beginning each time, with `content_length` set.
        keep: How many bytes of a longer response to keep at either end; the middle is read and dropped. 0: keep all.
        public: Whether it may be called without credentials, where only callers have some.
        into: Receives the body of every response as it arrives, in full; its content is valid once `send` has returned.
    """

    method: str
    path: str
    query: Query = ()
    body: bytes | Iterable[bytes] | None = field(default=None, repr=False)
    content_type: str = "application/json"
    content_length: int | None = None
    accept: str = "application/json"
    keep: int = 0
    limit: int = MAX_RESPONSE_BYTES
    public: bool = False
    into: Spool | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """KFP's response. `tail` is empty unless the middle of a long body was dropped."""

    status: int
    body: bytes = field(repr=False)
    content_type: str = ""
    location: str = field(default="", repr=False)
    date: str = ""
    retry_after: float | None = None
    tail: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class StreamedResponse:
    """KFP's response, streamed: the body is read from the connection on demand."""

    status: int
    content_type: str
    chunks: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """Where KFP is and how to reach it.

    Attributes:
        url: The base URL, with any path prefix, without a slash at the end.
        user_header: The header with the caller's name for KFP; empty: none is sent.
    """

    url: str
    pool_size: int = 96
    connect_seconds: float = _CONNECT_SECONDS
    credentials: Credentials = field(default_factory=Credentials)
    tls: TlsFiles = field(default_factory=TlsFiles)
    observer: KfpObserver | None = None
    user_header: str = ""

    @property
    def as_callers(self) -> bool:
        """Whether KFP is called as the callers, so that only a call of theirs shows what it allows."""
        return self.credentials.of_callers or bool(self.user_header)


class Transport:
    """Sends requests to one KFP. Safe to use from many threads; constructing it touches no network."""

    def __init__(self, settings: TransportSettings) -> None:
        self._connections = Connections(settings.url, settings.tls, settings.pool_size)
        self._headers = {"Host": self._connections.host, "Accept-Encoding": "identity"}
        self._url = urlsplit(settings.url)
        self._settings = settings
        self._timers = TimerThread()
        self._closed = threading.Event()

    def close(self) -> None:
        self._closed.set()
        self._connections.close()
        self._timers.close()

    def send(self, request: Request, call: Call, operation: str = "") -> Response:
        """Sends a request and reads the response, whatever its status; retries reads on transient faults.

        `operation` names the request for the observer. After a KfpUnavailableError other than NotSentError, a
        KfpTimeoutError or a CallCancelledError a write may or may not have had its effect.
        """
        header = self._authorization(request, call)
        response = self._send(request, call, operation, header)
        if (
            response.status == HTTPStatus.UNAUTHORIZED
            and (renewed := self._settings.credentials.renewed(header)) is not None
        ):
            return self._send(request, call, operation, renewed)
        return response

    def _send(self, request: Request, call: Call, operation: str, header: str | None) -> Response:
        attempts = _READ_ATTEMPTS if request.method == "GET" else 1
        for attempt in range(1, attempts):
            try:
                response = self._send_once(request, call, operation, header, resends=attempt - 1, fresh=attempt > 1)
            except errors.KfpUnavailableError:
                if not self._wait(attempt, None, call):
                    raise
                continue
            if response.status not in _RETRY_STATUS or not self._wait(attempt, response.retry_after, call):
                return response
        return self._send_once(request, call, operation, header, resends=attempts - 1, fresh=True)

    @contextmanager
    def open(self, request: Request, call: Call, operation: str = "") -> Iterator[StreamedResponse]:
        """Sends a request, once, and streams its response, for as long as the block lasts.

        The errors of `send` are raised inside the block, too, while the response is read there.
        """
        header = self._authorization(request, call)
        for is_last in (False, True):
            with self._exchange(request, call, operation, header, fresh=True) as (exchange, reader, chunks):
                first = next(chunks, b"")
                exchange.answered(reader.status)
                is_rejected = reader.status == HTTPStatus.UNAUTHORIZED and not is_last
                renewed = self._settings.credentials.renewed(header) if is_rejected else None
                if renewed is None:
                    content_type = reader.headers.get("content-type", "")
                    yield StreamedResponse(reader.status, content_type, chain((first,), chunks))
                    return
            header = renewed

    def certificate_end(self, call: Call) -> float | None:
        """Connects, and returns when KFP's certificate expires, in seconds since 1970; None without TLS."""
        with Exchange(call, self._timers) as exchange:
            try:
                connection = self._connections.open(
                    exchange, min(self._settings.connect_seconds, call.remaining()), fresh=True
                )
                certificate = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
                exchange.forget()
                connection.close()
            except (OSError, ValueError) as error:
                raise _translate(error, exchange, call, self._url.scheme) from error
        return ssl.cert_time_to_seconds(str(certificate["notAfter"])) if certificate else None

    def _wait(self, attempt: int, retry_after: float | None, call: Call) -> bool:
        """Waits before the next attempt; False if there is no time for one."""
        seconds = retry_after if retry_after is not None else random.uniform(*BACKOFF_SECONDS) * 2**attempt  # noqa: S311 - jitter
        if seconds > min(_MAX_BACKOFF_SECONDS, call.remaining() / 2):
            return False
        return not call.cancelled_within(seconds) and not self._closed.is_set()

    def _send_once(
        self, request: Request, call: Call, operation: str, header: str | None, *, resends: int, fresh: bool
    ) -> Response:
        call.ensure_active(_LATE)
        buffer = _BodyBuffer(request)
        with self._exchange(request, call, operation, header, resends, fresh=fresh) as (exchange, reader, body):
            for chunk in body:
                buffer.take(chunk, reader.announced_bytes)
            # A connection that we have shut down ourselves looks like the end of a head or body without a length.
            if call.cancelled:
                raise _cancelled()
            if exchange.expired:
                raise _timed_out()
            exchange.answered(reader.status)
        return buffer.response(reader.status, reader.headers)

    @contextmanager
    def _exchange(
        self, request: Request, call: Call, operation: str, header: str | None, resends: int = 0, *, fresh: bool
    ) -> Iterator[tuple[Exchange, ResponseReader, Iterator[bytes]]]:
        """Sends a request; the response is read within the block."""
        span = self._span(request, call, operation, resends)
        with Exchange(call, self._timers, operation, self._settings.observer, span) as exchange:
            connection: socket.socket | None = None
            reader = ResponseReader()
            try:
                seconds = min(self._settings.connect_seconds, call.remaining())
                connection = self._connections.open(exchange, seconds, fresh=fresh)
                send(connection, self._head(request, call, header, span), request.body or b"")
                yield exchange, reader, reader.chunks(connection)
            except (OSError, ValueError) as error:
                raise _translate(error, exchange, call, self._url.scheme) from error
            finally:
                exchange.forget()
                if connection is not None:
                    self._connections.release(connection, reusable=reader.reusable)

    def _authorization(self, request: Request, call: Call) -> str | None:
        if request.public and self._settings.credentials.of_callers and call.authorization is None:
            return None
        return self._settings.credentials.header(call)

    def _span(self, request: Request, call: Call, operation: str, resends: int = 0) -> SentSpan | None:
        if call.trace is None:
            return None
        attributes: dict[str, str | int] = {
            "http.request.method": request.method,
            "url.full": self._url._replace(path=self._connections.path + request.path).geturl(),
            "server.address": self._url.hostname or "",
            "server.port": self._url.port or (443 if self._url.scheme == "https" else 80),
            "kfadapter.operation": operation,
        }
        if resends:
            attributes["http.request.resend_count"] = resends
        return sent_span(call, request.method, attributes)

    def _head(self, request: Request, call: Call, header: str | None, span: SentSpan | None) -> bytes:
        headers = {**self._headers, "Accept": request.accept, "X-Request-Id": call.request_id}
        if span is not None:
            headers |= span.headers
        if header is not None:
            headers["Authorization"] = header
        if self._settings.user_header and not (request.public and call.authorization is None):
            if call.authorization is None or not call.authorization.user:
                raise errors.UnauthenticatedError(
                    "there is no authenticated caller whose name Kubeflow Pipelines could get"
                )
            headers[self._settings.user_header] = call.authorization.user
        if request.body is not None:
            length = len(request.body) if isinstance(request.body, bytes) else request.content_length
            headers |= {"Content-Type": request.content_type, "Content-Length": str(length)}
        query = f"?{urlencode(request.query)}" if request.query else ""
        target = self._connections.path + request.path + query
        return request_head(request.method, target, headers)


class _BodyBuffer:
    """The body of a response, or, beyond `keep`, its two ends."""

    def __init__(self, request: Request) -> None:
        self._limit = request.limit
        self._room = request.keep or request.limit
        self._size = 0
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._into = request.into
        if self._into is not None:
            self._into.clear()

    def take(self, chunk: bytes, announced: int) -> None:
        """Takes the next chunk of a body with this announced length, and none of one that is too large."""
        self._size += len(chunk)
        if max(self._size, announced) > self._limit:
            text = f"Kubeflow Pipelines returned more than {self._limit} bytes"
            raise ResponseTooLargeError(text, metadata={"limit_bytes": str(self._limit)})
        if self._into is not None:
            self._into.write(chunk)
        fits = self._room - len(self._head)
        self._head += chunk[:fits]
        if len(chunk) > fits:
            self._tail.append(chunk[fits:])
            self._tail_size += len(chunk) - fits
            while self._tail_size - len(self._tail[0]) >= self._room:
                self._tail_size -= len(self._tail.popleft())

    def response(self, status: int, headers: Mapping[str, str]) -> Response:
        seconds = headers.get("retry-after", "")
        return Response(
            status=status,
            body=bytes(self._head),
            tail=b"".join(self._tail)[-self._room :],
            content_type=headers.get("content-type", ""),
            location=headers.get("location", ""),
            date=headers.get("date", ""),
            retry_after=float(seconds) if seconds.isdigit() and len(seconds) <= len("86400") else None,
        )


def _cancelled() -> errors.CallCancelledError:
    return errors.CallCancelledError("the client cancelled the call")


def _timed_out() -> errors.KfpTimeoutError:
    return errors.KfpTimeoutError(_LATE)


def _translate(error: Exception, exchange: Exchange, call: Call, scheme: str) -> Exception:
    """Returns what a fault of the connection means for the call."""
    if call.cancelled:
        return _cancelled()
    if exchange.expired or call.remaining() <= 0:
        return _timed_out()
    kind = NotSentError if isinstance(error, NotConnectedError) else errors.KfpUnavailableError
    return kind(error_message(error, scheme))
