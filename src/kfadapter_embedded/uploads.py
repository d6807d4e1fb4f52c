"""The two routes for uploads: a new pipeline with its first version, and a version of a pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import BinaryIO, TypeAlias

import anyio
from anyio.to_thread import run_sync
from starlette.datastructures import QueryParams, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from .document_kinds import PIPELINES
from .errors import UploadError, json_response
from .json_text import sound_text
from .pipeline_file import MAX_FILE_SIZE, NoPipelineError, UnreadableFileError, open_pipeline_file, read_spec
from .pipelines import MAX_PIPELINE_NAME, add_version, new_pipeline, new_version
from .requests import tag_fault, try_tags
from .store import DuplicateError, Store

_Create: TypeAlias = Callable[[QueryParams, "ReceivedFile"], Response]
_FIELD = "uploadfile"
# A file over the limit is still received, so that the client can read the response; up to this size.
_MAX_BODY_SIZE = 1 << 30
# The file and any other fields of the form.
_MAX_FORM_SIZE = MAX_FILE_SIZE + (1 << 20)
_MAX_PARTS = 100
# A client that announced more data and sends nothing for this long is disconnected.
_IDLE_SECONDS = 10.0
_MAX_VERSION_NAME = 127
# Parsing a large file takes a second and some ten bytes of memory per byte: more at once would only be slower.
_READ_AT_ONCE = 2
_NEW_PIPELINE = "Failed to create a pipeline and a pipeline version"
_NEW_VERSION = "Failed to create a pipeline version"


class _Parser(MultiPartParser):
    # A larger file is spooled to disk, each chunk in a thread.
    spool_max_size = 4 << 20


class NoFileError(Exception):
    """The body has no file in the field, is not a multipart body, or is truncated."""


@dataclass(frozen=True)
class ReceivedFile:
    """An uploaded file, with the name that the client sent, without folders."""

    name: str
    file: BinaryIO


class Uploads:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._readers = anyio.CapacityLimiter(_READ_AT_ONCE)

    def routes(self) -> list[Route]:
        return [
            Route("/apis/v2beta1/pipelines/upload", self._upload, methods=["POST"]),
            Route("/apis/v2beta1/pipelines/upload_version", self._upload_version, methods=["POST"]),
        ]

    async def _upload(self, request: Request) -> Response:
        return await self._received(
            request, self._create_pipeline, "Failed to read pipeline from file", "Failed to read a pipeline spec file"
        )

    async def _upload_version(self, request: Request) -> Response:
        return await self._received(request, self._create_version, _NEW_VERSION, _NEW_VERSION)

    async def _received(self, request: Request, create: _Create, no_file: str, unreadable: str) -> Response:
        try:
            async with received_file(request) as received:
                # Cancelled only when this process stops: then no client waits for the file to be parsed.
                query = request.query_params
                return await run_sync(create, query, received, limiter=self._readers, abandon_on_cancel=True)
        except NoFileError:
            raise UploadError(no_file) from None
        except UnreadableFileError:
            raise UploadError(unreadable) from None

    def _create_pipeline(self, query: QueryParams, received: ReceivedFile) -> Response:
        with open_pipeline_file(received.name, received.file) as text:
            fields = _fields(query, received.name)
            _check_name("Pipeline", fields["name"], MAX_PIPELINE_NAME)
            tags = _tags(query)
            spec = _spec(text)
        if len(fields["name"].encode()) > _MAX_VERSION_NAME:
            # KFP checks the pipeline's limit, which is larger by one, and then fails on the version's limit.
            raise UploadError(_NEW_PIPELINE, HTTPStatus.INTERNAL_SERVER_ERROR, early=False)
        shared = {name: value for name, value in fields.items() if name != "code_source_url"}
        pipeline = new_pipeline(self._store, **shared, tags=tags)
        with _conflict(_NEW_PIPELINE), self._store.writing() as documents:
            made = documents.add(PIPELINES, pipeline)
            # Tags of the upload apply to the pipeline only.
            add_version(documents, new_version(self._store, str(pipeline["pipeline_id"]), **fields), spec)
        return json_response(made)

    def _create_version(self, query: QueryParams, received: ReceivedFile) -> Response:
        pipeline_id = query.get("pipelineid", "")
        with open_pipeline_file(received.name, received.file) as text:
            fields = _fields(query, received.name)
            _check_name("PipelineVersion", fields["name"], _MAX_VERSION_NAME)
            with self._store.reading() as documents:
                if documents.text(PIPELINES, pipeline_id) is None:
                    raise UploadError(_NEW_VERSION)
            tags = _tags(query)
            spec = _spec(text)
        version = new_version(self._store, pipeline_id, **fields, tags=tags)
        with _conflict(_NEW_VERSION), self._store.writing() as documents:
            if documents.text(PIPELINES, pipeline_id) is None:  # deleted in the meantime
                raise UploadError(_NEW_VERSION)
            return json_response(add_version(documents, version, spec))


def _fields(query: QueryParams, filename: str) -> dict[str, str]:
    display_name = query.get("display_name", "")
    name = query.get("name") or display_name or filename
    more = {key: query.get(key, "") for key in ("description", "code_source_url")}
    fields = {"name": name, "display_name": display_name or name, **more}
    return {key: sound_text(value) for key, value in fields.items()}


def _tags(query: QueryParams) -> dict[str, str]:
    try:
        tags = try_tags(json.loads(query.get("tags") or "{}"))
    except (ValueError, RecursionError):
        tags = None
    if tags is None:
        raise UploadError("Failed to parse tags query parameter. Expected JSON object with string keys and values")
    if words := tag_fault(tags):
        raise UploadError(words, early=False)
    return tags


def _check_name(model: str, name: str, limit: int) -> None:
    if len(name.encode()) > limit:
        raise UploadError(f"{model}.Name length cannot exceed {limit}", plain=True)


def _spec(text: BinaryIO) -> str:
    try:
        return read_spec(text)
    except NoPipelineError as error:
        raise UploadError(str(error), early=False) from None


@contextlib.contextmanager
def _conflict(words: str) -> Iterator[None]:
    try:
        yield
    except DuplicateError:
        raise UploadError(words, HTTPStatus.CONFLICT, early=False) from None


@contextlib.asynccontextmanager
async def received_file(request: Request) -> AsyncIterator[ReceivedFile]:
    """Receives the first file in the right field of a request's form, and deletes it at the end of the block.

    Raises NoFileError if there is no such file, UnreadableFileError if it is too large.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise NoFileError("no multipart body")
    chunks = _chunks(request)
    parser = _Parser(request.headers, _form(chunks), max_files=_MAX_PARTS, max_fields=_MAX_PARTS)
    try:
        form = await parser.parse()
    except (MultiPartException, ClientDisconnect, asyncio.TimeoutError, UnreadableFileError, ValueError) as error:
        # The rest of an invalid body is received too: a client that is disconnected could not read the response.
        with contextlib.suppress(ClientDisconnect, asyncio.TimeoutError):
            async for _ in chunks:
                pass
        raise error if isinstance(error, UnreadableFileError) else NoFileError(str(error)) from error
    try:
        file = next((each for each in form.getlist(_FIELD) if isinstance(each, UploadFile)), None)
        if file is None:
            raise NoFileError(f"no file in the field {_FIELD}")
        yield ReceivedFile(PurePosixPath(file.filename or "").name, file.file)
    finally:
        await form.close()


async def _form(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    received = 0
    async for chunk in chunks:
        received += len(chunk)
        if received > _MAX_FORM_SIZE:
            raise UnreadableFileError("the body is too large")
        yield chunk


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    received, stream = 0, aiter(request.stream())
    while (chunk := await asyncio.wait_for(anext(stream, None), _IDLE_SECONDS)) is not None:
        received += len(chunk)
        if received > _MAX_BODY_SIZE:
            return
        yield chunk
