"""Artifacts and metrics of runs, by run or by a filter of runs.

Everything comes from whole runs as `Runs` reads them, so a run is read, with the caller's credentials if they are
forwarded, before any part of it is returned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaiting
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated, NamedTuple

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.artifacts import MAX_RUNS, ListArtifactsRequest, MetricsOfRun
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.listing import Page, PageRequest
from kfadapter_grpc.contract.run_outputs import RunArtifact
from kfadapter_grpc.contract.run_paths import TaskPaths, paths_of
from kfadapter_grpc.contract.runs import Run, RunFilter, RunSource, RunSourceState, RunTask
from kfadapter_grpc.kfp.rest import MAX_PAGE_BYTES, record_weight
from kfadapter_grpc.kfp.runs import Runs

_THREADS = 32
"""How many runs are read at once for all calls."""
_AT_ONCE = 8
"""How many runs are read at once for one call."""
_MARGIN_SECONDS = 0.5
"""How much of a call's time is reserved for the response: reads end that much earlier."""
_RESULT_SECONDS = 0.1
"""How long a finished read may take to return its result."""
_AVAILABLE = RunSource(RunSourceState.AVAILABLE)


class _Position(NamedTuple):
    """Where a listing continues.

    Attributes:
        token: KFP's token of the next page of runs.
        run_ids: The runs that come before that page.
        offset: How many artifacts of the first of these runs have been returned.
    """

    token: str = ""
    run_ids: tuple[str, ...] = ()
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0

    @classmethod
    def read(cls, token: str) -> _Position:
        try:
            return msgspec.json.decode(token, type=cls) if token else cls()
        except msgspec.DecodeError as error:
            text = "the page token is not one of this adapter's; start again without a token"
            raise errors.InvalidPageTokenError(text) from error

    def __str__(self) -> str:
        return msgspec.json.encode(self).decode() if self.token or self.run_ids else ""


@dataclass(frozen=True, slots=True)
class _ReadRun:
    """A run as it was read; if that failed, as it was listed, and the error."""

    run: Run
    error: errors.AdapterError | None = None

    @property
    def is_gone(self) -> bool:
        return isinstance(self.error, errors.RunNotFoundError)

    @property
    def source(self) -> RunSource:
        if self.error is not None:
            return RunSource(RunSourceState.UNREACHABLE, self.error.message)
        return _source_of(self.run)


class Artifacts:
    """The artifacts and metrics of runs. Safe to use from many threads."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._threads = ThreadPoolExecutor(_THREADS, "artifacts")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def get(self, run_id: str, artifact_id: str, call: Call) -> RunArtifact:
        return self.find(run_id, artifact_id, call)[0]

    def find(self, run_id: str, artifact_id: str, call: Call) -> tuple[RunArtifact, str]:
        """Finds an artifact as `get` does, and ML Metadata's record of its store, as JSON; empty if there is none."""
        run, nodes = self._runs.get_with_nodes(run_id, call)
        outputs = (one for task in run.tasks for output in task.outputs for one in output.artifacts)
        inputs = (one for task in run.tasks for input_ in task.inputs for one in input_.artifacts)
        merged_id = nodes.merged.get(artifact_id, artifact_id)
        for artifact in (*outputs, *inputs):
            if artifact.artifact_id == merged_id:
                named = replace(artifact, run_id=run_id, task=paths_of(run.tasks).get(artifact.task_id, ""))
                return named, nodes.stores.get(artifact_id, "")
        _ensure_readable(run)
        text = f"run {run_id} has no artifact '{artifact_id}'; list the artifacts of the run"
        metadata = {"run_id": run_id, "artifact_id": artifact_id}
        raise errors.ArtifactNotFoundError(text, metadata=metadata, resource_name=artifact_id)

    def list(
        self, filter_: ListArtifactsRequest, page: PageRequest, call: Call
    ) -> tuple[Page[RunArtifact], Sequence[str]]:
        """Lists artifacts of one run, or of those that match the filter, with the sources that could not be read."""
        if filter_.run_id:
            run, _ = self._runs.get_with_nodes(filter_.run_id, call)
            _ensure_readable(run)
            if filter_.task:
                TaskPaths(run.tasks).select(filter_.task)  # fails if the run does not exist
            offset = _Position.read(page.token).offset
            artifacts = list(_artifacts(run, filter_))[offset:]
            count = _count_fitting(artifacts, page.size, MAX_PAGE_BYTES)
            position = _Position("", (run.run_id,), offset + count) if artifacts[count:] else _Position()
            return Page(tuple(artifacts[:count]), str(position)), ()
        return self._list_of_many(filter_, page, call)

    def _list_of_many(
        self, filter_: ListArtifactsRequest, page: PageRequest, call: Call
    ) -> tuple[Page[RunArtifact], Sequence[str]]:
        position, runs, _ = self._list_runs(filter_.filter, page, call)
        items: list[RunArtifact] = []
        warnings: list[str] = []
        remaining, offset, done = MAX_PAGE_BYTES, position.offset, 0
        with closing(self._read_all(runs, call)) as reads:
            for read in reads:
                if read.source.state.is_missing and not read.is_gone:
                    warnings.append(f"run {read.run.run_id}: {read.source.message}")
                artifacts = list(_artifacts(read.run, filter_))[offset:]
                count = _count_fitting(artifacts, page.size - len(items), remaining, at_least=0 if items else 1)
                items += artifacts[:count]
                remaining -= sum(map(record_weight, artifacts[:count]))
                if artifacts[count:]:
                    offset += count
                    break
                offset, done = 0, done + 1
        rest = _Position(position.token, tuple(run.run_id for run in runs[done:]), offset)
        return Page(tuple(items), str(rest)), warnings

    def list_metrics(self, filter_: RunFilter, page: PageRequest, call: Call) -> Page[MetricsOfRun]:
        position, runs, total = self._list_runs(filter_, page, call)
        items: list[MetricsOfRun] = []
        remaining, done = MAX_PAGE_BYTES, 0
        with closing(self._read_all(runs, call)) as reads:
            for read in reads:
                run = read.run
                row = MetricsOfRun(
                    run.run_id, run.display_name, run.state, run.created_at, run.parameters, run.metrics, read.source
                )
                remaining -= record_weight(row)
                if items and remaining < 0:
                    break
                done += 1
                if not read.is_gone:
                    items.append(row)
        rest = _Position(position.token, tuple(run.run_id for run in runs[done:]))
        return Page(tuple(items), str(rest), total)

    def _list_runs(
        self, filter_: RunFilter, page: PageRequest, call: Call
    ) -> tuple[_Position, Sequence[Run], int | None]:
        position = _Position.read(page.token)
        if position.run_ids:
            return position, [Run(run_id) for run_id in position.run_ids[:MAX_RUNS]], None
        listed = self._runs.list(filter_, replace(page, size=min(page.size, MAX_RUNS), token=position.token), call)
        return _Position(listed.next_token), listed.items, listed.total_size

    def _read_all(self, runs: Sequence[Run], call: Call) -> Generator[_ReadRun, None, None]:
        """Reads runs concurrently, in this order; ends early if time is up, but not before the first."""
        with call.within(call.remaining() - _MARGIN_SECONDS) as part:
            futures: deque[Future[_ReadRun]] = deque()
            remaining = iter(runs)
            try:
                for count, run in enumerate(runs):
                    futures += [
                        self._threads.submit(_read, self._runs, other, part)
                        for other in islice(remaining, _AT_ONCE - len(futures))
                    ]
                    try:
                        read = futures[0].result(max(0.0, part.remaining()) + _RESULT_SECONDS)
                    except StillWaiting:  # runs of other calls are queued before it
                        read = _ReadRun(run, errors.KfpTimeoutError("too many runs are being read; allow more time"))
                    is_late = part.remaining() <= 0 and isinstance(read.error, errors.KfpTimeoutError)
                    if is_late and count:
                        return
                    if read.error is not None and (is_late or call.cancelled):
                        raise read.error
                    futures.popleft()
                    yield read
            finally:
                part.cancel()
                for other in futures:
                    other.cancel()


def _read(runs: Runs, run: Run, call: Call) -> _ReadRun:
    try:
        return _ReadRun(runs.get_with_nodes(run.run_id, call)[0])
    except errors.AdapterError as error:
        return _ReadRun(run, error)


def _artifacts(run: Run, filter_: ListArtifactsRequest) -> Iterator[RunArtifact]:
    """The matching artifacts of a run, each once; a group that passes one on counts only if it is requested."""
    tasks: Sequence[RunTask] = run.tasks
    if filter_.task:
        try:
            tasks = TaskPaths(run.tasks).select(filter_.task)
        except errors.TaskNotFoundError:
            return
    paths = paths_of(run.tasks)
    for task in tasks:
        for output in task.outputs:
            for artifact in output.artifacts:
                is_own = filter_.task or artifact.task_id in {"", task.task_id}
                types, names = ("", artifact.type, artifact.type.removeprefix("system.")), ("", output.name)
                if is_own and filter_.type in types and filter_.name in names:
                    yield replace(artifact, run_id=run.run_id, task=paths.get(artifact.task_id, ""))


def _source_of(run: Run) -> RunSource:
    """What is missing from the outputs of a run; tasks that could not be read have no outputs, either."""
    sources = [source for source in (run.sources.outputs, run.sources.tasks) if source] if run.sources else []
    return next((source for source in sources if source.state.is_missing), sources[0] if sources else _AVAILABLE)


def _ensure_readable(run: Run) -> None:
    """Fails if the outputs of a run are not known: for now, or as this KFP has none or the source is not configured."""
    source = _source_of(run)
    if source.state.is_missing:
        is_gone = source.state is RunSourceState.UNREACHABLE
        kind = errors.KfpUnavailableError if is_gone else errors.UnsupportedByKfpError
        raise kind(source.message, metadata={"run_id": run.run_id})


def _count_fitting(artifacts: Sequence[RunArtifact], size: int, remaining: int, at_least: int = 1) -> int:
    for count, artifact in enumerate(artifacts[:size]):
        remaining -= record_weight(artifact)
        if remaining < 0 and count >= at_least:
            return count
    return min(size, len(artifacts))
