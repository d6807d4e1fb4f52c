"""Pipelines as JSON and YAML show them: the proto's field names, every key always there, null for what is unknown."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from kfadapter_grpc.domain.spec import Json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from kfadapter_grpc.client import UploadReceipt
    from kfadapter_grpc.domain.models import DeleteResult, DeleteVersionResult, Pipeline, PipelineVersion
    from kfadapter_grpc.domain.spec import Parameter, SpecSummary, Task

Record = dict[str, Json]
_NOT_LISTED = ("display_name", "tags", "sha256", "spec")
"""What lists of versions leave out to be cheap (`VIEW_BASIC` in the contract)."""


def pipeline_record(pipeline: Pipeline) -> Record:
    """Shows a pipeline."""
    latest = pipeline.latest_version
    return {
        "pipeline_id": pipeline.pipeline_id,
        "name": pipeline.name,
        "display_name": pipeline.display_name,
        "description": pipeline.description,
        "created_at": shown_moment(pipeline.created_at),
        "namespace": pipeline.namespace,
        "tags": dict(pipeline.tags),
        "version_count": pipeline.version_count,
        "latest_version": version_record(latest) if latest else None,
    }


def version_record(version: PipelineVersion) -> Record:
    """Shows a version."""
    return {
        "pipeline_version_id": version.pipeline_version_id,
        "pipeline_id": version.pipeline_id,
        "name": version.name,
        "display_name": version.display_name,
        "description": version.description,
        "created_at": shown_moment(version.created_at),
        "tags": dict(version.tags),
        "sha256": version.sha256,
        "code_source_url": version.code_source_url,
        "spec": _spec(version.spec) if version.spec else None,
    }


def listed_version_record(version: PipelineVersion) -> Record:
    """Shows a version of a list, of which the adapter tells less: what is not known is null, not empty."""
    return version_record(version) | dict.fromkeys(_NOT_LISTED)


def pipeline_with_versions_record(pipeline: Pipeline, newest: Sequence[PipelineVersion]) -> Record:
    """Shows a pipeline with its newest versions."""
    return pipeline_record(pipeline) | {"versions": [listed_version_record(version) for version in newest]}


def version_deletion_record(result: DeleteVersionResult) -> Record:
    """Shows which version a deletion removed."""
    return {"pipeline_version_id": result.pipeline_version_id, "name": result.name}


def receipt_record(receipt: UploadReceipt) -> Record:
    """Shows what became of an upload."""
    return {
        "pipeline": pipeline_record(receipt.pipeline),
        "version": version_record(receipt.version),
        "pipeline_created": receipt.pipeline_created,
        "version_created": receipt.version_created,
        "bytes": receipt.size,
        "sha256": receipt.sha256,
        "duplicate_check_skipped": receipt.duplicate_check_skipped,
        "not_kept": list(receipt.not_kept),
        "request_id": receipt.request_id,
    }


def deletion_record(result: DeleteResult) -> Record:
    """Shows what a deletion removed."""
    return {
        "pipeline_id": result.pipeline_id,
        "name": result.name,
        "versions_deleted": result.versions_deleted,
    }


def _spec(spec: SpecSummary) -> Record:
    return {
        "format": spec.format.value,
        "name": spec.name,
        "description": spec.description,
        "schema_version": spec.schema_version,
        "sdk_version": spec.sdk_version,
        "parameters": [_parameter(parameter) for parameter in spec.parameters],
        "input_artifacts": [asdict(artifact) for artifact in spec.input_artifacts],
        "output_artifacts": [asdict(artifact) for artifact in spec.output_artifacts],
        "output_parameters": [_parameter(parameter) for parameter in spec.output_parameters],
        "tasks": [_task(task) for task in spec.tasks],
        "unknown_parts": list(spec.unknown_parts),
    }


def _task(task: Task) -> Record:
    """Shows a task with those inside it."""
    return {
        "name": task.name,
        "display_name": task.display_name,
        "component": task.component,
        "kind": task.kind.value,
        "image": task.image,
        "depends_on": list(task.depends_on),
        "condition": task.condition,
        "loop_items": task.loop_items,
        "loop_parallelism": task.loop_parallelism,
        "resources": asdict(task.resources) if task.resources else None,
        "max_retries": task.max_retries,
        "caching_enabled": task.caching_enabled,
        "kubernetes_extras": [asdict(extra) for extra in task.kubernetes_extras],
        "tasks": [_task(inner) for inner in task.tasks],
    }


def _parameter(parameter: Parameter) -> Record:
    """Shows a parameter; the key of the default is there only where the file gives one, as it may be null."""
    record: Record = {
        "name": parameter.name,
        "type": parameter.type.value or parameter.declared_type,
        "declared_type": parameter.declared_type,
        "optional": parameter.optional,
        "description": parameter.description,
    }
    if parameter.has_default:
        record["default_value"] = parameter.default
    return record


def shown_moment(moment: datetime | None) -> str | None:
    """Writes a time as JSON and YAML show it, in UTC."""
    return moment.replace(microsecond=0, tzinfo=None).isoformat() + "Z" if moment else None
