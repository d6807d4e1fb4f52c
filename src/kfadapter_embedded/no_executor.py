"""An executor that executes nothing: runs wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .execution import Job


class NoExecutor:
    """Takes runs and leaves them as they are, as KFP does when nobody reports on its workflows."""

    def submit(self, job: Job) -> None:
        """Does nothing: the run stays PENDING."""

    def terminate(self, run_id: str) -> None:
        """Does nothing: the run stays CANCELING."""

    def close(self) -> None:
        """Does nothing."""
