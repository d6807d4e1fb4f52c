"""The file that notices are kept in: SQLite, shared safely by the process that sends and by those that look."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from kfadapter_oran.notices.models import Notice, NoticeStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

VERSION = 1
"""The version of the schema."""
BUSY_SECONDS = 10.0
"""How long one process waits for another one's write."""
COLUMNS = "id, run_id, job, state, status, written_at, attempts, refusals, next_at, settled_at, answer"
"""What `notice` reads."""
# A notice is for ever the only one of its run and state, until it is pruned (outbox.py says when). `open_runs` are
# those that were seen and were not over.
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE open_runs (run_id TEXT PRIMARY KEY, job TEXT NOT NULL, etag TEXT NOT NULL, gone_at REAL) WITHOUT ROWID;
CREATE TABLE notices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL,
    job TEXT NOT NULL,
    state TEXT NOT NULL,
    ended_at REAL NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending',
    written_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    refusals INTEGER NOT NULL DEFAULT 0,
    next_at REAL NOT NULL,
    settled_at REAL,
    answer TEXT NOT NULL DEFAULT '',
    UNIQUE (run_id, state)
);
CREATE INDEX notices_by_status ON notices (status, next_at);
"""


class OutboxError(Exception):
    """The outbox cannot be used; the message says why."""


class Database:
    """The file, open. Safe to use from several threads, and beside other processes; one write is one transaction."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Opens the file.

        Args:
            path: Where it is.
            create: Whether to make it where there is none.

        Raises:
            OutboxError: It is none, cannot be opened, or was written by a newer version.
        """
        if not create and not path.is_file():
            raise OutboxError(f"there is no outbox at {path}")
        self.path = path
        self._lock = threading.RLock()
        try:
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except (sqlite3.Error, OSError) as error:
            raise OutboxError(f"{path} cannot be opened: {error}") from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._connection.close()
            raise OutboxError(f"{path} cannot be used as an outbox: {error}") from error
        except OutboxError:
            self._connection.close()
            raise

    def close(self) -> None:
        """Closes the file. Harmless when repeated."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Makes what the block does one transaction, which is on disk when the block is left."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def read(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Reads rows."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def _prepare(self) -> None:
        # FULL with WAL: a transaction is on disk, not only with the system, before anybody is told of it.
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            self._connection.execute(f"PRAGMA {pragma}")
        if self._version() == 0:
            with self.writing() as connection:
                if self._version() == 0:  # nobody else was faster
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {VERSION}")
        if self._version() != VERSION:
            raise OutboxError(f"{self.path} was written by another version ({self._version()}, not {VERSION})")

    def _version(self) -> int:
        ((version,),) = self.read("PRAGMA user_version")
        return int(version)


def notice(row: Sequence[Any]) -> Notice:
    """Reads a row of `COLUMNS`."""
    return Notice(
        id=row[0],
        run_id=row[1],
        job=row[2],
        state=row[3],
        status=NoticeStatus(row[4]),
        written_at=moment(row[5]),
        attempts=row[6],
        refusals=row[7],
        next_at=moment(row[8]),
        settled_at=None if row[9] is None else moment(row[9]),
        answer=row[10],
    )


def moment(seconds: float) -> datetime:
    """Reads a moment, kept as seconds since 1970."""
    return datetime.fromtimestamp(seconds, timezone.utc)
