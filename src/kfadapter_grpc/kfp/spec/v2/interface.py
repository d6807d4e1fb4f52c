"""What a pipeline takes and gives: its parameters and artifacts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from kfadapter_grpc.contract.spec import Artifact, Parameter, ParameterType
from kfadapter_grpc.kfp.spec.v2 import levels
from kfadapter_grpc.kfp.spec.values import typed
from kfadapter_grpc.kfp.spec.weight import artifact_weight, parameter_weight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.kfp.spec.part import Fields, Part

Named = TypeVar("Named", Parameter, Artifact)

_TYPES = {kind.value: kind for kind in ParameterType if kind is not ParameterType.UNKNOWN}
_OLD_TYPES = {
    "INT": ParameterType.NUMBER_INTEGER,
    "DOUBLE": ParameterType.NUMBER_DOUBLE,
    "STRING": ParameterType.STRING,
}
_TITLE = re.compile(r"""^[ \t]*["']?title["']?[ \t]*:[ \t]*["']?([^\s"',]+)""", re.MULTILINE)


def input_parameters(definitions: Part) -> tuple[Parameter, ...]:
    """Reads what a run can set."""
    return by_name(_input(name, part) for name, part in _parameters(definitions) if _has_room(name, part))


def output_parameters(definitions: Part) -> tuple[Parameter, ...]:
    """Reads what a run returns."""
    return by_name(_output(name, part) for name, part in _parameters(definitions) if _has_room(name, part))


def artifacts(definitions: Part) -> tuple[Artifact, ...]:
    """Reads the artifacts that a run needs or makes."""
    found = definitions.fields(levels.DEFINITIONS)["artifacts"].entries()
    return by_name(_artifact(name, part) for name, part in found if _artifact_has_room(name, part))


def by_name(items: Iterable[Named]) -> tuple[Named, ...]:
    """Sorts by name."""
    return tuple(sorted(items, key=lambda item: item.name))


def _parameters(definitions: Part) -> Iterable[tuple[str, Part]]:
    return definitions.fields(levels.DEFINITIONS)["parameters"].entries()


def _has_room(name: str, part: Part) -> bool:
    fits = part.report.take(parameter_weight(Parameter(name, ParameterType.UNKNOWN)))
    if not fits:
        part.note()
    return fits


def _artifact_has_room(name: str, part: Part) -> bool:
    fits = part.report.take(artifact_weight(Artifact(name)))
    if not fits:
        part.note()
    return fits


def _input(name: str, part: Part) -> Parameter:
    fields = part.fields(levels.PARAMETER)
    declared, kind = _type(fields)
    has_default, default = fields["defaultValue"].value()
    return Parameter(
        name=name,
        type=kind,
        declared_type=declared,
        has_default=has_default,
        default=typed(default, kind),
        optional=fields["isOptional"].flag() or "defaultValue" in fields,
        description=fields["description"].told_text(),
        literals=_literals(fields["literals"], kind),
    )


def _literals(part: Part, kind: ParameterType) -> tuple[Json, ...]:
    """Reads the only values that a parameter may have; none where one of them cannot be told."""
    found = [one.value() for one in part.items()]
    return tuple(typed(value, kind) for _, value in found) if all(known for known, _ in found) else ()


def _output(name: str, part: Part) -> Parameter:
    fields = part.fields(levels.OUTPUT_PARAMETER)
    declared, kind = _type(fields)
    return Parameter(name=name, type=kind, declared_type=declared, description=fields["description"].told_text())


def _type(fields: Fields) -> tuple[str, ParameterType]:
    """Reads a type; schema 2.0.0 says `type`, with other names."""
    old = "parameterType" not in fields and "type" in fields
    part = fields["type" if old else "parameterType"]
    declared = part.told_text()
    kind = (_OLD_TYPES if old else _TYPES).get(declared)
    if kind is None:
        part.note()
    return declared, kind or ParameterType.UNKNOWN


def _artifact(name: str, part: Part) -> Artifact:
    fields = part.fields(levels.ARTIFACT)
    return Artifact(
        name=name,
        type=_artifact_type(fields["artifactType"]),
        is_list=fields["isArtifactList"].flag(),
        optional=fields["isOptional"].flag(),
        description=fields["description"].told_text(),
    )


def _artifact_type(part: Part) -> str:
    """Reads the schema's title; old specs hold a whole schema as YAML."""
    fields = part.fields(levels.ARTIFACT_TYPE)
    told = fields["schemaTitle"].told_text() or fields["schemaUri"].told_text()
    if told or not fields.has("instanceSchema"):
        return told
    title = _TITLE.search(fields["instanceSchema"].told_text())
    if title is None:
        fields["instanceSchema"].note()
    return title[1] if title else ""
