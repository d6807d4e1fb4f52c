"""Makes messages of pipelines and versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.domain.spec import ParameterType, PipelineFormat, TaskKind
from kfadapter_grpc.services.messages.sizes import shortened
from kfadapter_grpc.services.messages.values import timestamp, value

if TYPE_CHECKING:
    from kfadapter_grpc.domain.models import (
        DeleteResult,
        DeleteVersionResult,
        Page,
        Pipeline,
        PipelineDownload,
        PipelineFile,
        PipelineVersion,
        UploadResult,
    )
    from kfadapter_grpc.domain.spec import Artifact, Parameter, SpecSummary, Task, TaskResources

_FORMATS = {
    PipelineFormat.UNKNOWN: pb.PIPELINE_FORMAT_UNSPECIFIED,
    PipelineFormat.KFP_V2: pb.PIPELINE_FORMAT_KFP_V2,
    PipelineFormat.ARGO_V1: pb.PIPELINE_FORMAT_ARGO_V1,
}
TASK_KINDS = {
    kind: pb.TaskKind.Value(f"TASK_KIND_{'UNSPECIFIED' if kind is TaskKind.UNKNOWN else kind.name}")
    for kind in TaskKind
}
_TYPES = {kind: pb.ParameterType.Value(f"PARAMETER_TYPE_{kind.value or 'UNSPECIFIED'}") for kind in ParameterType}


def pipeline(item: Pipeline) -> pb.Pipeline:
    """A pipeline."""
    message = pb.Pipeline(
        pipeline_id=item.pipeline_id,
        name=item.name,
        display_name=item.display_name,
        description=item.description,
        created_at=timestamp(item.created_at),
        namespace=item.namespace,
        tags=item.tags,
        version_count=item.version_count,
    )
    if item.latest_version is not None:
        message.latest_version.CopyFrom(version(item.latest_version))
    shortened(message)
    return message


def version(item: PipelineVersion) -> pb.PipelineVersion:
    """A version of a pipeline."""
    message = pb.PipelineVersion(
        pipeline_version_id=item.pipeline_version_id,
        pipeline_id=item.pipeline_id,
        name=item.name,
        display_name=item.display_name,
        description=item.description,
        created_at=timestamp(item.created_at),
        tags=item.tags,
        sha256=item.sha256,
        code_source_url=item.code_source_url,
        spec=spec(item.spec) if item.spec else None,
    )
    shortened(message)
    return message


def spec(item: SpecSummary) -> pb.PipelineSpecSummary:
    """What a file says about itself."""
    return pb.PipelineSpecSummary(
        format=_FORMATS[item.format],
        name=item.name,
        description=item.description,
        parameters=map(parameter, item.parameters),
        schema_version=item.schema_version,
        sdk_version=item.sdk_version,
        input_artifacts=map(artifact, item.input_artifacts),
        output_artifacts=map(artifact, item.output_artifacts),
        output_parameters=map(parameter, item.output_parameters),
        tasks=map(task, item.tasks),
        unknown_parts=item.unknown_parts,
    )


def parameter(item: Parameter) -> pb.Parameter:
    """A parameter."""
    return pb.Parameter(
        name=item.name,
        type=_TYPES[item.type],
        default_value=value(item.default) if item.has_default else None,
        optional=item.optional,
        description=item.description,
        declared_type=item.declared_type,
    )


def artifact(item: Artifact) -> pb.Artifact:
    """A file or data set that goes in or comes out."""
    return pb.Artifact(
        name=item.name, type=item.type, is_list=item.is_list, optional=item.optional, description=item.description
    )


def task(item: Task) -> pb.Task:
    """A task with those inside it."""
    return pb.Task(
        name=item.name,
        component=item.component,
        kind=TASK_KINDS.get(item.kind, pb.TASK_KIND_UNSPECIFIED),
        image=item.image,
        depends_on=item.depends_on,
        condition=item.condition,
        loop_items=item.loop_items,
        resources=_resources(item.resources) if item.resources else None,
        caching_enabled=item.caching_enabled,
        kubernetes_extras=(pb.KubernetesExtra(kind=one.kind, name=one.name) for one in item.kubernetes_extras),
        tasks=map(task, item.tasks),
        display_name=item.display_name,
        max_retries=item.max_retries,
        loop_parallelism=item.loop_parallelism,
    )


def _resources(item: TaskResources) -> pb.TaskResources:
    return pb.TaskResources(
        cpu_request=item.cpu_request,
        cpu_limit=item.cpu_limit,
        memory_request=item.memory_request,
        memory_limit=item.memory_limit,
        accelerator_type=item.accelerator_type,
        accelerator_count=item.accelerator_count,
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
        not_kept=result.not_kept,
    )


def download_info(file: PipelineDownload) -> pb.DownloadPipelineResponse:
    """What is known of a download before its bytes."""
    return pb.DownloadPipelineResponse(info=pb.DownloadInfo(total_bytes=file.size, sha256=file.sha256.hex()))


def download_chunk(chunk: bytes) -> pb.DownloadPipelineResponse:
    """The next bytes of a download."""
    return pb.DownloadPipelineResponse(chunk=chunk)


def delete_response(result: DeleteResult) -> pb.DeletePipelineResponse:
    """What a deletion removed."""
    return pb.DeletePipelineResponse(
        pipeline_id=result.pipeline_id, name=result.name, versions_deleted=result.versions_deleted
    )


def delete_version_response(result: DeleteVersionResult) -> pb.DeletePipelineVersionResponse:
    """What a deletion removed."""
    return pb.DeletePipelineVersionResponse(pipeline_version_id=result.pipeline_version_id, name=result.name)
