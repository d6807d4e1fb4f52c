"""What goes out: which notice is due, what came of an attempt, and what a person decides on those that are parked."""

from __future__ import annotations

import random
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_oran.notices.database import COLUMNS, NoticeStatus, notice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from kfadapter_oran.notices.database import Database, Notice

FIRST_PAUSE_SECONDS = 1.0
"""How long after a first attempt the second one comes."""
LONGEST_PAUSE_SECONDS = 300.0
"""How far apart attempts become."""
MAX_REFUSALS = 10
"""After how many answers that are no delivery a notice is parked: some six minutes."""
LATELY = 20
"""How many settled notices are listed."""
_SHORTEST_SHARE = 0.5
_WAITING = (NoticeStatus.PENDING.value, NoticeStatus.PARKED.value)


def pause_seconds(attempts: int) -> float:
    """How long to wait after so many attempts, jittered: twice as long each time, five minutes at most."""
    longest = min(FIRST_PAUSE_SECONDS * 2.0 ** min(attempts - 1, 30), LONGEST_PAUSE_SECONDS)
    return longest * random.uniform(_SHORTEST_SHARE, 1)  # noqa: S311 - jitter


class Deliveries:
    """Hands out notices that are due, and settles them. Safe to use from several threads of one process.

    Of each run at most one notice is handed out at a time, and always its oldest that is pending.
    """

    def __init__(
        self,
        database: Database,
        max_attempts: int,
        now: Callable[[], float] = time.time,
        max_refusals: int = MAX_REFUSALS,
    ) -> None:
        """Parks a notice after `max_attempts`, or `max_refusals` answers that are no delivery."""
        self._database = database
        self._max_attempts = max_attempts
        self._max_refusals = max_refusals
        self._now = now
        self._lock = threading.Lock()
        self._out: set[str] = set()

    @contextmanager
    def claimed(self) -> Iterator[Notice | None]:
        """Hands out the notice that has been due for longest, for as long as the block lasts; None if none is due.

        That it is being posted is on disk before the block begins, so that a process that dies at it over and over
        parks it in the end.
        """
        with self._lock:
            found = self._claim()
            if found is not None:
                self._out.add(found.run_id)
        try:
            yield found
        finally:
            if found is not None:
                with self._lock:
                    self._out.discard(found.run_id)

    def delivered(self, one: Notice, answer: str) -> None:
        """Notes that the receiver has it; older notices of the run that it has not are out of date."""
        now = self._now()
        with self._database.writing() as connection:
            settle = "UPDATE notices SET status = ?, settled_at = ?, answer = ? WHERE id = ?"
            connection.execute(settle, (NoticeStatus.DELIVERED.value, now, answer, one.id))
            connection.execute(
                "UPDATE notices SET status = ?, settled_at = ? WHERE run_id = ? AND id < ? AND status IN (?, ?)",
                (
                    NoticeStatus.SUPERSEDED.value,
                    now,
                    one.run_id,
                    one.id,
                    NoticeStatus.PENDING.value,
                    NoticeStatus.PARKED.value,
                ),
            )

    def failed(self, one: Notice, answer: str, *, refused: bool) -> bool:
        """Notes that the receiver does not have it: it is tried again later, or parked; returns whether it was parked.

        Args:
            one: The notice.
            answer: What came of it, in words.
            refused: Whether there was an answer that is no delivery; otherwise the receiver was unreachable.
        """
        now, refusals = self._now(), one.refusals + refused
        parked = one.attempts >= self._max_attempts or refusals >= self._max_refusals
        status = NoticeStatus.PARKED if parked else NoticeStatus.PENDING
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE notices SET status = ?, refusals = ?, next_at = ?, settled_at = ?, answer = ?"
                " WHERE id = ? AND status = ?",
                (
                    status.value,
                    refusals,
                    now + pause_seconds(one.attempts),
                    now if parked else None,
                    answer,
                    one.id,
                    NoticeStatus.PENDING.value,
                ),
            )
        return parked

    def _claim(self) -> Notice | None:
        now, out = self._now(), list(self._out)
        # A moment that is further away than any pause comes of a clock that was put back.
        due = (
            f"SELECT {COLUMNS} FROM notices AS one WHERE status = 'pending' AND (next_at <= ? OR next_at > ?)"  # noqa: S608
            f" AND run_id NOT IN ({', '.join('?' * len(out))}) AND NOT EXISTS (SELECT 1 FROM notices AS older"
            "  WHERE older.run_id = one.run_id AND older.id < one.id AND older.status = 'pending')"
            " ORDER BY next_at, id LIMIT 1"
        )
        values = (now, now + LONGEST_PAUSE_SECONDS, *out)
        if not self._database.read(due, values):
            return None
        with self._database.writing() as connection:
            row = connection.execute(due, values).fetchone()
            if row is None:
                return None
            later = now + pause_seconds(row[6] + 1)
            connection.execute("UPDATE notices SET attempts = attempts + 1, next_at = ? WHERE id = ?", (later, row[0]))
            row = connection.execute(f"SELECT {COLUMNS} FROM notices WHERE id = ?", (row[0],)).fetchone()  # noqa: S608
        return notice(row)


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
        """Counts what the outbox holds."""
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
        """Has parked notices sent again, at once and as if for the first time; returns which were parked."""
        now = self._now()
        return self._change(
            ids, "status = 'pending', attempts = 0, refusals = 0, settled_at = NULL, next_at = ?", [now]
        )

    def discard(self, ids: Iterable[int]) -> Sequence[int]:
        """Has parked notices never sent; returns which were parked."""
        return self._change(ids, "status = 'discarded', settled_at = ?", [self._now()])

    def _change(self, ids: Iterable[int], what: str, values: Sequence[float]) -> Sequence[int]:
        statement = f"UPDATE notices SET {what} WHERE id = ? AND status = 'parked'"  # noqa: S608  words of this class
        with self._database.writing() as connection:
            return [number for number in ids if connection.execute(statement, (*values, number)).rowcount]

    def _select(self, which: str, values: Sequence[object]) -> list[Notice]:
        return [notice(row) for row in self._database.read(f"SELECT {COLUMNS} FROM notices {which}", values)]  # noqa: S608
