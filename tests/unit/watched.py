"""Fakes for the tests of watching: a KFP that counts its requests, and watches that are read without waiting."""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, cast

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import RunNotFoundError
from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.contract.runs import Run, RunFilter, RunState, RunTask
from kfadapter_grpc.contract.watches import Heartbeat, RunChanged, RunGone, RunIds, WatchRunsRequest
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kfadapter_grpc.contract.call import Authorization
    from kfadapter_grpc.contract.experiments import ExperimentRef
    from kfadapter_grpc.contract.watches import RunEvent
    from kfadapter_grpc.kfp.runs import Runs

BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


class FakeRuns:
    """Keeps runs, and counts the requests.

    Attributes:
        runs: The runs by id.
        asked: How often each method was called.
        failure: The error that every request fails with.
        sizes: How many ids each request had.
        refused: The error for requests with this authorization.
        asked_as: The authorization of each request.
        waiting: Ids of the runs that have had a pending task for a while.
        listed_as_failed: Ids of the canceled runs that lists report as failed.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.asked: Counter[str] = Counter()
        self.failure: Exception | None = None
        self.sizes: list[int] = []
        self.refused: dict[Authorization, Exception] = {}
        self.asked_as: list[Authorization | None] = []
        self.waiting: set[str] = set()
        self.listed_as_failed: set[str] = set()

    def put(self, run_id: str, state: RunState = RunState.RUNNING, **fields: object) -> Run:
        """Creates or changes a run."""
        run = self.runs.get(run_id) or Run(
            run_id, created_at=BEGIN + timedelta(seconds=len(self.runs)), storage_state=StorageState.AVAILABLE
        )
        run = replace(run, state=state, **fields)  # type: ignore[arg-type]
        text = repr((run.state, run.storage_state, [replace(task, outputs=()) for task in run.tasks]))
        warned = "+" + "".join(run.warnings) if run.warnings else ""
        self.runs[run_id] = replace(run, etag=hashlib.sha256(text.encode()).hexdigest()[:20] + warned)
        return self.runs[run_id]

    def read(self, run_ids: Sequence[str], namespace: str, call: Call) -> tuple[Sequence[Run], Sequence[str]]:
        """Reads runs; returns them, and the ids of those that wait."""
        del namespace
        self._let(call)
        return self._listed("read", run_ids, lambda _: True), [one for one in run_ids if one in self.waiting]

    def in_other_state(self, run_ids: Sequence[str], state: RunState, namespace: str, call: Call) -> Sequence[Run]:
        """Reads the runs in another state."""
        del namespace
        self._let(call)
        return self._listed("in_other_state", run_ids, lambda run: run.state is not state)

    def count(self, run_ids: Sequence[str], namespace: str, call: Call, *, archived: bool) -> int:
        """Counts the existing runs."""
        del namespace
        self._let(call)
        stored = [StorageState.ARCHIVED] if archived else [StorageState.AVAILABLE]
        return len(self._listed("count", run_ids, lambda run: run.storage_state in stored))

    def get_complete(self, run_id: str, call: Call) -> Run:
        """Reads one run."""
        self._let(call)
        self._ask("get")
        if run_id not in self.runs:
            raise RunNotFoundError("not there")
        return self.runs[run_id]

    def list_newest(self, where: RunFilter, limit: int, call: Call) -> Sequence[Run]:
        """Reads runs that match."""
        self._let(call)
        self._ask("made")
        found = [run for run in self.runs.values() if self._matches(where, run)]
        return sorted(found, key=lambda run: run.created_at or BEGIN, reverse=True)[:limit]

    def experiment_id(self, ref: ExperimentRef, call: Call) -> str:
        """Finds an experiment."""
        self._let(call)
        self._ask("experiment_id")
        return ref.experiment_id or f"id of {ref.name}"

    def _let(self, call: Call) -> None:
        self.asked_as.append(call.authorization)
        refusal = self.refused.get(call.authorization) if call.authorization else None
        if refusal is not None:
            raise refusal

    def _matches(self, where: RunFilter, run: Run) -> bool:
        assert run.created_at is not None
        return (
            (not where.states or run.state in where.states)
            and (where.created_after is None or run.created_at > where.created_after)
            and (run.storage_state is StorageState.ARCHIVED) is where.archived
            and (where.finished_after is None or (run.finished_at or BEGIN) > where.finished_after)
        )

    def _listed(self, question: str, run_ids: Sequence[str], wanted: object) -> Sequence[Run]:
        self._ask(question)
        self.sizes.append(len(run_ids))
        assert callable(wanted)
        return [self._in_list(self.runs[one]) for one in run_ids if one in self.runs and wanted(self.runs[one])]

    def _in_list(self, run: Run) -> Run:
        """Lists have no tasks and no warnings."""
        state = RunState.FAILED if run.run_id in self.listed_as_failed else run.state
        return replace(run, state=state, tasks=(), warnings=(), etag=run.etag.partition("+")[0])

    def _ask(self, question: str) -> None:
        self.asked[question] += 1
        if self.failure is not None:
            raise self.failure


@dataclass
class Reader:
    """A watch that is read without waiting."""

    events: Iterator[RunEvent]
    call: Call

    def reported(self) -> list[str]:
        """The events up to the next heartbeat or the end, in words."""
        found: list[str] = []
        for event in self.events:
            if isinstance(event, Heartbeat):
                return found if event.kfp_reachable else [*found, "away"]
            found.append(_words(event))
        return [*found, "end"]


def _words(event: RunChanged | RunGone) -> str:
    return f"{event.run.run_id} {event.run.state.value}" if isinstance(event, RunChanged) else f"{event.run_id} gone"


class Watching:
    """A poller of a fake KFP, polled by hand, and its watches."""

    def __init__(self) -> None:
        self.kfp = FakeRuns()
        self.now = BEGIN
        self.poller = WatchPoller(cast("Runs", self.kfp), threaded=False, now=lambda: self.now)
        self._stack = ExitStack()

    def watch(
        self,
        *run_ids: str,
        where: RunFilter | None = None,
        tasks: bool = False,
        known: dict[str, str] | None = None,
        who: Authorization | None = None,
    ) -> Reader:
        """Opens a watch."""
        call = Call("test", 60, who)
        request = WatchRunsRequest(where or RunIds(run_ids), known or {}, tasks)
        return Reader(self._stack.enter_context(self.poller.open(request, call)), call)

    def poll(self, times: int = 1, elapsed: float = 2.0) -> Counter[str]:
        """Polls KFP; returns the number of calls by method."""
        self.kfp.asked.clear()
        for _ in range(times):
            self.poller.poll(elapsed)
        return self.kfp.asked

    def pass_time(self, seconds: float) -> None:
        """Advances the clock."""
        self.now += timedelta(seconds=seconds)

    def close(self) -> None:
        """Ends the watches."""
        self._stack.close()


def task(name: str, state: RunState, **fields: object) -> RunTask:
    """A task."""
    return replace(RunTask(name, task_id=name), state=state, **fields)  # type: ignore[arg-type]
