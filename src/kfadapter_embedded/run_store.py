"""Runs in the database: what was asked for. How they go on is `progress_store`'s."""

from __future__ import annotations

import hashlib
import sqlite3
import uuid
from typing import TYPE_CHECKING

from .database import fold
from .execution import State
from .experiment_store import ARCHIVED, AVAILABLE
from .histories import read_history, written_history
from .pages import Query
from .records import Origin, Run, RuntimeConfig, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from .database import Database
    from .listing import Listing
    from .pages import Page
    from .records import NewRun

_COLUMNS = (
    "id, experiment_id, display_name, description, pipeline_id, version_id, parameters, pipeline_root, "
    "service_account, workflow, storage_state, created_at, scheduled_at, finished_at, state, history, error"
)
_INSERT = f"""
    INSERT INTO runs ({_COLUMNS}, id_key, spec_digest, submission)
    VALUES ({", ".join("?" * 19)}, (SELECT coalesce(max(submission), 0) + 1 FROM runs))
    """  # noqa: S608
_UNIQUE_LETTERS = 5


class RunExistsError(Exception):
    """Another run has this id already, in whatever letter case."""


class RunStore:
    """Runs, and what they execute."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def create(self, new: NewRun) -> Run:
        """Adds a run that waits.

        Raises:
            RunExistsError: there is one with its id.
        """
        run_id, now = new.id or str(uuid.uuid4()), int(self._clock())
        digest = hashlib.sha256(new.spec.encode()).hexdigest()
        row = _row(run_id, new, now)
        with self._database.writing() as connection:
            connection.execute("INSERT OR IGNORE INTO run_specs VALUES (?, ?)", (digest, new.spec))
            try:
                connection.execute(_INSERT, (*row, fold(run_id), digest))
            except sqlite3.IntegrityError as error:
                raise RunExistsError(run_id) from error
            last_run = "UPDATE experiments SET last_run_created_at = ? WHERE id = ?"
            connection.execute(last_run, (now, new.experiment_id))
        return _run(row)

    def try_get(self, run_id: str) -> Run | None:
        """The run with this id."""
        with self._database.reading() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", (run_id,)).fetchone()  # noqa: S608
        return _run(row) if row else None

    def try_spec(self, run_id: str) -> str | None:
        """What a run executes, as JSON text."""
        query = "SELECT spec FROM runs JOIN run_specs ON digest = spec_digest WHERE id = ?"
        with self._database.reading() as connection:
            row = connection.execute(query, (run_id,)).fetchone()
        return str(row[0]) if row else None

    def page(self, listing: Listing, experiment_id: str = "") -> Page[Run]:
        """A page of runs; of one experiment, if there is an id."""
        condition, arguments = ("experiment_id = ?", (experiment_id,)) if experiment_id else ("1", ())
        query = Query(_COLUMNS, f"FROM runs WHERE {condition}", arguments, _run)
        with self._database.reading() as connection:
            return query.page(connection, listing)

    def archive(self, run_id: str, *, archived: bool) -> None:
        """Puts a run into the archive, or takes it out."""
        state = ARCHIVED if archived else AVAILABLE
        with self._database.writing() as connection:
            connection.execute("UPDATE runs SET storage_state = ? WHERE id = ?", (state, run_id))

    def delete(self, run_id: str) -> State | None:
        """Deletes a run, with its tasks; tells the state that it was in, `None` if there was none."""
        with self._database.writing() as connection:
            row = connection.execute("SELECT state, spec_digest FROM runs WHERE id = ?", (run_id,)).fetchone()
            if row is None:
                return None
            state, digest = row
            connection.execute("DELETE FROM runs WHERE id = ?", (run_id,))
            unused = "DELETE FROM run_specs WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM runs WHERE spec_digest = ?)"
            connection.execute(unused, (digest, digest))
        return State(state)

    def ids(self) -> set[str]:
        """The ids of all runs."""
        with self._database.reading() as connection:
            return {str(run_id) for (run_id,) in connection.execute("SELECT id FROM runs")}

    def waiting(self) -> list[str]:
        """The ids of the runs that wait to be executed, in the order in which they came."""
        query = "SELECT id FROM runs WHERE state = ? ORDER BY submission"
        with self._database.reading() as connection:
            return [str(run_id) for (run_id,) in connection.execute(query, (State.PENDING.value,))]

    def keep_file_size(self, run_id: str, size: int) -> None:
        """Remembers how many bytes a run's files take."""
        with self._database.writing() as connection:
            connection.execute("UPDATE runs SET file_bytes = ? WHERE id = ?", (size, run_id))

    def try_largest(self) -> Run | None:
        """The run whose files take the most room."""
        query = f"SELECT {_COLUMNS} FROM runs ORDER BY file_bytes DESC LIMIT 1"  # noqa: S608
        with self._database.reading() as connection:
            row = connection.execute(query).fetchone()
        return _run(row) if row else None

    def file_size(self) -> int:
        """How many bytes the files of all runs take, as far as they are remembered."""
        with self._database.reading() as connection:
            (total,) = connection.execute("SELECT coalesce(sum(file_bytes), 0) FROM runs").fetchone()
        return int(total)


def _row(run_id: str, new: NewRun, now: int) -> tuple[str | int, ...]:
    waiting = State.PENDING.value
    return (
        run_id,
        new.experiment_id,
        new.display_name,
        new.description,
        new.origin.pipeline_id,
        new.origin.version_id,
        new.config.parameters,
        new.config.pipeline_root,
        new.service_account,
        f"{new.workflow}-{hashlib.sha256(run_id.encode()).hexdigest()[:_UNIQUE_LETTERS]}",
        AVAILABLE,
        now,
        now,
        0,
        waiting,
        written_history([Status(now, State.PENDING)]),
        "",
    )


def _run(row: tuple[str | int, ...]) -> Run:
    texts = [str(value) for value in row]
    return Run(
        id=texts[0],
        experiment_id=texts[1],
        display_name=texts[2],
        description=texts[3],
        origin=Origin(texts[4], texts[5]),
        config=RuntimeConfig(texts[6], texts[7]),
        service_account=texts[8],
        workflow=texts[9],
        archived=row[10] == ARCHIVED,
        created_at=int(row[11]),
        scheduled_at=int(row[12]),
        finished_at=int(row[13]),
        state=State(texts[14]),
        history=read_history(texts[15]),
        error=texts[16],
    )
