"""Texts and values from JSON, made fit to be stored."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

# Beyond this Go writes numbers with an exponent, so there is no shorter form to make.
_LARGEST_PLAIN_NUMBER = 1e21
_SURROGATE = re.compile("[\ud800-\udfff]")


def sound_text(text: str) -> str:
    """The text with every half of a surrogate pair, which UTF-8 cannot hold, replaced as Go's JSON replaces it."""
    return _SURROGATE.sub("\ufffd", text)


def sound_value(value: object) -> object:
    """A JSON value with all of its texts made sound, and its numbers as Go writes them.

    Raises:
        RecursionError: it is too deep.
    """
    if isinstance(value, dict):
        return {sound_text(key): sound_value(each) for key, each in value.items()}
    if isinstance(value, list):
        return [sound_value(each) for each in value]
    if isinstance(value, float):
        return go_number(value)
    return sound_text(value) if isinstance(value, str) else value


def go_number(value: float) -> float:
    """The number as Go's JSON writes it, a whole one without a fraction: 7.0 becomes 7."""
    return int(value) if value.is_integer() and abs(value) < _LARGEST_PLAIN_NUMBER else value


def read_json(text: str | bytes, number: Callable[[str], object] | None = None) -> object:
    """Reads JSON as Go does: it has no NaN, and no number beyond a double. `number` reads those with a fraction.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is too deep.
    """
    return json.loads(text, parse_float=number or finite, parse_int=_whole, parse_constant=_refuse)


def finite(text: str) -> float:
    """Reads a number.

    Raises:
        ValueError: it is beyond a double.
    """
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def written_json(value: object) -> str:
    """The value as sound JSON text, with names in place of the numbers that JSON does not have.

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
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return value


def _whole(text: str) -> int:
    finite(text)
    return int(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"invalid value {text[:40]} (JSON has no such number)")
