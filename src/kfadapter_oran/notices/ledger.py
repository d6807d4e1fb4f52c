"""What a person sees of an outbox, and may change, while the notifier runs or not."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_oran.notices.database import COLUMNS, notice
from kfadapter_oran.notices.models import NoticeStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from kfadapter_oran.notices.database import Database
    from kfadapter_oran.notices.models import Notice

LATELY = 20
"""How many notices are listed that nothing is to be done about."""
_WAITING = (NoticeStatus.PENDING.value, NoticeStatus.PARKED.value)


@dataclass(frozen=True, slots=True)
class Figures:
    """What an outbox holds.

    Attributes:
        counts: How many notices there are, by status.
        oldest_pending_at: When the oldest that is pending was written, in seconds since 1970; None if none is.
        open_runs: How many runs are followed that are not over.
    """

    counts: Mapping[NoticeStatus, int]
    oldest_pending_at: float | None
    open_runs: int


class Ledger:
    """Reads an outbox, and takes a person's decisions on parked notices. Safe beside the process that sends."""

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    def figures(self) -> Figures:
        """Tells what the outbox holds."""
        counted = dict(self._database.read("SELECT status, count(*) FROM notices GROUP BY status"))
        ((oldest,),) = self._database.read("SELECT min(written_at) FROM notices WHERE status = 'pending'")
        ((open_runs,),) = self._database.read("SELECT count(*) FROM open_runs")
        return Figures({status: counted.get(status.value, 0) for status in NoticeStatus}, oldest, open_runs)

    def notices(self) -> Sequence[Notice]:
        """All that are pending or parked, and the 20 that were settled last; the oldest first."""
        waiting = self._select("WHERE status IN (?, ?)", _WAITING)
        settled = self._select("WHERE status NOT IN (?, ?) ORDER BY settled_at DESC LIMIT ?", (*_WAITING, LATELY))
        return sorted([*waiting, *settled], key=lambda one: one.id)

    def find(self, ids: Iterable[int]) -> Mapping[int, Notice]:
        """Those of these notices that there are."""
        found = (one for number in ids for one in self._select("WHERE id = ?", (number,)))
        return {one.id: one for one in found}

    def parked(self) -> Sequence[int]:
        """The numbers of all parked notices."""
        return [number for (number,) in self._database.read("SELECT id FROM notices WHERE status = 'parked'")]

    def retry(self, ids: Iterable[int]) -> Sequence[int]:
        """Has parked notices sent again, at once and as if for the first time; tells which were parked."""
        now = self._now()
        return self._change(
            ids, "status = 'pending', attempts = 0, refusals = 0, settled_at = NULL, next_at = ?", [now]
        )

    def discard(self, ids: Iterable[int]) -> Sequence[int]:
        """Has parked notices never sent; tells which were parked."""
        return self._change(ids, "status = 'discarded', settled_at = ?", [self._now()])

    def _change(self, ids: Iterable[int], what: str, values: Sequence[float]) -> Sequence[int]:
        statement = f"UPDATE notices SET {what} WHERE id = ? AND status = 'parked'"  # noqa: S608  words of this class
        with self._database.writing() as connection:
            return [number for number in ids if connection.execute(statement, (*values, number)).rowcount]

    def _select(self, which: str, values: Sequence[object]) -> list[Notice]:
        return [notice(row) for row in self._database.read(f"SELECT {COLUMNS} FROM notices {which}", values)]  # noqa: S608
