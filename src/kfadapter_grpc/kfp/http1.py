"""HTTP/1.1: writes requests, reads responses.

llhttp is the parser: urllib3's and http.client's own parsing took three quarters of the CPU time of a short call.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import httptools

from kfadapter_grpc.kfp.connections import IncompleteResponseError, NoResponseError, NotHttpError, TlsExpectedError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator, Mapping

MAX_HEAD_BYTES = 64 * 1024
"""The most bytes in a row that are not body: a head, trailers, chunk framing."""
_FIRST_READ_BYTES = 16 * 1024  # enough for most responses; a buffer of the size below costs more than such a response
_READ_BYTES = 128 * 1024
_SEND_BYTES = 256 * 1024  # smaller pieces are sent with what follows: each send wakes the other side
_TLS_ALERT = b"\x15\x03"
_SWITCHING_PROTOCOLS, _FIRST_FINAL_STATUS = 101, 200


def send(sock: socket.socket, head: bytes, body: bytes | Iterable[bytes]) -> None:
    """Sends a request.

    A server that has responded before the end of the body and closed the connection is not an error here: its response
    can still be read.
    """
    with suppress(BrokenPipeError, ConnectionResetError):
        waiting: bytes = head
        for chunk in (body,) if isinstance(body, bytes) else body:
            if len(waiting) + len(chunk) > _SEND_BYTES:
                sock.sendall(waiting)
                waiting = b""
            waiting += chunk
        sock.sendall(waiting)


def request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Writes the head of a request. Raises ValueError if it contains a character that HTTP does not allow."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if not all(line.isprintable() for line in lines):
        raise ValueError("a header or path of a request to KFP holds a control character")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class ResponseReader:
    """Reads one response; names of headers are in lower case, and the announced length is 0 if it is unknown."""

    def __init__(self) -> None:
        self.status = 0
        self.announced_bytes = 0
        self.headers: dict[str, str] = {}
        self.reusable = False
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._bytes_without_body = 0
        self._began = False
        self._has_head = False
        self._has_body = False
        self._complete = False

    def chunks(self, sock: socket.socket) -> Iterator[bytes]:
        """Reads the response, and yields its body as it arrives. Raises BrokenAnswerError."""
        size = _FIRST_READ_BYTES
        while not self._complete:
            try:
                data = sock.recv(size)
            except ConnectionResetError as error:
                self._raise_if_silent(error)
                raise
            if not data:
                self._end()
                return
            self._feed(data)
            size = _READ_BYTES
            chunks, self._chunks = self._chunks, []
            yield from chunks

    def _feed(self, data: bytes) -> None:
        is_alert = not self._began and data.startswith(_TLS_ALERT)
        self._began = True
        self._bytes_without_body += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.reusable = False
            if is_alert:
                raise TlsExpectedError from error
            if not self._complete:
                raise NotHttpError("the response is not HTTP/1.1") from error
        if self._chunks:
            self._bytes_without_body = 0
        elif not self._complete and self._bytes_without_body > MAX_HEAD_BYTES:
            raise NotHttpError(f"more than {MAX_HEAD_BYTES} bytes of the response are not body")

    def _end(self) -> None:
        self._raise_if_silent()
        tells_its_length = self.headers.keys() & {"content-length", "transfer-encoding"}
        if not self._has_head or tells_its_length or not self._has_body:
            raise IncompleteResponseError("the connection was closed before the response was complete")
        self._complete = True

    def _raise_if_silent(self, cause: ConnectionResetError | None = None) -> None:
        if not self._began:
            raise NoResponseError("the connection was closed before the response") from cause

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handles a header, from the parser; one after the head is a trailer, or belongs to another response."""
        if not self._has_head:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if not self._has_head:
            self.status = self._parser.get_status_code()
            self._has_head = self.status >= _FIRST_FINAL_STATUS
            length = self.headers.get("content-length", "")
            self.announced_bytes = int(length) if length.isdigit() else 0

    def on_body(self, data: bytes) -> None:
        if not self._complete:
            self._has_body = True
            self._chunks.append(data)

    def on_message_begin(self) -> None:
        """Handles data after the response, from the parser: it was not requested."""
        self.reusable = False

    def on_message_complete(self) -> None:
        """Handles the end, from the parser; interim responses (`100 Continue`) precede the final one."""
        if self.status < _FIRST_FINAL_STATUS:
            self.headers.clear()
        elif not self._complete:
            self._complete = True
            self.reusable = self._parser.should_keep_alive()
