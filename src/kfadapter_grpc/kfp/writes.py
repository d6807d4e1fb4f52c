"""Writes of unknown outcome: the budget to check them, and writes that must not overlap."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.kfp.transport import NotSentError

T = TypeVar("T")

FOLLOWUP_SECONDS = 10.0
"""The time limit for checking after a failure, or undoing."""
UNKNOWN_OUTCOME = (errors.KfpUnavailableError, errors.KfpTimeoutError)
"""A write that fails like this may have had its effect, unless it was a `NotSentError`."""


def followup_call(call: Call) -> Call:
    """A budget, from now on, for checking and undoing: both must happen even if the caller's budget is used up."""
    return call.detached(FOLLOWUP_SECONDS)


def of_unknown_outcome(error: errors.AdapterError, what: str, advice: str, **metadata: str) -> errors.AdapterError:
    """Adds to the error of a write that its outcome is not known, and what to do about it."""
    text = f"{error.message}. Whether {what} is not known: {advice}"
    return type(error)(text, metadata={**error.metadata, **metadata}, retry_after=error.retry_after)


class KeyLocks:
    """Admits one call at a time for each key."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._held: set[tuple[str, ...]] = set()

    @contextmanager
    def held(self, key: tuple[str, ...], call: Call) -> Iterator[None]:
        """Waits for its turn, no longer than the call lasts."""
        forget = call.on_cancel(self._wake)
        with self._condition:
            while key in self._held:
                if call.cancelled:
                    raise errors.CallCancelledError("the client cancelled the call")
                if not self._condition.wait(max(0.0, call.remaining())) and call.remaining() <= 0:
                    raise errors.KfpTimeoutError("another call of the same request is not over; try again later")
            self._held.add(key)
        try:
            yield
        finally:
            forget()
            with self._condition:
                self._held.discard(key)
                self._condition.notify_all()

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify_all()


def ensure_created(create: Callable[[], T], find: Callable[[Call], T | None], call: Call) -> T:
    """Creates something and returns it; after a broken response, searches for it, on a budget of its own."""
    try:
        return create()
    except NotSentError:
        raise
    except UNKNOWN_OUTCOME:
        item = None
        with suppress(errors.AdapterError):
            item = find(followup_call(call))
        if item is None:
            raise
        return item


def ensure_deleted(
    delete: Callable[[], object],
    get: Callable[[], object],
    missing: type[errors.AdapterError],
    *,
    allow_missing: bool = False,
) -> bool:
    """Deletes something; after a broken response, checks whether it still exists. Returns whether it existed.

    Raises what `delete` raised: `missing` if it did not exist before, unless it may be missing.
    """
    try:
        delete()
    except missing:
        if allow_missing:
            return False
        raise
    except NotSentError:
        raise
    except errors.KfpUnavailableError:
        with suppress(missing):
            get()
            raise
    return True


def ensure_changed(
    change: Callable[[], object],
    get: Callable[[], T],
    is_changed: Callable[[T], bool],
    unclear: tuple[type[errors.AdapterError], ...] = (errors.KfpUnavailableError,),
) -> T:
    """Changes something and returns it as it is then; after an `unclear` failure, checks whether it is changed."""
    try:
        change()
    except NotSentError:
        raise
    except unclear:
        item = get()
        if not is_changed(item):
            raise
        return item
    return get()
