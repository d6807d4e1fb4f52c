"""More calls than the adapter may serve."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.memory_use import forget_peak, memory_use, resident_peak

from robustness.capacity import measured
from robustness.health_checks import HealthChecks
from robustness.load import Load
from robustness.scenario import Finding, Scenario, Stage, at_least, at_most, exactly, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from robustness.load import Seen

PLACES = 16
"""Unary calls that the adapter may serve at once."""
KFP_SECONDS = 0.2
"""What KFP takes for each answer: so the places bound what can be served, as they do before a real KFP."""
TIMES = 5
"""By how much the load passes the capacity."""
_CHANNELS = 8
_RECOVERY_SECONDS = 5.0
_MOST = 0.99


def run(stage: Stage) -> Iterator[Finding]:
    """Measures the capacity, calls five times as often, and looks what becomes of the calls."""
    seconds = stage.scaled(60, 8)
    with ExitStack() as stack:
        before = measured(stack, stage, places=PLACES, kfp_seconds=KFP_SECONDS)
        adapter, capacity = before.adapter, before.capacity
        yield told("capacity", capacity, "calls/s")
        load = stack.enter_context(Load(stage.home, adapter.target, _CHANNELS, TIMES * capacity, seconds))
        idle = memory_use(adapter.pid).resident
        forget_peak(adapter.pid)
        with HealthChecks(stage.home, adapter.target) as health:
            load.begin()
            seen = load.seen()
        yield from _of_the_load(stage, seen, capacity)
        yield exactly("health checks not answered with SERVING", health.failed, 0)
        yield at_most("slowest health check", health.slowest * 1000, 100 * stage.slack, "ms")
        yield at_most("memory above idle", resident_peak(adapter.pid) - idle, 64, "MiB")
        time.sleep(_RECOVERY_SECONDS)
        ratio = statistics.median(before.again()) / statistics.median(before.calls)
        yield at_most("median call 5 s afterwards, of before", ratio, 1.1 * stage.slack, "x")


def _of_the_load(stage: Stage, seen: Seen, capacity: float) -> Iterator[Finding]:
    yield told("calls made, of the capacity", seen.offered / capacity, "x")
    yield at_least("goodput, of the capacity", seen.goodput / capacity, 0.9, "x")
    yield told("calls refused with OVERLOADED and RetryInfo", len(seen.refused))
    refused = sorted(seen.refused)
    yield at_most("99 of 100 refusals arrive within", refused[int(len(refused) * _MOST)] * 1000, 50 * stage.slack, "ms")
    yield exactly("calls that ended in any other way", dict(seen.others) or 0, 0)


SCENARIO = Scenario(
    name="overload",
    proves="At five times its capacity the adapter serves as much as ever, and refuses the rest at once and in words.",
    not_covered="a load that fills the processors: before a real KFP the bounds are reached first.",
    run=run,
)
