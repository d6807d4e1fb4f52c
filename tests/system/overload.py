"""More calls, uploads and watches than the adapter may serve, a greedy client, and clients that waste resources."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
from benchmarks.memory_use import forget_peak, memory_use, resident_peak
from benchmarks.pipeline_text import KIB
from tests.system.http2 import CANCEL, END_HEADERS, HEADERS, PREFACE, RST_STREAM, SETTINGS, call_headers, frame
from tests.system.load import GET, HEALTH, OWN_CONNECTION, Load, Plan, slowest
from tests.system.scenario import Finding, Stage, at_least, at_most, exactly, none, scenario, shown

from kfadapter.v1 import pipeline_pb2, run_pb2
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter.v1.run_pb2_grpc import RunServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.processes import Adapter

MEASURED_SECONDS = 3.0
TIMES = 5
"""By how much the load passes what can be served."""
UPLOADS, STREAMS = 8, 16
"""Uploads and streams that the adapter may serve at once, of the scenario about them."""
WATCH_SECONDS = 1.0
MOST_MIB = 64
"""How much memory above idle may be needed."""
SILENT, SLOW_UPLOADS, UNREAD_WATCHES = 500, 16, 100
"""How many connections are silent, uploads send a byte a second, and watches are never read."""
RESETS_A_SECOND = 10_000
"""How many calls are begun and cancelled at once, in each second."""
MODEST_RATE = 20
"""How many calls a second others make meanwhile."""
_WATCH = run_pb2.WatchRunsRequest(filter=run_pb2.RunFilter())


def _in_turn(stage: Stage, adapter: Adapter, callers: int) -> list[float]:
    """Durations of calls from as many clients as there are slots, each with one call at a time: the capacity."""
    plan = Plan(adapter.target, connections=callers, seconds=MEASURED_SECONDS)
    return stage.enter(Load(plan)).begin().seen().served


class _Watched:
    """Monitors an adapter's health and memory from now on."""

    def __init__(self, stage: Stage, adapter: Adapter) -> None:
        self._slack, self._pid = stage.slack, adapter.pid
        self._health = stage.enter(Load(Plan(adapter.target, HEALTH, (b"",), pause=0.1))).begin()
        self._idle = memory_use(adapter.pid).resident
        forget_peak(adapter.pid)

    def findings(self) -> list[Finding]:
        """The outcome of the health checks, and the memory used."""
        seen = self._health.seen()
        return [
            none("health checks not answered with SERVING", seen.failed),
            at_most("slowest health check", slowest(seen.served), 100 * self._slack, "ms"),
            at_most("memory above idle", resident_peak(self._pid) - self._idle, MOST_MIB, "MiB"),
        ]


@scenario(not_covered="a load that fills the processors: before a real KFP the bounds are reached first.")
def overload(stage: Stage) -> Iterator[Finding]:
    """At five times capacity the adapter serves as much as at capacity, and rejects the rest at once with a reason."""
    slots = 16  # with a slow KFP, so that the slots are the bottleneck
    adapter = stage.adapter(stage.stand_in(0.2), "--max-unary-calls", str(slots))
    before = _in_turn(stage, adapter, slots)
    capacity = len(before) / MEASURED_SECONDS
    load = stage.enter(Load(Plan(adapter.target, connections=8, rate=TIMES * capacity, seconds=stage.scaled(60, 5))))
    watched = _Watched(stage, adapter)
    seen = load.begin().seen()
    around = watched.findings()
    time.sleep(stage.scaled(5, 2))
    ratio = statistics.median(_in_turn(stage, adapter, slots)) / statistics.median(before)
    yield shown("capacity", capacity, "calls/s")
    yield shown("calls made, of the capacity", seen.count / seen.lasted / capacity, "x")
    yield at_least("goodput, of the capacity", len(seen.served) / seen.lasted / capacity, 0.9, "x")
    yield shown("calls refused with OVERLOADED and RetryInfo", len(seen.refused))
    yield at_most("99 of 100 refusals arrive within", slowest(seen.refused, 0.99), 50 * stage.slack, "ms")
    yield none("calls that ended in any other way", dict(seen.others))
    yield from around
    yield at_most("median call afterwards, of before", ratio, 1.1 * stage.slack, "x")


@scenario(
    not_covered="callers who all share one connection: they have three quarters of the slots; a hundred who connect in "
    "the same instant: to take them up holds up health for some 140 ms."
)
def stream_overload(stage: Stage) -> Iterator[Finding]:
    """Uploads and watches beyond their limits are rejected at once with a reason; other calls are served as before."""
    url = stage.stand_in(0.2)
    adapter = stage.adapter(url, "--max-uploads", str(UPLOADS), "--max-streams", str(STREAMS))
    others = stage.enter(Load(Plan(adapter.target, connections=2, rate=20, seconds=stage.scaled(60, 4))))
    crowds = _uploads_and_watches(stage, adapter.target, TIMES, within=2)
    watched = _Watched(stage, adapter)
    for crowd in crowds:
        crowd.begin()
    rest, *seen = others.begin().seen(), *(crowd.seen() for crowd in crowds)
    around = watched.findings()
    few = [crowd.begin() for crowd in _uploads_and_watches(stage, adapter.target, 1)]
    time.sleep(WATCH_SECONDS + 1)
    for what, one in zip(("uploads", "watches"), seen, strict=True):
        yield shown(f"{what} that were served", len(one.served))
        yield at_least(f"{what} refused with OVERLOADED and RetryInfo", len(one.refused), len(one.served))
        yield none(f"{what} that ended in any other way", dict(one.others))
        yield shown(f"99 of 100 refusals of {what} arrive within", slowest(one.refused, 0.99), "ms")
    yield none("other calls that did not succeed", rest.failed)
    yield from around
    yield none("calls not served afterwards, by as many callers as slots", sum(crowd.seen().failed for crowd in few))


def _uploads_and_watches(stage: Stage, target: str, times: int, within: float = 0) -> list[Load]:
    """Loads of uploads and of watches, from `times` as many clients as there are slots."""
    file = stage.file(300 * KIB).read_bytes()  # large enough to be kept on disk
    metadata = pipeline_pb2.UploadPipelineMetadata(name="new-upload")
    upload = (pipeline_pb2.UploadPipelineRequest(metadata=metadata), pipeline_pb2.UploadPipelineRequest(chunk=file))
    kinds = (("PipelineService/Upload", upload, UPLOADS, 30), ("RunService/Watch", (_WATCH,), STREAMS, WATCH_SECONDS))
    return [
        stage.enter(
            Load(
                Plan(
                    target,
                    f"/kfadapter.v1.{rpc}",
                    tuple(one.SerializeToString() for one in sent),
                    connections=times * slots,
                    pause=0.5,
                    within=within,
                    timeout=timeout,
                )
            )
        )
        for rpc, sent, slots, timeout in kinds
    ]


@scenario(not_covered="a caller without a token or certificate who opens many connections: it counts as many callers.")
def fairness(stage: Stage) -> Iterator[Finding]:
    """One client that sends twenty times the capacity does not affect nine that send two calls a second."""
    slots, seconds = 64, stage.scaled(60, 5)
    adapter = stage.adapter(stage.stand_in(0.8), "--max-unary-calls", str(slots))
    capacity = len(_in_turn(stage, adapter, slots)) / MEASURED_SECONDS
    greedy = stage.enter(Load(Plan(adapter.target, rate=20 * capacity, seconds=seconds)))
    modest = stage.enter(Load(Plan(adapter.target, connections=9, rate=18, seconds=seconds)))
    one, others = (load.seen() for load in [greedy.begin(), modest.begin()])
    yield shown("capacity", capacity, "calls/s")
    yield shown("calls made by the greedy caller, of the capacity", one.count / one.lasted / capacity, "x")
    yield shown("of these served", len(one.served) / one.lasted / capacity, "x")
    yield shown("of these stopped by gRPC, beyond 1000 streams", one.others.total())
    yield shown("calls made by nine others", others.count)
    yield none("of these refused", len(others.refused))
    yield none("of these failed", dict(others.others))


_LAST_STREAM = 2**31 - 1
_BATCH = 100


class _Resets:
    """Begins calls and cancels them at once, on a separate connection, until it breaks."""

    def __init__(self, target: str, stopped: threading.Event) -> None:
        self.sent = self.broken = 0
        self._stopped = stopped
        host, port = target.split(":")
        self._address = (host, int(port))
        self._block = call_headers(GET, target)

    def run(self) -> None:
        while not self._stopped.is_set():
            with suppress(OSError), socket.create_connection(self._address, timeout=10) as line:
                self._on(line)
            self.broken += not self._stopped.is_set()

    def _on(self, line: socket.socket) -> None:
        line.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
        threading.Thread(target=_discard, args=(line,), daemon=True).start()
        stream, began = 1, time.perf_counter()
        while not self._stopped.is_set() and stream < _LAST_STREAM - 2 * _BATCH:
            line.sendall(b"".join(self._call(number) for number in range(stream, stream + 2 * _BATCH, 2)))
            stream += 2 * _BATCH
            self.sent += _BATCH
            self._stopped.wait(max(began + (stream // 2) / RESETS_A_SECOND - time.perf_counter(), 0))

    def _call(self, stream: int) -> bytes:
        return frame(HEADERS, END_HEADERS, stream, self._block) + frame(RST_STREAM, 0, stream, CANCEL)


def _discard(line: socket.socket) -> None:
    with suppress(OSError):
        while line.recv(65536):
            pass


def _slowly(stopped: threading.Event) -> Iterator[pipeline_pb2.UploadPipelineRequest]:
    slow = pipeline_pb2.UploadPipelineMetadata(name="slow", total_bytes=1000)  # 60 s; of unknown size, 127 s
    yield pipeline_pb2.UploadPipelineRequest(metadata=slow)
    while not stopped.wait(1):
        yield pipeline_pb2.UploadPipelineRequest(chunk=b"#")


@scenario(not_covered="more connections than the process may open, which is for a proxy or a network policy to bound.")
def hostile_callers(stage: Stage) -> Iterator[Finding]:
    """Silent connections, slow uploads, unread watches and 10,000 resets a second delay other calls only a little."""
    seconds, stopped = stage.scaled(90, 5), threading.Event()
    adapter = stage.adapter(stage.stand_in())
    load = stage.enter(Load(Plan(adapter.target, connections=2, rate=MODEST_RATE, seconds=seconds)))
    watched = _Watched(stage, adapter)
    host, port = adapter.target.split(":")
    for _ in range(SILENT):
        stage.enter(socket.create_connection((host, int(port)), timeout=10))
    channel = stage.enter(grpc.insecure_channel(adapter.target, OWN_CONNECTION))
    thread, resets = stage.enter(ThreadPoolExecutor(1)), _Resets(adapter.target, stopped)
    stage.stack.callback(stopped.set)
    uploads = [PipelineServiceStub(channel).Upload.future(_slowly(stopped)) for _ in range(SLOW_UPLOADS)]
    watches = [RunServiceStub(channel).Watch(_WATCH) for _ in range(UNREAD_WATCHES)]
    resetting = thread.submit(resets.run)
    seen = load.begin().seen()
    ended = sum(upload.done() for upload in uploads)
    stopped.set()
    resetting.result()
    around = watched.findings()
    for call in (*uploads, *watches):
        call.cancel()
    yield shown("calls begun and cancelled", resets.sent / seconds, "a second")
    yield shown("connections that this ended", resets.broken)
    yield at_least("calls of others that succeeded", len(seen.served), MODEST_RATE * seconds)
    yield none("calls of others that did not", seen.failed)
    yield shown("99 of 100 of these took at most", slowest(seen.served, 0.99), "ms")
    yield from around
    if not stage.short:
        yield exactly("uploads at a byte a second that have ended after 90 s", ended, SLOW_UPLOADS)
