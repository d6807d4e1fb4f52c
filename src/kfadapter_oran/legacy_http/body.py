"""The body of a request, read within limits of time and size: whole, or as a form whose file is streamed."""

from __future__ import annotations

import asyncio
import io
import json
import math
import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO, cast

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException

from kfadapter_grpc.contract.errors import UploadTooLargeError
from kfadapter_oran.legacy_http import limits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Receive

    from kfadapter_grpc.contract.spec import Json


class Body:
    """The body of one request."""

    def __init__(self, receive: Receive, *, content_length: int | None, awaits_continue: bool) -> None:
        """Reads from `receive`.

        Args:
            receive: The `receive` of ASGI, which returns the next part.
            content_length: That of the request, if any.
            awaits_continue: Whether the client sends nothing before the first part is requested.
        """
        self._receive = receive
        self._content_length = content_length
        self._awaits_continue = awaits_continue
        self._deadline = math.inf
        self._ended = False

    def check_length(self, limit: int) -> None:
        """Checks the content length.

        Raises:
            UploadTooLargeError: It exceeds `limit` bytes.
        """
        if self._content_length is not None and self._content_length > limit:
            raise _too_large(limit)

    def set_deadline(self, seconds: float) -> None:
        """Sets a deadline of `seconds` for the rest of the body; if infinite, only a stalled client is too slow."""
        self._deadline = time.monotonic() + seconds

    async def read(self) -> bytes:
        """Reads the next part; empty at the end.

        Raises:
            HTTPException: The client is too slow or has disconnected.
        """
        if self._ended:
            return b""
        seconds = min(limits.IDLE_SECONDS, self._deadline - time.monotonic())
        self._awaits_continue = False
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, seconds))
        except asyncio.TimeoutError:
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time") from None
        if message["type"] == "http.disconnect":
            self._ended = True
            raise HTTPException(HTTPStatus.BAD_REQUEST, "the caller disconnected before the end of the body")
        self._ended = not message["more_body"]
        data: bytes = message["body"]
        return data

    async def read_json(self) -> dict[str, Json]:
        """Reads a JSON object whose strings can all be encoded in UTF-8.

        Raises:
            UploadTooLargeError: It is too large.
            HTTPException: It is invalid, or the client is too slow.
        """
        self.check_length(limits.MAX_JSON_BYTES)
        self.set_deadline(limits.BODY_SECONDS)
        body = bytearray()
        while data := await self.read():
            body += data
            if len(body) > limits.MAX_JSON_BYTES:
                raise _too_large(limits.MAX_JSON_BYTES)
        return _json_object(body)

    async def drain(self) -> None:
        """Reads the rest: a client whose connection broke meanwhile would not read the response."""
        if self._awaits_continue:
            return
        with suppress(HTTPException):
            self.set_deadline(limits.LINGER_SECONDS)
            while await self.read():
                pass


class UploadForm:
    """The form of an upload: an optional field `description`, then a part `file`, with or without a file name.

    Attributes:
        description: The field `description`.
    """

    def __init__(self, content_type: str, read: Callable[[], Awaitable[bytes]]) -> None:
        """Reads the body with `read`, which returns the next part, empty at the end.

        Raises:
            HTTPException: The content type is not that of a form.
        """
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise HTTPException(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the pipeline as multipart/form-data, in a part named 'file'"
            )
        self.description = ""
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._parts, self._ended, self._complete = 0, False, False
        self._name, self._value, self._disposition = bytearray(), bytearray(), b""
        self._description, self._file = bytearray(), bytearray()
        self._file_begun = False
        self._target: bytearray | None = None
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_data,
                    "on_part_data": self._append_data,
                    "on_end": self._end_form,
                },
            )
        except FormParserError as error:
            raise _invalid_form(f"cannot be read: {str(error)[:200]}") from None

    async def begin(self) -> None:
        """Reads up to the file.

        Raises:
            HTTPException: The form is invalid, or has no file.
        """
        while not self._file_begun:
            if not await self._more():
                raise _invalid_form("has no part named 'file'")
        try:
            self.description = self._description.decode("utf-8")
        except UnicodeDecodeError:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "the field 'description' is not UTF-8") from None

    def file(self) -> BinaryIO:
        """The file, to be read in another thread than the event loop."""
        return cast("BinaryIO", _File(self, self._loop))

    async def read(self, size: int) -> bytes:
        """Reads up to `size` bytes of the file; fewer only at its end, where the rest of the form is read, too.

        Raises:
            HTTPException: The form is invalid, or the client is too slow or has disconnected.
        """
        while len(self._file) < size and await self._more():
            pass
        data = bytes(self._file[:size])
        del self._file[:size]
        return data

    async def _more(self) -> bool:
        """Reads the next part; False at the end."""
        if self._ended:
            return False
        data = await self._read()
        try:
            if data:
                self._parser.write(data)
                return True
            self._parser.finalize()
        except FormParserError as error:
            raise _invalid_form(f"cannot be read: {str(error)[:200]}") from None
        self._ended = True
        if self._parts and not self._complete:
            raise _invalid_form("ends before its last boundary")
        return False

    def _begin_part(self) -> None:
        self._parts += 1
        self._disposition, self._target = b"", None
        if self._parts > limits.MAX_PARTS:
            raise _invalid_form(f"has more than {limits.MAX_PARTS} parts")

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _begin_data(self) -> None:
        name = parse_options_header(self._disposition)[1].get(b"name")
        if name == b"file":
            if self._file_begun:
                raise _invalid_form("has more than one part named 'file'")
            self._file_begun, self._target = True, self._file
        elif name == b"description":
            if self._file_begun:
                text = "comes after the file; send it first, as the file is passed on at once"
                raise HTTPException(HTTPStatus.BAD_REQUEST, f"the field 'description' {text}")
            self._description.clear()
            self._target = self._description

    def _append_data(self, data: bytes, start: int, end: int) -> None:
        if self._target is None:
            return
        if self._target is self._description and len(self._target) + end - start > limits.MAX_FIELD_BYTES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the field 'description' is too long")
        self._target += data[start:end]

    def _end_form(self) -> None:
        self._complete = True


class _File(io.RawIOBase):
    """A stream to be read in a thread; each read waits for the event loop."""

    def __init__(self, form: UploadForm, loop: asyncio.AbstractEventLoop) -> None:
        self._form = form
        self._loop = loop

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = asyncio.run_coroutine_threadsafe(self._form.read(len(buffer)), self._loop).result()
        buffer[: len(data)] = data
        return len(data)


def _json_object(body: bytearray) -> dict[str, Json]:
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_reject_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"the body is no JSON: {why[:200]}") from None
    if not isinstance(value, dict):
        raise HTTPException(HTTPStatus.BAD_REQUEST, "the body must be a JSON object")
    return value


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _invalid_form(problem: str) -> HTTPException:
    return HTTPException(HTTPStatus.BAD_REQUEST, f"the form {problem}")


def _too_large(limit: int) -> UploadTooLargeError:
    return UploadTooLargeError(f"the body is larger than the limit of {limit} bytes")
