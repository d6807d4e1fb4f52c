"""Experiments in the database."""

from __future__ import annotations

import sqlite3
import uuid
from typing import TYPE_CHECKING, Final

from .database import fold
from .pages import Query
from .pipeline_store import NameTakenError
from .records import Experiment

if TYPE_CHECKING:
    from collections.abc import Callable

    from .database import Database
    from .listing import Listing
    from .pages import Page

AVAILABLE: Final = "AVAILABLE"
ARCHIVED: Final = "ARCHIVED"
_COLUMNS = "id, name, description, storage_state, created_at, last_run_created_at"
_DEFAULT_NAME = "Default"
_DEFAULT_DESCRIPTION = "All runs created without specifying an experiment will be grouped here."


class ExperimentStore:
    """Experiments; one named "Default" is there from the start."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self.default()

    def create(self, name: str, description: str) -> Experiment:
        """Adds an experiment.

        Raises:
            NameTakenError: another experiment has the name, in whatever letter case.
        """
        row = (str(uuid.uuid4()), name, description, AVAILABLE, int(self._clock()), 0)
        with self._database.writing() as connection:
            try:
                connection.execute(
                    f"INSERT INTO experiments ({_COLUMNS}, name_key) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                    (*row, fold(name)),
                )
            except sqlite3.IntegrityError as error:
                raise NameTakenError(name) from error
        return _experiment(row)

    def default(self) -> Experiment:
        """The experiment of runs that name none."""
        found = self._try("name_key", str(fold(_DEFAULT_NAME)))
        return found or self.create(_DEFAULT_NAME, _DEFAULT_DESCRIPTION)

    def try_get(self, experiment_id: str) -> Experiment | None:
        """The experiment with this id."""
        return self._try("id", experiment_id)

    def page(self, listing: Listing) -> Page[Experiment]:
        """A page of experiments."""
        with self._database.reading() as connection:
            return Query(_COLUMNS, "FROM experiments WHERE 1", (), _experiment).page(connection, listing)

    def archive(self, experiment_id: str) -> None:
        """Archives an experiment and its runs, and disables its recurring runs; harmless if there is none."""
        with self._database.writing() as connection:
            connection.execute("UPDATE experiments SET storage_state = ? WHERE id = ?", (ARCHIVED, experiment_id))
            connection.execute("UPDATE runs SET storage_state = ? WHERE experiment_id = ?", (ARCHIVED, experiment_id))
            connection.execute("UPDATE recurring_runs SET enabled = 0 WHERE experiment_id = ?", (experiment_id,))

    def unarchive(self, experiment_id: str) -> None:
        """Takes an experiment out of the archive, its runs not; harmless if there is none."""
        with self._database.writing() as connection:
            connection.execute("UPDATE experiments SET storage_state = ? WHERE id = ?", (AVAILABLE, experiment_id))

    def delete(self, experiment_id: str) -> bool:
        """Deletes an experiment, its runs not; says whether there was one."""
        with self._database.writing() as connection:
            return connection.execute("DELETE FROM experiments WHERE id = ?", (experiment_id,)).rowcount > 0

    def _try(self, column: str, key: str) -> Experiment | None:
        query = f"SELECT {_COLUMNS} FROM experiments WHERE {column} = ?"  # noqa: S608
        with self._database.reading() as connection:
            row = connection.execute(query, (key,)).fetchone()
        return _experiment(row) if row else None


def _experiment(row: tuple[str | int, ...]) -> Experiment:
    experiment_id, name, description, storage_state, created_at, last_run_created_at = row
    return Experiment(
        id=str(experiment_id),
        name=str(name),
        description=str(description),
        archived=storage_state == ARCHIVED,
        created_at=int(created_at),
        last_run_created_at=int(last_run_created_at),
    )
