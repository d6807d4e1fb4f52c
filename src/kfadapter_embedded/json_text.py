"""JSON as KFP's API reads and writes it: proto3's form, which omits empty fields."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import NoReturn, TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

# Outside this range Go's JSON uses exponents.
_SMALLEST_PLAIN_NUMBER = 1e-6
_LARGEST_PLAIN_NUMBER = 1e21
# Outside this range of exponents `%g` of Go uses one.
_SMALLEST_PLAIN_EXPONENT, _LARGEST_PLAIN_EXPONENT = -4, 5
_GO_NAMES = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}
_FLOAT_OR_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"|(?P<float>-?\d+(?:\.\d+|(?=e))(?:e[+-]\d+)?)')
SURROGATE = re.compile("[\ud800-\udfff]")
_FRACTION = re.compile(r"\.[0-9]+")


def to_json(value: object) -> str:
    """JSON text in UTF-8 and without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def protojson(value: JsonValue) -> str:
    """JSON as KFP writes it in specs and for components: compact, keys sorted, numbers as in Go's protojson."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return _FLOAT_OR_TEXT.sub(lambda found: _go_number(float(found[0])) if found["float"] else found[0], text)


def _go_number(value: float) -> str:
    plain = value == 0 or _SMALLEST_PLAIN_NUMBER <= abs(value) < _LARGEST_PLAIN_NUMBER
    return digits_of(value) if plain else repr(value).replace("e-0", "e-")


def digits_of(value: float) -> str:
    """A number without an exponent, in the fewest digits (Go's `strconv.FormatFloat(value, 'f', -1, 64)`)."""
    return _GO_NAMES.get(str(value)) or format(Decimal(repr(value)), "f").removesuffix(".0")


def general(value: float) -> str:
    """A number in Go's `%g`: the fewest digits, with an exponent if it is small or large."""
    if not math.isfinite(value):
        return _GO_NAMES[str(value)]
    number = Decimal(repr(value)).normalize()
    exponent = number.adjusted() if value else 0
    if _SMALLEST_PLAIN_EXPONENT <= exponent <= _LARGEST_PLAIN_EXPONENT:
        return format(number, "f")
    digits = "".join(map(str, number.as_tuple().digits))
    fraction = f".{digits[1:]}" if digits[1:] else ""
    return f"{'-' if value < 0 else ''}{digits[0]}{fraction}e{exponent:+03}"


def protojson_number(value: float) -> float | int:
    """A number as KFP passes it on: written by protojson as a double and read by Python.

    A whole number is an integer below 1e21, with the shortest digits that represent the double. Negative zero is
    preserved: strings show it, `protojson` writes it as an integer.
    """
    whole = value.is_integer() and abs(value) < _LARGEST_PLAIN_NUMBER
    return int(Decimal(repr(value))) if whole and repr(value) != "-0.0" else value


def without_empty(**fields: object) -> dict[str, object]:
    """The fields that proto3 JSON writes."""
    return {name: value for name, value in fields.items() if value}


def joined(document: str, **parts: str) -> str:
    """A JSON object with further fields, all of them JSON texts; empty ones are omitted."""
    return document[:-1] + "".join(f',"{name}":{text}' for name, text in parts.items() if text) + "}"


def rfc3339(seconds: int) -> str:
    """A time as KFP writes it; 0 means "not set"."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")  # `%Y` does not pad years


def read_time(text: str) -> int:
    """The whole seconds since 1970 of an RFC 3339 time, as in KFP; without a zone it is UTC. Or ValueError."""
    time = datetime.fromisoformat(_FRACTION.sub("", text).replace("Z", "+00:00"))
    return int((time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp())


def sound_text(text: str) -> str:
    """The text with every lone surrogate, which UTF-8 cannot encode, replaced as Go's JSON replaces it."""
    return text if text.isascii() else SURROGATE.sub("\ufffd", text)


def as_served(value: JsonValue) -> JsonValue:
    """A copy with valid strings and with numbers as doubles that Go writes: 7.0 becomes 7, and -0.0 becomes 0.

    Raises RecursionError if it is nested too deeply.
    """
    if isinstance(value, dict):
        return {sound_text(key): as_served(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_served(each) for each in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return protojson_number(float(value)) or 0
    return sound_text(value) if isinstance(value, str) else value


def read_json(
    text: str | bytes,
    number: Callable[[str], object] | None = None,
    pairs: Callable[[list[tuple[str, object]]], object] | None = None,
) -> object:
    """Parses JSON as Go does, which rejects NaN and numbers beyond a double; raises ValueError or RecursionError.

    `number` parses all numbers, `pairs` makes all objects.
    """
    return json.loads(
        text,
        parse_float=number or finite,
        parse_int=number or _integer,
        parse_constant=_refuse,
        object_pairs_hook=pairs,
    )


def finite(text: str) -> float:
    """Parses a number; raises ValueError if it is out of range for a double."""
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _integer(text: str) -> int:
    finite(text)
    return int(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"invalid value {text[:40]} (JSON has no such number)")


def written_json(value: object) -> str:
    """The value as valid JSON text, with strings for the numbers that JSON does not support.

    `nan` in a file of a `dsl.OutputPath(float)` is a number for KFP's launcher.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_named(value), ensure_ascii=False)
    return sound_text(text)


def _named(value: object) -> object:
    if isinstance(value, dict):
        return {key: _named(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_named(each) for each in value]
    return json.dumps(value) if isinstance(value, float) and not math.isfinite(value) else value
