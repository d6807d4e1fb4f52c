"""A caller in its own process: reads tasks as JSON lines, runs them on many threads, responds with times.

Run as `python -m benchmarks.caller SIDE TARGET`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.sides import SIDES


@dataclass(frozen=True, slots=True)
class Task:
    """A task.

    Attributes:
        method: A method of the side.
        arguments: Its arguments.
        callers: The number of concurrent threads.
        calls: The number of calls per thread.
    """

    method: str
    arguments: tuple[str, ...] = ()
    callers: int = 1
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a task.

    Attributes:
        seconds: The duration of each call.
        wall: The duration of all calls together.
        error: The error of a failed call; empty if none failed.
    """

    seconds: tuple[float, ...] = ()
    wall: float = 0.0
    error: str = ""

    @property
    def rate(self) -> float:
        """Calls per second."""
        return len(self.seconds) / self.wall


class _Run:
    """One task in progress."""

    def __init__(self, side: object, task: Task) -> None:
        self._call = getattr(side, task.method)
        self._arguments = tuple(Path(one) if one.startswith("/") else one for one in task.arguments)
        self._task = task
        self._start = threading.Barrier(task.callers + 1)
        self._seconds: list[float] = []
        self._error = ""

    def outcome(self) -> Outcome:
        threads = [threading.Thread(target=self._work) for _ in range(self._task.callers)]
        for thread in threads:
            thread.start()
        self._start.wait()
        started = time.perf_counter()
        for thread in threads:
            thread.join()
        return Outcome(tuple(self._seconds), time.perf_counter() - started, self._error)

    def _work(self) -> None:
        self._start.wait()
        try:
            for _ in range(self._task.calls):
                started = time.perf_counter()
                self._call(*self._arguments)
                self._seconds.append(time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller reports it
            self._error = f"{type(error).__name__}: {error}"[:500]


def main(kind: str, target: str) -> None:
    """Runs tasks until stdin is closed."""
    answers = _own_stdout()
    side = SIDES[kind](target)
    _say(answers, {"ready": True})
    for line in sys.stdin:
        given: dict[str, Any] = json.loads(line)
        task = Task(given["method"], tuple(given["arguments"]), given["callers"], given["calls"])
        _say(answers, asdict(_Run(side, task).outcome()))


def _own_stdout() -> IO[str]:
    """Reserves stdout for the responses: kfp.Client prints to it."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _say(answers: IO[str], value: object) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
