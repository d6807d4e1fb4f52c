"""An Argo Workflow as a whole, which is what KFP v1 compiles to, with the SDK's description of it in an annotation.

A key of the Workflow (argoproj.io/v1alpha1) that is neither read nor known to be irrelevant to a summary is listed in
`unknown_parts`: `templateDefaults` and `podSpecPatch` among them, as they change what a task is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.spec import Artifact, Parameter, ParameterType, PipelineFormat, SpecSummary
from kfadapter_grpc.kfp.spec.argo_graph import Graph
from kfadapter_grpc.kfp.spec.tree import build_tasks
from kfadapter_grpc.kfp.spec.values import parsed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kfadapter_grpc.kfp.spec.part import Part

_ANNOTATION = "pipelines.kubeflow.org/pipeline_spec"
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


def summarize_workflow(top: Part) -> SpecSummary:
    top.known("apiVersion kind metadata spec", "status")
    metadata = top["metadata"]
    annotations = metadata["annotations"]
    spec = top["spec"].known(
        "entrypoint templates arguments onExit parallelism volumes nodeSelector tolerations affinity imagePullSecrets",
        "activeDeadlineSeconds archiveLogs artifactGC artifactRepositoryRef automountServiceAccountToken dnsConfig"
        " dnsPolicy executor hostAliases hostNetwork metrics podDisruptionBudget podGC podMetadata podPriority"
        " podPriorityClassName priority schedulerName securityContext serviceAccountName shutdown suspend"
        " synchronization ttlStrategy volumeClaimGC volumeClaimTemplates workflowMetadata",
    )
    # The JSON text in the annotation knows types and descriptions.
    declared = annotations[_ANNOTATION].of_text().known("name description inputs", "outputs")
    arguments = spec["arguments"].known("parameters artifacts")
    name = declared["name"].counted_text() or metadata["name"].counted_text()
    return SpecSummary(
        format=PipelineFormat.ARGO_V1,
        name=name or metadata["generateName"].counted_text().rstrip("-"),
        description=declared["description"].counted_text(),
        parameters=_parameters(declared["inputs"], arguments["parameters"]),
        schema_version=top["apiVersion"].counted_text(),
        sdk_version=annotations[_SDK_ANNOTATION].counted_text(),
        input_artifacts=tuple(sorted(_artifacts(arguments["artifacts"]), key=lambda one: one.name)),
        tasks=build_tasks(Graph(spec).root()),
    )


def _parameters(declared: Part, arguments: Part) -> tuple[Parameter, ...]:
    parameters = {}
    for part in arguments.items():
        part.known("name value default description", "enum globalName valueFrom")
        if (name := part["name"].text()) and part.fits_name(name):
            parameters[name] = _argument(name, part)
    for part in declared.items():
        part.known("name type default optional description", "annotations")
        if (name := part["name"].text()) and part.fits_name(name):
            parameters[name] = _merged(_input(name, part), parameters.get(name))
    return tuple(sorted(parameters.values(), key=lambda parameter: parameter.name))


def _merged(declared: Parameter, argument: Parameter | None) -> Parameter:
    if argument is None or declared.has_default or not argument.has_default:
        return declared
    default = parsed(argument.default, declared.type)
    return replace(declared, has_default=True, default=default, optional=True)


def _input(name: str, part: Part) -> Parameter:
    declared = _declared_type(part["type"])
    kind = _TYPES.get(declared.lower(), ParameterType.UNKNOWN)
    has_default, default = part["default"].value()
    return Parameter(
        name=name,
        type=kind,
        declared_type=declared,
        has_default=has_default,
        default=parsed(default, kind),
        optional=part["optional"].flag() or "default" in part,
        description=part["description"].counted_text(),
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


def _argument(name: str, part: Part) -> Parameter:
    has_default, default = part["value" if "value" in part else "default"].value()
    return Parameter(
        name=name,
        type=ParameterType.UNKNOWN,
        has_default=has_default,
        default=default,
        optional="value" in part or "default" in part,
        description=part["description"].counted_text(),
    )


def _artifacts(arguments: Part) -> Iterable[Artifact]:
    for part in arguments.items():
        part.known(
            "name optional description",
            "archive archiveLogs artifactGC artifactory azure deleted from fromExpression gcs git globalName hdfs http"
            " mode oss path raw recurseMode s3 subPath",
        )
        name = part["name"].text()
        if not name:
            part.note()
        elif part.fits_name(name):
            yield Artifact(name, optional=part["optional"].flag(), description=part["description"].counted_text())
