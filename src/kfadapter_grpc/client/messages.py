"""Protobuf messages to domain models and back: the only place of the client that knows both."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from kfadapter.v1 import common_pb2, pipeline_pb2
from kfadapter_grpc.client.upload import UploadReceipt
from kfadapter_grpc.domain.errors import FieldViolation, InvalidFieldError, ParameterTypeError
from kfadapter_grpc.domain.models import (
    DeleteResult,
    DeleteVersionResult,
    IfExists,
    Page,
    Pipeline,
    PipelineVersion,
    View,
)
from kfadapter_grpc.domain.spec import (
    Artifact,
    KubernetesExtra,
    Parameter,
    ParameterType,
    PipelineFormat,
    SpecSummary,
    Task,
    TaskKind,
    TaskResources,
)
from kfadapter_grpc.domain.values import object_violations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message
    from google.protobuf.struct_pb2 import Struct, Value

    from kfadapter_grpc.domain.models import UploadRequest
    from kfadapter_grpc.domain.spec import Json

VIEWS = {View.BASIC: common_pb2.VIEW_BASIC, View.FULL: common_pb2.VIEW_FULL}
"""The views on the wire."""
IF_EXISTS = {
    IfExists.NEW_VERSION: pipeline_pb2.IF_EXISTS_NEW_VERSION,
    IfExists.FAIL: pipeline_pb2.IF_EXISTS_FAIL,
    IfExists.SKIP_IF_SAME: pipeline_pb2.IF_EXISTS_SKIP_IF_SAME,
}
"""What to do if a pipeline exists, on the wire."""

_FORMATS = {
    pipeline_pb2.PIPELINE_FORMAT_KFP_V2: PipelineFormat.KFP_V2,
    pipeline_pb2.PIPELINE_FORMAT_ARGO_V1: PipelineFormat.ARGO_V1,
}
TASK_KINDS = {
    pipeline_pb2.TaskKind.Value(f"TASK_KIND_{member.name}"): member
    for member in TaskKind
    if member is not TaskKind.UNKNOWN
}
_TYPES = {
    pipeline_pb2.ParameterType.Value(f"PARAMETER_TYPE_{member.name}"): member
    for member in ParameterType
    if member is not ParameterType.UNKNOWN
}


def timestamp(moment: datetime | None, field: str = "created_after") -> Timestamp | None:
    """Puts a moment on the wire, for a field of a request; one without time zone is local time.

    Raises:
        InvalidFieldError: In UTC it lies outside of the years 1 to 9999.
    """
    if moment is None:
        return None
    stamp = Timestamp()
    try:
        stamp.FromDatetime(moment.astimezone(timezone.utc))
    except (OverflowError, ValueError):
        raise InvalidFieldError.of(field, "must lie in the years 1 to 9999 UTC") from None
    return stamp


def json_value(value: Value) -> Json:
    """Tells the JSON value; whole numbers, which the wire holds as 7.0, are ints again."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "list_value":
        return [json_value(item) for item in value.list_value.values]
    if kind == "struct_value":
        fields = value.struct_value.fields  # a map on the wire: without an order of its own
        return {key: json_value(fields[key]) for key in sorted(fields)}
    if kind == "bool_value":
        return value.bool_value
    return value.string_value if kind == "string_value" else None


def json_object(struct: Struct) -> dict[str, Json]:
    """Tells the JSON object; whole numbers are ints again."""
    return {key: json_value(struct.fields[key]) for key in sorted(struct.fields)}


def set_parameters(struct: Struct, parameters: Mapping[str, Json]) -> None:
    """Puts the values of parameters into a request.

    Raises:
        InvalidFieldError: One holds what the wire cannot carry: NaN, an integer beyond 2^53, too many lists in lists.
        ParameterTypeError: One is nothing that JSON knows.
    """
    violations: list[FieldViolation] = []
    for name, value in parameters.items():
        try:
            found = object_violations({name: value}, "parameters")
            if not found:
                struct.update({name: _plain(value)})
            violations += found
        except (AttributeError, TypeError, ValueError):
            text = f"is a {type(value).__name__} or holds one that is not JSON; use numbers, texts, lists and dicts"
            field = f"parameters.{name}"
            raise ParameterTypeError(f"{field}: {text}", violations=[FieldViolation(field, text)]) from None
    if violations:
        raise InvalidFieldError.of_all(violations)


def _plain(value: Json) -> Json:
    """A value with tuples as lists, which a Struct takes."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def parameter(message: pipeline_pb2.Parameter) -> Parameter:
    """Reads a parameter; a default of a NUMBER_DOUBLE stays a float."""
    kind = _TYPES.get(message.type, ParameterType.UNKNOWN)
    default = json_value(message.default_value)
    if kind is ParameterType.NUMBER_DOUBLE and isinstance(default, int) and not isinstance(default, bool):
        default = float(default)
    return Parameter(
        name=message.name,
        type=kind,
        declared_type=message.declared_type,
        has_default=message.HasField("default_value"),
        default=default,
        optional=message.optional,
        description=message.description,
    )


def artifact(message: pipeline_pb2.Artifact) -> Artifact:
    """Reads a file or data set that goes in or comes out."""
    return Artifact(
        name=message.name,
        type=message.type,
        is_list=message.is_list,
        optional=message.optional,
        description=message.description,
    )


def task(message: pipeline_pb2.Task) -> Task:
    """Reads a task with those inside it."""
    return Task(
        name=message.name,
        component=message.component,
        kind=TASK_KINDS.get(message.kind, TaskKind.UNKNOWN),
        image=message.image,
        depends_on=tuple(message.depends_on),
        condition=message.condition,
        loop_items=message.loop_items,
        resources=_resources(message.resources) if message.HasField("resources") else None,
        caching_enabled=message.caching_enabled,
        kubernetes_extras=tuple(KubernetesExtra(one.kind, one.name) for one in message.kubernetes_extras),
        tasks=tuple(task(item) for item in message.tasks),
        display_name=message.display_name,
        max_retries=message.max_retries,
        loop_parallelism=message.loop_parallelism,
    )


def _resources(message: pipeline_pb2.TaskResources) -> TaskResources:
    return TaskResources(
        cpu_request=message.cpu_request,
        cpu_limit=message.cpu_limit,
        memory_request=message.memory_request,
        memory_limit=message.memory_limit,
        accelerator_type=message.accelerator_type,
        accelerator_count=message.accelerator_count,
    )


def spec_summary(message: pipeline_pb2.PipelineSpecSummary) -> SpecSummary:
    """Reads what a file says about itself."""
    return SpecSummary(
        format=_FORMATS.get(message.format, PipelineFormat.UNKNOWN),
        name=message.name,
        description=message.description,
        parameters=tuple(parameter(item) for item in message.parameters),
        schema_version=message.schema_version,
        sdk_version=message.sdk_version,
        input_artifacts=tuple(artifact(item) for item in message.input_artifacts),
        output_artifacts=tuple(artifact(item) for item in message.output_artifacts),
        output_parameters=tuple(parameter(item) for item in message.output_parameters),
        tasks=tuple(task(item) for item in message.tasks),
        unknown_parts=tuple(message.unknown_parts),
    )


def pipeline_version(message: pipeline_pb2.PipelineVersion) -> PipelineVersion:
    """Reads a version."""
    return PipelineVersion(
        pipeline_version_id=message.pipeline_version_id,
        pipeline_id=message.pipeline_id,
        name=message.name,
        display_name=message.display_name,
        description=message.description,
        created_at=moment(message, "created_at"),
        tags=dict(message.tags),
        sha256=message.sha256,
        code_source_url=message.code_source_url,
        spec=spec_summary(message.spec) if message.HasField("spec") else None,
    )


def pipeline(message: pipeline_pb2.Pipeline) -> Pipeline:
    """Reads a pipeline."""
    return Pipeline(
        pipeline_id=message.pipeline_id,
        name=message.name,
        display_name=message.display_name,
        description=message.description,
        created_at=moment(message, "created_at"),
        namespace=message.namespace,
        tags=dict(message.tags),
        latest_version=pipeline_version(message.latest_version) if message.HasField("latest_version") else None,
        version_count=message.version_count if message.HasField("version_count") else None,
    )


def pipeline_page(message: pipeline_pb2.ListPipelinesResponse) -> Page[Pipeline]:
    """Reads a page of pipelines."""
    total = message.total_size if message.HasField("total_size") else None
    return Page(tuple(pipeline(item) for item in message.pipelines), message.next_page_token, total)


def version_page(message: pipeline_pb2.ListPipelineVersionsResponse) -> Page[PipelineVersion]:
    """Reads a page of versions."""
    total = message.total_size if message.HasField("total_size") else None
    return Page(tuple(pipeline_version(item) for item in message.versions), message.next_page_token, total)


def delete_result(message: pipeline_pb2.DeletePipelineResponse) -> DeleteResult:
    """Reads what a deletion removed."""
    return DeleteResult(message.pipeline_id, message.name, message.versions_deleted)


def delete_version_result(message: pipeline_pb2.DeletePipelineVersionResponse) -> DeleteVersionResult:
    """Reads what the deletion of a version removed."""
    return DeleteVersionResult(message.pipeline_version_id, message.name)


def upload_metadata(request: UploadRequest) -> pipeline_pb2.UploadPipelineMetadata:
    """Makes the first message of an upload; size and checksum are added where they are known."""
    return pipeline_pb2.UploadPipelineMetadata(
        name=request.name,
        version_name=request.version_name,
        description=request.description,
        display_name=request.display_name,
        namespace=request.namespace,
        tags=request.tags,
        code_source_url=request.code_source_url,
        if_exists=IF_EXISTS[request.if_exists],
        request_id=request.request_id,
    )


def upload_receipt(message: pipeline_pb2.UploadPipelineResponse, request_id: str) -> UploadReceipt:
    """Reads what became of an upload that was sent under `request_id`."""
    return UploadReceipt(
        pipeline=pipeline(message.pipeline),
        version=pipeline_version(message.version),
        pipeline_created=message.pipeline_created,
        version_created=message.version_created,
        size=message.bytes,
        sha256=message.sha256,
        duplicate_check_skipped=message.duplicate_check_skipped,
        not_kept=tuple(message.not_kept),
        request_id=request_id,
    )


def moment(message: Message, field: str) -> datetime | None:
    """Reads a time of a message, in UTC; None where it is not set."""
    stamp: Timestamp = getattr(message, field)
    return stamp.ToDatetime(timezone.utc) if message.HasField(field) else None
