"""Texts from JSON, made fit to be stored."""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def sound_text(text: str) -> str:
    """The text with every half of a surrogate pair, which UTF-8 cannot hold, replaced as Go's JSON replaces it."""
    return _SURROGATE.sub("\ufffd", text)
