"""Detects the ends of runs of training jobs: a watch reports quickly, and a comparison with all runs misses none.

A failed request never counts as a change of a run: it is retried.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta

import structlog
from grpc import StatusCode
from structlog.typing import FilteringBoundLogger

from kfadapter_grpc.client import Client
from kfadapter_grpc.client.watch import MAX_KNOWN
from kfadapter_grpc.contract.errors import AdapterError, RunNotFoundError
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.runs import Run, RunFilter, RunState
from kfadapter_grpc.contract.watches import RunChanged, RunGone
from kfadapter_oran.jobs import JOB_LABEL
from kfadapter_oran.notices.database import Notice
from kfadapter_oran.notices.outbox import Outbox

COMPARE_SECONDS = 60.0
SILENT_SECONDS = 90.0
"""After how long without an event the watch counts as cut off: three heartbeats."""
_INITIAL_BACKOFF = 1.0
_MAX_BACKOFF = 30.0
_UNFINISHED = tuple(state for state in RunState if state.value and not state.is_over)
_PAGE_SIZE = 200
_TEMPORARY = frozenset({StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.RESOURCE_EXHAUSTED})
"""After these a run is read again; after any other failure it is reported without its metrics."""


class Watcher:
    """Watches runs on its own threads, from `start` to `stop`; `problem` is why the outbox cannot be written, if so.

    `compared_at` and `received_at` are the last comparison of all runs and the last event, on the monotonic clock.
    """

    def __init__(
        self,
        client: Client,
        outbox: Outbox,
        keep: timedelta,
        on_written: Callable[[], None],
        compare_seconds: float = COMPARE_SECONDS,
        *,
        all_runs: bool = False,
    ) -> None:
        """Calls `on_written` after each notice that was written. Closes the client when stopped.

        `keep` is the retention of delivered notices, `compare_seconds` the interval of comparisons; `all_runs` includes
        those without a training job.
        """
        self._client = client
        self._outbox = outbox
        self._keep = keep
        self._on_written = on_written
        self._compare_seconds = compare_seconds
        self._all_runs = all_runs
        self._labels = () if all_runs else (JOB_LABEL,)
        self._stopped = threading.Event()
        self._compared = threading.Event()
        self.problem = ""
        self.compared_at: float | None = None
        self.received_at: float | None = None
        self._threads = [
            threading.Thread(target=self._repeat, args=(name, call, pause), name=name, daemon=True)
            for name, call, pause in (("compare", self.compare, compare_seconds), ("watch", self._watch, 0.0))
        ]
        self._log: FilteringBoundLogger = structlog.get_logger()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> None:
        """Stops within `seconds`."""
        self._stopped.set()
        self._compared.set()
        self._client.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(seconds / len(self._threads))

    def is_alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def is_receiving(self) -> bool:
        """Whether the watch had an event recently."""
        return self.received_at is not None and time.monotonic() - self.received_at < SILENT_SECONDS

    def compare(self) -> None:
        """Processes all unfinished runs, all that have finished since the last comparison, and those that are missing.

        After an AdapterError the results until then are stored, and nothing is pruned.
        """
        open_before, after = set(self._outbox.open_runs()), self._outbox.seen_up_to()
        newest: datetime | None = None
        for archived in (False, True):
            for run in self._list(states=_UNFINISHED, archived=archived):
                self._process_listed(run)
                open_before.discard(run.run_id)
        for archived in (False, True):
            for run in self._list(finished_after=after, archived=archived):
                self._process_listed(run)
                open_before.discard(run.run_id)
                if run.state.is_over and run.finished_at and (newest is None or run.finished_at > newest):
                    newest = run.finished_at
        for run_id in open_before:
            self._check_missing(run_id)
        pruned = self._outbox.complete(newest, self._keep)
        self.compared_at, self.problem = time.monotonic(), ""
        if not self._compared.is_set():
            self._log.info("watching", open_runs=len(self._outbox.open_runs()))
            self._compared.set()
        if pruned:
            self._log.info("delivered notices forgotten", notices=pruned)

    def _list(
        self, *, archived: bool, states: tuple[RunState, ...] = (), finished_after: datetime | None = None
    ) -> Iterator[Run]:
        token = ""
        while True:
            page = self._client.runs.list(
                label_keys=self._labels,
                states=states,
                finished_after=finished_after,
                archived=archived,
                page_size=_PAGE_SIZE,
            ).page(token)
            yield from page.items
            token = page.next_token
            if not token:
                return

    def _check_missing(self, run_id: str) -> None:
        """Gets a run that had not finished and is in no list; if not found, it was deleted."""
        try:
            run = self._client.runs.get(run_id, view=View.BASIC)
        except RunNotFoundError:
            self._log_written(self._outbox.record_missing(run_id))
        else:
            self._process_listed(run)

    def _watch(self) -> None:
        """Processes the events of a watch, until it fails for good."""
        self._compared.wait()  # only then the runs to watch are known
        if self._stopped.is_set():
            return
        where = RunFilter(label_keys=frozenset(self._labels), created_after=self._outbox.seen_up_to())
        known = dict(list(self._outbox.open_runs().items())[-MAX_KNOWN:])
        with closing(self._client.runs.watch(where=where, known_etags=known)) as events:
            for event in events:
                self.received_at = time.monotonic()
                if isinstance(event, RunChanged):
                    self._process(event.run)
                elif isinstance(event, RunGone):
                    self._log_written(self._outbox.record_missing(event.run_id))

    def _process_listed(self, run: Run) -> None:
        """Processes a run of a list, which may report a terminated run as failed."""
        self._process(run, is_certain=run.state is not RunState.FAILED)

    def _process(self, run: Run, *, is_certain: bool = True) -> None:
        """Processes a run; after a new end the full run is read, once, for its metrics and its true state."""
        if not self._all_runs and not run.labels.get(JOB_LABEL):
            return
        if run.state.is_over and self._outbox.is_new_end(run):
            try:
                run = self._client.runs.get(run.run_id)
            except RunNotFoundError:
                if not is_certain:
                    return  # the next comparison handles it as missing
            except AdapterError as error:
                if not is_certain or error.code in _TEMPORARY:
                    raise
        elif run.state.is_over and not is_certain:
            return
        self._log_written(self._outbox.record(run))

    def _log_written(self, notice: Notice | None) -> None:
        if notice is not None:
            self._log.info(
                "notice written",
                notice=notice.id,
                trainingjob_id=notice.job,
                run_id=notice.run_id,
                run_status=notice.state,
            )
            self._on_written()

    def _repeat(self, name: str, call: Callable[[], None], seconds: float) -> None:
        """Calls `call` periodically, every `seconds`, with growing pauses while that fails."""
        failures, previous = 0, ""
        while not self._stopped.is_set():
            reason = self._try(name, call)
            failures = failures + 1 if reason else 0
            if previous and not reason:
                self._log.info(f"{name} succeeds again")
            previous = reason
            pause = min(_INITIAL_BACKOFF * 2.0 ** min(failures - 1, 10), _MAX_BACKOFF) if reason else seconds
            self._stopped.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    def _try(self, name: str, call: Callable[[], None]) -> str:
        """Calls `call` once; returns why that failed."""
        try:
            call()
        except AdapterError as error:
            if not self._stopped.is_set():
                self._log.warning(f"{name} failed", reason=error.reason, message=error.message)
            return error.reason
        except sqlite3.Error as error:
            self.problem = f"the outbox cannot be written: {error}"
            self._log.error("outbox cannot be written", message=str(error))
            return "OUTBOX"
        except Exception:  # noqa: BLE001 - a fault of our own must not end the watching
            if not self._stopped.is_set():
                self._log.exception(f"{name} failed")
            return "INTERNAL"
        return ""
