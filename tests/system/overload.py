"""More calls, uploads and watches than the adapter may serve, and one greedy caller beside modest ones."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.memory_use import forget_peak, memory_use, resident_peak
from benchmarks.pipeline_text import KIB, write_pipeline
from benchmarks.processes import Adapter, stand_in
from tests.system.calls import serialized
from tests.system.load import HEALTH, Load, Plan, slowest
from tests.system.scenario import Finding, Scenario, Stage, at_least, at_most, none, shown

from kfadapter.v1 import pipeline_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

MEASURED_SECONDS = 3.0
TIMES = 5
"""By how much the load passes what can be served."""
UPLOADS, STREAMS = 8, 16
"""Uploads and streams that the adapter may serve at once, of the scenario about them."""
WATCH_SECONDS = 1.0
MOST_MIB = 64
"""How much memory above idle may be needed."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An adapter before a KFP that takes its time, so that its slots bound what can be served, and how much that is."""

    stage: Stage
    adapter: Adapter
    slots: int

    def calls(self) -> list[float]:
        """Seconds of each call while every slot is taken by one caller's calls in turn."""
        plan = Plan(self.adapter.target, connections=self.slots, seconds=MEASURED_SECONDS)
        with Load(self.stage.home, plan) as load:
            return load.begin().seen().served


def measured(stack: ExitStack, stage: Stage, *, slots: int, kfp_seconds: float) -> Measured:
    """Starts an adapter with so many slots for unary calls before a KFP that takes so long for each answer."""
    url = stack.enter_context(stand_in(stage.home, kfp_seconds))
    return Measured(stage, stage.adapter(stack, url, "--max-unary-calls", str(slots)), slots)


class Watched:
    """An adapter's health and memory, from `begin` on."""

    def __init__(self, stack: ExitStack, stage: Stage, adapter: Adapter) -> None:
        self._stage, self._pid = stage, adapter.pid
        self._health = stack.enter_context(Load(stage.home, Plan(adapter.target, HEALTH, ("",), pause=0.1))).begin()
        self._idle = memory_use(adapter.pid).resident
        forget_peak(adapter.pid)

    def findings(self) -> list[Finding]:
        """How health checks were answered, and how much memory was needed."""
        seen = self._health.seen()
        return [
            none("health checks not answered with SERVING", seen.failed),
            at_most("slowest health check", slowest(seen.served), 100 * self._stage.slack, "ms"),
            at_most("memory above idle", resident_peak(self._pid) - self._idle, MOST_MIB, "MiB"),
        ]


def overload(stage: Stage) -> Iterator[Finding]:
    """Measures the capacity, calls five times as often, and looks what becomes of the calls."""
    seconds = stage.scaled(60, 8)
    with ExitStack() as stack:
        of = measured(stack, stage, slots=16, kfp_seconds=0.2)
        before = of.calls()
        capacity = len(before) / MEASURED_SECONDS
        plan = Plan(of.adapter.target, connections=8, rate=TIMES * capacity, seconds=seconds)
        load = stack.enter_context(Load(stage.home, plan))
        watched = Watched(stack, stage, of.adapter)
        seen = load.begin().seen()
        around = watched.findings()
        time.sleep(5)
        ratio = statistics.median(of.calls()) / statistics.median(before)
    yield shown("capacity", capacity, "calls/s")
    yield shown("calls made, of the capacity", seen.count / seen.lasted / capacity, "x")
    yield at_least("goodput, of the capacity", len(seen.served) / seen.lasted / capacity, 0.9, "x")
    yield shown("calls refused with OVERLOADED and RetryInfo", len(seen.refused))
    yield at_most("99 of 100 refusals arrive within", slowest(seen.refused, 0.99), 50 * stage.slack, "ms")
    yield none("calls that ended in any other way", dict(seen.others))
    yield from around
    yield at_most("median call 5 s afterwards, of before", ratio, 1.1 * stage.slack, "x")


def stream_overload(stage: Stage) -> Iterator[Finding]:
    """Has five times as many callers upload and watch as there are slots, while others call."""
    seconds = stage.scaled(60, 4)
    with ExitStack() as stack:
        url = stack.enter_context(stand_in(stage.home, 0.2))
        adapter = stage.adapter(stack, url, "--max-uploads", str(UPLOADS), "--max-streams", str(STREAMS))
        others = stack.enter_context(Load(stage.home, Plan(adapter.target, connections=2, rate=20, seconds=seconds)))
        file = write_pipeline(stage.folder, 300 * KIB).read_bytes()  # so much is kept on disk
        crowds = [stack.enter_context(one) for one in _crowds(stage, adapter.target, file, TIMES, within=2)]
        watched = Watched(stack, stage, adapter)
        for crowd in crowds:
            crowd.begin()
        rest, (uploads, watches) = others.begin().seen(), (crowd.seen() for crowd in crowds)
        around = watched.findings()
        few = [stack.enter_context(one).begin() for one in _crowds(stage, adapter.target, file, 1)]
        time.sleep(WATCH_SECONDS + 1)
        afterwards = sum(crowd.seen().failed for crowd in few)
    for what, seen in (("uploads", uploads), ("watches", watches)):
        yield shown(f"{what} that were served", len(seen.served))
        yield at_least(f"{what} refused with OVERLOADED and RetryInfo", len(seen.refused), len(seen.served))
        yield none(f"{what} that ended in any other way", dict(seen.others))
        yield shown(f"99 of 100 refusals of {what} arrive within", slowest(seen.refused, 0.99), "ms")
    yield none("other calls that did not succeed", rest.failed)
    yield from around
    yield none("calls not served afterwards, by as many callers as slots", afterwards)


def _crowds(stage: Stage, target: str, file: bytes, times: int, within: float = 0) -> list[Load]:
    metadata = pipeline_pb2.UploadPipelineMetadata(name="new-upload")
    upload = [pipeline_pb2.UploadPipelineRequest(metadata=metadata), pipeline_pb2.UploadPipelineRequest(chunk=file)]
    watch = [run_pb2.WatchRunsRequest(filter=run_pb2.RunFilter())]
    plans = (
        ("/kfadapter.v1.PipelineService/Upload", upload, UPLOADS, 30.0),
        ("/kfadapter.v1.RunService/Watch", watch, STREAMS, WATCH_SECONDS),
    )
    return [
        Load(stage.home, Plan(target, path, tuple(one.hex() for one in serialized(*sent)), times * slots,
                              pause=0.5, within=within, timeout=timeout))
        for path, sent, slots, timeout in plans
    ]  # fmt: skip


def fairness(stage: Stage) -> Iterator[Finding]:
    """Has one caller call twenty times as often as the adapter can serve, and nine others twice a second each."""
    seconds = stage.scaled(60, 8)
    with ExitStack() as stack:
        of = measured(stack, stage, slots=64, kfp_seconds=0.8)
        capacity, target = len(of.calls()) / MEASURED_SECONDS, of.adapter.target
        plans = (
            Plan(target, rate=20 * capacity, seconds=seconds),
            Plan(target, connections=9, rate=18, seconds=seconds),
        )
        loads = [stack.enter_context(Load(stage.home, plan)) for plan in plans]
        one, others = (load.seen() for load in [load.begin() for load in loads])
    yield shown("capacity", capacity, "calls/s")
    yield shown("calls made by the greedy caller, of the capacity", one.count / one.lasted / capacity, "x")
    yield shown("of these served", len(one.served) / one.lasted / capacity, "x")
    yield shown("of these stopped by gRPC, beyond 1000 streams", one.others.total())
    yield shown("calls made by nine others", others.count)
    yield none("of these refused", len(others.refused))
    yield none("of these failed", dict(others.others))


SCENARIOS = (
    Scenario(
        "overload",
        "At five times its capacity the adapter serves as much as ever, and refuses the rest at once with a reason.",
        "a load that fills the processors: before a real KFP the bounds are reached first.",
        overload,
    ),
    Scenario(
        "stream-overload",
        "Uploads and watches beyond their bounds are refused at once with a reason; other calls are served as before.",
        "callers who all share one connection: they have three quarters of the slots; a hundred who connect in the "
        "same instant: to take them up holds up health for some 140 ms.",
        stream_overload,
    ),
    Scenario(
        "fairness",
        "One caller who makes twenty times the capacity takes nothing away from nine who call twice a second.",
        "a caller without a token or certificate who opens many connections: it counts as many callers.",
        fairness,
    ),
)
