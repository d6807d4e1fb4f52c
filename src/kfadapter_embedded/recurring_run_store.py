"""Recurring runs in the database."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from .pages import Query
from .records import NewRecurringRun, Origin, RecurringRun, RuntimeConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from .database import Database
    from .listing import Listing
    from .pages import Page

_COLUMNS = (
    "id, experiment_id, display_name, description, pipeline_id, version_id, spec, parameters, pipeline_root, "
    "service_account, max_concurrency, schedule, enabled, no_catchup, created_at, updated_at"
)
_INSERT = f"INSERT INTO recurring_runs ({_COLUMNS}) VALUES ({', '.join('?' * 16)})"  # noqa: S608


class RecurringRunStore:
    """Recurring runs: kept and shown, never fired."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def create(self, new: NewRecurringRun) -> RecurringRun:
        """Adds a recurring run."""
        now = int(self._clock())
        recurring = RecurringRun(str(uuid.uuid4()), new, now, now)
        with self._database.writing() as connection:
            connection.execute(_INSERT, _row(recurring))
        return recurring

    def try_get(self, recurring_run_id: str) -> RecurringRun | None:
        """The recurring run with this id."""
        query = f"SELECT {_COLUMNS} FROM recurring_runs WHERE id = ?"  # noqa: S608
        with self._database.reading() as connection:
            row = connection.execute(query, (recurring_run_id,)).fetchone()
        return _recurring_run(row) if row else None

    def page(self, listing: Listing, experiment_id: str = "") -> Page[RecurringRun]:
        """A page of recurring runs; of one experiment, if there is an id."""
        condition, arguments = ("experiment_id = ?", (experiment_id,)) if experiment_id else ("1", ())
        query = Query(_COLUMNS, f"FROM recurring_runs WHERE {condition}", arguments, _recurring_run)
        with self._database.reading() as connection:
            return query.page(connection, listing)

    def enable(self, recurring_run_id: str, *, enabled: bool) -> bool:
        """Switches a recurring run on or off; says whether there is one."""
        update = "UPDATE recurring_runs SET enabled = ?, updated_at = ? WHERE id = ?"
        with self._database.writing() as connection:
            return connection.execute(update, (enabled, int(self._clock()), recurring_run_id)).rowcount > 0

    def delete(self, recurring_run_id: str) -> bool:
        """Deletes a recurring run; says whether there was one."""
        with self._database.writing() as connection:
            return connection.execute("DELETE FROM recurring_runs WHERE id = ?", (recurring_run_id,)).rowcount > 0


def _row(recurring: RecurringRun) -> tuple[str | int, ...]:
    new = recurring.new
    return (
        recurring.id,
        new.experiment_id,
        new.display_name,
        new.description,
        new.origin.pipeline_id,
        new.origin.version_id,
        new.spec,
        new.config.parameters,
        new.config.pipeline_root,
        new.service_account,
        new.max_concurrency,
        new.schedule,
        new.enabled,
        new.no_catchup,
        recurring.created_at,
        recurring.updated_at,
    )


def _recurring_run(row: tuple[str | int, ...]) -> RecurringRun:
    texts = [str(value) for value in row]
    new = NewRecurringRun(
        experiment_id=texts[1],
        display_name=texts[2],
        description=texts[3],
        origin=Origin(texts[4], texts[5]),
        spec=texts[6],
        config=RuntimeConfig(texts[7], texts[8]),
        service_account=texts[9],
        max_concurrency=int(row[10]),
        schedule=texts[11],
        enabled=bool(row[12]),
        no_catchup=bool(row[13]),
    )
    return RecurringRun(texts[0], new, int(row[14]), int(row[15]))
