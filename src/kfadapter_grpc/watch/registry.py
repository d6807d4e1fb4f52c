"""All watches of the process, what is known for them by scope, and their filters."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.watch.cache import RunCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from kfadapter_grpc.contract.runs import Run, RunFilter
    from kfadapter_grpc.watch.watch import Scope, Watch

MAX_FOLLOWED = 1000
"""How many runs are watched for one filter: the newest."""
_UNFINISHED = frozenset(state for state in RunState if not state.is_over)
_CLOCKS_DIFFER = timedelta(minutes=1)
"""How far KFP's clock may be off ours."""
_COMES_LATE = timedelta(seconds=10)
"""How long after its time of creation a run may become visible: KFP makes its workflow in between."""
_LATE_POLLS = 10
"""For how many polls after a new run such late ones are looked for."""


class FilterGroup:
    """All watches of one filter.

    Attributes:
        where: The filter.
        cache: What is known for their scope.
        watches: The watches.
        run_ids: The runs that they are subscribed to, the newest last.
    """

    def __init__(self, where: RunFilter, cache: RunCache) -> None:
        self.where = where
        self.cache = cache
        self.watches: set[Watch] = set()
        self.run_ids: dict[str, None] = {}
        self._seen: datetime | None = None
        self._late_polls = 0

    @property
    def is_new(self) -> bool:
        """Whether nothing was listed for it yet."""
        return self._seen is None

    def lists(self) -> Sequence[RunFilter]:
        """What to list now: at first what matches, or may come to match; then what is new."""
        where = self.where
        if self._seen is not None:
            after = self._seen - _COMES_LATE if self._late_polls else self._seen
            after = max(after, where.created_after) if where.created_after else after
            return [replace(where, states=frozenset(), finished_after=None, created_after=after)]
        if where.states or where.finished_after:
            return [where, replace(where, states=_UNFINISHED, finished_after=None)]
        return [where]

    def add(self, found: Iterable[Run], now: datetime) -> Sequence[str]:
        """Takes what was listed; returns the ids of the runs that are new."""
        first = self._seen is None
        before = self._seen or now - _CLOCKS_DIFFER
        runs = sorted(found, key=lambda run: (run.created_at or before, run.run_id))
        self._seen = max([before, *(run.created_at for run in runs if run.created_at)])
        self._late_polls = _LATE_POLLS if first or self._seen > before else max(self._late_polls - 1, 0)
        new = [run.run_id for run in runs if run.run_id not in self.run_ids]
        self.run_ids.update(dict.fromkeys(new))
        return new

    def drop_oldest(self) -> Sequence[str]:
        """Drops the oldest runs beyond `MAX_FOLLOWED`; returns their ids."""
        dropped = list(self.run_ids)[: max(len(self.run_ids) - MAX_FOLLOWED, 0)]
        for run_id in dropped:
            del self.run_ids[run_id]
        return dropped


class Registry:
    """The watches of the process. Safe to use from many threads.

    Attributes:
        lock: Held while anything of it is used.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Takes the time at which something was seen from `now`."""
        self.lock = threading.RLock()
        self._now = now
        self._watches: set[Watch] = set()
        self._caches: dict[Scope, RunCache] = {}
        self._groups: list[FilterGroup] = []

    def __len__(self) -> int:
        return len(self._watches)

    def add(self, watch: Watch) -> None:
        """Subscribes a watch to its runs, or to those of its filter."""
        with self.lock:
            self._watches.add(watch)
            cache = self._caches.setdefault(watch.scope, RunCache(watch.scope, self.lock, self._now))
            ids, where = watch.known_ids, watch.where
            if where is not None:
                same = (one for one in self._groups if one.cache is cache and one.where == where)
                group = next(same, None)
                if group is None:
                    group = FilterGroup(where, cache)
                    self._groups.append(group)
                group.watches.add(watch)
                ids = (*group.run_ids, *ids)
            cache.subscribe(watch, ids)

    def remove(self, watch: Watch) -> None:
        """Ends a watch, and drops what was known only for it."""
        with self.lock:
            self._watches.discard(watch)
            cache = self._caches.get(watch.scope)
            if cache is not None:
                cache.unsubscribe(watch, watch.run_ids)
            for group in self._groups:
                group.watches.discard(watch)
            self._groups = [group for group in self._groups if group.watches]
            if not any(one.scope == watch.scope for one in self._watches):
                self._caches.pop(watch.scope, None)

    def watches(self) -> Sequence[Watch]:
        """All watches."""
        with self.lock:
            return list(self._watches)

    def caches(self) -> Sequence[RunCache]:
        """What is known, by scope."""
        with self.lock:
            return list(self._caches.values())

    def groups(self) -> Sequence[FilterGroup]:
        """All filters."""
        with self.lock:
            return list(self._groups)

    def add_listed(self, group: FilterGroup, runs: Sequence[Run]) -> bool:
        """Takes what was listed for a filter; returns whether there are new runs, or changed ones."""
        with self.lock:
            if not group.watches:
                return False
            new = group.add(runs, self._now())
            for watch in group.watches:
                watch.begun = True
                group.cache.subscribe(watch, new)
            changed = group.cache.update(runs)
            dropped = group.drop_oldest()
            for watch in group.watches:
                group.cache.unsubscribe(watch, dropped)
            return bool(new) or changed

    def fail(self, scope: Scope, error: Exception, *, for_good: bool) -> None:
        """Fails the watches of a scope for which KFP has never answered, as it never will; `for_good`: all of them."""
        with self.lock:
            for watch in self._watches:
                if watch.scope == scope and (for_good or not watch.begun):
                    watch.events.fail(error)
