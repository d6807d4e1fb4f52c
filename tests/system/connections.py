"""Connections that no client library makes: other protocols, floods of frames, idle ones, and unread streams."""

from __future__ import annotations

import itertools
import socket
import ssl
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import grpc
from benchmarks.memory_use import forget_peak, memory_use, resident_peak
from benchmarks.pipeline_text import KIB, MIB
from tests.system.http2 import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    call_headers,
    frame,
)
from tests.system.load import GET, HEALTH, OK, OWN_CONNECTION, Load, Plan, begin, call, slowest
from tests.system.records import HELLO, NAME, request
from tests.system.scenario import Finding, Stage, Use, at_least, at_most, exactly, grown, none, scenario, shown

from kfadapter.v1.pipeline_pb2 import GetPipelineRequest
from kfadapter_grpc.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.processes import Adapter

IDLE = 1_000
"""How many connections have done nothing but open."""
UNREAD = 12
"""How many callers of each streaming RPC do not read."""
MOST_MIB, MOST_THREADS = 64, 400
"""How much memory above idle one kind may need, and how many threads all of them."""
MOST_MIB_OF = {"CONTINUATION": 192}
"""Floods that need more: gRPC keeps the first two million of these frames, 125 MiB for 0.3 s, and refuses then."""
STREAM_BYTES = 24 * MIB
"""How long a log and an artifact are: much more than may be kept in memory for each caller."""
END_SECONDS = 1.0
"""Within how many seconds a connection of another protocol is closed."""
_TRAIN = HELLO.with_name("train_and_report.yaml")
_HEADERS = call_headers(GET, "adapter")
_LARGE = b"\x00\x01x\x7f\xa1\x1f" + b"a" * 4128  # a header of 4 KiB, literal
_NAMED = b"\x40\x01x\x7f\xa1\x1e" + b"a" * 4000  # the same, kept in the table of the connection as the 62nd entry

Frames: TypeAlias = "Callable[[int], bytes]"
"""The n-th frames of a flood."""


def _hello() -> bytes:
    """The first bytes of a TLS connection."""
    sent = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="adapter").do_handshake()
    return sent.read()


def _stream(number: int) -> int:
    return 2 * number + 1


OTHERS: dict[str, bytes] = {
    "HTTP/1.1": b"GET /healthz HTTP/1.1\r\nHost: adapter\r\n\r\n",
    "TLS to the plain port": _hello(),
    "no protocol at all": bytes(range(256)) * 16,
}
"""First bytes that are not HTTP/2's."""
FLOODS: dict[str, Frames] = {
    "PING": lambda _: frame(PING, 0, 0, bytes(8)),
    "SETTINGS": lambda _: frame(SETTINGS, 0, 0, b""),
    "WINDOW_UPDATE": lambda _: frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
    "PRIORITY": lambda n: frame(PRIORITY, 0, _stream(n % 1000), b"\0\0\0\0\0"),
    "unknown frames": lambda _: frame(200, 0, 0, bytes(64)),
    "calls cancelled at once": lambda n: (
        frame(HEADERS, END_HEADERS, _stream(n), _HEADERS) + frame(RST_STREAM, 0, _stream(n), CANCEL)
    ),
    "CONTINUATION": lambda n: frame(CONTINUATION if n else HEADERS, 0, 1, b"\x00\x01x\x01y" if n else _HEADERS),
    "empty DATA": lambda n: frame(DATA, 0, 1, b"") if n else frame(HEADERS, END_HEADERS, 1, _HEADERS),
}
"""Frames that are sent as fast as they are taken, on one connection after the other; no response is read."""
HEADER_FLOODS: dict[str, Frames] = {
    "calls with 64 KiB of headers": lambda n: (
        frame(HEADERS, 0, _stream(n), _HEADERS)
        + b"".join(frame(CONTINUATION, 0, _stream(n), _LARGE) for _ in range(15))
        + frame(CONTINUATION, END_HEADERS, _stream(n), _LARGE)
    ),
    "calls with 40 MB of headers, packed": lambda n: frame(
        HEADERS, END_HEADERS, _stream(n), _HEADERS + (b"" if n else _NAMED) + b"\xbe" * 10_000
    ),
}
"""Calls with more headers than are accepted. What gRPC keeps of each is not freed when its connection has ended."""
MOST_KIB_OF_A_CALL = 640
"""How much memory gRPC keeps of a call with too many headers."""


@dataclass
class Flood:
    """What became of a flood: frames sent, connections that the adapter ended, and MiB of memory above idle."""

    sent: int = 0
    ended: int = 0
    memory: float = 0


def _address(adapter: Adapter) -> tuple[str, int]:
    host, _, port = adapter.target.partition(":")
    return host, int(port)


def _closed_after(adapter: Adapter, first: bytes) -> float:
    """Sends first bytes; returns after how many seconds the adapter closes the connection."""
    with socket.create_connection(_address(adapter), 10) as line:
        began = time.monotonic()
        line.sendall(first)
        with suppress(ConnectionResetError):
            while line.recv(65536):
                pass
        return time.monotonic() - began


def _flood(adapter: Adapter, frames: Frames, seconds: float) -> Flood:
    """Sends frames for some seconds, on a new connection whenever the adapter has ended one."""
    idle, flood, end = memory_use(adapter.pid).resident, Flood(), time.monotonic() + seconds
    forget_peak(adapter.pid)
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(_address(adapter), 1) as line:
            line.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
            try:
                for number in itertools.count():
                    line.sendall(frames(number))
                    flood.sent += 1
                    if time.monotonic() > end:
                        break
            except TimeoutError:  # it is not read from: that is a bound too
                continue
            except OSError:
                flood.ended += 1
    flood.memory = resident_peak(adapter.pid) - idle
    return flood


def _stored(data: Path, target: str) -> dict[str, dict[str, object]]:
    """Stores a run whose artifact and log are long, and a long pipeline; returns a call of each streaming RPC."""
    with Client(target, timeout=60) as client:
        client.pipelines.upload(_TRAIN, name=NAME)
        run_id = client.runs.create(NAME).run_id
        client.runs.wait(run_id, timeout=60)
        artifact = next(client.artifacts.list(run_id, type="system.Dataset"))
    for path in (*data.glob(f"runs/{run_id}/logs/make-data/*"), *data.glob(f"runs/{run_id}/outputs/make-data/*/data")):
        path.write_bytes((b"#" * 127 + b"\n") * (STREAM_BYTES // 128))
    return {
        "RunService/Watch": {"filter": {}},
        "RunService/ReadLogs": {"run_id": run_id, "task": "make-data"},
        "ArtifactService/Read": {"run_id": run_id, "artifact_id": artifact.artifact_id},
        "PipelineService/Download": {"name": "long"},
    }


@scenario(
    not_covered="floods that last: gRPC frees nothing of calls with thousands of headers; more connections than the "
    "process may open. A proxy or a network policy bounds both."
)
def connections(stage: Stage) -> Iterator[Finding]:
    """Other protocols, floods of HTTP/2 frames, idle connections and unread streams are bounded and delay no calls."""
    data, seconds = stage.folder / "kfp", stage.scaled(50, 5) / 10
    adapter = stage.adapter(stage.embedded(data).url, "--artifact-folder", str(data / "runs"))
    streams = _stored(data, adapter.target)
    with Client(adapter.target, timeout=60) as client:
        client.pipelines.upload(stage.file(4 * MIB), name="long")
    before = Use.of(adapter.pid)
    plan = Plan(
        adapter.target, sent=(GetPipelineRequest(name=NAME).SerializeToString(),), connections=2, pause=0.1, timeout=30
    )
    good = stage.enter(Load(plan)).begin()
    health = stage.enter(Load(Plan(adapter.target, HEALTH, (b"",), pause=0.1))).begin()
    for what, first in OTHERS.items():
        yield at_most(f"{what}: closed after", _closed_after(adapter, first), END_SECONDS * stage.slack, "s")
    for what, frames in FLOODS.items():
        flood = _flood(adapter, frames, seconds)
        yield shown(f"{what}: frames sent", flood.sent)
        yield shown(f"{what}: connections ended by the adapter", flood.ended)
        yield at_most(f"{what}: memory", flood.memory, MOST_MIB_OF.get(what, MOST_MIB), "MiB")
    yield from _idle(stage, adapter)
    for rpc, fields in streams.items():
        yield from _unread(adapter, rpc, fields, seconds)
    # The pools of threads fill, each with its own share of the allocator's memory.
    yield from grown(adapter.pid, before, memory=2 * MOST_MIB, threads=MOST_THREADS, files=80)
    for what, frames in HEADER_FLOODS.items():
        flood = _flood(adapter, frames, seconds)
        each = flood.memory * KIB / flood.sent
        yield at_most(f"{what}: memory for each of {flood.sent}", each, MOST_KIB_OF_A_CALL, "KiB")
    for who, load in (("good callers", good), ("health checks", health)):
        seen = load.seen()
        yield shown(f"calls of {who}", len(seen.served))
        yield none("of these failed", dict(seen.others) or seen.failed)
        yield at_most("99 of 100 of these took at most", slowest(seen.served, 0.99), 1000 * stage.slack, "ms")
        yield shown("slowest", slowest(seen.served), "ms")


def _idle(stage: Stage, adapter: Adapter) -> Iterator[Finding]:
    """A thousand connections that have sent their preface, and nothing since."""
    before = Use.of(adapter.pid)
    with ExitStack() as stack:
        for _ in range(IDLE):
            line = stack.enter_context(socket.create_connection(_address(adapter), 10))
            line.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
        with grpc.insecure_channel(adapter.target, OWN_CONNECTION) as channel:
            ended = call(channel, GET, (GetPipelineRequest(name=NAME),), 10)
        during = Use.of(adapter.pid)
    yield exactly(f"a new caller beside {IDLE} idle connections", ended.code, OK)
    yield at_most("its call took", ended.seconds, 0.5 * stage.slack, "s")
    yield at_least("open descriptors for idle connections", during.files - before.files, IDLE)
    yield at_most("memory for idle connections", during.memory - before.memory, MOST_MIB, "MiB")


def _unread(adapter: Adapter, rpc: str, fields: dict[str, object], seconds: float) -> Iterator[Finding]:
    """Callers that read the first message of a stream and nothing after it, each on its own connection."""
    path, idle = f"/kfadapter.v1.{rpc}", memory_use(adapter.pid).resident
    forget_peak(adapter.pid)
    with ExitStack() as stack:
        channels = [stack.enter_context(grpc.insecure_channel(adapter.target, OWN_CONNECTION)) for _ in range(UNREAD)]
        calls = [begin(channel, path, [request(path, **fields)], 60) for channel in channels]
        for one in calls:
            next(one)
        time.sleep(seconds)
        ended = sum(not one.is_active() for one in calls)
        for one in calls:
            one.cancel()
    yield none(f"{rpc}, unread: streams that ended", ended)
    yield at_most(f"{rpc}, unread by {UNREAD}: memory", resident_peak(adapter.pid) - idle, MOST_MIB, "MiB")
