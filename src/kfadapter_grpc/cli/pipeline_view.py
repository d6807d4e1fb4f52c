"""Human-readable pipelines, versions and their contents: parameters, artifacts, tasks, resources."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.listings import NAME_STEPS, Column, Table, print_rows
from kfadapter_grpc.cli.output import Shrink
from kfadapter_grpc.contract.pipelines import (
    ListPipelinesRequest,
    ListPipelineVersionsRequest,
    Pipeline,
    PipelineVersion,
)
from kfadapter_grpc.contract.spec import ParameterType, PipelineFormat, named_tasks
from kfadapter_grpc.graph import ASCII, UNICODE, graph_of, outline
from kfadapter_grpc.times import shown_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kfadapter_grpc.client import UploadReceipt
    from kfadapter_grpc.contract.spec import Artifact, Parameter, SpecSummary, Task, TaskResources

PIPELINES: Table[Pipeline] = Table(
    "pipelines",
    lambda pipeline: pipeline.name,
    (
        Column("NAME", "name"),
        Column("ID", "pipeline_id", is_id=True),
        Column("CREATED", "created_at"),
        Column("TAGS", "tags", format=lambda pipeline: format_tags(pipeline.tags), wide=True, if_any=True),
        Column("DESCRIPTION", "description", cut=True),
    ),
    NAME_STEPS,
    ListPipelinesRequest.ORDERS,
)
VERSIONS: Table[PipelineVersion] = Table(
    "versions",
    lambda version: version.name,
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
    latest = pipeline.latest_version
    spec = latest.spec if latest else None
    output.print_fields(
        [
            ("Name", pipeline.name),
            ("Display name", _unless_same(pipeline.name, pipeline.display_name)),
            ("Id", pipeline.pipeline_id),
            ("Namespace", pipeline.namespace),
            ("Description", pipeline.description or (spec.description if spec else "")),
            ("Created", shown_time(pipeline.created_at)),
            ("Tags", format_tags(pipeline.tags)),
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
    spec = version.spec
    output.print_fields(
        [
            ("Version", version.name),
            ("Display name", _unless_same(version.name, version.display_name)),
            ("Version id", version.pipeline_version_id),
            ("Pipeline", _unless_same(version.pipeline_id, pipeline)),
            ("Pipeline id", version.pipeline_id),
            ("Description", version.description or (spec.description if spec else "")),
            ("Created", shown_time(version.created_at)),
            ("Tags", format_tags(version.tags)),
            ("SHA-256", version.sha256),
            ("Source", version.code_source_url),
            *spec_fields(spec),
        ]
    )
    print_spec(spec)


def print_receipt(receipt: UploadReceipt) -> None:
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


def _unless_same(name: str, text: str) -> str:
    return "" if text == name else text


def format_tags(tags: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(tags.items()))


MAX_UNKNOWN = 8
"""The maximum number of unknown parts that are named; `-o json` names all."""

_FORMATS = {
    PipelineFormat.KFP_V2: "KFP v2",
    PipelineFormat.ARGO_V1: "KFP v1, an Argo Workflow",
    PipelineFormat.UNKNOWN: "unknown",
}
_NUMBERS = {ParameterType.NUMBER_INTEGER: "integer", ParameterType.NUMBER_DOUBLE: "double"}
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_DIGEST = re.compile(r"(@sha256:[0-9a-f]{12})[0-9a-f]+$")


def spec_fields(spec: SpecSummary | None) -> list[tuple[str, str]]:
    """Returns the contents that need no table, as fields."""
    if spec is None:
        return []
    versions = (spec.schema_version and f"schema {spec.schema_version}", spec.sdk_version)
    known_versions = ", ".join(filter(None, versions))
    images = (_DIGEST.sub(r"\1", task.image) for _, task in named_tasks(spec.tasks) if task.image)
    return [
        ("Format", f"{_FORMATS[spec.format]} ({known_versions})" if known_versions else _FORMATS[spec.format]),
        ("Images", "\n".join(dict.fromkeys(images))),
        (
            "Unknown",
            f"this adapter does not know: {unsupported_text(spec.unknown_parts)}" if spec.unknown_parts else "",
        ),
        ("Parameters", "" if spec.parameters or spec.format is PipelineFormat.UNKNOWN else "none"),
    ]


def print_spec(spec: SpecSummary | None) -> None:
    """Prints a table for each kind of content, each after an empty line."""
    if spec is None:
        return
    _print_table(
        ("PARAMETER", "TYPE", "DEFAULT", "NEEDED", "DESCRIPTION"),
        [_parameter_row(parameter) for parameter in spec.parameters],
        (Shrink("DESCRIPTION", 16), Shrink("DEFAULT", 12), Shrink("PARAMETER", 16)),
    )
    _print_table(
        ("INPUT ARTIFACT", "TYPE", "NEEDED", "DESCRIPTION"),
        [
            (artifact.name, _artifact_type(artifact), _needed(artifact.optional), artifact.description)
            for artifact in spec.input_artifacts
        ],
        (Shrink("DESCRIPTION", 16), Shrink("INPUT ARTIFACT", 16)),
    )
    _print_table(
        ("OUTPUT", "TYPE", "DESCRIPTION"), _output_rows(spec), (Shrink("DESCRIPTION", 16), Shrink("OUTPUT", 16))
    )
    if spec.tasks:
        style = UNICODE if output.is_utf8() else ASCII
        tree = outline(graph_of(spec.tasks, output.encodable), output.width(), style)
        output.print_section("TASKS", tree)
    _print_table(("TASK", "NEEDS"), list(_needs(spec.tasks)), (Shrink("NEEDS", 16), Shrink("TASK", 16)))


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]], steps: Sequence[Shrink]) -> None:
    """Prints a table without empty columns."""
    if rows:
        filled = [title for title, *cells in zip(head, *rows, strict=True) if any(cells)]
        cells = [[cell for title, cell in zip(head, row, strict=True) if title in filled] for row in rows]
        output.print_line("")
        output.print_table(filled, cells, steps=[step for step in steps if step.title in filled])


def unsupported_text(parts: Sequence[str]) -> str:
    """Returns the first unsupported parts as text, and how to see the others."""
    more = len(parts) - MAX_UNKNOWN
    return ", ".join(parts[:MAX_UNKNOWN]) + (f", and {more} more (get -o json shows all)" if more > 0 else "")


def _parameter_row(parameter: Parameter) -> tuple[str, str, str, str, str]:
    default = json.dumps(parameter.default, ensure_ascii=False) if parameter.has_default else ""
    needed = _needed(parameter.optional or parameter.has_default)
    return parameter.name, _parameter_type(parameter), default, needed, parameter.description


def _parameter_type(parameter: Parameter) -> str:
    return _NUMBERS.get(parameter.type) or parameter.type.value.lower().replace("_", " ") or parameter.declared_type


def _needed(optional: bool) -> str:
    return "optional" if optional else "required"


def _artifact_type(artifact: Artifact) -> str:
    kind = artifact.type.removeprefix("system.")
    return f"list of {kind}" if artifact.is_list else kind


def _output_rows(spec: SpecSummary) -> list[tuple[str, str, str]]:
    artifacts = [(artifact.name, _artifact_type(artifact), artifact.description) for artifact in spec.output_artifacts]
    return artifacts + [
        (parameter.name, _parameter_type(parameter), parameter.description) for parameter in spec.output_parameters
    ]


def _needs(tasks: Sequence[Task]) -> Iterator[tuple[str, str]]:
    """Yields the cluster resources that tasks request, for tasks that request any."""
    for name, task in _named(tasks):
        needs = list(_resources(task.resources)) if task.resources else []
        needs += [f"{_HUMP.sub(' ', extra.kind).lower()} {extra.name}".rstrip() for extra in task.kubernetes_extras]
        if task.max_retries:
            needs.append("1 retry" if task.max_retries == 1 else f"{task.max_retries} retries")
        if needs:
            yield name, ", ".join(needs)


def _named(tasks: Sequence[Task]) -> Iterator[tuple[str, Task]]:
    """Yields every task by its name, prefixed with its groups if several have that name."""
    placed = list(named_tasks(tasks, lambda task: task.display_name or task.name))
    known = Counter(path[-1] for path, _ in placed)
    for path, task in placed:
        yield (" / ".join(path) if known[path[-1]] > 1 else path[-1]), task


def _resources(resources: TaskResources) -> Iterator[str]:
    yield from _bounds("CPU", resources.cpu_request, resources.cpu_limit)
    yield from _bounds("memory", resources.memory_request, resources.memory_limit)
    if resources.accelerator_type or resources.accelerator_count:
        yield f"{resources.accelerator_count or '1'} x {resources.accelerator_type or 'accelerator'}"


def _bounds(name: str, request: str, limit: str) -> Iterator[str]:
    if request and limit and request != limit:
        yield f"{name} {request} to {limit}"
    elif request or limit:
        yield f"{name} {request or f'up to {limit}'}"
