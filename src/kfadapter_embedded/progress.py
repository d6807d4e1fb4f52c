"""The progress of runs: states of runs and tasks and outputs of tasks, as reported by the executor."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, repeat
from typing import cast

from .document_kinds import ARTIFACT_TASKS, ARTIFACTS, RUNS, TASKS
from .execution import OVER, WHOLE, State, TaskReport
from .json_text import as_served, rfc3339, sound_text, to_json, written_json
from .run_folders import RunFolders
from .run_tasks import (
    GROUPS,
    ancestors,
    artifacts_of,
    changed_task,
    counts_of,
    error_body,
    link_of,
    new_task,
    reset_task,
    task_id,
    with_state,
)
from .store import Documents, Store

_log = logging.getLogger(__name__)
_RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_KEEP_TASK = """
    INSERT INTO tasks (id, document, path, position, error, began)
    VALUES (?, ?, ?, (SELECT count(*) FROM tasks WHERE owner = ?), ?, ?)
    ON CONFLICT (id) DO UPDATE SET document = excluded.document, error = excluded.error
    """
_KEPT = frozenset({State.SUCCEEDED, State.CACHED, State.SKIPPED})
# By the number of the state that all tasks in a group have, and whether they began.
_ALIKE = {(3, 1): State.SKIPPED, (5, 1): State.CACHED}


class Progress:
    """Stores reports. Failed writes, for example on a full disk, are retried."""

    def __init__(self, store: Store, folders: RunFolders) -> None:
        self._store = store
        self._folders = folders
        self._closing = threading.Event()

    def close(self) -> None:
        """From now on, runs that have not started keep their state; they are executed after the next start."""
        self._closing.set()

    def report(self, run_id: str, report: TaskReport) -> None:
        """Stores the state of a task or of the whole run; ignores reports of a deleted run."""
        if report.name != WHOLE:
            self._durably(lambda: self._store_report(run_id, report))
        elif report.state is State.RUNNING:
            self._durably(lambda: self._start(run_id, report))
        else:
            closing, size = self._closing.is_set(), self._folders.size(run_id)
            self._durably(lambda: self.end(run_id, report, size, if_started=closing), for_ever=True)
            with self._store.reading() as documents:
                deleted = documents.text(RUNS, run_id) is None
            if deleted:
                self._folders.remove(run_id)

    def end(self, run_id: str, report: TaskReport, file_bytes: int = 0, *, if_started: bool = False) -> None:
        """Ends a run, whose files have `file_bytes`; CANCELED is stored as FAILED, as in KFP.

        With `if_started`, the state of a pending run is kept.
        """
        with self._store.writing() as documents:
            documents.execute("UPDATE run_details SET file_bytes = ? WHERE id = ?", (file_bytes, run_id))
            run = documents.document(RUNS, run_id)
            if run is None or run["state"] in OVER or (if_started and run["state"] == State.PENDING):
                return
            if report.state is not State.CANCELED and counts_of(documents, [run_id]):
                self._store_task(documents, run, replace(report, error=""))
            state = State.FAILED if report.state is State.CANCELED else report.state
            if run["state"] == State.CANCELING and not counts_of(documents, [run_id]):
                # It never ran: without this its history would not show that it was terminated.
                run = with_state(run, State.CANCELING, self._store.now())
            self._store_run(documents, run, state, sound_text(report.error))

    def cut_off(self, error: str) -> None:
        """Marks all runs that were being executed as failed: no process executes them any more."""
        with self._store.writing() as documents:
            query = "SELECT document FROM run_details WHERE State IN (?, ?)"
            for (text,) in documents.execute(query, (State.RUNNING.value, State.CANCELING.value)).fetchall():
                self._store_run(documents, json.loads(text), State.FAILED, error)

    def cancel(self, run_id: str) -> bool:
        """Marks a run as being terminated; returns whether it could be marked."""
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
            self._store_run(documents, run, State.RUNNING, "")
            documents.execute(last, (run_id,))
            documents.execute("DELETE FROM tasks WHERE owner = ? AND NOT began", (run_id,))
            query = "SELECT document FROM tasks WHERE owner = ? AND State IN (1, 4)"
            for (text,) in documents.execute(query, (run_id,)).fetchall():
                self._reset(documents, json.loads(text))
            return True

    def _reset(self, documents: Documents, task: dict[str, object]) -> dict[str, object]:
        """Resets a task for another execution; returns it."""
        task, task_id = reset_task(task, self._store.now()), str(task["task_id"])
        documents.put(TASKS, task)
        documents.execute("UPDATE tasks SET error = '' WHERE id = ?", (task_id,))
        documents.execute("DELETE FROM artifact_tasks WHERE TaskID = ? AND Type LIKE '%OUTPUT'", (task_id,))
        return task

    def _start(self, run_id: str, report: TaskReport) -> None:
        """Starts a pending run."""
        with self._store.writing() as documents:
            run = documents.document(RUNS, run_id)
            if run is None or run["state"] in OVER:
                return
            self._store_task(documents, run, report)
            if run["state"] == State.PENDING:
                self._store_run(documents, run, State.RUNNING, "")

    def _store_report(self, run_id: str, report: TaskReport) -> None:
        # The run has failed anyway if a power failure stops it, and its end flushes everything.
        with self._store.writing(flushed=False) as documents:
            run = documents.document(RUNS, run_id)
            if run is None:
                return
            if run["state"] == State.CANCELING:
                # KFP adds this state if it receives an update of the workflow between the request and the end.
                documents.put(RUNS, with_state(run, State.CANCELING, self._store.now()))
            self._store_task(documents, run, report)
            if report.state is State.FAILED:
                # KFP's drivers and launchers let each group fail immediately, even if tasks in it are still running.
                for path in _known(documents, run_id, (*ancestors(report.name), WHOLE)):
                    self._store_task(documents, run, TaskReport(path, State.FAILED))

    def _store_run(self, documents: Documents, run: dict[str, object], state: State, error: str) -> None:
        now = self._store.now()
        changed = with_state(run, state, now) | {"finished_at": rfc3339(now if state in OVER else 0)}
        changed.pop("error", None)
        documents.put(RUNS, changed | ({"error": error_body(error)} if error else {}))

    def _store_task(self, documents: Documents, run: dict[str, object], report: TaskReport) -> None:
        """Stores a task as reported, with its input and output artifacts."""
        run_id, now = str(run["run_id"]), self._store.now()
        details = cast("dict[str, object]", as_served(json.loads(written_json(dict(report.details)))))
        report = replace(report, error=sound_text(report.error), message=sound_text(report.message), details=details)
        task = documents.document(TASKS, task_id(run_id, report.name))
        if task is None:
            parent = next(_known(documents, run_id, ancestors(report.name)), WHOLE)
            task = new_task(run_id, report.name, str(run["display_name"]), parent, now)
        elif task["state"] in _KEPT:
            # It succeeded before its run was retried, and is executed again only if its result is missing.
            if report.state is not State.RUNNING or task["type"] in GROUPS:
                return
            task = self._reset(documents, task)
        if report.state is State.SUCCEEDED and task["type"] in GROUPS:
            report = replace(report, state=_group_state(documents, task))
        if report.state is not State.CANCELED:
            workflow = documents.one("SELECT workflow FROM run_details WHERE id = ?", run_id)
            task = changed_task(task, report, workflow, now)
            self._store_artifacts(documents, task, report)
        values = (task["task_id"], to_json(task), report.name, run_id, report.error, report.began)
        documents.execute(_KEEP_TASK, values)

    def _store_artifacts(self, documents: Documents, task: dict[str, object], report: TaskReport) -> None:
        for part in report.details.keys() & {"inputs", "outputs"}:
            for entry, artifact in artifacts_of(task, part):
                documents.add(ARTIFACTS, artifact, if_new=True)
                documents.add(ARTIFACT_TASKS, link_of(task, entry, artifact), if_new=True)
            for entry, _ in artifacts_of(task, part):
                entry["producer"].pop("iteration", None)

    def _durably(self, write: Callable[[], None], *, for_ever: bool = False) -> None:
        """Writes, retrying if needed; with `for_ever`, until the server stops."""
        more = repeat(_RETRY_SECONDS[-1]) if for_ever else ()
        for seconds in chain(_RETRY_SECONDS, more):
            try:
                return write()
            except sqlite3.OperationalError as error:
                _log.warning("cannot store the progress of a run: %s", error)
                if self._closing.wait(seconds):
                    break
        return write()


def _known(documents: Documents, run_id: str, paths: Iterable[str]) -> Iterator[str]:
    """Those of the tasks that have been reported."""
    return (path for path in paths if documents.text(TASKS, task_id(run_id, path)))


def _group_state(documents: Documents, task: dict[str, object]) -> State:
    """The state of a group that succeeded: that of all its tasks if they have the same state (`kfpapi/api.go`)."""
    query = "SELECT DISTINCT State, began FROM tasks WHERE owner = ? AND ParentTaskUUID = ?"
    states = documents.execute(query, (task["run_id"], task["task_id"])).fetchall()
    return _ALIKE.get(states[0], State.SUCCEEDED) if len(states) == 1 else State.SUCCEEDED
