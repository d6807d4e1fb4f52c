"""Values in a summary: in their own type, as text, their sources, and their sizes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, TypeAlias

import msgspec

from kfadapter_grpc.contract.spec import Json, ParameterType, TaskResources

UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeError)
"""The errors of decoding broken or mistyped JSON."""
ITEM = "item"

_MAX_LENGTH = 300
_MAX_ITEMS_LENGTH = 40
_PYTHON_TYPES: dict[ParameterType, type | tuple[type, ...]] = {
    ParameterType.NUMBER_INTEGER: (int, float),
    ParameterType.NUMBER_DOUBLE: (int, float),
    ParameterType.BOOLEAN: bool,
    ParameterType.LIST: list,
    ParameterType.STRUCT: dict,
}


def typed(value: Json, kind: ParameterType) -> Json:
    """Converts a number to its type: JSON does not distinguish 7 from 7.0."""
    if isinstance(value, float) and kind is ParameterType.NUMBER_INTEGER and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and kind is ParameterType.NUMBER_DOUBLE:
        try:
            return float(value)
        except OverflowError:
            return value
    return value


def parsed(value: Json, kind: ParameterType) -> Json:
    """Reads a default that KFP v1 keeps as a text; one that is not of its type stays a text."""
    expected = _PYTHON_TYPES.get(kind)
    if expected is None or not isinstance(value, str):
        return typed(value, kind)
    text = value.strip().lower() if kind is ParameterType.BOOLEAN else value
    try:
        decoded: Json = msgspec.json.decode(text)
    except UNREADABLE:
        return value
    result = typed(decoded, kind)
    fits = isinstance(result, int if kind is ParameterType.NUMBER_INTEGER else expected)
    return result if fits and (kind is ParameterType.BOOLEAN or not isinstance(result, bool)) else value


def one_line(value: Json) -> str:
    """Writes a value as JSON on one line, every script unescaped; whole numbers without a fraction."""
    return json.dumps(_with_whole_numbers(value), ensure_ascii=False)


def one_line_of(text: str) -> str | None:
    """Rewrites JSON text as `one_line` does; None if it is not JSON, or nested too deep."""
    try:
        value: Json = msgspec.json.decode(text)
    except UNREADABLE:
        return None
    return None if is_deeper(value, 100) else one_line(value)


def _with_whole_numbers(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _with_whole_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def is_deeper(value: Json, levels: int) -> bool:
    """Returns whether lists and mappings are nested in `value` more than `levels` deep."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [inner for outer in layer for inner in _inside(outer)]
    return bool(layer)


def _inside(value: Json) -> Iterable[Json]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def shortened(text: str) -> str:
    """Truncates a text that is too long to be a part of another one."""
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 1]}…"


@dataclass(frozen=True, slots=True)
class Source:
    """The source of a value: `train.loss`, a parameter's name, or `item.name of files`, an item of a loop."""

    text: str
    of: str = ""

    @property
    def label(self) -> str:
        return f"{self.text} of {self.of}" if self.of else self.text

    def field(self, key: str) -> Source:
        return Source(shortened(f"{self.text}.{key}"), self.of) if key else self


Sources: TypeAlias = Callable[[str], Source | None]
"""Finds the source of a name that is known in a group. A function, not a mapping: most names are never looked up."""


def no_sources(_name: str) -> Source | None:
    """Around the whole pipeline nothing is known: its parameters are called by their own names."""
    return None


def item_of(items: str, loop: str) -> Source:
    """The item of a loop over `items`; long lists are called by the name of the loop."""
    long_list = len(items) > _MAX_ITEMS_LENGTH and items.startswith(("[", "{"))
    return Source(ITEM, shortened(loop if long_list or not items else items))


def fill_resources(resources: TaskResources | None, fill: Callable[[str], str]) -> TaskResources | None:
    return resources and TaskResources(*(fill(getattr(resources, name)) for name in _names(TaskResources)))


def text_weight(text: str) -> int:
    """The size of a text in a response, with its tag and length, in bytes."""
    return (len(text) if text.isascii() else len(text.encode("utf-8", "replace"))) + 4


def weight(value: object) -> int:
    """The size of a value or record in a response, in bytes, rounded up.

    It limits a summary while it is made, and a page of versions that contain summaries.
    """
    if isinstance(value, str):
        return 8 + text_weight(value) if value else 2
    if value is None or value is False:
        return 2
    kind: Any = type(value)
    if names := _names(kind):
        return 30 + sum([weight(getattr(value, name)) for name in names])
    if isinstance(value, dict):
        return 12 + sum(12 + weight(key) + weight(inner) for key, inner in value.items())
    if isinstance(value, list):
        return 12 + sum(8 + weight(inner) for inner in value)
    return sum(map(weight, value)) if isinstance(value, tuple) else 12


@cache
def _names(record: Any) -> tuple[str, ...]:  # noqa: ANN401 - a type
    """The names of the fields of a dataclass; of another type, none."""
    return tuple(field.name for field in fields(record)) if is_dataclass(record) else ()
