"""What a cluster would do differently with a task: it runs on here, and the task says so."""

from __future__ import annotations

from .values import ValueFaultError


class TaskWarnings:
    """The warnings of one task, each once; a strict runner fails the task instead, as a cluster does."""

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._texts: dict[str, None] = {}

    def warn(self, text: str) -> None:
        """Adds a warning: what a cluster does, and what to change.

        Raises:
            ValueFaultError: the runner is strict.
        """
        if self._strict:
            raise ValueFaultError(text)
        self._texts[text] = None

    def remark(self, text: str) -> None:
        """Adds what is different on this machine and would not fail on a cluster."""
        self._texts[text] = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The warnings, in the order in which they came."""
        return tuple(self._texts)
