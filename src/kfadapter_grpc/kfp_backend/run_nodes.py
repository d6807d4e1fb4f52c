"""Stand-in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pod:
    """One attempt of a task."""

    node_id: str
    name: str
    is_over: bool
    artifacts: frozenset[str] = frozenset()
