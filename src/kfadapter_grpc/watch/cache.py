"""The runs of one scope that are watched, as they were last seen, and the watches that are subscribed to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.contract.runs import RunChanged, RunState

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.watch.watch import Scope, Watch

CHUNK = 100
"""How many ids one request to KFP names: more would make URLs that proxies refuse."""
WHOLE_CHUNK = 20
"""How many running runs are read with their tasks at once; a run may be some 40 kB."""
LOOK_CLOSER_EVERY = timedelta(seconds=30)
"""How often a run with pending tasks is read completely."""


@dataclass(slots=True, eq=False)
class _Known:
    event: RunChanged | None = None
    complete: bool = False
    completed_at: datetime | None = None
    watches: set[Watch] = field(default_factory=set)
    read: int = 0

    @property
    def with_tasks(self) -> bool:
        return any(watch.with_tasks for watch in self.watches)


class RunCache:
    """The watched runs of one scope. Safe to use from many threads.

    Attributes:
        scope: What the watches have in common.
    """

    def __init__(self, scope: Scope, lock: threading.RLock, now: Callable[[], datetime]) -> None:
        """Holds `lock` while it is used, and takes the time at which a run was seen from `now`."""
        self.scope = scope
        self._lock = lock
        self._now = now
        self._known: dict[str, _Known] = {}
        self._incomplete: dict[str, None] = {}
        self._reads = 0

    def __len__(self) -> int:
        return len(self._known)

    def subscribe(self, watch: Watch, run_ids: Iterable[str]) -> None:
        """Subscribes a watch to runs, and sends what is known of them."""
        with self._lock:
            for run_id in run_ids:
                known = self._known.setdefault(run_id, _Known())
                known.watches.add(watch)
                watch.run_ids.add(run_id)
                if known.event is not None:
                    self._send(watch, known.event, known)

    def unsubscribe(self, watch: Watch, run_ids: Iterable[str]) -> None:
        """Ends a watch's subscription to runs; what was known only for it is dropped."""
        with self._lock:
            for run_id in list(run_ids):
                watch.forget(run_id)
                known = self._known.get(run_id)
                if known is not None:
                    known.watches.discard(watch)
                    if not known.watches:
                        self._drop(run_id)

    def update(self, runs: Iterable[Run], *, complete: bool = False) -> bool:
        """Takes runs as they are now, and sends them to whom that is news; returns whether one has changed."""
        with self._lock:
            at = self._now()
            changed = [self._update(run, at, complete=complete) for run in runs]
        return any(changed)

    def _update(self, run: Run, at: datetime, *, complete: bool) -> bool:
        known = self._known.get(run.run_id)
        if known is None:
            return False
        before = known.event.run if known.event else None
        self._reads = known.read = self._reads + 1
        if complete:
            known.completed_at = at
            self._incomplete.pop(run.run_id, None)
        if before is not None and known.complete >= complete and _same(before, run, complete=complete):
            return False
        event = known.event = RunChanged(run, at)
        known.complete = complete
        for watch in list(known.watches):
            self._send(watch, event, known)
        return before is None or before.etag != run.etag

    def look_closer(self, run_ids: Iterable[str]) -> None:
        """Has runs that are watched with their tasks read completely again, each once in `LOOK_CLOSER_EVERY`."""
        with self._lock:
            at = self._now()
            for run_id in run_ids:
                known = self._known.get(run_id)
                if known is not None and known.with_tasks:
                    looked = known.completed_at
                    if looked is None or at - looked >= LOOK_CLOSER_EVERY:
                        self._incomplete[run_id] = None

    def remove(self, run_ids: Sequence[str]) -> bool:
        """Drops runs that KFP does not have, and sends that they are gone; returns whether there are any."""
        with self._lock:
            at = self._now()
            for run_id in run_ids:
                known = self._known.get(run_id)
                if known is not None:
                    for watch in list(known.watches):
                        watch.send_gone(run_id, at)
                        watch.run_ids.discard(run_id)
                    self._drop(run_id)
        return bool(run_ids)

    # --- what KFP has to be asked -----------------------------------------------------------------------------------

    def unread(self) -> Sequence[str]:
        """The ids of runs that were not read yet."""
        with self._lock:
            return [run_id for run_id, known in self._known.items() if known.event is None]

    def incomplete(self) -> Sequence[str]:
        """The ids of runs that must be read completely before all watches can be sent them."""
        with self._lock:
            return list(self._incomplete)

    def by_state(self, *, finished: bool) -> Mapping[RunState, Sequence[str]]:
        """The ids of runs that have finished (a retry may revive them), or of the others, by state."""
        found: dict[RunState, list[str]] = {}
        with self._lock:
            for run in self._runs():
                if run.state.is_over is finished:
                    found.setdefault(run.state, []).append(run.run_id)
        return found

    def stored(self, *, archived: bool) -> Sequence[str]:
        """The ids of runs that were archived, or of those that were not."""
        with self._lock:
            return [run.run_id for run in self._runs() if (run.storage_state is StorageState.ARCHIVED) is archived]

    def stale(self) -> Sequence[str]:
        """The ids of some running runs that are watched with their tasks: those that were read longest ago."""
        with self._lock:
            running = [
                (known.read, run_id)
                for run_id, known in self._known.items()
                if known.event is not None and known.event.run.state is RunState.RUNNING and known.with_tasks
            ]
        return [run_id for _, run_id in sorted(running)[:WHOLE_CHUNK]]

    def known(self, run_ids: Sequence[str]) -> Sequence[str]:
        """Those of the runs that are still watched, and were read."""
        with self._lock:
            found = [(run_id, self._known.get(run_id)) for run_id in run_ids]
            return [run_id for run_id, known in found if known is not None and known.event is not None]

    def _send(self, watch: Watch, event: RunChanged, known: _Known) -> None:
        if watch.satisfied_with(event.run, complete=known.complete):
            watch.send(event)
        else:
            self._incomplete[event.run.run_id] = None

    def _drop(self, run_id: str) -> None:
        del self._known[run_id]
        self._incomplete.pop(run_id, None)

    def _runs(self) -> Iterator[Run]:
        return (known.event.run for known in self._known.values() if known.event is not None)


def _same(before: Run, run: Run, *, complete: bool) -> bool:
    """Whether nothing has changed; only a complete read has warnings, which stand behind a `+` in the etag."""
    return before.etag == run.etag or (not complete and before.etag.startswith(f"{run.etag}+"))


def chunks(run_ids: Sequence[str], size: int = CHUNK) -> Iterator[Sequence[str]]:
    """Splits ids into requests to KFP."""
    return (run_ids[begin : begin + size] for begin in range(0, len(run_ids), size))
