"""Pipelines and their versions."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kfadapter.v1 import pipeline_pb2
from kfadapter_grpc.client.connection import Resource, new_request_id, repeated
from kfadapter_grpc.client.download import DownloadReceipt, Reception, replaced
from kfadapter_grpc.client.errors import CannotConnectError
from kfadapter_grpc.client.upload import UploadMessages, UploadReceipt, measure
from kfadapter_grpc.codec import to_message, to_record
from kfadapter_grpc.contract.errors import AdapterError, DrainingError
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
    UploadPipelineMetadata,
    VersionRef,
)
from kfadapter_grpc.methods import DOWNLOAD_SECONDS, METHOD_OF_REQUEST, download_seconds, upload_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from kfadapter_grpc.client.connection import Pages

UNKNOWN_SIZE_BYTES = 32 * 2**20
"""What a stream of unknown length is taken to hold when its deadline is set: KFP's own limit."""


class Pipelines(Resource):
    """The calls of PipelineService."""

    def get(self, name: str = "", *, pipeline_id: str = "", view: View = View.FULL) -> Pipeline:
        """Gets one pipeline by name or by id.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
        """
        return self._ask(GetPipelineRequest(PipelineRef(pipeline_id, name), view), Pipeline)

    def list(
        self,
        *,
        name_contains: str = "",
        created_after: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        order_by: str = "",
        page_size: int = 0,
    ) -> Pages[Pipeline]:
        """Yields all pipelines that match, asking for page after page as they are needed.

        Args:
            name_contains: Only pipelines whose name holds this text; letter case counts.
            created_after: Only pipelines made after this moment.
            tags: Only pipelines that have all of these tags.
            order_by: `created_at`, `name` or `pipeline_id`, with ` desc` for the other direction.
            page_size: Items per request; 0 leaves it to the adapter.
        """
        request = ListPipelinesRequest(name_contains, created_after, tags or {}, page_size=page_size, order_by=order_by)
        return self._list(request, Pipeline)

    def list_versions(
        self,
        name: str = "",
        *,
        pipeline_id: str = "",
        view: View = View.BASIC,
        order_by: str = "",
        page_size: int = 0,
    ) -> Pages[PipelineVersion]:
        """Yields all versions of a pipeline, asking for page after page as they are needed.

        Args:
            name: The pipeline's name.
            pipeline_id: Its id, instead.
            view: `View.FULL` reads every version's spec, which is slow for long lists.
            order_by: `created_at`, `name` or `pipeline_version_id`, with ` desc` for the other direction.
            page_size: Items per request; 0 leaves it to the adapter.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
        """
        pipeline = PipelineRef(pipeline_id, name)
        request = ListPipelineVersionsRequest(pipeline, view, page_size=page_size, order_by=order_by)
        return self._list(request, PipelineVersion)

    def get_version(
        self, name: str = "", *, pipeline_id: str = "", version_name: str = "", pipeline_version_id: str = ""
    ) -> PipelineVersion:
        """Gets one version of a pipeline with its spec summary: the latest, unless one is named.

        Args:
            name: The pipeline's name.
            pipeline_id: Its id, instead.
            version_name: The version's name; letter case does not count.
            pipeline_version_id: Its id, instead.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
            VersionNotFoundError: It has no such version, or none at all.
        """
        version = VersionRef(pipeline_version_id, version_name)
        return self._ask(GetPipelineVersionRequest(PipelineRef(pipeline_id, name), version), PipelineVersion)

    def delete_version(
        self,
        name: str = "",
        *,
        pipeline_id: str = "",
        version_name: str = "",
        pipeline_version_id: str = "",
        allow_missing: bool = False,
    ) -> DeleteVersionResult:
        """Deletes one version of a pipeline, which must be named.

        Args:
            name: The pipeline's name.
            pipeline_id: Its id, instead.
            version_name: The version's name; letter case does not count.
            pipeline_version_id: Its id, instead.
            allow_missing: Succeed, with an empty result, where there is no such version or no such pipeline.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
            VersionNotFoundError: It has no such version.
            InvalidFieldError: No version is named.
        """
        pipeline, version = PipelineRef(pipeline_id, name), VersionRef(pipeline_version_id, version_name)
        return self._ask(DeletePipelineVersionRequest(pipeline, version, allow_missing), DeleteVersionResult)

    def delete(
        self, name: str = "", *, pipeline_id: str = "", force: bool = False, allow_missing: bool = False
    ) -> DeleteResult:
        """Deletes a pipeline and its versions.

        Args:
            name: The pipeline's name.
            pipeline_id: Its id, instead.
            force: Delete it even if it has more than one version.
            allow_missing: Succeed, with an empty result, where there is no such pipeline.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
            PipelineHasVersionsError: It has more than one version, and `force` is not set.
        """
        return self._ask(DeletePipelineRequest(PipelineRef(pipeline_id, name), force, allow_missing), DeleteResult)

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
        """Uploads a compiled pipeline: YAML, JSON, or a zip or tar.gz archive that holds one.

        Of a file, size and checksum are announced beforehand, and the upload is repeated, at most twice and with the
        same request id, when the adapter or KFP becomes unreachable in between. A stream is not known
        beforehand and cannot be read twice.

        Args:
            source: A path, or a stream of bytes; the stream is read to its end and not closed.
            name: The pipeline's name, up to 128 characters.
            version_name: The version's name; by default the adapter numbers the versions.
            description: What the version, and the pipeline if it is new, is for.
            display_name: What people see; by default the name.
            tags: At most 18 tags.
            code_source_url: Where the source code lives.
            if_exists: What to do if the pipeline exists.
            request_id: Under which the upload may be repeated; by default a new one.
            progress: Is called with the bytes sent so far and the total, which is None for a stream. It runs in
                another thread, and an exception that it raises ends the upload.

        Raises:
            OSError: The file cannot be read.
            InvalidPipelineFileError: The file is not a pipeline.
            PipelineExistsError: The pipeline exists, and `if_exists` is FAIL.
            VersionExistsError: The given version name is taken.
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
        if not isinstance(source, (str, os.PathLike)):
            stream = UploadMessages(to_message(request, pipeline_pb2.UploadPipelineMetadata), source, progress)
            try:
                return self._send(stream, UNKNOWN_SIZE_BYTES)
            finally:
                stream.stop()
        path = Path(source)
        size, sha256 = measure(path)
        metadata = to_message(replace(request, total_bytes=size, sha256=sha256), pipeline_pb2.UploadPipelineMetadata)
        return repeated(lambda: self._attempt(path, metadata, progress))

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
        """Downloads the file of a version, the latest unless one is named, as KFP holds it: as JSON.

        The file holds the pipeline that was uploaded, not its bytes, and can be uploaded as it is. Size and checksum
        are compared with what the adapter announced. The download is retried, at most twice, if the connection
        breaks before any bytes arrived.

        Args:
            name: The pipeline's name.
            to: A path, where the file appears once it is complete, in place of one that is there; or a stream, which is
                written to as the bytes come, and not closed.
            pipeline_id: The pipeline's id, instead of its name.
            version_name: The version's name; letter case does not count.
            pipeline_version_id: Its id, instead.
            progress: Is called with the bytes received so far and the total.

        Raises:
            PipelineNotFoundError: There is no such pipeline.
            VersionNotFoundError: It has no such version, or none at all.
            ChecksumMismatchError: What arrived is not what was announced.
            OSError: The file cannot be written.
        """
        if isinstance(to, (str, os.PathLike)):
            with replaced(Path(to)) as file:
                return self.download(
                    name,
                    to=file,
                    pipeline_id=pipeline_id,
                    version_name=version_name,
                    pipeline_version_id=pipeline_version_id,
                    progress=progress,
                )
        version = VersionRef(pipeline_version_id, version_name)
        request = self._here(DownloadPipelineRequest(PipelineRef(pipeline_id, name), version))
        reception = Reception(to, progress)

        def receive() -> DownloadReceipt:
            seconds = DOWNLOAD_SECONDS + download_seconds(UNKNOWN_SIZE_BYTES)
            with closing(self._connection.server_stream(request, seconds)) as stream:
                return reception.take(stream)

        return repeated(receive, (CannotConnectError, DrainingError), lambda: not reception.begun)

    def _attempt(
        self,
        path: Path,
        metadata: pipeline_pb2.UploadPipelineMetadata,
        progress: Callable[[int, int | None], None] | None,
    ) -> UploadReceipt:
        with path.open("rb", buffering=0) as file:
            stream = UploadMessages(metadata, file, progress)
            try:
                return self._send(stream, metadata.total_bytes)
            finally:
                stream.stop_and_wait()

    def _send(self, stream: UploadMessages, size: int) -> UploadReceipt:
        rpc = METHOD_OF_REQUEST[pipeline_pb2.UploadPipelineRequest.DESCRIPTOR.name]
        try:
            reply = self._connection.client_stream(rpc, stream, upload_seconds(size))
        except AdapterError as error:
            if stream.failure is not None:
                raise stream.failure from error
            raise
        return replace(to_record(reply, UploadReceipt), request_id=stream.request_id)
