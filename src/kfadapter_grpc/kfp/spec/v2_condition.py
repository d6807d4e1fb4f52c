"""Conditions of KFP v2 as readable text.

KFP writes them in CEL: `!(int(inputs.parameter_values['x']) > 3) && inputs.parameter_values['y'] == 'a'` becomes
`not (x > 3) and y == 'a'`. Casts are omitted, names are resolved. Only what KFP's compiler writes is
understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(
    r"""\s*(?:
      inputs\.parameter(?:_value)?s\[(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)")\](?:\.(?:string|int|double)_value)?
    | (?P<literal>'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*"
        |-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|(?:true|false|null)\b)
    | (?P<cast>(?:int|double|string|bool)\()
    | (?P<operator>==|!=|<=|>=|&&|\|\||[<>!()])
    )""",
    re.VERBOSE,
)
_COMPARISONS = {"==", "!=", "<=", ">=", "<", ">"}
_MAX_DEPTH = 50
_END = ""


class _UnknownSyntaxError(Exception):
    """The condition is written in an unknown way."""


def describe_condition(condition: str, label_of: Callable[[str], str | None]) -> str | None:
    """Describes a condition in CEL, its inputs by `label_of`; None if one of them is not understood."""
    try:
        return _Condition(_tokens(condition.strip(), label_of)).whole()
    except _UnknownSyntaxError:
        return None


def _tokens(condition: str, label_of: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """Splits a condition into operators, casts and values, the values as their labels."""
    tokens, position = [], 0
    while position < len(condition):
        match = _TOKEN.match(condition, position)
        if match is None:
            raise _UnknownSyntaxError
        position = match.end()
        kind, text = match.lastgroup or "", match[match.lastgroup or 0]
        if kind in ("single", "double"):
            label = label_of(text)
            if label is None:
                raise _UnknownSyntaxError
            kind, text = "value", label
        tokens.append((text if kind == "operator" else kind, text))
    return [*tokens, (_END, "")]


class _Condition:
    """Reads the tokens, the loosest operator first."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._position = 0

    def whole(self) -> str:
        text = self._any(0)
        self._expect(_END)
        return text

    def _any(self, depth: int) -> str:
        operands = [self._all(depth)]
        while self._skip("||"):
            operands.append(self._all(depth))
        return " or ".join(operands)

    def _all(self, depth: int) -> str:
        operands = [self._comparison(depth)]
        while self._skip("&&"):
            operands.append(self._comparison(depth))
        return " and ".join(operands)

    def _comparison(self, depth: int) -> str:
        left = self._value(depth)
        operator = self._tokens[self._position][0]
        if operator not in _COMPARISONS:
            return left
        self._position += 1
        return f"{_in_parentheses(left)} {operator} {_in_parentheses(self._value(depth))}"

    def _value(self, depth: int) -> str:
        kind, text = self._tokens[self._position]
        self._position += 1
        if depth >= _MAX_DEPTH or kind not in ("value", "literal", "!", "(", "cast"):
            raise _UnknownSyntaxError
        if kind in ("value", "literal"):
            return text
        if kind == "!":
            return f"not {self._value(depth + 1)}"
        inner = self._any(depth + 1)
        self._expect(")")
        return f"({inner})" if kind == "(" else inner

    def _skip(self, kind: str) -> bool:
        matches = self._tokens[self._position][0] == kind
        self._position += matches
        return matches

    def _expect(self, kind: str) -> None:
        if not self._skip(kind):
            raise _UnknownSyntaxError


def _in_parentheses(text: str) -> str:
    return f"({text})" if text.startswith("not ") else text
