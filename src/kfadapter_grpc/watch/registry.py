"""Who watches what: all boards and filters of the process, safe to use from many threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from kfadapter_grpc.watch.board import Board
from kfadapter_grpc.watch.filters import FilterGroup, filter_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.watch.filters import FilterKey
    from kfadapter_grpc.watch.watch import Scope, Watch


class Registry:
    """The watches of the process.

    Attributes:
        lock: Held while a board is used.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Takes the time at which something was seen from `now`."""
        self.lock = threading.RLock()
        self._now = now
        self._watches: set[Watch] = set()
        self._boards: dict[Scope, Board] = {}
        self._groups: dict[FilterKey, FilterGroup] = {}

    def __len__(self) -> int:
        return len(self._watches)

    def add(self, watch: Watch) -> None:
        """Has a watch told from now on."""
        with self.lock:
            self._watches.add(watch)
            ids: dict[str, None] = dict.fromkeys(watch.wanted.run_ids)
            where = watch.wanted.where
            if where is not None:
                group = self._groups.setdefault(filter_key(where, watch.scope), FilterGroup(where, watch.scope))
                group.watches.add(watch)
                ids = dict.fromkeys([*group.run_ids, *watch.wanted.known_etags])
            self._boards.setdefault(watch.scope, Board()).follow(watch, ids)

    def remove(self, watch: Watch) -> None:
        """Has a watch told no more, and forgets what only it was about."""
        with self.lock:
            self._watches.discard(watch)
            scope, where = watch.scope, watch.wanted.where
            board = self._boards.get(scope)
            if board is not None:
                board.leave(watch)
            if where is not None:
                self._leave_group(watch, filter_key(where, scope))
            if not any(one.scope == scope for one in self._watches):
                self._boards.pop(scope, None)

    def watches(self) -> Sequence[Watch]:
        """All watches."""
        with self.lock:
            return list(self._watches)

    def count_runs(self) -> int:
        """Tells how many runs are followed; one that is followed for two of these counts twice."""
        with self.lock:
            return sum(map(len, self._boards.values()))

    def boards(self) -> Sequence[tuple[Scope, Board]]:
        """All boards, by what their watches have in common."""
        with self.lock:
            return list(self._boards.items())

    def groups(self) -> Sequence[FilterGroup]:
        """All filters."""
        with self.lock:
            return list(self._groups.values())

    def learn(self, board: Board, runs: Sequence[Run], *, complete: bool = False) -> bool:
        """Takes runs as they are now; tells whether one has changed."""
        with self.lock:
            at = self._now()
            changed = [board.learn(run, at, complete=complete) for run in runs]
        return any(changed)

    def look_closer(self, board: Board, run_ids: Sequence[str]) -> None:
        """Has runs read whole again whose tasks have been waiting for a while."""
        with self.lock:
            board.look_closer(run_ids, self._now())

    def lose(self, board: Board, run_ids: Sequence[str]) -> bool:
        """Takes note of runs that are not there; tells whether there are any."""
        with self.lock:
            for run_id in run_ids:
                board.lose(run_id, self._now())
        return bool(run_ids)

    def take_up(self, group: FilterGroup, runs: Sequence[Run]) -> bool:
        """Takes what a filter's questions found; tells whether there are new runs, or changed ones."""
        with self.lock:
            board = self._boards.get(group.scope)
            if board is None:
                return False
            new = group.take_up(runs, self._now())
            for watch in group.watches:
                watch.begun = True
                board.follow(watch, new)
            changed = self.learn(board, runs)
            dropped = group.drop_oldest()
            for watch in group.watches:
                board.leave(watch, dropped)
            return bool(new) or changed

    def refuse(self, scope: Scope, error: Exception, *, for_good: bool) -> None:
        """Ends the watches of a scope for which KFP has never answered, as it never will; `for_good`: all of them."""
        with self.lock:
            for watch in self._watches:
                if watch.scope == scope and (for_good or not watch.begun):
                    watch.mailbox.fail(error)

    def _leave_group(self, watch: Watch, key: FilterKey) -> None:
        group = self._groups.get(key)
        if group is not None:
            group.watches.discard(watch)
            if not group.watches:
                del self._groups[key]


def asked(run_ids: Sequence[str], found: Sequence[Run]) -> Iterator[str]:
    """The ids of which nothing was found."""
    there = {run.run_id for run in found}
    return (run_id for run_id in run_ids if run_id not in there)
