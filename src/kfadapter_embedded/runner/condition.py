"""The conditions of a pipeline's tasks: the part of CEL that KFP's compiler writes."""

from __future__ import annotations

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
_COMPARISONS: dict[str, Callable[..., bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS: dict[str, JsonValue] = {"true": True, "false": False, "null": None}
_MAX_DEPTH = 100


class ConditionError(Exception):
    """The condition cannot be decided; the text says why."""


def holds(condition: str, parameters: Mapping[str, JsonValue]) -> bool:
    """Decides a condition.

    Args:
        condition: It, for example `int(inputs.parameter_values['n']) > 3`.
        parameters: The values that it may speak of.

    Raises:
        ConditionError: it cannot be read, or a value has a type that it does not fit.
    """
    reader = _Reader(condition, parameters)
    value = reader.whole()
    if not isinstance(value, bool):
        raise ConditionError(f"the condition {condition!r} is neither true nor false")
    return value


class _Reader:
    """Reads and decides at once, by recursive descent; both sides of `&&` and `||` are always read."""

    def __init__(self, condition: str, parameters: Mapping[str, JsonValue]) -> None:
        self._condition = condition
        self._parameters = parameters
        self._tokens = self._split(condition)
        self._next = 0
        self._depth = 0

    def whole(self) -> JsonValue:
        value = self._any()
        if self._next < len(self._tokens):
            raise self._unreadable()
        return value

    def _split(self, text: str) -> list[re.Match[str]]:
        tokens, at, text = [], 0, text.rstrip()
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise self._unreadable()
            tokens.append(token)
            at = token.end()
        return tokens

    def _unreadable(self) -> ConditionError:
        return ConditionError(f"the condition {self._condition!r} cannot be read")

    def _takes(self, *signs: str) -> str:
        """The next sign, if it is one of these; it is used up then."""
        sign = self._tokens[self._next]["sign"] if self._next < len(self._tokens) else None
        if sign not in signs:
            return ""
        self._next += 1
        return sign or ""

    def _any(self) -> JsonValue:
        value = self._all()
        while self._takes("||"):
            right = self._truth(self._all())
            value = self._truth(value) or right
        return value

    def _all(self) -> JsonValue:
        value = self._comparison()
        while self._takes("&&"):
            right = self._truth(self._comparison())
            value = self._truth(value) and right
        return value

    def _truth(self, value: JsonValue) -> bool:
        if not isinstance(value, bool):
            raise ConditionError(f"the condition {self._condition!r} takes {value!r} for true or false")
        return value

    def _comparison(self) -> JsonValue:
        left = self._operand()
        sign = self._takes(*_COMPARISONS)
        if not sign:
            return left
        right = self._operand()
        try:
            return _COMPARISONS[sign](left, right)
        except TypeError:
            raise ConditionError(f"the condition {self._condition!r} compares {left!r} with {right!r}") from None

    def _operand(self) -> JsonValue:
        self._depth += 1
        if self._depth > _MAX_DEPTH or self._next >= len(self._tokens):
            raise self._unreadable()
        if self._takes("!"):
            value: JsonValue = not self._truth(self._operand())
        elif self._takes("("):
            value = self._closed(self._any())
        else:
            value = self._plain()
        self._depth -= 1
        return value

    def _closed(self, value: JsonValue) -> JsonValue:
        if not self._takes(")"):
            raise self._unreadable()
        return value

    def _plain(self) -> JsonValue:
        token = self._tokens[self._next]
        self._next += 1
        if token["input"] is not None:
            return self._parameter(token["input"])
        if token["string"] is not None:
            return re.sub(r"\\(.)", r"\1", token["string"][1:-1])
        if token["number"] is not None:
            return int(token["number"]) if token["number"].lstrip("-").isdecimal() else float(token["number"])
        if token["word"] in _WORDS:
            return _WORDS[token["word"]]
        if token["word"] in _CONVERSIONS and self._takes("("):
            return self._converted(token["word"], self._closed(self._any()))
        raise self._unreadable()

    def _parameter(self, name: str) -> JsonValue:
        if name not in self._parameters:
            raise ConditionError(f"the condition {self._condition!r} asks for {name!r}, which has no value")
        return self._parameters[name]

    def _converted(self, kind: str, value: JsonValue) -> JsonValue:
        try:
            return _CONVERSIONS[kind](value)
        except (TypeError, ValueError):
            raise ConditionError(f"the condition {self._condition!r} takes {value!r} for {kind}") from None


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
