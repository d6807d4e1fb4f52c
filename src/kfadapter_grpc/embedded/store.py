"""The durable store of the embedded KFP: one SQLite file.

An acknowledged write survives `kill -9` and a loss of power: the journal is a write-ahead log that is flushed at
every commit. The database's unique keys decide who wins when two callers use one name.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from .listing import Position
from .records import Pipeline, Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .listing import Listing
    from .records import NewPipeline, NewVersion

_Item_co = TypeVar("_Item_co", covariant=True)

# One script per step of the schema; `user_version` says how many have been applied.
_MIGRATIONS = (
    """
    CREATE TABLE pipelines (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        name_key TEXT NOT NULL UNIQUE,
        display_name TEXT NOT NULL,
        description TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        tags TEXT NOT NULL
    );
    CREATE INDEX pipelines_by_time ON pipelines (created_at, id);
    CREATE TABLE versions (
        id TEXT PRIMARY KEY,
        pipeline_id TEXT NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        name_key TEXT NOT NULL,
        display_name TEXT NOT NULL,
        description TEXT NOT NULL,
        code_source_url TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        tags TEXT NOT NULL,
        UNIQUE (pipeline_id, name_key)
    );
    CREATE INDEX versions_by_time ON versions (pipeline_id, created_at, id);
    -- Apart, so that listing versions never touches the pages of their specs.
    CREATE TABLE specs (
        version_id TEXT PRIMARY KEY REFERENCES versions (id) ON DELETE CASCADE,
        spec TEXT NOT NULL
    );
    """,
)
_PIPELINE_COLUMNS = "id, name, display_name, description, created_at, tags"
_VERSION_COLUMNS = "id, pipeline_id, name, display_name, description, code_source_url, created_at, tags"


class StoreError(Exception):
    """The database cannot be used: written by a newer program, or no database at all."""


class NameTakenError(Exception):
    """Another pipeline, or another version of the pipeline, has this name already."""


class PipelineGoneError(Exception):
    """The pipeline of a new version does not exist."""


class HasVersionsError(Exception):
    """A pipeline that was to be deleted without its versions has some.

    Attributes:
        version_id: one of them.
    """

    def __init__(self, version_id: str) -> None:
        super().__init__(version_id)
        self.version_id = version_id


@dataclass(frozen=True)
class Page(Generic[_Item_co]):
    """A part of a list.

    Attributes:
        total_size: how many items the whole list has at this moment.
        next_page_token: leads to the next part; empty at the end.
    """

    items: tuple[_Item_co, ...]
    total_size: int
    next_page_token: str


class Store:
    """Pipelines and their versions. Every method may be called from any thread, and blocks."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Opens the database, making or migrating it.

        Args:
            path: the file.
            clock: tells the seconds since 1970.

        Raises:
            StoreError: the file is no such database, or of a newer program.
        """
        self._path = path
        self._clock = clock
        self._idle: list[sqlite3.Connection] = []
        self._write_lock = threading.Lock()
        try:
            with self._writing() as database:
                _migrate(database)
        except sqlite3.Error as error:
            raise StoreError(f"cannot use {path}: {error}") from error

    def close(self) -> None:
        """Closes what no other thread uses at the moment."""
        while self._idle:
            self._idle.pop().close()

    def create_pipeline(self, new: NewPipeline) -> Pipeline:
        """Adds a pipeline without versions.

        Raises:
            NameTakenError: another pipeline has the name, in whatever letter case.
        """
        with self._writing() as database:
            return self._insert_pipeline(database, new)

    def create_pipeline_with_version(self, new: NewPipeline, version: NewVersion) -> Pipeline:
        """Adds a pipeline and its first version, both or none.

        Raises:
            NameTakenError: another pipeline has the name, in whatever letter case.
        """
        with self._writing() as database:
            pipeline = self._insert_pipeline(database, new)
            self._insert_version(database, pipeline.id, version)
            return pipeline

    def create_version(self, pipeline_id: str, new: NewVersion) -> Version:
        """Adds a version.

        Raises:
            NameTakenError: another version of the pipeline has the name, in whatever letter case.
            PipelineGoneError: there is no such pipeline.
        """
        with self._writing() as database:
            if _find(database, "SELECT id FROM pipelines WHERE id = ?", pipeline_id) is None:
                raise PipelineGoneError
            return self._insert_version(database, pipeline_id, new)

    def try_pipeline(self, pipeline_id: str) -> Pipeline | None:
        """The pipeline with this id."""
        with self._reading() as database:
            row = _find(database, f"SELECT {_PIPELINE_COLUMNS} FROM pipelines WHERE id = ?", pipeline_id)  # noqa: S608
        return _pipeline(row) if row else None

    def try_pipeline_by_name(self, name: str) -> Pipeline | None:
        """The pipeline with this name, in whatever letter case."""
        query = f"SELECT {_PIPELINE_COLUMNS} FROM pipelines WHERE name_key = fold(?)"  # noqa: S608
        with self._reading() as database:
            row = _find(database, query, name)
        return _pipeline(row) if row else None

    def try_version(self, version_id: str) -> Version | None:
        """The version with this id, of whatever pipeline."""
        with self._reading() as database:
            row = _find(database, f"SELECT {_VERSION_COLUMNS} FROM versions WHERE id = ?", version_id)  # noqa: S608
        return _version(row) if row else None

    def try_spec(self, version_id: str) -> str | None:
        """The specification of a version, as JSON text."""
        with self._reading() as database:
            row = _find(database, "SELECT spec FROM specs WHERE version_id = ?", version_id)
        return row[0] if row else None

    def try_update_pipeline(self, pipeline_id: str, display_name: str, tags: dict[str, str] | None) -> Pipeline | None:
        """Changes a pipeline; an empty display name and no tags leave what was there.

        Returns:
            The pipeline as it is now, `None` if there is none.
        """
        with self._writing() as database:
            _update(database, "pipelines", pipeline_id, display_name, tags)
        return self.try_pipeline(pipeline_id)

    def try_update_version(self, version_id: str, display_name: str, tags: dict[str, str] | None) -> Version | None:
        """Changes a version; an empty display name and no tags leave what was there.

        Returns:
            The version as it is now, `None` if there is none.
        """
        with self._writing() as database:
            _update(database, "versions", version_id, display_name, tags)
        return self.try_version(version_id)

    def delete_pipeline(self, pipeline_id: str, *, cascade: bool) -> bool:
        """Deletes a pipeline.

        Args:
            pipeline_id: which.
            cascade: its versions too.

        Returns:
            Whether there was one.

        Raises:
            HasVersionsError: it has versions, and they are not to go.
        """
        with self._writing() as database:
            version = _find(database, "SELECT id FROM versions WHERE pipeline_id = ? LIMIT 1", pipeline_id)
            if version and not cascade:
                raise HasVersionsError(version[0])
            return database.execute("DELETE FROM pipelines WHERE id = ?", (pipeline_id,)).rowcount > 0

    def delete_version(self, version_id: str) -> bool:
        """Deletes a version; says whether there was one."""
        with self._writing() as database:
            return database.execute("DELETE FROM versions WHERE id = ?", (version_id,)).rowcount > 0

    def list_pipelines(self, listing: Listing) -> Page[Pipeline]:
        """A page of pipelines."""
        query = _Query(_PIPELINE_COLUMNS, "FROM pipelines WHERE 1", (), _pipeline)
        with self._reading() as database:
            return query.page(database, listing)

    def list_versions(self, pipeline_id: str, listing: Listing) -> Page[Version]:
        """A page of a pipeline's versions; empty if there is no such pipeline."""
        query = _Query(_VERSION_COLUMNS, "FROM versions WHERE pipeline_id = ?", (pipeline_id,), _version)
        with self._reading() as database:
            return query.page(database, listing)

    def _insert_pipeline(self, database: sqlite3.Connection, new: NewPipeline) -> Pipeline:
        row = (str(uuid.uuid4()), new.name, new.display_name, new.description, int(self._clock()), _json(new.tags))
        _insert(database, "pipelines", _PIPELINE_COLUMNS, row, new.name)
        return _pipeline(row)

    def _insert_version(self, database: sqlite3.Connection, pipeline_id: str, new: NewVersion) -> Version:
        texts = (new.name, new.display_name, new.description, new.code_source_url)
        row = (str(uuid.uuid4()), pipeline_id, *texts, int(self._clock()), _json(new.tags))
        _insert(database, "versions", _VERSION_COLUMNS, row, new.name)
        database.execute("INSERT INTO specs VALUES (?, ?)", (row[0], new.spec))
        return _version(row)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a transaction that sees one state of the database."""
        with self._connection() as database:
            database.execute("BEGIN")
            try:
                yield database
            finally:
                database.execute("ROLLBACK")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A connection inside the only writing transaction; it is durable when this returns."""
        with self._write_lock, self._connection() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            database = self._idle.pop()
        except IndexError:
            database = _connect(self._path)
        try:
            yield database
        finally:
            # Still inside a transaction means that ending it failed: nobody else shall inherit that.
            if database.in_transaction:
                database.close()
            else:
                self._idle.append(database)


def _connect(path: Path) -> sqlite3.Connection:
    # Threads hand connections on but never share one, which is all that the check guards against.
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    database.create_function("fold", 1, _fold, deterministic=True)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "recursive_triggers = ON"):
        database.execute(f"PRAGMA {pragma}")
    return database


def _fold(value: str | float | None) -> str | float | None:
    """One letter case for all, as MySQL's default collation compares."""
    return value.casefold() if isinstance(value, str) else value


def _migrate(database: sqlite3.Connection) -> None:
    (done,) = database.execute("PRAGMA user_version").fetchone()
    if done > len(_MIGRATIONS):
        raise StoreError(f"the data were written by a newer version of this program (schema {done})")
    for script in _MIGRATIONS[done:]:
        for statement in script.split(";"):
            database.execute(statement)
    database.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")


def _find(database: sqlite3.Connection, query: str, key: str) -> tuple[str, ...] | None:
    row: tuple[str, ...] | None = database.execute(query, (key,)).fetchone()
    return row


def _insert(database: sqlite3.Connection, table: str, columns: str, row: tuple[str | int, ...], name: str) -> None:
    marks = ", ".join("?" * (len(row) + 1))
    try:
        database.execute(f"INSERT INTO {table} ({columns}, name_key) VALUES ({marks})", (*row, _fold(name)))  # noqa: S608
    except sqlite3.IntegrityError as error:
        raise NameTakenError(name) from error


def _update(
    database: sqlite3.Connection, table: str, item_id: str, display_name: str, tags: dict[str, str] | None
) -> None:
    if display_name:
        database.execute(f"UPDATE {table} SET display_name = ? WHERE id = ?", (display_name, item_id))  # noqa: S608
    if tags is not None:
        database.execute(f"UPDATE {table} SET tags = ? WHERE id = ?", (_json(tags), item_id))  # noqa: S608


@dataclass(frozen=True)
class _Query(Generic[_Item_co]):
    """What a list selects: columns (the id first), table and condition, and what makes an item of a row."""

    columns: str
    source: str
    arguments: tuple[str | int, ...]
    read: Callable[[tuple[str | int, ...]], _Item_co]

    def page(self, database: sqlite3.Connection, listing: Listing) -> Page[_Item_co]:
        filters, values = listing.filter.sql(listing.model.columns)
        source, arguments = self.source + filters, [*self.arguments, *values]
        (total,) = database.execute(f"SELECT count(*) {source}", arguments).fetchone()
        column, (order, bound) = listing.sort_expression, ("DESC", "<=") if listing.descending else ("ASC", ">=")
        if listing.start:
            source += f" AND ({column}, id) {bound} (fold(?), ?)"
            arguments += [listing.start.value, listing.start.id]
        query = f"SELECT {self.columns}, {listing.sort_value} {source} ORDER BY {column} {order}, id {order} LIMIT ?"
        rows = database.execute(query, [*arguments, listing.page_size + 1]).fetchall()
        token = listing.token(Position(rows[-1][-1], rows[-1][0])) if len(rows) > listing.page_size else ""
        return Page(tuple(self.read(row[:-1]) for row in rows[: listing.page_size]), total, token)


def _json(tags: dict[str, str]) -> str:
    return json.dumps(tags, ensure_ascii=False, sort_keys=True)


def _pipeline(row: tuple[str | int, ...]) -> Pipeline:
    pipeline_id, name, display_name, description, created_at, tags = row
    return Pipeline(
        id=str(pipeline_id),
        name=str(name),
        display_name=str(display_name),
        description=str(description),
        created_at=int(created_at),
        tags=json.loads(str(tags)),
    )


def _version(row: tuple[str | int, ...]) -> Version:
    version_id, pipeline_id, name, display_name, description, code_source_url, created_at, tags = row
    return Version(
        id=str(version_id),
        pipeline_id=str(pipeline_id),
        name=str(name),
        display_name=str(display_name),
        description=str(description),
        code_source_url=str(code_source_url),
        created_at=int(created_at),
        tags=json.loads(str(tags)),
    )
