"""How runs go on: the states of runs and their tasks, and what tasks have put out, as their executor reports it."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from itertools import chain, repeat
from typing import TYPE_CHECKING

from .execution import OVER, WHOLE, State
from .json_text import rfc3339, sound_text, to_json
from .kinds import RUNS
from .run_tasks import changed_task, error_body, new_task, outputs_text, with_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from .execution import TaskReport
    from .run_folders import RunFolders
    from .store import Documents, Store

_log = logging.getLogger(__name__)
_RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_KEEP_TASK = """
    INSERT INTO tasks (run_id, name, document, position) VALUES (?, ?, ?, (SELECT count(*) FROM tasks WHERE run_id = ?))
    ON CONFLICT (run_id, name) DO UPDATE SET document = excluded.document
    """


class Progress:
    """Keeps what is reported. What cannot be written, because the disk is full perhaps, is tried again."""

    def __init__(self, store: Store, folders: RunFolders) -> None:
        self._store = store
        self._folders = folders
        self._closing = threading.Event()

    def close(self) -> None:
        """From now on a run that has not begun stays as it is, to be executed after the next start."""
        self._closing.set()

    def report(self, run_id: str, report: TaskReport) -> None:
        """Keeps how a task stands, or the whole run; what is reported of a deleted run is ignored."""
        if report.name != WHOLE:
            self._durably(lambda: self._keep(run_id, report))
        elif report.state is State.RUNNING:
            self._durably(lambda: self._start(run_id))
        else:
            closing, size = self._closing.is_set(), self._folders.size(run_id)
            self._durably(lambda: self.end(run_id, report.state, report.error, size, if_started=closing), for_ever=True)
            with self._store.reading() as documents:
                deleted = documents.text(RUNS, run_id) is None
            if deleted:
                self._folders.remove(run_id)

    def end(self, run_id: str, state: State, error: str, file_bytes: int = 0, *, if_started: bool = False) -> None:
        """Ends a run and all of its tasks.

        Args:
            run_id: which.
            state: how; what was cancelled is FAILED, as KFP has it.
            error: why it failed, in words.
            file_bytes: how much its files take.
            if_started: leave the state of a run alone that still waits.
        """
        with self._store.writing() as documents:
            documents.execute("UPDATE run_details SET file_bytes = ? WHERE id = ?", (file_bytes, run_id))
            run = documents.document(RUNS, run_id)
            if run is None or run["state"] in OVER or (if_started and run["state"] == State.PENDING):
                return
            self._end(documents, run, _shown(state), sound_text(error))

    def cut_off(self, error: str) -> None:
        """Ends all runs that were being executed as failed: no process executes them any more."""
        with self._store.writing() as documents:
            query = "SELECT document FROM run_details WHERE State IN (?, ?)"
            for (text,) in documents.execute(query, (State.RUNNING.value, State.CANCELING.value)).fetchall():
                self._end(documents, json.loads(text), State.FAILED, error)

    def cancel(self, run_id: str) -> bool:
        """Marks a run as one that is being ended; returns whether it can be."""
        with self._store.writing() as documents:
            run = documents.document(RUNS, run_id)
            if run is None or run["state"] not in {State.PENDING, State.RUNNING}:
                return False
            documents.put(RUNS, {**run, "state": State.CANCELING.value})
            return True

    def retry(self, run_id: str) -> bool:
        """Marks a failed run as running again; returns whether it had failed."""
        last = "UPDATE run_details SET submission = (SELECT max(submission) + 1 FROM run_details) WHERE id = ?"
        with self._store.writing() as documents:
            run = documents.document(RUNS, run_id)
            if run is None or run["state"] != State.FAILED:
                return False
            self._put_run(documents, run, State.RUNNING, "")
            documents.execute(last, (run_id,))
            return True

    def _start(self, run_id: str) -> None:
        """A run that waited begins; what its tasks did before a retry is forgotten."""
        with self._store.writing() as documents:
            run = documents.document(RUNS, run_id)
            if run is None or run["state"] in OVER:
                return
            documents.execute("DELETE FROM tasks WHERE run_id = ?", (run_id,))
            self._put_task(documents, run_id, WHOLE, State.RUNNING, "")
            if run["state"] == State.PENDING:
                self._put_run(documents, run, State.RUNNING, "")

    def _keep(self, run_id: str, report: TaskReport) -> None:
        with self._store.writing() as documents:
            run = documents.document(RUNS, run_id)
            if run is None:
                return
            if run["state"] == State.CANCELING:
                # KFP has it in the history if it hears of the workflow between the request and the end.
                documents.put(RUNS, with_state(run, State.CANCELING, self._store.now()))
            self._put_task(documents, run_id, report.name, _shown(report.state), sound_text(report.error))
            if report.parameters or report.artifacts:
                update = "UPDATE tasks SET outputs = ? WHERE run_id = ? AND name = ?"
                documents.execute(update, (outputs_text(run_id, report), run_id, report.name))

    def _end(self, documents: Documents, run: dict[str, object], state: State, error: str) -> None:
        run_id = str(run["run_id"])
        tasks = documents.execute("SELECT name, document FROM tasks WHERE run_id = ?", (run_id,)).fetchall()
        for name, text in tasks:
            before = json.loads(text)["state"]
            if before not in OVER:
                # What had not begun never will.
                self._put_task(documents, run_id, name, State.SKIPPED if before == State.PENDING else state, "")
        if tasks:
            self._put_task(documents, run_id, WHOLE, state, "")
        self._put_run(documents, run, state, error)

    def _put_run(self, documents: Documents, run: dict[str, object], state: State, error: str) -> None:
        now = self._store.now()
        changed = with_state(run, state, now) | {"finished_at": rfc3339(now if state in OVER else 0)}
        changed.pop("error", None)
        documents.put(RUNS, changed | ({"error": error_body(error)} if error else {}))

    def _put_task(self, documents: Documents, run_id: str, name: str, state: State, error: str) -> None:
        now = self._store.now()
        text = documents.one("SELECT document FROM tasks WHERE run_id = ? AND name = ?", run_id, name)
        task = changed_task(json.loads(text) if text else new_task(run_id, name, now), state, error, now)
        documents.execute(_KEEP_TASK, (run_id, name, to_json(task), run_id))

    def _durably(self, write: Callable[[], None], *, for_ever: bool = False) -> None:
        """Writes, again and again if need be; `for_ever` means until the server ends."""
        more = repeat(_RETRY_SECONDS[-1]) if for_ever else ()
        for seconds in chain(_RETRY_SECONDS, more):
            try:
                return write()
            except sqlite3.OperationalError as error:
                _log.warning("cannot write how a run goes on: %s", error)
                if self._closing.wait(seconds):
                    break
        return write()


def _shown(state: State) -> State:
    """The state as KFP shows it: the end of what was cancelled is a failure."""
    return State.FAILED if state is State.CANCELED else state
