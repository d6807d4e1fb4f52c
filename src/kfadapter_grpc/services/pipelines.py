"""The PipelineService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceServicer
from kfadapter_grpc.codec import read_request
from kfadapter_grpc.contract import pipelines as contract
from kfadapter_grpc.contract.errors import InvalidUploadError
from kfadapter_grpc.interceptors import caller_seconds, current_call
from kfadapter_grpc.methods import download_seconds, upload_seconds
from kfadapter_grpc.services.answers import listing, message, unary
from kfadapter_grpc.upload import UploadLimits, received

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc

    from kfadapter_grpc.kfp.pipelines import Pipelines

DOWNLOAD_CHUNK_BYTES = 256 * 1024
"""The size of a download's chunk in one message."""


class PipelineServicer(PipelineServiceServicer):
    def __init__(self, pipelines: Pipelines, limits: UploadLimits, default_namespace: str = "") -> None:
        self.kfp = pipelines
        self._limits = limits
        self.namespace = default_namespace

    Get = unary(contract.GetPipelineRequest, lambda it, wanted, call: it.kfp.get(wanted.pipeline, wanted.view, call))
    List = listing(contract.ListPipelinesRequest, lambda it, wanted, page, call: it.kfp.list(wanted, page, call))
    Update = unary(contract.UpdatePipelineRequest, lambda it, wanted, call: it.kfp.update(wanted, call))
    Delete = unary(
        contract.DeletePipelineRequest,
        lambda it, wanted, call: it.kfp.delete(
            wanted.pipeline, call, force=wanted.force, allow_missing=wanted.allow_missing
        ),
    )
    ListVersions = listing(
        contract.ListPipelineVersionsRequest,
        lambda it, wanted, page, call: it.kfp.list_versions(wanted.pipeline, wanted.view, page, call),
    )
    GetVersion = unary(
        contract.GetPipelineVersionRequest,
        lambda it, wanted, call: it.kfp.get_version(wanted.pipeline, wanted.version, call),
    )
    UpdateVersion = unary(
        contract.UpdatePipelineVersionRequest, lambda it, wanted, call: it.kfp.update_version(wanted, call)
    )
    DeleteVersion = unary(
        contract.DeletePipelineVersionRequest,
        lambda it, wanted, call: it.kfp.delete_version(
            wanted.pipeline, wanted.version, call, allow_missing=wanted.allow_missing
        ),
    )

    def Upload(
        self, request_iterator: Iterator[pb.UploadPipelineRequest], context: grpc.ServicerContext
    ) -> pb.UploadPipelineResponse:
        call = current_call(context)
        has_deadline = caller_seconds(context) is not None
        metadata, chunks = _upload_stream(request_iterator)
        wanted = read_request(metadata, contract.UploadPipelineMetadata, self.namespace, "metadata.")
        if call.limits is not None:
            call.limits.ensure(wanted.namespace)  # before the file is received
        if not has_deadline:
            call.extend(upload_seconds(min(wanted.total_bytes or self._limits.max_bytes, self._limits.max_bytes)))
        sha256 = bytes.fromhex(wanted.sha256) or None
        with received(chunks, self._limits, total_bytes=wanted.total_bytes, sha256=sha256, call=call) as file:
            if not has_deadline:
                call.extend(upload_seconds(file.size))
            result = self.kfp.upload(wanted, file, call)
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
        wanted = read_request(request, contract.DownloadPipelineRequest, self.namespace)
        call = current_call(context)
        with self.kfp.download(wanted.pipeline, wanted.version, call) as file:
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
