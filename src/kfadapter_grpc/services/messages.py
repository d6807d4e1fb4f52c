"""Makes messages of what the repository answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.domain.models import ParameterType, PipelineFormat

if TYPE_CHECKING:
    from datetime import datetime

    from kfadapter_grpc.domain.models import (
        DeleteResult,
        DeleteVersionResult,
        Json,
        Page,
        Parameter,
        Pipeline,
        PipelineFile,
        PipelineVersion,
        SpecSummary,
        UploadResult,
    )

_FORMATS = {
    PipelineFormat.UNKNOWN: pb.PIPELINE_FORMAT_UNSPECIFIED,
    PipelineFormat.KFP_V2: pb.PIPELINE_FORMAT_KFP_V2,
    PipelineFormat.ARGO_V1: pb.PIPELINE_FORMAT_ARGO_V1,
}
_TYPES = {kind: pb.ParameterType.Value(f"PARAMETER_TYPE_{kind.value or 'UNSPECIFIED'}") for kind in ParameterType}


def pipeline(item: Pipeline) -> pb.Pipeline:
    """A pipeline."""
    message = pb.Pipeline(
        pipeline_id=item.pipeline_id,
        name=item.name,
        display_name=item.display_name,
        description=item.description,
        created_at=_timestamp(item.created_at),
        namespace=item.namespace,
        tags=item.tags,
        version_count=item.version_count,
    )
    if item.latest_version is not None:
        message.latest_version.CopyFrom(version(item.latest_version))
    return message


def version(item: PipelineVersion) -> pb.PipelineVersion:
    """A version of a pipeline."""
    return pb.PipelineVersion(
        pipeline_version_id=item.pipeline_version_id,
        pipeline_id=item.pipeline_id,
        name=item.name,
        display_name=item.display_name,
        description=item.description,
        created_at=_timestamp(item.created_at),
        tags=item.tags,
        sha256=item.sha256,
        code_source_url=item.code_source_url,
        spec=spec(item.spec) if item.spec else None,
    )


def spec(item: SpecSummary) -> pb.PipelineSpecSummary:
    """What a file says about itself."""
    return pb.PipelineSpecSummary(
        format=_FORMATS[item.format],
        name=item.name,
        description=item.description,
        parameters=map(parameter, item.parameters),
        schema_version=item.schema_version,
        sdk_version=item.sdk_version,
        unknown_parts=item.unknown_parts,
    )


def parameter(item: Parameter) -> pb.Parameter:
    """A parameter."""
    return pb.Parameter(
        name=item.name,
        type=_TYPES[item.type],
        default_value=_value(item.default) if item.has_default else None,
        optional=item.optional,
        description=item.description,
        declared_type=item.declared_type,
    )


def pipelines_page(page: Page[Pipeline], next_page_token: str) -> pb.ListPipelinesResponse:
    """A page of pipelines."""
    return pb.ListPipelinesResponse(
        pipelines=map(pipeline, page.items), next_page_token=next_page_token, total_size=page.total_size
    )


def versions_page(page: Page[PipelineVersion], next_page_token: str) -> pb.ListPipelineVersionsResponse:
    """A page of versions."""
    return pb.ListPipelineVersionsResponse(
        versions=map(version, page.items), next_page_token=next_page_token, total_size=page.total_size
    )


def upload_response(result: UploadResult, file: PipelineFile) -> pb.UploadPipelineResponse:
    """What became of an upload."""
    return pb.UploadPipelineResponse(
        pipeline=pipeline(result.pipeline),
        version=version(result.version),
        pipeline_created=result.pipeline_created,
        version_created=result.version_created,
        bytes=file.size,
        sha256=file.sha256.hex(),
        duplicate_check_skipped=result.duplicate_check_skipped,
    )


def delete_response(result: DeleteResult) -> pb.DeletePipelineResponse:
    """What a deletion removed."""
    return pb.DeletePipelineResponse(
        pipeline_id=result.pipeline_id, name=result.name, versions_deleted=result.versions_deleted
    )


def delete_version_response(result: DeleteVersionResult) -> pb.DeletePipelineVersionResponse:
    """What a deletion removed."""
    return pb.DeletePipelineVersionResponse(pipeline_version_id=result.pipeline_version_id, name=result.name)


def _value(value: Json) -> Value:
    return ParseDict(value, Value())  # type: ignore[arg-type] # its stub knows objects only; a Value takes any JSON


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment)
    return message
