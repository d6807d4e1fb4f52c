"""Human-readable pipelines, versions and upload results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.listings import NAME_STEPS, Column, Table, print_rows
from kfadapter_grpc.cli.spec_view import print_spec, spec_fields
from kfadapter_grpc.cli.values import shown_time
from kfadapter_grpc.contract.pipelines import (
    ListPipelinesRequest,
    ListPipelineVersionsRequest,
    Pipeline,
    PipelineVersion,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kfadapter_grpc.client import UploadReceipt

PIPELINES: Table[Pipeline] = Table(
    "pipelines",
    lambda one: one.name,
    (
        Column("NAME", "name"),
        Column("ID", "pipeline_id", is_id=True),
        Column("CREATED", "created_at"),
        Column("TAGS", "tags", shown=lambda one: shown_tags(one.tags), wide=True, if_any=True),
        Column("DESCRIPTION", "description", cut=True),
    ),
    NAME_STEPS,
    ListPipelinesRequest.ORDERS,
)
VERSIONS: Table[PipelineVersion] = Table(
    "versions",
    lambda one: one.name,
    (
        Column("VERSION", "name"),
        Column("ID", "pipeline_version_id", is_id=True),
        Column("CREATED", "created_at"),
        Column("SOURCE", "code_source_url", wide=True, if_any=True),
        Column("DESCRIPTION", "description", cut=True),
    ),
    NAME_STEPS,
    ListPipelineVersionsRequest.ORDERS,
)


def print_pipeline(pipeline: Pipeline, newest: Sequence[PipelineVersion], command_for_more: str) -> None:
    """Prints a pipeline, the contents of its latest version, and its newest versions.

    Args:
        pipeline: The pipeline in full.
        newest: Its newest versions.
        command_for_more: The command that lists all of them.
    """
    latest = pipeline.latest_version
    spec = latest.spec if latest else None
    output.print_fields(
        [
            ("Name", pipeline.name),
            ("Display name", _other_than(pipeline.name, pipeline.display_name)),
            ("Id", pipeline.pipeline_id),
            ("Namespace", pipeline.namespace),
            ("Description", pipeline.description or (spec.description if spec else "")),
            ("Created", shown_time(pipeline.created_at)),
            ("Tags", shown_tags(pipeline.tags)),
            ("Versions", "" if pipeline.version_count is None else str(pipeline.version_count)),
            *_latest_fields(latest),
            *spec_fields(spec),
        ]
    )
    print_spec(spec)
    if len(newest) > 1:
        output.print_line("")
        print_rows(newest, VERSIONS)
        more = (pipeline.version_count or 0) - len(newest)
        if more > 0:
            output.print_line(f"and {more} more: {command_for_more}")


def print_version(version: PipelineVersion, pipeline: str) -> None:
    """Prints a version and its contents.

    Args:
        version: The version with its spec.
        pipeline: The name or id of its pipeline in the request.
    """
    spec = version.spec
    output.print_fields(
        [
            ("Version", version.name),
            ("Display name", _other_than(version.name, version.display_name)),
            ("Version id", version.pipeline_version_id),
            ("Pipeline", _other_than(version.pipeline_id, pipeline)),
            ("Pipeline id", version.pipeline_id),
            ("Description", version.description or (spec.description if spec else "")),
            ("Created", shown_time(version.created_at)),
            ("Tags", shown_tags(version.tags)),
            ("SHA-256", version.sha256),
            ("Source", version.code_source_url),
            *spec_fields(spec),
        ]
    )
    print_spec(spec)


def print_receipt(receipt: UploadReceipt) -> None:
    """Prints the result of an upload."""
    version = f"{receipt.version.name} ({'new' if receipt.version_created else 'already there with these bytes'})"
    output.print_fields(
        [
            ("Pipeline", f"{receipt.pipeline.name} ({'new' if receipt.pipeline_created else 'already there'})"),
            ("Id", receipt.pipeline.pipeline_id),
            ("Version", version),
            ("Version id", receipt.version.pipeline_version_id),
            ("Bytes", str(receipt.size)),
            ("SHA-256", receipt.sha256),
        ]
    )


def _latest_fields(latest: PipelineVersion | None) -> list[tuple[str, str]]:
    if latest is None:
        return [("Latest", "no version yet")]
    return [
        ("Latest", f"{latest.name}, {shown_time(latest.created_at)}" if latest.created_at else latest.name),
        ("Latest id", latest.pipeline_version_id),
        ("SHA-256", latest.sha256),
        ("Source", latest.code_source_url),
    ]


def _other_than(name: str, text: str) -> str:
    return "" if text == name else text


def shown_tags(tags: Mapping[str, str]) -> str:
    """Writes tags, or labels, on one line."""
    return ", ".join(f"{key}={value}" for key, value in sorted(tags.items()))
