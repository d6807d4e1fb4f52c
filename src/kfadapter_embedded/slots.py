"""Slots for the processes of all runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_YOUNG_SECONDS = 2.0


@dataclass
class _Share:
    """The slots of a run: how many it waits for, and when each of its slots was granted."""

    wanted: int = 0
    granted: list[float] = field(default_factory=list)


class Slots:
    """Grants slots for processes, first to the runs with the fewest.

    Only so many start at once: a process that has run for two seconds no longer counts, since it may only be waiting.
    Beyond `most` slots, only runs without one get a slot: long tasks never block other runs.
    """

    def __init__(self, at_once: int, most: int) -> None:
        self._at_once = at_once
        self._most = most
        self._lock = threading.Lock()
        self._shares: dict[Callable[[], None], _Share] = {}
        self._timer: threading.Timer | None = None

    def request(self, grant: Callable[[], None]) -> None:
        """Grants a slot to a run, by calling its `grant` function, now or later."""
        with self._lock:
            self._shares.setdefault(grant, _Share()).wanted += 1
            self._serve()

    def release(self, grant: Callable[[], None]) -> None:
        """Releases a slot of a run."""
        with self._lock:
            share = self._shares.get(grant)
            if share and share.granted:
                share.granted.pop()
                self._serve()

    def leave(self, grant: Callable[[], None]) -> None:
        """Releases all slots of a run that ends, and grants its pending requests, so that no task waits forever."""
        with self._lock:
            share = self._shares.pop(grant, _Share())
            for _ in range(share.wanted):
                grant()
            self._serve()

    def _serve(self) -> None:
        while run := self._next():
            grant, share = run
            share.wanted -= 1
            share.granted.append(time.monotonic())
            grant()

    def _next(self) -> tuple[Callable[[], None], _Share] | None:
        waiting = [(grant, share) for grant, share in self._shares.items() if share.wanted]
        if not waiting:
            return None
        granted = [at for share in self._shares.values() for at in share.granted]
        now = time.monotonic()
        young = [at for at in granted if now - at < _YOUNG_SECONDS]
        if len(young) >= self._at_once:
            if not self._timer:
                self._timer = threading.Timer(min(young) + _YOUNG_SECONDS - now, self._again)
                self._timer.daemon = True
                self._timer.start()
            return None
        run = min(waiting, key=lambda one: len(one[1].granted))
        return run if len(granted) < self._most or not run[1].granted else None

    def _again(self) -> None:
        with self._lock:
            self._timer = None
            self._serve()
