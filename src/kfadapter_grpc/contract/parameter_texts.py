"""Values of parameters that came as texts, and what they are by the pipeline's declaration."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.spec import ParameterType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kfadapter_grpc.contract.spec import Json, Parameter

_INTEGER = re.compile(r"[+-]?[0-9]+")
_MAX_DIGITS = 300
_TRUTH: dict[str, Json] = {"true": True, "false": False}


def typed_values(texts: Mapping[str, str], declared: Iterable[Parameter]) -> dict[str, Json]:
    """Makes values of the declared types.

    What is no such value stays a text, and so does what is not declared: the adapter, which checks everything before
    Kubeflow Pipelines is asked, tells all that is wrong at once.
    """
    types = {parameter.name: parameter.type for parameter in declared}
    return {name: _value(text, types.get(name, ParameterType.UNKNOWN)) for name, text in texts.items()}


def _value(text: str, kind: ParameterType) -> Json:
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


def _document(text: str, wanted: type[list[Json] | dict[str, Json]]) -> Json:
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, wanted) else text
