"""Pipelines and their versions in the database."""

from __future__ import annotations

import json
import sqlite3
import uuid
from typing import TYPE_CHECKING

from .database import fold
from .pages import Query
from .records import Pipeline, Version

if TYPE_CHECKING:
    from collections.abc import Callable

    from .database import Database
    from .listing import Listing
    from .pages import Page
    from .records import NewPipeline, NewVersion

_PIPELINE_COLUMNS = "id, name, display_name, description, created_at, tags"
_VERSION_COLUMNS = "id, pipeline_id, name, display_name, description, code_source_url, created_at, tags"


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


class PipelineStore:
    """Pipelines and their versions. Every method may be called from any thread, and blocks."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def create_pipeline(self, new: NewPipeline) -> Pipeline:
        """Adds a pipeline without versions.

        Raises:
            NameTakenError: another pipeline has the name, in whatever letter case.
        """
        with self._database.writing() as connection:
            return self._insert_pipeline(connection, new)

    def create_pipeline_with_version(self, new: NewPipeline, version: NewVersion) -> Pipeline:
        """Adds a pipeline and its first version, both or none.

        Raises:
            NameTakenError: another pipeline has the name, in whatever letter case.
        """
        with self._database.writing() as connection:
            pipeline = self._insert_pipeline(connection, new)
            self._insert_version(connection, pipeline.id, version)
            return pipeline

    def create_version(self, pipeline_id: str, new: NewVersion) -> Version:
        """Adds a version.

        Raises:
            NameTakenError: another version of the pipeline has the name, in whatever letter case.
            PipelineGoneError: there is no such pipeline.
        """
        with self._database.writing() as connection:
            if _find(connection, "SELECT id FROM pipelines WHERE id = ?", pipeline_id) is None:
                raise PipelineGoneError
            return self._insert_version(connection, pipeline_id, new)

    def try_pipeline(self, pipeline_id: str) -> Pipeline | None:
        """The pipeline with this id."""
        with self._database.reading() as connection:
            row = _find(connection, f"SELECT {_PIPELINE_COLUMNS} FROM pipelines WHERE id = ?", pipeline_id)  # noqa: S608
        return _pipeline(row) if row else None

    def try_pipeline_by_name(self, name: str) -> Pipeline | None:
        """The pipeline with this name, in whatever letter case."""
        query = f"SELECT {_PIPELINE_COLUMNS} FROM pipelines WHERE name_key = fold(?)"  # noqa: S608
        with self._database.reading() as connection:
            row = _find(connection, query, name)
        return _pipeline(row) if row else None

    def try_version(self, version_id: str) -> Version | None:
        """The version with this id, of whatever pipeline."""
        with self._database.reading() as connection:
            row = _find(connection, f"SELECT {_VERSION_COLUMNS} FROM versions WHERE id = ?", version_id)  # noqa: S608
        return _version(row) if row else None

    def try_spec(self, version_id: str) -> str | None:
        """The specification of a version, as JSON text."""
        with self._database.reading() as connection:
            row = _find(connection, "SELECT spec FROM specs WHERE version_id = ?", version_id)
        return row[0] if row else None

    def try_latest_version_id(self, pipeline_id: str) -> str | None:
        """The id of a pipeline's newest version."""
        query = "SELECT id FROM versions WHERE pipeline_id = ? ORDER BY created_at DESC, rowid DESC LIMIT 1"
        with self._database.reading() as connection:
            row = _find(connection, query, pipeline_id)
        return row[0] if row else None

    def try_update_pipeline(self, pipeline_id: str, display_name: str, tags: dict[str, str] | None) -> Pipeline | None:
        """Changes a pipeline; an empty display name and no tags leave what was there.

        Returns:
            The pipeline as it is now, `None` if there is none.
        """
        with self._database.writing() as connection:
            _update(connection, "pipelines", pipeline_id, display_name, tags)
        return self.try_pipeline(pipeline_id)

    def try_update_version(self, version_id: str, display_name: str, tags: dict[str, str] | None) -> Version | None:
        """Changes a version; an empty display name and no tags leave what was there.

        Returns:
            The version as it is now, `None` if there is none.
        """
        with self._database.writing() as connection:
            _update(connection, "versions", version_id, display_name, tags)
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
        with self._database.writing() as connection:
            version = _find(connection, "SELECT id FROM versions WHERE pipeline_id = ? LIMIT 1", pipeline_id)
            if version and not cascade:
                raise HasVersionsError(version[0])
            return connection.execute("DELETE FROM pipelines WHERE id = ?", (pipeline_id,)).rowcount > 0

    def delete_version(self, version_id: str) -> bool:
        """Deletes a version; says whether there was one."""
        with self._database.writing() as connection:
            return connection.execute("DELETE FROM versions WHERE id = ?", (version_id,)).rowcount > 0

    def list_pipelines(self, listing: Listing) -> Page[Pipeline]:
        """A page of pipelines."""
        query = Query(_PIPELINE_COLUMNS, "FROM pipelines WHERE 1", (), _pipeline)
        with self._database.reading() as connection:
            return query.page(connection, listing)

    def list_versions(self, pipeline_id: str, listing: Listing) -> Page[Version]:
        """A page of a pipeline's versions; empty if there is no such pipeline."""
        query = Query(_VERSION_COLUMNS, "FROM versions WHERE pipeline_id = ?", (pipeline_id,), _version)
        with self._database.reading() as connection:
            return query.page(connection, listing)

    def _insert_pipeline(self, connection: sqlite3.Connection, new: NewPipeline) -> Pipeline:
        row = (str(uuid.uuid4()), new.name, new.display_name, new.description, int(self._clock()), _json(new.tags))
        _insert(connection, "pipelines", _PIPELINE_COLUMNS, row, new.name)
        return _pipeline(row)

    def _insert_version(self, connection: sqlite3.Connection, pipeline_id: str, new: NewVersion) -> Version:
        texts = (new.name, new.display_name, new.description, new.code_source_url)
        row = (str(uuid.uuid4()), pipeline_id, *texts, int(self._clock()), _json(new.tags))
        _insert(connection, "versions", _VERSION_COLUMNS, row, new.name)
        connection.execute("INSERT INTO specs VALUES (?, ?)", (row[0], new.spec))
        return _version(row)


def _find(connection: sqlite3.Connection, query: str, key: str) -> tuple[str, ...] | None:
    row: tuple[str, ...] | None = connection.execute(query, (key,)).fetchone()
    return row


def _insert(connection: sqlite3.Connection, table: str, columns: str, row: tuple[str | int, ...], name: str) -> None:
    marks = ", ".join("?" * (len(row) + 1))
    try:
        connection.execute(f"INSERT INTO {table} ({columns}, name_key) VALUES ({marks})", (*row, fold(name)))  # noqa: S608
    except sqlite3.IntegrityError as error:
        raise NameTakenError(name) from error


def _update(
    connection: sqlite3.Connection, table: str, item_id: str, display_name: str, tags: dict[str, str] | None
) -> None:
    if display_name:
        connection.execute(f"UPDATE {table} SET display_name = ? WHERE id = ?", (display_name, item_id))  # noqa: S608
    if tags is not None:
        connection.execute(f"UPDATE {table} SET tags = ? WHERE id = ?", (_json(tags), item_id))  # noqa: S608


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
