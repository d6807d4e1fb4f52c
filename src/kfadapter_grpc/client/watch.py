"""Watching runs: the stream of events, restarted whenever it breaks."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timezone

from kfadapter.v1 import run_pb2
from kfadapter_grpc.client.connection import BaseConnection
from kfadapter_grpc.client.errors import CannotConnectError, DeadlineError
from kfadapter_grpc.codec import to_record
from kfadapter_grpc.contract.errors import (
    AdapterError,
    DrainingError,
    KfpUnavailableError,
    OverloadedError,
    RunNotFoundError,
)
from kfadapter_grpc.contract.runs import Run
from kfadapter_grpc.contract.watches import Heartbeat, RunChanged, RunEvent, RunGone, RunIds, WatchRunsRequest

WATCH_ATTEMPTS = 10
"""The number of attempts in a row before a watch fails: for about half a minute."""
MAX_KNOWN = 1000
_FIRST_PAUSE_SECONDS = 0.2
_MAX_PAUSE_SECONDS = 5.0
TRANSIENT = (CannotConnectError, DrainingError, KfpUnavailableError, OverloadedError)


async def watch(
    connection: BaseConnection,
    request: WatchRunsRequest,
    end: float | None = None,
    on_connection: Callable[[bool], None] | None = None,
) -> AsyncGenerator[RunEvent, None]:
    """Watches runs; reconnects with the etags that the caller has seen when the stream breaks.

    It fails when that was in vain 10 times in a row, or at `end` (of `time.monotonic`). `on_connection` is called with
    False when reconnecting has failed, and with True when the stream continues.
    """
    state = _WatchState(request, end, on_connection)
    while next_request := state.next_request():
        remaining = None if end is None else end - time.monotonic()
        try:
            async with aclosing(connection.stream(next_request, remaining, state.was_open)) as messages:
                async for message in messages:
                    event = state.event(message)
                    if event is not None:
                        yield event
        except TRANSIENT as error:
            await connection.sleep(state.pause(error))
        else:
            return


async def wait(connection: BaseConnection, selection: RunIds, timeout: float | None) -> Run:
    """Waits until the only run of the request has finished; fails if it is deleted, or not over in time."""
    (run_id,) = selection.run_ids
    state = "unknown yet"
    end = None if timeout is None else time.monotonic() + timeout
    try:
        async with aclosing(watch(connection, WatchRunsRequest(selection), end)) as events:
            async for event in events:
                if isinstance(event, RunGone):
                    break
                if isinstance(event, RunChanged):
                    if event.run.state.is_over:
                        return event.run
                    state = event.run.state.value
    except DeadlineError as error:
        message = f"run {run_id} did not finish within {timeout:g} s; its state is {state}, and it continues"
        if isinstance(error.__cause__, AdapterError):
            message = f"{message}; last error: {error.__cause__.message}"
        raise DeadlineError(message, metadata={"run_id": run_id}) from error
    raise RunNotFoundError(
        f"not found: run {run_id}; it may have been deleted; list the runs",
        metadata={"run_id": run_id},
        resource_name=run_id,
    )


class _WatchState:
    """The state of a watch across its streams: what to request next, and when."""

    def __init__(
        self, request: WatchRunsRequest, end: float | None, on_connection: Callable[[bool], None] | None
    ) -> None:
        self._request = request
        self._end = end
        self._on_connection = on_connection
        self._failures = 0  # in a row
        self._known = dict(request.known_etags)  # the latest last

    def next_request(self) -> WatchRunsRequest | None:
        """Returns the request with what the caller has seen; None if all runs were deleted."""
        if isinstance(self._request.what, RunIds) and not self._request.what.run_ids:
            return None
        return replace(self._request, known_etags=dict(list(self._known.items())[-MAX_KNOWN:]))

    def was_open(self) -> None:
        """Resets the count of failures."""
        if self._failures > 1 and self._on_connection is not None:
            self._on_connection(True)
        self._failures = 0

    def event(self, message: run_pb2.RunEvent) -> RunEvent | None:
        """Returns the event of a message, None for an unknown kind, and remembers it."""
        self.was_open()
        event = _event(message)
        if isinstance(event, RunChanged):
            self._known.pop(event.run.run_id, None)
            self._known[event.run.run_id] = event.run.etag
            if len(self._known) > 2 * MAX_KNOWN:
                del self._known[next(iter(self._known))]
        elif isinstance(event, RunGone):
            self._known.pop(event.run_id, None)
            if isinstance(selection := self._request.what, RunIds):
                remaining = tuple(run_id for run_id in selection.run_ids if run_id != event.run_id)
                self._request = replace(self._request, what=replace(selection, run_ids=remaining))
        return event

    def pause(self, error: AdapterError) -> float:
        """Returns how many seconds to wait before the watch is restarted; raises if that was in vain too often."""
        self._failures += 1
        if self._failures >= WATCH_ATTEMPTS:
            raise error
        if self._failures > 1 and self._on_connection is not None:
            self._on_connection(False)
        longest = min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**self._failures)
        seconds: float = longest * random.uniform(0.5, 1)  # noqa: S311 - jitter
        if self._end is not None and time.monotonic() + seconds >= self._end:
            raise DeadlineError(f"it was not over in time, and then: {error.message}") from error
        return seconds


def _event(message: run_pb2.RunEvent) -> RunEvent | None:
    """Decodes an event; None for a kind unknown to this version."""
    at = message.observed_at.ToDatetime(timezone.utc) if message.HasField("observed_at") else datetime.now(timezone.utc)
    kind = message.WhichOneof("event")
    if kind == "changed":
        return RunChanged(to_record(message.changed.run, Run), at)
    if kind == "gone":
        return RunGone(message.gone.run_id, at)
    return Heartbeat(message.heartbeat.kfp_reachable, at) if kind == "heartbeat" else None
