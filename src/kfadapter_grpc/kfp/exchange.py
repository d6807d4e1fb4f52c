"""Ends the use of a connection from outside: at a deadline, or when the caller goes.

Socket timeouts bound one read, not a call: a server that sends a byte a second would hold a thread for ever. So
the connections that are in use for a call are known, and an alarm clock or the call's end shuts their sockets.
"""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self
    from urllib3.connection import HTTPConnection

    from kfadapter_grpc.contract.call import Call


class Exchange:
    """One request and its answer for a call. Enter it around everything that uses the connection.

    Attributes:
        expired: Whether the deadline ended it.
    """

    def __init__(self, call: Call, alarms: AlarmClock) -> None:
        self._call = call
        self._alarms = alarms
        self._connection: HTTPConnection | None = None
        self._lock = threading.Lock()
        self.expired = False

    def __enter__(self) -> Self:
        self._alarm = self._alarms.set(self._call.remaining(), self._expire)
        self._forget = self._call.on_cancel(self._abort)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._connection = None
        self._forget()
        self._alarm.cancel()

    def use(self, connection: HTTPConnection) -> None:
        """Notes the connection that is used; raises if the exchange has been ended meanwhile."""
        self._connection = connection
        if self.expired or self._call.cancelled:
            raise ConnectionAbortedError

    def forget(self, connection: object) -> None:
        """Notes that a connection is not used any more: from here on it may serve another call."""
        with self._lock:
            if self._connection is connection:
                self._connection = None

    def _expire(self) -> None:
        self.expired = True
        self._abort()

    def _abort(self) -> None:
        with self._lock, suppress(OSError):
            sock = getattr(self._connection, "sock", None)
            if sock is not None:
                # The base class's method: that of a TLS socket would take its TLS state away under the reader.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Alarm:
    """Something that happens at a time, unless it is cancelled."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self.ring: Callable[[], None] | None = ring
        self.cancelled = False

    def cancel(self) -> None:
        """Makes it not happen."""
        self.cancelled = True
        self.ring = None


_PURGE_AT = 1024


class AlarmClock:
    """Rings alarms on one thread, which starts with the first alarm."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int, Alarm]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._purge_at = _PURGE_AT

    def set(self, seconds: float, ring: Callable[[], None]) -> Alarm:
        """Has `ring` called, on the clock's thread, after some seconds."""
        alarm = Alarm(ring)
        when = time.monotonic() + seconds
        with self._condition:
            heapq.heappush(self._heap, (when, next(self._numbers), alarm))
            if len(self._heap) > self._purge_at:
                self._purge()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kfp-alarms", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is alarm:
                self._condition.notify()
        return alarm

    def close(self) -> None:
        """Stops the thread; alarms that are set do not ring any more."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (alarm := self._next()) is not None:
            ring = alarm.ring
            if ring is not None:
                ring()

    def _next(self) -> Alarm | None:
        """Waits for the next alarm that is due; None at the end."""
        with self._condition:
            while not self._closed:
                self._drop_cancelled()
                seconds = self._heap[0][0] - time.monotonic() if self._heap else None
                if seconds is not None and seconds <= 0:
                    return heapq.heappop(self._heap)[2]
                self._condition.wait(seconds)
            return None

    def _purge(self) -> None:
        """Forgets alarms that were cancelled: calls end long before their deadlines."""
        self._heap = [entry for entry in self._heap if not entry[2].cancelled]
        heapq.heapify(self._heap)
        self._purge_at = max(_PURGE_AT, 2 * len(self._heap))

    def _drop_cancelled(self) -> None:
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
