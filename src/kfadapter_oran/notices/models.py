"""What is kept of runs and of notices about them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.training_arguments import JOB_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kfadapter_grpc.contract.runs import Run, RunStateChange

DELETED = "DELETED"
"""What is told of a run that was deleted before its end was seen; no state of KFP's, as nobody knows it."""
_NEVER = datetime(1, 1, 1, tzinfo=timezone.utc)


class NoticeStatus(enum.Enum):
    """How far a notice is."""

    PENDING = "pending"
    """It is to be sent, or sent again."""
    PARKED = "parked"
    """It was tried as often as it may be; somebody must look."""
    DELIVERED = "delivered"
    """The receiver has it."""
    SUPERSEDED = "superseded"
    """It was not delivered, and a later end of the same run was: sending it now would tell something that is over."""
    DISCARDED = "discarded"
    """Somebody said that it need not be sent."""


@dataclass(frozen=True, slots=True)
class SeenRun:
    """A run of a training job as it was seen. Times are KFP's, in UTC.

    Attributes:
        run_id: KFP's id.
        job: The training job.
        state: KFP's state.
        is_over: Whether it has ended.
        etag: Names its condition.
        finished_at: When it was over, as far as KFP says.
        ended_at: The latest moment at which KFP may have said so; of a run without any, when it was made.
        earlier_ends: The states in which it was over before it was retried, and when.
    """

    run_id: str
    job: str
    state: str
    is_over: bool
    etag: str = ""
    finished_at: datetime | None = None
    ended_at: datetime = _NEVER
    earlier_ends: tuple[tuple[str, datetime], ...] = ()

    @classmethod
    def try_of(cls, run: Run) -> SeenRun | None:
        """Takes what is needed of a run; None if it is of no training job."""
        job = run.labels.get(JOB_LABEL)
        if not job:
            return None
        said = [one.at for one in run.state_history if one.at and one.state.is_over]
        ended_at = max([*said, *([run.finished_at] if run.finished_at else [])], default=run.created_at or _NEVER)
        return cls(
            run_id=run.run_id,
            job=job,
            state=run.state.value,
            is_over=run.state.is_over,
            etag=run.etag,
            finished_at=run.finished_at,
            ended_at=ended_at,
            earlier_ends=tuple(_earlier_ends(run.state_history)),
        )


def _earlier_ends(history: Sequence[RunStateChange]) -> Iterator[tuple[str, datetime]]:
    """Yields the ends after which it went on."""
    alive = [number for number, one in enumerate(history) if not one.state.is_over]
    for number, one in enumerate(history):
        if one.state.is_over and one.at and alive and number < alive[-1]:
            yield one.state.value, one.at


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice: that a run is over, and how. At most one exists for each run and state.

    Attributes:
        id: Its number; later ones are higher.
        run_id: The run.
        job: The training job.
        state: How the run ended: KFP's state, or `DELETED`.
        status: How far it is.
        written_at: When it was written, in UTC.
        attempts: How often it was posted, or was about to be, since it was written or was last to be sent again.
        refusals: How many of these were answered with something else than a delivery.
        next_at: When it is due; means nothing unless it is pending.
        settled_at: When it was delivered, parked, superseded or discarded.
        answer: What came of the last attempt, in words.
    """

    id: int
    run_id: str
    job: str
    state: str
    status: NoticeStatus
    written_at: datetime
    attempts: int
    refusals: int
    next_at: datetime
    settled_at: datetime | None
    answer: str
