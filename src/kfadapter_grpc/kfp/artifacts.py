"""Artifacts and metrics of runs, by run or by a filter of runs.

Everything comes from whole runs as `Runs` reads them, so a run is read, with the caller's credentials if they are
forwarded, before any part of it is returned.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaiting
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.artifacts import MAX_RUNS, MetricsOfRun
from kfadapter_grpc.contract.listing import Page
from kfadapter_grpc.contract.run_paths import TaskPaths, paths_of
from kfadapter_grpc.contract.runs import Run, RunSource, RunSourceState
from kfadapter_grpc.contract.values import json_text
from kfadapter_grpc.kfp.rest import MAX_PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from concurrent.futures import Future

    from kfadapter_grpc.contract.artifacts import ListArtifactsRequest
    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.listing import PageRequest
    from kfadapter_grpc.contract.run_outputs import RunArtifact
    from kfadapter_grpc.contract.runs import RunFilter, RunTask
    from kfadapter_grpc.kfp.runs import Runs

_THREADS = 32
"""How many runs are read at once for all calls."""
_AT_ONCE = 8
"""How many runs are read at once for one call."""
_MARGIN_SECONDS = 0.5
"""How much of a call's time is reserved for the response: reads end that much earlier."""
_PATIENCE_SECONDS = 0.1
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
class _Read:
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
        made = (one for task in run.tasks for output in task.outputs for one in output.artifacts)
        taken = (one for task in run.tasks for given in task.inputs for one in given.artifacts)
        shown_as = nodes.merged.get(artifact_id, artifact_id)
        for found in (*made, *taken):
            if found.artifact_id == shown_as:
                named = replace(found, run_id=run_id, task=paths_of(run.tasks).get(found.task_id, ""))
                return named, nodes.stores.get(artifact_id, "")
        _ensure_readable(run)
        text = f"run {run_id} has no artifact '{artifact_id}'; list the artifacts of the run"
        about = {"run_id": run_id, "artifact_id": artifact_id}
        raise errors.ArtifactNotFoundError(text, metadata=about, resource_name=artifact_id)

    def list(
        self, where: ListArtifactsRequest, page: PageRequest, call: Call
    ) -> tuple[Page[RunArtifact], Sequence[str]]:
        """Lists artifacts of one run, or of those that match the filter, with the sources that could not be read."""
        if where.run_id:
            run, _ = self._runs.get_with_nodes(where.run_id, call)
            _ensure_readable(run)
            if where.task:
                TaskPaths(run.tasks).select(where.task)  # fails if the run does not exist
            offset = _Position.read(page.token).offset
            found = list(_artifacts(run, where))[offset:]
            end = _fitting(found, page.size, MAX_PAGE_BYTES)
            rest = _Position("", (run.run_id,), offset + end) if found[end:] else _Position()
            return Page(tuple(found[:end]), str(rest)), ()
        return self._list_of_many(where, page, call)

    def _list_of_many(
        self, where: ListArtifactsRequest, page: PageRequest, call: Call
    ) -> tuple[Page[RunArtifact], Sequence[str]]:
        position, runs, _ = self._listed(where.filter, page, call)
        items: list[RunArtifact] = []
        warnings: list[str] = []
        room, offset, done = MAX_PAGE_BYTES, position.offset, 0
        with closing(self._whole(runs, call)) as whole:
            for read in whole:
                if read.source.state.is_missing and not read.is_gone:
                    warnings.append(f"run {read.run.run_id}: {read.source.message}")
                found = list(_artifacts(read.run, where))[offset:]
                end = _fitting(found, page.size - len(items), room, at_least=0 if items else 1)
                items += found[:end]
                room -= sum(map(_weight, found[:end]))
                if found[end:]:
                    offset += end
                    break
                offset, done = 0, done + 1
        rest = _Position(position.token, tuple(run.run_id for run in runs[done:]), offset)
        return Page(tuple(items), str(rest)), warnings

    def list_metrics(self, where: RunFilter, page: PageRequest, call: Call) -> Page[MetricsOfRun]:
        position, runs, total = self._listed(where, page, call)
        items: list[MetricsOfRun] = []
        room, done = MAX_PAGE_BYTES, 0
        with closing(self._whole(runs, call)) as whole:
            for read in whole:
                row = _row(read)
                room -= _weight_of_row(row)
                if items and room < 0:
                    break
                done += 1
                if not read.is_gone:
                    items.append(row)
        rest = _Position(position.token, tuple(run.run_id for run in runs[done:]))
        return Page(tuple(items), str(rest), total)

    def _listed(self, where: RunFilter, page: PageRequest, call: Call) -> tuple[_Position, Sequence[Run], int | None]:
        """The runs of a page, as far as the list contains them, and the position after them."""
        position = _Position.read(page.token)
        if position.run_ids:
            return position, [Run(run_id) for run_id in position.run_ids[:MAX_RUNS]], None
        listed = self._runs.list(where, replace(page, size=min(page.size, MAX_RUNS), token=position.token), call)
        return _Position(listed.next_token), listed.items, listed.total_size

    def _whole(self, runs: Sequence[Run], call: Call) -> Generator[_Read, None, None]:
        """Reads runs concurrently, in this order; ends early if time is up, but not before the first."""
        with call.within(call.remaining() - _MARGIN_SECONDS) as part:
            waiting: deque[Future[_Read]] = deque()
            rest = iter(runs)
            try:
                for count, run in enumerate(runs):
                    waiting += [
                        self._threads.submit(_read, self._runs, one, part)
                        for one in islice(rest, _AT_ONCE - len(waiting))
                    ]
                    try:
                        read = waiting[0].result(max(0.0, part.remaining()) + _PATIENCE_SECONDS)
                    except StillWaiting:  # runs of other calls are queued before it
                        read = _Read(run, errors.KfpTimeoutError("too many runs are being read; allow more time"))
                    is_late = part.remaining() <= 0 and isinstance(read.error, errors.KfpTimeoutError)
                    if is_late and count:
                        return
                    if read.error is not None and (is_late or call.cancelled):
                        raise read.error
                    waiting.popleft()
                    yield read
            finally:
                part.cancel()
                for one in waiting:
                    one.cancel()


def _read(runs: Runs, run: Run, call: Call) -> _Read:
    try:
        return _Read(runs.get_with_nodes(run.run_id, call)[0])
    except errors.AdapterError as error:
        return _Read(run, error)


def _artifacts(run: Run, where: ListArtifactsRequest) -> Iterator[RunArtifact]:
    """The matching artifacts of a run, each once; a group that passes one on counts only if it is requested."""
    tasks: Sequence[RunTask] = run.tasks
    if where.task:
        try:
            tasks = TaskPaths(run.tasks).select(where.task)
        except errors.TaskNotFoundError:
            return
    paths = paths_of(run.tasks)
    for task in tasks:
        for output in task.outputs:
            for one in output.artifacts:
                is_own = where.task or one.task_id in {"", task.task_id}
                types, names = ("", one.type, one.type.removeprefix("system.")), ("", output.name)
                if is_own and where.type in types and where.name in names:
                    yield replace(one, run_id=run.run_id, task=paths.get(one.task_id, ""))


def _source_of(run: Run) -> RunSource:
    """What is missing from the outputs of a run; tasks that could not be read have no outputs, either."""
    known = [one for one in (run.sources.outputs, run.sources.tasks) if one] if run.sources else []
    return next((one for one in known if one.state.is_missing), known[0] if known else _AVAILABLE)


def _ensure_readable(run: Run) -> None:
    """Fails if the outputs of a run are not known: for now, or as this KFP has none or the source is not configured."""
    source = _source_of(run)
    if source.state.is_missing:
        is_gone = source.state is RunSourceState.UNREACHABLE
        kind = errors.KfpUnavailableError if is_gone else errors.UnsupportedByKfpError
        raise kind(source.message, metadata={"run_id": run.run_id})


def _row(read: _Read) -> MetricsOfRun:
    run = read.run
    return MetricsOfRun(
        run.run_id, run.display_name, run.state, run.created_at, run.parameters, run.metrics, read.source
    )


def _fitting(found: Sequence[RunArtifact], size: int, room: int, at_least: int = 1) -> int:
    for count, one in enumerate(found[:size]):
        room -= _weight(one)
        if room < 0 and count >= at_least:
            return count
    return min(size, len(found))


def _weight(one: RunArtifact) -> int:
    return 500 + 4 * (len(json_text(one.metadata)) + len(one.uri) + len(one.name))


def _weight_of_row(row: MetricsOfRun) -> int:
    metrics = sum(60 + 4 * (len(one.name) + len(one.task) + len(one.output)) for one in row.metrics)
    return 500 + 4 * (len(row.display_name) + len(json_text(row.parameters))) + metrics
