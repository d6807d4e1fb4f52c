"""Writes one notice for each end of a run, before it is sent; prunes only notices that cannot recur."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any

from kfadapter_grpc.client.metrics import named_metrics
from kfadapter_grpc.contract.runs import Run
from kfadapter_oran.jobs import JOB_LABEL
from kfadapter_oran.notices.database import (
    COLUMNS,
    Database,
    Notice,
    NoticeStatus,
    OutboxError,
    from_timestamp,
    read_notice,
)

DELETED = "DELETED"
"""What is reported of a run that was deleted before its end was seen; no state of KFP's."""
GONE_SECONDS = 60.0
"""How long a run must not be found before it counts as deleted."""
LOOK_BACK = timedelta(hours=1)
"""How much later than others KFP may report a run's end."""
_MAX_METRICS = 100
_MAX_CHARACTERS = 4096
_ABOUT = ("display_name", "pipeline_id", "pipeline_name", "pipeline_version_name", "experiment_name", "error")
_NEVER = datetime(1, 1, 1, tzinfo=timezone.utc)
_SINCE, _FLOOR, _NEWEST, _NAMESPACE = "since", "floor", "newest", "namespace"
_DONE = (NoticeStatus.DELIVERED.value, NoticeStatus.SUPERSEDED.value, NoticeStatus.DISCARDED.value)


def ended_at(run: Run) -> float:
    """The latest time at which KFP may have reported the end of a run; if there is none, the creation time."""
    ends = [change.at for change in run.state_history if change.at and change.state.is_over]
    return max([*ends, *([run.finished_at] if run.finished_at else [])], default=run.created_at or _NEVER).timestamp()


def earlier_ends(run: Run) -> Iterator[float]:
    """When a run ended in its state before it was retried."""
    history = list(enumerate(run.state_history))
    last_alive = max((number for number, change in history if not change.state.is_over), default=-1)
    for number, change in history:
        if change.state is run.state and change.at and number < last_alive:
            yield change.at.timestamp()


def about(run: Run) -> dict[str, str]:
    """The names and the error of a run, as far as known."""
    return {name: value[:_MAX_CHARACTERS] for name in _ABOUT if (value := getattr(run, name))}


class Outbox:
    """The writing side of the outbox. Safe to use from several threads.

    Three times of KFP's clock are stored. `since`: ends up to it are not reported. `newest`: all runs that finished up
    to it have been seen. `floor`: an end up to it that is not in the outbox is old and is never reported; it starts
    at `since`, and delivered notices of ends up to it are pruned only in the transaction that advances it.
    So no pruned notice can be written again, and no end is lost before it was seen.
    """

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    def begin(self, since: datetime, namespace: str) -> bool:
        """Sets at the first start that ends up to `since` are not reported; returns whether it was the first.

        The namespace of the watched runs must not change afterwards: else raises OutboxError.
        """
        with self._database.writing() as connection:
            facts = _facts(connection)
            if _SINCE in facts:
                if facts[_NAMESPACE] != namespace:
                    raise OutboxError(
                        f"{self._database.path} is the outbox of the namespace '{facts[_NAMESPACE]}', not of"
                        f" '{namespace}': runs of the one would be missing in the other"
                    )
                return False
            at = since.timestamp()
            first = {_SINCE: at, _FLOOR: at, _NEWEST: at, _NAMESPACE: namespace}
            connection.executemany("INSERT INTO facts (name, value) VALUES (?, ?)", first.items())
            return True

    def record(self, run: Run) -> Notice | None:
        """Processes the current state of a run; writes a notice if it has finished and that was not reported yet."""
        if not self._has_changed(run):
            return None
        with self._database.writing() as connection:
            job, at = run.labels.get(JOB_LABEL, ""), ended_at(run)
            if not run.state.is_over:
                connection.execute(
                    "INSERT INTO open_runs (run_id, job, etag) VALUES (?, ?, ?)"
                    " ON CONFLICT (run_id) DO UPDATE SET etag = excluded.etag, gone_at = NULL",
                    (run.run_id, job, run.etag),
                )
                return None
            was_open = connection.execute("DELETE FROM open_runs WHERE run_id = ?", (run.run_id,)).rowcount > 0
            facts = _facts(connection)
            if not was_open and at <= facts[_FLOOR]:
                return None
            if self._last_end(connection, run.run_id) > at:
                return None
            if any(facts[_SINCE] < earlier <= facts[_FLOOR] for earlier in earlier_ends(run)):
                return None  # it ended like this before, so long ago that the notice may have been pruned
            return self._write(connection, run.run_id, job, run.state.value, at, run=run)

    def is_new_end(self, run: Run) -> bool:
        """Whether a run has an end that is neither in the outbox nor too old."""
        at = ended_at(run)
        if self._database.read("SELECT 1 FROM notices WHERE run_id = ? AND ended_at >= ?", (run.run_id, at)):
            return False
        if self._database.read("SELECT 1 FROM open_runs WHERE run_id = ?", (run.run_id,)):
            return True
        return at > float(dict(self._database.read("SELECT name, value FROM facts"))[_FLOOR])

    def record_missing(self, run_id: str) -> Notice | None:
        """Records that an unfinished run was not found; writes a notice if it stays missing."""
        now = self._now()
        with self._database.writing() as connection:
            row = connection.execute("SELECT job, gone_at FROM open_runs WHERE run_id = ?", (run_id,)).fetchone()
            if row is None:
                return None
            job, gone_at = row
            if gone_at is None:
                connection.execute("UPDATE open_runs SET gone_at = ? WHERE run_id = ?", (now, run_id))
                return None
            if now - gone_at < GONE_SECONDS:
                return None
            connection.execute("DELETE FROM open_runs WHERE run_id = ?", (run_id,))
            if self._last_end(connection, run_id) > 0:
                return None  # it ended, was reported, and was being retried, or was seen late: its end is known
            return self._write(connection, run_id, job, DELETED, max(gone_at, _facts(connection)[_FLOOR] + 1))

    def open_runs(self) -> Mapping[str, str]:
        """The runs that had not finished when they were last seen, with their etags."""
        return dict(self._database.read("SELECT run_id, etag FROM open_runs"))

    def seen_up_to(self) -> datetime:
        """The time from which ends must be checked again: some time before the newest one seen."""
        facts = dict(self._database.read("SELECT name, value FROM facts"))
        return from_timestamp(max(facts[_NEWEST] - LOOK_BACK.total_seconds(), facts[_FLOOR]))

    def complete(self, newest: datetime | None, keep: timedelta) -> int:
        """Records that all ends up to `newest` have been seen.

        Prunes settled notices more than `keep` older, and returns how many.
        """
        with self._database.writing() as connection:
            facts = _facts(connection)
            seen = max(facts[_NEWEST], newest.timestamp() if newest else 0.0)
            floor = max(facts[_FLOOR], seen - max(keep, LOOK_BACK).total_seconds())
            update = "UPDATE facts SET value = ? WHERE name = ?"
            connection.executemany(update, [(seen, _NEWEST), (floor, _FLOOR)])
            return connection.execute(
                "DELETE FROM notices WHERE status IN (?, ?, ?) AND ended_at <= ?"
                " AND run_id NOT IN (SELECT run_id FROM open_runs)",
                (*_DONE, floor),
            ).rowcount

    def _has_changed(self, run: Run) -> bool:
        """Whether there may be something to write: most runs are seen many times."""
        known = self._database.read("SELECT etag, gone_at FROM open_runs WHERE run_id = ?", (run.run_id,))
        if not run.state.is_over:
            return known != [(run.etag, None)]
        query = "SELECT 1 FROM notices WHERE run_id = ? AND state = ?"
        return bool(known) or not self._database.read(query, (run.run_id, run.state.value))

    def _last_end(self, connection: sqlite3.Connection, run_id: str) -> float:
        """The latest reported end of a run; 0 if none."""
        query = "SELECT coalesce(max(ended_at), 0) FROM notices WHERE run_id = ?"
        return float(connection.execute(query, (run_id,)).fetchone()[0])

    def _write(
        self,
        connection: sqlite3.Connection,
        run_id: str,
        job: str,
        state: str,
        ended_at: float,
        *,
        run: Run | None = None,
    ) -> Notice | None:
        now = self._now()
        metrics = dict(islice(named_metrics(run.metrics).items(), _MAX_METRICS)) if run else {}
        facts = [json.dumps(value, ensure_ascii=False) for value in (metrics, about(run) if run else {})]
        inserted = connection.execute(
            "INSERT INTO notices (run_id, job, state, ended_at, written_at, next_at, metrics, about)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run_id, state) DO NOTHING",
            (run_id, job, state, ended_at, now, now, *facts),
        )
        if not inserted.rowcount:
            # A retried run ended as before, which was reported. The later end keeps the row from being pruned.
            connection.execute(
                "UPDATE notices SET ended_at = max(ended_at, ?) WHERE run_id = ? AND state = ?",
                (ended_at, run_id, state),
            )
            return None
        query = f"SELECT {COLUMNS} FROM notices WHERE id = ?"  # noqa: S608
        return read_notice(connection.execute(query, (inserted.lastrowid,)).fetchone())


def _facts(connection: sqlite3.Connection) -> dict[str, Any]:
    return dict(connection.execute("SELECT name, value FROM facts").fetchall())
