"""The receiver: its address, what is posted to it, and the meaning of its responses."""

from __future__ import annotations

import enum
import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from kfadapter_grpc.client.credentials import Token
from kfadapter_grpc.contract.runs import RunState
from kfadapter_oran.notices.database import Notice
from kfadapter_oran.notices.messages import EVENT_CONTENT_TYPE, cloud_event, job_notice

TRAINING_FAILED = "Training Failed"
"""The training manager's response, with status 500, to a notice of a failure that it has recorded."""
CONNECT_SECONDS = 10.0
MAX_BODY_BYTES = 4096
_PORTS = {"http": 80, "https": 443}
_TEMPORARY = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_MAX_SHOWN_CHARACTERS = 200
_BEARER = "Bearer "
_MIN_SECRET_CHARACTERS = 8
_UNPRINTABLE = re.compile(r"\s+|[^\x20-\x7e\u00a0-\U0010ffff]+")


class Outcome(enum.Enum):
    DELIVERED = "delivered"
    AWAY = "away"
    """It was unreachable or busy: worth trying for long."""
    REFUSED = "refused"
    """The response was not a success: retried a few times, then it needs an operator."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of an attempt, and its description."""

    outcome: Outcome
    body: str


class UrlError(ValueError):
    """A URL is invalid; the message has the reason."""


@dataclass(frozen=True, slots=True)
class Url:
    """The parts of the receiver's URL: scheme, host, port, and the request target."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Url:
        """Parses a URL; raises UrlError if it is not http or https, or has a user or a fragment."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise UrlError(f"'{text}' is no URL: {error}") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise UrlError(f"'{text}' is no URL of http or https")
        if parts.username is not None or parts.password is not None:
            raise UrlError("a user or a password does not belong into a URL; use a header or a token file")
        if parts.fragment or not text.isascii() or not text.isprintable() or " " in text:
            raise UrlError(f"'{text}' cannot be sent as it is: no fragment, no blanks, ASCII only")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], path)

    def __str__(self) -> str:
        """Formats it without the query, which may be secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path.partition('?')[0]}"


@dataclass(frozen=True, slots=True)
class ReceiverResponse:
    """A response: its status, and up to 4096 bytes of its body, fewer if they did not arrive."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class ReceiverOptions:
    """The configuration of the receiver.

    Attributes:
        ca: The CAs of its certificate, in PEM; None for the system's.
        seconds: The timeout of one attempt.
        event_source: The `source` of CloudEvents; if empty, the training manager's JSON is posted.
    """

    url: Url
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: Token = field(default_factory=Token)
    ca: Path | None = None
    seconds: float = 30.0
    event_source: str = ""


class Receiver:
    """Posts notices to one receiver, each over a new connection; redirects are not followed. Safe in threads."""

    def __init__(self, options: ReceiverOptions) -> None:
        self._options = options
        self._tls = ssl.create_default_context(cafile=options.ca) if options.url.scheme == "https" else None

    def post(self, notice: Notice) -> Attempt:
        """Posts a notice; never raises, whatever the receiver does."""
        source = self._options.event_source
        body = cloud_event(notice, source) if source else job_notice(notice)
        connection = _Connection(self._options.url, min(CONNECT_SECONDS, self._options.seconds), self._tls)
        # A response that trickles in would never reach the socket's own timeout.
        timer = threading.Timer(self._options.seconds, connection.cancel)
        timer.daemon = True
        timer.start()
        try:
            response = self._exchange(connection, json.dumps(body).encode(), self._headers(notice))
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = "not in time" if connection.was_cancelled or isinstance(error, TimeoutError) else _describe(error)
            return Attempt(Outcome.AWAY, f"no response: {why}")
        finally:
            timer.cancel()
            connection.cancel()
            connection.close()
        sent = [value.removeprefix(_BEARER) for _, value in self._options.token.metadata()]
        secrets = [
            secret for secret in (*sent, *self._options.headers.values()) if len(secret) >= _MIN_SECRET_CHARACTERS
        ]
        return Attempt(outcome_of("" if source else notice.state, response), _format_response(response, secrets))

    def _exchange(self, connection: _Connection, body: bytes, headers: Mapping[str, str]) -> ReceiverResponse:
        connection.connect()
        connection.sock.settimeout(self._options.seconds)
        connection.request("POST", self._options.url.path, body, {**headers, "Connection": "close"})
        response = connection.getresponse()
        body = b""
        with suppress(OSError, http.client.HTTPException):  # the status is known
            body = response.read(MAX_BODY_BYTES)
        return ReceiverResponse(response.status, body)

    def _headers(self, notice: Notice) -> dict[str, str]:
        token = {name.title(): value for name, value in self._options.token.metadata()}
        return {
            "Content-Type": EVENT_CONTENT_TYPE if self._options.event_source else "application/json",
            "User-Agent": "kfadapter-notify",
            # The training manager ignores it; other receivers can detect duplicates with it.
            "Idempotency-Key": f"{notice.run_id}:{notice.state}",
            **token,
            **self._options.headers,
        }


def outcome_of(state: str, response: ReceiverResponse) -> Outcome:
    """Interprets the response to a notice of this state; empty if the receiver is not the training manager.

    The training manager responds 500 to every notice of a failure, after recording it. The same response to a
    success means that it found no model and has not recorded the success.
    """
    if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
        return Outcome.DELIVERED
    failed = state not in ("", RunState.SUCCEEDED.value)
    if failed and response.status == HTTPStatus.INTERNAL_SERVER_ERROR and _error_in(response.body) == TRAINING_FAILED:
        return Outcome.DELIVERED
    return Outcome.AWAY if response.status in _TEMPORARY else Outcome.REFUSED


def _error_in(body: bytes) -> object:
    try:
        body = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return body.get("Error") if isinstance(body, dict) else None


def _format_response(response: ReceiverResponse, secrets: Iterable[str]) -> str:
    """Formats a response on one line, with any echoed credentials removed."""
    text = response.body.decode("utf-8", "replace")
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _UNPRINTABLE.sub(" ", text).strip()[:_MAX_SHOWN_CHARACTERS]
    return f"{response.status} {text}".strip()


class _Connection(http.client.HTTPConnection):
    """A connection that another thread can close, also during the TLS handshake."""

    def __init__(self, url: Url, connect_seconds: float, tls: ssl.SSLContext | None) -> None:
        super().__init__(url.host, url.port)
        self.default_port = _PORTS[url.scheme]
        self._connect_seconds = connect_seconds
        self._tls = tls
        self._handle: socket.socket | None = None
        self.was_cancelled = False

    def connect(self) -> None:
        """Connects."""
        self.sock = socket.create_connection((self.host, self.port), self._connect_seconds)
        self._handle = self.sock.dup()
        if self.was_cancelled:
            self.cancel()
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)

    def cancel(self) -> None:
        """Aborts what is in progress. Idempotent."""
        self.was_cancelled = True
        if self._handle is not None:
            with suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        super().close()
        if self._handle is not None:
            self._handle.close()


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
