"""Which keys are known at a level of a spec: what is read, and what is knowingly no part of a summary."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Level:
    """The keys of one kind of mapping.

    Attributes:
        read: Keys that the summary is made from.
        passed: Keys that are known and no part of a summary.
        known: Both; nothing is noted where it is empty.
    """

    read: frozenset[str]
    passed: frozenset[str]
    known: frozenset[str]


def level(read: str, passed: str = "") -> Level:
    """Makes a level of keys separated by blanks."""
    told, left = frozenset(read.split()), frozenset(passed.split())
    return Level(told, left, told | left)


ANY = level("")
"""A mapping of which the keys are not checked."""
