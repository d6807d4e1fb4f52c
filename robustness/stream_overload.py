"""More uploads and watches than the adapter may serve."""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import grpc
from benchmarks.memory_use import forget_peak, memory_use, resident_peak
from benchmarks.pipeline_text import KIB, write_pipeline
from benchmarks.processes import Adapter, stand_in

from kfadapter.v1 import pipeline_pb2, run_pb2
from kfadapter_grpc.methods import METHODS
from robustness.crowd import Crowd
from robustness.health_checks import HealthChecks
from robustness.load import Load
from robustness.raw_calls import OK, Outcome, call
from robustness.scenario import Finding, Scenario, Stage, at_least, at_most, exactly, told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

UPLOADS, STREAMS = 8, 16
"""Uploads and streams that the adapter may serve at once."""
TIMES = 5
"""By how much the callers are more than the places."""
KFP_SECONDS = 0.2
"""What KFP takes for each answer."""
UPLOAD_BYTES = 300 * KIB
"""How large an upload is: so much is kept on disk."""
WATCH_SECONDS = 1.0
"""How long a watch is open."""
UNARY_RATE = 20.0
"""How many other calls a second there are meanwhile."""
_PAUSE_SECONDS = 0.5
"""How long a caller waits before the next call: all of them are in one process, which must not be what is slow."""
_COME_SECONDS = 2.0
"""Within what time the callers come."""
_CALL_SECONDS = 30.0
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
_REFUSED = "refused"
_SERVED = "served"
_MOST = 0.99


class Callers(Crowd):
    """Callers, each on a connection of its own, who make one call after the other until the `with` block is left.

    Attributes:
        ends: How often a call was served or refused with OVERLOADED and a RetryInfo, and how others ended.
        refused_after: How many seconds each refusal took.
    """

    def __init__(self, target: str, path: str, sent: Sequence[bytes], seconds: float, callers: int) -> None:
        self.ends: Counter[str] = Counter()
        self.refused_after: list[float] = []
        self._target, self._method, self._sent, self._seconds = target, METHODS[path], sent, seconds
        super().__init__([self._run] * callers)

    def _run(self) -> None:
        self.stopped.wait(random.uniform(0, _COME_SECONDS))  # noqa: S311 - not all at the same instant
        with grpc.insecure_channel(self._target, _OWN_CONNECTION) as channel:
            grpc.channel_ready_future(channel).result(_CALL_SECONDS)
            while not self.stopped.wait(_PAUSE_SECONDS):
                outcome = call(channel, self._method, self._sent, self._seconds)
                with self.lock:
                    self._note(outcome)

    def _note(self, outcome: Outcome) -> None:
        if outcome.reason == "OVERLOADED" and outcome.says_when:
            self.ends[_REFUSED] += 1
            self.refused_after.append(outcome.seconds)
        elif outcome.reason == OK or (self._method.endless and outcome.code == "DEADLINE_EXCEEDED"):
            self.ends[_SERVED] += 1
        else:
            self.ends[f"{outcome.code} {outcome.reason}: {outcome.message}"] += 1

    def others(self) -> dict[str, int]:
        """How calls ended that were neither served nor refused as they should be."""
        return {end: count for end, count in self.ends.items() if end not in {_SERVED, _REFUSED}}


def run(stage: Stage) -> Iterator[Finding]:
    """Has five times as many callers upload and watch as there are places, while others call."""
    seconds = stage.scaled(60, 4)
    with ExitStack() as stack:
        url = stack.enter_context(stand_in(stage.home, KFP_SECONDS))
        bounds = ("--max-uploads", str(UPLOADS), "--max-streams", str(STREAMS))
        adapter = stack.enter_context(Adapter(url, stage.home, *bounds))
        adapter.wait()
        load = stack.enter_context(Load(stage.home, adapter.target, 2, UNARY_RATE, seconds))
        idle = memory_use(adapter.pid).resident
        forget_peak(adapter.pid)
        file = write_pipeline(stage.folder, UPLOAD_BYTES).read_bytes()
        with (
            HealthChecks(stage.home, adapter.target) as health,
            _uploads(adapter.target, file, TIMES * UPLOADS) as uploads,
            _watches(adapter.target, TIMES * STREAMS) as watches,
        ):
            load.begin()
            seen = load.seen()
        peak = resident_peak(adapter.pid)
        with _uploads(adapter.target, file, UPLOADS) as some, _watches(adapter.target, STREAMS) as few:
            time.sleep(WATCH_SECONDS)
    for what, crowd in (("uploads", uploads), ("watches", watches)):
        yield told(f"{what} that were served", crowd.ends[_SERVED])
        yield at_least(f"{what} refused with OVERLOADED and RetryInfo", crowd.ends[_REFUSED], crowd.ends[_SERVED])
        yield exactly(f"{what} that ended in any other way", crowd.others() or 0, 0)
        refused = sorted(crowd.refused_after)
        slowest = refused[int(len(refused) * _MOST)] if refused else 0
        yield told(f"99 of 100 refusals of {what} arrive within", slowest * 1000, "ms")
    yield exactly("other calls that did not succeed", len(seen.refused) + seen.others.total(), 0)
    yield exactly("health checks not answered with SERVING", health.failed, 0)
    yield at_most("slowest health check", health.slowest * 1000, 100 * stage.slack, "ms")
    yield at_most("memory above idle", peak - idle, 64, "MiB")
    yield exactly("calls not served afterwards, by as many callers as places", _not_served(some, few), 0)


def _uploads(target: str, file: bytes, callers: int) -> Callers:
    metadata = pipeline_pb2.UploadPipelineMetadata(name="new-upload")
    sent = (
        pipeline_pb2.UploadPipelineRequest(metadata=metadata).SerializeToString(),
        pipeline_pb2.UploadPipelineRequest(chunk=file).SerializeToString(),
    )
    return Callers(target, "/kfadapter.v1.PipelineService/Upload", sent, _CALL_SECONDS, callers)


def _watches(target: str, callers: int) -> Callers:
    request = run_pb2.WatchRunsRequest(filter=run_pb2.RunFilter()).SerializeToString()
    return Callers(target, "/kfadapter.v1.RunService/Watch", (request,), WATCH_SECONDS, callers)


def _not_served(*crowds: Callers) -> int:
    return sum(crowd.ends.total() - crowd.ends[_SERVED] for crowd in crowds)


SCENARIO = Scenario(
    name="stream-overload",
    proves="Uploads and watches beyond their bounds are refused at once and in words, and calls of other kinds notice "
    "nothing.",
    not_covered="callers who all share one connection: they have three quarters of the places; a hundred who connect "
    "in the same instant: to take them up holds up health for some 140 ms.",
    run=run,
)
