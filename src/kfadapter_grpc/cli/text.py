"""Text for terminals, with control characters escaped; and errors, which are three such texts."""

from __future__ import annotations

import re
import sys
import unicodedata
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_STEERING = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of characters that steer a terminal or break a line: controls, halves of characters, separators."""
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of a text round: with them, a name could look like another one."""
_UNESCAPED_BY_JSON = re.compile("[\x7f-\x9f]")


def plain(text: str) -> str:
    r"""Escapes control characters (an escape becomes `\x1b`), so that data cannot control the terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _shown(char) if char in _TURNING or unicodedata.category(char) in _STEERING else char for char in text
    )


def one_line(text: str) -> str:
    """Puts a text on one line."""
    return plain(" ".join(text.split()))


def plain_json(text: str) -> str:
    """Replaces raw control characters in JSON, which JSON allows, by escapes; the value is unchanged."""
    return _UNESCAPED_BY_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _shown(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Returns a sentence with the known text that is the most alike, after a blank; empty if none is alike."""
    by_letters = {one.casefold(): one for one in known}
    found = get_close_matches(text.casefold(), by_letters, 1)
    return f" Did you mean '{by_letters[found[0]]}'?" if found else ""


def print_parts(what: str, why: str, next_step: str) -> None:
    """Prints an error."""
    lines = [f"error: {_block(what)}", f"why:   {_block(why)}", f"next:  {_block(next_step)}"]
    sys.stderr.write("\n".join(lines) + "\n")


def _block(text: str) -> str:
    """Aligns the lines of a text."""
    return "\n       ".join(plain(line) for line in text.splitlines() if line.strip())
