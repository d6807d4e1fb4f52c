"""Checks the parameters of a run against its pipeline's declarations, all of them at once."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from kfadapter_grpc.contract.errors import (
    FieldViolation,
    InvalidFieldError,
    ParameterMissingError,
    ParameterTypeError,
    ParameterUnknownError,
    listed,
)
from kfadapter_grpc.contract.spec import Json, Parameter, ParameterType
from kfadapter_grpc.contract.values import object_violations

LARGEST_INTEGER = 2**53 - 1
"""Integers up to here are exact in JSON, where every number is a double; larger ones may have been rounded."""

MAX_VIOLATIONS = 50
"""The maximum number of invalid parameters in a message; errors are sent in headers, which are small."""
_MAX_CHARACTERS = 60
_MAX_NAMES = 10
_Error: TypeAlias = type[ParameterMissingError] | type[ParameterTypeError] | type[ParameterUnknownError]
_Fault: TypeAlias = "tuple[_Error, FieldViolation]"
_PRECEDENCE: tuple[_Error, ...] = (ParameterUnknownError, ParameterTypeError, ParameterMissingError)
"""A misspelt name is unknown and leaves another one missing, so "unknown" is the more helpful error."""
_EXPECTED = {
    ParameterType.NUMBER_DOUBLE: "a number",
    ParameterType.NUMBER_INTEGER: "an integer",
    ParameterType.STRING: "a string",
    ParameterType.BOOLEAN: "true or false",
    ParameterType.LIST: "a list",
    ParameterType.STRUCT: "an object",
}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_MAX_DIGITS = 300
_TRUTH: dict[str, Json] = {"true": True, "false": False}


def check_parameters(
    declared: Sequence[Parameter], values: Mapping[str, Json], *, complete: bool = True
) -> Mapping[str, Json]:
    """Checks the parameters of a run against its pipeline's declarations.

    Unless these are `complete`, other names are left to KFP. Returns the values as KFP accepts them: whole numbers,
    which protobuf's Struct makes floats, are ints at any depth. Raises ParameterUnknownError,
    ParameterTypeError or ParameterMissingError, the first that applies; its violations name all faults.
    """
    by_name = {parameter.name: parameter for parameter in declared}
    _raise_first(list(islice(_faults(by_name, values, complete=complete), MAX_VIOLATIONS)))
    return {name: whole_numbers(value) for name, value in values.items()}


def whole_numbers(value: Json) -> Json:
    """The same value with whole floats as ints, at any depth."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_INTEGER:
        return int(value)
    if isinstance(value, list | tuple):
        return [whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: whole_numbers(item) for key, item in value.items()}
    return value


def _faults(declared: Mapping[str, Parameter], values: Mapping[str, Json], *, complete: bool) -> Iterator[_Fault]:
    for name, value in values.items():
        parameter = declared.get(name)
        text = _fault(parameter, value) if parameter is not None else ""
        if text:
            yield ParameterTypeError, _violation(name, text)
        elif parameter is None and complete:
            yield ParameterUnknownError, _violation(name, _unknown(name, declared))
    for name, parameter in declared.items():
        is_optional = parameter.has_default or parameter.optional or parameter.type is ParameterType.TASK_FINAL_STATUS
        if not is_optional and name not in values:
            yield (
                ParameterMissingError,
                _violation(name, f"has no value and no default; set it to {_expected(parameter)}"),
            )


def _raise_first(faults: Sequence[_Fault]) -> None:
    """Raises one error for all violations, of the most specific class."""
    violations = [violation for _, violation in faults]
    for kind in _PRECEDENCE:
        if any(error is kind for error, _ in faults):
            text = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
            names = ", ".join(violation.field.removeprefix("parameters.") for violation in violations)
            raise kind(text, metadata={"parameters": names}, violations=violations)


def _fault(parameter: Parameter, value: Json) -> str:
    """Returns the fault of a value; empty if it is valid."""
    if parameter.type is ParameterType.TASK_FINAL_STATUS:
        return "is set by Kubeflow Pipelines itself; omit it"
    if value is None:
        return f"is null; set it to {_expected(parameter)}, or omit it for its default"
    if not _matches(parameter.type, value):
        return f"is {_described(value)}; the pipeline declares {_expected(parameter)}"
    if not _is_json(value):
        return "contains a number that JSON does not support (NaN or infinity)"
    return _not_allowed(parameter, value)


def _not_allowed(parameter: Parameter, value: Json) -> str:
    """Returns the fault of a value of the right type; empty if it is valid."""
    if parameter.type is ParameterType.NUMBER_INTEGER and abs(float(str(value))) > LARGEST_INTEGER:
        return f"is {_described(value)}; integers are exact only up to 2^53 - 1 ({LARGEST_INTEGER})"
    if parameter.literals and value not in parameter.literals:
        return f"is {_described(value)}; the pipeline allows only {_allowed(parameter.literals)}"
    return ""


def _matches(kind: ParameterType, value: Json) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        ParameterType.NUMBER_DOUBLE: number,
        ParameterType.NUMBER_INTEGER: number and not (isinstance(value, float) and not value.is_integer()),
        ParameterType.STRING: isinstance(value, str),
        ParameterType.BOOLEAN: isinstance(value, bool),
        ParameterType.LIST: isinstance(value, list | tuple),
        ParameterType.STRUCT: isinstance(value, dict),
    }.get(kind, True)


def _is_json(value: Json) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    return all(map(_is_json, value.values())) if isinstance(value, dict) else True


def _expected(parameter: Parameter) -> str:
    expected = _EXPECTED.get(parameter.type, "a value")
    return f"{expected} ({parameter.declared_type})" if parameter.declared_type else expected


def _described(value: Json) -> str:
    """A value as shown in a message, with its kind."""
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, str):
        return f"the string '{_shortened(value)}'"
    if isinstance(value, int | float):
        return f"the number {whole_numbers(value)}"
    return "a list" if isinstance(value, list | tuple) else "an object" if isinstance(value, dict) else "null"


def _allowed(literals: Sequence[Json]) -> str:
    return listed([_shortened(json.dumps(literal, ensure_ascii=False)) for literal in literals], _MAX_NAMES)


def _shortened(text: str) -> str:
    return f"{text[:_MAX_CHARACTERS]}{'…' if len(text) > _MAX_CHARACTERS else ''}"


def _unknown(name: str, declared: Mapping[str, Parameter]) -> str:
    settable = [
        parameter.name for parameter in declared.values() if parameter.type is not ParameterType.TASK_FINAL_STATUS
    ]
    close = difflib.get_close_matches(name, settable, n=1)
    if close:
        return f"the pipeline declares no such parameter; did you mean '{close[0]}'?"
    if not settable:
        return "the pipeline declares no parameters; omit it"
    return f"the pipeline declares no such parameter; it has {listed(settable, _MAX_NAMES)}"


def _violation(name: str, text: str) -> FieldViolation:
    return FieldViolation(f"parameters.{name}", text)


def check_sendable(values: Mapping[str, Json]) -> Mapping[str, Json]:
    """Checks that values can be sent; returns them. Raises ParameterTypeError for what is not JSON.

    Raises InvalidFieldError for what no message carries: NaN, an integer beyond 2^53, too deeply nested lists.
    """
    for name, value in values.items():
        if not _is_plain(value):
            text = (
                f"is a {type(value).__name__} or contains one that is not JSON; use numbers, strings, lists and dicts"
            )
            raise ParameterTypeError(f"parameters.{name}: {text}", violations=[_violation(name, text)])
    if violations := object_violations(values, "parameters"):
        raise InvalidFieldError.of_all(violations)
    return values


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def typed_values(texts: Mapping[str, str], declared: Iterable[Parameter]) -> dict[str, Json]:
    """Converts strings to values of the declared types.

    A string that is not such a value is returned unchanged, and so is that of an undeclared parameter: the adapter
    checks all before it calls Kubeflow Pipelines, and reports all violations at once.
    """
    types = {parameter.name: parameter.type for parameter in declared}
    return {name: _parse(text, types.get(name, ParameterType.UNKNOWN)) for name, text in texts.items()}


def _parse(text: str, kind: ParameterType) -> Json:
    if kind is ParameterType.NUMBER_INTEGER:
        return int(text) if _INTEGER.fullmatch(text) and len(text) <= _MAX_DIGITS else text
    if kind is ParameterType.NUMBER_DOUBLE:
        return _number(text)
    if kind is ParameterType.BOOLEAN:
        return _TRUTH.get(text.lower(), text)
    if kind in (ParameterType.LIST, ParameterType.STRUCT):
        return _document(text, list if kind is ParameterType.LIST else dict)
    return text


def _number(text: str) -> Json:
    try:
        number = float(text) if "_" not in text else math.nan
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _document(text: str, expected: type[list[Json] | dict[str, Json]]) -> Json:
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, expected) else text
