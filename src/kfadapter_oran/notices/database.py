"""The file of notices: SQLite, safely shared by the process that sends and those that read."""

from __future__ import annotations

import enum
import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from kfadapter_grpc.contract.spec import Json

VERSION = 1
BUSY_SECONDS = 10.0
"""How long one process waits for another one's write."""
# A notice stays the only one of its run and state until it is pruned (outbox.py documents when). `open_runs` are
# runs that were seen and had not finished.
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
    metrics TEXT NOT NULL DEFAULT '{}',
    about TEXT NOT NULL DEFAULT '{}',
    UNIQUE (run_id, state)
);
CREATE INDEX notices_by_status ON notices (status, next_at);
"""


class NoticeStatus(enum.Enum):
    PENDING = "pending"
    """It is to be sent, or sent again."""
    PARKED = "parked"
    """All attempts have failed; it needs an operator."""
    DELIVERED = "delivered"
    SUPERSEDED = "superseded"
    """It was not delivered, and a later end of the same run was: sending it now would report what no longer holds."""
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice that a run has finished. At most one exists for each run and state.

    Attributes:
        id: Its number, ascending.
        run_id: The run.
        job: The training job.
        state: How the run ended: KFP's state, or `DELETED`.
        status: Its status.
        written_at: When it was written, in UTC.
        attempts: The number of attempts to post it, also interrupted ones, since it was written or last resent.
        refusals: How many of these had a response that is not a delivery.
        next_at: When it is due; only meaningful while pending.
        settled_at: When it was delivered, parked, superseded or discarded.
        answer: The result of the last attempt, as text.
        metrics: The metrics of the run, by name.
        ended_at: When the run ended.
        about: The run's names and its error, by the names of a run's fields; those that are known.
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
    metrics: Mapping[str, Json] = field(default_factory=dict)
    ended_at: datetime | None = None
    about: Mapping[str, str] = field(default_factory=dict)


COLUMNS = ", ".join(one.name for one in fields(Notice))


class OutboxError(Exception):
    """The outbox cannot be used; the message has the reason."""


class OutboxBusyError(OutboxError):
    """Another notifier uses this outbox."""


class Database:
    """The open file. Safe to use from several threads and processes; each write is one transaction."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Opens the file, and creates it if it is missing and `create` is set.

        Raises OutboxError if it is missing, cannot be opened, or was written by a newer version.
        """
        if not create and not path.is_file():
            raise OutboxError(f"not found: outbox at {path}")
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
        with self._lock:
            self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Makes the block one transaction, which is on disk when the block ends."""
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
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def _prepare(self) -> None:
        # FULL with WAL: a transaction is on disk, not only in the page cache, before its notice is sent.
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            self._connection.execute(f"PRAGMA {pragma}")
        if self._version() == 0:
            with self.writing() as connection:
                if self._version() == 0:  # no other process was faster
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {VERSION}")
        else:
            for column in ("metrics", "about"):  # new ones, which older versions ignore
                if not self.read("SELECT 1 FROM pragma_table_info('notices') WHERE name = ?", (column,)):
                    with self.writing() as connection:
                        connection.execute(f"ALTER TABLE notices ADD COLUMN {column} TEXT NOT NULL DEFAULT '{{}}'")
        if self._version() != VERSION:
            raise OutboxError(f"{self.path} was written by another version ({self._version()}, not {VERSION})")

    def _version(self) -> int:
        ((version,),) = self.read("PRAGMA user_version")
        return int(version)


@contextmanager
def exclusive(outbox: Path) -> Iterator[None]:
    """Locks out other notifiers during the block: two would post everything twice.

    Raises OutboxBusyError if another process holds it, OutboxError if the file next to the outbox cannot be created.
    """
    path = outbox.with_name(f"{outbox.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OutboxError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system releases it with the process
        except BlockingIOError:
            raise OutboxBusyError(f"another notifier works with {outbox}") from None
        yield
    finally:
        os.close(handle)


def read_notice(row: Sequence[Any]) -> Notice:
    """Reads a row of `COLUMNS`."""
    values = dict(zip(COLUMNS.split(", "), row, strict=True))
    values["status"] = NoticeStatus(values["status"])
    for name in ("metrics", "about"):
        values[name] = json.loads(values[name])
    for name in ("written_at", "next_at", "settled_at", "ended_at"):
        values[name] = None if values[name] is None else from_timestamp(values[name])
    return Notice(**values)


def from_timestamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
