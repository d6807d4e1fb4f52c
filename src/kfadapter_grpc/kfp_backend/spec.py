"""What a pipeline spec says about itself, read from the JSON that KFP serves.

Only what is used is decoded; the rest, which is most of a spec, is skipped. KFP serves whatever was uploaded once, by
any SDK, so nothing here is taken for granted: what is not as expected is named by its path, and the rest is told.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import msgspec

from kfadapter_grpc.domain.errors import KfpError
from kfadapter_grpc.domain.spec import Parameter, ParameterType, PipelineFormat, SpecSummary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kfadapter_grpc.domain.spec import Json

T = TypeVar("T")

_MOST_UNKNOWN_PARTS = 100
_DEEPEST_VALUE = 20  # protobuf reads no more than about 30 levels of a Value
_LARGEST_PART = 64 * 1024
"""Bytes of JSON of one text or default that a summary holds."""
_LARGEST_SUMMARY = 2 * 1024 * 1024
"""Bytes of JSON of all of them: an answer must fit into a gRPC message of 4 MiB."""
_WHOLE = "$"
_ABSENT = msgspec.Raw()
_UNREADABLE = (msgspec.DecodeError, RecursionError)

_SPEC_ANNOTATION = "pipelines.kubeflow.org/pipeline_spec"
_SDK_ANNOTATION = "pipelines.kubeflow.org/kfp_sdk_version"
_ARGO_GROUP = "argoproj.io/"

_V2_PARAMETERS = "root.inputDefinitions.parameters"
_V2_TYPES = {kind.value: kind for kind in ParameterType if kind is not ParameterType.UNKNOWN}
_V2_OLD_TYPES = {
    "INT": ParameterType.NUMBER_INTEGER,
    "DOUBLE": ParameterType.NUMBER_DOUBLE,
    "STRING": ParameterType.STRING,
}
_V1_TYPES = {
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
_PYTHON_TYPES: dict[ParameterType, type | tuple[type, ...]] = {
    ParameterType.NUMBER_INTEGER: (int, float),
    ParameterType.NUMBER_DOUBLE: (int, float),
    ParameterType.BOOLEAN: bool,
    ParameterType.LIST: list,
    ParameterType.STRUCT: dict,
}


class _Top(msgspec.Struct, rename="camel"):
    """What stands at the top of a spec, of the wrapper around two specs, or of a Workflow."""

    wrapped: msgspec.Raw = msgspec.field(default=_ABSENT, name="pipeline_spec")
    pipeline_info: msgspec.Raw = _ABSENT
    root: msgspec.Raw = _ABSENT
    schema_version: msgspec.Raw = _ABSENT
    sdk_version: msgspec.Raw = _ABSENT
    api_version: msgspec.Raw = _ABSENT
    kind: msgspec.Raw = _ABSENT
    metadata: msgspec.Raw = _ABSENT
    spec: msgspec.Raw = _ABSENT


class _Info(msgspec.Struct):
    name: msgspec.Raw = _ABSENT
    description: msgspec.Raw = _ABSENT


class _Root(msgspec.Struct, rename="camel"):
    input_definitions: msgspec.Raw = _ABSENT


class _HasParameters(msgspec.Struct):
    parameters: msgspec.Raw = _ABSENT


class _V2Parameter(msgspec.Struct, rename="camel"):
    parameter_type: msgspec.Raw = _ABSENT
    type: msgspec.Raw = _ABSENT
    default_value: msgspec.Raw = _ABSENT
    is_optional: msgspec.Raw = _ABSENT
    description: msgspec.Raw = _ABSENT


class _Metadata(msgspec.Struct, rename="camel"):
    name: msgspec.Raw = _ABSENT
    generate_name: msgspec.Raw = _ABSENT
    annotations: msgspec.Raw = _ABSENT


class _WorkflowSpec(msgspec.Struct):
    arguments: msgspec.Raw = _ABSENT


class _V1Spec(msgspec.Struct):
    """What the annotation of the v1 SDK tells."""

    name: msgspec.Raw = _ABSENT
    description: msgspec.Raw = _ABSENT
    inputs: msgspec.Raw = _ABSENT


class _V1Input(msgspec.Struct):
    name: msgspec.Raw = _ABSENT
    type: msgspec.Raw = _ABSENT
    default: msgspec.Raw = _ABSENT
    optional: msgspec.Raw = _ABSENT
    description: msgspec.Raw = _ABSENT


class _Argument(msgspec.Struct):
    name: msgspec.Raw = _ABSENT
    value: msgspec.Raw = _ABSENT
    default: msgspec.Raw = _ABSENT
    description: msgspec.Raw = _ABSENT


def summarize(spec_json: bytes) -> SpecSummary:
    """Reads a version's spec.

    Args:
        spec_json: A bare pipeline spec, the wrapper of pipeline and platform spec, or an Argo Workflow.

    Returns:
        What it says; parts that are not as expected are named in `unknown_parts`.

    Raises:
        KfpError: The bytes are no JSON.
    """
    try:
        msgspec.json.decode(spec_json, type=msgspec.Raw)
    except _UNREADABLE as error:
        raise KfpError("KFP served a pipeline spec that is no JSON.") from error
    parts = _Parts()
    top = parts.whole(msgspec.Raw(spec_json), _WHOLE, _Top)
    if top is not None and top.wrapped is not _ABSENT and top.root is _ABSENT:
        top = parts.whole(top.wrapped, "pipeline_spec", _Top)
    summary = SpecSummary() if top is None else _summary(parts, top)
    return replace(summary, unknown_parts=parts.unknown)


def _summary(parts: _Parts, top: _Top) -> SpecSummary:
    api_version = parts.text(top.api_version, "apiVersion")
    if api_version.startswith(_ARGO_GROUP) and parts.text(top.kind, "kind") == "Workflow":
        return _argo_summary(parts, top, api_version)
    if top.pipeline_info is _ABSENT and top.root is _ABSENT:
        parts.add_unknown(_WHOLE)
        return SpecSummary()
    return _v2_summary(parts, top)


class _Parts:
    """Reads parts of a spec and notes the paths of those that are not as expected."""

    def __init__(self) -> None:
        self._unknown: list[str] = []
        self._room = _LARGEST_SUMMARY

    @property
    def unknown(self) -> tuple[str, ...]:
        """The paths of the parts that were not understood."""
        return tuple(self._unknown)

    def add_unknown(self, path: str) -> None:
        """Notes a part that is not understood."""
        if len(self._unknown) < _MOST_UNKNOWN_PARTS:
            self._unknown.append(path)

    def whole(self, part: msgspec.Raw, path: str, kind: type[T]) -> T | None:
        """Reads a part of a type; None where it is absent, or something else."""
        if part is _ABSENT:
            return None
        try:
            return msgspec.json.decode(part, type=kind)
        except _UNREADABLE:
            self.add_unknown(path)
            return None

    def text(self, part: msgspec.Raw, path: str) -> str:
        """Reads a text; empty where there is none, or a summary has no room for it."""
        return (self.whole(part, path, str) or "") if self._fits(part, path) else ""

    def _fits(self, part: msgspec.Raw, path: str) -> bool:
        """Takes room for a part, or names it as one that is not told."""
        size = memoryview(part).nbytes
        if size > min(_LARGEST_PART, self._room):
            self.add_unknown(path)
            return False
        self._room -= size
        return True

    def flag(self, part: msgspec.Raw, path: str) -> bool:
        """Reads a truth value; false where there is none."""
        return self.whole(part, path, bool) or False

    def value(self, part: msgspec.Raw, path: str) -> tuple[bool, Json]:
        """Reads any value; tells first whether there is one that can be read."""
        if part is _ABSENT or not self._fits(part, path):
            return False, None
        try:
            value: Json = msgspec.json.decode(part)
        except _UNREADABLE:
            self.add_unknown(path)
            return False, None
        if _is_deeper(value, _DEEPEST_VALUE):
            self.add_unknown(path)
            return False, None
        return True, value


def _v2_summary(parts: _Parts, top: _Top) -> SpecSummary:
    info = parts.whole(top.pipeline_info, "pipelineInfo", _Info) or _Info()
    return SpecSummary(
        format=PipelineFormat.KFP_V2,
        name=parts.text(info.name, "pipelineInfo.name"),
        description=parts.text(info.description, "pipelineInfo.description"),
        parameters=_sorted(_v2_parameters(parts, top.root)),
        schema_version=parts.text(top.schema_version, "schemaVersion"),
        sdk_version=parts.text(top.sdk_version, "sdkVersion"),
    )


def _v2_parameters(parts: _Parts, part: msgspec.Raw) -> Iterable[Parameter]:
    root = parts.whole(part, "root", _Root) or _Root()
    inputs = parts.whole(root.input_definitions, "root.inputDefinitions", _HasParameters) or _HasParameters()
    for name, one in (parts.whole(inputs.parameters, _V2_PARAMETERS, dict[str, msgspec.Raw]) or {}).items():
        path = f"{_V2_PARAMETERS}.{name}"
        yield _v2_parameter(parts, name, parts.whole(one, path, _V2Parameter) or _V2Parameter(), path)


def _v2_parameter(parts: _Parts, name: str, one: _V2Parameter, path: str) -> Parameter:
    declared, kind = _v2_type(parts, one, path)
    has_default, default = parts.value(one.default_value, f"{path}.defaultValue")
    return Parameter(
        name=name,
        type=kind,
        declared_type=declared,
        has_default=has_default,
        default=_typed(default, kind),
        optional=parts.flag(one.is_optional, f"{path}.isOptional") or one.default_value is not _ABSENT,
        description=parts.text(one.description, f"{path}.description"),
    )


def _v2_type(parts: _Parts, one: _V2Parameter, path: str) -> tuple[str, ParameterType]:
    old = one.parameter_type is _ABSENT and one.type is not _ABSENT
    path = f"{path}.type" if old else f"{path}.parameterType"
    declared = parts.text(one.type if old else one.parameter_type, path)
    kind = (_V2_OLD_TYPES if old else _V2_TYPES).get(declared)
    if kind is None:
        parts.add_unknown(path)
    return declared, kind or ParameterType.UNKNOWN


def _argo_summary(parts: _Parts, top: _Top, api_version: str) -> SpecSummary:
    metadata = parts.whole(top.metadata, "metadata", _Metadata) or _Metadata()
    annotations = parts.whole(metadata.annotations, "metadata.annotations", dict[str, msgspec.Raw]) or {}
    told = _annotated_spec(parts, annotations)
    name = parts.text(told.name, f"{_annotation_path(_SPEC_ANNOTATION)}.name") or parts.text(
        metadata.name, "metadata.name"
    )
    parameters = {parameter.name: parameter for parameter in _arguments(parts, top.spec)}
    for one in _v1_inputs(parts, told.inputs):
        parameters[one.name] = _merged(one, parameters.get(one.name))
    return SpecSummary(
        format=PipelineFormat.ARGO_V1,
        name=name or parts.text(metadata.generate_name, "metadata.generateName").rstrip("-"),
        description=parts.text(told.description, f"{_annotation_path(_SPEC_ANNOTATION)}.description"),
        parameters=_sorted(parameters.values()),
        schema_version=api_version,
        sdk_version=parts.text(annotations.get(_SDK_ANNOTATION, _ABSENT), _annotation_path(_SDK_ANNOTATION)),
    )


def _annotation_path(name: str) -> str:
    return f"metadata.annotations.{name}"


def _annotated_spec(parts: _Parts, annotations: dict[str, msgspec.Raw]) -> _V1Spec:
    """Reads the JSON text in the annotation, which knows types and descriptions."""
    path = _annotation_path(_SPEC_ANNOTATION)
    text = parts.whole(annotations.get(_SPEC_ANNOTATION, _ABSENT), path, str)
    return (parts.whole(msgspec.Raw(text), path, _V1Spec) if text else None) or _V1Spec()


def _v1_inputs(parts: _Parts, part: msgspec.Raw) -> Iterable[Parameter]:
    base = f"{_annotation_path(_SPEC_ANNOTATION)}.inputs"
    for number, one in enumerate(parts.whole(part, base, list[msgspec.Raw]) or ()):
        path = f"{base}[{number}]"
        read = parts.whole(one, path, _V1Input) or _V1Input()
        name = parts.text(read.name, f"{path}.name")
        if name:
            yield _v1_input(parts, name, read, path)


def _v1_input(parts: _Parts, name: str, one: _V1Input, path: str) -> Parameter:
    declared = _v1_declared_type(parts, one.type, f"{path}.type")
    kind = _V1_TYPES.get(declared.lower(), ParameterType.UNKNOWN)
    has_default, default = parts.value(one.default, f"{path}.default")
    return Parameter(
        name=name,
        type=kind,
        declared_type=declared,
        has_default=has_default,
        default=_parsed(default, kind),
        optional=parts.flag(one.optional, f"{path}.optional") or one.default is not _ABSENT,
        description=parts.text(one.description, f"{path}.description"),
    )


def _v1_declared_type(parts: _Parts, part: msgspec.Raw, path: str) -> str:
    """Reads a type of KFP v1: a name, or a mapping from a name to its properties. Any name is allowed there."""
    _, declared = parts.value(part, path)
    if isinstance(declared, dict) and len(declared) == 1:
        return str(next(iter(declared)))
    if declared is None or isinstance(declared, str):
        return declared or ""
    parts.add_unknown(path)
    return ""


def _arguments(parts: _Parts, part: msgspec.Raw) -> Iterable[Parameter]:
    """Reads the arguments of the Workflow itself, which have no types."""
    spec = parts.whole(part, "spec", _WorkflowSpec) or _WorkflowSpec()
    arguments = parts.whole(spec.arguments, "spec.arguments", _HasParameters) or _HasParameters()
    base = "spec.arguments.parameters"
    for number, one in enumerate(parts.whole(arguments.parameters, base, list[msgspec.Raw]) or ()):
        path = f"{base}[{number}]"
        read = parts.whole(one, path, _Argument) or _Argument()
        name = parts.text(read.name, f"{path}.name")
        if name:
            yield _argument(parts, name, read, path)


def _argument(parts: _Parts, name: str, one: _Argument, path: str) -> Parameter:
    value = one.default if one.value is _ABSENT else one.value
    has_default, default = parts.value(value, f"{path}.value")
    return Parameter(
        name=name,
        type=ParameterType.UNKNOWN,
        has_default=has_default,
        default=default,
        optional=value is not _ABSENT,
        description=parts.text(one.description, f"{path}.description"),
    )


def _merged(told: Parameter, argument: Parameter | None) -> Parameter:
    """Completes what the annotation tells by the Workflow's argument of the same name."""
    if argument is None or told.has_default or not argument.has_default:
        return told
    default = _parsed(argument.default, told.type)
    return replace(told, has_default=True, default=default, optional=True)


def _parsed(value: Json, kind: ParameterType) -> Json:
    """Reads a default that KFP v1 keeps as a text; one that is not of its type stays a text."""
    expected = _PYTHON_TYPES.get(kind)
    if expected is None or not isinstance(value, str):
        return _typed(value, kind)
    text = value.strip().lower() if kind is ParameterType.BOOLEAN else value
    try:
        parsed: Json = msgspec.json.decode(text)
    except _UNREADABLE:
        return value
    typed = _typed(parsed, kind)
    fits = isinstance(typed, int if kind is ParameterType.NUMBER_INTEGER else expected)
    return typed if fits and (kind is ParameterType.BOOLEAN or not isinstance(typed, bool)) else value


def _typed(value: Json, kind: ParameterType) -> Json:
    """Makes a number one of its type: JSON does not tell 7 from 7.0."""
    if isinstance(value, float) and kind is ParameterType.NUMBER_INTEGER and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and kind is ParameterType.NUMBER_DOUBLE:
        return float(value)
    return value


def _is_deeper(value: Json, levels: int) -> bool:
    """Tells whether lists and mappings are nested in `value` more than `levels` deep."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [inner for outer in layer for inner in _inside(outer)]
    return bool(layer)


def _inside(value: Json) -> Iterable[Json]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _sorted(parameters: Iterable[Parameter]) -> tuple[Parameter, ...]:
    return tuple(sorted(parameters, key=lambda parameter: parameter.name))
