"""Pipelines and their versions."""

from __future__ import annotations

import os
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from kfadapter.v1 import pipeline_pb2
from kfadapter_grpc.client.connection import MARGIN_SECONDS, Pages, new_request_id
from kfadapter_grpc.client.download import DownloadReceipt, Receiver, atomic_write
from kfadapter_grpc.client.errors import CannotConnectError
from kfadapter_grpc.client.resource import Resource
from kfadapter_grpc.client.upload import UploadMessages, UploadReceipt, measure
from kfadapter_grpc.codec import to_message, to_record
from kfadapter_grpc.contract.errors import AdapterError, DrainingError, PipelineNotFoundError, VersionNotFoundError
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.pipelines import (
    DeletePipelineRequest,
    DeletePipelineVersionRequest,
    DeleteResult,
    DeleteVersionResult,
    DownloadPipelineRequest,
    GetPipelineRequest,
    GetPipelineVersionRequest,
    IfExists,
    ListPipelinesRequest,
    ListPipelineVersionsRequest,
    Pipeline,
    PipelineRef,
    PipelineVersion,
    UpdatePipelineRequest,
    UpdatePipelineVersionRequest,
    UploadPipelineMetadata,
    VersionRef,
)
from kfadapter_grpc.contract.runs import Run
from kfadapter_grpc.methods import DOWNLOAD_SECONDS, METHOD_OF_REQUEST, download_seconds, upload_seconds

UNKNOWN_SIZE_BYTES = 32 * 2**20
"""The assumed size of a stream of unknown length, for its deadline: KFP's own limit."""
DOWNLOAD_STREAM_SECONDS = DOWNLOAD_SECONDS + download_seconds(UNKNOWN_SIZE_BYTES)


class Pipelines(Resource):
    """The calls of PipelineService (docs/reference/api/pipeline.md).

    A pipeline and a version are identified by name or by id; the name of a version is case-insensitive. Calls raise
    PipelineNotFoundError or VersionNotFoundError if it does not exist.
    """

    def get(self, name: str = "", *, pipeline_id: str = "", view: View = View.FULL) -> Pipeline:
        """Gets one pipeline."""
        return self._call(GetPipelineRequest(PipelineRef(pipeline_id, name), view), Pipeline)

    def list(
        self,
        *,
        name_contains: str = "",
        created_after: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        order_by: str = "",
        page_size: int = 0,
    ) -> Pages[Pipeline]:
        """Yields all pipelines that match all filters, requesting pages as they are needed.

        `name_contains` is case-sensitive; `tags` must all match. `order_by` is `created_at`, `name` or `pipeline_id`,
        with ` desc` for descending order.
        """
        request = ListPipelinesRequest(name_contains, created_after, tags or {}, page_size=page_size, order_by=order_by)
        return self._list(request, Pipeline)

    def list_versions(
        self, name: str = "", *, pipeline_id: str = "", view: View = View.BASIC, order_by: str = "", page_size: int = 0
    ) -> Pages[PipelineVersion]:
        """Yields all versions of a pipeline, requesting pages as they are needed.

        `View.FULL` includes every version's spec, which is slow for long lists. `order_by` is `created_at`, `name` or
        `pipeline_version_id`, with ` desc` for descending order.
        """
        pipeline = PipelineRef(pipeline_id, name)
        request = ListPipelineVersionsRequest(pipeline, view, page_size=page_size, order_by=order_by)
        return self._list(request, PipelineVersion)

    def get_version(
        self, name: str = "", *, pipeline_id: str = "", version_name: str = "", pipeline_version_id: str = ""
    ) -> PipelineVersion:
        """Gets one version of a pipeline with its spec summary; defaults to the latest."""
        version = VersionRef(pipeline_version_id, version_name)
        return self._call(GetPipelineVersionRequest(PipelineRef(pipeline_id, name), version), PipelineVersion)

    def try_version_of(self, run: Run) -> PipelineVersion | None:
        """Returns the version that a run was started from; None if it was deleted, or if the run is of a file."""
        return self._run(self._version_of(run))

    async def _version_of(self, run: Run) -> PipelineVersion | None:
        if run.pipeline_id and run.pipeline_version_id:
            pipeline, version = PipelineRef(run.pipeline_id), VersionRef(run.pipeline_version_id)
            with suppress(PipelineNotFoundError, VersionNotFoundError):
                return await self._record(GetPipelineVersionRequest(pipeline, version), PipelineVersion)
        return None

    def update(
        self,
        name: str = "",
        *,
        pipeline_id: str = "",
        display_name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Pipeline:
        """Updates a pipeline; None leaves a field as it is.

        An empty display name resets it to the name; tags replace all others.

        Raises:
            UnsupportedByKfpError: This KFP, before 2.17, updates nothing.
        """
        request = UpdatePipelineRequest(
            PipelineRef(pipeline_id, name),
            display_name=display_name or "",
            tags=tags or {},
            update_mask=_mask(display_name=display_name, tags=tags),
        )
        return self._call(request, Pipeline)

    def update_version(
        self,
        name: str = "",
        *,
        pipeline_id: str = "",
        version_name: str = "",
        pipeline_version_id: str = "",
        display_name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> PipelineVersion:
        """Updates one version of a pipeline, which must be specified, as `update` does; returns it without its spec."""
        request = UpdatePipelineVersionRequest(
            PipelineRef(pipeline_id, name),
            VersionRef(pipeline_version_id, version_name),
            display_name=display_name or "",
            tags=tags or {},
            update_mask=_mask(display_name=display_name, tags=tags),
        )
        return self._call(request, PipelineVersion)

    def delete_version(
        self,
        name: str = "",
        *,
        pipeline_id: str = "",
        version_name: str = "",
        pipeline_version_id: str = "",
        allow_missing: bool = False,
    ) -> DeleteVersionResult:
        """Deletes one version of a pipeline; it must be specified.

        With `allow_missing` the result is empty if the version or the pipeline does not exist.

        Raises:
            InvalidFieldError: No version is specified.
        """
        pipeline, version = PipelineRef(pipeline_id, name), VersionRef(pipeline_version_id, version_name)
        return self._call(DeletePipelineVersionRequest(pipeline, version, allow_missing), DeleteVersionResult)

    def delete(
        self, name: str = "", *, pipeline_id: str = "", force: bool = False, allow_missing: bool = False
    ) -> DeleteResult:
        """Deletes a pipeline and its versions; with `force` also if it has more than one.

        With `allow_missing` the result is empty if it does not exist.

        Raises:
            PipelineHasVersionsError: It has more than one version, and `force` is not set.
        """
        return self._call(DeletePipelineRequest(PipelineRef(pipeline_id, name), force, allow_missing), DeleteResult)

    def upload(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        *,
        name: str,
        version_name: str = "",
        description: str = "",
        display_name: str = "",
        tags: Mapping[str, str] | None = None,
        code_source_url: str = "",
        if_exists: IfExists = IfExists.NEW_VERSION,
        request_id: str = "",
        progress: Callable[[int, int | None], None] | None = None,
    ) -> UploadReceipt:
        """Uploads a compiled pipeline: YAML, JSON, or a zip or tar.gz archive with one.

        For a file, size and checksum are announced first, and the upload is retried, at most twice and with the same
        request id, if the adapter or KFP becomes unreachable. A stream is read to its end once, and not closed. The
        adapter numbers versions without a name. A description is that of the version, and of the pipeline if it is new.

        Args:
            source: A path, or a stream of bytes.
            name: The pipeline's name, up to 128 characters.
            version_name: The version's name.
            description: The description.
            display_name: Display name; defaults to the name.
            tags: At most 18 tags.
            code_source_url: The URL of the source code.
            if_exists: What to do if the pipeline exists.
            request_id: The idempotency key; generated by default.
            progress: Called with the number of bytes sent and the total, which is None for a stream. It runs in
                another thread; an exception that it raises ends the upload.

        Raises:
            OSError: The file cannot be read.
            InvalidPipelineFileError: The file is not a valid pipeline.
            PipelineExistsError: The pipeline exists, and `if_exists` is FAIL.
            VersionExistsError: The version name is in use.
        """
        request = UploadPipelineMetadata(
            name=name,
            version_name=version_name,
            description=description,
            display_name=display_name,
            namespace=self._namespace,
            tags=tags or {},
            code_source_url=code_source_url,
            if_exists=if_exists,
            request_id=request_id or new_request_id(),
        )
        return self._run(self._store(source, request, progress))

    async def _store(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        request: UploadPipelineMetadata,
        progress: Callable[[int, int | None], None] | None,
    ) -> UploadReceipt:
        if not isinstance(source, (str, os.PathLike)):
            stream = UploadMessages(to_message(request, pipeline_pb2.UploadPipelineMetadata), source, progress)
            try:
                return await self._send(stream, UNKNOWN_SIZE_BYTES)
            finally:
                stream.stop()
        with Path(source).open("rb", buffering=0) as file:
            size, sha256 = await self._connection.in_thread(measure, file)
            announced = replace(request, total_bytes=size, sha256=sha256)
            metadata = to_message(announced, pipeline_pb2.UploadPipelineMetadata)

            async def attempt() -> UploadReceipt:
                file.seek(0)
                stream = UploadMessages(metadata, file, progress)
                try:
                    return await self._send(stream, size)
                finally:
                    stream.stop_and_wait()

            return await self._with_retries(attempt)

    async def _send(self, stream: UploadMessages, size: int) -> UploadReceipt:
        rpc = METHOD_OF_REQUEST[pipeline_pb2.UploadPipelineRequest.DESCRIPTOR.name]
        try:
            reply = await self._connection.send(rpc, stream, upload_seconds(size) + MARGIN_SECONDS)
        except (AdapterError, CancelledError) as error:
            if stream.failure is not None:
                raise stream.failure from error
            raise
        return replace(to_record(reply, UploadReceipt), request_id=stream.request_id)

    def download(
        self,
        name: str = "",
        *,
        to: str | os.PathLike[str] | BinaryIO,
        pipeline_id: str = "",
        version_name: str = "",
        pipeline_version_id: str = "",
        progress: Callable[[int, int | None], None] | None = None,
    ) -> DownloadReceipt:
        """Downloads the file of a version, by default the latest, as stored by KFP: as JSON.

        The file has the uploaded pipeline, not the same bytes, and can be uploaded again. At a path `to` it appears
        when complete, and replaces an existing one; a stream is written to as the bytes arrive, and not closed.
        `progress` is called with the number of bytes received and the total. Size and checksum are compared with what
        the adapter announced. The download is retried, at most twice, if the connection breaks before any bytes
        arrived.

        Raises:
            ChecksumMismatchError: The received bytes differ from what was announced.
            OSError: The file cannot be written.
        """
        version = VersionRef(pipeline_version_id, version_name)
        request = self._with_namespace(DownloadPipelineRequest(PipelineRef(pipeline_id, name), version))
        return self._run(self._receive(request, to, progress))

    async def _receive(
        self,
        request: DownloadPipelineRequest,
        to: str | os.PathLike[str] | BinaryIO,
        progress: Callable[[int, int | None], None] | None,
    ) -> DownloadReceipt:
        if isinstance(to, (str, os.PathLike)):
            with atomic_write(Path(to)) as file:
                return await self._receive(request, file, progress)
        receiver = Receiver(to, progress)

        async def receive() -> DownloadReceipt:
            seconds = self._connection.timeout_for(DOWNLOAD_STREAM_SECONDS + MARGIN_SECONDS)
            async with aclosing(self._connection.stream(request, seconds)) as messages:
                async for message in messages:
                    receiver.receive(message)
            return receiver.receipt()

        return await self._with_retries(receive, (CannotConnectError, DrainingError), lambda: not receiver.started)


def _mask(**fields: object) -> tuple[str, ...]:
    """The names of the fields that are set."""
    return tuple(name for name, value in fields.items() if value is not None)
