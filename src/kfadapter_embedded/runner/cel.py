"""Evaluates CEL with cel-python, as cel-go 0.27 does for KFP's driver.

Where the two differ, functions of this module replace cel-python's: equality of different types, comparison of numbers
of different types, conversions. All numbers of KFP are doubles. cel-go accepts, but cel-python does not: a comma at the
end of a list, duplicate keys in a map, message literals.
"""

from __future__ import annotations

import functools
import logging
import operator
import re
from typing import TYPE_CHECKING, TypeAlias, cast

import celpy
from celpy import celtypes
from celpy.celparser import CELParseError
from celpy.evaluation import CELEvalError, CELSyntaxError, CELUnsupportedError, base_functions

from kfadapter_embedded.json_text import general, protojson_number

from .cel_types import CheckError, check
from .values import ValueFaultError, load_json, parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celpy.evaluation import CELFunction

    from kfadapter_embedded.json_text import JsonValue

    Function: TypeAlias = Callable[..., object]

_INT_BITS = 63
_NUMBERS = {"int", "uint", "double"}
_COUNTED = {*_NUMBERS, "timestamp", "duration"}
_JOINED = [{"string"}, {"bytes"}, {"list"}]
# The order matters: a bool of CEL is an int in Python. Some sums are plain Python values.
_KINDS: dict[str, tuple[type, ...]] = {
    "bool": (celtypes.BoolType, bool),
    "uint": (celtypes.UintType,),
    "int": (int,),
    "double": (float,),
    "string": (str,),
    "bytes": (bytes,),
    "list": (list,),
    "map": (dict,),
    "timestamp": (celtypes.TimestampType,),
    "duration": (celtypes.DurationType,),
    "null_type": (type(None),),
}

logging.getLogger("celpy").setLevel(logging.CRITICAL)


class CelError(Exception):
    """An expression cannot be parsed or evaluated; the message has the reason."""


def evaluated(text: str, variables: Mapping[str, JsonValue]) -> JsonValue:
    """The value of an expression; raises CelError if it cannot be evaluated."""
    try:
        program = _program(text, tuple(variables))
        return _plain(program.evaluate({name: _cel(value) for name, value in variables.items()}))
    except CELParseError as error:
        raise CelError(f"Syntax error at {error.line}:{error.column}") from None
    except (CELEvalError, CELSyntaxError, CELUnsupportedError, CheckError) as error:
        raise CelError(str(error.args[0])) from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise CelError(str(error)) from None


@functools.lru_cache(maxsize=256)
def _program(text: str, variables: tuple[str, ...]) -> celpy.Runner:
    environment = celpy.Environment()
    tree = environment.compile(text)
    check(tree, variables)
    return environment.program(tree, functions=cast("dict[str, CELFunction]", _FUNCTIONS))


def _cel(value: JsonValue) -> celtypes.Value:
    if isinstance(value, bool):
        return celtypes.BoolType(value)
    if isinstance(value, int | float):
        return celtypes.DoubleType(value)
    if isinstance(value, str):
        return celtypes.StringType(value)
    if isinstance(value, list):
        return celtypes.ListType([_cel(each) for each in value])
    if isinstance(value, dict):
        return celtypes.MapType({celtypes.StringType(key): _cel(each) for key, each in value.items()})
    return None


def _plain(value: object) -> JsonValue:
    kind = _kind(value)
    if kind in _NUMBERS:
        return protojson_number(float(cast("float", value)))
    if isinstance(value, list):
        return [_plain(each) for each in list.__iter__(value)]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if kind in {"bool", "null_type"}:
        return None if value is None else bool(value)
    if kind != "string":
        raise CELEvalError(f"proto: invalid type: {kind}")
    return str(value)


def _kind(value: object) -> str:
    return next((name for name, kind in _KINDS.items() if isinstance(value, kind)), "type")


def _overloaded(function: Function) -> Function:
    """A function that returns an error it gets as an argument: `&&` and `||` may not need the value."""

    @functools.wraps(function)
    def called(*values: object) -> object:
        return next((each for each in values if isinstance(each, CELEvalError)), None) or function(*values)

    return called


def _none(name: str, *values: object) -> CELEvalError:
    return CELEvalError(f"no such overload: {name}({', '.join(map(_kind, values))})")


def _equal(left: object, right: object) -> bool:
    kinds = {_kind(left), _kind(right)}
    if kinds <= _NUMBERS:
        return len({*_numbers(left, right)}) == 1
    if len(kinds) > 1:
        return False
    if isinstance(left, list) and isinstance(right, list):
        pairs = zip(list.__iter__(left), list.__iter__(right), strict=False)
        return len(left) == len(right) and all(_equal(*pair) for pair in pairs)
    if isinstance(left, dict) and isinstance(right, dict):
        return len(left) == len(right) and all(
            any(_equal(key, other) and _equal(value, found) for other, found in right.items())
            for key, value in left.items()
        )
    return left is right if kinds == {"type"} else bool(left == right)


def _number(value: object) -> float | int:
    return float(value) if isinstance(value, float) else int(cast("int", value))


def _numbers(left: object, right: object) -> tuple[float, float]:
    """Two numbers to compare: an int is compared with a double as a double."""
    pair = _number(left), _number(right)
    return (float(pair[0]), float(pair[1])) if any(isinstance(one, float) for one in pair) else pair


def _comparison(name: str, compare: Callable[..., bool]) -> Function:
    def compared(left: object, right: object) -> object:
        kinds = {_kind(left), _kind(right)}
        if kinds <= _NUMBERS:
            return celtypes.BoolType(compare(*_numbers(left, right)))
        if len(kinds) > 1 or kinds <= {"list", "map", "null_type", "type"}:
            return _none(name, left, right)
        return celtypes.BoolType(bool(compare(left, right)))

    return _overloaded(compared)


def _arithmetic(name: str) -> Function:
    def computed(left: object, right: object) -> object:
        kinds = {_kind(left), _kind(right)}
        mixed = len(kinds) > 1 and bool(kinds & _NUMBERS)
        joined = name == "_+_" and kinds in _JOINED
        if mixed or (kinds - _COUNTED and not joined) or (name == "_%_" and kinds == {"double"}):
            return _none(name, left, right)
        return base_functions[name](left, right)

    return _overloaded(computed)


def _logical(name: str, *, decisive: bool) -> Function:
    """`&&` or `||`, which one bool may decide whatever the other value is, even an error."""

    def joined(*values: object) -> object:
        if any(_kind(one) == "bool" and bool(one) is decisive for one in values):
            return celtypes.BoolType(decisive)
        faults = (one for one in values if isinstance(one, CELEvalError))
        undecided = celtypes.BoolType(not decisive)
        return next(faults, undecided if {*map(_kind, values)} == {"bool"} else _none(name, *values))

    return joined


def _of_texts(name: str) -> Function:
    def called(*values: object) -> object:
        return base_functions[name](*values) if {*map(_kind, values)} == {"string"} else _none(name, *values)

    return _overloaded(called)


def _within(item: object, container: object) -> object:
    if isinstance(container, list):
        return celtypes.BoolType(any(_equal(item, each) for each in list.__iter__(container)))
    if isinstance(container, dict):
        return celtypes.BoolType(any(_equal(item, each) for each in container))
    return _none("_in_", item, container)


def _indexed(container: object, index: object) -> object:
    if isinstance(container, list):
        if _kind(index) not in _NUMBERS or not float(cast("float", index)).is_integer():
            return CELEvalError(f"unsupported index type {_kind(index)!r} in list")
        at = int(cast("int", index))
        return (
            list.__getitem__(container, at) if 0 <= at < len(container) else CELEvalError(f"index out of bounds: {at}")
        )
    if isinstance(container, dict):
        found = (value for key, value in container.items() if _equal(key, index))
        return next(found, CELEvalError(f"no such key: {index}"))
    return _none("_[_]", container, index)


def _to_int(value: object) -> object:
    if isinstance(value, str):
        whole = re.fullmatch("[+-]?[0-9]+", value)
        return celtypes.IntType(int(value)) if whole else _unreadable("int")
    if _kind(value) == "timestamp":
        return base_functions["int"](value)
    if _kind(value) not in _NUMBERS:
        return _none("int", value)
    number = int(cast("float", value))
    limit = 1 << _INT_BITS
    return celtypes.IntType(number) if -limit <= number < limit else CELEvalError("integer overflow")


def _to_double(value: object) -> object:
    if isinstance(value, str):
        return _read(str(value), "NUMBER_DOUBLE", "double")
    return celtypes.DoubleType(_number(value)) if _kind(value) in _NUMBERS else _none("double", value)


def _to_bool(value: object) -> object:
    if isinstance(value, str):
        return _read(str(value), "BOOLEAN", "bool")
    return value if _kind(value) == "bool" else _none("bool", value)


def _read(text: str, kind: str, name: str) -> object:
    """Parses a string as Go's ParseFloat or ParseBool does."""
    try:
        return _cel(parsed(text, kind)) if text == text.strip() else _unreadable(name)
    except ValueFaultError:
        return _unreadable(name)


def _unreadable(name: str) -> CELEvalError:
    return CELEvalError(f"type conversion error from 'string' to '{name}'")


def _to_string(value: object) -> object:
    kind = _kind(value)
    if kind in {"list", "map", "null_type", "type"}:
        return _none("string", value)
    if isinstance(value, float):
        return celtypes.StringType(general(float(value)))
    if kind == "bool":
        return celtypes.StringType("true" if value else "false")
    return base_functions["string"](value)


def _parse_json(value: object) -> object:
    if not isinstance(value, str):
        return _none("parseJson", value)
    try:
        return _cel(load_json(str(value)))
    except (ValueError, RecursionError) as error:
        return CELEvalError(f"failed to unmarshal JSON: {error}")


def _type(value: object) -> object:
    return {**base_functions, **_FUNCTIONS}[_kind(value)]


_FUNCTIONS: dict[str, Function] = {
    "_&&_": _logical("_&&_", decisive=False),
    "_||_": _logical("_||_", decisive=True),
    "_==_": _overloaded(lambda left, right: celtypes.BoolType(_equal(left, right))),
    "_!=_": _overloaded(lambda left, right: celtypes.BoolType(not _equal(left, right))),
    "_<_": _comparison("_<_", operator.lt),
    "_<=_": _comparison("_<=_", operator.le),
    "_>_": _comparison("_>_", operator.gt),
    "_>=_": _comparison("_>=_", operator.ge),
    **{name: _arithmetic(name) for name in ("_+_", "_-_", "_*_", "_/_", "_%_")},
    **{name: _of_texts(name) for name in ("startsWith", "endsWith", "contains", "matches")},
    "_in_": _overloaded(_within),
    "_[_]": _overloaded(_indexed),
    "int": _overloaded(_to_int),
    "uint": _overloaded(
        lambda value: _none("uint", value) if _kind(value) == "bool" else base_functions["uint"](value)
    ),
    "double": _overloaded(_to_double),
    "bool": _overloaded(_to_bool),
    "string": _overloaded(_to_string),
    "type": _overloaded(_type),
    "dyn": _overloaded(lambda value: value),
    "parseJson": _overloaded(_parse_json),
}
