"""Texts and values from JSON, made fit to be stored."""

from __future__ import annotations

import re

# Beyond this Go writes numbers with an exponent, so there is no shorter form to make.
_LARGEST_PLAIN_NUMBER = 1e21
_SURROGATE = re.compile("[\ud800-\udfff]")


def sound_text(text: str) -> str:
    """The text with every half of a surrogate pair, which UTF-8 cannot hold, replaced as Go's JSON replaces it."""
    return _SURROGATE.sub("\ufffd", text)


def sound_value(value: object) -> object:
    """A JSON value with all of its texts made sound, and its numbers as Go writes them.

    Raises:
        RecursionError: it is too deep.
    """
    if isinstance(value, dict):
        return {sound_text(key): sound_value(each) for key, each in value.items()}
    if isinstance(value, list):
        return [sound_value(each) for each in value]
    if isinstance(value, float):
        return go_number(value)
    return sound_text(value) if isinstance(value, str) else value


def go_number(value: float) -> float:
    """The number as Go's JSON writes it, a whole one without a fraction: 7.0 becomes 7."""
    return int(value) if value.is_integer() and abs(value) < _LARGEST_PLAIN_NUMBER else value
