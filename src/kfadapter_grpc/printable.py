"""Text for terminals and pictures, with control characters escaped."""

from __future__ import annotations

import unicodedata

_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of characters that control a terminal or break a line: controls, halves of characters, separators."""
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that reverse the direction of a text: with them, a name could look like another one."""
_NOT_IN_XML = frozenset("\ufffe\uffff")


def printable(text: str) -> str:
    r"""Escapes control characters (an escape becomes `\x1b`), so that data cannot control the terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape", "surrogatepass").decode("ascii")
        if char in _BIDIRECTIONAL or char in _NOT_IN_XML or unicodedata.category(char) in _CONTROLS
        else char
        for char in text
    )


def one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def counted(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"
