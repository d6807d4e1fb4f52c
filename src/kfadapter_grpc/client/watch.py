"""Calls of RunService that go on for long: watching runs, waiting for them, reading logs."""

from __future__ import annotations

import random
import time
from contextlib import closing
from typing import TYPE_CHECKING

from kfadapter.v1 import run_pb2
from kfadapter_grpc.client.errors import CannotConnectError, DeadlineError
from kfadapter_grpc.client.runs import RunCalls
from kfadapter_grpc.client.watch_messages import run_filter, try_event
from kfadapter_grpc.contract.errors import (
    AdapterError,
    DrainingError,
    InvalidFieldError,
    KfpUnavailableError,
    OverloadedError,
    RunNotFoundError,
)
from kfadapter_grpc.contract.runs import RunChanged, RunGone
from kfadapter_grpc.methods import METHOD_OF_REQUEST

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from kfadapter_grpc.contract.runs import Run, RunEvent, RunFilter

WATCH_ATTEMPTS = 10
"""How often in a row a watch is begun in vain before it fails: for about half a minute."""
MAX_KNOWN = 1000
"""How many etags a watch brings along when it comes back: as many as the contract takes."""
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_PASSING = (CannotConnectError, DrainingError, KfpUnavailableError, OverloadedError)


class WatchCalls(RunCalls):
    """Watches runs, waits for them, reads their logs."""

    def watch_runs(
        self,
        run_ids: str | Iterable[str] = (),
        *,
        where: RunFilter | None = None,
        tasks: bool = False,
        known_etags: Mapping[str, str] | None = None,
    ) -> Generator[RunEvent, None, None]:
        """Yields what happens to runs: first each one as it is now, then whenever one has changed.

        It comes back by itself, without telling again what it has told, when the adapter shuts down or the connection
        breaks; it fails only when no adapter has begun to answer 10 times in a row. No deadline ends it. Close it, or
        leave the loop and drop it, to end it before.

        Args:
            run_ids: These runs, at most 1000; it ends when all are over or gone.
            where: Instead, the runs that match, also those made later; it does not end by itself.
            tasks: Tell the tasks, too; a change of a task is a change then.
            known_etags: What is known already, by run id: runs that still have these etags are not told at first.

        Raises:
            InvalidFieldError: Neither ids nor a filter are given, or both, or too many ids.
            ExperimentNotFoundError: There is no such experiment.
        """
        ids = [run_ids] if isinstance(run_ids, str) else list(run_ids)
        if bool(ids) == (where is not None):
            raise InvalidFieldError.of("what", "give either the ids of runs or a filter, and not both")
        request = run_pb2.WatchRunsRequest(tasks=tasks)
        if where is None:
            request.runs.CopyFrom(run_pb2.RunIds(run_ids=ids, namespace=self._namespace))
        else:
            request.filter.CopyFrom(run_filter(where, self._namespace))
        return self._watch(request, dict(known_etags or {}), None)

    def wait_run(self, run_id: str, *, timeout: float | None = None) -> Run:
        """Waits until a run is over; returns it as it is then, without its tasks.

        Args:
            run_id: Which.
            timeout: How many seconds to wait at most; without a limit by default.

        Raises:
            RunNotFoundError: There is no such run, or it was deleted meanwhile.
            DeadlineError: It was not over in time; it goes on.
        """
        request = run_pb2.WatchRunsRequest(runs=run_pb2.RunIds(run_ids=[run_id], namespace=self._namespace))
        end = None if timeout is None else time.monotonic() + timeout
        state = "unknown yet"
        try:
            with closing(self._watch(request, {}, end)) as events:
                for event in events:
                    if isinstance(event, RunGone):
                        break
                    if isinstance(event, RunChanged):
                        if event.run.state.is_over:
                            return event.run
                        state = event.run.state.value
        except DeadlineError as error:
            words = f"run {run_id} was not over within {timeout:g} s; its state is {state}, and it goes on"
            if isinstance(error.__cause__, AdapterError):
                words = f"{words}; at last: {error.__cause__.message}"
            raise DeadlineError(words, metadata={"run_id": run_id}) from error
        raise RunNotFoundError(
            f"there is no run with id {run_id}, or it was deleted; list the runs",
            metadata={"run_id": run_id},
            resource_name=run_id,
        )

    def read_logs(
        self,
        run_id: str,
        task: str,
        *,
        follow: bool = False,
        attempt: int = 0,
        iteration_index: int | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> Iterator[bytes]:
        """Yields the log of a task in pieces, which may end anywhere in a line.

        Args:
            run_id: The run.
            task: The task, by its name, its id in the run or its path.
            follow: Continue until the task has ended; no deadline ends that.
            attempt: Which attempt of a retried task, counted from 1; the last one by default.
            iteration_index: Which iteration of the innermost loop, counted from 0, where the name alone is ambiguous.
            on_note: Called at the end of a log that is not complete, with the reason.

        Raises:
            RunNotFoundError: No such run.
            TaskNotFoundError: The run has no such task, or the task has not begun.
            InvalidFieldError: There is no such attempt, or several tasks have this name.
            UnsupportedByKfpError: The log is not available; the message says why and where to find it.
        """
        request = run_pb2.ReadLogsRequest(
            run_id=run_id, task=task, follow=follow, attempt=attempt, iteration_index=iteration_index
        )
        seconds = None if follow else METHOD_OF_REQUEST[request.DESCRIPTOR.full_name].default_seconds
        for message in self._connection.server_stream(self._runs.ReadLogs, request, seconds):
            if message.chunk:
                yield message.chunk
            if message.note and on_note is not None:
                on_note(message.note)

    def _watch(
        self, request: run_pb2.WatchRunsRequest, known: dict[str, str], end: float | None
    ) -> Generator[RunEvent, None, None]:
        """Watches, and comes back when it was cut off.

        Args:
            request: What to watch.
            known: The etags that are known, the latest last.
            end: A moment of `time.monotonic` at which to end.
        """
        attempts = _Attempts()
        while True:
            try:
                yield from self._watch_once(request, known, end, attempts)
            except _PASSING as error:
                attempts.failures += 1
                if attempts.failures >= WATCH_ATTEMPTS:
                    raise
                _pause(attempts.failures, error, end)
            else:
                return

    def _watch_once(
        self, request: run_pb2.WatchRunsRequest, known: dict[str, str], end: float | None, attempts: _Attempts
    ) -> Generator[RunEvent, None, None]:
        """Watches until it is cut off; notes what has been told."""
        if request.HasField("runs") and not request.runs.run_ids:
            return  # all are gone
        request.known_etags.clear()
        request.known_etags.update(dict(list(known.items())[-MAX_KNOWN:]))
        seconds = None if end is None else end - time.monotonic()
        stream = self._connection.endless_stream(self._runs.Watch, request, seconds, attempts.succeeded)
        with closing(stream) as messages:
            for message in messages:
                attempts.succeeded()
                event = try_event(message)
                if event is not None:
                    _note(request, known, event)
                    yield event


class _Attempts:
    """Counts how often in a row a watch was begun in vain."""

    def __init__(self) -> None:
        self.failures = 0

    def succeeded(self) -> None:
        """The last one was open, so the count begins anew, though there may have been nothing to tell."""
        self.failures = 0


def _note(request: run_pb2.WatchRunsRequest, known: dict[str, str], event: RunEvent) -> None:
    """Takes up what the caller knows from now on."""
    if isinstance(event, RunChanged):
        known.pop(event.run.run_id, None)
        known[event.run.run_id] = event.run.etag
        if len(known) > 2 * MAX_KNOWN:
            del known[next(iter(known))]
    elif isinstance(event, RunGone):
        known.pop(event.run_id, None)
        if event.run_id in request.runs.run_ids:
            request.runs.run_ids.remove(event.run_id)


def _pause(failures: int, error: AdapterError, end: float | None) -> None:
    """Waits before the watch is begun anew.

    Raises:
        DeadlineError: There is no time left.
    """
    longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**failures)
    seconds = longest * random.uniform(0.5, 1)  # noqa: S311 - jitter
    if end is not None and time.monotonic() + seconds >= end:
        raise DeadlineError(f"it was not over in time, and then: {error.message}") from error
    time.sleep(seconds)
