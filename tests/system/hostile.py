"""Callers who hold on to what they get, or throw it away as fast as they can."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import grpc
from benchmarks.processes import stand_in
from tests.system.calls import OWN_CONNECTION
from tests.system.load import GET, Crowd, Load, Plan, slowest
from tests.system.overload import Watched
from tests.system.scenario import Finding, Scenario, Stage, at_least, exactly, none, shown

from kfadapter.v1 import pipeline_pb2, run_pb2
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter.v1.run_pb2_grpc import RunServiceStub

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

SILENT, UPLOADS, WATCHES = 500, 16, 100
"""How many connections say nothing, uploads send a byte a second, and watches are never read."""
RESETS_A_SECOND = 10_000
"""How many calls are begun and cancelled at once, in each second."""
MODEST_RATE = 20
"""How many calls a second others make meanwhile."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _RST_STREAM, _SETTINGS, _END_HEADERS = 1, 3, 4, 4
_CANCEL = struct.pack(">I", 8)
_LAST_STREAM = 2**31 - 1
_BATCH = 100
_SLOW = pipeline_pb2.UploadPipelineMetadata(name="slow", total_bytes=1000)  # 60 s; of unknown size, 127 s


class Resets:
    """Begins calls and cancels them at once, on connections that others have no part in."""

    def __init__(self, target: str, stopped: threading.Event) -> None:
        self.sent = self.broken = 0
        self._stopped = stopped
        host, port = target.split(":")
        self._address = (host, int(port))
        fields = ((0x04, GET.encode()), (0x01, target.encode()))  # HPACK: POST, http, and four literals
        self._block = b"\x83\x86" + b"".join(bytes([kind, len(text)]) + text for kind, text in fields)
        for name, value in ((b"content-type", b"application/grpc"), (b"te", b"trailers")):
            self._block += bytes([0, len(name)]) + name + bytes([len(value)]) + value

    def on_one_connection(self, _: random.Random) -> None:
        """Goes on until the connection breaks."""
        with suppress(OSError), socket.create_connection(self._address, timeout=10) as line:
            line.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))
            threading.Thread(target=_read_away, args=(line,), daemon=True).start()
            stream, began = 1, time.perf_counter()
            while not self._stopped.is_set() and stream < _LAST_STREAM - 2 * _BATCH:
                line.sendall(b"".join(self._call(number) for number in range(stream, stream + 2 * _BATCH, 2)))
                stream += 2 * _BATCH
                self.sent += _BATCH
                self._stopped.wait(max(began + (stream // 2) / RESETS_A_SECOND - time.perf_counter(), 0))
        self.broken += not self._stopped.is_set()

    def _call(self, stream: int) -> bytes:
        return _frame(_HEADERS, _END_HEADERS, stream, self._block) + _frame(_RST_STREAM, 0, stream, _CANCEL)


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
    seconds, stopped = stage.scaled(90, 8), threading.Event()
    with ExitStack() as stack:
        adapter = stage.adapter(stack, stack.enter_context(stand_in(stage.home)))
        plan = Plan(adapter.target, connections=2, rate=MODEST_RATE, seconds=seconds)
        load = stack.enter_context(Load(stage.home, plan))
        watched = Watched(stack, stage, adapter)
        host, port = adapter.target.split(":")
        for _ in range(SILENT):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
        channel = stack.enter_context(grpc.insecure_channel(adapter.target, OWN_CONNECTION))
        stack.callback(stopped.set)
        uploads = [PipelineServiceStub(channel).Upload.future(_slowly(stopped)) for _ in range(UPLOADS)]
        request = run_pb2.WatchRunsRequest(filter=run_pb2.RunFilter())
        watches = [RunServiceStub(channel).Watch(request) for _ in range(WATCHES)]
        resets = Resets(adapter.target, stopped)
        crowd = Crowd((resets.on_one_connection, 1), chance=stage.chance)
        with crowd:
            seen = load.begin().seen()
            ended = sum(upload.done() for upload in uploads)
            stopped.set()
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
        yield exactly("uploads at a byte a second that have ended after 90 s", ended, UPLOADS)


SCENARIO = Scenario(
    "hostile-callers",
    "Silent connections, uploads at a byte a second, watches that are never read and 10,000 resets a second cost "
    "others nothing but a little time.",
    "more connections than the process may open, which is for a proxy or a network policy to bound.",
    run,
)
