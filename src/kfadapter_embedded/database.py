"""The database of the embedded KFP: one SQLite file, and the connections to it.

An acknowledged write survives `kill -9` and a loss of power: the journal is a write-ahead log that is flushed at
every commit. The database's unique keys decide who wins when two callers use one name.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from typing import TYPE_CHECKING

from .schema import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StoreError(Exception):
    """The database cannot be used: written by a newer program, or no database at all."""


class Database:
    """Connections to one SQLite file, for any number of threads."""

    def __init__(self, path: Path) -> None:
        """Opens the database, making or migrating it.

        Raises:
            StoreError: the file is no such database, or of a newer program.
        """
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._write_lock = threading.Lock()
        try:
            with self.writing() as connection:
                _migrate(connection)
        except sqlite3.Error as error:
            raise StoreError(f"cannot use {path}: {error}") from error

    def close(self) -> None:
        """Closes what no other thread uses at the moment."""
        while self._idle:
            self._idle.pop().close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a transaction that sees one state of the database."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection inside the only writing transaction; it is durable when this returns."""
        with self._write_lock, self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = _connect(self._path)
        try:
            yield connection
        finally:
            # Still inside a transaction means that ending it failed: nobody else shall inherit that.
            if connection.in_transaction:
                connection.close()
            else:
                self._idle.append(connection)


def fold(value: str | float | None) -> str | float | None:
    """One letter case for all, as MySQL's default collation compares."""
    return value.casefold() if isinstance(value, str) else value


def _connect(path: Path) -> sqlite3.Connection:
    # Threads hand connections on but never share one, which is all that the check guards against.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.create_function("fold", 1, fold, deterministic=True)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "recursive_triggers = ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    if done > len(MIGRATIONS):
        raise StoreError(f"the data were written by a newer version of this program (schema {done})")
    for script in MIGRATIONS[done:]:
        for statement in script.split(";"):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
