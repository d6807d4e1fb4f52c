"""What is known of the runs of one scope that are watched, and who watches them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.contract.runs import RunChanged, RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.watch.watch import Watch

CHUNK = 100
"""How many ids one question to KFP names: more would make URLs that proxies refuse."""
WHOLE_CHUNK = 20
"""How many runs that go on are read with their tasks at once; a run may be some 40 kB."""
LOOK_CLOSER_EVERY = timedelta(seconds=30)
"""How often a run whose tasks wait is read whole."""
LIVE_STATES = frozenset(state for state in RunState if not state.is_over)
"""The states of runs that are not over."""


@dataclass(slots=True, eq=False)
class _Known:
    event: RunChanged | None = None
    complete: bool = False
    completed_at: datetime | None = None
    watches: set[Watch] = field(default_factory=set)
    read: int = 0

    @property
    def run(self) -> Run | None:
        return self.event.run if self.event else None

    @property
    def with_tasks(self) -> bool:
        return any(watch.wanted.tasks for watch in self.watches)


class Board:
    """The runs of one scope that somebody watches. Not safe to use from several threads at once."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._incomplete: dict[str, None] = {}
        self._reads = 0

    def __len__(self) -> int:
        return len(self._known)

    def follow(self, watch: Watch, run_ids: Iterable[str]) -> None:
        """Has a watch told of runs; of those that are known, what is known."""
        for run_id in run_ids:
            known = self._known.setdefault(run_id, _Known())
            known.watches.add(watch)
            watch.followed.add(run_id)
            if known.event is not None:
                self._tell(watch, known.event, known)

    def leave(self, watch: Watch, run_ids: Iterable[str] | None = None) -> None:
        """Has a watch told no more: of some runs, or of all."""
        for run_id in list(watch.followed if run_ids is None else run_ids):
            watch.forget(run_id)
            known = self._known.get(run_id)
            if known is not None:
                known.watches.discard(watch)
                if not known.watches:
                    self._drop(run_id)

    def learn(self, run: Run, at: datetime, *, complete: bool = False) -> bool:
        """Takes a run as it is now, and has told whom it is news for; tells whether it has changed."""
        known = self._known.get(run.run_id)
        if known is None:
            return False
        before, self._reads, known.read = known.run, self._reads + 1, self._reads + 1
        if complete:
            known.completed_at = at
            self._incomplete.pop(run.run_id, None)
        if before is not None and known.complete >= complete and _same(before, run, complete=complete):
            return False
        event = known.event = RunChanged(run, at)
        known.complete = complete
        for watch in list(known.watches):
            self._tell(watch, event, known)
        return before is None or before.etag != run.etag

    def look_closer(self, run_ids: Iterable[str], at: datetime) -> None:
        """Has runs that are watched with their tasks read whole again, each at most once in a while."""
        for run_id in run_ids:
            known = self._known.get(run_id)
            if known is not None and known.with_tasks:
                looked = known.completed_at
                if looked is None or at - looked >= LOOK_CLOSER_EVERY:
                    self._incomplete[run_id] = None

    def lose(self, run_id: str, at: datetime) -> None:
        """Takes note that a run is not there any more, or never was."""
        known = self._known.get(run_id)
        if known is None:
            return
        for watch in list(known.watches):
            watch.tell_gone(run_id, at)
            watch.followed.discard(run_id)
        self._drop(run_id)

    def unread(self) -> list[str]:
        """The ids of runs of which nothing is known."""
        return [run_id for run_id, known in self._known.items() if known.run is None]

    def incomplete(self) -> list[str]:
        """The ids of runs that must be read whole before all watches can be told."""
        return list(self._incomplete)

    def live(self) -> Mapping[RunState, Sequence[str]]:
        """The ids of runs that were not over, by the state that is known."""
        return self._by_state(over=False)

    def over(self) -> Mapping[RunState, Sequence[str]]:
        """The ids of runs that were over, by state: a retry may take them back to life."""
        return self._by_state(over=True)

    def stored(self, *, archived: bool) -> list[str]:
        """The ids of runs that were archived, or were not."""
        return [run.run_id for run in self._runs() if (run.storage_state is StorageState.ARCHIVED) is archived]

    def stale(self) -> list[str]:
        """Some runs that go on and are watched with their tasks; those that were read longest ago."""
        going = [
            (known.read, run_id)
            for run_id, known in self._known.items()
            if known.run is not None and known.run.state is RunState.RUNNING and known.with_tasks
        ]
        return [run_id for _, run_id in sorted(going)[:WHOLE_CHUNK]]

    def knows(self, run_id: str) -> bool:
        """Whether a run is followed and was read."""
        known = self._known.get(run_id)
        return known is not None and known.run is not None

    def _tell(self, watch: Watch, event: RunChanged, known: _Known) -> None:
        if watch.satisfied_with(event.run, complete=known.complete):
            watch.tell(event)
        else:
            self._incomplete[event.run.run_id] = None

    def _drop(self, run_id: str) -> None:
        del self._known[run_id]
        self._incomplete.pop(run_id, None)

    def _runs(self) -> Iterator[Run]:
        return (known.run for known in self._known.values() if known.run is not None)

    def _by_state(self, *, over: bool) -> Mapping[RunState, Sequence[str]]:
        found: dict[RunState, list[str]] = {}
        for run in self._runs():
            if run.state.is_over is over:
                found.setdefault(run.state, []).append(run.run_id)
        return found


def _same(before: Run, run: Run, *, complete: bool) -> bool:
    """Whether nothing has changed; only a whole read tells what waits, which stands behind a `+` in the etag."""
    return before.etag == run.etag or (not complete and before.etag.startswith(f"{run.etag}+"))


def chunks(run_ids: Sequence[str], size: int = CHUNK) -> Iterator[Sequence[str]]:
    """Cuts ids into questions to KFP."""
    return (run_ids[begin : begin + size] for begin in range(0, len(run_ids), size))
