"""Conditions of KFP v2 in words.

KFP writes them in CEL: `!(int(inputs.parameter_values['x']) > 3) && inputs.parameter_values['y'] == 'a'` becomes
`not (x > 3) and y == 'a'`. Casts are left out, names are resolved. What KFP's compiler does not write is not
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
    """The condition is written in a way that is not known."""


def condition_in_words(condition: str, words_of: Callable[[str], str | None]) -> str | None:
    """Puts a condition into words.

    Args:
        condition: The condition in CEL.
        words_of: Tells what an input is in words; None where it is not known.

    Returns:
        The words; None where the condition is not understood.
    """
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
            kind, text = "value", _known(words_of(text))
        tokens.append((text if kind == "operator" else kind, text))
    return [*tokens, (_END, "")]


def _known(words: str | None) -> str:
    if words is None:
        raise _NotUnderstoodError
    return words


class _Condition:
    """Reads the tokens, the loosest operator first."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0

    def whole(self) -> str:
        words = self._any()
        self._expect(_END)
        return words

    def _any(self) -> str:
        words = [self._all()]
        while self._skip("||"):
            words.append(self._all())
        return " or ".join(words)

    def _all(self) -> str:
        words = [self._comparison()]
        while self._skip("&&"):
            words.append(self._comparison())
        return " and ".join(words)

    def _comparison(self) -> str:
        left = self._value()
        operator = self._kind
        if operator not in _COMPARISONS:
            return left
        self._place += 1
        return f"{_closed(left)} {operator} {_closed(self._value())}"

    def _value(self) -> str:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _NotUnderstoodError
        try:
            return self._inner_value()
        finally:
            self._depth -= 1

    def _inner_value(self) -> str:
        kind, text = self._tokens[self._place]
        self._place += 1
        if kind in ("value", "literal"):
            return text
        if kind == "!":
            return f"not {self._value()}"
        if kind not in ("(", "cast"):
            raise _NotUnderstoodError
        words = self._any()
        self._expect(")")
        return f"({words})" if kind == "(" else words

    @property
    def _kind(self) -> str:
        return self._tokens[self._place][0]

    def _skip(self, kind: str) -> bool:
        found = self._kind == kind
        self._place += found
        return found

    def _expect(self, kind: str) -> None:
        if not self._skip(kind):
            raise _NotUnderstoodError


def _closed(words: str) -> str:
    return f"({words})" if words.startswith("not ") else words
