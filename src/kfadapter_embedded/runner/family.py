"""Finds and ends all processes that a run, or one of its tasks, has started.

A process group does not hold them together: whoever makes a session of his own leaves it. What nobody gets rid of by
accident is the environment that he was started with, and where there is a /proc, it can be read.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "KFADAPTER_FAMILY"
"""The variable that tells which run and which task a process belongs to, for example `4f6c/7`."""
_PROC = Path("/proc")
_ROUNDS = 20


def end_family(mark: str) -> None:
    """Kills every process whose mark begins so, except this one.

    Args:
        mark: Its `VARIABLE`, up to a slash.
    """
    # Who forks while this looks around is found in the next round.
    for _ in range(_ROUNDS):
        found = list(_members(mark))
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return


def _members(mark: str) -> Iterator[int]:
    beginning = f"{VARIABLE}={mark}".encode()
    for folder in _PROC.glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(one.startswith(beginning) for one in variables):
            yield int(folder.name)
