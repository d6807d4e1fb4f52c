"""How runs go on, in the database: the states of runs and tasks, and what tasks have put out.

A task with an empty name stands for the whole pipeline; it is shown as `root-driver-dag`, which is what KFP has.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from .execution import State
from .histories import continued, read_history
from .records import OVER, Outputs, Status, Task
from .texts import sound_text, written_json

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from .database import Database
    from .execution import TaskReport

WHOLE: Final = ""
"""The name of the task that stands for the whole pipeline."""
_COLUMNS = "run_id, position, name, state, history, error, created_at, ended_at"
_ACTIVE = (State.RUNNING.value, State.CANCELING.value)
_KEEP_TASK = """
    INSERT INTO tasks (run_id, name, state, history, error, created_at, ended_at, position)
    VALUES (?, ?, ?, ?, ?, ?, ?, (SELECT count(*) FROM tasks WHERE run_id = ?))
    ON CONFLICT (run_id, name) DO UPDATE
    SET state = excluded.state, history = excluded.history, error = excluded.error, ended_at = excluded.ended_at
    """


class ProgressStore:
    """The states of runs and of their tasks. Whatever is told of a run that is not there is passed over."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def start(self, run_id: str) -> None:
        """A run that waited begins; what its tasks did before a retry is forgotten."""
        with self._database.writing() as connection:
            state = _state(connection, run_id)
            if state is None or state in OVER:
                return
            connection.execute("DELETE FROM tasks WHERE run_id = ?", (run_id,))
            self._keep_task(connection, run_id, WHOLE, State.RUNNING, "")
            if state is State.PENDING:
                self._keep_run(connection, run_id, State.RUNNING, "")

    def keep(self, run_id: str, report: TaskReport) -> None:
        """A task begins or ends."""
        with self._database.writing() as connection:
            if _state(connection, run_id) is None:
                return
            self._keep_task(connection, run_id, report.name, _shown(report.state), sound_text(report.error))
            if report.parameters or report.artifacts:
                outputs = (dict(report.parameters), [asdict(artifact) for artifact in report.artifacts])
                texts = map(written_json, outputs)
                connection.execute("INSERT OR REPLACE INTO outputs VALUES (?, ?, ?, ?)", (run_id, report.name, *texts))

    def end(self, run_id: str, state: State, error: str, *, if_started: bool = False) -> None:
        """A run is over, and with it all of its tasks.

        Args:
            run_id: which.
            state: how; what was cancelled is FAILED, as KFP has it.
            error: why it failed, in words.
            if_started: leave a run alone that still waits.
        """
        with self._database.writing() as connection:
            before = _state(connection, run_id)
            if before is None or before in OVER or (if_started and before is State.PENDING):
                return
            self._end(connection, run_id, _shown(state), sound_text(error))

    def cut_off(self, error: str) -> None:
        """All runs that were being executed have failed: nobody executes them any more."""
        query = f"SELECT id FROM runs WHERE state IN ({', '.join('?' * len(_ACTIVE))})"  # noqa: S608
        with self._database.writing() as connection:
            for (run_id,) in connection.execute(query, _ACTIVE).fetchall():
                self._end(connection, run_id, State.FAILED, error)

    def cancel(self, run_id: str) -> bool:
        """Marks a run as one that is being ended; says whether it can be."""
        cancel = "UPDATE runs SET state = ? WHERE id = ? AND state IN (?, ?)"
        states = (State.PENDING.value, State.RUNNING.value)
        with self._database.writing() as connection:
            return connection.execute(cancel, (State.CANCELING.value, run_id, *states)).rowcount > 0

    def retry(self, run_id: str) -> bool:
        """Marks a failed run as running again; says whether it had failed."""
        last = "UPDATE runs SET submission = (SELECT max(submission) + 1 FROM runs) WHERE id = ?"
        with self._database.writing() as connection:
            if _state(connection, run_id) is not State.FAILED:
                return False
            self._keep_run(connection, run_id, State.RUNNING, "")
            connection.execute(last, (run_id,))
            return True

    def tasks(self, run_ids: Iterable[str]) -> dict[str, list[Task]]:
        """The tasks of runs, in the order in which they were first heard of."""
        found: dict[str, list[Task]] = {run_id: [] for run_id in run_ids}
        marks = ", ".join("?" * len(found))
        query = f"SELECT {_COLUMNS} FROM tasks WHERE run_id IN ({marks}) ORDER BY run_id, position"  # noqa: S608
        with self._database.reading() as connection:
            for row in connection.execute(query, list(found)):
                task = _task(row)
                found[task.run_id].append(task)
        return found

    def outputs(self, run_id: str) -> dict[str, Outputs]:
        """What the tasks of a run have put out, by the tasks' names."""
        query = "SELECT name, parameters, artifacts FROM outputs WHERE run_id = ?"
        with self._database.reading() as connection:
            return {name: Outputs(*texts) for name, *texts in connection.execute(query, (run_id,))}

    def _end(self, connection: sqlite3.Connection, run_id: str, state: State, error: str) -> None:
        tasks = connection.execute("SELECT name, state FROM tasks WHERE run_id = ?", (run_id,)).fetchall()
        for name, before in tasks:
            if State(before) not in OVER:
                # What had not begun never will.
                after = State.SKIPPED if State(before) is State.PENDING else state
                self._keep_task(connection, run_id, name, after, "")
        if tasks:
            self._keep_task(connection, run_id, WHOLE, state, "")
        self._keep_run(connection, run_id, state, error)

    def _keep_run(self, connection: sqlite3.Connection, run_id: str, state: State, error: str) -> None:
        now = int(self._clock())
        (history,) = connection.execute("SELECT history FROM runs WHERE id = ?", (run_id,)).fetchone()
        connection.execute(
            "UPDATE runs SET state = ?, history = ?, error = ?, finished_at = ? WHERE id = ?",
            (state.value, continued(history, Status(now, state)), error, now if state in OVER else 0, run_id),
        )

    def _keep_task(self, connection: sqlite3.Connection, run_id: str, name: str, state: State, error: str) -> None:
        now = int(self._clock())
        query = "SELECT history FROM tasks WHERE run_id = ? AND name = ?"
        (history,) = connection.execute(query, (run_id, name)).fetchone() or ("[]",)
        history = continued(history, Status(now, state))
        row = (run_id, name, state.value, history, error, now, now if state in OVER else 0, run_id)
        connection.execute(_KEEP_TASK, row)


def _shown(state: State) -> State:
    """The state as KFP shows it: the end of what was cancelled is a failure."""
    return State.FAILED if state is State.CANCELED else state


def _state(connection: sqlite3.Connection, run_id: str) -> State | None:
    row = connection.execute("SELECT state FROM runs WHERE id = ?", (run_id,)).fetchone()
    return State(row[0]) if row else None


def _task(row: tuple[str | int, ...]) -> Task:
    run_id, position, name, state, history, error, created_at, ended_at = row
    return Task(
        run_id=str(run_id),
        position=int(position),
        name=str(name),
        state=State(state),
        history=read_history(str(history)),
        error=str(error),
        created_at=int(created_at),
        ended_at=int(ended_at),
    )
