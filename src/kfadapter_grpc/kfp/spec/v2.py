"""A pipeline of KFP v2 as a whole (pipeline_spec.proto of KFP 2.17): its inputs, its outputs, and its tasks.

A key of a spec that is neither read nor known to be irrelevant to a summary is listed in `unknown_parts`: `customJob`
and `resolver` of an executor, `singlePlatformSpecs` of a component among them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from kfadapter_grpc.contract.spec import Artifact, Parameter, ParameterType, PipelineFormat, SpecSummary
from kfadapter_grpc.kfp.spec.tree import build_tasks
from kfadapter_grpc.kfp.spec.v2_graph import Graph
from kfadapter_grpc.kfp.spec.values import typed

if TYPE_CHECKING:
    from collections.abc import Callable

    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.kfp.spec.part import Part

Named = TypeVar("Named", Parameter, Artifact)

_TYPES = {kind.value: kind for kind in ParameterType if kind is not ParameterType.UNKNOWN}
_OLD_TYPES = {
    "INT": ParameterType.NUMBER_INTEGER,
    "DOUBLE": ParameterType.NUMBER_DOUBLE,
    "STRING": ParameterType.STRING,
}
_TITLE = re.compile(r"""^[ \t]*["']?title["']?[ \t]*:[ \t]*["']?([^\s"',]+)""", re.MULTILINE)


def summarize_pipeline(top: Part, platform_spec: Part) -> SpecSummary:
    top.known(
        "pipelineInfo root components deploymentSpec schemaVersion sdkVersion", "defaultPipelineRoot platform_spec"
    )
    info = top["pipelineInfo"].known("name description", "displayName")
    root = top["root"].known("inputDefinitions outputDefinitions dag executorLabel", "taskConfigPassthroughs")
    inputs = root["inputDefinitions"].known("parameters artifacts")
    outputs = root["outputDefinitions"].known("parameters artifacts")
    return SpecSummary(
        format=PipelineFormat.KFP_V2,
        name=info["name"].counted_text(),
        description=info["description"].counted_text(),
        parameters=_by_name(inputs["parameters"], _input),
        schema_version=top["schemaVersion"].counted_text(),
        sdk_version=top["sdkVersion"].counted_text(),
        input_artifacts=_by_name(inputs["artifacts"], _artifact),
        output_artifacts=_by_name(outputs["artifacts"], _artifact),
        output_parameters=_by_name(outputs["parameters"], _output),
        tasks=build_tasks(Graph(top, platform_spec).root()),
    )


def _by_name(definitions: Part, read: Callable[[str, Part], Named]) -> tuple[Named, ...]:
    items = [read(name, part) for name, part in definitions.entries() if part.fits_name(name)]
    return tuple(sorted(items, key=lambda item: item.name))


def _input(name: str, part: Part) -> Parameter:
    part.known("parameterType type defaultValue isOptional description literals")
    declared, kind = _type(part)
    has_default, default = part["defaultValue"].value()
    return Parameter(
        name=name,
        type=kind,
        declared_type=declared,
        has_default=has_default,
        default=typed(default, kind),
        optional=part["isOptional"].flag() or "defaultValue" in part,
        description=part["description"].counted_text(),
        literals=_literals(part["literals"], kind),
    )


def _literals(part: Part, kind: ParameterType) -> tuple[Json, ...]:
    """Reads the allowed values of a parameter; empty if one of them cannot be shown."""
    values = [item.value() for item in part.items()]
    return tuple(typed(value, kind) for _, value in values) if all(is_readable for is_readable, _ in values) else ()


def _output(name: str, part: Part) -> Parameter:
    declared, kind = _type(part.known("parameterType type description"))
    return Parameter(name=name, type=kind, declared_type=declared, description=part["description"].counted_text())


def _type(definition: Part) -> tuple[str, ParameterType]:
    """Reads a type; schema 2.0.0 has it in `type`, with other names."""
    old = "parameterType" not in definition and "type" in definition
    part = definition["type" if old else "parameterType"]
    declared = part.counted_text()
    kind = (_OLD_TYPES if old else _TYPES).get(declared)
    if kind is None:
        part.note()
    return declared, kind or ParameterType.UNKNOWN


def _artifact(name: str, part: Part) -> Artifact:
    part.known("artifactType isArtifactList isOptional description", "properties customProperties metadata")
    return Artifact(
        name=name,
        type=_artifact_type(part["artifactType"].known("schemaTitle schemaUri instanceSchema", "schemaVersion")),
        is_list=part["isArtifactList"].flag(),
        optional=part["isOptional"].flag(),
        description=part["description"].counted_text(),
    )


def _artifact_type(part: Part) -> str:
    """Reads the schema's title; old specs hold a whole schema as YAML."""
    found = part["schemaTitle"].counted_text() or part["schemaUri"].counted_text()
    if found or not part.has("instanceSchema"):
        return found
    title = _TITLE.search(part["instanceSchema"].counted_text())
    if title is None:
        part["instanceSchema"].note()
    return title[1] if title else ""
