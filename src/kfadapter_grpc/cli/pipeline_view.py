"""A pipeline as a person reads it: what it is, and what a run of it needs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.column_widths import Step
from kfadapter_grpc.domain.spec import ParameterType, PipelineFormat

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from kfadapter_grpc.client import UploadReceipt
    from kfadapter_grpc.domain.models import Pipeline, PipelineVersion
    from kfadapter_grpc.domain.spec import Parameter, SpecSummary

_FORMATS = {
    PipelineFormat.KFP_V2: "KFP v2",
    PipelineFormat.ARGO_V1: "KFP v1 (Argo Workflow)",
    PipelineFormat.UNKNOWN: "unknown",
}
_NUMBERS = {ParameterType.NUMBER_INTEGER: "integer", ParameterType.NUMBER_DOUBLE: "double"}


def shown_time(moment: datetime | None) -> str:
    """Writes a time of the wire, which is in UTC."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC") if moment else ""


def print_pipeline(pipeline: Pipeline) -> None:
    """Prints a pipeline, its latest version and the parameters of that."""
    latest = pipeline.latest_version
    spec = latest.spec if latest else None
    output.print_fields(
        [
            ("Name", pipeline.name),
            ("Display name", pipeline.display_name if pipeline.display_name != pipeline.name else ""),
            ("Id", pipeline.pipeline_id),
            ("Namespace", pipeline.namespace),
            ("Description", pipeline.description or (spec.description if spec else "")),
            ("Created", shown_time(pipeline.created_at)),
            ("Tags", _tags(pipeline.tags)),
            ("Versions", "" if pipeline.version_count is None else str(pipeline.version_count)),
            *_version_fields(latest),
            ("Format", _format(spec) if spec else ""),
            ("Parameters", "none" if spec and not spec.parameters else ""),
        ]
    )
    if spec and spec.parameters:
        output.print_line("")
        output.print_table(
            ("PARAMETER", "TYPE", "DEFAULT", "NEEDED", "DESCRIPTION"),
            [_row(item) for item in spec.parameters],
            steps=(Step("DESCRIPTION", 16), Step("DEFAULT", 12), Step("PARAMETER", 16)),
        )


def print_receipt(receipt: UploadReceipt) -> None:
    """Prints what became of an upload."""
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


def _version_fields(latest: PipelineVersion | None) -> list[tuple[str, str]]:
    if latest is None:
        return [("Latest", "no version yet")]
    return [
        ("Latest", f"{latest.name}, {shown_time(latest.created_at)}" if latest.created_at else latest.name),
        ("Latest id", latest.pipeline_version_id),
        ("Source", latest.code_source_url),
    ]


def _format(spec: SpecSummary) -> str:
    told = ", ".join(
        part for part in (spec.schema_version and f"schema {spec.schema_version}", spec.sdk_version) if part
    )
    return f"{_FORMATS[spec.format]} ({told})" if told else _FORMATS[spec.format]


def _row(parameter: Parameter) -> tuple[str, str, str, str, str]:
    kind = _NUMBERS.get(parameter.type) or parameter.type.value.lower().replace("_", " ") or parameter.declared_type
    default = json.dumps(parameter.default, ensure_ascii=False) if parameter.has_default else ""
    needed = "optional" if parameter.optional or parameter.has_default else "required"
    return parameter.name, kind, default, needed, parameter.description


def _tags(tags: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(tags.items()))
