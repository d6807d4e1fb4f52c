"""Where a value comes from, in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

_LONGEST = 300
_LONGEST_ITEMS = 40
ITEM = "item"
"""What the present item of a loop is called."""


def shortened(text: str, longest: int = _LONGEST) -> str:
    """Cuts a text that is too long to be a part of another one."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


@dataclass(frozen=True, slots=True)
class Source:
    """A value's source: `train.loss`, a parameter's name, or `item.name of files`.

    Attributes:
        text: The source itself.
        of: What a loop runs over, where the source is its item.
    """

    text: str
    of: str = ""

    @property
    def words(self) -> str:
        """As people read it."""
        return f"{self.text} of {self.of}" if self.of else self.text

    def field(self, key: str) -> Source:
        """One field of it."""
        return Source(shortened(f"{self.text}.{key}"), self.of)


Sources: TypeAlias = Callable[[str], "Source | None"]
"""Tells the source of a name that is known in a group. Asked, not listed: most names are never looked up."""


def no_sources(_name: str) -> Source | None:
    """Around the whole pipeline nothing is known: its parameters go by their own names."""
    return None


def item_of(items: str, loop: str) -> Source:
    """The item of a loop over `items`; long lists are called by the name of the loop."""
    long_list = len(items) > _LONGEST_ITEMS and items.startswith(("[", "{"))
    return Source(ITEM, shortened(loop if long_list or not items else items))
