"""What a process uses."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.memory_use import memory_use

_SETTLE_SECONDS = 10.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Use:
    """What a process uses at a moment.

    Attributes:
        memory: MiB of RSS.
        threads: How many threads.
        files: How many open descriptors.
    """

    memory: float
    threads: int
    files: int


def use_of(pid: int) -> Use:
    """Reads what a process uses now."""
    process = Path(f"/proc/{pid}")
    return Use(memory_use(pid).resident, len(list((process / "task").iterdir())), len(list((process / "fd").iterdir())))


def settled(pid: int, aim: Use) -> Use:
    """Reads what a process uses as soon as it is no more than `aim` but for memory, or after some seconds."""
    end = time.monotonic() + _SETTLE_SECONDS
    while True:
        now = use_of(pid)
        if (now.files <= aim.files and now.threads <= aim.threads) or time.monotonic() > end:
            return now
        time.sleep(_POLL_SECONDS)
