"""One at a time: calls that must not overlap in this process take turns."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.contract.call import Call


class Turns:
    """Lets one call at a time through for each key."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._taken: set[tuple[str, ...]] = set()

    @contextmanager
    def taken(self, key: tuple[str, ...], call: Call) -> Iterator[None]:
        """Waits for the turn, no longer than the call lives."""
        forget = call.on_cancel(self._wake)
        with self._condition:
            while key in self._taken:
                if call.cancelled:
                    raise errors.CallCancelledError("the caller went away")
                if not self._condition.wait(max(0.0, call.remaining())) and call.remaining() <= 0:
                    raise errors.KfpTimeoutError("another call of the same request is not over; try again later")
            self._taken.add(key)
        try:
            yield
        finally:
            forget()
            with self._condition:
                self._taken.discard(key)
                self._condition.notify_all()

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify_all()
