"""What KFP has against the parameters of a run, by what the pipeline declares."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .errors import invalid_input

if TYPE_CHECKING:
    from collections.abc import Mapping

_NUMBER = ("double or integer", "the parameter value is not of number value type")
_WANTED = {
    "NUMBER_DOUBLE": _NUMBER,
    "NUMBER_INTEGER": _NUMBER,
    "STRING": ("string", "the input parameter is not of string value type"),
    "BOOLEAN": ("bool", "the input parameter is not of bool value type"),
    "LIST": ("list", "the input parameter is not of list value type"),
    "STRUCT": ("struct", "the input parameter is not of struct value type"),
}


def check_parameters(spec: Mapping[str, object], values: Mapping[str, object]) -> None:
    """Checks the values that a run is given; the first fault counts, by name.

    Args:
        spec: a pipeline spec as KFP serves it, bare or wrapped; KFP v1's workflows declare nothing.
        values: names and values.

    Raises:
        KfpError: a value is missing, not known, or of the wrong type.
    """
    if spec.get("kind") == "Workflow":
        return
    declared = _declared(spec)
    for name, declaration in sorted(declared.items()):
        if name in values:
            _check_type(name, declaration.get("parameterType"), values[name])
            _check_literals(name, declaration.get("literals"), values[name])
        elif not declaration.get("isOptional") and "defaultValue" not in declaration:
            raise invalid_input(
                f"parameter {name} is not optional, yet has neither default value nor user provided value"
            )
    if unknown := sorted(values.keys() - declared.keys()):
        raise invalid_input(f"parameter(s) provided are not required by pipeline: {', '.join(unknown)}")


def _bare(spec: Mapping[str, object]) -> Mapping[str, object]:
    """The pipeline spec itself, without the platform spec."""
    wrapped = spec.get("pipeline_spec")
    return wrapped if isinstance(wrapped, dict) else spec


def _declared(spec: Mapping[str, object]) -> dict[str, dict[str, object]]:
    found: object = _bare(spec)
    for key in ("root", "inputDefinitions", "parameters"):
        found = found.get(key) if isinstance(found, dict) else None
    return {name: each for name, each in found.items() if isinstance(each, dict)} if isinstance(found, dict) else {}


def _check_type(name: str, kind: object, value: object) -> None:
    if kind == "TASK_FINAL_STATUS":
        raise invalid_input(
            f"input parameter {name} requires type TASK_FINAL_STATUS, which is invalid for root component"
        )
    if kind not in _WANTED:
        raise invalid_input(f"input parameter {name} requires type unknown")
    if not _fits(str(kind), value):
        wanted, complaint = _WANTED[str(kind)]
        raise invalid_input(f"input parameter {name} requires type {wanted}, but {complaint}")


def _check_literals(name: str, literals: object, value: object) -> None:
    if isinstance(literals, list) and literals and value not in literals:
        told, allowed = (json.dumps(one, ensure_ascii=False) for one in (value, literals))
        raise invalid_input(
            f'input parameter "{name}" value {told} does not match any of the allowed literal values: {allowed}'
        )


def _fits(kind: str, value: object) -> bool:
    if kind in {"NUMBER_DOUBLE", "NUMBER_INTEGER"}:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, {"STRING": str, "BOOLEAN": bool, "LIST": list, "STRUCT": dict}[kind])
