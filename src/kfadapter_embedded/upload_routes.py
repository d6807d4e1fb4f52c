"""The two routes that take files: a new pipeline with its first version, and a version of a pipeline."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

import anyio
from anyio.to_thread import run_sync
from starlette.routing import Route

from . import tags as tag_rules
from .bodies import pipeline_body, version_body
from .errors import TooLongError, UploadError, json_response, json_text_response
from .multipart_file import NoFileError, received_file
from .pipeline_file import NoPipelineError, UnreadableFileError, open_pipeline_file, read_spec
from .pipeline_routes import MAX_PIPELINE_NAME
from .pipeline_store import NameTakenError, PipelineGoneError
from .records import NewPipeline, NewVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from starlette.datastructures import QueryParams
    from starlette.requests import Request
    from starlette.responses import Response

    from .multipart_file import ReceivedFile
    from .pipeline_store import PipelineStore

    _Creator: TypeAlias = Callable[[QueryParams, ReceivedFile], Response]

_MAX_VERSION_NAME = 127
# Reading a large file takes a second and some ten bytes of memory per byte: more at once would only be slower.
_READ_AT_ONCE = 2
_NEW_PIPELINE = "Failed to create a pipeline and a pipeline version"
_NEW_VERSION = "Failed to create a pipeline version"


def routes(store: PipelineStore, folder: Path) -> list[Route]:
    """The routes over a store.

    Args:
        store: takes what is uploaded.
        folder: where larger temporary files may go.
    """
    handlers = _Handlers(store, folder)
    return [
        Route("/apis/v2beta1/pipelines/upload", handlers.upload, methods=["POST"]),
        Route("/apis/v2beta1/pipelines/upload_version", handlers.upload_version, methods=["POST"]),
    ]


class _Handlers:
    def __init__(self, store: PipelineStore, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._readers = anyio.CapacityLimiter(_READ_AT_ONCE)

    async def upload(self, request: Request) -> Response:
        try:
            async with received_file(request, self._folder) as received:
                return await self._in_thread(self._create_pipeline, request, received)
        except NoFileError:
            raise UploadError("Failed to read pipeline from file") from None

    async def upload_version(self, request: Request) -> Response:
        try:
            async with received_file(request, self._folder) as received:
                return await self._in_thread(self._create_version, request, received)
        except NoFileError:
            raise UploadError(_NEW_VERSION) from None

    async def _in_thread(self, create: _Creator, request: Request, received: ReceivedFile) -> Response:
        # Only the end of this process cancels: then nobody waits for a file to be read.
        query = request.query_params
        return await run_sync(create, query, received, limiter=self._readers, abandon_on_cancel=True)

    def _create_pipeline(self, query: QueryParams, received: ReceivedFile) -> Response:
        with _opened(received, self._folder, "Failed to read a pipeline spec file") as text:
            what = _Described.by(query, received.name)
            _check_length("Pipeline", what.name, MAX_PIPELINE_NAME)
            _check_tags(what.tags)
            # Tags sent with a pipeline's file are the pipeline's alone.
            version = replace(what, tags={}).version(_spec(text))
        if len(what.name.encode()) > _MAX_VERSION_NAME:
            # KFP checks the pipeline's limit, which is larger by one, and then trips over the version's.
            raise UploadError(_NEW_PIPELINE, HTTPStatus.INTERNAL_SERVER_ERROR, early=False)
        try:
            pipeline = self._store.create_pipeline_with_version(what.pipeline(), version)
        except NameTakenError:
            raise UploadError(_NEW_PIPELINE, HTTPStatus.CONFLICT, early=False) from None
        return json_response(pipeline_body(pipeline))

    def _create_version(self, query: QueryParams, received: ReceivedFile) -> Response:
        pipeline_id = query.get("pipelineid", "")
        with _opened(received, self._folder, _NEW_VERSION) as text:
            what = _Described.by(query, received.name)
            _check_length("PipelineVersion", what.name, _MAX_VERSION_NAME)
            if self._store.try_pipeline(pipeline_id) is None:
                raise UploadError(_NEW_VERSION)
            _check_tags(what.tags)
            new = what.version(_spec(text))
        try:
            version = self._store.create_version(pipeline_id, new)
        except NameTakenError:
            raise UploadError(_NEW_VERSION, HTTPStatus.CONFLICT, early=False) from None
        except PipelineGoneError:
            raise UploadError(_NEW_VERSION) from None
        return json_text_response(version_body(version, new.spec))


@dataclass(frozen=True)
class _Described:
    """What the query says of an upload."""

    name: str
    display_name: str
    description: str
    code_source_url: str
    tags: dict[str, str]

    @classmethod
    def by(cls, query: QueryParams, filename: str) -> _Described:
        display_name = query.get("display_name", "")
        name = query.get("name") or display_name or filename
        texts = (query.get("description", ""), query.get("code_source_url", ""))
        return cls(name, display_name or name, *texts, _parse_tags(query.get("tags", "")))

    def pipeline(self) -> NewPipeline:
        return NewPipeline(self.name, self.display_name, self.description, self.tags)

    def version(self, spec: str) -> NewVersion:
        return NewVersion(self.name, self.display_name, spec, self.description, self.code_source_url, self.tags)


@contextlib.contextmanager
def _opened(received: ReceivedFile, folder: Path, complaint: str) -> Iterator[BinaryIO]:
    """The pipeline's text inside an upload."""
    try:
        text = open_pipeline_file(received.name, received.file, folder)
    except UnreadableFileError:
        raise UploadError(complaint) from None
    with text:
        yield text


def _spec(text: BinaryIO) -> str:
    try:
        return read_spec(text)
    except NoPipelineError as error:
        raise UploadError(str(error), early=False) from None


def _parse_tags(text: str) -> dict[str, str]:
    try:
        tags = tag_rules.try_tags(json.loads(text or "{}"))
    except (ValueError, RecursionError):
        tags = None
    if tags is None:
        raise UploadError("Failed to parse tags query parameter. Expected JSON object with string keys and values")
    return tags


def _check_tags(tags: dict[str, str]) -> None:
    if words := tag_rules.complaint(tags):
        raise UploadError(words, early=False)


def _check_length(model: str, name: str, limit: int) -> None:
    if len(name.encode()) > limit:
        raise TooLongError(f"{model}.Name length cannot exceed {limit}")
