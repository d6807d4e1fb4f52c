"""An outbox with a fake clock, and observed runs."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.runs import Run, RunState, RunStateChange
from kfadapter_oran.notices.database import Database, NoticeStatus
from kfadapter_oran.notices.deliveries import Deliveries, Ledger
from kfadapter_oran.notices.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
KEEP = timedelta(days=7)


def at(**later: float) -> datetime:
    """Returns a time after the first start."""
    return BEGIN + timedelta(**later)


def seen(run_id: str, state: str, ended: datetime | None = None, *earlier: tuple[str, datetime]) -> Run:
    """Returns a run of job 42; it has finished if `ended` is set, after the earlier ends and retries."""
    history = [
        RunStateChange(change, moment) for before, moment in earlier for change in (RunState(before), RunState.RUNNING)
    ]
    return Run(
        run_id,
        state=RunState(state),
        labels={"trainingjob_id": "42"},
        created_at=BEGIN if ended is None else ended,
        finished_at=ended,
        state_history=tuple(history),
        etag=f"e-{state}",
    )


@dataclass
class Box:
    """An outbox and everything that uses it."""

    database: Database
    clock: list[float] = field(default_factory=lambda: [BEGIN.timestamp()])
    max_attempts: int = 5
    max_refusals: int = 3

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.database, self.now)
        self.deliveries = Deliveries(self.database, self.max_attempts, self.now, self.max_refusals)
        self.ledger = Ledger(self.database, self.now)

    def now(self) -> float:
        """Returns the current time."""
        return self.clock[0]

    def wait(self, seconds: float) -> None:
        """Advances the clock."""
        self.clock[0] += seconds

    @property
    def notices(self) -> list[tuple[str, str, str]]:
        """All notices: run, state and status."""
        rows = self.database.read("SELECT run_id, state, status FROM notices ORDER BY id")
        return [(run_id, state, status) for run_id, state, status in rows]

    def statuses(self) -> list[NoticeStatus]:
        """Returns the statuses of all notices."""
        return [NoticeStatus(status) for _, _, status in self.notices]

    def deliver(self) -> list[tuple[str, str]]:
        """Delivers all notices that are due; returns them in order."""
        delivered: list[tuple[str, str]] = []
        while True:
            with self.deliveries.claimed() as one:
                if one is None:
                    return delivered
                self.deliveries.delivered(one, "200")
                delivered.append((one.run_id, one.state))


@contextmanager
def box(path: Path) -> Iterator[Box]:
    """Opens an outbox whose first start was at `BEGIN`."""
    with closing(Database(path, create=True)) as database:
        made = Box(database)
        made.outbox.begin(BEGIN, "")
        yield made
