"""Memory: of idle processes, and of an adapter during eight concurrent large uploads."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.memory_use import forget_peak, memory_use, resident_peak
from benchmarks.pipeline_text import KIB, MIB
from benchmarks.results import Row, absolute, figure, ratio
from benchmarks.sides import ADAPTER, HTTP, SDK
from benchmarks.stand_in import NEW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from benchmarks.stage import Stage

UPLOADS = 8
"""How many there are at once."""
SIZE, QUICK_SIZE = 30, 2
"""Of each, in MiB."""
ADDED = f"{ADAPTER}, added RSS"
"""What the uploads add to what the process held before."""
_SAMPLE_SECONDS = 0.02
_GOAL_MIB = 64


def run(stage: Stage) -> Iterator[Row]:
    """Measures both."""
    yield _idle(stage)
    yield _uploads(stage)


def _idle(stage: Stage) -> Row:
    """The memory of the processes after one Get."""
    url = stage.stand_in_url()
    callers = stage.callers(url)
    for caller in callers.values():
        caller.do("get", "instant")
    pids = {ADAPTER: stage.adapter(url).pid, SDK: callers[SDK].pid, HTTP: callers[HTTP].pid}
    figures = tuple(figure(side, [memory_use(pid).resident]) for side, pid in pids.items())
    row = Row("memory", "Idle: the server, and the two others' callers", "MiB RSS", figures)
    return replace(row, findings=(ratio(row, ADAPTER, SDK),))


def _uploads(stage: Stage) -> Row:
    with (
        stage.borrowed_adapter(stage.stand_in_url()) as adapter,
        stage.borrowed_caller(adapter) as caller,
    ):
        caller.do("upload", str(stage.file(4 * KIB)), NEW)  # what the first upload imports does not count
        before = memory_use(adapter.pid)
        forget_peak(adapter.pid)
        size = QUICK_SIZE if stage.scale.quick else SIZE
        with Sampler(adapter.pid) as sampler:
            caller.do("upload", str(stage.file(size * MIB)), NEW, callers=UPLOADS)
        peak = resident_peak(adapter.pid)
    figures = (
        figure(f"{ADAPTER}, idle RSS", [before.resident]),
        figure(f"{ADAPTER}, peak RSS", [peak]),
        figure(ADDED, [peak - before.resident]),
        figure(f"{ADAPTER}, added PSS (sampled)", [sampler.peak - before.share]),
    )
    row = Row("memory", f"{UPLOADS} uploads of {size} MiB at once", "MiB", figures)
    goal = absolute(row, ADDED, "under 64 MiB", at_most=_GOAL_MIB)
    return replace(row, findings=(goal,) if size == SIZE else ())


class Sampler:
    """Samples the PSS of a process while entered.

    Attributes:
        peak: The maximum, in MiB.
    """

    def __init__(self, pid: int) -> None:
        """Samples process `pid`."""
        self.peak = 0.0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, memory_use(self._pid).share)
