"""An adapter that keeps pipelines in memory, fails on command, and records its calls."""

from __future__ import annotations

import hashlib
import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from typing_extensions import override

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1 import pipeline_pb2_grpc
from kfadapter_grpc.contract.errors import (
    AdapterError,
    PipelineHasVersionsError,
    PipelineNotFoundError,
    VersionNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

R = TypeVar("R", pb.Pipeline, pb.PipelineVersion)
Answer = namedtuple("Answer", ["code", "details", "trailing_metadata"])  # noqa: PYI024  the shape of grpc.Status


class _Status(Answer, grpc.Status):
    """A status with trailers, as `abort_with_status` takes it."""


def wire_status(error: AdapterError, request_id: str = "req-1") -> grpc.Status:
    """Puts an error on the wire as the adapter's interceptor does."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(domain="kfadapter", reason=error.reason, metadata=error.metadata),
        error_details_pb2.RequestInfo(request_id=request_id),
    ]
    if error.violations:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
            for v in error.violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if error.resource_name:
        details.append(
            error_details_pb2.ResourceInfo(resource_type=error.resource_type, resource_name=error.resource_name)
        )
    if error.retry_after is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    raw = status.SerializeToString()
    return _Status(error.code, error.message, (("grpc-status-details-bin", raw), ("x-request-id", request_id)))


class FakeAdapter(pipeline_pb2_grpc.PipelineServiceServicer):
    """The service.

    Attributes:
        pipelines: What it holds, by name.
        versions: The versions of each pipeline, by the pipeline's name.
        failures: The errors of the next calls, in order: with details, or as a bare status.
        requests: Every request that arrived, uploads as their metadata.
        calls: The methods that were called.
        call_metadata: The metadata of the last call.
        time_remaining: The deadline of the last call when it arrived.
        chunks: The sizes of the last upload's chunks.
        content: The bytes of the last upload.
        not_kept: The fields of uploads to report as not kept.
        duplicate_check_skipped: Whether to report uploads as not compared with earlier ones.
        file: The file to download.
        download_info: The announced info of the download, if not the true one.
        announces: Whether a download begins with its info.
        download_ended: Set when a download has ended, also for the caller.
        late_failures: The errors of the next downloads, after all bytes.
        hold: While it is clear, Get does not respond, and Download does not end.
        on_call: Called when a call arrives.
    """

    def __init__(self) -> None:
        self.pipelines: dict[str, pb.Pipeline] = {}
        self.versions: dict[str, list[pb.PipelineVersion]] = {}
        self.failures: list[grpc.Status | AdapterError] = []
        self.requests: list[Message] = []
        self.calls: list[str] = []
        self.call_metadata: dict[str, str | bytes] = {}
        self.time_remaining: float | None = None
        self.chunks: list[int] = []
        self.content = b""
        self.not_kept: list[str] = []
        self.duplicate_check_skipped = False
        self.file = b'{"pipelineInfo": {"name": "x"}}'
        self.download_info: pb.DownloadInfo | None = None
        self.announces = True
        self.download_ended = threading.Event()
        self.late_failures: list[grpc.Status] = []
        self.hold = threading.Event()
        self.hold.set()
        self.on_call: Callable[[], None] = lambda: None

    def add(self, name: str, spec: pb.PipelineSpecSummary | None = None, description: str = "") -> pb.Pipeline:
        """Adds a pipeline with one version."""
        number = len(self.pipelines) + 1
        pipeline = pb.Pipeline(
            pipeline_id=f"00000000-0000-4000-8000-{number:012d}",
            name=name,
            created_at=Timestamp(seconds=1_760_000_000 + number),
            description=description,
        )
        self.pipelines[name] = pipeline
        self.add_version(name, name, spec)
        return pipeline

    def add_version(self, name: str, version: str, spec: pb.PipelineSpecSummary | None = None) -> pb.PipelineVersion:
        """Adds a version to a pipeline."""
        versions = self.versions.setdefault(name, [])
        made = pb.PipelineVersion(
            pipeline_version_id=f"11111111-0000-4000-8000-{len(versions):012d}",
            pipeline_id=self.pipelines[name].pipeline_id,
            name=version,
            created_at=Timestamp(seconds=1_760_000_100 + len(versions)),
            spec=spec,
        )
        versions.append(made)
        return made

    @override
    def Get(self, request: pb.GetPipelineRequest, context: grpc.ServicerContext) -> pb.Pipeline:
        """Gets a pipeline, always in full."""
        self._begin("Get", request, context)
        self.hold.wait(30)
        found = self._find(request.name, request.pipeline_id, context)
        versions = self.versions[found.name]
        full = pb.Pipeline()
        full.CopyFrom(found)
        full.latest_version.CopyFrom(versions[-1])
        full.version_count = len(versions)
        return full

    @override
    def List(self, request: pb.ListPipelinesRequest, context: grpc.ServicerContext) -> pb.ListPipelinesResponse:
        """Lists pipelines, two on a page; the token is a number."""
        self._begin("List", request, context)
        matching = [p for p in self.pipelines.values() if request.name_contains in p.name]
        begin = int(request.page_token or "0")
        end = begin + (request.page_size or 2)
        token = str(end) if end < len(matching) else ""
        return pb.ListPipelinesResponse(
            pipelines=matching[begin:end], next_page_token=token, total_size=len(self.pipelines)
        )

    @override
    def ListVersions(
        self, request: pb.ListPipelineVersionsRequest, context: grpc.ServicerContext
    ) -> pb.ListPipelineVersionsResponse:
        """Lists versions, two on a page; the token is a number."""
        self._begin("ListVersions", request, context)
        versions = self.versions[self._find(request.name, request.pipeline_id, context).name]
        begin = int(request.page_token or "0")
        end = begin + (request.page_size or 2)
        token = str(end) if end < len(versions) else ""
        return pb.ListPipelineVersionsResponse(versions=versions[begin:end], next_page_token=token)

    @override
    def Upload(
        self, request_iterator: Iterator[pb.UploadPipelineRequest], context: grpc.ServicerContext
    ) -> pb.UploadPipelineResponse:
        """Accepts a file and adds a version."""
        metadata = next(request_iterator).metadata
        self._begin("Upload", metadata, context)
        digest = hashlib.sha256()
        self.chunks, self.content = [], b""
        for message in request_iterator:
            self.content += message.chunk
            digest.update(message.chunk)
            self.chunks.append(len(message.chunk))
        known = metadata.name in self.pipelines
        same = [one for one in self.versions.get(metadata.name, ()) if one.sha256 == digest.hexdigest()]
        skips = metadata.if_exists == pb.IF_EXISTS_SKIP_IF_SAME and not self.duplicate_check_skipped and bool(same)
        if skips:
            version = same[-1]
        elif not known:
            self.add(metadata.name, description=metadata.description)
            version = self.versions[metadata.name][0]
        else:
            number = len(self.versions[metadata.name]) + 1
            version = self.add_version(metadata.name, metadata.version_name or str(number))
        version.sha256 = digest.hexdigest()
        return pb.UploadPipelineResponse(
            pipeline=self.pipelines[metadata.name],
            version=version,
            pipeline_created=not known,
            version_created=not skips,
            bytes=sum(self.chunks),
            sha256=digest.hexdigest(),
            not_kept=self.not_kept,
            duplicate_check_skipped=self.duplicate_check_skipped,
        )

    @override
    def Update(self, request: pb.UpdatePipelineRequest, context: grpc.ServicerContext) -> pb.Pipeline:
        """Updates a pipeline."""
        self._begin("Update", request, context)
        return _updated(self._find(request.name, request.pipeline_id, context), request)

    @override
    def UpdateVersion(
        self, request: pb.UpdatePipelineVersionRequest, context: grpc.ServicerContext
    ) -> pb.PipelineVersion:
        """Updates a version."""
        self._begin("UpdateVersion", request, context)
        found = self._find(request.name, request.pipeline_id, context)
        return _updated(self._find_version(found, request.version_name, request.pipeline_version_id, context), request)

    @override
    def Delete(self, request: pb.DeletePipelineRequest, context: grpc.ServicerContext) -> pb.DeletePipelineResponse:
        """Deletes a pipeline."""
        self._begin("Delete", request, context)
        if request.allow_missing and request.name not in self.pipelines:
            return pb.DeletePipelineResponse()
        found = self._find(request.name, request.pipeline_id, context)
        count = len(self.versions[found.name])
        if count > 1 and not request.force:
            message = f"pipeline '{found.name}' has {count} versions; set force to delete them all"
            context.abort_with_status(
                wire_status(PipelineHasVersionsError(message, metadata={"version_count": str(count)}))
            )
        del self.pipelines[found.name], self.versions[found.name]
        return pb.DeletePipelineResponse(pipeline_id=found.pipeline_id, name=found.name, versions_deleted=count)

    @override
    def GetVersion(self, request: pb.GetPipelineVersionRequest, context: grpc.ServicerContext) -> pb.PipelineVersion:
        """Gets a version; the latest if none is named."""
        self._begin("GetVersion", request, context)
        found = self._find(request.name, request.pipeline_id, context)
        if request.WhichOneof("version") is None:
            return self.versions[found.name][-1]
        return self._find_version(found, request.version_name, request.pipeline_version_id, context)

    @override
    def DeleteVersion(
        self, request: pb.DeletePipelineVersionRequest, context: grpc.ServicerContext
    ) -> pb.DeletePipelineVersionResponse:
        """Deletes a version."""
        self._begin("DeleteVersion", request, context)
        if request.allow_missing and request.name not in self.pipelines:
            return pb.DeletePipelineVersionResponse()
        found = self._find(request.name, request.pipeline_id, context)
        if request.allow_missing and not self._versions_of(found, request.version_name, request.pipeline_version_id):
            return pb.DeletePipelineVersionResponse()
        version = self._find_version(found, request.version_name, request.pipeline_version_id, context)
        self.versions[found.name].remove(version)
        return pb.DeletePipelineVersionResponse(pipeline_version_id=version.pipeline_version_id, name=version.name)

    @override
    def Download(
        self, request: pb.DownloadPipelineRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.DownloadPipelineResponse]:
        """Sends the configured file, then fails as configured."""
        self._begin("Download", request, context)
        found = self._find(request.name, request.pipeline_id, context)
        if request.WhichOneof("version"):
            self._find_version(found, request.version_name, request.pipeline_version_id, context)
        info = self.download_info or pb.DownloadInfo(
            total_bytes=len(self.file), sha256=hashlib.sha256(self.file).hexdigest()
        )
        context.add_callback(self.download_ended.set)
        if self.announces:
            yield pb.DownloadPipelineResponse(info=info)
        for begin in range(0, len(self.file), 1000):
            yield pb.DownloadPipelineResponse(chunk=self.file[begin : begin + 1000])
        if self.late_failures:
            context.abort_with_status(self.late_failures.pop(0))
        self.hold.wait(30)

    def _begin(self, method: str, request: Message, context: grpc.ServicerContext) -> None:
        self.calls.append(method)
        self.requests.append(request)
        self.call_metadata = dict(context.invocation_metadata())
        self.time_remaining = context.time_remaining()
        self.on_call()
        if self.failures:
            failure = self.failures.pop(0)
            context.abort_with_status(wire_status(failure) if isinstance(failure, AdapterError) else failure)

    def _find(self, name: str, pipeline_id: str, context: grpc.ServicerContext) -> pb.Pipeline:
        for pipeline in self.pipelines.values():
            if pipeline.name == name or pipeline.pipeline_id == pipeline_id:
                return pipeline
        message = f"no pipeline is named '{name}'" if name else f"no pipeline has the id {pipeline_id}"
        context.abort_with_status(wire_status(PipelineNotFoundError(message, resource_name=name or pipeline_id)))
        raise AssertionError

    def _versions_of(self, pipeline: pb.Pipeline, name: str, version_id: str) -> list[pb.PipelineVersion]:
        return [v for v in self.versions[pipeline.name] if name == v.name or version_id == v.pipeline_version_id]

    def _find_version(
        self, pipeline: pb.Pipeline, name: str, version_id: str, context: grpc.ServicerContext
    ) -> pb.PipelineVersion:
        found = self._versions_of(pipeline, name, version_id)
        if found:
            return found[0]
        message = f"no version is named '{name}'" if name else f"no version has the id {version_id}"
        context.abort_with_status(wire_status(VersionNotFoundError(message, resource_name=name or version_id)))
        raise AssertionError


def _updated(found: R, request: pb.UpdatePipelineRequest | pb.UpdatePipelineVersionRequest) -> R:
    if "display_name" in request.update_mask.paths:
        found.display_name = request.display_name or found.name
    if "tags" in request.update_mask.paths:
        found.tags.clear()
        found.tags.update(request.tags)
    return found


def bare_status(code: grpc.StatusCode, details: str, trailers: tuple[tuple[str, bytes], ...] = ()) -> grpc.Status:
    """Makes a status as a proxy or a foreign server sends it, without details."""
    return _Status(code, details, trailers)


@contextmanager
def serving(fake: FakeAdapter, credentials: grpc.ServerCredentials | None = None) -> Iterator[str]:
    """Serves a fake on a free loopback port, over TLS if credentials are given, and yields the address."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        pipeline_pb2_grpc.add_PipelineServiceServicer_to_server(fake, server)
        where = "127.0.0.1:0"
        port = server.add_secure_port(where, credentials) if credentials else server.add_insecure_port(where)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            fake.hold.set()
            server.stop(None).wait(10)
