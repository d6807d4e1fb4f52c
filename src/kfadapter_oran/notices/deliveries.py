"""Deliveries: which notice is due, the results of attempts, and the operator's decisions on parked notices."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from kfadapter_oran.notices.database import COLUMNS, Database, Notice, NoticeStatus, read_notice

INITIAL_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 300.0
MAX_REFUSALS = 10
"""After how many responses that are not a success a notice is parked: some six minutes."""
MAX_SETTLED = 20
_MIN_JITTER = 0.5
_WAITING = (NoticeStatus.PENDING.value, NoticeStatus.PARKED.value)


def backoff_seconds(attempts: int) -> float:
    """The pause after a number of attempts, with jitter: doubles each time, up to five minutes."""
    longest = min(INITIAL_BACKOFF_SECONDS * 2.0 ** min(attempts - 1, 30), MAX_BACKOFF_SECONDS)
    return longest * random.uniform(_MIN_JITTER, 1)  # noqa: S311 - jitter


class Deliveries:
    """Hands out due notices, and records their results. Safe to use from several threads of one process.

    At most one notice of each run is handed out at a time, always its oldest pending one.
    """

    def __init__(
        self,
        database: Database,
        max_attempts: int,
        now: Callable[[], float] = time.time,
        max_refusals: int = MAX_REFUSALS,
    ) -> None:
        """Parks a notice after `max_attempts`, or after `max_refusals` responses that are not a delivery."""
        self._database = database
        self._max_attempts = max_attempts
        self._max_refusals = max_refusals
        self._now = now
        self._lock = threading.Lock()
        self._claimed_runs: set[str] = set()

    @contextmanager
    def claimed(self) -> Iterator[Notice | None]:
        """Yields the notice that has been due for longest, reserved during the block; None if none is due.

        The attempt is on disk before the block begins, so that a notice on which the process crashes repeatedly
        is eventually parked.
        """
        with self._lock:
            notice = self._claim()
            if notice is not None:
                self._claimed_runs.add(notice.run_id)
        try:
            yield notice
        finally:
            if notice is not None:
                with self._lock:
                    self._claimed_runs.discard(notice.run_id)

    def delivered(self, notice: Notice, answer: str) -> None:
        """Records the delivery; undelivered older notices of the run are superseded."""
        now = self._now()
        with self._database.writing() as connection:
            settle = "UPDATE notices SET status = ?, settled_at = ?, answer = ? WHERE id = ?"
            connection.execute(settle, (NoticeStatus.DELIVERED.value, now, answer, notice.id))
            connection.execute(
                "UPDATE notices SET status = ?, settled_at = ? WHERE run_id = ? AND id < ? AND status IN (?, ?)",
                (NoticeStatus.SUPERSEDED.value, now, notice.run_id, notice.id, *_WAITING),
            )

    def failed(self, notice: Notice, answer: str, *, refused: bool) -> bool:
        """Records the failure: the notice is retried later, or parked; returns whether it was parked.

        Args:
            notice: The notice.
            answer: The result, as text.
            refused: Whether there was a response that is not a delivery; otherwise the receiver was unreachable.
        """
        now, refusals = self._now(), notice.refusals + refused
        parked = notice.attempts >= self._max_attempts or refusals >= self._max_refusals
        status = NoticeStatus.PARKED if parked else NoticeStatus.PENDING
        with self._database.writing() as connection:
            later = now + backoff_seconds(notice.attempts)
            connection.execute(
                "UPDATE notices SET status = ?, refusals = ?, next_at = ?, settled_at = ?, answer = ?"
                " WHERE id = ? AND status = 'pending'",
                (status.value, refusals, later, now if parked else None, answer, notice.id),
            )
        return parked

    def _claim(self) -> Notice | None:
        now, claimed = self._now(), list(self._claimed_runs)
        # A due time further ahead than any pause results from a clock that was set back.
        due = (
            f"SELECT {COLUMNS} FROM notices AS one WHERE status = 'pending' AND (next_at <= ? OR next_at > ?)"  # noqa: S608
            f" AND run_id NOT IN ({', '.join('?' * len(claimed))}) AND NOT EXISTS (SELECT 1 FROM notices AS older"
            "  WHERE older.run_id = one.run_id AND older.id < one.id AND older.status = 'pending')"
            " ORDER BY next_at, id LIMIT 1"
        )
        values = (now, now + MAX_BACKOFF_SECONDS, *claimed)
        if not self._database.read(due, values):
            return None
        with self._database.writing() as connection:
            row = connection.execute(due, values).fetchone()
            if row is None:
                return None
            later = now + backoff_seconds(row[6] + 1)
            connection.execute("UPDATE notices SET attempts = attempts + 1, next_at = ? WHERE id = ?", (later, row[0]))
            row = connection.execute(f"SELECT {COLUMNS} FROM notices WHERE id = ?", (row[0],)).fetchone()  # noqa: S608
        return read_notice(row)


@dataclass(frozen=True, slots=True)
class Figures:
    """The contents of an outbox.

    Attributes:
        counts: The number of notices by status.
        oldest_pending_at: When the oldest pending notice was written, in seconds since 1970; None if none is pending.
        open_runs: The number of watched runs that have not finished.
    """

    counts: Mapping[NoticeStatus, int]
    oldest_pending_at: float | None
    open_runs: int


class Ledger:
    """Reads an outbox, and applies decisions on parked notices. Safe while another process sends."""

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    def figures(self) -> Figures:
        """Counts the contents of the outbox."""
        counts = dict(self._database.read("SELECT status, count(*) FROM notices GROUP BY status"))
        ((oldest,),) = self._database.read("SELECT min(written_at) FROM notices WHERE status = 'pending'")
        ((open_runs,),) = self._database.read("SELECT count(*) FROM open_runs")
        return Figures({status: counts.get(status.value, 0) for status in NoticeStatus}, oldest, open_runs)

    def notices(self) -> Sequence[Notice]:
        """All pending and parked notices, and the 20 that were settled last; oldest first."""
        waiting = self._select("WHERE status IN (?, ?)", _WAITING)
        settled = self._select("WHERE status NOT IN (?, ?) ORDER BY settled_at DESC LIMIT ?", (*_WAITING, MAX_SETTLED))
        return sorted([*waiting, *settled], key=lambda notice: notice.id)

    def find(self, ids: Iterable[int]) -> Mapping[int, Notice]:
        """Those of these notices that exist."""
        notices = (notice for number in ids for notice in self._select("WHERE id = ?", (number,)))
        return {notice.id: notice for notice in notices}

    def parked(self) -> Sequence[int]:
        return [number for (number,) in self._database.read("SELECT id FROM notices WHERE status = 'parked'")]

    def retry(self, ids: Iterable[int]) -> Sequence[int]:
        """Requeues parked notices, due immediately and with counts reset; returns those that were parked."""
        now = self._now()
        return self._change(
            ids, "status = 'pending', attempts = 0, refusals = 0, settled_at = NULL, next_at = ?", [now]
        )

    def discard(self, ids: Iterable[int]) -> Sequence[int]:
        """Discards parked notices; returns those that were parked."""
        return self._change(ids, "status = 'discarded', settled_at = ?", [self._now()])

    def _change(self, ids: Iterable[int], assignments: str, values: Sequence[float]) -> Sequence[int]:
        statement = f"UPDATE notices SET {assignments} WHERE id = ? AND status = 'parked'"  # noqa: S608  words of this class
        with self._database.writing() as connection:
            return [number for number in ids if connection.execute(statement, (*values, number)).rowcount]

    def _select(self, where: str, values: Sequence[object]) -> list[Notice]:
        return [read_notice(row) for row in self._database.read(f"SELECT {COLUMNS} FROM notices {where}", values)]  # noqa: S608
