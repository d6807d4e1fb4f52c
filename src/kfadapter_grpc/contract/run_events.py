"""What happens to runs that are watched, independent of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from datetime import datetime

    from kfadapter_grpc.contract.runs import Run


@dataclass(frozen=True, slots=True)
class RunChanged:
    """A run as it is now; its tasks come along only where they were asked for.

    Attributes:
        run: The run.
        observed_at: When the adapter saw it, in UTC.
    """

    run: Run
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class RunGone:
    """A run that was deleted, or never existed.

    Attributes:
        run_id: Its id.
        observed_at: When the adapter saw it, in UTC.
    """

    run_id: str
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing happened; the watch lives.

    Attributes:
        kfp_reachable: Whether KFP answered the adapter the last time it was asked.
        observed_at: When the adapter said so, in UTC.
    """

    kfp_reachable: bool
    observed_at: datetime


RunEvent: TypeAlias = "RunChanged | RunGone | Heartbeat"
"""Something that a watch tells."""
