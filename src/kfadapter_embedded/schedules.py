"""Starts the runs of recurring runs, as KFP's ScheduledWorkflow controller does.

Its rules are those of backend/src/crd/controller/scheduledworkflow in release 2.17.0: one start at a time, at least 10
seconds between starts, none while the maximum number of runs has not finished, and names with a counter.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sqlite3
import threading
from datetime import datetime, timedelta, timezone
from typing import Any

from kfadapter_grpc.contract.recurring_runs import CronSchedule, IntervalSchedule, Schedule
from kfadapter_grpc.next_starts import scheduled_start

from .document_kinds import RECURRING_RUNS
from .errors import KfpError
from .execution import OVER
from .json_text import read_time, rfc3339
from .runs import Runs
from .store import Documents, Store

_log = logging.getLogger(__name__)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time, which its clients send where a schedule has no start or end, and Kubernetes keeps as none."""
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""Of which Kubernetes makes the ends of generated names."""
_MAX_NAME = 25
_LONGEST_INTERVAL = 10**11
_PAUSE_SECONDS = 10
"""How long the controller waits after a start, and at first after one that failed."""
_LONGEST_PAUSE_SECONDS = 360
_HANDED_ON = frozenset({"experiment_id", "pipeline_version_reference", "runtime_config", "service_account"})
_DUE = f"""
    SELECT id FROM jobs
    WHERE next_start <= ? AND json_extract(document, '$.mode') = 'ENABLE'
      AND (SELECT count(*) FROM run_details WHERE JobUUID = jobs.id
           AND State NOT IN ({", ".join(f"'{state.value}'" for state in sorted(OVER))}))
        < CAST(json_extract(document, '$.max_concurrency') AS INTEGER)
    ORDER BY next_start
    """  # noqa: S608  # states only


def workflow_name(display_name: str) -> str:
    """The name of a new ScheduledWorkflow (`toSWFCRDResourceGeneratedName`, completed by Kubernetes)."""
    base = re.sub(r"[^a-z0-9-]+", "", display_name.lower())[:_MAX_NAME] or "job-"
    return base + "".join(secrets.choice(_LETTERS) for _ in range(5))


def run_name(name: str, index: int) -> str:
    """The name of a schedule's run (`NextResourceName`)."""
    numbered = f"{name}-{index}"
    number = 0x811C9DC5
    for byte in numbered.encode():  # FNV-1a
        number = (number ^ byte) * 0x01000193 % 2**32
    return f"{numbered}-{number}"


def next_start(recurring_run: dict[str, Any], last: int | None, now: int) -> int | None:
    """The next start of a recurring run, in seconds since 1970; None if never."""
    times = (_time(read_time(recurring_run["created_at"])), None if last is None else _time(last), _time(now))
    catch_up = not recurring_run.get("no_catchup")
    try:
        found = scheduled_start(_schedule(recurring_run["trigger"]), *times, catch_up=catch_up)
    except OverflowError:
        return None
    return int((found - _EPOCH).total_seconds()) if found else None


def _schedule(trigger: dict[str, Any]) -> Schedule | None:
    for schedule in trigger.values():
        bounds = (_bound(schedule.get(key, _NO_TIME)) for key in ("start_time", "end_time"))
        if "cron" in schedule:
            return CronSchedule(schedule["cron"], *bounds)
        seconds = min(int(schedule["interval_second"]), _LONGEST_INTERVAL)
        return IntervalSchedule(timedelta(seconds=seconds), *bounds)
    return None


def _bound(text: str) -> datetime | None:
    return None if text == _NO_TIME else _time(read_time(text))


def _time(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)


def add_recurring_run(documents: Documents, recurring_run: dict[str, Any], spec: str, last: int | None = None) -> str:
    """Stores a new recurring run, with its spec if that is pinned; returns it as JSON text."""
    name, kept = workflow_name(recurring_run["display_name"]), documents.store_spec(spec) if spec else ""
    text = documents.add(RECURRING_RUNS, recurring_run, name=name, spec=kept, last_index=0)
    values = (last, next_start(recurring_run, last, 0), recurring_run["recurring_run_id"])
    documents.execute("UPDATE jobs SET last_start = ?, next_start = ? WHERE id = ?", values)
    return text


class Scheduler:
    """Checks once a second which starts are due."""

    def __init__(self, store: Store, runs: Runs) -> None:
        self._store = store
        self._runs = runs
        self._pauses: dict[str, tuple[int, int]] = {}
        """Until when, and for how long, a recurring run is left alone."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._check_starts, name="schedules", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stops; a start in progress is completed."""
        self._closing.set()
        self._thread.join()

    def _check_starts(self) -> None:
        while not self._closing.wait(1 - self._store.clock() % 1):
            try:
                self.tick()
            except sqlite3.Error as error:
                _log.warning("cannot check the starts of recurring runs: %s", error)

    def tick(self) -> None:
        """Starts a run of each recurring run that is due."""
        now = self._store.now()
        with self._store.reading() as documents:
            due = [recurring_run_id for (recurring_run_id,) in documents.execute(_DUE, (now,))]
        for recurring_run_id in due:
            until, long = self._pauses.get(recurring_run_id, (0, 0))
            # A pause with more time left than its length is from before the clock was set back.
            if now < until <= now + long or self._closing.is_set():
                continue
            try:
                self._start(recurring_run_id, now)
            except Exception:  # noqa: BLE001  # whatever it is, it is logged, and the others continue
                _log.exception("cannot start a run of the recurring run %s", recurring_run_id)
                self._pauses[recurring_run_id] = (now + _LONGEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)

    def _start(self, recurring_run_id: str, now: int) -> None:
        with self._store.reading() as documents:
            query = "SELECT document, name, last_index, last_start FROM jobs WHERE id = ?"
            row = documents.execute(query, (recurring_run_id,)).fetchone()
            spec = documents.spec(RECURRING_RUNS, recurring_run_id) or ""
        if row is None:
            return  # deleted in the meantime
        recurring_run, (_, name, last_index, last_start) = json.loads(row[0]), row
        due = next_start(recurring_run, last_start, now)
        if due is None:
            return
        body = {key: recurring_run[key] for key in _HANDED_ON & recurring_run.keys()}
        body |= {"display_name": run_name(name, last_index + 1), "recurring_run_id": recurring_run_id}
        try:
            self._runs.create(body | ({"scheduled_at": rfc3339(due)} if spec else {}), pinned_spec=spec)
        except (KfpError, sqlite3.Error) as error:
            text = error.text if isinstance(error, KfpError) else str(error)
            _log.warning("cannot start a run of the recurring run %s: %s", recurring_run["display_name"], text)
            long = min(2 * self._pauses.get(recurring_run_id, (0, _PAUSE_SECONDS))[1], _LONGEST_PAUSE_SECONDS)
            self._pauses[recurring_run_id] = (now + long, long)
            return
        was_on_time = now - due < _PAUSE_SECONDS
        self._pauses[recurring_run_id] = ((due if was_on_time else now) + _PAUSE_SECONDS, _PAUSE_SECONDS)
        # If a run was created but this write failed, the run is found by its name and not created again.
        with self._store.writing() as documents:
            changed = documents.document(RECURRING_RUNS, recurring_run_id)
            if changed:
                documents.put(RECURRING_RUNS, {**changed, "updated_at": rfc3339(now)})
                values = (last_index + 1, due, next_start(changed, due, 0), recurring_run_id)
                documents.execute("UPDATE jobs SET last_index = ?, last_start = ?, next_start = ? WHERE id = ?", values)
