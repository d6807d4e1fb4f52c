"""The only poller of the process: a thread that polls KFP for all watches, and runs while there are any.

For each known state one request of a poll names up to 100 runs and lists those in another state; that costs KFP 12 ms
and two bytes while nothing has changed. What changes more rarely is requested in rotation: whether finished runs were
retried, whether a run was archived or deleted.
"""

from __future__ import annotations

import math
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import TypeAlias

import structlog

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import CallCancelledError, DrainingError
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.runs import Run, RunFilter, RunState
from kfadapter_grpc.contract.watches import RunEvent, WatchRunsRequest
from kfadapter_grpc.kfp.runs import Runs
from kfadapter_grpc.metrics import catalog
from kfadapter_grpc.metrics.catalog import Metric
from kfadapter_grpc.watch.registry import MAX_WATCHED, FilterGroup, Registry, RunCache, chunks
from kfadapter_grpc.watch.watch import EventQueue, Scope, Watch

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
                self._log_errors(lambda: self._poll.send(self._poll.due_first()))
                due = min(due, started_at + POLL_SECONDS)
            if self._poll.behind and self._poll.reachable and not self._poll.failed:
                self._wake()

    def _log_errors(self, poll: Callable[[], object]) -> None:
        """Polls; a fault of our own must not end all watches for good."""
        try:
            poll()
        except Exception:  # noqa: BLE001 - as above
            structlog.get_logger().exception("polling the watched runs failed")

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


# --- one poll -------------------------------------------------------------------------------------------------------


REQUEST_SECONDS = 10.0
ROUND_SECONDS = 30.0
"""The time in which everything that changes rarely is requested once."""
MAX_FIRST_READS = 3
"""How many requests of one poll are about runs that have not been read yet."""
MAX_COMPLETE_READS = 20
"""How many runs are read completely, one by one, in one poll."""
_OF_CALLERS = (errors.UnauthenticatedError, errors.PermissionDeniedError)
"""KFP's errors for a caller's own credentials: only the caller can send others."""
_REFUSALS = (errors.InvalidFieldError, errors.KfpRejectedCredentialsError, errors.ExperimentNotFoundError, *_OF_CALLERS)
_UNREACHABLE = (errors.KfpUnavailableError, errors.KfpTimeoutError, errors.CallCancelledError)

_Request: TypeAlias = "tuple[Scope, Callable[[], None]]"


class Poll:
    """Sends the due requests to KFP. For one thread.

    Attributes:
        failed: The scopes in which a request failed nevertheless, which says nothing about KFP to the others.
        behind: Whether the last poll left requests that are due at once.
    """

    def __init__(self, runs: Runs, registry: Registry) -> None:
        self._runs = runs
        self._registry = registry
        self._queue: deque[_Request] = deque()
        self._per_second = 0.0
        self._due_count = 0.0
        self._call = Call("watch", 0)
        self._closed = False
        self.reachable, self.changed, self.behind = True, False, False
        self.failed: set[Scope] = set()
        self.polls, self.requests = 0, 0

    def run(self, elapsed: float) -> None:
        """Sends all due requests, `elapsed` seconds after the previous poll."""
        self.polls += 1
        self.send(self._due(elapsed))

    def close(self) -> None:
        """Aborts the current request, and sends no more; may be called by another thread."""
        self._closed = True
        self._call.cancel()

    def send(self, requests: Iterator[_Request]) -> None:
        self.reachable, self.changed, self.behind = True, False, False
        self.failed = set()
        try:
            for scope, send in requests:
                self._try(scope, send)
        except _UNREACHABLE:
            self.reachable = False
        for watch in self._registry.watches():
            watch.events.set_reachable(reachable=self.reachable and watch.scope not in self.failed)

    def _try(self, scope: Scope, send: Callable[[], None]) -> None:
        try:
            send()
        except _UNREACHABLE:
            raise
        except errors.AdapterError as error:  # the other requests may succeed nevertheless
            as_caller = scope.authorization is not None and isinstance(error, _OF_CALLERS)
            if not as_caller:
                self.failed.add(scope)
            if isinstance(error, _REFUSALS):
                self._registry.fail(scope, error, permanent=as_caller)

    # --- what is due ------------------------------------------------------------------------------------------------

    def _due(self, elapsed: float) -> Iterator[_Request]:
        """The requests, one after the other: the response to one decides which are next."""
        for group in self._registry.groups():
            yield group.cache.scope, partial(self._list, group)
        for cache in self._registry.caches():
            yield from self._state_requests(cache, finished=False)
            yield from self._unread_requests(cache)
        yield from self._rare(elapsed)
        for cache in self._registry.caches():
            if stale := cache.stale():
                yield cache.scope, partial(self._read, cache, stale)
            yield from self._incomplete_requests(cache)

    def due_first(self) -> Iterator[_Request]:
        for group in self._registry.groups():
            if group.is_new:
                yield group.cache.scope, partial(self._list, group)
        for cache in self._registry.caches():
            yield from self._unread_requests(cache)
            yield from self._incomplete_requests(cache)

    def _unread_requests(self, cache: RunCache) -> Iterator[_Request]:
        waiting = list(chunks(cache.unread()))
        self.behind |= len(waiting) > MAX_FIRST_READS
        for ids in waiting[:MAX_FIRST_READS]:
            yield cache.scope, partial(self._read, cache, ids)

    def _state_requests(self, cache: RunCache, *, finished: bool) -> Iterator[_Request]:
        for state, members in cache.by_state(finished=finished).items():
            for ids in chunks(members):
                yield cache.scope, partial(self._read_changed, cache, ids, state)

    def _incomplete_requests(self, cache: RunCache) -> Iterator[_Request]:
        waiting = cache.incomplete()
        self.behind |= len(waiting) > MAX_COMPLETE_READS
        for run_id in waiting[:MAX_COMPLETE_READS]:
            yield cache.scope, partial(self._read_complete, cache, run_id)

    def _rare(self, elapsed: float) -> Iterator[_Request]:
        """As many of the rare requests as needed to send all of them once in a round."""
        if not self._queue:
            self._queue.extend(self._round())
            self._per_second = len(self._queue) / ROUND_SECONDS
        self._due_count = min(self._due_count + elapsed * self._per_second, float(len(self._queue)))
        for _ in range(math.floor(self._due_count)):
            self._due_count -= 1
            yield self._queue.popleft()

    def _round(self) -> Iterator[_Request]:
        for cache in self._registry.caches():
            yield from self._state_requests(cache, finished=True)
            for archived in (False, True):
                for ids in chunks(cache.by_storage(archived=archived)):
                    yield cache.scope, partial(self._count, cache, ids, archived)

    # --- single requests --------------------------------------------------------------------------------------------

    def _list(self, group: FilterGroup) -> None:
        runs: dict[str, Run] = {}
        for filter_ in group.lists():
            call = self._new_call(group.cache.scope)
            runs |= {run.run_id: run for run in self._runs.list_newest(filter_, MAX_WATCHED, call)}
        self.changed |= self._registry.add_listed(group, list(runs.values()))

    def _read(self, cache: RunCache, ids: Sequence[str]) -> None:
        runs, waiting = self._runs.read(ids, cache.scope.namespace, self._new_call(cache.scope))
        self.changed |= cache.update(runs)
        cache.schedule_complete_read(waiting)
        existing = {run.run_id for run in runs}
        self.changed |= cache.remove([run_id for run_id in ids if run_id not in existing])

    def _read_changed(self, cache: RunCache, ids: Sequence[str], state: RunState) -> None:
        ids = cache.known(ids)  # the request may have been queued for a while
        if not ids:
            return
        if state is RunState.UNKNOWN:  # KFP has no filter for it
            self._read(cache, ids)
            return
        runs = self._runs.in_other_state(ids, state, cache.scope.namespace, self._new_call(cache.scope))
        self.changed |= cache.update(runs)

    def _count(self, cache: RunCache, ids: Sequence[str], archived: bool) -> None:
        """Counts runs that should exist; if some do not, reads them, recursively in halves."""
        ids = cache.known(ids)
        if not ids:
            return
        scope = cache.scope
        count = self._runs.count(ids, scope.namespace, self._new_call(scope), archived=archived)
        if count >= len(ids):
            return
        if count == 0 or len(ids) == 1:
            self._read(cache, ids)
            return
        for half in chunks(ids, math.ceil(len(ids) / 2)):
            self._count(cache, half, archived)

    def _read_complete(self, cache: RunCache, run_id: str) -> None:
        try:
            run = self._runs.get_complete(run_id, self._new_call(cache.scope))
        except errors.RunNotFoundError:
            self.changed |= cache.remove([run_id])
            return
        self.changed |= cache.update([run], complete=True)

    def _new_call(self, scope: Scope) -> Call:
        self.requests += 1
        self._call = Call(f"watch-{uuid.uuid4().hex}", REQUEST_SECONDS, scope.authorization, limits=scope.limits)
        if self._closed:
            self._call.cancel()
        return self._call
