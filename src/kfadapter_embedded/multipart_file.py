"""The uploaded file out of a multipart body, streamed to a temporary file that has no name."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from .archives import MAX_FILE_SIZE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from python_multipart.multipart import MultipartCallbacks
    from starlette.requests import Request

_FIELD = b"uploadfile"
# A file over the limit is still received, so that its sender gets to read the answer; up to here.
_MAX_BODY_SIZE = 1 << 30
_MAX_HEADER_SIZE = 16 << 10
_MAX_PARTS = 100
# A sender that promised more and says nothing for this long is not waited for any longer.
_IDLE_SECONDS = 10.0


class NoFileError(Exception):
    """The body holds no file in the field, is no multipart body, or ends too early."""


@dataclass(frozen=True)
class ReceivedFile:
    """A file that was uploaded.

    Attributes:
        name: what the sender calls it, without any folder.
        file: its bytes; one byte more than KFP takes means that there were more.
    """

    name: str
    file: BinaryIO


@contextlib.asynccontextmanager
async def received_file(request: Request, folder: Path) -> AsyncIterator[ReceivedFile]:
    """Receives the file of a request and drops it at the end.

    Args:
        request: the request; its whole body is read.
        folder: where larger temporary files may go.

    Raises:
        NoFileError: there is no such file.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        form = _Form(file)
        try:
            await _receive(request, form)
        except (FormParserError, ClientDisconnect, asyncio.TimeoutError) as error:
            raise NoFileError(str(error)) from error
        if form.name is None or not form.whole:
            raise NoFileError(f"no file in the field {_FIELD.decode()}")
        file.seek(0)
        yield ReceivedFile(form.name, file)


async def _receive(request: Request, form: _Form) -> None:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"") if kind == b"multipart/form-data" else b""
    parser = MultipartParser(boundary, form.callbacks()) if boundary else None
    fault: Exception | None = None if parser else NoFileError("no multipart body")
    async for chunk in _chunks(request):
        # The rest of a bad body is received too: a sender that is cut off does not get to read the answer.
        if parser and not fault:
            try:
                parser.write(chunk)
            except (FormParserError, NoFileError) as error:
                fault = error
    if fault:
        raise fault


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    received, stream = 0, aiter(request.stream())
    while (chunk := await asyncio.wait_for(anext(stream, None), _IDLE_SECONDS)) is not None:
        received += len(chunk)
        if received > _MAX_BODY_SIZE:
            raise NoFileError("the body is too large")
        yield chunk


class _Form:
    """Takes in what the parser finds, and keeps the first file of the right field only."""

    def __init__(self, file: BinaryIO) -> None:
        self.name: str | None = None
        self.whole = False
        self._file = file
        self._wanted = False
        self._room = MAX_FILE_SIZE + 1
        self._parts = 0
        self._header_name, self._header_text = bytearray(), bytearray()
        self._header_size = 0
        self._disposition = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begin,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
        }

    def _part_begin(self) -> None:
        self._parts += 1
        self._disposition = bytearray()
        self._header_size = 0
        if self._parts > _MAX_PARTS:
            raise NoFileError("the body has too many parts")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += self._bounded(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_text += self._bounded(data[start:end])

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_text
        self._header_name, self._header_text = bytearray(), bytearray()

    def _bounded(self, data: bytes) -> bytes:
        self._header_size += len(data)
        if self._header_size > _MAX_HEADER_SIZE:
            raise NoFileError("the headers of a part are too large")
        return data

    def _headers_finished(self) -> None:
        _, options = parse_options_header(bytes(self._disposition))
        self._wanted = self.name is None and options.get(b"name") == _FIELD and b"filename" in options
        if self._wanted:
            self.name = PurePosixPath(options[b"filename"].decode(errors="replace")).name

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted and self._room:
            self._room -= self._file.write(data[start : min(end, start + self._room)])

    def _part_end(self) -> None:
        self.whole = self.whole or self._wanted
