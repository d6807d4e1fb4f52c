"""Logs of tasks.

KFP checks no rights where it serves logs. So the run is always got first, with the caller's credentials where they are
forwarded, and nothing is read if KFP refuses that.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.errors import (
    AdapterError,
    CallCancelledError,
    InvalidFieldError,
    KfpTimeoutError,
    KfpUnavailableError,
    UnsupportedByKfpError,
)
from kfadapter_grpc.contract.runs import LogNote
from kfadapter_grpc.kfp.api import KfpFailureError
from kfadapter_grpc.kfp.gateway import explained
from kfadapter_grpc.kfp.log_errors import NoLogError
from kfadapter_grpc.kfp.log_sources import KFP, LogSources, PodOfRun, Sent
from kfadapter_grpc.kfp.missing_logs import missing_log, not_begun
from kfadapter_grpc.kfp.run_reader import context_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.runs import LogPiece, RunTask
    from kfadapter_grpc.kfp.api import RunApi
    from kfadapter_grpc.kfp.pod_logs import PodLogs
    from kfadapter_grpc.kfp.run_nodes import Pod, RunNodes
    from kfadapter_grpc.kfp.run_reader import RunReader

TAIL_LINES = 20
"""How many lines the end of a log has."""
TAIL_SECONDS = 0.3
"""How long the ends of logs may take, all together."""
_TAIL_BYTES = 8 * 1024
_TAIL_THREADS = 8
_WHY_CHARACTERS = 500
_FIRST_PAUSE_SECONDS, _PAUSE_FACTOR, _LONGEST_PAUSE_SECONDS = 0.25, 1.5, 5.0
_MOST_TIME_READING = 0.2  # of a follow that has to read the whole log each time
_LONGEST_REST_SECONDS = 30.0
_MAX_FAILURES = 5
_LOOK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Attempt:
    """An attempt of a task."""

    task: RunTask
    number: int
    of: PodOfRun
    run_is_over: bool


class KfpRunLogs:
    """The `RunLogs` before KFP. Safe to use from many threads."""

    def __init__(self, api: RunApi, reader: RunReader, pod_logs: PodLogs | None = None) -> None:
        """Reads from KFP, and from Kubernetes where `pod_logs` can."""
        self._reader = reader
        self._sources = LogSources(api, pod_logs)
        self._threads = ThreadPoolExecutor(_TAIL_THREADS, "log-tails")

    def close(self) -> None:
        """Ends what works in the background."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def read(
        self,
        run_id: str,
        task: str,
        call: Call,
        *,
        follow: bool = False,
        attempt: int = 0,
        iteration_index: int | None = None,
    ) -> Iterator[Iterator[LogPiece]]:
        """Reads the log of a task, in pieces as they come, for as long as the block lasts."""
        found = self._find(run_id, task, attempt, iteration_index, call)
        pieces = self._followed(found, call, goes_on=not attempt) if follow else self._rest(found, Sent(), call)
        with closing(pieces):
            yield pieces

    def tails(self, run_id: str, pods: Mapping[str, Pod], call: Call, *, namespace: str = "") -> Mapping[str, str]:
        """Reads the last lines of logs, at the same time and within `TAIL_SECONDS`; those that fail are left out."""
        spare = call.apart(TAIL_SECONDS)
        tasks = {
            self._threads.submit(self._tail, PodOfRun(run_id, pod, namespace), spare): key for key, pod in pods.items()
        }
        done, late = wait(tasks, TAIL_SECONDS)
        for one in late:
            one.cancel()
        return {tasks[one]: one.result() for one in done if one.result()}

    def _tail(self, of: PodOfRun, call: Call) -> str:
        kept = b""
        with suppress(AdapterError, NoLogError, KfpFailureError):
            pieces = self._sources.read(of, Sent(), call, tail=TAIL_LINES)
            with closing(pieces):
                for piece in pieces:
                    kept = (kept + piece)[-_TAIL_BYTES:]
            lines = kept.decode("utf-8", "replace").rstrip().split("\n")
            return "\n".join(line.rstrip("\r") for line in lines[-TAIL_LINES:])
        return ""

    # --- reading ------------------------------------------------------------------------------------------------

    def _rest(self, found: _Attempt, sent: Sent, call: Call) -> Generator[LogPiece, None, None]:
        """Yields what is there beyond what was sent; a note at the end if that is not all."""
        with explained(context_of(found.of.run_id)):
            try:
                refusals = yield from self._sources.read(found.of, sent, call)
            except NoLogError as error:
                yield LogNote(f"the log ends here, although there is more: {error.why[:_WHY_CHARACTERS]}")
                return
        if refusals and not sent.count:
            raise missing_log(found.task, found.of, refusals)
        if refusals:
            yield LogNote(
                "the log was read while the task ran, and ends here; whether more was written cannot be told, as it "
                "cannot be read again as it was"
            )

    def _followed(self, found: _Attempt, call: Call, *, goes_on: bool) -> Generator[LogPiece, None, None]:
        """Yields the log until the task is over, from one attempt to the next where that `goes_on`."""
        follower: _Attempt | None = found
        while follower is not None:
            yield from self._followed_attempt(follower, call)
            follower = self._next(follower, call) if goes_on else None

    def _followed_attempt(self, found: _Attempt, call: Call) -> Generator[LogPiece, None, None]:
        sent, pauses = Sent(), _Pauses(call)
        while not found.of.pod.is_over:
            before, began = sent.count, time.monotonic()
            with pauses.bridging(), explained(context_of(found.of.run_id)), suppress(NoLogError):
                yield from self._sources.read(found.of, sent, call, live=True)
            took = time.monotonic() - began if sent.source == KFP else 0  # which serves all of it each time
            pauses.wait(moved=sent.count > before, reading_seconds=took)
            with pauses.bridging():
                found = self._again(found, found.number, call) or found
        yield from self._rest(found, sent, call)

    def _next(self, found: _Attempt, call: Call) -> _Attempt | None:
        """Waits for the next attempt; None if there will be none."""
        pauses = _Pauses(call)
        while True:
            with pauses.bridging():
                following = self._again(found, found.number + 1, call)
                if following is not None:
                    return following
                latest = self._again(found, found.number, call)
                if latest is None or latest.task.state.is_over or latest.run_is_over:
                    return None
            pauses.wait(moved=False)

    # --- finding ------------------------------------------------------------------------------------------------

    def _find(self, run_id: str, task: str, attempt: int, iteration_index: int | None, call: Call) -> _Attempt:
        nodes, is_over = self._nodes(run_id, call)
        if nodes.unreadable:
            raise UnsupportedByKfpError(f"the pods of run {run_id} are not known: {nodes.unreadable}; use kubectl logs")
        found = nodes.find(task, iteration_index)
        pods = nodes.pods(found.task_id)
        if not pods:
            raise not_begun(run_id, found)
        if attempt > len(pods):
            attempts = "one attempt" if len(pods) == 1 else f"{len(pods)} attempts"
            raise InvalidFieldError.of("attempt", f"is {attempt}; task '{found.name}' has {attempts} so far")
        number = attempt or len(pods)
        return _Attempt(found, number, _pod_of(run_id, nodes, pods[number - 1], is_over=is_over), is_over)

    def _again(self, found: _Attempt, number: int, call: Call) -> _Attempt | None:
        """An attempt of a task as it is now; None if there is none."""
        run_id = found.of.run_id
        with call.within(_LOOK_SECONDS) as part:
            nodes, is_over = self._nodes(run_id, part)
        if nodes.unreadable:
            raise KfpUnavailableError(f"whether the task goes on cannot be read: {nodes.unreadable}")
        task = nodes.find(found.task.task_id)
        pods = nodes.pods(task.task_id)
        if number > len(pods):
            return None
        return _Attempt(task, number, _pod_of(run_id, nodes, pods[number - 1], is_over=is_over), is_over)

    def _nodes(self, run_id: str, call: Call) -> tuple[RunNodes, bool]:
        """Gets a run, which checks that it may be read; returns its nodes, and whether it has ended."""
        run = self._reader.get(run_id, call)
        return self._reader.nodes(run, call), run.known_state.is_over


class _Pauses:
    """The pauses of a follow, and how long it bridges an outage."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._seconds = _FIRST_PAUSE_SECONDS
        self._failures = 0

    @contextmanager
    def bridging(self) -> Iterator[None]:
        """Passes over outages, unless they last."""
        try:
            yield
        except (KfpUnavailableError, KfpTimeoutError):
            self._failures += 1
            if self._failures >= _MAX_FAILURES or self._call.remaining() <= 0:
                raise
        else:
            self._failures = 0

    def wait(self, *, moved: bool, reading_seconds: float = 0) -> None:
        """Waits: not for long where something `moved`, and long against the time that reading took.

        Raises:
            CallCancelledError: The client cancelled the call.
        """
        self._seconds = _FIRST_PAUSE_SECONDS if moved else min(self._seconds * _PAUSE_FACTOR, _LONGEST_PAUSE_SECONDS)
        seconds = max(self._seconds, min(reading_seconds / _MOST_TIME_READING, _LONGEST_REST_SECONDS))
        if self._call.cancelled_within(min(seconds, self._call.remaining())):
            raise CallCancelledError("the client cancelled the call")


def _pod_of(run_id: str, nodes: RunNodes, pod: Pod, *, is_over: bool) -> PodOfRun:
    """A pod; no pod of a run that has ended is waited for, whatever its node says."""
    return PodOfRun(run_id, replace(pod, is_over=pod.is_over or is_over), nodes.namespace)
