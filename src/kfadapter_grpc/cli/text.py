"""Text for terminals: nothing in it may steer them."""

from __future__ import annotations

import unicodedata

_CONTROL = "Cc"


def plain(text: str) -> str:
    r"""Shows control characters instead of sending them (`\x1b` for an escape), so that no data can move a cursor."""
    return "".join(_shown(char) if unicodedata.category(char) == _CONTROL else char for char in text)


def one_line(text: str) -> str:
    """Puts a text on one line."""
    return plain(" ".join(text.split()))


def _shown(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
