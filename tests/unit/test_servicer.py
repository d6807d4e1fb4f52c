"""The servicer alone, under grpcio-testing: message in, one repository call, message out."""

from __future__ import annotations

import hashlib
import io
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, cast

import grpc_testing
import pytest
from google.protobuf.json_format import MessageToDict
from grpc import StatusCode

from kfadapter.v1 import common_pb2
from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.contract.listing import Order, Page, PageRequest, View
from kfadapter_grpc.contract.pipelines import (
    DeleteResult,
    DeleteVersionResult,
    FileKind,
    IfExists,
    ListPipelinesRequest,
    Pipeline,
    PipelineDownload,
    PipelineFile,
    PipelineRef,
    PipelineVersion,
    UploadPipelineMetadata,
    UploadResult,
    VersionRef,
)
from kfadapter_grpc.contract.spec import Parameter, ParameterType, PipelineFormat, SpecSummary
from kfadapter_grpc.services.pipelines import PipelineServicer
from kfadapter_grpc.upload.limits import UploadLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.kfp.pipelines import Pipelines

SERVICE = pb.DESCRIPTOR.services_by_name["PipelineService"]
MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
SPEC = SpecSummary(
    PipelineFormat.KFP_V2,
    name="hello-world",
    parameters=(
        Parameter("count", ParameterType.NUMBER_INTEGER, "NUMBER_INTEGER", has_default=True, default=7, optional=True),
        Parameter("마지막", ParameterType.STRING, "STRING", has_default=True, default=None, optional=True),
        Parameter("must", ParameterType.STRUCT, "STRUCT"),
    ),
    schema_version="2.1.0",
)
VERSION = PipelineVersion("v-id", "p-id", "2", tags={"k": "v"}, sha256="ab" * 32, spec=SPEC)
PIPELINE = Pipeline("p-id", "이름", "보기", "설명", MADE, "team-a", {"팀": "ml"}, VERSION, 2)
FILE = b'{"pipelineInfo": {"name": "x"}}'


@dataclass
class FakeRepository:
    """Keeps the arguments of calls, and always returns the same values."""

    asked: list[object] = field(default_factory=list)

    def get(self, ref: PipelineRef, view: View, call: Call) -> Pipeline:
        """Returns the pipeline."""
        self.asked += [ref, view, call.request_id]
        return PIPELINE

    def list(self, where: ListPipelinesRequest, page: PageRequest, call: Call) -> Page[Pipeline]:
        """Returns a page that has a next one."""
        self.asked += [where, page]
        assert call.remaining() > 0
        return Page((PIPELINE,), "kfp-token", 450)

    def upload(self, request: UploadPipelineMetadata, file: PipelineFile, call: Call) -> UploadResult:
        """Keeps the arguments and the bytes."""
        self.asked += [request, file.stream.read(), file.size, file.sha256, file.kind, call.remaining()]
        return UploadResult(PIPELINE, VERSION, pipeline_created=False, version_created=True, not_kept=("tags",))

    @contextmanager
    def download(self, ref: PipelineRef, version: VersionRef, call: Call) -> Iterator[PipelineDownload]:
        """Returns some bytes, and notes when they are closed."""
        self.asked += [ref, version, call.remaining()]
        yield PipelineDownload(io.BytesIO(b"{}" * 200_000), 400_000, b"\x01" * 32)
        self.asked += ["closed", call.remaining()]

    def delete(self, ref: PipelineRef, call: Call, *, force: bool, allow_missing: bool) -> DeleteResult:
        """Reports three deleted versions."""
        self.asked += [ref, force, allow_missing]
        assert not call.cancelled
        return DeleteResult("p-id", "이름", 3)

    def get_version(self, ref: PipelineRef, version: VersionRef, call: Call) -> PipelineVersion:
        """Returns the version."""
        self.asked += [ref, version]
        assert call.remaining() > 0
        return VERSION

    def delete_version(
        self, ref: PipelineRef, version: VersionRef, call: Call, *, allow_missing: bool
    ) -> DeleteVersionResult:
        """Reports that the version was deleted."""
        self.asked += [ref, version, allow_missing]
        assert not call.cancelled
        return DeleteVersionResult("v-id", "2")

    def list_versions(self, ref: PipelineRef, view: View, page: PageRequest, call: Call) -> Page[PipelineVersion]:
        """Returns the last page."""
        self.asked += [ref, view, page]
        assert not call.cancelled
        return Page((VERSION,), "", None)


@pytest.fixture
def repository() -> FakeRepository:
    """The repository behind the servicer."""
    return FakeRepository()


@pytest.fixture
def server(repository: FakeRepository) -> grpc_testing.Server:
    """The servicer without any interceptor."""
    servicer = PipelineServicer(cast("Pipelines", repository), UploadLimits(), "from-settings")
    return grpc_testing.server_from_dictionary({SERVICE: servicer}, grpc_testing.strict_real_time())


def _unary(server: grpc_testing.Server, method: str, request: object) -> object:
    rpc = server.invoke_unary_unary(SERVICE.methods_by_name[method], (), request, 5)
    response, _, code, details = rpc.termination()
    assert code is StatusCode.OK, details
    return response


def test_download_begins_with_size_and_checksum(server: grpc_testing.Server, repository: FakeRepository) -> None:
    """The first message has size and checksum, the others the bytes; without a deadline the call gets a longer one."""
    request = pb.DownloadPipelineRequest(name="이름", version_name="2")
    rpc = server.invoke_unary_stream(SERVICE.methods_by_name["Download"], (), request, None)
    first, *others = [rpc.take_response() for _ in range(3)]
    assert first.info == pb.DownloadInfo(total_bytes=400_000, sha256="01" * 32)
    assert b"".join(message.chunk for message in others) == b"{}" * 200_000
    assert rpc.termination()[1] is StatusCode.OK
    ref, version, before, closed, after = repository.asked
    assert (ref, version, closed) == (PipelineRef("", "이름", "from-settings"), VersionRef(name="2"), "closed")
    assert isinstance(before, float)
    assert isinstance(after, float)
    assert after > before


def test_get_shows_everything(server: grpc_testing.Server, repository: FakeRepository) -> None:
    """All that the repository returns is in the message, defaults in their own types."""
    request = pb.GetPipelineRequest(name="이름", view=common_pb2.VIEW_FULL, namespace="team-a")
    response = _unary(server, "Get", request)
    assert repository.asked[:2] == [PipelineRef("", "이름", "team-a"), View.FULL]
    assert MessageToDict(response, preserving_proto_field_name=True) == {  # type: ignore[arg-type]
        "pipeline_id": "p-id",
        "name": "이름",
        "display_name": "보기",
        "description": "설명",
        "created_at": "2026-01-02T03:04:05Z",
        "namespace": "team-a",
        "tags": {"팀": "ml"},
        "version_count": 2,
        "latest_version": {
            "pipeline_version_id": "v-id",
            "pipeline_id": "p-id",
            "name": "2",
            "tags": {"k": "v"},
            "sha256": "ab" * 32,
            "spec": {
                "format": "PIPELINE_FORMAT_KFP_V2",
                "name": "hello-world",
                "schema_version": "2.1.0",
                "parameters": [
                    {
                        "name": "count",
                        "type": "PARAMETER_TYPE_NUMBER_INTEGER",
                        "declared_type": "NUMBER_INTEGER",
                        "default_value": 7.0,
                        "optional": True,
                    },
                    {
                        "name": "마지막",
                        "type": "PARAMETER_TYPE_STRING",
                        "declared_type": "STRING",
                        "default_value": None,
                        "optional": True,
                    },
                    {"name": "must", "type": "PARAMETER_TYPE_STRUCT", "declared_type": "STRUCT"},
                ],
            },
        },
    }


def test_list_passes_filters_and_order(server: grpc_testing.Server, repository: FakeRepository) -> None:
    """Filters, size and order reach the repository; its token is returned bound to the listing."""
    request = pb.ListPipelinesRequest(page_size=5000, order_by=" name desc ", name_contains="이", tags={"k": "v"})
    request.created_after.FromDatetime(MADE)
    first = _unary(server, "List", request)
    assert repository.asked == [
        ListPipelinesRequest("이", MADE, {"k": "v"}, "from-settings", page_size=5000, order_by=" name desc "),
        PageRequest(1000, "", Order("name", descending=True)),
    ]
    assert first.total_size == 450  # type: ignore[attr-defined]
    request.page_token = first.next_page_token  # type: ignore[attr-defined]
    _unary(server, "List", request)
    assert repository.asked[-1] == PageRequest(1000, "kfp-token", Order("name", descending=True))


def test_list_versions_has_defaults(server: grpc_testing.Server, repository: FakeRepository) -> None:
    """100 versions, newest first, BASIC; an empty token ends the listing; an unknown total is not set."""
    pipeline_id = "00000000-0000-4000-8000-000000000000"
    response = _unary(server, "ListVersions", pb.ListPipelineVersionsRequest(pipeline_id=pipeline_id))
    expected = PageRequest(100, "", Order("created_at", descending=True))
    assert repository.asked == [PipelineRef(pipeline_id, "", "from-settings"), View.BASIC, expected]
    assert (response.next_page_token, response.HasField("total_size")) == ("", False)  # type: ignore[attr-defined]


def test_delete_passes_the_switches(server: grpc_testing.Server, repository: FakeRepository) -> None:
    """Both flags reach the repository, and the response has what was deleted."""
    response = _unary(server, "Delete", pb.DeletePipelineRequest(name="이름", force=True, allow_missing=True))
    assert repository.asked == [PipelineRef("", "이름", "from-settings"), True, True]
    assert response == pb.DeletePipelineResponse(pipeline_id="p-id", name="이름", versions_deleted=3)


def test_versions_are_named_by_name_or_not_at_all(server: grpc_testing.Server, repository: FakeRepository) -> None:
    """GetVersion without a version requests the latest; DeleteVersion needs one."""
    response = _unary(server, "GetVersion", pb.GetPipelineVersionRequest(name="이름"))
    assert response.spec.name == "hello-world"  # type: ignore[attr-defined]
    request = pb.DeletePipelineVersionRequest(name="이름", version_name="2", allow_missing=True)
    gone = _unary(server, "DeleteVersion", request)
    assert gone == pb.DeletePipelineVersionResponse(pipeline_version_id="v-id", name="2")
    ref = PipelineRef("", "이름", "from-settings")
    assert repository.asked == [ref, VersionRef(), ref, VersionRef(name="2"), True]


def test_upload_streams_into_a_file(server: grpc_testing.Server, repository: FakeRepository) -> None:
    """Chunks become one file with its checksum and format; the metadata become the request."""
    metadata = pb.UploadPipelineMetadata(
        name="이름",
        version_name="첫째",
        description="d",
        if_exists=pb.IF_EXISTS_SKIP_IF_SAME,
        sha256=hashlib.sha256(FILE).hexdigest().upper(),
        total_bytes=len(FILE),
        display_name="보기",
        tags={"k": "v"},
        code_source_url="https://example.org",
        request_id="r-1",
    )
    rpc = server.invoke_stream_unary(SERVICE.methods_by_name["Upload"], (), 50)
    rpc.send_request(pb.UploadPipelineRequest(metadata=metadata))
    for start in range(0, len(FILE), 7):
        rpc.send_request(pb.UploadPipelineRequest(chunk=FILE[start : start + 7]))
    rpc.requests_closed()
    response, _, code, details = rpc.termination()
    assert code is StatusCode.OK, details
    request, data, size, digest, kind, seconds = repository.asked
    assert request == UploadPipelineMetadata(
        "이름",
        "첫째",
        "보기",
        "d",
        "from-settings",
        {"k": "v"},
        "https://example.org",
        IfExists.SKIP_IF_SAME,
        "r-1",
        metadata.sha256,
        len(FILE),
    )
    assert (data, size, digest, kind) == (FILE, len(FILE), hashlib.sha256(FILE).digest(), FileKind.JSON)
    assert isinstance(seconds, float)
    assert seconds <= 50
    assert (response.not_kept, response.version_created, response.bytes, response.sha256) == (
        ["tags"],
        True,
        len(FILE),
        hashlib.sha256(FILE).hexdigest(),
    )
