"""One poll of KFP for all watched runs: which requests to send, and how few.

For each known state one request names up to 100 runs and lists those in another state; that costs KFP 12 ms and two
bytes while nothing has changed. What changes more rarely is requested in rotation: whether finished runs were retried,
whether a run was archived or deleted.
"""

from __future__ import annotations

import math
import uuid
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.watch.registry import MAX_WATCHED, chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.kfp.runs import Runs
    from kfadapter_grpc.watch.registry import FilterGroup, Registry, RunCache
    from kfadapter_grpc.watch.watch import Scope

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
        self._send(self._due(elapsed))

    def run_first(self) -> None:
        self._send(self._due_first())

    def close(self) -> None:
        """Aborts the current request, and sends no more; may be called by another thread."""
        self._closed = True
        self._call.cancel()

    def _send(self, requests: Iterator[_Request]) -> None:
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

    def _due_first(self) -> Iterator[_Request]:
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
