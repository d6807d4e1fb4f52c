"""One HTTP request and what is answered, bounded in time and size; redirects are not followed."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT_SECONDS = 10.0
"""How long connecting to one address may take."""
MAX_BODY_BYTES = 4096
"""How much of an answer's body is read."""
_PORTS = {"http": 80, "https": 443}


class UrlError(ValueError):
    """A URL cannot be posted to; the message says why."""


class NoAnswerError(Exception):
    """There was no answer; the message says why."""


@dataclass(frozen=True, slots=True)
class Url:
    """Where to post: scheme, host, port, and the rest as it stands in a request."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Url:
        """Reads a URL.

        Raises:
            UrlError: It is none of http or https, or holds a user or a fragment.
        """
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
        """Shows it without what may be secret, the query."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path.partition('?')[0]}"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its status, and the first 4096 bytes of its body, or fewer if they did not come."""

    status: int
    body: bytes


class Poster:
    """Posts to one URL, over a new connection each time. Safe to use from several threads."""

    def __init__(self, url: Url, seconds: float, tls: ssl.SSLContext | None = None) -> None:
        """Posts to `url`; a request and its answer may take `seconds` together. `tls` says whom to trust for https."""
        self._url = url
        self._seconds = seconds
        self._tls = (tls or ssl.create_default_context()) if url.scheme == "https" else None

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Posts a body.

        Raises:
            NoAnswerError: There was no answer in time, or none that is HTTP.
        """
        connection = _Connection(self._url, min(CONNECT_SECONDS, self._seconds), self._tls)
        # What comes in drops would never reach a socket's own timeout.
        guard = threading.Timer(self._seconds, connection.cut)
        guard.daemon = True
        guard.start()
        try:
            return self._exchange(connection, body, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = "not in time" if connection.was_cut or isinstance(error, TimeoutError) else _words(error)
            raise NoAnswerError(f"no answer: {why}") from None
        finally:
            guard.cancel()
            connection.cut()
            connection.close()

    def _exchange(self, connection: _Connection, body: bytes, headers: Mapping[str, str]) -> Answer:
        connection.connect()
        connection.sock.settimeout(self._seconds)
        connection.request("POST", self._url.path, body, {**headers, "Connection": "close"})
        response = connection.getresponse()
        said = b""
        with suppress(OSError, http.client.HTTPException):  # the status was said
            said = response.read(MAX_BODY_BYTES)
        return Answer(response.status, said)


class _Connection(http.client.HTTPConnection):
    """A connection that another thread can cut, also while TLS begins."""

    def __init__(self, url: Url, connect_seconds: float, tls: ssl.SSLContext | None) -> None:
        super().__init__(url.host, url.port)
        self.default_port = _PORTS[url.scheme]
        self._connect_seconds = connect_seconds
        self._tls = tls
        self._handle: socket.socket | None = None
        self.was_cut = False

    def connect(self) -> None:
        """Connects."""
        self.sock = socket.create_connection((self.host, self.port), self._connect_seconds)
        self._handle = self.sock.dup()
        if self.was_cut:
            self.cut()
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)

    def cut(self) -> None:
        """Ends what is going on. Harmless when repeated."""
        self.was_cut = True
        if self._handle is not None:
            with suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes everything."""
        super().close()
        if self._handle is not None:
            self._handle.close()


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
