"""Callers who hold on to what they get, or throw it away as fast as they can."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import grpc
from benchmarks.memory_use import forget_peak, memory_use, resident_peak
from benchmarks.processes import Adapter, stand_in

from kfadapter.v1 import pipeline_pb2, run_pb2
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter.v1.run_pb2_grpc import RunServiceStub
from robustness.crowd import Crowd
from robustness.health_checks import HealthChecks
from robustness.load import Load
from robustness.scenario import Finding, Scenario, Stage, at_least, at_most, exactly, told

if TYPE_CHECKING:
    from collections.abc import Iterator

SILENT = 500
"""How many connections say nothing."""
UPLOADS = 16
"""How many uploads send a byte a second."""
WATCHES = 100
"""How many watches are never read."""
RESETS_A_SECOND = 10_000
"""How many calls are begun and cancelled at once, in each second."""
MODEST_RATE = 20.0
"""How many calls a second others make meanwhile."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _RST_STREAM, _SETTINGS, _END_HEADERS, _CANCEL = 1, 3, 4, 4, 8
_LAST_STREAM = 2**31 - 1
_BATCH = 100
_SLOW = pipeline_pb2.UploadPipelineMetadata(name="slow", total_bytes=1000)  # 60 s; of unknown size, 127 s
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


class Resets(Crowd):
    """Begins calls and cancels them at once, on connections that others have no part in."""

    def __init__(self, target: str) -> None:
        self.sent = 0
        self.broken = 0
        host, port = target.split(":")
        self._address = (host, int(port))
        super().__init__([self._run])
        method = b"/kfadapter.v1.PipelineService/Get"
        # HPACK: POST, http, and four literals.
        self._block = b"\x83\x86" + b"".join(
            bytes([kind, len(text)]) + text for kind, text in ((0x04, method), (0x01, target.encode()))
        )
        for name, value in ((b"content-type", b"application/grpc"), (b"te", b"trailers")):
            self._block += bytes([0, len(name)]) + name + bytes([len(value)]) + value

    def _run(self) -> None:
        while not self.stopped.is_set():
            with suppress(OSError):
                self._on_one_connection()
            self.broken += not self.stopped.is_set()

    def _on_one_connection(self) -> None:
        with socket.create_connection(self._address, timeout=10) as line:
            line.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))
            drain = threading.Thread(target=_read_away, args=(line,), daemon=True)
            drain.start()
            stream, began = 1, time.perf_counter()
            while not self.stopped.is_set() and stream < _LAST_STREAM - 2 * _BATCH:
                line.sendall(b"".join(self._call(number) for number in range(stream, stream + 2 * _BATCH, 2)))
                stream += 2 * _BATCH
                self.sent += _BATCH
                pause = began + (stream // 2) / RESETS_A_SECOND - time.perf_counter()
                self.stopped.wait(max(pause, 0))

    def _call(self, stream: int) -> bytes:
        cancel = struct.pack(">I", _CANCEL)
        return _frame(_HEADERS, _END_HEADERS, stream, self._block) + _frame(_RST_STREAM, 0, stream, cancel)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _read_away(line: socket.socket) -> None:
    with suppress(OSError):
        while line.recv(65536):
            pass


def _slowly(stopped: threading.Event) -> Iterator[pipeline_pb2.UploadPipelineRequest]:
    yield pipeline_pb2.UploadPipelineRequest(metadata=_SLOW)
    while not stopped.wait(1):
        yield pipeline_pb2.UploadPipelineRequest(chunk=b"#")


def run(stage: Stage) -> Iterator[Finding]:
    """Lets all of them loose, one kind on top of the other, and looks what others notice."""
    seconds = stage.scaled(90, 8)
    with ExitStack() as stack:
        url = stack.enter_context(stand_in(stage.home))
        adapter = stack.enter_context(Adapter(url, stage.home))
        adapter.wait()
        load = stack.enter_context(Load(stage.home, adapter.target, 2, MODEST_RATE, seconds))
        idle = memory_use(adapter.pid).resident
        forget_peak(adapter.pid)
        host, port = adapter.target.split(":")
        for _ in range(SILENT):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
        channel = stack.enter_context(grpc.insecure_channel(adapter.target, _OWN_CONNECTION))
        stopped = threading.Event()
        uploads = [PipelineServiceStub(channel).Upload.future(_slowly(stopped)) for _ in range(UPLOADS)]
        request = run_pb2.WatchRunsRequest(filter=run_pb2.RunFilter())
        watches = [RunServiceStub(channel).Watch(request) for _ in range(WATCHES)]
        with HealthChecks(stage.home, adapter.target) as health, Resets(adapter.target) as resets:
            load.begin()
            seen = load.seen()
        ended = sum(upload.done() for upload in uploads)
        stopped.set()
        for call in (*uploads, *watches):
            call.cancel()
        peak = resident_peak(adapter.pid)
    yield told("calls begun and cancelled", resets.sent / seconds, "a second")
    yield told("connections that this ended", resets.broken)
    yield at_least("calls of others that succeeded", len(seen.seconds), round(MODEST_RATE * seconds))
    yield exactly("calls of others that did not", len(seen.refused) + seen.others.total(), 0)
    slowest = sorted(seen.seconds)[int(len(seen.seconds) * 0.99)] if seen.seconds else 0.0
    yield told("99 of 100 of these took at most", slowest * 1000, "ms")
    yield exactly("health checks not answered with SERVING", health.failed, 0)
    yield at_most("slowest health check", health.slowest * 1000, 100 * stage.slack, "ms")
    yield at_most("memory above idle", peak - idle, 64, "MiB")
    if not stage.short:
        yield exactly("uploads at a byte a second that have ended after 90 s", ended, UPLOADS)


SCENARIO = Scenario(
    name="hostile-callers",
    proves="Silent connections, uploads at a byte a second, watches that are never read and 10,000 resets a second "
    "cost others nothing but a little time.",
    not_covered="more connections than the process may open, which is for a proxy or a network policy to bound.",
    run=run,
)
