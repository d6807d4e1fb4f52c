"""The logs of a run's tasks on stdout, during the run or afterwards."""

from __future__ import annotations

import sys
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, TextIO

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.text import one_line, plain
from kfadapter_grpc.contract.errors import TaskNotFoundError, UnsupportedByKfpError
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.contract.watches import RunChanged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.errors import AdapterError
    from kfadapter_grpc.contract.runs import Run, RunTask

_NOT_BEGUN = frozenset({RunState.UNKNOWN, RunState.PENDING, RunState.SKIPPED, RunState.OMITTED})


def print_log(client: Client, run: str, task: str, *, follow: bool, attempt: int | None, iteration: int | None) -> None:
    """Prints the log of a task as it is."""
    pieces = client.runs.read_logs(
        run, task, follow=follow, attempt=attempt or 0, iteration_index=iteration, on_note=output.note
    )
    _write(pieces, "", sys.stdout)


def print_logs(client: Client, run: str, *, follow: bool, failed: bool) -> None:
    """Prints the logs of all tasks, each line prefixed with the task's name; tasks without a log are named.

    Raises:
        UnsupportedByKfpError: This KFP does not serve logs.
    """
    tasks = _as_they_begin(client, run) if follow else _by_path(client.runs.get(run))
    printed = 0
    refused: list[tuple[str, AdapterError]] = []
    for path, task in tasks:
        if task.state in _NOT_BEGUN or (failed and task.state is not RunState.FAILED):
            continue
        name = one_line(path)
        try:
            pieces = client.runs.read_logs(run, task.task_id or task.name, follow=follow, on_note=partial(_note, name))
            _write(pieces, name, sys.stdout)
            printed += 1
        except (TaskNotFoundError, UnsupportedByKfpError) as error:
            refused.append((name, error))
    if refused and not printed:
        raise refused[0][1]
    for name, reason in refused:
        output.note(f"{name} has no log: {reason.message}")
    if not printed:
        output.note("no task failed" if failed else "no task has begun yet")


def _note(task: str, text: str) -> None:
    output.note(f"{task}: {text}")


def _by_path(run: Run) -> Iterator[tuple[str, RunTask]]:
    """Yields the tasks that have logs, with their paths; groups have none."""
    paths = TaskPaths(run.tasks)
    yield from ((paths.of(task), task) for task in run.tasks if not task.kind.is_group)


def _as_they_begin(client: Client, run: str) -> Iterator[tuple[str, RunTask]]:
    """Yields each task when it has started, until the run has finished."""
    seen: set[str] = set()
    with closing(client.runs.watch([run], tasks=True)) as events:
        for event in events:
            for path, task in _by_path(event.run) if isinstance(event, RunChanged) else ():
                key = task.task_id or path
                if key not in seen and task.state not in _NOT_BEGUN:
                    seen.add(key)
                    yield path, task


def _write(chunks: Iterable[bytes], task: str, stream: TextIO) -> None:
    """Writes a log line by line; control characters are escaped on a terminal, and unchanged in a pipe."""
    shown = plain if stream.isatty() else str
    before = f"{task} | " if task else ""
    for line in _lines(chunks):
        text = line.decode("utf-8", "replace")
        stream.write(f"{before}{shown(text)}\n")
        stream.flush()


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Joins lines that were split between pieces."""
    left = b""
    for chunk in chunks:
        *whole, left = (left + chunk).split(b"\n")
        yield from whole
    if left:
        yield left
