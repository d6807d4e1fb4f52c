"""An Argo Workflow as a whole, with what the SDK of KFP v1 tells about it in an annotation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.spec import Artifact, Parameter, ParameterType, PipelineFormat, SpecSummary
from kfadapter_grpc.kfp.spec.argo import levels
from kfadapter_grpc.kfp.spec.argo.graph import Graph
from kfadapter_grpc.kfp.spec.level import ANY
from kfadapter_grpc.kfp.spec.tree import grow
from kfadapter_grpc.kfp.spec.values import parsed
from kfadapter_grpc.kfp.spec.weight import artifact_weight, parameter_weight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kfadapter_grpc.kfp.spec.part import Fields, Part

WORKFLOW = levels.WORKFLOW
_SPEC_ANNOTATION = "pipelines.kubeflow.org/pipeline_spec"
_SDK_ANNOTATION = "pipelines.kubeflow.org/kfp_sdk_version"
_TYPES = {
    "integer": ParameterType.NUMBER_INTEGER,
    "int": ParameterType.NUMBER_INTEGER,
    "float": ParameterType.NUMBER_DOUBLE,
    "double": ParameterType.NUMBER_DOUBLE,
    "string": ParameterType.STRING,
    "str": ParameterType.STRING,
    "bool": ParameterType.BOOLEAN,
    "boolean": ParameterType.BOOLEAN,
    "jsonarray": ParameterType.LIST,
    "list": ParameterType.LIST,
    "jsonobject": ParameterType.STRUCT,
    "dict": ParameterType.STRUCT,
}


def summarize_workflow(top: Fields) -> SpecSummary:
    """Summarizes a Workflow. It has no outputs of its own."""
    metadata, spec = top["metadata"].fields(ANY), top["spec"].fields(levels.WORKFLOW_SPEC)
    annotations = metadata["annotations"].fields(ANY)
    told = _told_spec(annotations[_SPEC_ANNOTATION])
    arguments = spec["arguments"].fields(levels.ARGUMENTS)
    name = told["name"].told_text() or metadata["name"].told_text()
    return SpecSummary(
        format=PipelineFormat.ARGO_V1,
        name=name or metadata["generateName"].told_text().rstrip("-"),
        description=told["description"].told_text(),
        parameters=_parameters(told["inputs"], arguments["parameters"]),
        schema_version=top["apiVersion"].told_text(),
        sdk_version=annotations[_SDK_ANNOTATION].told_text(),
        input_artifacts=tuple(sorted(_artifacts(arguments["artifacts"]), key=lambda one: one.name)),
        tasks=grow(Graph(spec).root()),
    )


def _told_spec(annotation: Part) -> Fields:
    """Reads the JSON text in the annotation, which knows types and descriptions."""
    return annotation.of_text().fields(levels.TOLD_SPEC)


def _parameters(told: Part, arguments: Part) -> tuple[Parameter, ...]:
    """Completes what the annotation tells by the Workflow's arguments."""
    parameters = {parameter.name: parameter for parameter in _arguments(arguments)}
    for one in _inputs(told):
        parameters[one.name] = _merged(one, parameters.get(one.name))
    return tuple(sorted(parameters.values(), key=lambda parameter: parameter.name))


def _merged(told: Parameter, argument: Parameter | None) -> Parameter:
    if argument is None or told.has_default or not argument.has_default:
        return told
    default = parsed(argument.default, told.type)
    return replace(told, has_default=True, default=default, optional=True)


def _named(part: Part, fields: Fields) -> str:
    """Reads the name of a parameter or artifact and takes room for it; empty where there is none, or no room."""
    name = fields["name"].text()
    if name and not part.report.take(parameter_weight(Parameter(name, ParameterType.UNKNOWN))):
        part.note()
        return ""
    return name


def _inputs(told: Part) -> Iterable[Parameter]:
    for part in told.items():
        fields = part.fields(levels.TOLD_INPUT)
        name = _named(part, fields)
        if name:
            yield _input(name, fields)


def _input(name: str, fields: Fields) -> Parameter:
    declared = _declared_type(fields["type"])
    kind = _TYPES.get(declared.lower(), ParameterType.UNKNOWN)
    has_default, default = fields["default"].value()
    return Parameter(
        name=name,
        type=kind,
        declared_type=declared,
        has_default=has_default,
        default=parsed(default, kind),
        optional=fields["optional"].flag() or "default" in fields,
        description=fields["description"].told_text(),
    )


def _declared_type(part: Part) -> str:
    """Reads a type of KFP v1: a name, or a mapping from a name to its properties. Any name is allowed there."""
    _, declared = part.value()
    if isinstance(declared, dict) and len(declared) == 1:
        return str(next(iter(declared)))
    if declared is None or isinstance(declared, str):
        return declared or ""
    part.note()
    return ""


def _arguments(arguments: Part) -> Iterable[Parameter]:
    """Reads the arguments of the Workflow itself, which have no types."""
    for part in arguments.items():
        fields = part.fields(levels.ARGUMENT)
        name = _named(part, fields)
        if name:
            yield _argument(name, fields)


def _argument(name: str, fields: Fields) -> Parameter:
    value = fields["value" if "value" in fields else "default"]
    has_default, default = value.value()
    return Parameter(
        name=name,
        type=ParameterType.UNKNOWN,
        has_default=has_default,
        default=default,
        optional="value" in fields or "default" in fields,
        description=fields["description"].told_text(),
    )


def _artifacts(arguments: Part) -> Iterable[Artifact]:
    for part in arguments.items():
        fields = part.fields(levels.ARTIFACT_ARGUMENT)
        name = fields["name"].text()
        if name and part.report.take(artifact_weight(Artifact(name))):
            optional, description = fields["optional"].flag(), fields["description"].told_text()
            yield Artifact(name=name, optional=optional, description=description)
        else:
            part.note()
