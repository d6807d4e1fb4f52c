"""The only poller of the process: a thread that polls KFP for all watches, and runs while there are any."""

from __future__ import annotations

import random
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

import structlog

from kfadapter_grpc.contract.errors import CallCancelledError, DrainingError
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.runs import RunFilter
from kfadapter_grpc.metrics import catalog
from kfadapter_grpc.watch.poll import Poll
from kfadapter_grpc.watch.registry import Registry
from kfadapter_grpc.watch.watch import EventQueue, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from structlog.typing import FilteringBoundLogger

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.contract.watches import RunEvent, WatchRunsRequest
    from kfadapter_grpc.kfp.runs import Runs
    from kfadapter_grpc.metrics.catalog import Metric

HEARTBEAT_SECONDS = 30.0
POLL_SECONDS = 2.0
MAX_POLL_SECONDS = 9.0
"""The pause while nothing does; with the jitter and KFP's own time, below 10 s."""
_QUIET_POLLS = 10
_SLOWER = 1.25
_JITTER = 0.1


class WatchPoller:
    """Opens watches, and sends them events. Safe to use from many threads; constructing one sends nothing to KFP."""

    def __init__(
        self,
        runs: Runs,
        *,
        threaded: bool = True,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """Polls `runs`; without a thread `poll` must be called. `now` returns the time of an observation."""
        self._runs = runs
        self._threaded = threaded
        self._now = now
        self._registry = Registry(now)
        self._poll = Poll(runs, self._registry)
        self._changed = threading.Condition(self._registry.lock)
        self._thread: threading.Thread | None = None
        self._woken = False
        self._draining = False

    @contextmanager
    def open(self, request: WatchRunsRequest, call: Call) -> Iterator[Iterator[RunEvent]]:
        """Watches for as long as the block lasts.

        The events end when all runs of a watch of ids have finished. If callers' credentials are forwarded to KFP, they
        are for this watch, too: only watches with the same credentials share a cache. The events end with an error if
        KFP no longer accepts the caller's credentials, or shows the runs, and when the adapter shuts down.
        """
        what = request.what
        if isinstance(what, RunFilter) and what.experiment is not None:
            ref = ExperimentRef(experiment_id=self._runs.experiment_id(what.experiment, call))
            request = replace(request, what=replace(what, experiment=ref))
        watch = Watch(request, EventQueue(self._now), call.authorization, call.limits)
        forget = call.on_cancel(lambda: watch.events.fail(CallCancelledError("the client cancelled the call")))
        try:
            self._add(watch)
            yield watch.events.read(HEARTBEAT_SECONDS)
        finally:
            forget()
            with self._changed:
                self._registry.remove(watch)
                self._changed.notify_all()

    def poll(self, elapsed: float = POLL_SECONDS) -> None:
        self._poll.run(elapsed)

    def update(self, run: Run) -> None:
        """Sends the current state of a run to all of its watches: it may have changed by the next poll.

        The termination of a run is visible only while the run stops: servers report its end as a failure. A cache that
        KFP has not yet shown the run to may belong to callers that must not see it.
        """
        for cache in self._registry.caches():
            if cache.known([run.run_id]):
                cache.update([run])

    def drain(self) -> None:
        """Ends all watches with DRAINING, and opens no more. No-op if repeated."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()
        for watch in self._registry.watches():
            watch.events.fail(_draining())
        self._poll.close()

    def close(self) -> None:
        self.drain()
        thread = self._thread
        if thread is not None:
            thread.join()

    def count(self) -> int:
        return len(self._registry)

    def figures(self) -> dict[Metric, int]:
        """Returns the values of the metrics about watching; a run in two scopes counts twice."""
        return {
            catalog.WATCHES: len(self._registry),
            catalog.WATCHED_RUNS: sum(map(len, self._registry.caches())),
            catalog.WATCH_TICKS: self._poll.polls,
            catalog.WATCH_QUESTIONS: self._poll.requests,
        }

    def _add(self, watch: Watch) -> None:
        with self._changed:
            if self._draining:
                raise _draining()
            self._registry.add(watch)
            watch.events.set_reachable(reachable=self._poll.reachable)
            self._wake()
            if self._threaded and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watch-poller", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        """The poll loop; between polls it reads what new watches wait for, so that they need not wait for a poll."""
        due = previous = time.monotonic()
        quiet = 0
        while self._wait(due - time.monotonic()):
            started_at = time.monotonic()
            if started_at >= due:
                self._log_errors(partial(self.poll, started_at - previous))
                quiet = 0 if self._poll.changed else quiet + 1
                previous, due = started_at, started_at + _pause(quiet)
            else:
                self._log_errors(self._poll.run_first)
                due = min(due, started_at + POLL_SECONDS)
            if self._poll.behind and self._poll.reachable and not self._poll.failed:
                self._wake()

    def _log_errors(self, poll: Callable[[], object]) -> None:
        """Polls; a fault of our own must not end all watches for good."""
        try:
            poll()
        except Exception:
            log: FilteringBoundLogger = structlog.get_logger()
            log.exception("polling the watched runs failed")

    def _wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def _wait(self, seconds: float) -> bool:
        """Waits for the next poll, or for a new watch; False if no watches are left."""
        with self._changed:
            self._changed.wait_for(lambda: self._woken or self._draining or not self._registry, timeout=seconds)
            self._woken = False
            if self._draining or not self._registry:
                self._thread = None
                return False
            return True


def _pause(quiet: int) -> float:
    """Seconds until the next poll, after this many polls in which nothing changed."""
    slower = _SLOWER ** min(max(quiet - _QUIET_POLLS, 0), 20)
    seconds = min(POLL_SECONDS * slower, MAX_POLL_SECONDS)
    return seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - jitter


def _draining() -> DrainingError:
    return DrainingError("this adapter is shutting down; watch again; another replica, or the restarted one, responds")
