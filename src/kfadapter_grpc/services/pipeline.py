"""The PipelineService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceServicer
from kfadapter_grpc.interceptors import caller_seconds, current_call
from kfadapter_grpc.methods import download_seconds, upload_seconds
from kfadapter_grpc.services.messages import message, page
from kfadapter_grpc.services.requests import pages
from kfadapter_grpc.services.requests import pipelines as requests
from kfadapter_grpc.upload import UploadLimits, received

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc

    from kfadapter_grpc.contract.pipelines import PipelineFile, UploadResult
    from kfadapter_grpc.contract.repository import PipelineRepository

DOWNLOAD_CHUNK_BYTES = 256 * 1024
"""How many bytes of a download go into one message."""


class PipelineServicer(PipelineServiceServicer):
    """Answers the calls of `kfadapter.v1.PipelineService`."""

    def __init__(self, pipelines: PipelineRepository, limits: UploadLimits, default_namespace: str = "") -> None:
        self._pipelines = pipelines
        self._limits = limits
        self._namespace = default_namespace

    def Get(self, request: pb.GetPipelineRequest, context: grpc.ServicerContext) -> pb.Pipeline:
        """Gets one pipeline by id or by name."""
        ref = requests.pipeline_ref(request, self._namespace)
        return message(self._pipelines.get(ref, pages.view(request.view), current_call(context)), pb.Pipeline)

    def List(self, request: pb.ListPipelinesRequest, context: grpc.ServicerContext) -> pb.ListPipelinesResponse:
        """Lists pipelines."""
        where = requests.pipeline_filter(request, self._namespace)
        found = self._pipelines.list(where, pages.page(request, "name", "pipeline_id"), current_call(context))
        return page(found, pb.ListPipelinesResponse, pages.next_page_token(found.next_token, request))

    def Upload(
        self, request_iterator: Iterator[pb.UploadPipelineRequest], context: grpc.ServicerContext
    ) -> pb.UploadPipelineResponse:
        """Uploads a compiled pipeline as a new pipeline or as a new version."""
        call = current_call(context)
        has_deadline = caller_seconds(context) is not None
        metadata, chunks = requests.upload_stream(request_iterator)
        request = requests.upload(metadata, self._namespace)
        total = metadata.total_bytes if metadata.HasField("total_bytes") else None
        if not has_deadline:
            call.extend(upload_seconds(min(total or self._limits.max_bytes, self._limits.max_bytes)))
        sha256 = bytes.fromhex(metadata.sha256) or None
        with received(chunks, self._limits, total_bytes=total, sha256=sha256, call=call) as file:
            if not has_deadline:
                call.extend(upload_seconds(file.size))
            return _upload_response(self._pipelines.upload(request, file, call), file)

    def Delete(self, request: pb.DeletePipelineRequest, context: grpc.ServicerContext) -> pb.DeletePipelineResponse:
        """Deletes a pipeline and its versions."""
        ref = requests.pipeline_ref(request, self._namespace)
        call = current_call(context)
        result = self._pipelines.delete(ref, call, force=request.force, allow_missing=request.allow_missing)
        return message(result, pb.DeletePipelineResponse)

    def ListVersions(
        self, request: pb.ListPipelineVersionsRequest, context: grpc.ServicerContext
    ) -> pb.ListPipelineVersionsResponse:
        """Lists the versions of a pipeline."""
        ref = requests.pipeline_ref(request, self._namespace)
        wanted = pages.page(request, "name", "pipeline_version_id")
        found = self._pipelines.list_versions(ref, pages.view(request.view), wanted, current_call(context))
        return page(found, pb.ListPipelineVersionsResponse, pages.next_page_token(found.next_token, request))

    def GetVersion(self, request: pb.GetPipelineVersionRequest, context: grpc.ServicerContext) -> pb.PipelineVersion:
        """Gets one version of a pipeline with its spec summary."""
        ref = requests.pipeline_ref(request, self._namespace)
        version = requests.version_ref(request, required=False)
        return message(self._pipelines.get_version(ref, version, current_call(context)), pb.PipelineVersion)

    def DeleteVersion(
        self, request: pb.DeletePipelineVersionRequest, context: grpc.ServicerContext
    ) -> pb.DeletePipelineVersionResponse:
        """Deletes one version of a pipeline."""
        ref = requests.pipeline_ref(request, self._namespace)
        version = requests.version_ref(request, required=True)
        call = current_call(context)
        result = self._pipelines.delete_version(ref, version, call, allow_missing=request.allow_missing)
        return message(result, pb.DeletePipelineVersionResponse)

    def Download(
        self, request: pb.DownloadPipelineRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.DownloadPipelineResponse]:
        """Downloads the pipeline of a version: size and checksum first, then the bytes."""
        ref = requests.pipeline_ref(request, self._namespace)
        version = requests.version_ref(request, required=False)
        call = current_call(context)
        with self._pipelines.download(ref, version, call) as file:
            if caller_seconds(context) is None:
                call.extend(download_seconds(file.size))
            yield pb.DownloadPipelineResponse(info=pb.DownloadInfo(total_bytes=file.size, sha256=file.sha256.hex()))
            while chunk := file.stream.read(DOWNLOAD_CHUNK_BYTES):
                call.usage.add_sent(len(chunk))
                yield pb.DownloadPipelineResponse(chunk=chunk)


def _upload_response(result: UploadResult, file: PipelineFile) -> pb.UploadPipelineResponse:
    return pb.UploadPipelineResponse(
        pipeline=message(result.pipeline, pb.Pipeline),
        version=message(result.version, pb.PipelineVersion),
        pipeline_created=result.pipeline_created,
        version_created=result.version_created,
        bytes=file.size,
        sha256=file.sha256.hex(),
        duplicate_check_skipped=result.duplicate_check_skipped,
        not_kept=result.not_kept,
    )
