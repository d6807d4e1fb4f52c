"""What a watcher is yet to be told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.runs import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from kfadapter_grpc.contract.runs import RunChanged, RunEvent, RunGone


class Mailbox:
    """Holds of each run only what is newest, so that a slow reader costs no more than the runs that it watches.

    One thread reads, others write.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Takes the time of heartbeats from `now`."""
        self._now = now
        self._changed = threading.Condition()
        self._pending: dict[str, RunChanged | RunGone] = {}
        self._reachable: bool | None = None
        self._told_reachable = True
        self._finished = False
        self._failure: Exception | None = None

    def put(self, run_id: str, event: RunChanged | RunGone) -> None:
        """Has a run's newest state told; what was to be told of it is forgotten."""
        with self._changed:
            self._pending[run_id] = event
            self._changed.notify()

    def tell_reachable(self, *, reachable: bool) -> None:
        """Has told whether KFP answers, if that is news."""
        with self._changed:
            self._reachable = reachable
            self._changed.notify()

    def finish(self) -> None:
        """Ends the reading, well, after what is yet to be told."""
        with self._changed:
            self._finished = True
            self._changed.notify()

    def fail(self, error: Exception) -> None:
        """Ends the reading with an error, at once; the first one counts."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify()

    def read(self, heartbeat_seconds: float) -> Iterator[RunEvent]:
        """Yields what is to be told, as it comes, and a heartbeat whenever nothing came for so long.

        Raises:
            Exception: What `fail` was given.
        """
        while True:
            with self._changed:
                self._changed.wait_for(self._has_news, timeout=heartbeat_seconds)
                event = self._next()
            if event is None:
                return
            yield event

    def _has_news(self) -> bool:
        return bool(self._pending or self._finished or self._failure) or self._reachable_is_news()

    def _reachable_is_news(self) -> bool:
        return self._reachable is not None and self._reachable is not self._told_reachable

    def _next(self) -> RunEvent | None:
        """The next event; None at the end."""
        if self._failure is not None:
            raise self._failure
        if self._pending and not self._reachable_is_news():
            return self._pending.pop(next(iter(self._pending)))
        if self._finished and not self._pending:
            return None
        self._told_reachable = self._reachable is not False
        return Heartbeat(self._told_reachable, self._now())
