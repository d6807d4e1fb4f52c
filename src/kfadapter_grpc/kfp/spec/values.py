"""Values of parameters: in their own type, as JSON, and not too deep."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from kfadapter_grpc.contract.spec import ParameterType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kfadapter_grpc.contract.spec import Json

_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeError)
_PYTHON_TYPES: dict[ParameterType, type | tuple[type, ...]] = {
    ParameterType.NUMBER_INTEGER: (int, float),
    ParameterType.NUMBER_DOUBLE: (int, float),
    ParameterType.BOOLEAN: bool,
    ParameterType.LIST: list,
    ParameterType.STRUCT: dict,
}


def typed(value: Json, kind: ParameterType) -> Json:
    """Makes a number one of its type: JSON does not tell 7 from 7.0."""
    if isinstance(value, float) and kind is ParameterType.NUMBER_INTEGER and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and kind is ParameterType.NUMBER_DOUBLE:
        return _double(value)
    return value


def _double(value: int) -> float | int:
    try:
        return float(value)
    except OverflowError:
        return value


def parsed(value: Json, kind: ParameterType) -> Json:
    """Reads a default that KFP v1 keeps as a text; one that is not of its type stays a text."""
    expected = _PYTHON_TYPES.get(kind)
    if expected is None or not isinstance(value, str):
        return typed(value, kind)
    text = value.strip().lower() if kind is ParameterType.BOOLEAN else value
    try:
        found: Json = msgspec.json.decode(text)
    except _UNREADABLE:
        return value
    result = typed(found, kind)
    fits = isinstance(result, int if kind is ParameterType.NUMBER_INTEGER else expected)
    return result if fits and (kind is ParameterType.BOOLEAN or not isinstance(result, bool)) else value


def one_line(value: Json) -> str:
    """Writes a value as JSON in one line, every script as itself; whole numbers without a fraction."""
    return json.dumps(_with_whole_numbers(value), ensure_ascii=False)


def one_line_of(text: str) -> str | None:
    """Writes a text of JSON anew as `one_line` does; None where it is no JSON, or nested too deep."""
    try:
        value: Json = msgspec.json.decode(text)
    except _UNREADABLE:
        return None
    return None if is_deeper(value, 100) else one_line(value)


def _with_whole_numbers(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _with_whole_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def is_deeper(value: Json, levels: int) -> bool:
    """Tells whether lists and mappings are nested in `value` more than `levels` deep."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [inner for outer in layer for inner in _inside(outer)]
    return bool(layer)


def _inside(value: Json) -> Iterable[Json]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
