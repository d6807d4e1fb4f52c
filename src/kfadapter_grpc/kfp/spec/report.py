"""What a summary does not tell, and how much room is left in it."""

from __future__ import annotations

_MOST_UNKNOWN_PARTS = 100
_LONGEST_PATH = 300
_MORE = "..."
LARGEST_PART = 64 * 1024
"""Bytes of one text or default that a summary holds."""
LARGEST_SUMMARY = 2 * 1024 * 1024
"""Bytes of all of them: an answer must fit into a gRPC message of 4 MiB."""


class Report:
    """Collects the paths of what is not told, and counts the bytes of what is."""

    def __init__(self) -> None:
        self._unknown: dict[str, None] = {}
        self._has_more = False
        self._room = LARGEST_SUMMARY

    @property
    def unknown(self) -> tuple[str, ...]:
        """The paths of what is not told; `...` at the end where there are more."""
        if not self._has_more:
            return tuple(self._unknown)
        return (*tuple(self._unknown)[: _MOST_UNKNOWN_PARTS - 1], _MORE)

    @property
    def is_full(self) -> bool:
        """Whether something had no room: what comes after it is not told either."""
        return self._room < 0

    @property
    def has_more(self) -> bool:
        """Whether more is noted than is named: further paths need not be made."""
        return self._has_more

    def note(self, path: str) -> None:
        """Notes a part that is not understood, or too large to tell."""
        path = path if len(path) <= _LONGEST_PATH else f"{path[: _LONGEST_PATH - 1]}…"
        if path in self._unknown:
            return
        if len(self._unknown) < _MOST_UNKNOWN_PARTS:
            self._unknown[path] = None
        else:
            self._has_more = True

    def take(self, size: int) -> bool:
        """Takes room for a text; tells whether there was so much."""
        if size > self._room:
            return False
        self._room -= size
        return True

    def close(self) -> None:
        """Ends the telling: nothing has room any more."""
        self._room = -1
