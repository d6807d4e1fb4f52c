"""Which JSON values a google.protobuf.Value can carry, and what replaces those that it cannot.

A Value holds doubles and valid Unicode, and protobuf reads no message nested deeper than 100 levels, of which each list
takes two and each object three.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from kfadapter_grpc.contract.errors import FieldViolation
from kfadapter_grpc.contract.spec import Json

LARGEST_EXACT_INTEGER = 2**53
"""Integers up to here are exact in a double, and so are their negatives."""
MAX_LEVELS = 90
"""How many of protobuf's 100 levels a value may take: the messages around it take up to 9, in an event of a watch."""
LIST_LEVELS, OBJECT_LEVELS = 2, 3
"""How many levels a list and an object take."""
NESTED_TOO_DEEPLY = "nested too deeply"
MAX_OBJECT_LEVELS = MAX_LEVELS + OBJECT_LEVELS
"""The same for a Struct, which is an object without a Value around it."""
_NO_DOUBLE = "not a finite 64-bit number"
_BEYOND_INTEGERS = "integer beyond 2^53"
_LONE_SURROGATE = "lone surrogate"
_ADVICE = {
    _NO_DOUBLE: "is NaN, infinite or beyond a double, which JSON cannot represent",
    _BEYOND_INTEGERS: "is an integer beyond 2^53, which JSON does not keep exactly; send it as text",
    _LONE_SURROGATE: "contains a lone surrogate, which is not valid text",
    NESTED_TOO_DEEPLY: f"is nested too deeply: at most {MAX_LEVELS // LIST_LEVELS} lists or "
    f"{MAX_LEVELS // OBJECT_LEVELS} objects inside each other",
}
_MAX_REPLACEMENTS = 20
_MAX_PATH_CHARACTERS = 120

Path: TypeAlias = "tuple[Path, str] | None"
"""The position of a value: the path of its parent, and its own part (`.key` or `[3]`)."""


class NumberText(str):
    """A number that no double can hold, as it was written: `1e999`, `NaN`, or one with 5000 digits."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Replacement:
    """A part of a value that had to be replaced; its path is like `parameters.x[3]`."""

    path: str
    why: str
    shown_as: str

    def __str__(self) -> str:
        return f"{self.path}: {self.why}; shown as {self.shown_as}"


@dataclass(slots=True)
class Replacements:
    """Collects replacements: the first 20, and how many more there are."""

    first: list[Replacement] = field(default_factory=list)
    more: int = 0

    def add(self, path: Path, why: str, shown_as: str = "text") -> None:
        if len(self.first) < _MAX_REPLACEMENTS:
            self.first.append(Replacement(path_text(path), why, shown_as))
        else:
            self.more += 1

    def texts(self) -> list[str]:
        return [*map(str, self.first), *([f"{self.more} more values were replaced"] if self.more else [])]


def representable(value: Json, path: Path, replaced: Replacements, levels: int = MAX_LEVELS) -> Json:
    """The value, with a text instead of every part that a google.protobuf.Value of this many levels cannot represent.

    NaN and infinite numbers are replaced by their names, integers beyond 2^53 and other numbers that no double holds by
    their digits, too deeply nested parts by their JSON text, and lone surrogates in texts by U+FFFD.
    """
    return value if _is_representable(value, levels) else _replaced(value, path, replaced, levels)


def _is_representable(value: Json, levels: int) -> bool:
    """Whether nothing has to be replaced, as in nearly all values; so it builds nothing."""
    if isinstance(value, dict | list):
        levels -= OBJECT_LEVELS if isinstance(value, dict) else LIST_LEVELS
        if levels < 0:
            return False
        if isinstance(value, dict):
            return all(_is_well_formed(key) and _is_representable(item, levels) for key, item in value.items())
        return all(_is_representable(item, levels) for item in value)
    if isinstance(value, str):
        return type(value) is str and _is_well_formed(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, int) and -LARGEST_EXACT_INTEGER <= value <= LARGEST_EXACT_INTEGER)


def _is_well_formed(text: str) -> bool:
    return text.isascii() or well_formed(text) == text


def _replaced(value: Json, path: Path, replaced: Replacements, levels: int) -> Json:
    if not isinstance(value, dict | list | tuple):
        return _scalar(value, path, replaced)
    levels -= OBJECT_LEVELS if isinstance(value, dict) else LIST_LEVELS
    if levels < 0:
        replaced.add(path, NESTED_TOO_DEEPLY, "JSON text")
        return json_text(value)
    if isinstance(value, dict):
        return {
            _text(key, (path, f".{key}"), replaced): _replaced(item, (path, f".{key}"), replaced, levels)
            for key, item in value.items()
        }
    return [_replaced(item, (path, f"[{index}]"), replaced, levels) for index, item in enumerate(value)]


def _scalar(value: Json, path: Path, replaced: Replacements) -> Json:
    if isinstance(value, str):
        return _text(value, path, replaced)
    if isinstance(value, float) and not math.isfinite(value):
        replaced.add(path, _NO_DOUBLE)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int) and abs(value) > LARGEST_EXACT_INTEGER:
        replaced.add(path, _BEYOND_INTEGERS)
        return _digits(value)
    return value


def object_violations(values: Mapping[str, Json], name: str) -> list[FieldViolation]:
    """The violations of an object that is to be sent as google.protobuf.Struct; each with its path."""
    replaced = Replacements()
    representable(dict(values), (None, name), replaced, MAX_OBJECT_LEVELS)
    return [
        FieldViolation(replacement.path, _ADVICE.get(replacement.why, replacement.why))
        for replacement in replaced.first
    ]


def json_text(value: Json) -> str:
    """The value as valid JSON, whatever it contains."""
    try:
        return well_formed(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    except (RecursionError, ValueError):
        return "(nested too deeply to be shown)"


def well_formed(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which UTF-8 cannot encode."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _text(text: str, path: Path, replaced: Replacements) -> str:
    if isinstance(text, NumberText):
        replaced.add(path, _NO_DOUBLE)
        return str(text)
    valid = well_formed(text)
    if valid != text:
        replaced.add(path, _LONE_SURROGATE, "U+FFFD")
    return valid


def _digits(number: int) -> str:
    try:
        return str(number)
    except ValueError:  # Python writes no more than 4300 digits
        return hex(number)


def path_text(path: Path) -> str:
    """The path as text, shortened in the middle."""
    parts: list[str] = []
    while path is not None:
        path, part = path
        parts.append(part)
    text = well_formed("".join(reversed(parts)).removeprefix("."))
    half = _MAX_PATH_CHARACTERS // 2
    return text if len(text) <= _MAX_PATH_CHARACTERS else f"{text[:half]}…{text[-half:]}"
