"""The PipelineService."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceServicer
from kfadapter_grpc.codec import read_request
from kfadapter_grpc.contract import pipelines as contract
from kfadapter_grpc.contract.errors import InvalidUploadError
from kfadapter_grpc.interceptors.calls import caller_seconds, current_call
from kfadapter_grpc.kfp.pipelines import Pipelines
from kfadapter_grpc.methods import download_seconds, upload_seconds
from kfadapter_grpc.services.responses import listing, message, unary
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.upload.receive import receive_file

if TYPE_CHECKING:
    import grpc

DOWNLOAD_CHUNK_BYTES = 256 * 1024
"""The size of a download's chunk in one message."""


class PipelineServicer(PipelineServiceServicer):
    def __init__(self, pipelines: Pipelines, limits: UploadLimits, default_namespace: str = "") -> None:
        self.kfp = pipelines
        self._limits = limits
        self.namespace = default_namespace

    Get = unary(
        contract.GetPipelineRequest, lambda self, request, call: self.kfp.get(request.pipeline, request.view, call)
    )
    List = listing(contract.ListPipelinesRequest, lambda self, request, page, call: self.kfp.list(request, page, call))
    Update = unary(contract.UpdatePipelineRequest, lambda self, request, call: self.kfp.update(request, call))
    Delete = unary(
        contract.DeletePipelineRequest,
        lambda self, request, call: self.kfp.delete(
            request.pipeline, call, force=request.force, allow_missing=request.allow_missing
        ),
    )
    ListVersions = listing(
        contract.ListPipelineVersionsRequest,
        lambda self, request, page, call: self.kfp.list_versions(request.pipeline, request.view, page, call),
    )
    GetVersion = unary(
        contract.GetPipelineVersionRequest,
        lambda self, request, call: self.kfp.get_version(request.pipeline, request.version, call),
    )
    UpdateVersion = unary(
        contract.UpdatePipelineVersionRequest, lambda self, request, call: self.kfp.update_version(request, call)
    )
    DeleteVersion = unary(
        contract.DeletePipelineVersionRequest,
        lambda self, request, call: self.kfp.delete_version(
            request.pipeline, request.version, call, allow_missing=request.allow_missing
        ),
    )

    def Upload(
        self, request_iterator: Iterator[pb.UploadPipelineRequest], context: grpc.ServicerContext
    ) -> pb.UploadPipelineResponse:
        call = current_call(context)
        has_deadline = caller_seconds(context) is not None
        metadata, chunks = _upload_stream(request_iterator)
        parsed = read_request(metadata, contract.UploadPipelineMetadata, self.namespace, "metadata.")
        if call.limits is not None:
            call.limits.ensure(parsed.namespace)  # before the file is received
        if not has_deadline:
            call.extend(upload_seconds(min(parsed.total_bytes or self._limits.max_bytes, self._limits.max_bytes)))
        sha256 = bytes.fromhex(parsed.sha256) or None
        with receive_file(chunks, self._limits, total_bytes=parsed.total_bytes, sha256=sha256, call=call) as file:
            if not has_deadline:
                call.extend(upload_seconds(file.size))
            result = self.kfp.upload(parsed, file, call)
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

    def Download(
        self, request: pb.DownloadPipelineRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.DownloadPipelineResponse]:
        parsed = read_request(request, contract.DownloadPipelineRequest, self.namespace)
        call = current_call(context)
        with self.kfp.download(parsed.pipeline, parsed.version, call) as file:
            if caller_seconds(context) is None:
                call.extend(download_seconds(file.size))
            yield pb.DownloadPipelineResponse(info=pb.DownloadInfo(total_bytes=file.size, sha256=file.sha256.hex()))
            while chunk := file.stream.read(DOWNLOAD_CHUNK_BYTES):
                call.usage.add_sent(len(chunk))
                yield pb.DownloadPipelineResponse(chunk=chunk)


def _upload_stream(messages: Iterator[pb.UploadPipelineRequest]) -> tuple[pb.UploadPipelineMetadata, Iterator[bytes]]:
    """Splits a stream into its metadata and the bytes that follow, which raise if a message is not a chunk."""
    first = next(messages, None)
    if first is None:
        raise InvalidUploadError("the stream is empty; send a message with metadata first, then chunks")
    if first.WhichOneof("payload") != "metadata":
        raise InvalidUploadError("the stream does not begin with metadata; send it in the first message, then chunks")
    return first.metadata, _chunks(messages)


def _chunks(messages: Iterator[pb.UploadPipelineRequest]) -> Iterator[bytes]:
    for one in messages:
        kind = one.WhichOneof("payload")
        if kind == "metadata":
            raise InvalidUploadError("there is metadata a second time; send it in the first message only")
        if kind is None:
            raise InvalidUploadError("there is a message with neither metadata nor chunk; every message needs one")
        yield one.chunk
