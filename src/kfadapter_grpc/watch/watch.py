"""One watch: its runs, the etags of its caller, and the events to send."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from kfadapter_grpc.contract.call import Authorization, Limits
from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.contract.runs import Run, RunFilter, RunState
from kfadapter_grpc.contract.watches import Heartbeat, RunChanged, RunEvent, RunGone, WatchRunsRequest

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LEFT = "left"
"""The entry of a run that no longer matches the filter of a watch."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What watches must have in common to share a cache: what one of them may see, so may the others.

    Attributes:
        authorization: The caller's own credentials for KFP; None: the adapter's.
        limits: What the caller may see, if that depends on the namespace; without the caller's name.
    """

    namespace: str
    authorization: Authorization | None = None
    limits: Limits | None = None


class EventQueue:
    """Keeps only the newest event of each run, so a slow reader costs no more than the runs that it watches.

    One thread reads, others write.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._changed = threading.Condition()
        self._pending: dict[str, RunChanged | RunGone] = {}
        self._reachable = self._sent_reachable = True
        self._finished = False
        self._failure: Exception | None = None

    def put(self, run_id: str, event: RunChanged | RunGone) -> None:
        with self._changed:
            self._pending[run_id] = event
            self._changed.notify()

    def set_reachable(self, *, reachable: bool) -> None:
        """Sends a heartbeat at once if it changes whether KFP is reachable."""
        with self._changed:
            self._reachable = reachable
            self._changed.notify()

    def finish(self) -> None:
        with self._changed:
            self._finished = True
            self._changed.notify()

    def fail(self, error: Exception) -> None:
        """Ends the stream with an error, at once; the first error counts."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify()

    def read(self, heartbeat_seconds: float) -> Iterator[RunEvent]:
        """Yields events, and a heartbeat after so many seconds without one. Raises what `fail` was given."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: (
                        self._pending or self._finished or self._failure or self._reachable is not self._sent_reachable
                    ),
                    timeout=heartbeat_seconds,
                )
                event = self._next()
            if event is None:
                return
            yield event

    def _next(self) -> RunEvent | None:
        if self._failure is not None:
            raise self._failure
        if self._pending and self._reachable is self._sent_reachable:
            return self._pending.pop(next(iter(self._pending)))
        if self._finished and not self._pending:
            return None
        self._sent_reachable = self._reachable
        return Heartbeat(self._reachable, self._now())


class Watch:
    """The watch of one caller.

    Attributes:
        filter: The filter that it watches; None if it watches runs by id.
        with_tasks: Whether a change of a task is an event.
        known_ids: The ids of the runs to subscribe it to at first.
        started: Whether KFP has responded for it.
    """

    def __init__(
        self,
        request: WatchRunsRequest,
        events: EventQueue,
        authorization: Authorization | None = None,
        limits: Limits | None = None,
    ) -> None:
        what = request.what
        self.filter = what if isinstance(what, RunFilter) else None
        self.with_tasks = request.tasks
        self.scope = Scope(what.namespace, authorization, replace(limits, name="") if limits else None)
        self.events = events
        self.run_ids: set[str] = set()
        self.started = False
        self._sent = {_canonical(run_id): etag for run_id, etag in request.known_etags.items()}
        ids = self._sent if isinstance(what, RunFilter) else map(_canonical, what.run_ids)
        self.known_ids = tuple(dict.fromkeys(ids))
        self._unfinished = set(self.known_ids)

    def can_send(self, run: Run, *, complete: bool) -> bool:
        """Whether a run can be sent as it was read: only a complete read has tasks, and why a run failed."""
        return complete or not (self.with_tasks or run.state is RunState.FAILED) or self._is_current(run)

    def send(self, event: RunChanged) -> None:
        self.started, run = True, event.run
        if not self._is_current(run):
            self.events.put(run.run_id, event)
        if self._matches(run):
            self._sent[run.run_id] = self._key(run)
        elif run.run_id in self._sent:
            self._sent[run.run_id] = _LEFT
        self._count(run.run_id, finished=run.state.is_over)

    def send_gone(self, run_id: str, at: datetime) -> None:
        """Sends that a run does not exist, if the caller knows the run."""
        self.started = True
        known = self._sent.pop(run_id, None)
        if known is not None or self.filter is None:
            self.events.put(run_id, RunGone(run_id, at))
        self._count(run_id, finished=True)

    def forget(self, run_id: str) -> None:
        self.run_ids.discard(run_id)
        self._sent.pop(run_id, None)

    def _count(self, run_id: str, *, finished: bool) -> None:
        """A watch of runs by id ends when all of them have finished."""
        if self.filter is not None:
            return
        if not finished:
            self._unfinished.add(run_id)
            return
        self._unfinished.discard(run_id)
        if not self._unfinished:
            self.events.finish()

    def _is_current(self, run: Run) -> bool:
        known = self._sent.get(run.run_id)
        if known in {self._key(run), run.etag}:
            return True
        if known is not None and not self.with_tasks and known.partition("+")[0] == run.etag.partition("+")[0]:
            return True  # the part after the `+` is about tasks
        return known in {None, _LEFT} and not self._matches(run)

    def _key(self, run: Run) -> str:
        """Identifies the part of a run's condition that this watch sends."""
        if self.with_tasks:
            return run.etag
        # Many watches have this for many runs: one string for all of them.
        return sys.intern(f"{run.state.value} {run.storage_state.value} {run.finished_at}")

    def _matches(self, run: Run) -> bool:
        filter_ = self.filter
        if filter_ is None:
            return True
        finished = filter_.finished_after is None or (
            run.finished_at is not None and run.finished_at > filter_.finished_after
        )
        archived = run.storage_state is StorageState.ARCHIVED
        return finished and archived is filter_.archived and (not filter_.states or run.state in filter_.states)


def _canonical(run_id: str) -> str:
    """KFP writes UUIDs in lower case and finds them in any. Many watches may have the same ids: one string for all."""
    return sys.intern(run_id.lower() if _UUID.fullmatch(run_id) else run_id)
