"""One request and its response: ended from outside at a deadline or when the client cancels, and observed; HTTP/1.1.

Socket timeouts bound one read, not a call: a server that sends a byte a second would block a thread indefinitely. So
the sockets that are in use for a call are recorded, and an alarm clock or the call's end shuts them down.

llhttp is the parser: urllib3's and http.client's own parsing took three quarters of the CPU time of a short call.
"""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

import httptools

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.kfp.connections import IncompleteResponseError, NoResponseError, NotHttpError, TlsExpectedError

if TYPE_CHECKING:
    from typing_extensions import Self

    from kfadapter_grpc.telemetry.traces import SentSpan


@dataclass(frozen=True, slots=True)
class KfpRequest:
    """A finished request to KFP.

    Attributes:
        status: The HTTP status of the response; 0 if there was none.
        reason: Why there was no response, as errors name it (`KFP_TIMEOUT`); empty if there was one.
        seconds: Its duration: until the response was read, or until it began if it is streamed.
    """

    operation: str
    status: int
    reason: str
    seconds: float


KfpObserver: TypeAlias = Callable[[KfpRequest], None]
"""Receives every request, on the thread that sent it. It must be quick, and must not raise."""


class Exchange:
    """One request and its response for a call. Enter it around everything that uses the connection.

    The outcome of the request is reported once, to the call and the observer, at the latest on leaving.
    """

    def __init__(
        self,
        call: Call,
        timers: TimerThread,
        operation: str = "",
        observer: KfpObserver | None = None,
        span: SentSpan | None = None,
    ) -> None:
        self._call = call
        self._timers = timers
        self._operation = operation
        self._observer = observer
        self._span = span
        self._observed = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self.expired = False

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        self._timer = self._timers.set(self._call.remaining(), self._expire)
        self._forget = self._call.on_cancel(self._abort)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget()
        self._forget()
        self._timer.cancel()
        if isinstance(error, AdapterError):
            self._observe(0, error.reason)
        if self._span is not None:
            self._span.end()

    def use(self, connection: socket.socket) -> None:
        """Records the socket in use. Raises ConnectionAbortedError if the exchange has already been ended."""
        self._socket = connection
        if self.expired or self._call.cancelled:
            raise ConnectionAbortedError

    def forget(self) -> None:
        """Records that the socket is no longer in use: from here on it may serve another call."""
        with self._lock:
            self._socket = None

    def answered(self, status: int) -> None:
        self._observe(status, "")

    def _observe(self, status: int, reason: str) -> None:
        if self._observed:
            return
        self._observed = True
        seconds = time.perf_counter() - self._began
        self._call.usage.add_kfp(seconds)
        if self._span is not None and status:
            self._span.answered("http.response.status_code", status, is_error=status >= HTTPStatus.BAD_REQUEST)
        elif self._span is not None:
            self._span.failed(reason)
        if self._observer is not None:
            self._observer(KfpRequest(self._operation, status, reason, seconds))

    def _expire(self) -> None:
        self.expired = True
        self._abort()

    def _abort(self) -> None:
        with self._lock, suppress(OSError):
            if self._socket is not None:
                # The base class's method: that of a TLS socket would drop its TLS state under the reader.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class Timer:
    """Something that happens at a set time, unless it is cancelled."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


_PURGE_AT = 1024


class TimerThread:
    """Rings alarms on one thread, which starts with the first alarm."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._purge_at = _PURGE_AT

    def set(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        when = time.monotonic() + seconds
        with self._condition:
            heapq.heappush(self._heap, (when, next(self._numbers), timer))
            if len(self._heap) > self._purge_at:
                self._purge()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kfp-alarms", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is timer:
                self._condition.notify()
        return timer

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (timer := self._next()) is not None:
            if callback := timer.callback:
                callback()

    def _next(self) -> Timer | None:
        """Waits for the next due alarm; None at the end."""
        with self._condition:
            while not self._closed:
                while self._heap and self._heap[0][2].callback is None:
                    heapq.heappop(self._heap)
                seconds = self._heap[0][0] - time.monotonic() if self._heap else None
                if seconds is not None and seconds <= 0:
                    return heapq.heappop(self._heap)[2]
                self._condition.wait(seconds)
            return None

    def _purge(self) -> None:
        """Removes cancelled alarms: calls end long before their deadlines."""
        self._heap = [entry for entry in self._heap if entry[2].callback is not None]
        heapq.heapify(self._heap)
        self._purge_at = max(_PURGE_AT, 2 * len(self._heap))


# --- HTTP/1.1 -------------------------------------------------------------------------------------------------------


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
