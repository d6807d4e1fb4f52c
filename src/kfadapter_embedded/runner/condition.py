"""Evaluates conditions and selectors of tasks, expressions in CEL, like KFP's driver (`expression/expression.go`)."""

from __future__ import annotations

from collections.abc import Mapping

from kfadapter_embedded.json_text import JsonValue

from .values import ValueFaultError, as_text

_FIELDS = {
    bool: "bool_value",
    int: "number_value",
    float: "number_value",
    str: "string_value",
    list: "list_value",
    dict: "struct_value",
}


def holds(condition: str, parameters: Mapping[str, JsonValue]) -> bool:
    """Evaluates a condition such as `int(inputs.parameter_values['n']) > 3`.

    Raises ValueFaultError if it cannot be parsed, or a value has the wrong type.
    """
    from . import cel  # noqa: PLC0415  # loads a parser: 0.1 s, which runs without conditions do not need

    # The fields of the message ExecutorInput; the driver evaluates this before it knows of artifacts' and output files.
    inputs: JsonValue = {"parameters": {}, "artifacts": {}, "parameter_values": dict(parameters)}
    outputs: JsonValue = {"parameters": {}, "artifacts": {}, "output_file": ""}
    try:
        value = cel.evaluated(condition, {"inputs": inputs, "outputs": outputs})
    except cel.CelError as error:
        raise ValueFaultError(f"the condition {condition!r} cannot be decided: {error}") from None
    if not isinstance(value, bool):
        raise ValueFaultError(f"the condition {condition!r} is not bool, it is {as_text(value)[:100]}")
    return value


def picked(value: JsonValue, selector: str) -> JsonValue:
    """Selects a part of a value, with a selector such as `parseJson(string_value)["name"]`.

    Raises ValueFaultError if there is no such part, or the selector is invalid.
    """
    from . import cel  # noqa: PLC0415  # as above

    # The fields of the message google.protobuf.Value; every value has a string form (`Select`).
    fields = {_FIELDS.get(type(value), "null_value"): value, "string_value": as_text(value)}
    try:
        return cel.evaluated(selector, fields)
    except cel.CelError as error:
        raise ValueFaultError(f"evaluation of parameter expression selector {selector!r} failed: {error}") from None
