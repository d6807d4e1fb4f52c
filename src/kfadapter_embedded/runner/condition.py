"""The conditions of a pipeline's tasks: the part of CEL that KFP's compiler writes.

It is brought into Python's syntax, where it means the same, and Python's parser makes the tree that is then decided.
"""

from __future__ import annotations

import ast
import operator
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kfadapter_embedded.json_text import JsonValue

_TOKEN = re.compile(
    r"""\s*(?:inputs\.parameter_values\[(?P<quote>['"])(?P<input>.+?)(?P=quote)\]
    |(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
    |(?P<word>[A-Za-z_]\w*)
    |(?P<sign>&&|\|\||==|!=|<=|>=|[<>!()]))""",
    re.VERBOSE,
)
_COMPARISONS: dict[type[ast.cmpop], Callable[..., bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
# `not` would bind less than comparisons do, and `!` binds more.
_SIGNS = {"&&": " and ", "||": " or ", "!": "~"}
_WORDS: dict[str, JsonValue] = {"true": True, "false": False, "null": None}


class ConditionError(Exception):
    """The condition cannot be decided; the text says why."""


def holds(condition: str, parameters: Mapping[str, JsonValue]) -> bool:
    """Decides a condition such as `int(inputs.parameter_values['n']) > 3`.

    Raises:
        ConditionError: it cannot be read, or a value has a type that it does not fit.
    """
    values: dict[str, JsonValue] = {}
    try:
        tree = ast.parse(_translated(condition, parameters, values), mode="eval")
        value = _decided(tree.body, values)
    except ConditionError as error:
        raise ConditionError(f"the condition {condition!r} {error}") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConditionError(f"the condition {condition!r} cannot be read") from None
    if not isinstance(value, bool):
        raise ConditionError(f"the condition {condition!r} is neither true nor false")
    return value


def _translated(text: str, parameters: Mapping[str, JsonValue], values: dict[str, JsonValue]) -> str:
    """The condition in Python's syntax; every value in it becomes a name, and is put into `values` under that."""
    pieces, at, text = [], 0, text.rstrip()
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise ConditionError("cannot be read")
        at = token.end()
        if token["sign"] or token["word"] in _CONVERSIONS:
            pieces.append(_SIGNS.get(token["sign"], token["sign"]) or token["word"])
        else:
            pieces.append(f" v{len(values)} ")
            values[pieces[-1].strip()] = _plain(token, parameters)
    return "".join(pieces).strip()


def _plain(token: re.Match[str], parameters: Mapping[str, JsonValue]) -> JsonValue:
    if (name := token["input"]) is not None:
        if name not in parameters:
            raise ConditionError(f"asks for {name!r}, which has no value")
        return parameters[name]
    if token["string"] is not None:
        return re.sub(r"\\(.)", r"\1", token["string"][1:-1])
    if token["number"] is not None:
        return int(token["number"]) if token["number"].lstrip("-").isdecimal() else float(token["number"])
    if token["word"] not in _WORDS:
        raise ConditionError("cannot be read")
    return _WORDS[token["word"]]


def _decided(node: ast.expr, values: Mapping[str, JsonValue]) -> JsonValue:
    match node:
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.BoolOp(op=sign, values=operands):
            truths = [_truth(_decided(each, values)) for each in operands]
            return all(truths) if isinstance(sign, ast.And) else any(truths)
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return not _truth(_decided(operand, values))
        case ast.Compare(left=left, ops=[sign], comparators=[right]):
            return _compared(sign, _decided(left, values), _decided(right, values))
        case ast.Call(func=ast.Name(id=kind), args=[argument], keywords=[]):
            return _converted(kind, _decided(argument, values))
    raise ConditionError("cannot be read")


def _truth(value: JsonValue) -> bool:
    if not isinstance(value, bool):
        raise ConditionError(f"takes {value!r} for true or false")
    return value


def _compared(sign: ast.cmpop, left: JsonValue, right: JsonValue) -> bool:
    try:
        return _COMPARISONS[type(sign)](left, right)
    except TypeError:
        raise ConditionError(f"compares {left!r} with {right!r}") from None


def _converted(kind: str, value: JsonValue) -> JsonValue:
    try:
        return _CONVERSIONS[kind](value)
    except (TypeError, ValueError):
        raise ConditionError(f"takes {value!r} for {kind}") from None


def _to_int(value: JsonValue) -> JsonValue:
    return int(value) if isinstance(value, str) else int(_to_float(value))


def _to_float(value: JsonValue) -> float:
    if isinstance(value, list | dict) or value is None:
        raise TypeError
    return float(value)


def _to_text(value: JsonValue) -> JsonValue:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _to_bool(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return {"true": True, "false": False}[value.lower()] if value.lower() in {"true", "false"} else value
    return value


_CONVERSIONS: dict[str, Callable[[JsonValue], JsonValue]] = {
    "int": _to_int,
    "double": _to_float,
    "float": _to_float,
    "string": _to_text,
    "bool": _to_bool,
}
