"""Makes the parts of requests that need more than the codec, and reads the receipt of an upload."""

from __future__ import annotations

from datetime import timezone
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from kfadapter.v1 import pipeline_pb2
from kfadapter_grpc.client.upload import UploadReceipt
from kfadapter_grpc.codec import to_record
from kfadapter_grpc.contract.errors import FieldViolation, InvalidFieldError, ParameterTypeError
from kfadapter_grpc.contract.pipelines import Pipeline, PipelineVersion
from kfadapter_grpc.contract.values import object_violations

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from google.protobuf.struct_pb2 import Struct

    from kfadapter_grpc.contract.pipelines import UploadPipelineMetadata
    from kfadapter_grpc.contract.spec import Json


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


def upload_metadata(request: UploadPipelineMetadata) -> pipeline_pb2.UploadPipelineMetadata:
    """Makes the first message of an upload; size and checksum are added where they are known."""
    return pipeline_pb2.UploadPipelineMetadata(
        name=request.name,
        version_name=request.version_name,
        description=request.description,
        display_name=request.display_name,
        namespace=request.namespace,
        tags=request.tags,
        code_source_url=request.code_source_url,
        if_exists=pipeline_pb2.IfExists.Value(f"IF_EXISTS_{request.if_exists.name}"),
        request_id=request.request_id,
    )


def upload_receipt(message: pipeline_pb2.UploadPipelineResponse, request_id: str) -> UploadReceipt:
    """Reads what became of an upload that was sent under `request_id`."""
    return UploadReceipt(
        pipeline=to_record(message.pipeline, Pipeline),
        version=to_record(message.version, PipelineVersion),
        pipeline_created=message.pipeline_created,
        version_created=message.version_created,
        size=message.bytes,
        sha256=message.sha256,
        duplicate_check_skipped=message.duplicate_check_skipped,
        not_kept=tuple(message.not_kept),
        request_id=request_id,
    )
