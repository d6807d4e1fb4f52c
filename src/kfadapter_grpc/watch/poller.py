"""The one poller of the process: a thread that looks at KFP for all watches, and lives while there are any."""

from __future__ import annotations

import random
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

import structlog

from kfadapter_grpc.contract.errors import CallCancelledError, DrainingError
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.watch.mailbox import Mailbox
from kfadapter_grpc.watch.registry import Registry
from kfadapter_grpc.watch.tick import Ticker
from kfadapter_grpc.watch.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from structlog.typing import FilteringBoundLogger

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.repository import RunLooks
    from kfadapter_grpc.contract.runs import Run, RunEvent
    from kfadapter_grpc.watch.watch import Wanted

HEARTBEAT_SECONDS = 30.0
"""After how long without an event a heartbeat is told."""
TICK_SECONDS = 2.0
"""How far apart ticks are while something moves."""
SLOWEST_TICK_SECONDS = 9.0
"""How far apart they are while nothing does; with the jitter and KFP's own time, below 10 s."""
_QUIET_TICKS = 10
_SLOWER = 1.25
_JITTER = 0.1


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Pace:
    """How far apart the ticks are."""

    def __init__(self) -> None:
        self._quiet = 0

    def next(self, *, moved: bool) -> float:
        """Seconds until the next tick, by what came of the last one."""
        self._quiet = 0 if moved else self._quiet + 1
        slower = _SLOWER ** min(max(self._quiet - _QUIET_TICKS, 0), 20)
        seconds = min(TICK_SECONDS * slower, SLOWEST_TICK_SECONDS)
        return seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - jitter


@dataclass(frozen=True, slots=True)
class WatchFigures:
    """What watching amounts to.

    Attributes:
        watches: How many there are.
        runs: How many runs are followed for them.
        ticks: How often KFP has been looked at.
        questions: How many questions it has been asked.
    """

    watches: int
    runs: int
    ticks: int
    questions: int


class WatchPoller:
    """Opens watches, and tells them what happens. Safe to use from many threads; making one asks KFP nothing."""

    def __init__(self, looks: RunLooks, *, threaded: bool = True, now: Callable[[], datetime] = _utc_now) -> None:
        """Will ask `looks`.

        Args:
            looks: Knows the runs.
            threaded: Whether a thread ticks by itself; otherwise somebody calls `tick`.
            now: Tells the time at which something was seen.
        """
        self._looks = looks
        self._threaded = threaded
        self._now = now
        self._registry = Registry(now)
        self._ticker = Ticker(looks, self._registry)
        self._changed = threading.Condition(self._registry.lock)
        self._thread: threading.Thread | None = None
        self._woken = False
        self._draining = False

    @contextmanager
    def open(self, wanted: Wanted, call: Call) -> Iterator[Iterator[RunEvent]]:
        """Watches for as long as the block lasts.

        The events end when all runs of a watch of ids are over. Where KFP is asked as the caller, it is asked so for
        this watch, too: only watches with the same credentials share what is known.

        Raises:
            UnauthenticatedError: KFP does not, or no more, accept the caller's own credentials; while the events are
                read.
            PermissionDeniedError: KFP does not, or no more, let the caller see the runs; while the events are read.
            DrainingError: The adapter is shutting down; also while the events are read.
            CallCancelledError: The caller has gone; while the events are read.
            ExperimentNotFoundError: There is no experiment as the filter names it.
            AmbiguousNameError: Several experiments have that name.
        """
        watch = Watch(self._resolved(wanted, call), Mailbox(self._now), call.authorization)
        forget = call.on_cancel(lambda: watch.mailbox.fail(CallCancelledError("the caller went away")))
        try:
            self._add(watch)
            yield watch.mailbox.read(HEARTBEAT_SECONDS)
        finally:
            forget()
            self._remove(watch)

    def tick(self, elapsed: float = TICK_SECONDS) -> bool:
        """Looks at KFP once, and has told what is news; tells whether anything moved."""
        self._ticker.tick(elapsed)
        self._tell_reachable()
        return self._ticker.moved

    def _first_looks(self) -> None:
        self._ticker.first_looks()
        self._tell_reachable()

    def _tell_reachable(self) -> None:
        for watch in self._registry.watches():
            watch.mailbox.tell_reachable(reachable=self._ticker.reachable)

    def learn(self, run: Run) -> None:
        """Has all who watch a run told how it was seen just now: by the next tick it may have moved on.

        That a run was stopped is seen only while it stops: servers call its end a failure.
        """
        for _, board in self._registry.boards():
            self._registry.learn(board, [run])

    def drain(self) -> None:
        """Ends all watches with DRAINING, and opens no more. Harmless when repeated."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()
        for watch in self._registry.watches():
            watch.mailbox.fail(_draining())
        self._ticker.close()

    def close(self) -> None:
        """Ends all watches, and the thread."""
        self.drain()
        thread = self._thread
        if thread is not None:
            thread.join()

    def count(self) -> int:
        """Tells how many watches there are."""
        return len(self._registry)

    def figures(self) -> WatchFigures:
        """Tells what watching amounts to."""
        registry, ticker = self._registry, self._ticker
        return WatchFigures(len(registry), registry.count_runs(), ticker.ticks, ticker.questions)

    @property
    def is_running(self) -> bool:
        """Whether the thread is there."""
        return self._thread is not None

    def _resolved(self, wanted: Wanted, call: Call) -> Wanted:
        """Names the experiment of a filter by its id."""
        where = wanted.where
        if where is None or where.experiment is None:
            return wanted
        ref = ExperimentRef(experiment_id=self._looks.experiment_id(where.experiment, call))
        return replace(wanted, where=replace(where, experiment=ref))

    def _add(self, watch: Watch) -> None:
        with self._changed:
            if self._draining:
                raise _draining()
            self._registry.add(watch)
            watch.mailbox.tell_reachable(reachable=self._ticker.reachable)
            self._wake()
            if self._threaded and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watch-poller", daemon=True)
                self._thread.start()

    def _remove(self, watch: Watch) -> None:
        with self._changed:
            self._registry.remove(watch)
            self._changed.notify_all()

    def _run(self) -> None:
        """Ticks; what has just begun to be watched is looked at in between, so that its watch need not wait."""
        pace, due, before = Pace(), time.monotonic(), time.monotonic()
        while self._wait(due - time.monotonic()):
            began = time.monotonic()
            if began >= due:
                self._or_log(partial(self.tick, began - before))
                before, due = began, began + pace.next(moved=self._ticker.moved)
            else:
                self._or_log(self._first_looks)
                due = min(due, began + TICK_SECONDS)
            if self._ticker.behind and self._ticker.reachable:
                self._wake()

    def _or_log(self, look: Callable[[], object]) -> None:
        """Looks; a fault of our own must not end all watches for good."""
        try:
            look()
        except Exception:
            log: FilteringBoundLogger = structlog.get_logger()
            log.exception("a look at the watched runs failed")

    def _wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def _wait(self, seconds: float) -> bool:
        """Waits for the next tick, or for a new watch; False if nobody watches any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._woken or self._draining or not self._registry, timeout=seconds)
            self._woken = False
            if self._draining or not self._registry:
                self._thread = None
                return False
            return True


def _draining() -> DrainingError:
    return DrainingError("this adapter is shutting down; watch again, another one or the next one answers")
