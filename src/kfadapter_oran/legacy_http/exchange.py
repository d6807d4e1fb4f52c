"""One connection: a request, its answer, and the end. Whatever comes in, it is answered or ended within set times."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

import h11

from kfadapter_grpc.contract.errors import UploadTooLargeError
from kfadapter_oran.legacy_http import limits
from kfadapter_oran.legacy_http.messages import RefusalError

if TYPE_CHECKING:
    from kfadapter_oran.legacy_http.messages import Answer

_READ_BYTES = 64 * 1024
_KNOWN = frozenset(map(int, HTTPStatus))


class Exchange:
    """Reads a request and writes its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talks over a connection."""
        self._reader = reader
        self._writer = writer
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.MAX_HEAD_BYTES)
        self._reading = asyncio.Lock()
        self._ends = math.inf
        self._heard = False
        self._head: h11.Request | None = None

    @property
    def method(self) -> str:
        """The method; empty before it is known."""
        return self._head.method.decode("ascii") if self._head else ""

    @property
    def target(self) -> str:
        """The target, percent-encoded where it is not ASCII."""
        return self._head.target.decode("ascii") if self._head else ""

    async def begin(self) -> bool:
        """Reads the head of the request; False if none came.

        Raises:
            RefusalError: It is wrong, too long, or too slow.
        """
        self.read_within(limits.HEAD_SECONDS)
        try:
            event = await self._event()
        except asyncio.TimeoutError:
            if not self._heard:
                return False
            raise RefusalError(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time") from None
        if not isinstance(event, h11.Request):
            return False
        self._head = event
        # h11 bounds what it holds of a head that is not complete yet.
        if len(event.target) + sum(len(name) + len(value) for name, value in event.headers) > limits.MAX_HEAD_BYTES:
            raise RefusalError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head of the request is too long")
        return True

    def read_within(self, seconds: float) -> None:
        """Allows `seconds` from now on for all that is read; infinite: only silence is too slow."""
        self._ends = time.monotonic() + seconds

    def headers(self, name: str) -> list[str]:
        """The values of a header, by its name in lower case."""
        headers = self._head.headers if self._head else ()
        return [value.decode("latin-1") for key, value in headers if key == name.encode("ascii")]

    def header(self, name: str) -> str:
        """The first value of a header; empty if there is none."""
        return next(iter(self.headers(name)), "")

    def check_length(self, limit: int) -> None:
        """Looks whether a body of more than `limit` bytes is announced.

        Raises:
            UploadTooLargeError: It is.
        """
        length = self.header("content-length")
        if length and int(length) > limit:  # h11 has seen to it that it is a number
            raise too_large(limit)

    async def read(self) -> bytes:
        """Reads what comes next of the body; nothing at its end.

        Raises:
            RefusalError: It is wrong, or its sender is too slow or gone.
        """
        try:
            event = await self._event()
        except asyncio.TimeoutError:
            raise RefusalError(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time") from None
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def read_all(self, limit: int) -> bytes:
        """Reads the whole body.

        Raises:
            UploadTooLargeError: It has more than `limit` bytes.
            RefusalError: It is wrong, or too slow.
        """
        self.check_length(limit)
        self.read_within(limits.BODY_SECONDS)
        body = bytearray()
        while data := await self.read():
            body += data
            if len(body) > limit:
                raise too_large(limit)
        return bytes(body)

    async def answer(self, answer: Answer, request_id: str) -> None:
        """Sends the answer, the only one on this connection."""
        headers = {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            "Date": formatdate(usegmt=True),
            "X-Request-Id": request_id,
            "Connection": "close",
            **answer.headers,
        }
        phrase = HTTPStatus(answer.status).phrase if answer.status in _KNOWN else ""
        head = h11.Response(status_code=answer.status, headers=list(headers.items()), reason=phrase)
        data = self._connection.send(head) or b""
        if self.method != "HEAD":
            data += self._connection.send(h11.Data(data=answer.body)) or b""
        self._writer.transport.set_write_buffer_limits(0)  # so that drain waits until the system has taken everything
        self._writer.write(data)
        await asyncio.wait_for(self._writer.drain(), limits.ANSWER_SECONDS)

    async def linger(self) -> None:
        """Reads what is left of the request: a sender whose connection breaks meanwhile would not read the answer."""
        if self._connection.they_are_waiting_for_100_continue or self._has_arrived():
            return
        with suppress(asyncio.TimeoutError, OSError):
            if self._writer.can_write_eof():
                self._writer.write_eof()
            await asyncio.wait_for(self._rest(), limits.LINGER_SECONDS)

    def _has_arrived(self) -> bool:
        """Whether the whole request is there, read or not."""
        with suppress(h11.RemoteProtocolError):
            while self._connection.their_state is h11.SEND_BODY and self._connection.next_event() is not h11.NEED_DATA:
                pass
        return self._connection.their_state not in {h11.SEND_BODY, h11.ERROR}

    async def _rest(self) -> None:
        async with self._reading:
            while await self._reader.read(_READ_BYTES):
                pass

    async def _event(self) -> object:
        """Waits for the next part of the request.

        Raises:
            RefusalError: It is wrong.
            asyncio.TimeoutError: Nothing came for too long.
        """
        async with self._reading:
            try:
                while (event := self._connection.next_event()) is h11.NEED_DATA:
                    await self._receive()
            except h11.RemoteProtocolError as error:
                status = HTTPStatus(error.error_status_hint)
                raise RefusalError(status, f"the request cannot be read: {error}") from None
        return event

    async def _receive(self) -> None:
        if self._connection.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[])
            self._writer.write(self._connection.send(go_on) or b"")
        # The only timeout there is while reading: before Python 3.12 an outer one may be lost when data comes with it.
        seconds = min(limits.SILENCE_SECONDS, self._ends - time.monotonic())
        if seconds <= 0:
            raise asyncio.TimeoutError
        data = await asyncio.wait_for(self._reader.read(_READ_BYTES), seconds)
        self._heard = self._heard or bool(data)
        self._connection.receive_data(data)


def too_large(limit: int) -> UploadTooLargeError:
    """Makes the error for a body of more than `limit` bytes."""
    return UploadTooLargeError(f"the body is larger than the {limit} bytes that are taken here")
