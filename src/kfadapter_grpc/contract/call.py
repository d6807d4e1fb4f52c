"""One call: its deadline, its cancellation, the caller's credentials for KFP, and what it has used."""

from __future__ import annotations

import enum
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Role(enum.Enum):
    """What a caller may do."""

    READER = "reader"
    """Calls without side effects."""
    WRITER = "writer"
    """All calls."""

    def allows(self, needed: Role) -> bool:
        """Returns whether this role includes `needed`."""
        return self is Role.WRITER or needed is Role.READER


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    Attributes:
        name: As the operator calls them: the name of a token, or the one in a client certificate.
        role: What they may do.
    """

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Authorization:
    """The `authorization` with which a caller authenticates. It is a secret, and not shown.

    Attributes:
        value: As it was sent (`Bearer TOKEN`).
    """

    value: str = field(repr=False)


class Usage:
    """What a call has used so far. Safe to use from several threads.

    Attributes:
        kfp_requests: How many requests KFP was sent for it, repetitions included.
        kfp_seconds: How long it waited for KFP's answers.
        received_bytes: The bytes of files that its caller sent.
        sent_bytes: The bytes of files and logs that its caller was sent.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.kfp_requests = 0
        self.kfp_seconds = 0.0
        self.received_bytes = 0
        self.sent_bytes = 0

    def add_kfp(self, seconds: float) -> None:
        """Notes a request to KFP that took `seconds`."""
        with self._lock:
            self.kfp_requests += 1
            self.kfp_seconds += seconds

    def add_received(self, size: int) -> None:
        """Notes `size` bytes from the caller."""
        with self._lock:
            self.received_bytes += size

    def add_sent(self, size: int) -> None:
        """Notes `size` bytes to the caller."""
        with self._lock:
            self.sent_bytes += size


class Call:
    """One call of a caller, as far as the work done for it needs to know.

    Safe to use from several threads.

    Attributes:
        request_id: Names the call in logs, errors and towards KFP.
        authorization: The caller's credentials for KFP, if they are forwarded; None: the adapter's own are used.
        usage: What was used for it.
    """

    def __init__(
        self,
        request_id: str,
        seconds: float,
        authorization: Authorization | None = None,
        usage: Usage | None = None,
    ) -> None:
        """Starts the call's clock; it may take `seconds`. What it uses counts as `usage`, or as its own."""
        self.request_id = request_id
        self.authorization = authorization
        self.usage = usage or Usage()
        self._deadline = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._cancelled = False
        self._on_cancel: dict[int, Callable[[], object]] = {}
        self._next_key = 0

    @property
    def cancelled(self) -> bool:
        """Whether the client cancelled the call."""
        return self._cancelled

    def remaining(self) -> float:
        """Seconds that are left; negative when the deadline has passed."""
        return self._deadline - time.monotonic()

    def apart(self, seconds: float) -> Call:
        """Makes a call for work that must happen although this one may end: of the same name, for the same caller.

        What it uses counts as this one's.
        """
        return Call(self.request_id, seconds, self.authorization, self.usage)

    @contextmanager
    def within(self, seconds: float) -> Iterator[Call]:
        """A part of the call that may take `seconds` at most, and ends with the call."""
        part = self.apart(min(seconds, self.remaining()))
        forget = self.on_cancel(part.cancel)
        try:
            yield part
        finally:
            forget()

    @contextmanager
    def with_grace(self, seconds: float) -> Iterator[Call]:
        """A part of the call that continues for `seconds` after the call was cancelled."""
        part = self.apart(self.remaining())
        timer = threading.Timer(seconds, part.cancel)
        timer.daemon = True
        forget = self.on_cancel(timer.start)
        try:
            yield part
        finally:
            forget()
            timer.cancel()

    def extend(self, seconds: float) -> None:
        """Allows at least `seconds` from now on."""
        self._deadline = max(self._deadline, time.monotonic() + seconds)

    def cancel(self) -> None:
        """Signals to all that work for this call that it has finished. Harmless when repeated, or at the end."""
        with self._lock:
            self._cancelled = True
            callbacks, self._on_cancel = list(self._on_cancel.values()), {}
        for callback in callbacks:
            callback()

    def cancelled_within(self, seconds: float) -> bool:
        """Waits up to `seconds` for the call to be cancelled; returns whether it is."""
        cancelled = threading.Event()
        forget = self.on_cancel(cancelled.set)
        try:
            return cancelled.wait(seconds)
        finally:
            forget()

    def on_cancel(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Has `callback` run, once, when the call is cancelled, at once if it is.

        Returns:
            A function that takes the callback back.
        """
        with self._lock:
            key = self._next_key
            self._next_key += 1
            if not self._cancelled:
                self._on_cancel[key] = callback
                return lambda: self._forget(key)
        callback()
        return lambda: None

    def _forget(self, key: int) -> None:
        with self._lock:
            self._on_cancel.pop(key, None)
