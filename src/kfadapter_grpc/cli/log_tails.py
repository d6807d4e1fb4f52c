"""What the running tasks of a run have just written to their logs, without what libraries write."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING

from kfadapter_grpc.cli.text import one_line
from kfadapter_grpc.contract.errors import AdapterError, TaskNotFoundError
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.runs import Run, RunTask

MAX_STREAMS = 8
"""How many logs are read at once; further tasks have their turn when one ends."""
MAX_LINE_BYTES = 4096
"""How much of the end of a line is kept."""
RETRY_SECONDS = 1.0
"""After which time a log is tried again that a task does not have yet."""
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
    """Reads the logs of running tasks in threads. A log that cannot be read has no lines.

    Attributes:
        lines: The last line of each running task, by task_id.
    """

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
    left = b""
    in_input = False
    for piece in pieces:
        *whole, left = _ENDS.split(left + piece)
        left = left[-MAX_LINE_BYTES:]
        for line in whole:
            text = line.decode("utf-8", "replace")
            if in_input:
                in_input = text != "}"
            elif _INPUT.match(text):
                in_input = True
            elif text.strip() and not _LIBRARY.match(text):
                yield one_line(text)
