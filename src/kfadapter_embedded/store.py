"""The durable store of the embedded KFP: documents in one SQLite file, in the form that KFP's API returns.

An acknowledged write survives `kill -9` and a power failure: the write-ahead log is flushed at every commit. Progress
of tasks survives `kill -9`, and is flushed with the next commit. The database's unique keys decide which of two
concurrent requests gets a name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .document_kinds import ARTIFACT_TASKS, KINDS, PIPELINES, RECURRING_RUNS, RUNS, TASKS, VERSIONS, Kind
from .errors import not_found
from .json_text import to_json, without_empty
from .listing import Listing

SCHEMA_VERSION: Final = 5
"""The `user_version` of a database that this program writes; `upgrade` brings older ones to it."""
# Equal specs of versions and runs are stored once, and separately, so that listing never reads them. Runs outlive
# their pipeline, version and experiment, so no foreign keys refer to those.
_SCHEMA: Final = (
    *(kind.schema() for kind in KINDS),
    "CREATE TABLE specs (digest TEXT PRIMARY KEY, spec TEXT NOT NULL)",
    "CREATE UNIQUE INDEX pipeline_names ON pipelines (Name)",
    "CREATE UNIQUE INDEX version_names ON pipeline_versions (owner, Name)",
    "CREATE UNIQUE INDEX experiment_names ON experiments (Name)",
    "CREATE UNIQUE INDEX run_ids ON run_details (UUID)",
    *(f"CREATE INDEX {each.table}_by_time ON {each.table} ({each.columns[each.order]}, id)" for each in KINDS),
    *(
        f"CREATE INDEX {each.table}_of ON {each.table} (owner, {each.columns[each.order]}, id)"
        for each in KINDS
        if each.owner
    ),
    "CREATE INDEX artifact_tasks_of_artifacts ON artifact_tasks (ArtifactID)",
    "CREATE INDEX artifact_tasks_of_tasks ON artifact_tasks (TaskID)",
    "CREATE INDEX runs_by_state ON run_details (State, submission)",
    "CREATE INDEX runs_by_submission ON run_details (submission)",
    "CREATE INDEX runs_by_size ON run_details (file_bytes)",
    "CREATE INDEX runs_by_recurring_run ON run_details (JobUUID, State)",
    "CREATE INDEX recurring_runs_by_start ON jobs (next_start)",
    "CREATE INDEX recurring_runs_by_spec ON jobs (spec)",
    "CREATE INDEX versions_by_spec ON pipeline_versions (spec)",
    "CREATE INDEX runs_by_spec ON run_details (spec)",
)


class StoreError(Exception):
    """The database cannot be used: it was written by a newer version, or it is not a database."""


class DuplicateError(Exception):
    """Another document already has this name or id."""


@dataclass(frozen=True)
class Page:
    """A page of a list.

    Attributes:
        ids: the ids of the documents.
        texts: the documents, as JSON texts.
        total_size: the current size of the whole list.
        next_page_token: the token of the next page; empty on the last page.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    total_size: int
    next_page_token: str

    def json(self, name: str, texts: Iterable[str] | None = None) -> Iterator[str]:
        """The list as KFP returns it, one item at a time; `texts`, if set, replace the documents."""
        separator = f'{{"{name}":['
        for text in self.texts if texts is None else texts:
            yield separator + text
            separator = ","
        rest = to_json(without_empty(total_size=self.total_size, next_page_token=self.next_page_token))
        yield f"],{rest[1:]}" if separator == "," else rest


class Documents(sqlite3.Connection):
    """A connection that reads and writes documents, inside a transaction of `Store`."""

    def one(self, query: str, *arguments: str | int) -> Any:  # noqa: ANN401  # what the query selects
        """The only column of the first row; `None` if there are no rows."""
        row = self.execute(query, arguments).fetchone()
        return row[0] if row else None

    def text(self, kind: Kind, item_id: str) -> str | None:
        text: str | None = self.one(f"SELECT document FROM {kind.table} WHERE id = ?", item_id)  # noqa: S608
        return text

    def found(self, kind: Kind, item_id: str, *layers: str) -> str:
        """A document as JSON text, by its id; or KfpError with KFP's contexts, outermost first."""
        text = self.text(kind, item_id)
        if text is None:
            raise not_found(f"{kind.name} {item_id} not found", *layers)
        return text

    def document(self, kind: Kind, item_id: str) -> dict[str, object] | None:
        text = self.text(kind, item_id)
        return json.loads(text) if text else None

    def add(self, kind: Kind, document: dict[str, object], *, if_new: bool = False, **more: str | int) -> str:
        """Adds a document, with the values of the kind's further columns; returns it as JSON text.

        Raises DuplicateError if its name, in any letter case, or its id is in use; `if_new` keeps one with the same id.
        """
        text = to_json(document)
        values = {"id": str(document[kind.key]), **more, "document": text}
        marks = ", ".join("?" * len(values))
        try:
            insert = f"INSERT {'OR IGNORE ' if if_new else ''}INTO {kind.table} ({', '.join(values)}) VALUES ({marks})"  # noqa: S608
            self.execute(insert, tuple(values.values()))
        except sqlite3.IntegrityError as error:
            raise DuplicateError(values["id"]) from error
        return text

    def put(self, kind: Kind, document: dict[str, object]) -> str:
        text = to_json(document)
        self.execute(f"UPDATE {kind.table} SET document = ? WHERE id = ?", (text, str(document[kind.key])))  # noqa: S608
        return text

    def drop(self, kind: Kind, item_id: str, *layers: str) -> None:
        """Deletes a document, and its spec if nothing else uses that; raises KfpError as `found` does."""
        if self.execute(f"DELETE FROM {kind.table} WHERE id = ?", (item_id,)).rowcount == 0:  # noqa: S608
            raise not_found(f"{kind.name} {item_id} not found", *layers)
        if kind is PIPELINES:
            self.execute("DELETE FROM pipeline_versions WHERE owner = ?", (item_id,))
        if kind is RUNS:
            # Its artifacts are kept, as in KFP.
            for each in (TASKS, ARTIFACT_TASKS):
                self.execute(f"DELETE FROM {each.table} WHERE owner = ?", (item_id,))  # noqa: S608
        used = (f"SELECT 1 FROM {each.table} WHERE spec = digest" for each in (VERSIONS, RUNS, RECURRING_RUNS))  # noqa: S608
        self.execute(f"DELETE FROM specs WHERE NOT EXISTS ({' UNION ALL '.join(used)})")  # noqa: S608

    def store_spec(self, spec: str) -> str:
        """Stores the spec that a version or a run executes; returns its key for `spec` columns."""
        digest = hashlib.sha256(spec.encode()).hexdigest()
        self.execute("INSERT OR IGNORE INTO specs VALUES (?, ?)", (digest, spec))
        return digest

    def spec(self, kind: Kind, item_id: str) -> str | None:
        """The spec that a version or a run executes, as JSON text."""
        query = f"SELECT specs.spec FROM {kind.table} JOIN specs ON digest = {kind.table}.spec WHERE id = ?"  # noqa: S608
        spec: str | None = self.one(query, item_id)
        return spec

    def page(self, listing: Listing, **wanted: Sequence[str | int]) -> Page:
        """A page of documents; for each of these columns, only those with one of its values."""
        conditions, arguments = listing.filter.sql()
        source = f"FROM {listing.kind.table} WHERE 1{conditions}"
        for column, values in wanted.items():
            source += f" AND {column} IN ({', '.join('?' * len(values))})"
            arguments += values
        total = self.one(f"SELECT count(*) {source}", *arguments)
        column, (order, bound) = listing.sort_column, ("DESC", "<=") if listing.descending else ("ASC", ">=")
        if listing.start:
            source += f" AND ({column}, id) {bound} (?, ?)"
            arguments = [*arguments, *listing.start]
        query = f"SELECT id, document, {column} {source} ORDER BY {column} {order}, id {order} LIMIT ?"
        rows = self.execute(query, [*arguments, listing.page_size + 1]).fetchall()
        shown, rest = rows[: listing.page_size], rows[listing.page_size :]
        token = listing.token(rest[0][2], rest[0][0]) if rest else ""
        return Page(tuple(row[0] for row in shown), tuple(row[1] for row in shown), total, token)


class Store:
    """Connections to one SQLite file, for any number of threads. Every method blocks.

    Attributes:
        clock: returns the seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Opens the database, creating or upgrading it; raises StoreError if it is none, or of a newer version."""
        self.clock = clock
        self._path = path
        self._idle: list[Documents] = []
        self._write_lock = threading.Lock()
        try:
            with self.writing() as connection:
                _prepare(connection)
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"cannot use {path}: {error}") from error

    def now(self) -> int:
        """The seconds since 1970, the resolution of KFP's times."""
        return int(self.clock())

    def close(self) -> None:
        """Closes the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Documents]:
        """A connection in a transaction that sees one state of the database."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def writing(self, *, flushed: bool = True) -> Iterator[Documents]:
        """A connection in the only writing transaction, which is durable when this returns.

        Unless it is `flushed`, a power failure may undo it.
        """
        with self._write_lock, self._connection() as connection:
            connection.execute(f"PRAGMA synchronous = {'FULL' if flushed else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Documents]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = _connect(self._path)
        try:
            yield connection
        finally:
            # Still in a transaction: ending it failed, and no other thread may get this connection.
            if connection.in_transaction:
                connection.close()
            else:
                self._idle.append(connection)


def _connect(path: Path) -> Documents:
    # Threads pass connections on but never share one, which is all that the check protects against.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30, factory=Documents)
    # Case-insensitive, as MySQL's default collation compares.
    connection.create_function("fold", 1, lambda text: str(text).casefold(), deterministic=True)
    connection.create_collation("folded", _compare)
    for pragma in ("journal_mode = WAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _compare(one: str, other: str) -> int:
    one, other = one.casefold(), other.casefold()
    return (one > other) - (one < other)


def _prepare(connection: Documents) -> None:
    """Creates the tables, and fills them from those of an older version."""
    version = connection.one("PRAGMA user_version")
    if version > SCHEMA_VERSION:
        words = f"the data were written by a newer version of this program (schema {version})"
        raise StoreError(f"{words}: use that version, or another folder (--data)")
    if version == SCHEMA_VERSION:
        return
    from . import upgrade  # noqa: PLC0415  # once in the life of a folder

    upgrade.set_aside(connection, version)
    for statement in _SCHEMA:
        connection.execute(statement.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"))
    upgrade.migrate(connection, version)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
