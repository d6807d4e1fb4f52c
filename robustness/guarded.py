"""Runs the proofs in a process of their own, and ends all that they have started, however they end.

What a process has started goes on when it is killed. Here it is handed to this process then (Linux' child subreaper),
which waits for nothing and ends it. Run it as scripts/robustness.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FOLDER = "ROBUSTNESS_FOLDER"
"""The variable that tells the proofs where their files go, which are removed with all else."""
END_SECONDS = 15.0
"""How long the proofs may take to end by themselves when they are told to."""
_SET_CHILD_SUBREAPER = 36  # prctl(2)
_BY_SIGNAL = 128


class _ToldToEndError(Exception):
    """A signal came that asks for the end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def main(arguments: Sequence[str]) -> int:
    """Runs the proofs; tells their exit code, or 128 and more if a signal ended them."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no child subreaper")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _told_to_end)
    with tempfile.TemporaryDirectory(prefix="kfadapter-robustness-", ignore_cleanup_errors=True) as folder:
        try:
            return _run([sys.executable, "-m", "robustness", *arguments], folder)
        finally:
            _end_all()


def _run(command: Sequence[str], folder: str) -> int:
    proofs = subprocess.Popen(command, env={**os.environ, FOLDER: folder})  # noqa: S603 - ourselves
    try:
        code = proofs.wait()
    except _ToldToEndError as told:
        with contextlib.suppress(_ToldToEndError, subprocess.TimeoutExpired):
            proofs.send_signal(signal.SIGINT)
            proofs.wait(END_SECONDS)
        return _BY_SIGNAL + told.number
    return code if code >= 0 else _BY_SIGNAL - code


def _told_to_end(number: int, _: object) -> None:
    raise _ToldToEndError(number)


def _end_all() -> None:
    """Kills all children, those that come to us through that, too, until there are none."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> Iterator[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    return (int(pid) for task in tasks for pid in task.read_text("ascii").split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
