"""Executes steps as processes of this machine, each in its own environment."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO

from .attempts import AttemptFolders
from .command import Command, Exit, StartError
from .environment import VARIABLE, end_family
from .log import TaskLog
from .start.kfadapter_task_start import PLACES

_PIECE = 1 << 16
_DRAIN_SECONDS = 5.0


class Processes:
    """Starts processes that carry the run's mark; a `Start`."""

    def __init__(self, mark: str, stopped: threading.Event, attempts: AttemptFolders) -> None:
        self._mark = mark
        self._stopped = stopped
        self._attempts = attempts
        self._outside = dict(os.environ)

    def __call__(self, command: Command, log: TaskLog) -> Exit:
        """Runs a command to its end, then kills all processes that it left behind."""
        mark = f"{self._mark}/{command.number}/"
        work = command.tree.work
        work.mkdir(parents=True, exist_ok=True)
        own = {"TMPDIR": str(work), PLACES: str(command.tree.folder), VARIABLE: mark}
        outside = self._attempts.environment(work.parent).variables(self._outside)
        process = self._started(command, {**outside, **command.variables, **own})
        if self._stopped.is_set():
            # The signal that stops a run reached existing processes only, and this one may have been started later.
            process.terminate()
        return _followed(process, command, log, lambda: end_family(mark))

    @staticmethod
    def _started(command: Command, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603  # the user's own component is what is to be run
                command.words,
                cwd=command.tree.work,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except (ValueError, FileNotFoundError, PermissionError) as error:
            raise StartError(f"its command cannot be started: {error}") from None


def _followed(process: subprocess.Popen[bytes], command: Command, log: TaskLog, end_rest: Callable[[], None]) -> Exit:
    """Writes a process's output into the log until it has exited, then kills the processes that it left behind."""
    if process.stdout is None:
        raise TypeError("the process was started without this pipe")
    follower = threading.Thread(target=_copy, args=(process.stdout, log), daemon=True)
    follower.start()
    reason = ""
    try:
        code = process.wait(command.seconds or None)
    except subprocess.TimeoutExpired:
        reason = command.overdue
        process.kill()
        code = process.wait()
    end_rest()
    # A process that escaped keeps the pipe open; it is not waited for.
    follower.join(_DRAIN_SECONDS)
    return Exit(code, reason)


def _copy(stream: IO[bytes], log: TaskLog) -> None:
    with stream, suppress(ValueError):
        while piece := os.read(stream.fileno(), _PIECE):
            log.write(piece)
