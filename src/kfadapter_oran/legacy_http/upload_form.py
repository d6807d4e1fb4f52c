"""A multipart form with a file, read as it comes: never the whole of it in memory, and nothing of it on a disk."""

from __future__ import annotations

import asyncio
import io
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO, cast

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from kfadapter_oran.legacy_http.limits import MAX_FIELD_BYTES, MAX_PARTS
from kfadapter_oran.legacy_http.messages import RefusalError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from python_multipart.multipart import MultipartCallbacks

_FORM = b"multipart/form-data"
_FILE, _DESCRIPTION = b"file", b"description"


class UploadForm:
    """The form of an upload: a part `file`, with or without a file name, and a field `description` before it.

    Attributes:
        description: The field; empty if there is none.
    """

    def __init__(self, content_type: str, read: Callable[[], Awaitable[bytes]]) -> None:
        """Will read the body with `read`, which returns what has come, and nothing at the end.

        Raises:
            RefusalError: The body is no such form.
        """
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != _FORM or not boundary:
            raise RefusalError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the pipeline as multipart/form-data, in a part named 'file'"
            )
        self.description = ""
        self._read = read
        self._parts = _Parts()
        try:
            self._parser = MultipartParser(boundary, self._parts.callbacks())
        except FormParserError as error:
            raise _unreadable(error) from None
        self._loop = asyncio.get_running_loop()
        self._over = False

    async def begin(self) -> None:
        """Reads up to the file.

        Raises:
            RefusalError: The form is wrong, or there is no file in it.
        """
        while not self._parts.file_begun:
            if not await self._more():
                raise RefusalError(HTTPStatus.BAD_REQUEST, "the form has no part named 'file'")
        try:
            self.description = bytes(self._parts.description).decode("utf-8")
        except UnicodeDecodeError:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "the field 'description' is not UTF-8") from None

    def file(self) -> BinaryIO:
        """The file; to be read in another thread than the loop's, which does the reading."""
        return cast("BinaryIO", _File(self, self._loop))

    async def take(self, size: int) -> bytes:
        """Takes up to `size` bytes of the file, fewer only at its end, where the rest of the form is read, too.

        Raises:
            RefusalError: The form is wrong, or its sender is too slow or gone.
        """
        taken = self._parts.file
        while len(taken) < size and await self._more():
            pass
        data = bytes(taken[:size])
        del taken[:size]
        return data

    async def _more(self) -> bool:
        """Reads on; False at the end."""
        if self._over:
            return False
        data = await self._read()
        try:
            if data:
                self._parser.write(data)
                return True
            self._parser.finalize()
        except FormParserError as error:
            raise _unreadable(error) from None
        self._over = True
        if self._parts.begun and not self._parts.whole:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "the form ends before its last boundary")
        return False


def _unreadable(error: FormParserError) -> RefusalError:
    return RefusalError(HTTPStatus.BAD_REQUEST, f"the form cannot be read: {str(error)[:200]}")


class _File(io.RawIOBase):
    """What is read in a thread; each read waits for the loop."""

    def __init__(self, form: UploadForm, loop: asyncio.AbstractEventLoop) -> None:
        self._form = form
        self._loop = loop

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = asyncio.run_coroutine_threadsafe(self._form.take(len(buffer)), self._loop).result()
        buffer[: len(data)] = data
        return len(data)


class _Parts:
    """Takes in what the parser finds."""

    def __init__(self) -> None:
        self.description = bytearray()
        self.file = bytearray()
        self.file_begun = False
        self.whole = False
        self._count = 0
        self._name, self._value = bytearray(), bytearray()
        self._disposition = b""
        self._into: bytearray | None = None

    @property
    def begun(self) -> bool:
        """Whether there is a part at all."""
        return self._count > 0

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._count += 1
        self._disposition, self._into = b"", None
        if self._count > MAX_PARTS:
            raise RefusalError(HTTPStatus.BAD_REQUEST, f"the form has more than {MAX_PARTS} parts")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        name = parse_options_header(self._disposition)[1].get(b"name")
        if name == _FILE:
            if self.file_begun:
                raise RefusalError(HTTPStatus.BAD_REQUEST, "the form has more than one part named 'file'")
            self.file_begun, self._into = True, self.file
        elif name == _DESCRIPTION:
            if self.file_begun:
                raise RefusalError(
                    HTTPStatus.BAD_REQUEST,
                    "the field 'description' comes after the file; send it first, as the file is passed on at once",
                )
            self.description.clear()
            self._into = self.description

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._into is None:
            return
        if self._into is self.description and len(self._into) + end - start > MAX_FIELD_BYTES:
            raise RefusalError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the field 'description' is too long")
        self._into += data[start:end]

    def _end(self) -> None:
        self.whole = True
