"""The logs of tasks: on stdout, during the run or afterwards; and the last lines of those that run."""

from __future__ import annotations

import re
import sys
import threading
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, TextIO

from kfadapter_grpc.cli import output
from kfadapter_grpc.contract.errors import AdapterError, TaskNotFoundError, UnsupportedByKfpError
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.contract.watches import RunChanged
from kfadapter_grpc.folding import shown_state
from kfadapter_grpc.printable import one_line, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.runs import Run, RunTask

_NOT_STARTED = frozenset({RunState.UNKNOWN, RunState.PENDING, RunState.SKIPPED, RunState.OMITTED})


def print_log(client: Client, run: str, task: str, *, follow: bool, attempt: int | None, iteration: int | None) -> None:
    pieces = client.runs.read_logs(
        run, task, follow=follow, attempt=attempt or 0, iteration_index=iteration, on_note=output.note
    )
    _write(pieces, "", sys.stdout)


def print_logs(client: Client, run: str, *, follow: bool, failed: bool) -> None:
    """Prints the logs of all tasks, each line prefixed with the task's name; tasks without a log are named."""
    tasks = _as_they_start(client, run) if follow else _by_path(client.runs.get(run))
    printed = 0
    refused: list[tuple[str, AdapterError]] = []
    for path, task in tasks:
        if task.state in _NOT_STARTED or (failed and task.state is not RunState.FAILED):
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
        output.note(_without_logs(client.runs.get(run), failed=failed))


def _without_logs(run: Run, *, failed: bool) -> str:
    reason = "no task failed" if failed else "no task has begun"
    if not run.state.is_over:
        return f"{reason} yet"
    why = f": {run.error}" if run.error else ""
    return reason if run.state is RunState.SUCCEEDED else f"{reason}; the run is {shown_state(run.state)}{why}"


def _note(task: str, text: str) -> None:
    output.note(f"{task}: {text}")


def _by_path(run: Run) -> Iterator[tuple[str, RunTask]]:
    """Yields the tasks that have logs, with their paths; groups have none."""
    paths = TaskPaths(run.tasks)
    yield from ((paths.of(task), task) for task in run.tasks if not task.kind.is_group)


def _as_they_start(client: Client, run: str) -> Iterator[tuple[str, RunTask]]:
    """Yields each task when it has started, until the run has finished."""
    seen: set[str] = set()
    with closing(client.runs.watch([run], tasks=True)) as events:
        for event in events:
            for path, task in _by_path(event.run) if isinstance(event, RunChanged) else ():
                key = task.task_id or path
                if key not in seen and task.state not in _NOT_STARTED:
                    seen.add(key)
                    yield path, task


def _write(chunks: Iterable[bytes], task: str, stream: TextIO) -> None:
    """Writes a log line by line; control characters are escaped on a terminal, and unchanged in a pipe."""
    escape = printable if stream.isatty() else str
    before = f"{task} | " if task else ""
    for line in _lines(chunks):
        text = line.decode("utf-8", "replace")
        stream.write(f"{before}{escape(text)}\n")
        stream.flush()


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yields whole lines, which chunks may split."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


MAX_STREAMS = 8
MAX_LINE_BYTES = 4096
"""The maximum length of a line; of longer ones the end is kept."""
RETRY_SECONDS = 1.0
"""The interval of attempts to read a log that does not exist yet."""
_ENDS = re.compile(rb"[\r\n]")
_INPUT = re.compile(r"\[KFP Executor .*Got executor_input:$")
_LIBRARY = re.compile(
    r"""
    \[KFP\ Executor\ |\[kfadapter:\                         # KFP's executor, and the embedded KFP
    |[IWEF]\d{4}\ .*\w\.go:\d+\]                            # KFP's launcher
    |\[notice\]\ |(WARNING|DEPRECATION):\ .*\bpip\b         # pip
    |.*\burllib3\b                                          # its connections and its warnings
    |\S*\.py:\d+:\ \w*Warning:\ |\s+warnings\.warn\(        # warnings of Python, and their line of code
    """,
    re.VERBOSE,
)


class LogTails:
    """Reads the logs of running tasks in threads: their last lines, by task_id. One that cannot be read has none."""

    def __init__(self, client: Client, on_line: Callable[[Run, str, str], None] | None = None) -> None:
        """Calls `on_line` with the run, the path of the task and each line, from several threads."""
        self._client = client
        self._on_line = on_line
        self._running: set[str] = set()
        self._reading: set[str] = set()
        self._seen: set[str] = set()
        self.lines: dict[str, str] = {}

    def follow(self, run: Run) -> None:
        """Begins to read the logs of tasks that run now, and forgets those of tasks that do not."""
        for task in run.tasks:
            if task.kind.is_group or task.state is not RunState.RUNNING:
                self._running.discard(task.task_id)
                self.lines.pop(task.task_id, None)
                continue
            self._running.add(task.task_id)
            if task.task_id not in self._seen and len(self._reading) < MAX_STREAMS:
                self._seen.add(task.task_id)
                self._reading.add(task.task_id)
                threading.Thread(target=self._read, args=(run, task), name="log-tail", daemon=True).start()

    def _read(self, run: Run, task: RunTask) -> None:
        path = TaskPaths(run.tasks).of(task)
        is_begun = False
        while not is_begun and task.task_id in self._running:
            try:
                for line in own_lines(self._client.runs.read_logs(run.run_id, task.task_id, follow=True)):
                    self.lines[task.task_id] = line
                    if self._on_line is not None:
                        self._on_line(run, path, line)
                is_begun = True
            except TaskNotFoundError:  # its container has not started
                time.sleep(RETRY_SECONDS)
            except (AdapterError, ValueError):  # it cannot be read; or the client was closed in this moment
                is_begun = True
        self._reading.discard(task.task_id)
        self.lines.pop(task.task_id, None)


def own_lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Yields the lines that a task itself wrote; a progress bar has a line for each time that it was drawn."""
    rest = b""
    in_input = False
    for piece in pieces:
        *lines, rest = _ENDS.split(rest + piece)
        rest = rest[-MAX_LINE_BYTES:]
        for line in lines:
            text = line.decode("utf-8", "replace")
            if in_input:
                in_input = text != "}"
            elif _INPUT.match(text):
                in_input = True
            elif text.strip() and not _LIBRARY.match(text):
                yield one_line(text)
