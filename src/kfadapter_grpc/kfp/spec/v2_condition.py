"""Conditions of KFP v2 in words.

KFP writes them in CEL: `!(int(inputs.parameter_values['x']) > 3) && inputs.parameter_values['y'] == 'a'` becomes
`not (x > 3) and y == 'a'`. Casts are omitted, names are resolved. Only what KFP's compiler writes is
understood.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
_DEEPEST = 50
_END = ""


class _NotUnderstoodError(Exception):
    """The condition is written in an unknown way."""


def condition_in_words(condition: str, words_of: Callable[[str], str | None]) -> str | None:
    """Puts a condition in CEL into words, and its inputs by `words_of`; None if one of them is not understood."""
    try:
        return _Condition(_tokens(condition.strip(), words_of)).whole()
    except _NotUnderstoodError:
        return None


def _tokens(condition: str, words_of: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """Splits a condition into operators, casts and values, the values in words."""
    tokens, place = [], 0
    while place < len(condition):
        found = _TOKEN.match(condition, place)
        if found is None:
            raise _NotUnderstoodError
        place = found.end()
        kind, text = found.lastgroup or "", found[found.lastgroup or 0]
        if kind in ("single", "double"):
            words = words_of(text)
            if words is None:
                raise _NotUnderstoodError
            kind, text = "value", words
        tokens.append((text if kind == "operator" else kind, text))
    return [*tokens, (_END, "")]


class _Condition:
    """Reads the tokens, the loosest operator first."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._place = 0

    def whole(self) -> str:
        words = self._any(0)
        self._expect(_END)
        return words

    def _any(self, depth: int) -> str:
        words = [self._all(depth)]
        while self._skip("||"):
            words.append(self._all(depth))
        return " or ".join(words)

    def _all(self, depth: int) -> str:
        words = [self._comparison(depth)]
        while self._skip("&&"):
            words.append(self._comparison(depth))
        return " and ".join(words)

    def _comparison(self, depth: int) -> str:
        left = self._value(depth)
        operator = self._tokens[self._place][0]
        if operator not in _COMPARISONS:
            return left
        self._place += 1
        return f"{_closed(left)} {operator} {_closed(self._value(depth))}"

    def _value(self, depth: int) -> str:
        kind, text = self._tokens[self._place]
        self._place += 1
        if depth >= _DEEPEST or kind not in ("value", "literal", "!", "(", "cast"):
            raise _NotUnderstoodError
        if kind in ("value", "literal"):
            return text
        if kind == "!":
            return f"not {self._value(depth + 1)}"
        words = self._any(depth + 1)
        self._expect(")")
        return f"({words})" if kind == "(" else words

    def _skip(self, kind: str) -> bool:
        found = self._tokens[self._place][0] == kind
        self._place += found
        return found

    def _expect(self, kind: str) -> None:
        if not self._skip(kind):
            raise _NotUnderstoodError


def _closed(words: str) -> str:
    return f"({words})" if words.startswith("not ") else words
