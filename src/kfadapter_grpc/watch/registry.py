"""The watched runs of each scope as they were last seen, the filters, and all watches of the process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.contract.runs import Run, RunFilter, RunState
from kfadapter_grpc.contract.watches import RunChanged
from kfadapter_grpc.watch.watch import Scope, Watch

CHUNK = 100
"""How many ids one request to KFP contains: more would make URLs that proxies reject."""
COMPLETE_CHUNK = 20
"""How many running runs are read with their tasks at once; a run may be some 40 kB."""
COMPLETE_READ_INTERVAL = timedelta(seconds=30)
"""How often a run with pending tasks is read completely."""
MAX_WATCHED = 1000
"""How many runs are watched for one filter: the newest ones."""
_UNFINISHED = frozenset(state for state in RunState if not state.is_over)
_CLOCK_SKEW = timedelta(minutes=1)
"""The maximum difference between KFP's clock and ours."""
_VISIBILITY_DELAY = timedelta(seconds=10)
"""How long after its creation time a run may become visible: KFP creates its workflow in between."""
_LATE_POLLS = 10
"""For how many polls after a new run such late runs are searched for."""


@dataclass(slots=True, eq=False)
class _CachedRun:
    event: RunChanged | None = None
    complete: bool = False
    completed_at: datetime | None = None
    watches: set[Watch] = field(default_factory=set)
    read: int = 0

    @property
    def with_tasks(self) -> bool:
        return any(watch.with_tasks for watch in self.watches)


class RunCache:
    """The watched runs of one scope. Safe to use from many threads."""

    def __init__(self, scope: Scope, lock: threading.RLock, now: Callable[[], datetime]) -> None:
        self.scope = scope
        self._lock = lock
        self._now = now
        self._known: dict[str, _CachedRun] = {}
        self._incomplete: dict[str, None] = {}
        self._reads = 0

    def __len__(self) -> int:
        return len(self._known)

    def subscribe(self, watch: Watch, run_ids: Iterable[str]) -> None:
        with self._lock:
            for run_id in run_ids:
                cached = self._known.setdefault(run_id, _CachedRun())
                cached.watches.add(watch)
                watch.run_ids.add(run_id)
                if cached.event is not None:
                    self._send(watch, cached.event, cached)

    def unsubscribe(self, watch: Watch, run_ids: Iterable[str]) -> None:
        with self._lock:
            for run_id in list(run_ids):
                watch.forget(run_id)
                cached = self._known.get(run_id)
                if cached is not None:
                    cached.watches.discard(watch)
                    if not cached.watches:
                        self._drop(run_id)

    def update(self, runs: Iterable[Run], *, complete: bool = False) -> bool:
        with self._lock:
            at = self._now()
            changed = [self._update(run, at, complete=complete) for run in runs]
        return any(changed)

    def _update(self, run: Run, at: datetime, *, complete: bool) -> bool:
        cached = self._known.get(run.run_id)
        if cached is None:
            return False
        previous = cached.event.run if cached.event else None
        self._reads = cached.read = self._reads + 1
        if complete:
            cached.completed_at = at
            self._incomplete.pop(run.run_id, None)
        if (
            previous is not None
            and cached.complete >= complete
            and (
                # Only a complete read has warnings, which follow a `+` in the etag.
                previous.etag == run.etag or (not complete and previous.etag.startswith(f"{run.etag}+"))
            )
        ):
            return False
        event = cached.event = RunChanged(run, at)
        cached.complete = complete
        for watch in list(cached.watches):
            self._send(watch, event, cached)
        return previous is None or previous.etag != run.etag

    def schedule_complete_read(self, run_ids: Iterable[str]) -> None:
        """Schedules a complete read of runs watched with their tasks, once per `COMPLETE_READ_INTERVAL` for each."""
        with self._lock:
            at = self._now()
            for run_id in run_ids:
                cached = self._known.get(run_id)
                if cached is not None and cached.with_tasks:
                    last = cached.completed_at
                    if last is None or at - last >= COMPLETE_READ_INTERVAL:
                        self._incomplete[run_id] = None

    def remove(self, run_ids: Sequence[str]) -> bool:
        """Drops runs that do not exist in KFP, and sends that they are missing; returns whether there are any."""
        with self._lock:
            at = self._now()
            for run_id in run_ids:
                cached = self._known.get(run_id)
                if cached is not None:
                    for watch in list(cached.watches):
                        watch.send_gone(run_id, at)
                        watch.run_ids.discard(run_id)
                    self._drop(run_id)
        return bool(run_ids)

    # --- what to request from KFP -----------------------------------------------------------------------------------

    def unread(self) -> Sequence[str]:
        with self._lock:
            return [run_id for run_id, cached in self._known.items() if cached.event is None]

    def incomplete(self) -> Sequence[str]:
        with self._lock:
            return list(self._incomplete)

    def by_state(self, *, finished: bool) -> Mapping[RunState, Sequence[str]]:
        """The ids of runs that have finished (a retry may revive them), or of the others, by state."""
        by_state: dict[RunState, list[str]] = {}
        with self._lock:
            for run in self._runs():
                if run.state.is_over is finished:
                    by_state.setdefault(run.state, []).append(run.run_id)
        return by_state

    def by_storage(self, *, archived: bool) -> Sequence[str]:
        with self._lock:
            return [run.run_id for run in self._runs() if (run.storage_state is StorageState.ARCHIVED) is archived]

    def stale(self) -> Sequence[str]:
        """The ids of some running runs that are watched with their tasks: those that were read longest ago."""
        with self._lock:
            running = [
                (cached.read, run_id)
                for run_id, cached in self._known.items()
                if cached.event is not None and cached.event.run.state is RunState.RUNNING and cached.with_tasks
            ]
        return [run_id for _, run_id in sorted(running)[:COMPLETE_CHUNK]]

    def known(self, run_ids: Sequence[str]) -> Sequence[str]:
        """Those of the runs that are still watched, and have been read."""
        with self._lock:
            pairs = [(run_id, self._known.get(run_id)) for run_id in run_ids]
            return [run_id for run_id, cached in pairs if cached is not None and cached.event is not None]

    def _send(self, watch: Watch, event: RunChanged, cached: _CachedRun) -> None:
        if watch.can_send(event.run, complete=cached.complete):
            watch.send(event)
        else:
            self._incomplete[event.run.run_id] = None

    def _drop(self, run_id: str) -> None:
        del self._known[run_id]
        self._incomplete.pop(run_id, None)

    def _runs(self) -> Iterator[Run]:
        return (cached.event.run for cached in self._known.values() if cached.event is not None)


def chunks(run_ids: Sequence[str], size: int = CHUNK) -> Iterator[Sequence[str]]:
    return (run_ids[begin : begin + size] for begin in range(0, len(run_ids), size))


class FilterGroup:
    """All watches of one filter, and the runs that they are subscribed to, the newest last."""

    def __init__(self, filter_: RunFilter, cache: RunCache) -> None:
        self.filter = filter_
        self.cache = cache
        self.watches: set[Watch] = set()
        self.run_ids: dict[str, None] = {}
        self._seen: datetime | None = None
        self._late_polls = 0

    @property
    def is_new(self) -> bool:
        return self._seen is None

    def lists(self) -> Sequence[RunFilter]:
        filter_ = self.filter
        if self._seen is not None:
            after = self._seen - _VISIBILITY_DELAY if self._late_polls else self._seen
            after = max(after, filter_.created_after) if filter_.created_after else after
            return [replace(filter_, states=frozenset(), finished_after=None, created_after=after)]
        if filter_.states or filter_.finished_after:
            return [filter_, replace(filter_, states=_UNFINISHED, finished_after=None)]
        return [filter_]

    def add(self, listed: Iterable[Run], now: datetime) -> Sequence[str]:
        is_first = self._seen is None
        previous = self._seen or now - _CLOCK_SKEW
        runs = sorted(listed, key=lambda run: (run.created_at or previous, run.run_id))
        self._seen = max([previous, *(run.created_at for run in runs if run.created_at)])
        self._late_polls = _LATE_POLLS if is_first or self._seen > previous else max(self._late_polls - 1, 0)
        new = [run.run_id for run in runs if run.run_id not in self.run_ids]
        self.run_ids.update(dict.fromkeys(new))
        return new


class Registry:
    """The watches of the process. Safe to use from many threads."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.lock = threading.RLock()
        self._now = now
        self._watches: set[Watch] = set()
        self._caches: dict[Scope, RunCache] = {}
        self._groups: list[FilterGroup] = []

    def __len__(self) -> int:
        return len(self._watches)

    def add(self, watch: Watch) -> None:
        with self.lock:
            self._watches.add(watch)
            cache = self._caches.setdefault(watch.scope, RunCache(watch.scope, self.lock, self._now))
            ids, filter_ = watch.known_ids, watch.filter
            if filter_ is not None:
                same = (one for one in self._groups if one.cache is cache and one.filter == filter_)
                group = next(same, None)
                if group is None:
                    group = FilterGroup(filter_, cache)
                    self._groups.append(group)
                group.watches.add(watch)
                ids = (*group.run_ids, *ids)
            cache.subscribe(watch, ids)

    def remove(self, watch: Watch) -> None:
        """Ends a watch, and drops what was cached only for it."""
        with self.lock:
            self._watches.discard(watch)
            cache = self._caches.get(watch.scope)
            if cache is not None:
                cache.unsubscribe(watch, watch.run_ids)
            for group in self._groups:
                group.watches.discard(watch)
            self._groups = [group for group in self._groups if group.watches]
            if not any(other.scope == watch.scope for other in self._watches):
                self._caches.pop(watch.scope, None)

    def watches(self) -> Sequence[Watch]:
        with self.lock:
            return list(self._watches)

    def caches(self) -> Sequence[RunCache]:
        with self.lock:
            return list(self._caches.values())

    def groups(self) -> Sequence[FilterGroup]:
        with self.lock:
            return list(self._groups)

    def add_listed(self, group: FilterGroup, runs: Sequence[Run]) -> bool:
        """Adds the runs that were listed for a filter; returns whether runs are new or have changed."""
        with self.lock:
            if not group.watches:
                return False
            new = group.add(runs, self._now())
            for watch in group.watches:
                watch.started = True
                group.cache.subscribe(watch, new)
            changed = group.cache.update(runs)
            dropped = list(group.run_ids)[: max(len(group.run_ids) - MAX_WATCHED, 0)]
            for run_id in dropped:
                del group.run_ids[run_id]
            for watch in group.watches:
                group.cache.unsubscribe(watch, dropped)
            return bool(new) or changed

    def fail(self, scope: Scope, error: Exception, *, permanent: bool) -> None:
        """Fails the watches of a scope that KFP has never responded for, as it never will; `permanent`: all of them."""
        with self.lock:
            for watch in self._watches:
                if watch.scope == scope and (permanent or not watch.started):
                    watch.events.fail(error)
